"""The four keys: what counts as a change, as a failure, as restored; every near miss has its row here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.catalog.model import Kind
from bot.deployments.model import State
from bot.reports.measures import Ended, by_team, days_of, measured

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAYS = days_of(MONDAY.replace(hour=0), MONDAY.replace(hour=0) + timedelta(days=7), UTC)


def one(number: int = 1, **values: Any) -> Ended:
    """A good change of prod; `values` make it another."""
    usual: dict[str, Any] = {
        "service": "pay",
        "team": "shop",
        "environment": "prod",
        "kind": Kind.NORMAL,
        "state": State.SUCCEEDED,
        "ended_at": MONDAY,
        "changed": True,
    }
    return Ended(ref=f"d-{number}", **(usual | values))


def figures(*found: Ended) -> Any:
    return measured(found, ["prod"], DAYS, UTC)


@pytest.mark.parametrize(
    ("values", "changes", "failures"),
    [
        ({}, 1, 0),
        ({"state": State.FAILED}, 1, 1),
        ({"state": State.ROLLED_BACK}, 1, 1),
        ({"undone": True}, 1, 1),
        ({"kind": Kind.HOTFIX}, 1, 0),
        ({"kind": Kind.PROMOTION, "state": State.FAILED}, 1, 1),
        ({"state": State.CANCELLED}, 1, 0),
        ({"kind": Kind.ROLLBACK}, 0, 0),
        ({"kind": Kind.ROLLBACK, "state": State.FAILED}, 0, 0),
        ({"environment": "dev", "state": State.FAILED}, 0, 0),
        ({"changed": False, "state": State.FAILED}, 0, 0),
        ({"changed": False}, 0, 0),
        ({"state": State.REJECTED, "changed": False}, 0, 0),
    ],
)
def test_what_counts(values: dict[str, Any], changes: int, failures: int) -> None:
    """A change is what may have changed production; a failed build never reached it, a rollback is the repair."""
    found = figures(one(**values))
    assert (found.changes, len(found.failures)) == (changes, failures)


def test_rates_and_medians() -> None:
    """One of four failed; the middle commit waited a day; the repair took twenty minutes."""
    leads = (timedelta(hours=1), timedelta(days=1), timedelta(days=3))
    found = figures(
        one(1, leads=leads),
        one(2),
        one(3, kind=Kind.HOTFIX),
        one(4, state=State.ROLLED_BACK, broke_at=MONDAY, restored_at=MONDAY + timedelta(minutes=20)),
    )
    assert found.failure_rate == 0.25
    assert found.failures == ("d-4",)
    assert (found.lead_time, found.lead_commits) == (timedelta(days=1), 3)
    assert found.time_to_restore == timedelta(minutes=20)
    assert found.broken == ()


def test_what_is_still_broken_is_named_and_not_averaged() -> None:
    """A target that nobody has repaired would make the time to restore look better than it is."""
    found = figures(one(1, state=State.FAILED, broke_at=MONDAY), one(2, state=State.FAILED, broke_at=MONDAY))
    assert found.time_to_restore is None
    assert found.broken == ("pay/prod",)


def test_nothing_is_no_number() -> None:
    """An idle week has no failure rate of 0 %."""
    found = figures()
    assert (found.failure_rate, found.lead_time, found.time_to_restore, found.deployments) == (None, None, None, 0)


def test_days_are_those_of_the_zone() -> None:
    """A deployment at 23:30 UTC is tomorrow's in Shanghai; refused and cancelled ones are no bar."""
    from zoneinfo import ZoneInfo

    shanghai = ZoneInfo("Asia/Shanghai")
    start = datetime(2026, 1, 5, tzinfo=shanghai)
    days = days_of(start, start + timedelta(days=2), shanghai)
    late = datetime(2026, 1, 5, 23, 30, tzinfo=UTC)
    found = [one(1, ended_at=late), one(2, ended_at=late, state=State.FAILED), one(3, state=State.REFUSED)]
    assert measured(found, ["prod"], days, shanghai).days == ((0, 0), (1, 1))


def test_the_slowest_stages_come_first_with_their_worst() -> None:
    """Whoever wants to be faster sees where, and looks at one example."""
    found = figures(
        one(1, stages={"build": 60.0, "deploy": 5.0}),
        one(2, stages={"build": 100.0, "deploy": 300.0, "pipeline: test": 55.0}),
        one(3, stages={"build": 80.0, "deploy": 6.0, "queue": 1.0}),
    )
    assert [(stage.name, stage.median, stage.longest, stage.ref) for stage in found.slowest] == [
        ("build", 80.0, 100.0, "d-2"),
        ("pipeline: test", 55.0, 55.0, "d-2"),
        ("deploy", 6.0, 300.0, "d-2"),
        ("queue", 1.0, 1.0, "d-3"),
    ]


def test_emergencies_are_listed_and_teams_are_apart() -> None:
    """Also those of other environments."""
    found = [one(1, emergency=True), one(2, team="core", environment="dev", emergency=True), one(3, team="core")]
    assert figures(*found).emergency == ("d-1", "d-2")
    assert {team: len(each) for team, each in by_team(found).items()} == {"core": 2, "shop": 1}
