"""Instants as people read and write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bot.errors import BadInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RELATIVE = re.compile(r"^\+(\d{1,4})([mhd])$")
_TIME = re.compile(r"^(\d{1,2}):(\d{2})$")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def zone_of(name: str) -> tzinfo:
    """The zone of that IANA name; UTC for none or an unknown one."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def say_when(at: datetime, zone: str = "") -> str:
    """`Tue 24 Nov 2026 10:00 (Asia/Shanghai)`: an instant in a reader's zone."""
    local = at.astimezone(zone_of(zone))
    return f"{local:%a %d %b %Y %H:%M} ({zone or 'UTC'})"


def say_for(length: timedelta) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    seconds = int(length.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def parse_when(text: str, now: datetime, zone: str = "") -> datetime:
    """An instant from `now`, `+2h`, `18:30`, `tomorrow 10:00`, `tue 10:00` or ISO 8601; without a zone, in `zone`.

    Raises:
        BadInput: it is none of these.
    """
    words = text.casefold().replace("t", "T") if re.match(r"^\d{4}-", text) else text.casefold()
    if words in ("", "now"):
        return now
    relative = _RELATIVE.match(words)
    if relative:
        return now + int(relative[1]) * _UNITS[relative[2]]
    local = _local(words, now.astimezone(zone_of(zone)))
    if local is None:
        raise BadInput(
            f"'{text}' is no time I understand.",
            hint="Write +2h, 18:30, tomorrow 10:00, tue 10:00 or 2026-11-24T10:00.",
        )
    return local.astimezone(UTC)


def _local(words: str, now: datetime) -> datetime | None:
    if re.match(r"^\d{4}-", words):
        return _iso(words, now)
    day, _, clock = words.partition(" ")
    if not clock and _TIME.match(day):
        day, clock = "today", day
    start = _day(day, now)
    time = _TIME.match(clock or "00:00")
    if start is None or time is None or int(time[1]) > 23 or int(time[2]) > 59:
        return None
    return start.replace(hour=int(time[1]), minute=int(time[2]))


def _day(word: str, now: datetime) -> datetime | None:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if word in ("today", "tomorrow"):
        return midnight + timedelta(days=1 if word == "tomorrow" else 0)
    if word[:3] in DAYS and word in (
        *DAYS,
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ):
        ahead = (DAYS.index(word[:3]) - now.weekday()) % 7
        return midnight + timedelta(days=ahead)
    return None


def _iso(words: str, now: datetime) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(words.replace("z", "+00:00"))
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=now.tzinfo)
