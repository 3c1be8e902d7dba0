"""One question to the database for all who ask it in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from bot.store.database import Database, Tx

K = TypeVar("K")
V = TypeVar("V")


class AskedTogether(Generic[K, V]):
    """Answers by key; a thousand deployments that come back to work at once ask a thousand times and read once."""

    def __init__(self, db: Database, answer: Callable[[Tx, Sequence[K]], Mapping[K, V]]) -> None:
        """answer: reads what is known of these keys; one it leaves out has no answer."""
        self._db = db
        self._answer = answer
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        """What is known of this key as of now, or None. Raises DatabaseUnavailable."""
        if not self._waiting:
            task = asyncio.create_task(self._read())
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        future = self._waiting.setdefault(key, asyncio.get_running_loop().create_future())
        return await asyncio.shield(future)

    async def _read(self) -> None:
        await asyncio.sleep(0)  # whoever is ready to ask does so before this goes on
        waiting, self._waiting = self._waiting, {}
        keys = list(waiting)
        try:
            found = await self._db.read(lambda tx: self._answer(tx, keys))
        except Exception as error:
            for future in waiting.values():
                future.set_exception(error)
            return
        for key, future in waiting.items():
            future.set_result(found.get(key))
