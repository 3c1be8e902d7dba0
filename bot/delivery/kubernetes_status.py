"""When a rollout is done, as `kubectl rollout status` decides it; pure.

Source: kubernetes/kubectl v0.36.3 pkg/polymorphichelpers/rollout_status.go (the order of the conditions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bot import logs
from bot.delivery.base import SyncState

Json = Mapping[str, Any]


class WorkloadKind(StrEnum):
    """What runs pods and can be rolled out."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"


@dataclass(frozen=True, slots=True)
class Counts:
    """Pods: how many there should be, are of the new version, and are ready to serve."""

    total: int
    updated: int
    available: int


def rollout_status(workload: Json, kind: WorkloadKind = WorkloadKind.DEPLOYMENT) -> tuple[SyncState, str]:
    """How far it is, and what it waits for; first match wins."""
    if kind is not WorkloadKind.DEPLOYMENT and _strategy(workload) != "RollingUpdate":
        return SyncState.FAILED, f"Its update strategy is {_strategy(workload)}: it changes only when pods are deleted."
    observed = int(section(workload, "status").get("observedGeneration") or 0)
    if int(section(workload, "metadata").get("generation") or 0) > observed:
        return SyncState.RUNNING, "Waiting until the cluster has seen the change."
    return _RULES[kind](workload)


def counts(workload: Json, kind: WorkloadKind = WorkloadKind.DEPLOYMENT) -> Counts:
    """For the progress bar."""
    status, spec = section(workload, "status"), section(workload, "spec")
    if kind is WorkloadKind.DAEMON_SET:
        names = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        return Counts(*(int(status.get(name) or 0) for name in names))
    replicas = spec.get("replicas")
    ready = "availableReplicas" if kind is WorkloadKind.DEPLOYMENT else "readyReplicas"
    total = 1 if replicas is None else int(replicas)
    return Counts(total, int(status.get("updatedReplicas") or 0), int(status.get(ready) or 0))


def section(value: Json, name: str) -> Json:
    """A mapping inside, empty if there is none."""
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _strategy(workload: Json) -> str:
    return str(section(section(workload, "spec"), "updateStrategy").get("type") or "RollingUpdate")


def _deployment(deployment: Json) -> tuple[SyncState, str]:
    spec, status = section(deployment, "spec"), section(deployment, "status")
    wanted = spec.get("replicas")
    updated = int(status.get("updatedReplicas") or 0)
    total, available = int(status.get("replicas") or 0), int(status.get("availableReplicas") or 0)
    conditions = {item.get("type"): item for item in status.get("conditions") or []}
    if conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded":
        return SyncState.FAILED, "The Deployment exceeded its progress deadline."
    failed = conditions.get("ReplicaFailure", {})
    if failed.get("status") == "True":  # Quota or admission: kubectl would wait for the deadline.
        return SyncState.FAILED, logs.redact(logs.clean(str(failed.get("message") or "Pods cannot be created.")))[:300]
    if wanted is not None and updated < int(wanted):
        return SyncState.RUNNING, f"{updated} of {wanted} new replicas have been updated."
    if total > updated:
        return SyncState.RUNNING, f"{total - updated} old replicas are pending termination."
    if available < updated:
        return SyncState.RUNNING, f"{available} of {updated} updated replicas are available."
    return SyncState.SUCCEEDED, ""


def _stateful_set(workload: Json) -> tuple[SyncState, str]:
    """The API server fills in `partition: 0`, so that the branch with a partition is the usual one."""
    spec, status = section(workload, "spec"), section(workload, "status")
    if not status.get("observedGeneration"):
        return SyncState.RUNNING, "Waiting until the cluster has seen the change."
    replicas = spec.get("replicas")
    ready, updated = int(status.get("readyReplicas") or 0), int(status.get("updatedReplicas") or 0)
    if replicas is not None and ready < int(replicas):
        return SyncState.RUNNING, f"{ready} of {replicas} replicas are ready."
    rolling = section(spec, "updateStrategy").get("rollingUpdate")
    if isinstance(rolling, Mapping):
        partition = rolling.get("partition")
        if replicas is not None and partition is not None and updated < int(replicas) - int(partition):
            return SyncState.RUNNING, f"{updated} of {int(replicas) - int(partition)} new replicas have been updated."
        return SyncState.SUCCEEDED, ""
    if status.get("updateRevision") != status.get("currentRevision"):
        return SyncState.RUNNING, f"{updated} of {replicas} new replicas have been updated."
    return SyncState.SUCCEEDED, ""


def _daemon_set(workload: Json) -> tuple[SyncState, str]:
    numbers = counts(workload, WorkloadKind.DAEMON_SET)
    if numbers.updated < numbers.total:
        return SyncState.RUNNING, f"{numbers.updated} of {numbers.total} new replicas have been updated."
    if numbers.available < numbers.total:
        return SyncState.RUNNING, f"{numbers.available} of {numbers.total} updated replicas are available."
    return SyncState.SUCCEEDED, ""


_RULES: Mapping[WorkloadKind, Callable[[Json], tuple[SyncState, str]]] = {
    WorkloadKind.DEPLOYMENT: _deployment,
    WorkloadKind.STATEFUL_SET: _stateful_set,
    WorkloadKind.DAEMON_SET: _daemon_set,
}
