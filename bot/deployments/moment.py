"""What stands at this moment, read once for everybody who asks at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bot.clock import Clock
from bot.deployments.facts import standing_facts
from bot.deployments.model import State
from bot.policy.model import Facts
from bot.store import deployments as rows
from bot.store.database import Database, Tx
from bot.store.shared import SharedReading


@dataclass(frozen=True, slots=True)
class Standing:
    """Locks and freezes, and which deployments are still at the step that writes to Git."""

    facts: Facts
    writing: frozenset[int]


class Moment:
    """A thousand changes of one push ask at once: two readings answer them all, each begun after it was asked for."""

    def __init__(self, db: Database, clock: Clock) -> None:
        """Nothing is read yet."""
        self._db = db
        self._clock = clock
        self._lock = asyncio.Lock()
        self._begun = 0
        self._last: Standing | None = None
        self.facts = SharedReading(self._read_facts)
        """Locks and freezes alone, as of now or later."""

    async def _read_facts(self) -> Facts:
        return await self._db.read(lambda tx: standing_facts(tx, self._clock()))

    async def standing(self) -> Standing:
        """As of now or later. Raises ProviderUnavailable: the database does not answer."""
        asked = self._begun
        async with self._lock:
            if self._last is not None and self._begun > asked:
                return self._last
            self._begun += 1
            self._last = None
            self._last = await self._db.read(self._read)
            return self._last

    def _read(self, tx: Tx) -> Standing:
        return Standing(standing_facts(tx, self._clock()), frozenset(rows.ids_in(tx, State.WRITING)))
