"""An event loop whose time passes only while nothing is left to do, so that a test of minutes ends in moments.

Sockets and threads work as ever and take no time; when every one of them is quiet the loop's clock jumps to its next
timer. So what a test measures is what the code waited for, whatever else the machine is doing.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

from tests.support.clock import MONDAY_MORNING

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

GRACE = 0.001
"""Real seconds in which bytes on loopback that were just written are noticed at the other end."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Counts the work it has given to threads, because time stands still until they are back."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self.working = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Seconds; never backwards."""
        return self.skipped

    def now(self) -> datetime:
        """The same as an instant, from a Monday, 09:00 UTC."""
        return MONDAY_MORNING + timedelta(seconds=self.time())

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As everywhere, and counted."""
        self.working += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _future: object) -> None:
        self.working -= 1


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if timeout is None or self._loop.working:
            return super().select(None)
        found = super().select(min(timeout, GRACE))
        if not found:
            self._loop.skipped += timeout
        return found


def run_virtually(work: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end on such a loop, which is its argument."""
    made: list[VirtualLoop] = []

    def factory() -> VirtualLoop:
        made.append(VirtualLoop())
        return made[0]

    async def inside() -> T:
        return await work(made[0])

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(inside())
