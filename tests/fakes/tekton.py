"""A Kubernetes API with Tekton: pipelines, runs by name, task runs and the logs of their pods."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.builds import KINDS, STAGES, Build, digest_of
from tests.fakes.serving import Faulty

TOKEN = "k8s-token"
RESULTS = {"good": ("True", "Succeeded"), "bad": ("False", "Failed"), "aborted": ("False", "Cancelled")}
HEEDED = frozenset({"CancelledRunFinally", "StoppedRunFinally", "Cancelled"})
TASKS = {
    "good": ("True", "Succeeded"),
    "bad": ("False", "Failed"),
    "aborted": ("False", "TaskRunCancelled"),
    "running": ("Unknown", "Running"),
}


@dataclass
class Run:
    """One PipelineRun."""

    manifest: dict[str, Any]
    build: Build


class FakeTekton:
    """State, and the knobs that tests turn. results: runs tell their image as results. reason: shown as a failure.

    heeds: the statuses that end a run. children: references of what are no TaskRuns.
    """

    def __init__(self, definition: str) -> None:
        self.namespace, self.pipeline = definition.split("/")
        self.runs: dict[str, Run] = {}
        self.results = True
        self.reason = ""
        self.children: list[dict[str, str]] = []
        self.heeds: Collection[str] = HEEDED
        self.posts = 0
        self.app = Faulty(Starlette(routes=[Route("/{path:path}", self._serve, methods=["GET", "POST", "PATCH"])]))

    async def _serve(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"kind": "Status", "reason": "Unauthorized", "message": "Unauthorized"}, 401)
        tekton = ["apis", "tekton.dev", "v1", "namespaces", self.namespace]
        match request.method, request.url.path.strip("/").split("/"):
            case "GET", [*front, "pipelines", self.pipeline] if front == tekton:
                return JSONResponse({"metadata": {"name": self.pipeline}})
            case "POST", [*front, "pipelineruns"] if front == tekton:
                return self._create(await request.json())
            case method, [*front, "pipelineruns", name] if front == tekton and name in self.runs:
                if method == "PATCH" and (await request.json())["spec"]["status"] not in self.heeds:
                    return JSONResponse(self.runs[name].manifest)
                return self._run(method, self.runs[name])
            case "GET", [*front, "taskruns"] if front == tekton:
                name = request.query_params["labelSelector"].partition("=")[2]
                return JSONResponse({"items": self._tasks(name) if name in self.runs else []})
            case "GET", ["api", "v1", "namespaces", self.namespace, "pods", pod, "log"]:
                name, _, stage = pod.rpartition("-")
                return PlainTextResponse(self.runs[name].build.log_of(stage))
        return JSONResponse({"kind": "Status", "reason": "NotFound", "message": "not found"}, 404)

    def _create(self, manifest: dict[str, Any]) -> Response:
        self.posts += 1
        name = manifest["metadata"]["name"]
        if len(name) > 63:
            return JSONResponse({"reason": "BadRequest", "message": "Invalid resource name: max length 63"}, 400)
        if name in self.runs:
            return JSONResponse({"reason": "AlreadyExists", "message": f"{name} already exists"}, 409)
        values = {one["name"]: one["value"] for one in manifest["spec"]["params"]}
        commit = values.get("commit", "")
        self.runs[name] = Run(manifest, Build(KINDS.get(commit, "good"), commit, values))
        return JSONResponse(manifest, 201)

    def others(self, count: int) -> None:
        """Other people's runs, which have other names."""
        for number in range(count):
            self.runs[f"other-{number}"] = Run({"metadata": {"name": f"other-{number}"}}, Build("good"))

    def _run(self, method: str, run: Run) -> Response:
        if method == "PATCH":
            run.build.aborted = run.build.aborted or not run.build.over
        else:
            run.build.look()
        status, reason = RESULTS.get(run.build.result, ("Unknown", "Running"))
        condition = {"type": "Succeeded", "status": status, "reason": reason}
        if self.reason:
            condition |= {"status": "False", "reason": self.reason}
        described: dict[str, Any] = {
            "conditions": [condition],
            "startTime": "2026-11-21T07:00:00Z",
            "pipelineSpec": {"tasks": [{"name": stage} for stage in (*STAGES, *self._references())]},
            "childReferences": self.children,
        }
        if self.results and run.build.result == "good":
            described["results"] = [
                {"name": "IMAGE_DIGEST", "value": digest_of(run.build.commit) + "\n"},
                {"name": "IMAGE_URL", "value": "registry.example/hello"},
            ]
        return JSONResponse({**run.manifest, "status": described})

    def _references(self) -> list[str]:
        return [one["pipelineTaskName"] for one in self.children]

    def _tasks(self, name: str) -> list[dict[str, Any]]:
        tasks = []
        for stage, state in self.runs[name].build.states().items():
            if state in TASKS:
                status, reason = TASKS[state]
                ended = {"completionTime": "2026-11-21T07:00:41Z"} if status != "Unknown" else {}
                described = {
                    "conditions": [{"type": "Succeeded", "status": status, "reason": reason}],
                    "startTime": "2026-11-21T07:00:00Z",
                    "podName": f"{name}-{stage}",
                    "steps": [{"container": "step-main"}],
                }
                labels = {"tekton.dev/pipelineTask": stage}
                tasks.append({"metadata": {"labels": labels}, "status": described | ended})
        return tasks
