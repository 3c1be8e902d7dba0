"""Windows against an oracle that looks at every minute, and at the edges where mistakes live."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.catalog.model import Calendar, DayKind, Window
from bot.policy import windows
from bot.policy.windows import (
    HORIZON,
    closing,
    is_open,
    next_opening,
    spans,
    union_change,
    union_closing,
)
from tests.support.rules import a_window, utc

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ZONES = (
    "UTC",
    "Asia/Shanghai",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Asia/Gaza",
    "Europe/Berlin",
    "Europe/Dublin",
    "Africa/Casablanca",
    "America/New_York",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Apia",
)


def oracle(window: Window, at: datetime, days: int = 2) -> list[tuple[datetime, bool]]:
    """Every minute of `days` after `at`, and whether wall clocks say that the window is open.

    A day's occurrence begins with the first minute whose wall time has reached the start, and ends after the last one
    whose wall time is before the end: so skipped times begin at the jump, and a repeated hour is never cut.
    """
    zone, first = ZoneInfo(window.zone), at - 4 * DAY
    minutes = [first + MINUTE * n for n in range((days + 8) * 1440)]
    walls = [one.astimezone(zone).replace(tzinfo=None) for one in minutes]
    opened: set[datetime] = set()
    day, last = walls[1440].date(), walls[-1440].date()
    while day <= last:
        if day.weekday() in window.days:
            opened |= set(occurrence(window, day, minutes, walls))
        day += DAY
    return [(one, one in opened) for one in minutes if at <= one < at + DAY * days]


def occurrence(window: Window, day: date, minutes: list[datetime], walls: list[datetime]) -> list[datetime]:
    """The minutes of one day's occurrence."""
    start = datetime.combine(day, window.start)
    end = datetime.combine(day if window.end > window.start else day + DAY, window.end)
    begin = next(n for n, wall in enumerate(walls) if wall >= start)
    beyond = next(n for n in reversed(range(len(walls))) if walls[n] < end)
    return minutes[begin : beyond + 1]


def transitions(zone_name: str, year: int) -> list[datetime]:
    """The days of a year before which the zone's offset changes."""
    zone = ZoneInfo(zone_name)
    days = [datetime(year, 1, 1, tzinfo=UTC) + DAY * n for n in range(366)]
    return [one for one in days if one.astimezone(zone).utcoffset() != (one + DAY).astimezone(zone).utcoffset()]


def agree(window: Window, at: datetime) -> None:
    """The window and the oracle say the same for two days from an instant."""
    for minute, wanted in oracle(window, at):
        assert is_open(window, minute) is wanted, (window.zone, minute.isoformat())


quarters = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 45]))


@settings(max_examples=40, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    year=st.integers(2005, 2035),
    which=st.integers(0, 400),
    days=st.sets(st.integers(0, 6), min_size=1),
    start=quarters,
    end=quarters,
)
def test_every_minute_agrees_with_wall_clocks(
    zone: str, year: int, which: int, days: set[int], start: time, end: time
) -> None:
    """A window that is an hour off on one day of the year lets a release out at night."""
    window = a_window(days=tuple(sorted(days)), zone=zone)
    window = Window("w", window.scope, window.days, start, end, zone, window.source)
    changes = transitions(zone, year)
    at = changes[which % len(changes)] - DAY / 2 if changes and which % 4 else utc(year, 1, 1) + DAY * (which % 365)
    agree(window, at)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("hours", ["02:00-03:00", "23:30-00:30", "00:00-00:00", "01:30-02:30"])
def test_clock_changes_of_every_zone(zone: str, hours: str) -> None:
    """The hours that are skipped or come twice, whole days, and midnight itself, at each change of 2011."""
    for change in transitions(zone, 2011):
        agree(a_window(days=tuple(range(7)), hours=hours, zone=zone), change - DAY / 2)


def test_both_edges_are_half_open() -> None:
    """Open at the start, closed at the end, to the microsecond."""
    window = a_window(hours="10:00-18:00", zone="Asia/Shanghai")
    start, end = utc(2026, 1, 6, 2), utc(2026, 1, 6, 10)
    tick = timedelta(microseconds=1)
    assert [is_open(window, at) for at in (start - tick, start, end - tick, end)] == [False, True, True, False]


def test_overnight_belongs_to_the_day_it_starts_on() -> None:
    """Friday 22:00 to 02:00 is open on Saturday morning, and not on Friday morning."""
    window = a_window(days=(4,), hours="22:00-02:00")
    assert is_open(window, utc(2026, 1, 10, 1, 59))
    assert not is_open(window, utc(2026, 1, 10, 2))
    assert not is_open(window, utc(2026, 1, 9, 1))


def test_whole_days_run_into_each_other() -> None:
    """Midnight between two open days is no edge: nobody should be told that it closes then."""
    window = a_window(days=(0, 1), hours="00:00-00:00")
    assert closing(window, utc(2026, 1, 5, 12)) == utc(2026, 1, 7)
    assert closing(a_window(days=tuple(range(7)), hours="00:00-00:00"), utc(2026, 1, 5)) is None


def test_a_window_in_a_gap_opens_next_week() -> None:
    """02:00 to 03:00 does not exist on the day the clocks jump over it; a search of one week would say never."""
    window = a_window(days=(6,), hours="02:00-03:00", zone="America/New_York")
    assert next_opening(window, utc(2026, 3, 1, 9)) == utc(2026, 3, 15, 6)


def test_a_dated_window_is_its_dates() -> None:
    """Open from the first instant to the last, once."""
    window = a_window(days=(), hours="00:00-00:00", from_at=utc(2026, 2, 1), until_at=utc(2026, 2, 3))
    assert list(spans(window, utc(2026, 1, 1), utc(2026, 12, 1))) == [(utc(2026, 2, 1), utc(2026, 2, 3))]
    assert next_opening(window, utc(2026, 2, 3)) is None


