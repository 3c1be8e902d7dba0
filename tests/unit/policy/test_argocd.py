"""Sync windows made of ours, judged as Argo CD judges them: they never allow what we do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bot.catalog.model import Calendar, Catalog, DayKind, Freeze, Scope, Window
from bot.policy.argocd import SyncWindow, sync_windows
from bot.policy.cron import parse_cron
from bot.policy.decide import decide
from bot.policy.model import Facts, Outcome
from tests.support.rules import a_catalog, a_freeze, a_request, a_window, utc

START = utc(2026, 1, 1)


def is_active(entry: SyncWindow, now: datetime) -> bool:
    """Argo CD's own rule: some firing w of the cron, on the zone's wall clock, with w < wall < w + duration."""
    cron = parse_cron(entry.schedule)
    wall = now.astimezone(ZoneInfo(entry.zone)).replace(tzinfo=None)
    days = min(entry.duration.days + 2, 800)
    for back in range(days):
        day: date = wall.date() - timedelta(days=back)
        if not cron.on(day):
            continue
        for at in cron.times:
            fired = datetime.combine(day, at)
            if fired < wall < fired + entry.duration:
                return True
    return False


def may_sync(entries: list[SyncWindow], application: str, now: datetime) -> bool:
    """`CanSync` for an automatic sync."""
    mine = [one for one in entries if application in one.applications]
    if any(one.kind == "deny" and is_active(one, now) for one in mine):
        return False
    allows = [one for one in mine if one.kind == "allow"]
    return not allows or any(is_active(one, now) for one in allows)


zones = st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
quarters = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 45]))
moments = st.integers(0, 366 * 1440).map(lambda minutes: START + timedelta(minutes=minutes))
scopes = st.sampled_from(
    [Scope(), Scope(environments=("prod",)), Scope(environments=("dev",)), Scope(kinds=("hotfix",))]
)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Weekly, by cron or bounded."""
    days = tuple(sorted(draw(st.sets(st.integers(0, 6), min_size=1))))
    zone, scope = draw(zones), draw(scopes)
    made = replace(a_window(days=days, zone=zone, scope=scope), start=draw(quarters), end=draw(quarters))
    kind = draw(st.integers(0, 5))
    if kind == 0:
        cron = draw(st.sampled_from(["0 9 * * mon-fri", "30 */6 1,15 * 1", "15 2 */2 * mon", "0 0 1 1 *"]))
        length = timedelta(hours=draw(st.integers(1, 30)))
        return replace(made, days=(), cron=cron, duration=length)
    return replace(made, until_at=draw(moments)) if kind == 1 else made


@st.composite
def freezes(draw: st.DrawFn) -> Freeze:
    """Dated, without an end, or recurring."""
    start = draw(moments)
    length = draw(st.integers(1, 60 * 24 * 20))
    end = draw(st.sampled_from([start + timedelta(minutes=length), start + timedelta(seconds=length), None]))
    recurs = replace(draw(windows()), scope=Scope(), until_at=None) if draw(st.booleans()) else None
    exempt = draw(st.sampled_from([(), ("normal",), ("rollback",)]))
    return a_freeze(start, end, scope=draw(scopes), recurs=recurs, exempt_kinds=exempt)


def edges(catalog: Catalog, near: datetime) -> list[datetime]:
    """Instants where the two might differ: around every quarter of an hour of a day."""
    base = near.replace(minute=0, second=0, microsecond=0)
    steps = [base + timedelta(minutes=15 * n) for n in range(-48, 48)]
    tick = timedelta(microseconds=1)
    fixed = [edge for one in catalog.freezes for edge in (one.start_at, one.end_at) if edge]
    return [edge + by for edge in (*steps, *fixed) for by in (-tick, timedelta(0), tick)]


