"""When a sync is done, and what else an application may be telling: a table with the near misses in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.delivery.argocd_model import INTENT, Wanted, count, judge, parse_application
from bot.delivery.base import SyncState

W = "a" * 40
NEWER = "b" * 40
OLD = "0" * 40
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
OURS = [{"name": INTENT, "value": "d-1"}]
WANTED = Wanted("d-1", frozenset({W, NEWER}))


def at(seconds: int) -> str:
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def app(**changes: Any) -> dict[str, Any]:
    """Done in every respect; changes: `path__to__field` -> value, None takes the field away."""
    body: dict[str, Any] = {
        "metadata": {"name": "web", "namespace": "argocd", "resourceVersion": "7"},
        "spec": {"project": "shop", "source": {"targetRevision": "main"}},
        "status": {
            "sync": {"status": "Synced", "revision": W},
            "health": {"status": "Healthy", "lastTransitionTime": at(5)},
            "reconciledAt": at(10),
            "operationState": {
                "phase": "Succeeded",
                "startedAt": at(0),
                "finishedAt": at(10),
                "operation": {"info": OURS, "sync": {"revision": W}},
                "syncResult": {"revision": W},
            },
        },
    }
    for path, value in changes.items():
        *parents, name = path.split("__")
        place = body
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(name, None)
        else:
            place[name] = value
    return body


STATE = "status__operationState"
CASES: list[tuple[str, dict[str, Any], SyncState | None, str]] = [
    ("all of it", {}, SyncState.SUCCEEDED, ""),
    ("a newer commit that contains ours", {"status__sync__revision": NEWER}, SyncState.SUCCEEDED, ""),
    ("no status at all", {"status": None}, None, ""),
    ("an old commit, synced and healthy", {STATE: None, "status__sync__revision": OLD}, None, ""),
    ("asked for and not begun", {STATE: None, "operation": {"info": OURS}}, SyncState.PENDING, "has taken"),
    (
        "running",
        {"operation": {"info": OURS}, f"{STATE}__phase": "Running", f"{STATE}__message": "waiting for hook"},
        SyncState.RUNNING,
        "waiting for hook",
    ),
    (
        "between two attempts: finishedAt is set and it is not over",
        {"operation": {"info": OURS}, f"{STATE}__phase": "Running", f"{STATE}__retryCount": 1},
        SyncState.RUNNING,
        "",
    ),
    (
        "a window closed in the middle",
        {
            "operation": {"info": OURS},
            f"{STATE}__phase": "Running",
            f"{STATE}__message": "Sync operation blocked by sync window",
        },
        SyncState.RUNNING,
        "goes on by itself",
    ),
    ("failed", {f"{STATE}__phase": "Failed", f"{STATE}__message": "no"}, SyncState.FAILED, "no"),
    ("errored", {f"{STATE}__phase": "Error", f"{STATE}__message": "no cluster"}, SyncState.FAILED, "no cluster"),
    ("ours, but another commit", {f"{STATE}__syncResult": {"revision": OLD}}, SyncState.INTERRUPTED, "000000"),
    ("another commit compared", {"status__sync__revision": OLD}, SyncState.RUNNING, "another commit"),
    ("compared before it ended", {"status__reconciledAt": at(9)}, SyncState.RUNNING, "looked again"),
    ("never compared", {"status__reconciledAt": None}, SyncState.RUNNING, "looked again"),
    ("out of sync", {"status__sync__status": "OutOfSync"}, SyncState.RUNNING, "OutOfSync"),
    (
        "out of sync by what we must not prune",
        {
            "status__sync__status": "OutOfSync",
            "status__resources": [{"kind": "ConfigMap", "name": "x", "status": "OutOfSync", "requiresPruning": True}],
        },
        SyncState.SUCCEEDED,
        "",
    ),
    (
        "an error beside it",
        {"status__conditions": [{"type": "ComparisonError", "message": "no repo"}]},
        SyncState.RUNNING,
        "ComparisonError: no repo",
    ),
    (
        "a warning beside it",
        {"status__conditions": [{"type": "OrphanedResourceWarning", "message": "x"}]},
        SyncState.SUCCEEDED,
        "",
    ),
    ("progressing", {"status__health__status": "Progressing"}, SyncState.RUNNING, "Progressing"),
    ("missing", {"status__health__status": "Missing"}, SyncState.RUNNING, "Missing"),
    ("paused at gray", {"status__health__status": "Suspended"}, SyncState.SUSPENDED, "gray"),
    (
        "degraded for a moment",
        {"status__health": {"status": "Degraded", "lastTransitionTime": at(20)}},
        SyncState.RUNNING,
        "Degraded",
    ),
    (
        "degraded, and it stays",
        {"status__health": {"status": "Degraded", "lastTransitionTime": at(11)}},
        SyncState.FAILED,
        "Degraded",
    ),
    (
        "degraded since long before: our change has its own moment",
        {"status__health": {"status": "Degraded", "lastTransitionTime": at(-999)}, f"{STATE}__finishedAt": at(20)}
        | {"status__reconciledAt": at(21)},
        SyncState.RUNNING,
        "Degraded",
    ),
    (
        "somebody else's operation in place",
        {"operation": {"info": [], "initiatedBy": {"username": "amy"}}},
        SyncState.PENDING,
        "(amy) is in progress",
    ),
    (
        "automatic sync was faster, with our commit",
        {f"{STATE}__operation": {"initiatedBy": {"automated": True}}},
        SyncState.SUCCEEDED,
        "",
    ),
    (
        "automatic sync of another commit",
        {f"{STATE}__operation": {"initiatedBy": {"automated": True}}, f"{STATE}__syncResult": {"revision": OLD}},
        None,
        "",
    ),
    (
        "somebody else's failed with our commit",
        {f"{STATE}__operation": {"initiatedBy": {"username": "amy"}}, f"{STATE}__phase": "Failed"},
        None,
        "",
    ),
    ("nothing applied yet", {f"{STATE}__syncResult": None}, SyncState.INTERRUPTED, "nothing"),
]


@pytest.mark.parametrize(("changes", "state", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_done_means_our_commit_seen_running(changes: dict[str, Any], state: SyncState | None, said: str) -> None:
    """`Succeeded` alone is no proof: every row but the first lacks one thing."""
    view = judge(parse_application(app(**changes)), WANTED, START + timedelta(seconds=30))
    assert (view.progress.state if view is not None else None) == state
    assert said in (view.progress.message if view is not None else "")


def test_it_ends_at_the_deadline_and_says_what_it_waited_for() -> None:
    """A deployment that never becomes healthy must end, in words that help."""
    body = app(status__health={"status": "Progressing", "lastTransitionTime": at(12)})
    early = judge(parse_application(body), WANTED, START + timedelta(seconds=611))
    late = judge(parse_application(body), WANTED, START + timedelta(seconds=612))
    assert early is not None
    assert early.progress.state is SyncState.RUNNING
    assert late is not None
    assert late.progress.state is SyncState.FAILED
    assert late.progress.message == "Not done after 10 min. Health: Progressing."


def test_a_long_gray_pause_does_not_use_up_the_time_after_it() -> None:
    """Two hours at gray, then full: it has its ten minutes from there."""
    body = app(status__health={"status": "Progressing", "lastTransitionTime": at(7200)})
    view = judge(parse_application(body), WANTED, START + timedelta(seconds=7260))
    assert view is not None
    assert view.progress.state is SyncState.RUNNING


def test_what_is_stale_is_asked_for_again() -> None:
    """Only Argo CD can compare; a poll without a refresh would wait for its next round, minutes later."""
    for changes, stale in (({"status__reconciledAt": at(1)}, True), ({"status__health__status": "Progressing"}, False)):
        view = judge(parse_application(app(**changes)), WANTED, START + timedelta(seconds=30))
        assert view is not None
        assert view.stale is stale


def test_counts_are_of_all_resources_and_not_of_those_with_a_result() -> None:
    """Results appear wave by wave: their number would make 3 of 3 out of 3 of 12."""
    resources = [
        {"kind": "Deployment", "name": "a", "status": "Synced", "health": {"status": "Healthy"}},
        {"kind": "Deployment", "name": "b", "status": "OutOfSync", "health": {"status": "Progressing"}},
        {"kind": "Service", "name": "c", "status": "Synced"},
        {"kind": "Job", "name": "old-hook", "hook": True},
    ]
    results = [
        {"kind": "Deployment", "name": "a", "status": "Synced"},
        {"kind": "Job", "name": "migrate", "hookType": "PreSync", "hookPhase": "Succeeded", "syncPhase": "PreSync"},
    ]
    body = app(
        operation={"info": OURS},
        status__resources=resources,
        status__operationState__phase="Running",
        status__operationState__syncResult={"resources": results},
    )
    assert count(parse_application(body)) == (2, 2, 4)
    del body["operation"]
    body["status"]["operationState"]["phase"] = "Succeeded"
    assert count(parse_application(body)) == (3, 3, 4)


def test_many_sources_are_judged_by_ours() -> None:
    """The chart's revision beside ours is none of our business."""
    body = app(
        status__sync={"status": "Synced", "revisions": ["1.2.3", W]},
        status__operationState__syncResult={"revisions": ["1.2.3", W]},
    )
    second = Wanted("d-1", frozenset({W}), source=1)
    first = Wanted("d-1", frozenset({W}), source=0)
    now = START + timedelta(seconds=30)
    states = [
        view.progress.state for wanted in (second, first) if (view := judge(parse_application(body), wanted, now))
    ]
    assert states == [SyncState.SUCCEEDED, SyncState.INTERRUPTED]
