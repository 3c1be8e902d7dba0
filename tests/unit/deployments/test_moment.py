"""Reading for many at once: fresh for each of them, and few readings for all."""

from __future__ import annotations

import asyncio

from bot.deployments.model import State
from bot.deployments.moment import Moment
from bot.errors import ProviderUnavailable
from bot.store import deployments as rows
from bot.store.database import Database
from tests.support import FakeClock
from tests.support.rows import new_deployment


class Counting:
    """A database that counts readings, and may fail the next one."""

    def __init__(self, db: Database) -> None:
        self.db, self.reads, self.broken = db, 0, False

    async def read(self, fn):  # type: ignore[no-untyped-def]
        self.reads += 1
        if self.broken:
            self.broken = False
            raise ProviderUnavailable("The database does not answer.")
        return await self.db.read(fn)


async def test_a_thousand_questions_are_two_readings(db: Database, clock: FakeClock) -> None:
    """Each reading begins after its questions were asked; what is in work elsewhere is told apart."""
    counting = Counting(db)
    moment = Moment(counting, clock)  # type: ignore[arg-type]
    first, _ = await db.run(lambda tx: rows.create(tx, new_deployment("a", State.WRITING), clock()))
    await db.run(lambda tx: rows.create(tx, new_deployment("b", State.BUILDING, service="other"), clock()))
    found = await asyncio.gather(*(moment.standing() for _ in range(1000)))
    assert counting.reads == 2
    assert {one.writing for one in found} == {frozenset({first.id})}
    await moment.standing()
    assert counting.reads == 3


async def test_a_reading_that_failed_is_nobodys_answer(db: Database, clock: FakeClock) -> None:
    """Whoever comes next reads for itself."""
    counting = Counting(db)
    moment = Moment(counting, clock)  # type: ignore[arg-type]
    counting.broken = True
    answers = await asyncio.gather(*(moment.standing() for _ in range(3)), return_exceptions=True)
    assert isinstance(answers[0], ProviderUnavailable)
    assert not any(isinstance(one, Exception) for one in answers[1:])
