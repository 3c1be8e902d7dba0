"""The clock is passed in, so that tests own the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present instant as an aware UTC datetime."""


def utc_now() -> datetime:
    """Return the present instant, aware, UTC."""
    return datetime.now(UTC)
