"""When a periodic job is due: pure, and exact across clock changes.

A wall time that a clock change leaves out is at the first instant after the gap, and one that comes twice is at its
first: so whatever is said to run once a day runs once a day. Intervals are counted in real time and know no clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from bot.catalog.model import Periodic
from bot.policy.cron import parse_cron

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HORIZON = timedelta(days=366 * 5)
"""How far ahead is looked for the next one: 29 February and beyond."""


def next_after(job: Periodic, after: datetime) -> datetime | None:
    """The first occurrence later than `after` (aware), in UTC; None: not within five years."""
    return next(_from(job, after, after + HORIZON), None)


def due(job: Periodic, after: datetime, until: datetime) -> list[datetime]:
    """Occurrences in `(after, until]`, in order."""
    return list(takewhile(lambda at: at <= until, _from(job, after, until)))


def _from(job: Periodic, after: datetime, until: datetime) -> Iterator[datetime]:
    if job.every is not None:
        return _intervals(job.every, after)
    return _cron(job.cron, ZoneInfo(job.zone), after, until)


def _intervals(every: timedelta, after: datetime) -> Iterator[datetime]:
    at = EPOCH + ((after - EPOCH) // every + 1) * every
    while True:
        yield at
        at += every


def _cron(text: str, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    cron = parse_cron(text)
    day = after.astimezone(zone).date() - timedelta(days=1)
    last = until.astimezone(zone).date() + timedelta(days=1)
    seen = after.astimezone(UTC)
    while day <= last:
        if cron.on(day):
            for at in sorted({_instant(day, hour_minute, zone) for hour_minute in _minutes(cron.times)}):
                if at > seen:
                    seen = at
                    yield at
        day += timedelta(days=1)


def _minutes(times: tuple[object, ...]) -> Iterator[tuple[int, int]]:
    for one in times:
        yield one.hour, one.minute  # type: ignore[attr-defined]


def _instant(day: date, hour_minute: tuple[int, int], zone: ZoneInfo) -> datetime:
    hour, minute = hour_minute
    wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
    instant = wall.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return instant
    return _end_of_gap(wall, zone)


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant after the clock change that leaves this wall time out, to the second."""
    low = wall.replace(fold=1).astimezone(UTC) - timedelta(hours=3)
    high = low + timedelta(hours=6)
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)
