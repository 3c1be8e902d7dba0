"""The clock is passed in, so that tests own the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present instant as an aware UTC datetime."""


Seconds = Callable[[], float]
"""Returns seconds from an arbitrary start, never backwards: for distances, not for dates."""


def utc_now() -> datetime:
    """Return the present instant, aware, UTC."""
    return datetime.now(UTC)


def elapsed() -> float:
    """Seconds that also pass while this process, or its whole machine, is paused: what a lease is measured with."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
