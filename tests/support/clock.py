"""A clock that moves only when it is told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MONDAY_MORNING = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


class FakeClock:
    """Stands in for `bot.clock.utc_now`: call it for the present instant, aware and in UTC."""

    def __init__(self, start: datetime = MONDAY_MORNING) -> None:
        self._now = _as_utc(start)

    def __call__(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move on, and return the new instant."""
        self._now += by
        return self._now

    def set(self, at: datetime) -> datetime:
        """Jump to an instant, in any zone, also back."""
        self._now = _as_utc(at)
        return self._now


def _as_utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"{at} has no zone: the bot's instants are aware")
    return at.astimezone(UTC)