def test_a_weekly_window_keeps_to_its_dates() -> None:
    """An occurrence that lies across the last instant is cut there."""
    window = a_window(hours="10:00-18:00", until_at=utc(2026, 1, 6, 12))
    assert closing(window, utc(2026, 1, 6, 11)) == utc(2026, 1, 6, 12)
    assert next_opening(window, utc(2026, 1, 6, 12)) is None


def test_cron_opens_for_its_duration() -> None:
    """The first working Tuesday pattern of a company: the duration is real time, the start is wall time."""
    window = a_window(
        days=(), hours="00:00-00:00", cron="30 9 * * tue", duration=timedelta(hours=2), zone="Europe/Berlin"
    )
    assert next_opening(window, utc(2026, 3, 27)) == utc(2026, 3, 31, 7, 30)
    assert closing(window, utc(2026, 3, 31, 8)) == utc(2026, 3, 31, 9, 30)


def test_cron_spans_that_overlap_are_one() -> None:
    """Every hour for ninety minutes is always open."""
    window = a_window(days=(), hours="00:00-00:00", cron="0 * * * *", duration=timedelta(minutes=90))
    assert union_closing([window], utc(2026, 1, 5)) is None


CHINA = Calendar("china", "CN")


@pytest.mark.parametrize(
    ("day", "opened"),
    [
        (utc(2026, 2, 14, 4), True),  # a Saturday that is worked for Spring Festival
        (utc(2026, 2, 17, 4), False),  # Spring Festival, a Tuesday
        (utc(2026, 2, 28, 4), True),  # worked again
        (utc(2026, 3, 7, 4), False),  # an ordinary Saturday
        (utc(2026, 3, 9, 4), True),  # an ordinary Monday
    ],
)
def test_chinas_make_up_workdays_are_worked(day: datetime, opened: bool) -> None:
    """The yearly notice shifts weekends; a rule by weekday would be wrong on a dozen days a year."""
    window = a_window(days=tuple(range(7)), zone="Asia/Shanghai", calendar=CHINA, on=DayKind.WORKDAYS)
    assert is_open(window, day) is opened


def test_an_unpublished_year_is_closed_and_held() -> None:
    """Nobody knows the days of 2045: a window stays closed, a freeze holds."""
    window = a_window(days=tuple(range(7)), zone="Asia/Shanghai", calendar=CHINA, on=DayKind.WORKDAYS)
    assert not is_open(window, utc(2045, 3, 1, 4))
    assert is_open(window, utc(2045, 3, 1, 4), unknown=True)


weekly = st.builds(
    lambda days, start, end, zone: Window(
        "w", a_window().scope, tuple(sorted(days)), start, end, zone, a_window().source
    ),
    st.sets(st.integers(0, 6), min_size=1),
    quarters,
    quarters,
    st.sampled_from(ZONES),
)


@settings(max_examples=60, deadline=None)
@given(several=st.lists(weekly, min_size=1, max_size=4), hour=st.integers(0, 24 * 700))
def test_the_next_change_of_several_is_exact(several: list[Window], hour: int) -> None:
    """Announcements and `--at next-window` act on it: the same until then, another from then on."""
    at = utc(2026, 1, 1) + timedelta(hours=hour)
    now = any(is_open(one, at) for one in several)
    change = union_change(several, at)
    probes = [edge for one in several for pair in spans(one, at, change or at + HORIZON) for edge in pair]
    for probe in (one for one in probes if at < one < (change or at + HORIZON)):
        assert any(is_open(one, probe) for one in several) is now
    if change is not None:
        assert any(is_open(one, change - timedelta(microseconds=1)) for one in several) is now
        assert any(is_open(one, change) for one in several) is not now


by_cron = st.builds(
    lambda cron, hours, zone: a_window(days=(), cron=cron, duration=timedelta(hours=hours), zone=zone),
    st.sampled_from(["0 10 * * 2,4", "30 22 * * *", "0 0 1 * *", "0 9 24 12 *", "*/20 * * * *"]),
    st.integers(1, 40),
    st.sampled_from(ZONES),
)


@settings(max_examples=150, deadline=None)
@given(window=weekly | by_cron, minute=st.integers(0, 60 * 24 * 700), unknown=st.booleans())
def test_what_is_kept_of_a_week_changes_no_answer(window: Window, minute: int, unknown: bool) -> None:
    """Asked at an instant, around the ends of the kept week, and again: as if every span were looked at each time."""
    at = utc(2026, 1, 1) + MINUTE * minute
    monday = datetime.fromtimestamp(at.timestamp() // (7 * 86400) * 7 * 86400, UTC)
    for one in (at, monday, monday + 7 * DAY - timedelta(microseconds=1), monday + 7 * DAY, at):
        near = list(spans(window, one, one + HORIZON, unknown=unknown))
        assert is_open(window, one, unknown=unknown) is any(start <= one < end for start, end in near)
        opening = next((start for start, _ in near if start > one), None)
        assert next_opening(window, one, unknown=unknown) == opening
        end = one
        for start, finish in near:
            end = max(end, finish) if start <= end else end
        assert closing(window, one, unknown=unknown) == (end if one < end <= one + HORIZON else None)


def test_weeks_that_are_kept_stay_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog that changes all day makes new windows all day."""
    monkeypatch.setattr(windows, "MOST_KEPT", 10)
    for number in range(50):
        is_open(a_window(f"w{number}"), utc(2026, 1, 6, 12))
        assert len(windows._KEPT) <= 10
