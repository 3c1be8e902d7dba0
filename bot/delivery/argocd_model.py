"""What an Argo CD Application says, and what follows from it; pure, so that the rules are a table of cases.

Source: argoproj/argo-cd v3.5.1 pkg/apis/application/v1alpha1/types.go. Every field may be missing: a brand-new
application has no status at all, and `syncResult.resources` is null until the first wave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bot.delivery.base import SyncProgress, SyncState

INTENT = "slipway/intent"
"""Name under which our intent stands in an operation's `infos`."""

ENDED = frozenset({"Succeeded", "Failed", "Error"})
ERROR_CONDITIONS = frozenset({"DeletionError", "InvalidSpecError", "ComparisonError", "SyncError", "UnknownError"})
BLOCKED_BY_WINDOW = "Sync operation blocked by sync window"
_APPLIED = frozenset({"Synced", "Pruned", "PruneSkipped"})
_SETTLED = frozenset({"", "Healthy", "Suspended"})

_LONG_AGO = datetime.min.replace(tzinfo=UTC)

Json = Mapping[str, Any]
Key = tuple[str, str, str, str]
"""group, kind, namespace, name of a resource."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as asked for. revisions: empty where the application's own target was meant."""

    info: Mapping[str, str]
    username: str = ""
    automated: bool = False
    dry_run: bool = False
    revisions: tuple[str, ...] = ()

    @property
    def intent(self) -> str:
        """Ours, empty if somebody else started it."""
        return self.info.get(INTENT, "")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one resource or hook in this operation."""

    key: Key
    status: str
    phase: str
    hook: str
    sync_phase: str
    message: str

    @property
    def is_applied(self) -> bool:
        """True if nothing more will be done about it."""
        return self.status in _APPLIED or self.phase == "Succeeded"

    @property
    def has_failed(self) -> bool:
        """True if this is what went wrong."""
        return self.status == "SyncFailed" or self.phase in ("Failed", "Error")


@dataclass(frozen=True, slots=True)
class OperationState:
    """How far the last operation came. revisions: what was really applied."""

    operation: Operation
    phase: str
    message: str
    started_at: datetime | None
    finished_at: datetime | None
    retries: int
    revisions: tuple[str, ...]
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource the application manages. health is empty where the kind has none."""

    key: Key
    version: str
    status: str
    health: str
    message: str
    hook: bool
    requires_pruning: bool


