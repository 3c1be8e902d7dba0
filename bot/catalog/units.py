"""How times are written in the catalog: `1h30m`, `mon-fri`, `10:00-18:00`, `2026-11-09T18:00`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from bot.catalog import messages

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONG_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_GROUPS = {"daily": tuple(range(7)), "weekdays": tuple(range(5)), "weekend": (5, 6)}
_NUMBERS = {name: number for names in (DAYS, _LONG_DAYS) for number, name in enumerate(names)}

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_MILLISECONDS = (86_400_000, 3_600_000, 60_000, 1000, 1)
_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
LONGEST = timedelta(days=366)

DURATION_PATTERN = r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"
HOURS_PATTERN = r"^\d{1,2}:\d{2}\s*-\s*\d{1,2}:\d{2}$"


def parse_duration(text: str) -> timedelta:
    """`500ms`, `30s`, `10m`, `1h30m`, `2d`; at most a year. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if not found or not any(found.groups()) or len(text) > 30:
        raise ValueError(messages.bad_duration())
    milliseconds = sum(int(part or 0) * size for part, size in zip(found.groups(), _MILLISECONDS, strict=True))
    if milliseconds > LONGEST.total_seconds() * 1000:
        raise ValueError(messages.bad_duration())
    return timedelta(milliseconds=milliseconds)


def parse_days(words: list[str]) -> tuple[int, ...]:
    """Day numbers (0 is Monday), in order, from names, ranges such as `fri-mon` and groups. Raises ValueError."""
    days = {day for word in words for day in _days(word.strip().casefold())}
    return tuple(sorted(days))


def _days(word: str) -> tuple[int, ...]:
    if word in _GROUPS:
        return _GROUPS[word]
    first, _, last = (part.strip() for part in word.partition("-"))
    for part in (first, last or first):
        if part not in _NUMBERS:
            raise ValueError(messages.bad_days(part, (*DAYS, *_GROUPS)))
    start, length = _NUMBERS[first], (_NUMBERS[last or first] - _NUMBERS[first]) % 7
    return tuple((start + step) % 7 for step in range(length + 1))


def parse_hours(text: str) -> tuple[time, time]:
    """Start and end; `24:00` is midnight at the end of the day. Raises ValueError."""
    found = _HOURS.fullmatch(text.strip())
    if not found:
        raise ValueError(messages.bad_hours())
    start = int(found[1]) * 60 + int(found[2])
    end = int(found[3]) * 60 + int(found[4])
    if int(found[2]) > 59 or int(found[4]) > 59 or start >= 1440 or end > 1440:
        raise ValueError(messages.bad_hours())
    if start == end or end == 0 == start:
        raise ValueError(messages.empty_hours(text))
    return _time(start), _time(end % 1440)


def _time(minutes: int) -> time:
    return time(minutes // 60, minutes % 60)


def parse_instant(text: str) -> datetime:
    """A date, or a date with a time; naive if it names no offset. Raises ValueError."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(messages.bad_instant()) from None


def in_zone(at: datetime, zone: str, *, end: bool = False) -> datetime:
    """The instant in UTC; a naive one is local to the zone. Of a time that comes twice, an end is the later one."""
    if at.tzinfo is None:
        at = at.replace(tzinfo=ZoneInfo(zone), fold=1 if end else 0)
    return at.astimezone(UTC)


@lru_cache(maxsize=1024)
def is_zone(name: str) -> bool:
    """Whether it is the name of an IANA time zone."""
    try:
        ZoneInfo(name)
    except (OSError, LookupError, ValueError):
        return False
    return True


def zones() -> frozenset[str]:
    """All names; slow, only for telling the nearest."""
    return frozenset(available_timezones())


def day_names(days: tuple[int, ...]) -> str:
    """`Tue, Thu`, `Mon-Fri`, `every day`."""
    if len(days) == 7:
        return "every day"
    names = [DAYS[day].capitalize() for day in days]
    in_a_row = len(days) > 2 and days[-1] - days[0] == len(days) - 1
    return f"{names[0]}-{names[-1]}" if in_a_row else ", ".join(names)
