"""The places this replica sends to: one replica at a time, and a silent one not for longer than its lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from bot.clock import Clock, Seconds, until_beat
from bot.errors import ProviderError
from bot.store import senders
from bot.store.batches import Batches
from bot.store.database import Database, Tx
from bot.store.outbox import OutboxRow
from bot.store.senders import Hold, Place

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=10)
"""How long a silent replica keeps a place to itself."""
ELSEWHERE = (0.1, 2.0)
"""Seconds after which a place that another replica sends to is asked for again: at first, and at most."""
CLOCKS = timedelta(minutes=1)
"""How much the clocks of replicas may differ."""

_Look = Callable[[Tx, Iterable[Place]], Mapping[Place, list[OutboxRow]]]


class OwnPlaces:
    """Takes places, keeps them while they are sent to, and leaves them. On SQLite all are ours: there is no other."""

    def __init__(self, db: Database, clock: Clock, elapsed: Seconds, lease: timedelta, look: _Look) -> None:
        """look: what is behind in places, asked together with the places themselves."""
        self._db = db
        self._clock = clock
        self._elapsed = elapsed
        self._lease = lease
        self._look = look
        self._owner = uuid4().hex
        self._until: dict[Place, float] = {}
        self._elsewhere: dict[Place, tuple[float, float]] = {}
        """Places that another replica sends to: when to ask for them again, and how long after the last time."""
        self._doubts: dict[Place, datetime] = {}
        self._unheard: set[Place] = set()
        """Places we asked for without hearing whether they are ours: their last owner is not known any more."""
        # Of all places in the same moment one commit each, not one for every place.
        self._asking: Batches[Place, tuple[Hold | None, list[OutboxRow]]] = Batches(self._ask_all)
        self._leaving: Batches[Place, None] = Batches(self._leave_all)

    def is_ours(self, place: Place) -> bool:
        """Whether no other replica can be sending there; a pause of this process ends it."""
        return self._db.is_sqlite or self._elapsed() < self._until.get(place, 0.0)

    def wait(self, place: Place) -> float | None:
        """Seconds until a place that another replica has is asked for again; None: nobody is known to have it."""
        tried = self._elsewhere.get(place)
        return tried[0] - self._elapsed() if tried is not None else None

    def remember_only(self, places: Iterable[Place]) -> None:
        """Forget which of all others another replica has."""
        self._elsewhere = {place: self._elsewhere[place] for place in places if place in self._elsewhere}

    def doubted(self, place: Place) -> datetime | None:
        """Before when a replica that is lost may have posted there without a record of it."""
        return self._doubts.get(place)

    async def take(self, place: Place) -> list[OutboxRow]:
        """Be the one replica that sends there. Returns what is behind; nothing if another one is.

        Raises ProviderError.
        """
        at, began = self._clock(), self._elapsed()
        hold, behind = await self._asking.add(place)
        if hold is None:
            self.forget(place)
            pause = min(2 * self._elsewhere.get(place, (0.0, ELSEWHERE[0] / 2))[1], ELSEWHERE[1])
            self._elsewhere[place] = (self._elapsed() + pause, pause)
            return []
        # Half of it, so that what is sent now is answered before the lease ends.
        self._until[place] = began + self._lease.total_seconds() / 2
        self._elsewhere.pop(place, None)
        if hold.in_doubt:
            self._doubts[place] = at + CLOCKS
        return behind

    async def _ask_all(self, places: Sequence[Place]) -> list[tuple[Hold | None, list[OutboxRow]]]:
        unheard: set[Place] = set()

        def work(tx: Tx) -> list[tuple[Hold | None, list[OutboxRow]]]:
            unheard.update(self._unheard.intersection(places))  # all of them, when this is run again
            self._unheard.update(places)
            ours = senders.take(tx, places, self._owner, self._lease)
            holds = {place: Hold(hold.in_doubt or place in unheard) for place, hold in ours.items()}
            behind = self._look(tx, holds)
            return [(holds.get(place), behind.get(place, [])) for place in places]

        answer = await self._db.at_once(work)
        self._unheard.difference_update(places)
        return answer

    async def keep(self, sending: Container[Place], longest: float) -> None:
        """Renew those that are sent to, and leave the others, for ever. longest: seconds between two looks."""
        while True:
            pause = self._lease.total_seconds() / 4
            # With nothing to renew it wakes together with whoever else looks, well before half a lease is over.
            await asyncio.sleep(pause if self._until else until_beat(min(pause * 1.4, longest)))
            await asyncio.gather(*(self._renew(place, sending) for place in list(self._until)))

    async def _renew(self, place: Place, sending: Container[Place]) -> None:
        try:
            if place in sending:
                await self.take(place)
            if place not in sending:  # it ended meanwhile
                await self.leave(place)
        except Exception as error:  # the lease runs out then, and nothing is sent without one
            log.warning("place_not_renewed", error=type(error).__name__)

    def forget(self, place: Place) -> None:
        """It is not ours any more, or another replica shall know of a doubt when the lease has run out."""
        self._until.pop(place, None)

    def settled(self, place: Place) -> None:
        """Nothing is behind there: nothing of what a lost replica may have posted is left to be looked for."""
        self._doubts.pop(place, None)

    async def leave(self, place: Place) -> None:
        """Let another replica have it at once; with a doubt that is not settled, when the lease has run out.

        Only so does whoever has it next know of the doubt, should we not be the ones.
        """
        if self._until.pop(place, None) is None or self._db.is_sqlite or place in self._doubts:
            return
        with contextlib.suppress(ProviderError):
            await asyncio.shield(self._leaving.add(place))

    def leave_in(self, tx: Tx, places: Sequence[Place]) -> None:
        """As `leave`, within a transaction; `forget` follows its commit."""
        senders.leave(tx, places, self._owner)

    async def _leave_all(self, places: Sequence[Place]) -> list[None]:
        await self._db.run(lambda tx: self.leave_in(tx, places))
        return [None] * len(places)
