"""Optional traces for OpenTelemetry: one for each deployment with a span for each state, and a span for each intent.

Sent as OTLP over HTTP in JSON to `SLIPWAY_OTLP_URL`. A deployment's trace is made when it ends, from its rows, so that
it is whole whatever replicas it went through; its id is in the intent, which CI, Git and Argo CD know too. What cannot
be sent is dropped: telling must never hold up doing. Source: "OTLP Specification 1.5", JSON Protobuf encoding.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import structlog
from pydantic import SecretStr

from bot import __version__
from bot.deployments.model import Deployment, State
from bot.store.deployments import Transition

log = structlog.get_logger(__name__)

Span = dict[str, Any]

MOST_WAITING = 2_000
"""Spans that are kept for a collector that does not answer."""
BATCH = 200
PAUSE = 2.0
"""Seconds between two batches."""
OK, ERROR = 1, 2


class Traces:
    """Collects spans and sends them in batches."""

    def __init__(self, http: httpx.AsyncClient, url: str, token: SecretStr | None) -> None:
        """url: the collector's, without /v1/traces; token: sent as a bearer token."""
        self._http = http
        self._url = f"{url.rstrip('/')}/v1/traces"
        self._headers = {"authorization": f"Bearer {token.get_secret_value()}"} if token is not None else {}
        self._waiting: list[Span] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, *spans: Span) -> None:
        """Keep for the next batch; the oldest go when there are too many."""
        self._waiting = [*self._waiting, *spans][-MOST_WAITING:]
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._sending())

    async def close(self) -> None:
        """Send what is left, once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._send()

    async def _sending(self) -> None:
        while self._waiting:
            await asyncio.sleep(PAUSE)
            await self._send()

    async def _send(self) -> None:
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        if not batch:
            return
        try:
            answer = await self._http.post(self._url, json=request_of(batch), headers=self._headers)
            if not answer.is_success:
                log.info("traces_not_taken", status=answer.status_code, spans=len(batch))
        except httpx.HTTPError as error:
            log.info("traces_not_sent", error=type(error).__name__, spans=len(batch))


class DeploymentTraces:
    """Makes the trace of each deployment that ends here."""

    def __init__(self, traces: Traces, path: Callable[[int], Awaitable[Sequence[Transition]]]) -> None:
        """path: every change of state of a deployment."""
        self._traces = traces
        self._path = path
        self._tasks: set[asyncio.Task[None]] = set()

    def ended(self, deployment: Deployment) -> None:
        """A deployment has ended."""
        task = asyncio.get_running_loop().create_task(self._trace(deployment))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Finish what has begun."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _trace(self, deployment: Deployment) -> None:
        try:
            self._traces.add(*trace_of(deployment, await self._path(deployment.id)))
        except Exception:
            log.exception("trace_not_made", deployment_id=deployment.ref)


def trace_of(deployment: Deployment, path: Sequence[Transition]) -> list[Span]:
    """The deployment as one span, and each state it went through as a span below it."""
    trace = deployment.intent.removeprefix("slw-")[:32].rjust(32, "0")
    root = _id(deployment.intent)
    names = {
        "slipway.deployment": deployment.ref,
        "slipway.service": deployment.service,
        "deployment.environment.name": deployment.environment,
        "slipway.version": deployment.release_version,
        "slipway.kind": deployment.kind.value,
        "slipway.state": deployment.state.value,
    }
    failure = deployment.data.failure
    ended_at = deployment.ended_at or deployment.changed_at
    good = deployment.state is State.SUCCEEDED
    spans = [
        _span(trace, root, "", f"deploy {deployment.target}", deployment.created_at, ended_at, names, good)
        | {"status": {"code": OK if good else ERROR, "message": failure.message if failure is not None else ""}}
    ]
    for number, (begun, over) in enumerate(pairwise(path)):
        own = _id(f"{deployment.intent}/{number}")
        more = {"slipway.actor": over.actor, "slipway.note": over.note}
        well = over.to_state not in (State.FAILED, State.ROLLING_BACK)
        spans.append(_span(trace, own, root, begun.to_state, begun.at, over.at, more, well))
    return spans


def intent_span(kind: str, name: str, outcome: str, event: str, at: datetime, seconds: float) -> Span:
    """An answered command or click, as a trace of its own. name: the command or button; event: unique."""
    trace = hashlib.sha256(event.encode()).hexdigest()[:32]
    names = {"slipway.outcome": outcome}
    began = at - timedelta(seconds=max(0.0, seconds))
    return _span(trace, _id(event), "", f"{kind} {name}", began, at, names, outcome != "errored")


def request_of(spans: Sequence[Span]) -> dict[str, Any]:
    """The body of an export."""
    scope = {"name": "slipway", "version": __version__}
    resource = {"attributes": _attributes({"service.name": "slipway", "service.version": __version__})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}]}


def _span(
    trace: str, own: str, parent: str, name: str, start: datetime, end: datetime, names: Mapping[str, str], good: bool
) -> Span:
    made: Span = {
        "traceId": trace,
        "spanId": own,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(int(start.timestamp() * 1e9)),
        "endTimeUnixNano": str(int(end.timestamp() * 1e9)),
        "attributes": _attributes(names),
        "status": {"code": OK if good else ERROR},
    }
    return made | ({"parentSpanId": parent} if parent else {})


def _attributes(names: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in names.items() if value]


def _id(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]
