"""One reading for everybody who asks while another is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedReading(Generic[T]):
    """Gives each what was read after they asked, however many ask at once: two readings serve a burst of hundreds."""

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        """read: reads anew."""
        self._read = read
        self._running: asyncio.Future[T] | None = None
        self._next: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        """What is true now. Raises as the reading does, for all who share it."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._after(self._running))
        # Who gives up waiting takes nothing from the others.
        return await asyncio.shield(self._next)

    async def _after(self, before: asyncio.Future[T] | None) -> T:
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        return await self._read()
