"""When a job is due: across clock changes, after sleep, and never twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.catalog.model import Periodic, SourceLine
from bot.schedule.jobs import plan
from bot.schedule.occurrences import due, next_after


def job(cron: str = "", every: timedelta | None = None, zone: str = "UTC", missed: str = "skip") -> Periodic:
    return Periodic("nightly", "status", "robot", zone, SourceLine("a.yaml", 1), cron=cron, every=every, missed=missed)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-03-28", "2026-03-28T01:30"),  # the day before: 02:30 is +1
        ("2026-03-29", "2026-03-29T01:00"),  # 02:30 does not exist: at 03:00, right after the gap
        ("2026-03-30", "2026-03-30T00:30"),  # +2
        ("2026-10-25", "2026-10-25T00:30"),  # 02:30 comes twice: the first one
        ("2026-10-26", "2026-10-26T01:30"),
    ],
)
def test_once_a_day_is_once_a_day_across_clock_changes(day: str, expected: str) -> None:
    """A nightly job neither disappears in spring nor runs twice in autumn."""
    found = due(job("30 2 * * *", zone="Europe/Berlin"), at(f"{day}T00:00") - timedelta(hours=1), at(f"{day}T12:00"))
    assert found == [at(expected)]


def test_intervals_know_no_clocks() -> None:
    """Every 30 minutes is every 30 minutes of real time, on the hour, on every replica the same."""
    found = due(job(every=timedelta(minutes=30)), at("2026-10-25T00:10"), at("2026-10-25T02:00"))
    assert found == [at("2026-10-25T00:30"), at("2026-10-25T01:00"), at("2026-10-25T01:30"), at("2026-10-25T02:00")]


def test_an_occurrence_belongs_to_the_interval_that_ends_with_it() -> None:
    """Half-open, so that two looks in a row neither share nor lose one."""
    nightly = job("0 2 * * *")
    assert due(nightly, at("2026-01-01T01:00"), at("2026-01-01T02:00")) == [at("2026-01-01T02:00")]
    assert due(nightly, at("2026-01-01T02:00"), at("2026-01-01T03:00")) == []


def test_the_next_one_may_be_far_away_or_nowhere() -> None:
    """29 February, and a day that does not exist."""
    assert next_after(job("0 0 29 2 *"), at("2026-01-01T00:00")) == at("2028-02-29T00:00")
    assert next_after(job("0 0 31 2 *"), at("2026-01-01T00:00")) is None


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", [("2026-01-04T02:00", "skipped")]),
        ("once", [("2026-01-04T02:00", "running")]),
        ("all", [(f"2026-01-0{day}T02:00", "running") for day in (2, 3, 4)]),
    ],
)
def test_what_was_slept_through(missed: str, expected: list[tuple[str, str]]) -> None:
    """Three nights of downtime: nothing, one run, or three, as the job says."""
    found = plan(job("0 2 * * *", missed=missed), at("2026-01-01T02:00"), at("2026-01-04T09:00"))
    assert [(instant, outcome) for instant, _, outcome in found] == [(at(text), word) for text, word in expected]


def test_a_late_look_is_not_a_missed_run() -> None:
    """A busy loop of some seconds changes nothing, whatever the job says about missed ones."""
    found = plan(job("0 2 * * *"), at("2026-01-01T02:00"), at("2026-01-02T02:00:20"))
    assert [outcome for _, _, outcome in found] == ["running"]
