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


def steps_of(weights: Sequence[int]) -> list[dict[str, Any]]:
    """A Rollout's canary steps: each weight with a pause without an end, which Slipway ends."""
    steps: list[dict[str, Any]] = []
    for weight in weights:
        steps += [{"setWeight": weight}, {"pause": {}}]
    return steps


def has_canary(manifest: Mapping[str, Any]) -> bool:
    """Whether a Rollout goes by canary steps."""
    return isinstance(_map(_map(manifest, "spec"), "strategy").get("canary"), Mapping)


def pauses_at(manifest: Mapping[str, Any]) -> tuple[int, ...]:
    """The weight at each pause of a Rollout's own steps."""
    steps = _map(_map(_map(manifest, "spec"), "strategy"), "canary").get("steps") or []
    weight, found = 0, []
    for step in steps:
        if isinstance(step, Mapping) and "setWeight" in step:
            weight = int(step["setWeight"])
        elif isinstance(step, Mapping) and "pause" in step:
            found.append(weight)
    return tuple(found)


def phase_of(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """`Healthy`, `Degraded`, `Progressing` or `Paused`, as its own program decides it, and the message.

    Until the controller has seen the newest spec, and while it ends a pause, what the status says is of before.
    """
    status, metadata = _map(manifest, "status"), _map(manifest, "metadata")
    if str(status.get("observedGeneration") or "") != str(metadata.get("generation") or ""):
        return "Progressing", "Waiting until the controller has seen the change."
    if status.get("controllerPause") and not status.get("pauseConditions"):
        return "Progressing", "The pause is being ended."
    phase, message = str(status.get("phase") or "Progressing"), str(status.get("message") or "")
    if phase == "Degraded" and message.startswith("RolloutAborted") and not status.get("abort"):
        return "Progressing", "It is tried again."
    return phase, message


def is_inconclusive(manifest: Mapping[str, Any]) -> bool:
    """Whether it is paused because an analysis came to no result: only past its step does it not pause again."""
    conditions = _map(manifest, "status").get("pauseConditions") or []
    return any(one.get("reason") == "InconclusiveAnalysisRun" for one in conditions)


def analysis_names(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The analysis runs that a Rollout names and that are not going well."""
    status = _map(manifest, "status")
    canary, blue = _map(status, "canary"), _map(status, "blueGreen")
    named = [
        _map(canary, "currentStepAnalysisRunStatus"),
        _map(canary, "currentBackgroundAnalysisRunStatus"),
        _map(blue, "prePromotionAnalysisRunStatus"),
        _map(blue, "postPromotionAnalysisRunStatus"),
    ]
    bad = ("Failed", "Error", "Inconclusive")
    return tuple(str(one["name"]) for one in named if one.get("name") and one.get("status") in bad)


def analysis_lines(run: Mapping[str, Any]) -> list[str]:
    """Of an AnalysisRun: each metric that did not pass, its last value, and why."""
    lines = []
    for metric in _map(run, "status").get("metricResults") or []:
        if metric.get("phase") in (None, "Successful", "Running", "Pending"):
            continue
        measured = (metric.get("measurements") or [{}])[-1]
        value = f", last value {measured.get('value')}" if measured.get("value") else ""
        said = metric.get("message") or measured.get("message") or ""
        lines.append(f"analysis {metric.get('name')} is {metric.get('phase')}{value}{f': {said}' if said else ''}")
    return lines


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
