"""Messages: in order, coalesced, retried, never twice, and the newest is always what is seen in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from bot.catalog.load import load_catalog
from bot.store import audit, outbox
from bot.store.database import Database, Tx
from bot.store.migrate import migrate
from bot.store.outbox import NewNotice, Notice
from bot.store.tables import outbox as outbox_table
from notifiers.outbox import Outbox
from tests.fakes.chat import FakeChat
from tests.support import FakeClock
from tests.support.world import make_world


class Bench:
    """A database, a chat and an outbox between them."""

    def __init__(self, url: str, directory: Path, clock: FakeClock) -> None:
        self.db = Database(url)
        migrate(self.db)
        catalog = load_catalog(make_world(directory).directory)
        self.chat = FakeChat()
        self.clock = clock
        self.outbox = Outbox(self.db, lambda: catalog, {"console": self.chat}, clock)

    async def put(self, key: str, text: str, place: str = "#a", priority: int = 0) -> bool:
        """Want a message."""
        content = {"text": text, "card": None}
        notice = NewNotice(key, "console", place, Notice.MESSAGE, content=content, priority=priority)
        added = await self.db.run(lambda tx: outbox.put(tx, notice, self.clock()))
        self.outbox.poke()
        return added

    async def quiet(self) -> None:
        """Wait until nothing is behind."""
        async with asyncio.timeout(10):
            while await self.db.read(outbox.lag):
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Bench]:
    one = Bench(database_url, tmp_path / "world", clock)
    await one.outbox.start()
    yield one
    await one.outbox.stop()
    one.db.close()


async def test_messages_of_a_place_keep_their_order(bench: Bench) -> None:
    """Also when the first attempts fail."""
    bench.chat.down = 1
    for number in range(10):
        await bench.put(f"k{number}", str(number))
    async with asyncio.timeout(10):
        while bench.chat.down:  # the failing attempt has to be before the clock moves, or its retry never comes
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    bench.clock.advance(timedelta(seconds=5))
    bench.outbox.poke()
    await bench.quiet()
    assert bench.chat.shown == {"#a": [str(number) for number in range(10)]}


async def test_a_lost_answer_posts_nothing_twice(bench: Bench) -> None:
    """Sent, not answered: the same key again finds the message that is there."""
    bench.chat.lose_answers = 1
    await bench.put("k", "hello")
    await asyncio.sleep(0.1)
    bench.clock.advance(timedelta(seconds=5))
    bench.outbox.poke()
    await bench.quiet()
    assert bench.chat.shown == {"#a": ["hello"]}
    assert len(bench.chat.calls) == 2


async def test_what_was_posted_before_a_crash_shows_the_newest_content_after_it(bench: Bench) -> None:
    """Posted, not recorded, and the world went on: the message that is there must not keep its old words."""
    bench.chat.lose_answers = 1
    await bench.put("k", "queued")
    async with asyncio.timeout(10):
        while not bench.chat.calls:
            await asyncio.sleep(0.01)
    await bench.outbox.stop()
    content = {"text": "succeeded", "card": None}
    await bench.db.run(lambda tx: tx.execute(update(outbox_table).values(content=content)))
    bench.clock.advance(timedelta(seconds=5))
    second = Outbox(bench.db, bench.outbox._catalog, {"console": bench.chat}, bench.clock)
    await second.start()
    await bench.quiet()
    await second.stop()
    assert bench.chat.shown == {"#a": ["succeeded"]}


async def test_the_same_key_is_one_message(bench: Bench) -> None:
    """Whoever wants it a second time is told that it is there."""
    assert await bench.put("k", "hello")
    assert not await bench.put("k", "hello again")
    await bench.quiet()
    assert bench.chat.shown == {"#a": ["hello"]}


async def test_a_closed_place_delays_no_other(bench: Bench) -> None:
    """What can never be delivered is put aside with the reason."""
    bench.chat.refuse = {"#gone"}
    await bench.put("a", "lost", place="#gone")
    await bench.put("b", "fine", place="#a")
    await bench.quiet()
    assert bench.chat.shown == {"#a": ["fine"]}
    said = {one.entry.subject: one.entry.outcome for one in await bench.db.read(audit.newest)}
    assert said == {"a": "refused", "b": "posted"}


async def test_a_platform_that_asks_for_a_pause_gets_it(bench: Bench) -> None:
    """Retry-After is kept to the second."""
    bench.chat.down, bench.chat.retry_after = 1, 30.0
    await bench.put("k", "hello")
    await asyncio.sleep(0.1)
    bench.clock.advance(timedelta(seconds=29))
    bench.outbox.poke()
    await asyncio.sleep(0.1)
    assert len(bench.chat.calls) == 1
    bench.clock.advance(timedelta(seconds=2))
    bench.outbox.poke()
    await bench.quiet()
    assert bench.chat.shown == {"#a": ["hello"]}


async def test_what_was_left_behind_is_sent_by_the_next_process(bench: Bench) -> None:
    """Durable: the row is the message."""
    await bench.outbox.stop()
    await bench.put("k", "hello")
    second = Outbox(bench.db, bench.outbox._catalog, {"console": bench.chat}, bench.clock)
    await second.start()
    await bench.quiet()
    await second.stop()
    assert bench.chat.shown == {"#a": ["hello"]}


async def test_important_ones_go_first(bench: Bench) -> None:
    """A person who must act does not wait behind progress."""
    bench.chat.slow = asyncio.Event()
    await bench.put("first", "in work")
    await asyncio.sleep(0.1)
    await bench.put("low", "progress")
    await bench.put("high", "failed", priority=1)
    bench.chat.slow.set()
    await bench.quiet()
    assert bench.chat.shown["#a"] == ["in work", "failed", "progress"]


async def test_a_long_queue_of_one_place_hides_no_other(bench: Bench) -> None:
    """Six hundred edits that a slow channel has not taken yet must not keep an answer from somebody else."""
    later = bench.clock() + timedelta(hours=1)

    def pile_up(tx: Tx) -> None:
        for number in range(600):
            notice = NewNotice(f"s{number}", "console", "#slow", Notice.MESSAGE, content={"text": "x", "card": None})
            outbox.put(tx, notice, later)

    await bench.db.run(pile_up)
    await bench.put("b", "fine", place="#a")
    async with asyncio.timeout(10):
        while "#a" not in bench.chat.shown:
            await asyncio.sleep(0.01)
    assert bench.chat.shown == {"#a": ["fine"]}


async def test_a_burst_at_another_replica_is_one_look_here(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command there stores messages; looking at the table for each would double what commands cost."""
    looks = 0
    look = bench.outbox._round

    async def counted() -> float:
        nonlocal looks
        looks += 1
        return await look()

    monkeypatch.setattr(bench.outbox, "_round", counted)
    for _ in range(50):
        bench.outbox.poke_soon()
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while not looks:
            await asyncio.sleep(0.01)
    assert looks <= 2


async def test_a_burst_in_one_place_is_read_in_few_looks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look for every message would cost as much as sending it, and more the longer the queue is."""
    looks = 0
    look = outbox.due_in

    def counted(tx: Tx, platform: str, place: str, limit: int = 1) -> list[outbox.OutboxRow]:
        nonlocal looks
        looks += 1
        return look(tx, platform, place, limit)

    def burst(tx: Tx) -> None:
        for number in range(60):
            content = {"text": str(number), "card": None}
            outbox.put(tx, NewNotice(str(number), "console", "#a", Notice.MESSAGE, content=content), bench.clock())

    monkeypatch.setattr(outbox, "due_in", counted)
    await bench.db.run(burst)
    bench.outbox.poke()
    await bench.quiet()
    assert bench.chat.shown == {"#a": [str(number) for number in range(60)]}
    assert looks <= 6
