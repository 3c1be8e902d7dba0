"""Kubernetes without Argo CD: the image of a workload is patched, and followed as `kubectl rollout status` does.

Our intent stands in an annotation of the workload, written by the same patch as the image, so that after a crash or a
lost answer it is plain whether it was done. Answers are read as JSON, not as the client's models: those refuse what a
real cluster sometimes leaves out.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config

from bot import logs
from bot.catalog.model import Service, Target
from bot.clock import Clock, utc_now
from bot.delivery.argocd_evidence import containers_of
from bot.delivery.base import DeliveryFailure, GrayStage, Running, SyncProgress, SyncRequest, SyncState
from bot.delivery.kubernetes_options import KubernetesOptions
from bot.delivery.kubernetes_status import Json, WorkloadKind, counts, rollout_status, section
from bot.delivery.kubernetes_watch import Ask, NamespaceWatch
from bot.errors import OutcomeUnknown, ProviderError, ProviderRejected, ProviderUnavailable
from bot.options import read_options

INTENT, AT, RELEASE = "slipway/intent", "slipway/at", "slipway/release"
TIMEOUT = 15.0
"""Seconds for one request, as one number: the client's documented pair breaks in it."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_AT_ONCE = frozenset({"InvalidImageName", "CreateContainerConfigError", "ErrImageNeverPull"})
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff"})
_CRASHES = 3
_PULL_PATIENCE = timedelta(minutes=2)

_CALLS = {
    WorkloadKind.DEPLOYMENT: "deployment",
    WorkloadKind.STATEFUL_SET: "stateful_set",
    WorkloadKind.DAEMON_SET: "daemon_set",
}
"""What the client calls a kind in the names of its methods."""

Where = tuple[str, str, WorkloadKind]
"""Context, namespace, kind."""


class Clusters:
    """Clients by kubeconfig context. kubeconfig None: the cluster this process runs in."""

    def __init__(self, kubeconfig: Path | None) -> None:
        """Nothing is read yet."""
        self._kubeconfig = kubeconfig
        self._clients: dict[str, client.ApiClient] = {}
        self._lock = asyncio.Lock()

    async def get(self, context: str) -> client.ApiClient:
        """The client of a context. Raises ProviderRejected: no such context or file."""
        async with self._lock:
            if context not in self._clients:
                self._clients[context] = client.ApiClient(await self._configuration(context))
            return self._clients[context]

    async def _configuration(self, context: str) -> client.Configuration:
        made = client.Configuration()
        try:
            if self._kubeconfig is None:
                config.load_incluster_config(client_configuration=made)  # type: ignore[no-untyped-call]
            else:
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    str(self._kubeconfig), context or None, made, persist_config=False
                )
        except (config.ConfigException, OSError, ValueError) as error:
            message = f"The Kubernetes configuration cannot be used ({type(error).__name__})."
            raise ProviderRejected(message, hint="Check the kubeconfig and `delivery.options.context`.") from None
        return made

    async def close(self) -> None:
        """End all connections."""
        while self._clients:
            _, one = self._clients.popitem()
            await one.close()  # type: ignore[no-untyped-call]


