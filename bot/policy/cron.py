"""Cron expressions as wall times of a day: five fields, as in crontab(5).

Only what depends on the date is here; which instants the wall times are, across clock changes, is `windows.py`'s.
Source: crontab(5): minute, hour, day of month, month, day of week (0 and 7 are Sunday); if both day fields are
restricted (do not start with `*`), a day matches when either does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression. weekdays: 0 is Monday, as in `date.weekday()`."""

    times: tuple[time, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def on(self, day: date) -> bool:
        """Whether it fires at all on that date."""
        if day.month not in self.months:
            return False
        month_day, week_day = day.day in self.days, day.weekday() in self.weekdays
        return (month_day or week_day) if self.either else (month_day and week_day)


@lru_cache(maxsize=1024)
def parse_cron(text: str) -> Cron:
    """The expression. Raises ValueError with what is allowed."""
    parts = text.split()
    if len(parts) != 5:
        raise ValueError("must have five fields: minute, hour, day of month, month, day of week")
    minutes = _field(parts[0], 0, 59)
    hours = _field(parts[1], 0, 23)
    weekdays = _field(parts[4], 0, 7, WEEKDAYS)
    return Cron(
        times=tuple(time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes)),
        days=frozenset(_field(parts[2], 1, 31)),
        months=frozenset(_field(parts[3], 1, 12, MONTHS, 1)),
        weekdays=frozenset((day - 1) % 7 for day in weekdays),
        either=not parts[2].startswith("*") and not parts[4].startswith("*"),
    )


def _field(text: str, low: int, high: int, names: tuple[str, ...] = (), first: int = 0) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        start, end = _span(span, low, high, names, first, bool(slash))
        size = _number(step, 1, high + 1) if slash else 1
        found |= set(range(start, end + 1, size))
    return found


def _span(span: str, low: int, high: int, names: tuple[str, ...], first: int, stepped: bool) -> tuple[int, int]:
    if span == "*":
        return low, high
    start, dash, end = span.partition("-")
    begin = _value(start, low, high, names, first)
    if not dash:
        return begin, high if stepped else begin
    finish = _value(end, low, high, names, first)
    if finish < begin:
        raise ValueError(f"'{span}' ends before it starts; write two ranges")
    return begin, finish


def _value(text: str, low: int, high: int, names: tuple[str, ...], first: int) -> int:
    word = text.casefold()
    return names.index(word) + first if word in names else _number(text, low, high)


def _number(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5 and low <= int(text) <= high):
        raise ValueError(f"'{text}' is no number from {low} to {high}")
    return int(text)
