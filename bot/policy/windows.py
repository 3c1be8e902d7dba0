"""Times of windows: wall-clock times in a zone, turned into exact instants.

Half-open: open at the start, closed at the end. A window belongs to the local day it starts on; one whose end is not
after its start runs over midnight. Clock changes: a start or end that the clocks skip is the moment they skip; of a
wall time that comes twice, the first is a start and the last is an end, so the repeated hour is never cut in half; one
that ends where the repeated hour begins is over before it.
By cron: it opens at the first of a wall time that comes twice, and stays open for its duration in real time.
A day whose calendar is not published is `unknown`: closed for a window, and held for a freeze (see `spans`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from bot.catalog.model import DayKind, Window
from bot.policy.calendars import day_of
from bot.policy.cron import parse_cron

HORIZON = timedelta(days=366)
"""How far ahead is searched; beyond is 'never'."""
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
MIDNIGHT = time(0)

Span = tuple[datetime, datetime]
"""`[start, end)` in UTC."""


WEEK = 7 * 86400
MOST_KEPT, MOST_SPANS = 8192, 64
"""Weeks of windows whose spans are kept, and spans of one of them; of a window by cron there may be thousands."""


@dataclass(frozen=True, slots=True)
class _Week:
    """The spans of a window that touch `[from, until]`. It holds the window too, so that no other gets its identity."""

    window: Window
    until: datetime
    spans: tuple[Span, ...]


_KEPT: dict[tuple[int, bool, int], _Week] = {}


def _week(window: Window, at: datetime, unknown: bool) -> _Week | None:
    """The week that holds the instant: the same few are asked for by every command. None: it has too many spans."""
    number = int(at.timestamp() // WEEK)
    key = (id(window), unknown, number)
    known = _KEPT.get(key)
    if known is None:
        if len(_KEPT) >= MOST_KEPT:
            _KEPT.clear()
        low, until = (datetime.fromtimestamp(edge * WEEK, UTC) for edge in (number, number + 1))
        found = tuple(islice(spans(window, low, until, unknown=unknown), MOST_SPANS + 1))
        if len(found) > MOST_SPANS:
            return None
        known = _KEPT[key] = _Week(window, until, found)
    return known


def is_open(window: Window, at: datetime, *, unknown: bool = False) -> bool:
    """Whether the instant lies in a span. unknown: what a day of an unpublished calendar counts as."""
    week = _week(window, at, unknown)
    near = week.spans if week is not None else spans(window, at, at, unknown=unknown)
    return any(start <= at < end for start, end in near)


def is_unknown(window: Window, at: datetime) -> bool:
    """Whether the window asks its calendar about a day that is not published."""
    if window.calendar is None or window.on is DayKind.ANY:
        return False
    return day_of(window.calendar, at.astimezone(ZoneInfo(window.zone)).date()) is None


def spans(window: Window, from_at: datetime, to_at: datetime, *, unknown: bool = False) -> Iterator[Span]:
    """Every span that touches `[from_at, to_at]`, by start; spans of a cron window may overlap.

    unknown: whether a day whose calendar is not published counts, as a whole; True is for freezes, which fail closed.
    """
    low, high = window.from_at, window.until_at
    for start, end in _unbounded(window, from_at, to_at, unknown):
        if low is not None and start < low:
            start = low
        if high is not None and end > high:
            end = high
        if start < end and end > from_at and start <= to_at:
            yield start, end


def _unbounded(window: Window, from_at: datetime, to_at: datetime, unknown: bool) -> Iterator[Span]:
    if not window.days and not window.cron:
        yield window.from_at or from_at, window.until_at or to_at + HORIZON
        return
    zone = ZoneInfo(window.zone)
    day = from_at.astimezone(zone).date() - DAY * (2 + window.duration.days)
    last = to_at.astimezone(zone).date() + DAY
    while day <= last:
        yield from _of_day(window, day, unknown)
        day += DAY


def _of_day(window: Window, day: date, unknown: bool) -> Iterable[Span]:
    if not window.cron and day.weekday() not in window.days:
        return ()
    if window.calendar is not None and window.on is not DayKind.ANY:
        known = day_of(window.calendar, day)
        if known is None:
            return (_weekly(window.zone, MIDNIGHT, MIDNIGHT, day),) if unknown else ()
        if known.kind is not window.on:
            return ()
    if window.cron:
        return [(start, start + window.duration) for start in _fires(window.zone, window.cron, day)]
    return (_weekly(window.zone, window.start, window.end, day),)


@lru_cache(maxsize=1 << 17)
def _weekly(zone_name: str, start: time, end: time, day: date) -> Span:
    zone = ZoneInfo(zone_name)
    end_day = day if end > start else day + DAY
    return _instant(day, start, zone, fold=0), _end(end_day, end, zone)


@lru_cache(maxsize=1 << 15)
def _fires(zone_name: str, cron: str, day: date) -> tuple[datetime, ...]:
    rule, zone = parse_cron(cron), ZoneInfo(zone_name)
    if not rule.on(day):
        return ()
    return tuple(sorted({_instant(day, wall, zone, fold=0) for wall in rule.times}))


def _end(day: date, wall: time, zone: ZoneInfo) -> datetime:
    """The end of the last moment whose wall time is before this one."""
    first, last = (_instant(day, wall, zone, fold) for fold in (0, 1))
    if first == last:
        return last
    # Where the repeated hour begins with the very end, its second pass begins a step back, not a step on.
    before = (last - timedelta(microseconds=1)).astimezone(zone).replace(tzinfo=None)
    return last if before < datetime.combine(day, wall) else first


def _instant(day: date, wall: time, zone: ZoneInfo, fold: int) -> datetime:
    """The UTC instant of a wall time; one inside a gap is the gap's own instant."""
    local = datetime.combine(day, wall, zone).replace(fold=fold)
    instant = local.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return instant
    # In a gap, the two folds use the offsets before and after; the jump lies where both meet.
    before, after = local.replace(fold=1).astimezone(UTC), local.replace(fold=0).astimezone(UTC)
    return _jump(zone, min(before, after), max(before, after))