class Kubernetes:
    """Brings an image to run by patching a Deployment."""

    name = "kubernetes"
    options_model: type[KubernetesOptions] = KubernetesOptions

    def __init__(self, clusters: Clusters, *, clock: Clock = utc_now) -> None:
        """Clients are made when first needed."""
        self._clusters = clusters
        self._clock = clock
        self._cancelled: set[str] = set()
        self._watches: dict[Where, NamespaceWatch] = {}
        self._interest: dict[tuple[Where, str], str] = {}
        self._listener: Callable[[str], None] = lambda intent: None
        self._locks: dict[tuple[str, str, str], asyncio.Lock] = {}

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have `listener(intent)` called when a watch told of the intent's workload."""
        self._listener = listener

    async def close(self) -> None:
        """End watches and connections."""
        for watch in self._watches.values():
            await watch.close()
        await self._clusters.close()

    # --- the protocol

    async def sync(self, request: SyncRequest) -> SyncProgress:
        """Patch the image with our intent; the same intent again changes nothing and tells how far it is.

        Raises: ProviderRejected, ProviderUnavailable, OutcomeUnknown as a pipeline's trigger.
        """
        options = self._options(request.service, request.target)
        async with self._locks.setdefault((options.context, options.namespace, options.deployment), asyncio.Lock()):
            deployment = await self._deployment(options)
            if deployment is None:
                raise missing(options)
            if annotation(deployment, INTENT) != request.intent:
                deployment = await self._patch(options, deployment, request)
            await self._keep(options, deployment)
        return await self._progress(options, deployment, request)

    async def look(self, request: SyncRequest) -> SyncProgress | None:
        """How far this intent is, or None if the Deployment does not carry it."""
        options = self._options(request.service, request.target)
        self._interest[_where(options), options.deployment] = request.intent
        deployment = await self._known(options) or await self._deployment(options)
        if deployment is None or annotation(deployment, INTENT) != request.intent:
            return None
        await self._keep(options, deployment)
        return await self._progress(options, deployment, request)

    async def running(self, service: Service, target: Target) -> Running | None:
        """What the pods run, None if there are none. Raises ProviderUnavailable when it cannot be told."""
        options = self._options(service, target)
        deployment = await self._deployment(options)
        pods = await self._pods(options, deployment) if deployment is not None else []
        if deployment is None or not pods:
            return None
        digests = {digest for pod in pods for digest in _digests(pod, options)}
        release = annotation(deployment, RELEASE)
        if len(digests) != 1:
            return Running("", "", False, target.url, "Old and new pods run side by side.")
        state, said = self._status(options, deployment)
        trouble = next((text for pod in pods if (text := _trouble(pod))), "")
        message = trouble or ("" if state is SyncState.SUCCEEDED else said)
        return Running(digests.pop(), release, not message, target.url, message)

    async def failure(self, request: SyncRequest) -> DeliveryFailure:
        """The rollout's sentence, then of the worst pods reason, events and last lines."""
        return await self._failure(self._options(request.service, request.target))

    async def _failure(self, options: KubernetesOptions) -> DeliveryFailure:
        deployment = await self._deployment(options)
        if deployment is None:
            return DeliveryFailure(missing(options).message)
        ill = [pod for pod in await self._pods(options, deployment) if _trouble(pod)][:3]
        lines: list[str] = []
        for pod in ill:
            lines += await self._evidence(options, pod)
        said = _trouble(ill[0]) if ill else self._status(options, deployment)[1]
        shown = [logs.redact(logs.clean(line))[: logs.LINE_LIMIT] for line in lines if line.strip()]
        return DeliveryFailure(logs.redact(said), tuple(dict.fromkeys(shown))[:20])

    async def cancel(self, request: SyncRequest) -> None:
        """A rollout cannot be stopped, only replaced: it is not waited for any more, and the way back undoes it."""
        self._cancelled.add(request.intent)

    async def gray_stage(self, request: SyncRequest) -> GrayStage | None:
        """There is no gray stage here."""
        return None

    async def continue_gray(self, request: SyncRequest, *, full: bool = False) -> None:
        """There is no gray stage here. Raises ProviderRejected."""
        raise _no_gray(request)

    async def abort_gray(self, request: SyncRequest) -> None:
        """There is no gray stage here. Raises ProviderRejected."""
        raise _no_gray(request)

    # --- inside

    def _options(self, service: Service, target: Target) -> KubernetesOptions:
        where = f"delivery.options of {service.name} in {target.environment}"
        options = read_options(self.options_model, dict(target.delivery.options), where)
        values = {"service": service.name, "environment": target.environment, "team": service.team}
        texts = {name: value for name, value in options if type(value) is str}
        return options.model_copy(update={name: _fill(value, values) for name, value in texts.items()})

    async def _deployment(self, options: KubernetesOptions) -> Json | None:
        read = await self._call("read", options)
        return await read_json(lambda: read(options.deployment, options.namespace, _request_timeout=TIMEOUT))

    async def _call(self, verb: str, options: KubernetesOptions) -> Ask:
        """The client's method for this kind of workload, with a raw response."""
        api = client.AppsV1Api(await self._clusters.get(options.context))
        name = f"{verb}_namespaced_{_CALLS[options.kind]}_without_preload_content"
        method: Ask = getattr(api, name)
        return method

    async def _known(self, options: KubernetesOptions) -> Json | None:
        """The workload as the watch saw it last, None if it does not run."""
        return (await self._watch(options)).known(options.deployment)

    async def _keep(self, options: KubernetesOptions, workload: Json) -> None:
        (await self._watch(options)).keep(options.deployment, workload)

    async def _told(self, options: KubernetesOptions) -> bool:
        """Whether changes are heard of without asking."""
        return (await self._watch(options)).is_live

    async def _watch(self, options: KubernetesOptions) -> NamespaceWatch:
        where = _where(options)
        if where not in self._watches:
            ask = partial(await self._call("list", options), options.namespace)
            self._watches.setdefault(where, NamespaceWatch(ask, partial(self._changed, where)))
        return self._watches[where]

    def _changed(self, where: Where, name: str) -> None:
        intent = self._interest.get((where, name))
        if intent is not None:
            self._listener(intent)

    async def _patch(self, options: KubernetesOptions, seen: Json, request: SyncRequest) -> Json:
        """The image and our intent, in one patch."""
        container = {"name": options.container, "image": self._image(options, seen, request)}
        return await self._apply(
            options, seen, self._notes(request), {"template": {"spec": {"containers": [container]}}}
        )

    def _notes(self, request: SyncRequest) -> dict[str, str]:
        """What a workload carries of us."""
        return {INTENT: request.intent, AT: self._clock().isoformat(), RELEASE: request.version}

    def _image(self, options: KubernetesOptions, seen: Json, request: SyncRequest) -> str:
        """By tag and digest. Raises ProviderRejected: no digest, or no such container."""
        if not _DIGEST.fullmatch(request.digest):
            raise ProviderRejected("The release has no image digest.", hint="Have the pipeline push an image.")
        names = [item.get("name") for item in pod_spec(seen).get("containers") or []]
        if options.container not in names:  # A strategic merge would add a second container.
            raise ProviderRejected(
                f"{options.kind} {options.deployment} has no container {options.container}; it has {', '.join(names)}.",
                hint="Correct `delivery.options.container`.",
            )
        return f"{options.image}:{request.version}@{request.digest}"

    async def _apply(self, options: KubernetesOptions, seen: Json, notes: Json, spec: Json) -> Json:
        """One strategic merge patch, guarded by the resource version we saw."""
        version = section(seen, "metadata").get("resourceVersion")
        body = {"metadata": {"annotations": notes, "resourceVersion": version}, "spec": spec}
        patch = await self._call("patch", options)
        answer = await read_json(
            lambda: patch(
                options.deployment, options.namespace, body, field_manager="slipway", _request_timeout=TIMEOUT
            ),
            writing=True,
        )
        if answer is None:
            raise missing(options)
        return answer

    async def _progress(self, options: KubernetesOptions, deployment: Json, request: SyncRequest) -> SyncProgress:
        state, said = self._status(options, deployment)
        numbers = counts(deployment, options.kind)
        total, applied, healthy = numbers.total, numbers.updated, numbers.available
        if state is SyncState.RUNNING:
            hopeless = await self._hopeless(options, deployment)
            if request.intent in self._cancelled:
                state, said = SyncState.FAILED, "It was cancelled."
            elif hopeless:
                state, said = SyncState.FAILED, hopeless
            elif self._clock() - _started(deployment, self._clock()) >= options.timeout:
                state, said = SyncState.FAILED, f"Not done in time. {said}"
        done = min(applied, total) + min(healthy, applied)
        percent = 100 if state is SyncState.SUCCEEDED else min(99, round(50 * done / total)) if total else 0
        told = await self._told(options)
        return SyncProgress(state, said, applied, min(healthy, applied), total, percent, told)

    def _status(self, options: KubernetesOptions, workload: Json) -> tuple[SyncState, str]:
        """Whether its rollout is done, and what it waits for."""
        return rollout_status(workload, options.kind)

    async def _hopeless(self, options: KubernetesOptions, deployment: Json) -> str:
        """Why waiting on makes no sense; the workload's own deadline would tell it ten minutes later."""
        image = next((c.get("image") for c in pod_spec(deployment)["containers"] if c["name"] == options.container), "")
        elapsed = self._clock() - _started(deployment, self._clock())
        for pod in await self._pods(options, deployment):
            if all(item.get("image") != image for item in section(pod, "spec").get("containers") or []):
                continue  # Of the version before.
            for container, reason, restarts in containers_of(pod):
                word = reason.partition(" ")[0]
                crashing = word == "CrashLoopBackOff" and restarts >= _CRASHES
                if word in _AT_ONCE or crashing or (word in _PULLING and elapsed >= _PULL_PATIENCE):
                    return f"Pod {section(pod, 'metadata').get('name')}, container {container}: {reason}"
        return ""

    async def _pods(self, options: KubernetesOptions, deployment: Json) -> list[Json]:
        """Pods of the Deployment that are not leaving."""
        labels = section(section(section(deployment, "spec"), "selector"), "matchLabels")
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        if not selector:
            return []
        api = client.CoreV1Api(await self._clusters.get(options.context))
        body = await read_json(
            lambda: api.list_namespaced_pod_without_preload_content(
                options.namespace, label_selector=selector, _request_timeout=TIMEOUT
            )
        )
        pods = [pod for pod in (body or {}).get("items") or [] if not section(pod, "metadata").get("deletionTimestamp")]
        return [pod for pod in pods if section(pod, "status").get("phase") not in ("Succeeded", "Failed")]

    async def _evidence(self, options: KubernetesOptions, pod: Json) -> list[str]:
        name = str(section(pod, "metadata").get("name"))
        api = client.CoreV1Api(await self._clusters.get(options.context))
        lines = []
        for container, reason, restarts in containers_of(pod):
            lines.append(f"{name}/{container}: {reason}{f', {restarts} restarts' if restarts else ''}")
            text = await _text(
                lambda container=container, previous=restarts > 0: (  # type: ignore[misc]
                    api.read_namespaced_pod_log_without_preload_content(
                        name,
                        options.namespace,
                        container=container,
                        tail_lines=50,
                        previous=previous,
                        _request_timeout=TIMEOUT,
                    )
                )
            )
            lines += logs.error_lines(text.splitlines(), limit=8)
        events = await read_json(
            lambda: api.list_namespaced_event_without_preload_content(
                options.namespace, field_selector=f"involvedObject.name={name}", _request_timeout=TIMEOUT
            )
        )
        warnings = [item for item in (events or {}).get("items") or [] if item.get("type") == "Warning"]
        return [*lines, *(f"{item.get('reason')}: {item.get('message')}" for item in warnings[-5:])]


