"""Gray without Argo Rollouts: a stable and a canary Deployment behind one Service.

The Service selects what both have in common, so the share of traffic is the share of pods. The new image goes to the
canary first, with as many pods as the weight asks for; going to full puts it into the stable Deployment and takes the
canary away. Where we are stands in the annotations, so any process can go on. The stable Deployment is never made
smaller, so nothing is lost whenever it is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from bot.catalog.model import Service, Target
from bot.delivery.base import DeliveryFailure, GrayStage, Running, SyncProgress, SyncRequest, SyncState
from bot.delivery.kubernetes import AT, INTENT, Kubernetes, annotation, missing, pod_spec
from bot.delivery.kubernetes_options import CanaryOptions, KubernetesOptions
from bot.delivery.kubernetes_status import Json, section
from bot.errors import ProviderRejected

STAGE, ABORTED = "slipway/stage", "slipway/aborted"
WEIGHTS = (20,)
"""Percent of the traffic where the catalog says nothing."""
MOST = 80
"""Percent; beyond, the canary would need many times the pods of the stable Deployment."""


class CanaryPair(Kubernetes):
    """Brings an image to run by a canary Deployment, then by the stable one."""

    name = "canary"
    options_model: type[KubernetesOptions] = CanaryOptions

    async def sync(self, request: SyncRequest) -> SyncProgress:
        """Begin with the canary; or finish what was continued to full. The same intent again starts nothing twice.

        Raises: ProviderRejected, ProviderUnavailable, OutcomeUnknown as a pipeline's trigger.
        """
        options = self._options(request.service, request.target)
        async with self._locks.setdefault((options.context, options.namespace, options.deployment), asyncio.Lock()):
            stable, canary = await self._pair(options)
            if annotation(stable, INTENT) == request.intent:
                if self._status(options, stable)[0] is SyncState.SUCCEEDED and _replicas(canary):
                    canary = await self._scaled(options, canary, 0, {})
            elif _runs(stable, options, request.digest):
                # The way back from gray: the stable version never left.
                canary = await self._scaled(options, canary, 0, {}) if _replicas(canary) else canary
                stable = await self._patch(options, stable, request)
            elif annotation(canary, INTENT) != request.intent:
                canary = await self._begin(options, stable, canary, request)
        return await self._seen(options, stable, canary, request)

    async def look(self, request: SyncRequest) -> SyncProgress | None:
        """How far this intent is, or None if neither Deployment carries it. PENDING: `sync` goes on."""
        options = self._options(request.service, request.target)
        stable, canary = await self._pair(options)
        if request.intent not in (annotation(stable, INTENT), annotation(canary, INTENT)):
            return None
        return await self._seen(options, stable, canary, request)

    async def running(self, service: Service, target: Target) -> Running | None:
        """What the stable pods run; while a canary stands beside them, they are not the whole.

        Raises ProviderUnavailable when it cannot be told.
        """
        options = self._options(service, target)
        running = await super().running(service, target)
        canary = await self._deployment(_canary(options))
        if running is not None and canary is not None and _replicas(canary):
            return replace(running, healthy=False, message="A canary of another version runs beside it.")
        return running

    async def failure(self, request: SyncRequest) -> DeliveryFailure:
        """Of the Deployment that is at it."""
        options = self._options(request.service, request.target)
        stable = await self._deployment(options)
        if stable is not None and annotation(stable, INTENT) == request.intent:
            return await super().failure(request)
        return await self._failure(_canary(options))

    async def gray_stage(self, request: SyncRequest) -> GrayStage | None:
        """Where the canary stands once all its pods serve."""
        progress = await self.look(request)
        if progress is None or progress.state is not SyncState.SUSPENDED:
            return None
        options = self._options(request.service, request.target)
        stable, canary = await self._pair(options)
        stage, pods = _stage(canary), _replicas(canary)
        share = round(100 * pods / max(1, pods + _replicas(stable)))
        weights = _weights(request)
        return GrayStage(f"{options.deployment}:{request.intent}:{stage}", stage, len(weights), share)

    async def continue_gray(self, request: SyncRequest, *, full: bool = False) -> None:
        """The next weight, or after the last the stable Deployment. Raises ProviderRejected if there is none."""
        options = self._options(request.service, request.target)
        stable, canary = await self._pair(options)
        self._check_at_gray(request, stable, canary)
        weights, stage = _weights(request), _stage(canary) + 1
        if full or stage >= len(weights):
            await self._patch(options, stable, request)
            return
        notes = {STAGE: str(stage), AT: self._clock().isoformat()}
        await self._scaled(options, canary, _pods(_replicas(stable), weights[stage]), notes)

    async def abort_gray(self, request: SyncRequest) -> None:
        """No canary, no share. Raises ProviderRejected if there is no gray stage."""
        options = self._options(request.service, request.target)
        stable, canary = await self._pair(options)
        self._check_at_gray(request, stable, canary)
        await self._scaled(options, canary, 0, {ABORTED: request.intent})

    # --- inside

    async def _pair(self, options: KubernetesOptions) -> tuple[Json, Json]:
        other = _canary(options)
        stable, canary = await asyncio.gather(self._deployment(options), self._deployment(other))
        if stable is None:
            raise missing(options)
        if canary is None:
            raise missing(other)
        return stable, canary

    async def _begin(self, options: KubernetesOptions, stable: Json, canary: Json, request: SyncRequest) -> Json:
        """Image, intent and number of pods in one patch."""
        container = {"name": options.container, "image": self._image(options, canary, request)}
        spec = {
            "replicas": _pods(_replicas(stable), _weights(request)[0]),
            "template": {"spec": {"containers": [container]}},
        }
        notes = {**self._notes(request), STAGE: "0", ABORTED: ""}
        return await self._apply(_canary(options), canary, notes, spec)

    async def _scaled(self, options: KubernetesOptions, canary: Json, pods: int, notes: Json) -> Json:
        return await self._apply(_canary(options), canary, notes, {"replicas": pods})

    async def _seen(self, options: KubernetesOptions, stable: Json, canary: Json, request: SyncRequest) -> SyncProgress:
        if annotation(stable, INTENT) == request.intent:
            progress = await self._progress(options, stable, request)
            if progress.state is SyncState.SUCCEEDED and _replicas(canary):
                return replace(progress, state=SyncState.PENDING, message="The canary is taken away.", percent=99)
            return progress
        if annotation(canary, ABORTED) == request.intent:
            return SyncProgress(SyncState.FAILED, "It was aborted at gray.")
        progress = await self._progress(_canary(options), canary, request)
        if progress.state is SyncState.SUCCEEDED:
            return replace(progress, state=SyncState.SUSPENDED, message="The canary serves.", percent=50)
        return replace(progress, percent=progress.percent // 2)

    def _check_at_gray(self, request: SyncRequest, stable: Json, canary: Json) -> None:
        is_full = annotation(stable, INTENT) == request.intent
        if is_full or annotation(canary, INTENT) != request.intent or not _replicas(canary):
            where = f"{request.service.name} in {request.target.environment}"
            raise ProviderRejected(f"{where} has no gray stage at the moment.", hint="Look at its card.")

    async def _known(self, options: KubernetesOptions) -> Json | None:
        return None

    async def _keep(self, options: KubernetesOptions, workload: Json) -> None:
        """Two Deployments decide together, so both are read afresh."""

    async def _told(self, options: KubernetesOptions) -> bool:
        return False


def _canary(options: KubernetesOptions) -> KubernetesOptions:
    assert isinstance(options, CanaryOptions)
    return options.model_copy(update={"deployment": options.canary})


def _weights(request: SyncRequest) -> Sequence[int]:
    """Of the catalog. Raises ProviderRejected: one that a pair cannot give."""
    weights = request.target.gray.weights or WEIGHTS
    if any(not 0 < weight <= MOST for weight in weights):
        raise ProviderRejected(
            f"gray.weights of {request.service.name}: a pair of Deployments gives between 1 and {MOST} percent.",
            hint="Correct `gray.weights`; the last step is always full.",
        )
    return weights


def _pods(stable: int, weight: int) -> int:
    """How many canary pods give about this share beside the stable ones."""
    return max(1, round(stable * weight / (100 - weight)))


def _replicas(deployment: Json) -> int:
    wanted = section(deployment, "spec").get("replicas")
    return 1 if wanted is None else int(wanted)


def _stage(canary: Json) -> int:
    return int(annotation(canary, STAGE) or 0)


def _runs(deployment: Json, options: KubernetesOptions, digest: str) -> bool:
    """Whether its manifest has that digest already."""
    images = [str(one.get("image")) for one in pod_spec(deployment).get("containers") or []]
    names = [one.get("name") for one in pod_spec(deployment).get("containers") or []]
    return any(
        name == options.container and image.endswith(f"@{digest}") for name, image in zip(names, images, strict=True)
    )
