"""Whose turn it is among the replicas, for what goes quicker one after the other.

A courtesy and no lock: whoever waited long goes on, and so does everybody while the database is away. What must hold is
held by something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import uuid4

from bot.clock import elapsed
from bot.errors import ProviderError
from bot.store import senders
from bot.store.database import Database

LEASE = timedelta(seconds=10)
"""After so long a turn is over, if its replica died in it."""
PATIENCE = 5.0
"""Seconds after which nobody waits any more."""
LOOK = 0.1
"""Seconds between two looks whether it is free."""
KIND = "turn"
"""In the table in which a place is one replica's, beside the platforms of chats."""


class Turns:
    """Lets the replicas go one after the other."""

    def __init__(self, db: Database) -> None:
        """Nothing is anybody's yet."""
        self._db = db
        self._owner = uuid4().hex

    @asynccontextmanager
    async def turn(self, what: str) -> AsyncIterator[None]:
        """Wait until no other replica is at it, as a rule, and have the others wait meanwhile. One at a time here."""
        taken = not self._db.is_sqlite and await self._wait_for(what)
        try:
            yield
        finally:
            if taken:
                await self._leave(what)

    async def _wait_for(self, what: str) -> bool:
        since = elapsed()
        try:
            while not await self._take(what):
                if elapsed() - since > PATIENCE:
                    return False
                await asyncio.sleep(LOOK)
        except ProviderError:
            return False
        return True

    async def _take(self, what: str) -> bool:
        return bool(await self._db.at_once(lambda tx: senders.take(tx, [(KIND, what[:255])], self._owner, LEASE)))

    async def _leave(self, what: str) -> None:
        leaving = self._db.run(lambda tx: senders.leave(tx, [(KIND, what[:255])], self._owner))
        with suppress(ProviderError):  # Then the lease runs out.
            await asyncio.shield(leaving)