async def read_json(call: Callable[[], Awaitable[Any]], *, writing: bool = False) -> Json | None:
    """One answer as JSON, None for 404. Raises ProviderError."""
    try:
        response = await call()
        body = await response.text()
    except (aiohttp.ClientConnectorError, ConnectionRefusedError) as error:
        raise _unreached(error) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        if writing:
            message = f"Kubernetes did not answer ({type(error).__name__}); what it did is looked up."
            raise OutcomeUnknown(message, hint="Nothing to do.") from error
        raise _unreached(error) from error
    if response.status == 404:
        return None
    if response.status >= 300:
        raise _refused(response.status, body, writing=writing)
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ProviderUnavailable("Kubernetes answers with something that is not JSON.", hint="Check its address.")
    return value


async def _text(call: Callable[[], Awaitable[Any]]) -> str:
    """A log, empty where there is none."""
    try:
        response = await call()
        text: str = await response.text(errors="replace")
    except (aiohttp.ClientError, TimeoutError):
        return ""
    return text if response.status == 200 else ""


def _unreached(error: Exception) -> ProviderUnavailable:
    message = f"Kubernetes is not reached ({type(error).__name__})."
    return ProviderUnavailable(message, hint="It is asked again by itself; check its address if this lasts.")


def _refused(status: int, body: str, *, writing: bool) -> ProviderError:
    try:
        said = str(json.loads(body).get("message") or "")
    except (ValueError, AttributeError):
        said = ""
    message = f"Kubernetes says: {logs.redact(logs.clean(said))[:300] or f'HTTP {status}'}"
    if status in (401, 409, 429) or (status >= 500 and not writing):
        return ProviderUnavailable(message, hint="It is asked again by itself.")
    if status >= 500:
        return OutcomeUnknown(message, hint="It is looked up before anything else is done.")
    return ProviderRejected(message, hint="See deploy/rbac.yaml for the rights it needs, then deploy again.")


