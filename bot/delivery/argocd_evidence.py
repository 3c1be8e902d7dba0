"""What really runs below an application, and why it does not: pods, their reasons, events and last lines.

Argo CD's health leaves pods out: a crash-looping pod leaves the application Progressing for as long as the workload's
progress deadline, or Healthy if enough others are up. So the pods are looked at themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot import logs
from bot.delivery.argocd_api import AppRef, ArgoApi
from bot.delivery.argocd_model import Application, Json
from bot.delivery.base import DeliveryFailure
from bot.delivery.rollouts import analysis_lines
from bot.errors import ProviderError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FINE = frozenset({"Running", "Completed", "Terminating", "Succeeded", "ContainerCreating", "PodInitializing", ""})
_LEAVING = frozenset({"Completed", "Terminating", "Succeeded"})
_WORDS = ("version", "trouble")
_PODS_ASKED = 3
_PODS_RESOLVED = 20


@dataclass(frozen=True, slots=True)
class Pods:
    """What the pods of a service run. trouble: of the first pod that is not well, empty if all are."""

    digests: frozenset[str] = frozenset()
    version: str = ""
    trouble: str = ""


async def running_pods(api: ArgoApi, ref: AppRef, image: str) -> Pods:
    """The digests of all pods that are not leaving. image: without tag, empty for every image.

    Where the manifest names only a tag, the pod's status tells the digest that was pulled.
    Raises ProviderError when it cannot be told.
    """
    tree = await api.tree(ref)
    digests: set[str] = set()
    version = trouble = ""
    for number, pod in enumerate(_pods(tree)):
        if _info(pod, "Status Reason") in _LEAVING:
            continue
        images = [name for name in map(str, pod.get("images") or []) if _is_image(name, image)]
        if not images:
            continue
        version = version or _tag(images[0])
        found = {match[0] for name in images if (match := _DIGEST.search(name))}
        if not found and number < _PODS_RESOLVED:
            found = _pulled(await api.resource(ref, pod), image)
        digests |= found
        trouble = trouble or _trouble(pod)
    return Pods(frozenset(digests), version, trouble)


def merged(found: Sequence[Pods]) -> Pods:
    """The pods of several applications as those of one."""
    digests = frozenset[str]().union(*(pods.digests for pods in found))
    first = {name: next((getattr(one, name) for one in found if getattr(one, name)), "") for name in _WORDS}
    return Pods(digests, **first)


async def evidence(api: ArgoApi, ref: AppRef, app: Application, image: str) -> DeliveryFailure:
    """The operation's message, failed resources, error conditions, then pods with reasons, events and lines."""
    said: list[str] = []
    lines: list[str] = []
    state = app.state
    if state is not None:
        if state.phase in ("Failed", "Error"):
            said.append(state.message)
        lines += [f"{r.key[1]}/{r.key[3]}: {r.message}" for r in state.results if r.has_failed]
    said += [app.error] if app.error else []
    sick = [item for item in app.resources if item.health in ("Degraded", "Missing")]
    lines += [f"{item.key[1]}/{item.key[3]} is {item.health}: {item.message}" for item in sick]
    try:
        more, of_pods = await _of_pods(api, ref)
    except ProviderError as error:
        more, of_pods = "", [error.message]
    said += [more] if more else []
    if not said and sick:
        said.append(f"{ref.name} is {sick[0].health}.")
    shown = [logs.redact(logs.clean(line))[: logs.LINE_LIMIT] for line in [*lines, *of_pods] if line.strip()]
    message = logs.redact(logs.clean(" ".join(dict.fromkeys(part for part in said if part))))[:600]
    return DeliveryFailure(message, tuple(dict.fromkeys(shown))[:20])


async def _of_pods(api: ArgoApi, ref: AppRef) -> tuple[str, list[str]]:
    """A sentence about the worst pod, and the lines of at most three."""
    tree = await api.tree(ref)
    lines = await _of_analyses(api, ref, tree)
    ill = [pod for pod in _newest_first(tree) if _info(pod, "Status Reason") not in _FINE][:_PODS_ASKED]
    for pod in ill:
        lines += await _of_pod(api, ref, pod)
    return (_trouble(ill[0]) if ill else ""), lines


