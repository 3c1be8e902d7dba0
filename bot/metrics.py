"""What Prometheus is told: what people ask, what becomes of deployments, how outside systems answer, what lags.

Every label has a closed list of values, so that no text from outside can make a series; services and people are in
the cards and the audit log, not here. Counters and histograms are this replica's (sum them); what is read from the
database when scraped is the same on every replica (take the maximum).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as exposition
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from bot import __version__
from bot.deployments.model import FINAL, Deployment, State
from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from bot.policy.model import ReasonCode

OUTCOMES = ("accepted", "refused", "failed", "errored")
ANSWERS = ("ok", "rejected", "unavailable", "unknown", "error")
OTHER = "other"
COMMAND_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_BUCKETS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 86400.0)
OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "pipeline": ("find", "trigger", "look", "failure", "cancel"),
    "delivery": ("sync", "look", "running", "failure", "go_on", "abort"),
    "writer": ("read", "find", "write", "remove", "hold", "withdraw"),
    "chat": ("post", "edit", "find"),
}
"""Kind of a provider -> the calls that are counted."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is read when scraped. Ages are in seconds, 0 if there is nothing.

    jobs: name -> (Unix time of the newest occurrence, whether it went well).
    """

    open_by_state: Mapping[str, int] = field(default_factory=dict)
    outbox_behind: int = 0
    outbox_age: float = 0.0
    inbox_pending: int = 0
    inbox_age: float = 0.0
    audit_entries: int = 0
    jobs: Mapping[str, tuple[float, bool]] = field(default_factory=dict)


class Metrics:
    """A registry of its own, so that two Slipways in one process do not mix."""

    def __init__(self, commands: Mapping[str, str], buttons: Iterable[str]) -> None:
        """commands: every name and alias -> the name; buttons: ids of the buttons."""
        self._commands = dict(commands)
        self._buttons = frozenset(buttons)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._intents = self._counter("intents", "Commands and clicks that were answered.", "kind", "name", "outcome")
        self._refusals = self._counter("refusals", "Refusals by the first reason's code.", "code")
        self._seconds = self._histogram(
            "intent_seconds", "From the moment an intent was stored to its answer.", COMMAND_BUCKETS, "kind"
        )
        self._ended = self._counter("deployments_ended", "Deployments that ended here.", "state")
        self._lasted = self._histogram("deployment_seconds", "From the request to the end.", LONG_BUCKETS, "state")
        self._calls = self._counter("provider_calls", "Calls to outside systems.", "provider", "operation", "answer")
        self._call_seconds = self._histogram(
            "provider_call_seconds", "How long outside systems took.", COMMAND_BUCKETS, "provider"
        )
        self._leases = self._counter("leases_lost", "Deployments another replica took over while we worked on them.")
        self._gauges()
        for state in FINAL:
            self._ended.labels(state.value)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"slipway_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"slipway_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"slipway_{name}", text, labels, registry=self.registry)

    def _gauges(self) -> None:
        self._open = self._gauge("deployments_open", "Deployments on their way, of all replicas.", "state")
        self._work = self._gauge("deployments_in_work", "Deployments this replica holds.")
        self._behind = self._gauge("outbox_behind", "Messages that still have to be sent, of all replicas.")
        self._lag = self._gauge("outbox_lag_seconds", "Age of the oldest message that could have been sent by now.")
        self._pending = self._gauge("inbox_pending", "Intents stored and not answered, of all replicas.")
        self._inbox_age = self._gauge("inbox_age_seconds", "Age of the oldest of them.")
        self._audit = self._gauge("audit_entries", "Number of the newest audit entry.")
        self._job_at = self._gauge("job_last_timestamp_seconds", "When a periodic job was last due.", "job")
        self._job_good = self._gauge("job_last_good", "1 if that went well or is not over.", "job")
        self._ready = self._gauge("not_ready", "1 if that part is not ready.", "part")
        self._services = self._gauge("catalog_services", "Services in the catalog in force.")
        self._gauge("build_info", "Always 1.", "version").labels(__version__).set(1)

    # -- told as it happens ------------------------------------------------------------------------------------------

    def intent(self, kind: str, said: str, outcome: str, code: str, seconds: float) -> None:
        """An intent was answered. said: the text typed, or the button's id."""
        name = self.name_of(kind, said)
        self._intents.labels(
            kind if kind in ("command", "click") else OTHER, name, outcome if outcome in OUTCOMES else OTHER
        ).inc()
        self._seconds.labels(kind if kind in ("command", "click") else OTHER).observe(max(0.0, seconds))
        if outcome == "refused":
            self._refusals.labels(code if code in _CODES else OTHER).inc()

    def name_of(self, kind: str, said: str) -> str:
        """The command or button, from a closed list."""
        if kind == "click":
            return said if said in self._buttons else OTHER
        words = said.split(maxsplit=1)
        return self._commands.get(words[0].lstrip("/／").casefold(), OTHER) if words else OTHER

    def ended(self, deployment: Deployment) -> None:
        """A deployment has ended."""
        if deployment.state not in FINAL or deployment.ended_at is None:
            return
        self._ended.labels(deployment.state.value).inc()
        self._lasted.labels(deployment.state.value).observe(
            (deployment.ended_at - deployment.created_at).total_seconds()
        )

    def lease_lost(self) -> None:
        """Another replica has taken over."""
        self._leases.inc()

    def watch(self, part: Any, provider: str, kind: str) -> Any:
        """Count the calls of a provider from now on; returns it.

        Its own methods are replaced by counting ones, so that it stays what it is to whoever asks.
        """
        for operation in OPERATIONS[kind]:
            call = getattr(part, operation, None)
            if call is not None:
                setattr(part, operation, self._counting(call, provider, operation))
        return part

    def _counting(self, call: Callable[..., Awaitable[Any]], provider: str, operation: str) -> Any:
        # The series of a label is looked up under a lock by its text, which costs more than counting.
        seconds = self._call_seconds.labels(provider)

        @cache
        def count(answer: str) -> Counter:
            return self._calls.labels(provider, operation, answer)

        async def counted(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            answer = "error"
            try:
                value = await call(*arguments, **named)
                answer = "ok"
                return value
            except Exception as error:
                answer = answer_of(error)
                raise
            finally:
                count(answer).inc()
                seconds.observe(time.perf_counter() - began)

        return counted

    # -- asked when scraped ------------------------------------------------------------------------------------------

    def render(self, snapshot: Snapshot | None, *, busy: int, services: int, missing: Mapping[str, str]) -> bytes:
        """The text for Prometheus. snapshot: None if the database does not answer; its gauges then keep silent."""
        self._work.set(busy)
        self._services.set(services)
        for part in ("database", "catalog", "slack", "feishu"):
            self._ready.labels(part).set(part in missing)
        if snapshot is not None:
            self._show(snapshot)
        return exposition(self.registry)

    def _show(self, snapshot: Snapshot) -> None:
        for state in State:
            if state not in FINAL:
                self._open.labels(state.value).set(snapshot.open_by_state.get(state.value, 0))
        unheard = sum(
            count for state, count in snapshot.open_by_state.items() if state not in State.__members__.values()
        )
        self._open.labels(OTHER).set(unheard)
        self._behind.set(snapshot.outbox_behind)
        self._lag.set(snapshot.outbox_age)
        self._pending.set(snapshot.inbox_pending)
        self._inbox_age.set(snapshot.inbox_age)
        self._audit.set(snapshot.audit_entries)
        self._job_at.clear()
        self._job_good.clear()
        for job, (at, good) in snapshot.jobs.items():
            self._job_at.labels(job).set(at)
            self._job_good.labels(job).set(good)


_CODES = frozenset(code.value for code in ReasonCode)


def answer_of(error: Exception) -> str:
    """One of `ANSWERS`."""
    if isinstance(error, ProviderRejected):
        return "rejected"
    if isinstance(error, OutcomeUnknown):
        return "unknown"
    return "unavailable" if isinstance(error, ProviderUnavailable) else "error"