def _started(deployment: Json, now: datetime) -> datetime:
    try:
        return datetime.fromisoformat(annotation(deployment, AT)).astimezone(UTC)
    except ValueError:
        return now


def _digests(pod: Json, options: KubernetesOptions) -> set[str]:
    """From the pod's own manifest, else what the runtime has pulled."""
    named = {
        match[0]
        for item in section(pod, "spec").get("containers") or []
        if item.get("name") == options.container and (match := _DIGEST.search(str(item.get("image") or "")))
    }
    pulled = {
        match[0]
        for item in section(pod, "status").get("containerStatuses") or []
        if item.get("name") == options.container and (match := _DIGEST.search(str(item.get("imageID") or "")))
    }
    return named or pulled


def _trouble(pod: Json) -> str:
    """The first container that is not well, empty while all is."""
    for container, reason, restarts in containers_of(pod):
        if reason.partition(" ")[0] not in ("ContainerCreating", "PodInitializing", "Completed", ""):
            again = f" after {restarts} restarts" if restarts else ""
            return f"Pod {section(pod, 'metadata').get('name')}, container {container}: {reason}{again}."
    return ""


def _where(options: KubernetesOptions) -> Where:
    return options.context, options.namespace, options.kind


def missing(options: KubernetesOptions, kind: str = "") -> ProviderRejected:
    """The workload is not there. kind: if it is none of Kubernetes' own."""
    return ProviderRejected(
        f"There is no {kind or options.kind} {options.deployment} in namespace {options.namespace}.",
        hint="Create it once, or correct `delivery.options`.",
    )


def _no_gray(request: SyncRequest) -> ProviderRejected:
    where = f"{request.service.name} in {request.target.environment}"
    return ProviderRejected(f"{where} is a plain Deployment, which has no gray stage.", hint="Wait, or cancel it.")


def annotation(deployment: Json, name: str) -> str:
    """The value of an annotation, empty if there is none."""
    return str(section(section(deployment, "metadata"), "annotations").get(name) or "")


def pod_spec(deployment: Json) -> Json:
    """What its pods are made of."""
    return section(section(section(deployment, "spec"), "template"), "spec")


def _fill(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