@settings(max_examples=120, deadline=None)
@given(
    known=st.lists(windows(), max_size=2),
    frozen=st.lists(freezes(), max_size=2),
    at=moments,
    change=st.booleans(),
    zone=zones,
)
def test_argo_cd_never_allows_more_than_we_do(
    known: list[Window], frozen: list[Freeze], at: datetime, change: bool, zone: str
) -> None:
    """A sync by another hand in our closed time would make the windows a decoration."""
    if change:  # near a change of clocks
        found = [
            START + timedelta(days=n)
            for n in range(366)
            if (START + timedelta(days=n)).astimezone(ZoneInfo(zone)).utcoffset()
            != (START + timedelta(days=n + 1)).astimezone(ZoneInfo(zone)).utcoffset()
        ]
        assume(found)
        at = found[at.minute % len(found)]
    catalog = a_catalog(windows=tuple(known), freezes=tuple(frozen))
    entries = sync_windows(catalog, now=START)
    for moment in edges(catalog, at):
        if may_sync(entries, "pay-prod", moment):
            assert decide(catalog, a_request(), Facts(), moment).outcome is Outcome.ALLOWED, moment


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
@pytest.mark.parametrize("hours", ["01:30-02:30", "00:30-01:30", "02:00-03:00", "23:45-00:15", "00:00-00:00"])
def test_a_weekly_freeze_is_denied_at_every_edge(zone: str, hours: str) -> None:
    """The exact first instant, and the hour that comes twice, are where Argo CD would let a sync through."""
    recurs = a_window(days=tuple(range(7)), hours=hours, zone=zone)
    catalog = a_catalog(freezes=(a_freeze(utc(2000, 1, 1), None, recurs=recurs),))
    entries = sync_windows(catalog, now=START)
    for day in (
        utc(2026, 3, 8),
        utc(2026, 3, 29),
        utc(2026, 4, 5),
        utc(2026, 10, 4),
        utc(2026, 10, 25),
        utc(2026, 11, 1),
    ):
        for moment in edges(catalog, day):
            allowed = decide(catalog, a_request(), Facts(), moment).outcome is Outcome.ALLOWED
            assert allowed or not may_sync(entries, "pay-prod", moment), moment


@pytest.mark.parametrize("length", [timedelta(seconds=1), timedelta(minutes=1), timedelta(days=3), timedelta(days=500)])
def test_a_dated_freeze_is_denied_at_every_edge(length: timedelta) -> None:
    """To the microsecond, whatever its length."""
    catalog = a_catalog(freezes=(a_freeze(utc(2026, 2, 28, 23, 59, 30), utc(2026, 2, 28, 23, 59, 30) + length),))
    entries = sync_windows(catalog, now=START)
    for moment in edges(catalog, utc(2026, 3, 1)):
        allowed = decide(catalog, a_request(), Facts(), moment).outcome is Outcome.ALLOWED
        assert allowed or not may_sync(entries, "pay-prod", moment), moment


def test_a_weekly_window_is_said_exactly() -> None:
    """Safe would be to deny everything; an ordinary window must still be open in Argo CD."""
    catalog = a_catalog(windows=(a_window(days=(4, 6), hours="22:00-02:00", zone="Europe/Berlin"),))
    (entry,) = sync_windows(catalog, now=START)
    assert entry.written() == {
        "kind": "allow",
        "schedule": "0 22 * * fri,sun",
        "duration": "240m",
        "timeZone": "Europe/Berlin",
        "applications": ["pay-dev", "pay-prod"],
        "manualSync": False,
        "description": "w",
    }
    assert may_sync([entry], "pay-prod", datetime(2026, 1, 9, 22, 30, tzinfo=UTC))


def test_what_cannot_be_said_is_shut() -> None:
    """A window by a calendar would otherwise leave the application without any, which Argo CD reads as open."""
    china = Calendar("china", "CN")
    window = a_window(calendar=china, on=DayKind.WORKDAYS, days=tuple(range(7)))
    (entry,) = sync_windows(a_catalog(windows=(window,)), now=START)
    assert (entry.kind, entry.schedule) == ("deny", "* * * * *")
    assert not may_sync([entry], "pay-prod", utc(2026, 3, 4, 12))
