"""Stored intents: each once, held by one replica at a time, and never lost with it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.store import inbox
from bot.store.database import Database
from tests.support import FakeClock


async def put(db: Database, clock: FakeClock, event: str = "e", owner: str = "a") -> int | None:
    return await db.run(lambda tx: inbox.put(tx, "console", event, "command", {"text": "/help"}, clock(), owner))


async def test_an_event_is_stored_once(db: Database, clock: FakeClock) -> None:
    """Platforms repeat what was not answered in time, also to another replica."""
    assert await put(db, clock) is not None
    assert await put(db, clock, owner="b") is None


async def test_nobody_takes_what_another_is_at(db: Database, clock: FakeClock) -> None:
    """A replica that starts must not repeat what the others are doing now."""
    await put(db, clock)
    assert await db.run(lambda tx: inbox.claim(tx, "b", clock())) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_intent_of_a_dead_replica_is_taken_over(db: Database, clock: FakeClock) -> None:
    """Its lease runs out. To be taken is no try yet: two hundred are taken at once and wait for their turn."""
    number = await put(db, clock)
    clock.advance(inbox.LEASE + timedelta(seconds=1))
    assert await db.run(lambda tx: inbox.claim(tx, "b", clock())) == [number]
    assert await db.run(lambda tx: inbox.claim(tx, "c", clock())) == []
    row = await db.read(lambda tx: inbox.get(tx, number or 0))
    assert row is not None
    assert row.attempts == 0
    await db.run(lambda tx: inbox.begin_again(tx, number or 0))
    row = await db.read(lambda tx: inbox.get(tx, number or 0))
    assert row is not None
    assert row.attempts == 1


async def test_a_replica_that_stops_in_order_hands_over_at_once(db: Database, clock: FakeClock) -> None:
    """Nobody waits for its lease; what is finished stays finished."""
    number, done = await put(db, clock), await put(db, clock, "other")
    await db.run(lambda tx: inbox.finish(tx, done or 0, "accepted", "", clock()))
    await db.run(lambda tx: inbox.release(tx, "a"))
    assert await db.run(lambda tx: inbox.claim(tx, "b", clock())) == [number]


async def test_an_outcome_is_written_once(db: Database, clock: FakeClock) -> None:
    """Two replicas finished the same intent, one of them after a pause: the first answer is the answer."""
    number = await put(db, clock) or 0
    assert await db.run(lambda tx: inbox.finish(tx, number, "accepted", "yes", clock()))
    assert not await db.run(lambda tx: inbox.finish(tx, number, "refused", "no", clock()))