async def _of_analyses(api: ArgoApi, ref: AppRef, tree: Json) -> list[str]:
    """The metrics by which the newest analysis of a Rollout gave it up."""
    runs = [node for node in tree.get("nodes") or [] if node.get("kind") == "AnalysisRun"]
    bad = [node for node in runs if _mapping(node.get("health")).get("status") in ("Degraded", "Suspended")]
    newest = sorted(bad, key=lambda node: str(node.get("createdAt") or ""))[-1:]
    return [line for node in newest for line in analysis_lines(await api.resource(ref, node))]


async def _of_pod(api: ArgoApi, ref: AppRef, pod: Json) -> list[str]:
    lines = []
    manifest = await api.resource(ref, pod)
    for container, reason, restarts in containers_of(manifest):
        lines.append(f"{pod.get('name')}/{container}: {reason}{f', {restarts} restarts' if restarts else ''}")
        previous = restarts > 0
        lines += logs.error_lines(await api.pod_log(ref, pod, container, previous=previous), limit=8)
    events = await api.events(ref, pod)
    warnings = [item for item in events.get("items") or [] if item.get("type") == "Warning"]
    newest = sorted(warnings, key=_event_at)[-5:]
    return [*lines, *(f"{item.get('reason')}: {item.get('message')}" for item in newest)]


def containers_of(manifest: Json) -> Iterator[tuple[str, str, int]]:
    """Name, reason and restarts of every container that is not well."""
    status = _mapping(manifest.get("status"))
    for kind in ("initContainerStatuses", "containerStatuses"):
        for item in status.get(kind) or []:
            state, last = _mapping(item.get("state")), _mapping(item.get("lastState"))
            waiting, ended = _mapping(state.get("waiting")), _mapping(state.get("terminated"))
            before = _mapping(last.get("terminated"))
            reason = str(waiting.get("reason") or ended.get("reason") or "")
            if not reason and (item.get("ready") or not before):
                continue
            text = " ".join(str(p) for p in (reason, waiting.get("message") or ended.get("message")) if p)
            if before.get("reason"):
                text += f" (before: {before['reason']}, exit code {before.get('exitCode')})"
            yield str(item.get("name")), text.strip(), int(item.get("restartCount") or 0)


def _pods(tree: Json) -> Iterator[Json]:
    return (node for node in tree.get("nodes") or [] if node.get("kind") == "Pod" and not node.get("group"))


def _newest_first(tree: Json) -> list[Json]:
    """Pods of the newest ReplicaSet first: what was just deployed is what people ask about."""
    revisions = {
        node.get("uid"): int((_info(node, "Revision").removeprefix("Rev:")) or 0)
        for node in tree.get("nodes") or []
        if node.get("kind") == "ReplicaSet" and _info(node, "Revision").removeprefix("Rev:").isdigit()
    }

    def revision(pod: Json) -> int:
        return max((revisions.get(parent.get("uid"), 0) for parent in pod.get("parentRefs") or []), default=0)

    return sorted(_pods(tree), key=lambda pod: (revision(pod), str(pod.get("createdAt") or "")), reverse=True)


def _trouble(pod: Json) -> str:
    reason = _info(pod, "Status Reason")
    if reason in _FINE:
        return ""
    restarts = _info(pod, "Restart Count")
    return f"Pod {pod.get('name')}: {reason}{f' after {restarts} restarts' if restarts else ''}."


def _pulled(manifest: Json, image: str) -> set[str]:
    """Digests that the container runtime reports; `imageID` may have a scheme in front."""
    statuses: Sequence[Any] = _mapping(manifest.get("status")).get("containerStatuses") or []
    found = set()
    for item in statuses:
        if _is_image(str(item.get("image") or ""), image) or _is_image(str(item.get("imageID") or ""), image):
            found |= set(_DIGEST.findall(str(item.get("imageID") or "")))
    return found


def _is_image(name: str, image: str) -> bool:
    if not image:
        return True
    bare = name.rpartition("://")[2].partition("@")[0]
    head, colon, tail = bare.rpartition(":")
    bare = head if colon and "/" not in tail else bare
    return bare == image or bare.endswith(f"/{image}")


def _tag(name: str) -> str:
    tag = name.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return tag[:128]


def _info(node: Json, name: str) -> str:
    return next((str(item.get("value")) for item in node.get("info") or [] if item.get("name") == name), "")


def _event_at(item: Json) -> str:
    return str(item.get("lastTimestamp") or item.get("eventTime") or item.get("firstTimestamp") or "")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