def _jump(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The instant between the two at which the zone's offset changes, by bisection to the second."""
    offset = low.astimezone(zone).utcoffset()
    while high - low > SECOND:
        middle = (low + (high - low) // 2).replace(microsecond=0)
        if middle <= low:
            break
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high


def next_opening(window: Window, at: datetime, *, unknown: bool = False) -> datetime | None:
    """When it opens next, None within the horizon: never. An open one: its next start after this one."""
    week = _week(window, at, unknown)
    if week is not None and (soon := next((start for start, _ in week.spans if at < start < week.until), None)):
        return soon
    return next((start for start, _ in spans(window, at, at + HORIZON, unknown=unknown) if start > at), None)


def closing(window: Window, at: datetime, *, unknown: bool = False) -> datetime | None:
    """When it closes, through spans that follow without a break; None if it is closed, or never closes in a year."""
    return union_closing((window,), at, unknown=unknown)


def union_closing(windows: Iterable[Window], at: datetime, *, unknown: bool = False) -> datetime | None:
    """The first instant after `at` at which none is open; None if none is open now, or it is beyond the horizon."""
    known, end, limit = list(windows), at, at + HORIZON
    while end <= limit:
        further = max((_runs_to(window, end, limit, unknown) for window in known), default=end)
        if further == end:
            return end if end > at else None
        end = further
    return None


def _runs_to(window: Window, at: datetime, limit: datetime, unknown: bool) -> datetime:
    """The end of the run of spans that holds `at`, or `at` itself."""
    week = _week(window, at, unknown)
    if week is not None and (end := _run(week.spans, at)) < week.until:
        return end
    return _run(spans(window, at, limit, unknown=unknown), at)


def _run(near: Iterable[Span], at: datetime) -> datetime:
    end = at
    for start, finish in near:
        if start > end:
            break
        end = max(end, finish)
    return end


def union_opening(windows: Iterable[Window], at: datetime, *, unknown: bool = False) -> datetime | None:
    """The first instant after `at` at which one of them opens; None within the horizon: never."""
    found = [start for window in windows if (start := next_opening(window, at, unknown=unknown)) is not None]
    return min(found, default=None)


def union_change(windows: Iterable[Window], at: datetime, *, unknown: bool = False) -> datetime | None:
    """The first instant after `at` at which 'one of them is open' is another answer; None: never within a year."""
    known = list(windows)
    if any(is_open(window, at, unknown=unknown) for window in known):
        return union_closing(known, at, unknown=unknown)
    return union_opening(known, at, unknown=unknown)
