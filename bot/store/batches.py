"""Many small works as few large ones: what comes while one batch is worked on makes the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

MOST = 250
"""How many works are one batch at most."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches(Generic[Item, Result]):
    """Hands over what waits, one batch after the other and each in the order it came; nothing waits for company."""

    def __init__(self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        """work: gives the results in the same order; it may be called again for each item alone when it failed."""
        self._work = work
        self._waiting: list[tuple[Item, asyncio.Future[Any]]] = []
        self._working: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> Result:
        """Have this worked on. Raises what the work raises for it alone: none suffers for another."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work_off())
        return await future

    async def _work_off(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                results = await self._work([item for item, _ in batch])
            except Exception as error:
                await self._one_by_one(batch, error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)

    async def _one_by_one(self, batch: list[tuple[Item, asyncio.Future[Any]]], error: Exception) -> None:
        for item, future in batch:
            if future.done():
                continue
            try:
                if len(batch) == 1:
                    raise error
                future.set_result((await self._work([item]))[0])
            except Exception as own:
                future.set_exception(own)
