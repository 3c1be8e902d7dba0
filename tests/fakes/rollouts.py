"""Argo Rollouts' API and controller in a cluster: canary steps with pauses, promote, promote-full, abort, analysis.

Source: argoproj/argo-rollouts v1.9.1 pkg/apis/rollouts/v1alpha1/types.go; rollout/canary.go (what follows
a pause; going back to the stable version skips the steps).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
BASE = "/apis/argoproj.io/v1alpha1/namespaces/{namespace}"
PAUSED = {"reason": "CanaryPauseStep", "startTime": "2026-01-05T10:00:00Z"}


@dataclass
class FakeRollouts:
    """rollouts and runs (AnalysisRuns) by name. pods: the cluster's, by workload.

    subresource: whether the CRD has /status. failing: the message with which the next analysis ends the update.
    patches: what was asked, in order: (where, body).
    """

    pods: dict[str, list[Json]]
    rollouts: dict[str, Json] = field(default_factory=dict)
    runs: dict[str, Json] = field(default_factory=dict)
    subresource: bool = True
    failing: str = ""
    patches: list[tuple[str, Json]] = field(default_factory=list)
    _version: int = 1

    def add(self, name: str, *containers: str, steps: list[Json] | None = None) -> None:
        """A Rollout that runs nothing of ours yet."""
        self.rollouts[name] = {
            "metadata": {"name": name, "generation": 1, "resourceVersion": "1"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": name}},
                "strategy": {"canary": {"steps": steps if steps is not None else [{"setWeight": 20}, {"pause": {}}]}},
                "template": {"spec": {"containers": [{"name": one, "image": "none:0"} for one in containers]}},
            },
            "status": {"phase": "Healthy", "observedGeneration": "1", "currentPodHash": "h0", "stableRS": "h0"},
        }
        self.pods[name] = []

    def routes(self) -> list[web.RouteDef]:
        """Of the custom resources."""
        return [
            web.get(f"{BASE}/rollouts/{{name}}", self._get),
            web.patch(f"{BASE}/rollouts/{{name}}", self._patch),
            web.patch(f"{BASE}/rollouts/{{name}}/status", self._patch_status),
            web.get(f"{BASE}/analysisruns/{{name}}", self._get_run),
        ]

    async def _get(self, request: web.Request) -> web.Response:
        found = self.rollouts.get(request.match_info["name"])
        return web.json_response(found) if found else _status(404)

    async def _get_run(self, request: web.Request) -> web.Response:
        found = self.runs.get(request.match_info["name"])
        return web.json_response(found) if found else _status(404)

    async def _patch(self, request: web.Request) -> web.Response:
        found, body = self.rollouts.get(request.match_info["name"]), json.loads(await request.text())
        if found is None:
            return _status(404)
        if request.headers.get("Content-Type") != MERGE:
            return _status(415)
        version = body.get("metadata", {}).get("resourceVersion")
        if version not in (None, found["metadata"]["resourceVersion"]):
            return _status(409)
        self.patches.append(("", body))
        before = _hash(found)
        status = body.pop("status", {}) if not self.subresource else {}
        body.pop("status", None)
        _merge(found, body)
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        if "spec" in body:
            found["metadata"]["generation"] += 1
            found["status"]["observedGeneration"] = str(found["metadata"]["generation"])
        if _hash(found) != before:
            self._update(found)
        self._asked(found, status)
        return web.json_response(found)

    async def _patch_status(self, request: web.Request) -> web.Response:
        found, body = self.rollouts.get(request.match_info["name"]), json.loads(await request.text())
        if found is None or not self.subresource:
            return _status(404)
        if request.headers.get("Content-Type") != MERGE:
            return _status(415)
        self.patches.append(("/status", body))
        self._asked(found, body["status"])
        return web.json_response(found)

    # --- the controller

    def _update(self, rollout: Json) -> None:
        """A new template: steps from the first; the stable one: no steps at all."""
        status = rollout["status"]
        status |= {"currentPodHash": _hash(rollout), "currentStepIndex": 0, "abort": False, "promoteFull": False}
        if status["stableRS"] in ("h0", status["currentPodHash"]):  # The first version has nothing to share with.
            return self._full(rollout)
        self._run_pods(rollout, mixed=True)
        self._steps(rollout)

    def _steps(self, rollout: Json) -> None:
        """Walk to the next pause, or to the end."""
        status, steps = rollout["status"], rollout["spec"]["strategy"]["canary"]["steps"]
        while status["currentStepIndex"] < len(steps):
            step = steps[status["currentStepIndex"]]
            if "pause" in step:
                status |= {"phase": "Paused", "message": "CanaryPauseStep", "controllerPause": True}
                status["pauseConditions"] = [PAUSED]
                return
            if "analysis" in step and self.failing:
                return self._failed(rollout)
            status["currentStepIndex"] += 1
        self._full(rollout)

    def _failed(self, rollout: Json) -> None:
        name = f"{rollout['metadata']['name']}-analysis"
        self.runs[name] = {
            "status": {
                "phase": "Failed",
                "metricResults": [
                    {
                        "name": "success-rate",
                        "phase": "Failed",
                        "message": self.failing,
                        "measurements": [{"phase": "Failed", "value": "[0.42]"}],
                    }
                ],
            }
        }
        canary = {"currentStepAnalysisRunStatus": {"name": name, "status": "Failed"}}
        said = 'RolloutAborted: Rollout aborted update to revision 2: Metric "success-rate" assessed Failed'
        rollout["status"] |= {"phase": "Degraded", "abort": True, "message": said, "canary": canary}
        self._run_pods(rollout, mixed=False)

    def _asked(self, rollout: Json, wish: Json) -> None:
        status = rollout["status"]
        if wish.get("promoteFull"):
            self._full(rollout)
        elif wish.get("abort") is False:
            self._update(rollout)
        elif wish.get("abort"):
            status |= {"phase": "Degraded", "abort": True, "message": "RolloutAborted: aborted update to revision 2"}
            status |= {"pauseConditions": None, "controllerPause": False}
        elif "pauseConditions" in wish:
            status |= {"pauseConditions": None, "controllerPause": False}
            status["currentStepIndex"] = wish.get("currentStepIndex", status["currentStepIndex"] + 1)
            self._steps(rollout)

    def _full(self, rollout: Json) -> None:
        status = rollout["status"]
        status |= {"phase": "Healthy", "message": "", "stableRS": status["currentPodHash"], "pauseConditions": None}
        status |= {"controllerPause": False, "abort": False, "updatedReplicas": 2, "availableReplicas": 2, "canary": {}}
        self._run_pods(rollout, mixed=False)

    def _run_pods(self, rollout: Json, *, mixed: bool) -> None:
        name, container = rollout["metadata"]["name"], rollout["spec"]["template"]["spec"]["containers"][0]
        old = list(self.pods[name][:1]) if mixed else []
        running = {"name": container["name"], "ready": True, "restartCount": 0, "state": {"running": {}}}
        fresh = [
            {
                "metadata": {"name": f"{name}-{at}", "labels": {"app": name}},
                "spec": {"containers": [dict(container)]},
                "status": {"phase": "Running", "containerStatuses": [running | {"imageID": container["image"]}]},
            }
            for at in range(2)
        ]
        self.pods[name] = [*old, *fresh]


def _merge(found: Json, body: Json) -> None:
    """RFC 7386: mappings are merged, lists replaced, null removes."""
    for key, value in body.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict):
            _merge(found.setdefault(key, {}), value)
        else:
            found[key] = value


def _hash(rollout: Json) -> str:
    return hashlib.sha256(json.dumps(rollout["spec"]["template"], sort_keys=True).encode()).hexdigest()[:8]


def _status(code: int) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": f"status {code}"}, status=code)