@dataclass(frozen=True, slots=True)
class Application:
    """One application as last seen. compared: what Git was last compared with, not what was applied."""

    name: str
    namespace: str
    version: int
    auto_sync: bool
    many_sources: bool
    operation: Operation | None
    state: OperationState | None
    sync_status: str
    compared: tuple[str, ...]
    health: str
    health_since_at: datetime | None
    reconciled_at: datetime | None
    conditions: tuple[tuple[str, str], ...]
    resources: tuple[Resource, ...]
    images: tuple[str, ...]
    url: str = ""

    @property
    def children(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of the applications that it manages (app of apps)."""
        return tuple(item.key[2:] for item in self.resources if item.key[:2] == ("argoproj.io", "Application"))

    @property
    def ours(self) -> str:
        """The intent of the operation that is in place, wanted or ended; empty if it is nobody's of us."""
        if self.operation is not None:
            return self.operation.intent
        return self.state.operation.intent if self.state is not None else ""

    @property
    def is_busy(self) -> bool:
        """True while an operation is in place. A retry has `finishedAt` set and is none the less in place."""
        return self.operation is not None or (self.state is not None and self.state.phase not in ENDED)

    @property
    def is_fresh(self) -> bool:
        """True if it was compared after the last operation ended; before that, its health is an old one."""
        finished = self.state.finished_at if self.state is not None else None
        return finished is None or (self.reconciled_at is not None and self.reconciled_at >= finished)

    @property
    def error(self) -> str:
        """The first condition that is an error."""
        return next((f"{kind}: {message}" for kind, message in self.conditions if kind in ERROR_CONDITIONS), "")


def parse_application(body: Json) -> Application:
    """Read the JSON of one application. Raises ValueError, TypeError or AttributeError if it is none."""
    metadata, spec = _map(body, "metadata"), _map(body, "spec")
    status = _map(body, "status")
    sync, health, summary = _map(status, "sync"), _map(status, "health"), _map(status, "summary")
    automated = _map(spec, "syncPolicy").get("automated")
    state = status.get("operationState")
    operation = body.get("operation")
    return Application(
        name=str(metadata["name"]),
        namespace=str(metadata.get("namespace") or ""),
        version=int(metadata.get("resourceVersion") or 0),
        auto_sync=automated is not None and automated.get("enabled") is not False,
        many_sources=bool(spec.get("sources")),
        operation=_operation(operation) if operation else None,
        state=_state(state) if state else None,
        sync_status=str(sync.get("status") or "Unknown"),
        compared=_revisions(sync),
        health=str(health.get("status") or "Unknown"),
        health_since_at=_instant(health.get("lastTransitionTime")),
        reconciled_at=_instant(status.get("reconciledAt")),
        conditions=tuple((str(c.get("type")), str(c.get("message") or "")) for c in _list(status, "conditions")),
        resources=tuple(_resource(item) for item in _list(status, "resources")),
        images=tuple(str(image) for image in _list(summary, "images")),
        url=next((str(url) for url in _list(summary, "externalURLs")), ""),
    )


def _operation(body: Json) -> Operation:
    by, sync = _map(body, "initiatedBy"), _map(body, "sync")
    return Operation(
        info={str(item.get("name")): str(item.get("value")) for item in _list(body, "info")},
        username=str(by.get("username") or ""),
        automated=bool(by.get("automated")),
        dry_run=bool(sync.get("dryRun")),
        revisions=_revisions(sync),
    )


def _state(body: Json) -> OperationState:
    result = _map(body, "syncResult")
    return OperationState(
        operation=_operation(_map(body, "operation")),
        phase=str(body.get("phase") or ""),
        message=str(body.get("message") or ""),
        started_at=_instant(body.get("startedAt")),
        finished_at=_instant(body.get("finishedAt")),
        retries=int(body.get("retryCount") or 0),
        revisions=_revisions(result),
        results=tuple(_result(item) for item in _list(result, "resources")),
    )


def _result(item: Json) -> Result:
    return Result(
        key=_key(item),
        status=str(item.get("status") or ""),
        phase=str(item.get("hookPhase") or ""),
        hook=str(item.get("hookType") or ""),
        sync_phase=str(item.get("syncPhase") or ""),
        message=str(item.get("message") or ""),
    )


def _resource(item: Json) -> Resource:
    health = _map(item, "health")
    return Resource(
        key=_key(item),
        version=str(item.get("version") or ""),
        status=str(item.get("status") or ""),
        health=str(health.get("status") or ""),
        message=str(health.get("message") or ""),
        hook=bool(item.get("hook")),
        requires_pruning=bool(item.get("requiresPruning")),
    )


def _key(item: Json) -> Key:
    return tuple(str(item.get(part) or "") for part in ("group", "kind", "namespace", "name"))  # type: ignore[return-value]


def _revisions(body: Json) -> tuple[str, ...]:
    several = _list(body, "revisions")
    if several:
        return tuple(str(revision or "") for revision in several)
    return (str(body["revision"]),) if body.get("revision") else ()


def _map(body: Json, name: str) -> Json:
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(body: Json, name: str) -> Sequence[Any]:
    value = body.get(name)
    return value if isinstance(value, list) else ()


def _instant(text: object) -> datetime | None:
    """RFC 3339 with whole seconds, as aware UTC."""
    if not isinstance(text, str) or not text:
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


# --- the rules


@dataclass(frozen=True, slots=True)
class Wanted:
    """What counts as ours and as done.

    contains: the revisions known to have the wanted commit in their history. source: 0-based position of our
    configuration repository among several sources. degraded_for: how long Degraded must last to be believed.
    timeout: from the operation's start to the end of waiting for health.
    """

    intent: str
    contains: frozenset[str]
    source: int = 0
    prune: bool = False
    degraded_for: timedelta = timedelta(seconds=15)
    timeout: timedelta = timedelta(minutes=10)

    def has(self, revisions: Sequence[str]) -> bool:
        """Whether our commit is in what was compared or applied."""
        if not revisions:
            return False
        place = self.source if self.source < len(revisions) else 0
        return revisions[place] in self.contains


@dataclass(frozen=True, slots=True)
class View:
    """What an application means for one intent. stale: ask Argo CD to compare again before believing it."""

    progress: SyncProgress
    stale: bool = False


def judge(app: Application, wanted: Wanted, now: datetime) -> View | None:
    """How far the intent is in this application; None if it was surely never started there.

    An operation is ours if it carries the intent, or if it applied our commit: Argo CD's own automatic sync may have
    been faster. `Succeeded` is not done: what was applied, compared and healthy must all be about our commit.
    """
    if app.ours == wanted.intent:
        return _judge_own(app, wanted, now)
    if app.is_busy:
        return View(_progress(app, SyncState.PENDING, _who_is_busy(app)))
    if app.state is not None and app.state.phase == "Succeeded" and wanted.has(app.state.revisions):
        return _judge_applied(app, app.state, wanted, now)
    return None


def _judge_own(app: Application, wanted: Wanted, now: datetime) -> View:
    state = app.state
    if state is None or state.operation.intent != wanted.intent:
        return View(_progress(app, SyncState.PENDING, "Argo CD has taken the sync and will begin it."))
    if app.is_busy:
        return View(_progress(app, SyncState.RUNNING, _running_message(state)))
    if state.phase != "Succeeded":
        return View(_progress(app, SyncState.FAILED, state.message or f"The sync ended as {state.phase}."))
    if not wanted.has(state.revisions):
        # An application that follows its branch was synced before Argo CD saw our commit: once more.
        applied = ", ".join(revision[:12] for revision in state.revisions) or "nothing"
        return View(_progress(app, SyncState.INTERRUPTED, f"Argo CD synced {applied}, not the commit that was asked."))
    return _judge_applied(app, state, wanted, now)


def _judge_applied(app: Application, state: OperationState, wanted: Wanted, now: datetime) -> View:
    """Applied; now it must be seen compared, without errors, in sync, and healthy."""
    waiting = ""
    if not app.is_fresh:
        waiting = "Applied; waiting until Argo CD has looked again."
    elif not wanted.has(app.compared):
        waiting = "Applied; Argo CD still compares with another commit."
    elif app.error:
        waiting = app.error
    elif _differs(app, wanted):
        waiting = f"Applied, but Argo CD sees it {app.sync_status}."
    if waiting:
        return View(_wait(app, state, wanted, now, waiting), stale=True)
    return View(_judge_health(app, state, wanted, now), stale=False)


def _judge_health(app: Application, state: OperationState, wanted: Wanted, now: datetime) -> SyncProgress:
    message = f"Health: {app.health}."
    match app.health:
        case "Healthy":
            return _progress(app, SyncState.SUCCEEDED, "")
        case "Suspended":
            return _progress(app, SyncState.SUSPENDED, "Paused at gray.")
        case "Degraded":
            since = max(app.health_since_at or now, state.finished_at or now)
            if now - since >= wanted.degraded_for:
                return _progress(app, SyncState.FAILED, _degraded(app))
    return _wait(app, state, wanted, now, message)


def with_children(
    app: Application, children: Sequence[Application], wanted: Wanted, now: datetime, progress: SyncProgress
) -> View:
    """The progress of an application that is done, when those below it are seen: Argo CD leaves their health out."""
    state = app.state
    if state is None:
        return View(progress)
    for child in children:
        if child.is_busy or child.health != "Degraded":
            continue
        if now - max(child.health_since_at or now, state.finished_at or now) >= wanted.degraded_for:
            return View(_progress(app, SyncState.FAILED, _degraded(child)))
    stale = [child for child in children if not _compared_since(child, state.finished_at)]
    unready = next((child for child in children if child in stale or not _is_well(child)), None)
    if unready is None:
        return View(progress)
    said = unready.error or f"{unready.sync_status}, {unready.health}"
    return View(_wait(app, state, wanted, now, f"Waiting for the application {unready.name} below it: {said}."), True)


def _is_well(app: Application) -> bool:
    return not (app.is_busy or app.error) and (app.sync_status, app.health) == ("Synced", "Healthy")


def _compared_since(app: Application, at: datetime | None) -> bool:
    return app.is_fresh and (at is None or (app.reconciled_at is not None and app.reconciled_at >= at))


def _wait(app: Application, state: OperationState, wanted: Wanted, now: datetime, message: str) -> SyncProgress:
    # A gray pause may have lasted hours: what comes after it has its own time.
    since = max(at for at in (state.started_at, state.finished_at, app.health_since_at, _LONG_AGO) if at is not None)
    if now - since >= wanted.timeout:
        minutes = wanted.timeout.total_seconds() / 60
        return _progress(app, SyncState.FAILED, f"Not done after {minutes:g} min. {message}")
    return _progress(app, SyncState.RUNNING, message)


def _differs(app: Application, wanted: Wanted) -> bool:
    """Whether live and Git differ by more than what we were told not to prune."""
    if app.sync_status == "Synced":
        return False
    odd = [resource for resource in app.resources if resource.status not in ("Synced", "") and not resource.hook]
    return wanted.prune or not odd or any(not resource.requires_pruning for resource in odd)


def _running_message(state: OperationState) -> str:
    if state.message.startswith(BLOCKED_BY_WINDOW):
        return "Argo CD's sync window has closed: the sync goes on by itself when it opens."
    return state.message


def _who_is_busy(app: Application) -> str:
    operation = app.operation or (app.state.operation if app.state is not None else None)
    who = operation.username if operation is not None else ""
    if operation is not None and operation.automated:
        who = "automatic sync"
    message = app.state.message if app.state is not None else ""
    blocked = " It waits for a sync window." if message.startswith(BLOCKED_BY_WINDOW) else ""
    return f"Another operation{f' ({who})' if who else ''} is in progress on {app.name}; it is waited for.{blocked}"


def _degraded(app: Application) -> str:
    bad = [resource for resource in app.resources if resource.health == "Degraded"]
    what = "; ".join(f"{item.key[1]}/{item.key[3]} {item.message}".strip() for item in bad[:3])
    return f"{app.name} is Degraded{f': {what}' if what else ''}."


# --- how many of how many


def _progress(app: Application, state: SyncState, message: str) -> SyncProgress:
    applied, healthy, total = count(app)
    done = state in (SyncState.SUCCEEDED, SyncState.SUSPENDED)
    percent = 100 if done else min(99, round(50 * (applied + healthy) / total)) if total else 0
    return SyncProgress(state, message, applied, healthy, total, percent)


def count(app: Application) -> tuple[int, int, int]:
    """Applied, settled, and all resources of the operation in place.

    Results appear wave by wave, so all are counted from what the application manages; hooks as they are seen. After
    the end, an untouched resource that is in sync counts as applied (`ApplyOutOfSyncOnly` gives it no result).
    """
    results = app.state.results if app.state is not None else ()
    by_key = {result.key: result for result in results if not result.hook}
    hooks = {(*result.key, result.sync_phase): result for result in results if result.hook}
    ended = not app.is_busy
    applied = settled = 0
    for resource in _managed(app):
        result = by_key.pop(resource.key, None)
        is_applied = result.is_applied if result is not None else ended and resource.status == "Synced"
        applied += is_applied
        settled += is_applied and resource.health in _SETTLED
    rest = [*by_key.values(), *hooks.values()]
    done = sum(result.is_applied for result in rest)
    return applied + done, settled + done, sum(1 for _ in _managed(app)) + len(rest)


def _managed(app: Application) -> Iterator[Resource]:
    return (resource for resource in app.resources if not resource.hook)
