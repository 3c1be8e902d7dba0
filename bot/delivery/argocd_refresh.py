"""Has Argo CD compare applications again where that is overdue.

After a sync it compares by itself, so nothing is asked at once; each question is held by Argo CD until it has compared,
so few are asked at a time; and one that it does not get to is asked again after a longer and longer pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from bot.delivery.argocd_api import AppRef
from bot.errors import ProviderError

log = structlog.get_logger(__name__)

GRACE = timedelta(seconds=2)
LONGEST_PAUSE = 30.0
AT_ONCE = 4
"""Of one Argo CD; each takes a connection for as long as a comparison takes."""


class Refreshes:
    """Which applications have to be compared again, and the questions under way."""

    def __init__(self, ask: Callable[[AppRef], Awaitable[object]], grace: timedelta = GRACE) -> None:
        """ask: has one compared, and returns when it was. grace: before the first question, and between the next."""
        self._ask = ask
        self._grace = grace.total_seconds()
        self._overdue: set[AppRef] = set()
        self._tasks: dict[AppRef, asyncio.Task[None]] = {}
        self._room: dict[str, asyncio.Semaphore] = {}

    def want(self, ref: AppRef) -> None:
        """What is known of it is too old to be believed."""
        self._overdue.add(ref)
        if ref not in self._tasks:
            task = asyncio.create_task(self._until_compared(ref), name=f"refresh-{ref.name}")
            self._tasks[ref] = task
            task.add_done_callback(lambda _done: self._tasks.pop(ref, None))

    def drop(self, ref: AppRef) -> None:
        """It is known well enough."""
        self._overdue.discard(ref)

    async def close(self) -> None:
        """Ask nothing more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_compared(self, ref: AppRef) -> None:
        pause = self._grace
        while True:
            await asyncio.sleep(pause)
            if ref not in self._overdue:
                return
            async with self._room.setdefault(ref.server, asyncio.Semaphore(AT_ONCE)):
                if ref not in self._overdue:  # It waited for its turn.
                    return
                self._overdue.discard(ref)  # Whoever looks and finds it too old once more says so.
                try:
                    await self._ask(ref)
                except ProviderError as error:
                    log.info("argocd_refresh_failed", application=ref.name, error=error.message)
            pause = min(LONGEST_PAUSE, max(1.0, 2 * pause))
