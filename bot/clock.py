"""The clock is passed in, so that tests own the time."""

from __future__ import annotations

import asyncio
import random
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


async def rest_after(began: float, share: float = 4.0, least: float = 0.0, longest: float = 0.5) -> None:
    """Rest some times as long as it took since `began` (of `elapsed`), so that what many ask for is done for many.

    What takes a moment on a quiet machine is done again after a moment; under load it is done more rarely.
    """
    await asyncio.sleep(min(longest, max(least, share * (elapsed() - began))))


_PHASE = random.random() * 60.0  # noqa: S311
"""So that replicas on one machine do not look in the same moment."""


def until_beat(period: float) -> float:
    """Seconds until this process's next common beat: who looks now and then looks when others of it do."""
    return period - (elapsed() + _PHASE) % period
