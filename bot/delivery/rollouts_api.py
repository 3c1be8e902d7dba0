"""Argo Rollouts by the Kubernetes API, for clusters without Argo CD.

The commands of `kubectl argo rollouts` as patches: the image and our intent on the Rollout, promote, promote-full and
abort on its status. Where the catalog names weights, they become the canary's steps, each with a pause that we end.

Source: argoproj/argo-rollouts v1.9.1 pkg/kubectl-argo-rollouts/cmd/{promote,abort}, utils/rollout/rolloututil.go; a CRD
without the status subresource answers 404 there, then the same patch goes to the Rollout itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kubernetes.aio import client

from bot import logs
from bot.catalog.model import Service, Target
from bot.delivery.base import DeliveryFailure, GrayStage, SyncProgress, SyncRequest, SyncState
from bot.delivery.kubernetes import AT, TIMEOUT, Kubernetes, missing, pod_spec, read_json
from bot.delivery.kubernetes_options import KubernetesOptions, RolloutOptions
from bot.delivery.kubernetes_status import Json, section
from bot.delivery.rollouts import analysis_lines, analysis_names, is_inconclusive, pause_of, phase_of, steps_of
from bot.errors import ProviderRejected

GROUP, VERSION = "argoproj.io", "v1alpha1"


class Rollouts(Kubernetes):
    """Brings an image to run by patching an Argo Rollout."""

    name = "rollouts"
    options_model: type[KubernetesOptions] = RolloutOptions

    async def gray_stage(self, request: SyncRequest) -> GrayStage | None:
        """The pause it stands at, read afresh."""
        _, rollout = await self._rollout(request)
        return pause_of(_name(rollout), rollout) if phase_of(rollout)[0] == "Paused" else None

    async def continue_gray(self, request: SyncRequest, *, full: bool = False) -> None:
        """Go on from the pause, or past all of them. Raises ProviderRejected if there is none."""
        options, rollout = await self._rollout(request)
        if phase_of(rollout)[0] != "Paused":
            raise _no_gray(request)
        unpaused = {"paused": False} if section(rollout, "spec").get("paused") else {}
        # The time for what follows counts from now.
        await self._apply(options, rollout, {AT: self._clock().isoformat()}, unpaused)
        await self._on_status(options, {"promoteFull": True} if full else _promoted(rollout))

    async def abort_gray(self, request: SyncRequest) -> None:
        """Give all traffic back to the stable version. Raises ProviderRejected if there is no gray stage."""
        options, rollout = await self._rollout(request)
        status = section(rollout, "status")
        if status.get("currentPodHash") == status.get("stableRS") or not status.get("stableRS"):
            raise _no_gray(request)
        await self._on_status(options, {"abort": True})

    async def failure(self, request: SyncRequest) -> DeliveryFailure:
        """What the Rollout says, the analysis that failed, and the pods."""
        options, rollout = await self._rollout(request)
        found = await self._failure(options)
        lines: list[str] = []
        for name in analysis_names(rollout):
            run = await self._custom("get", options, "analysisruns", name)
            lines += analysis_lines(run) if run is not None else []
        shown = tuple(logs.redact(logs.clean(line))[: logs.LINE_LIMIT] for line in lines)
        return DeliveryFailure(found.message or phase_of(rollout)[1], (*shown, *found.lines)[:20])

    # --- inside

    def _options(self, service: Service, target: Target) -> KubernetesOptions:
        options = super()._options(service, target)
        assert isinstance(options, RolloutOptions)
        return options.model_copy(update={"deployment": options.rollout})

    async def _rollout(self, request: SyncRequest) -> tuple[KubernetesOptions, Json]:
        options = self._options(request.service, request.target)
        rollout = await self._deployment(options)
        if rollout is None:
            raise missing(options, "Rollout")
        return options, rollout

    async def _deployment(self, options: KubernetesOptions) -> Json | None:
        return await self._custom("get", options, "rollouts", options.deployment)

    async def _custom(self, verb: str, options: KubernetesOptions, plural: str, name: str, *body: Any) -> Json | None:
        api = client.CustomObjectsApi(await self._clusters.get(options.context))
        ask = getattr(api, f"{verb.partition('/')[0]}_namespaced_custom_object{_of(verb)}_without_preload_content")
        where = (GROUP, VERSION, options.namespace, plural, name, *body)
        return await read_json(lambda: ask(*where, _request_timeout=TIMEOUT), writing=bool(body))

    async def _patch(self, options: KubernetesOptions, seen: Json, request: SyncRequest) -> Json:
        """The image, our intent, and the catalog's weights as steps. A merge patch replaces lists, so all are sent."""
        if section(seen, "spec").get("workloadRef"):
            raise ProviderRejected(
                f"Rollout {options.deployment} takes its pods from another workload (workloadRef).",
                hint="Use Argo CD for it, or put the template into the Rollout.",
            )
        image = self._image(options, seen, request)
        containers = [
            {**one, "image": image} if one.get("name") == options.container else one
            for one in pod_spec(seen).get("containers") or []
        ]
        spec: dict[str, Any] = {"template": {"spec": {"containers": containers}}}
        if request.target.gray.weights and "canary" in section(section(seen, "spec"), "strategy"):
            spec["strategy"] = {"canary": {"steps": steps_of(request.target.gray.weights)}}
        made = await self._apply(options, seen, self._notes(request), spec)
        if section(seen, "status").get("abort") and containers == pod_spec(seen).get("containers"):
            await self._on_status(options, {"abort": False})  # The same version again: its program calls it a retry.
            return await self._deployment(options) or made
        return made

    async def _apply(self, options: KubernetesOptions, seen: Json, notes: Json, spec: Json) -> Json:
        version = section(seen, "metadata").get("resourceVersion")
        body = {"metadata": {"annotations": notes, "resourceVersion": version}, **({"spec": spec} if spec else {})}
        answer = await self._custom("patch", options, "rollouts", options.deployment, body)
        if answer is None:
            raise missing(options, "Rollout")
        return answer

    async def _on_status(self, options: KubernetesOptions, status: Json) -> None:
        body = {"status": status}
        if await self._custom("patch/status", options, "rollouts", options.deployment, body) is None:
            await self._custom("patch", options, "rollouts", options.deployment, body)

    def _status(self, options: KubernetesOptions, workload: Json) -> tuple[SyncState, str]:
        phase, said = phase_of(workload)
        status = section(workload, "status")
        if phase == "Healthy" and status.get("currentPodHash") == status.get("stableRS"):
            return SyncState.SUCCEEDED, ""
        states = {"Paused": SyncState.SUSPENDED, "Degraded": SyncState.FAILED}
        return states.get(phase, SyncState.RUNNING), logs.redact(logs.clean(said))[:300]

    async def _progress(self, options: KubernetesOptions, deployment: Json, request: SyncRequest) -> SyncProgress:
        progress = await super()._progress(options, deployment, request)
        return replace(progress, percent=50) if progress.state is SyncState.SUSPENDED else progress

    async def _known(self, options: KubernetesOptions) -> Json | None:
        return None

    async def _keep(self, options: KubernetesOptions, workload: Json) -> None:
        """It is asked each time."""

    async def _told(self, options: KubernetesOptions) -> bool:
        return False


def _of(verb: str) -> str:
    return "_status" if verb.endswith("/status") else ""


def _name(rollout: Json) -> str:
    return str(section(rollout, "metadata").get("name") or "")


def _promoted(rollout: Json) -> Json:
    """What ends the pause; after an analysis without a result the step itself is passed, too."""
    status = section(rollout, "status")
    if is_inconclusive(rollout) and status.get("controllerPause"):
        index = int(status.get("currentStepIndex") or 0)
        return {"pauseConditions": None, "controllerPause": False, "currentStepIndex": index + 1}
    return {"pauseConditions": None}


def _no_gray(request: SyncRequest) -> ProviderRejected:
    where = f"{request.service.name} in {request.target.environment}"
    return ProviderRejected(f"{where} has no gray stage at the moment.", hint="Look at its card.")
