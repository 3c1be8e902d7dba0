"""What an Argo Rollout says about its pauses; pure.

Source: argoproj/argo-rollouts v1.9.1 pkg/apis/rollouts/v1alpha1/types.go. `currentStepIndex` is 0-based and may be
null; `currentStepHash` changes when the list of steps does; weights stand in the status only with traffic routing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bot.delivery.base import GrayStage


def pause_of(name: str, manifest: Mapping[str, Any]) -> GrayStage:
    """The pause of a Rollout, or of a paused Deployment, which has one only."""
    spec, status = _map(manifest, "spec"), _map(manifest, "status")
    steps = _map(_map(spec, "strategy"), "canary").get("steps") or []
    index = int(status.get("currentStepIndex") or 0)
    return GrayStage(
        id=f"{name}:{status.get('currentPodHash') or ''}:{status.get('currentStepHash') or ''}:{index}",
        step=index,
        steps=len(steps),
        weight=_weight(status, steps, index),
        message=str(status.get("message") or ""),
    )


def _weight(status: Mapping[str, Any], steps: Sequence[Any], index: int) -> int | None:
    """What traffic routing reports, else the last weight that was set."""
    routed = _map(_map(_map(status, "canary"), "weights"), "canary").get("weight")
    if routed is not None:
        return int(routed)
    weights = [step["setWeight"] for step in steps[: index + 1] if isinstance(step, Mapping) and "setWeight" in step]
    return int(weights[-1]) if weights else None


def _map(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}
