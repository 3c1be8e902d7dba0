"""Several replicas send from one table: each message once, in order, and what a dead one was at is looked for first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bot.catalog.load import load_catalog
from bot.catalog.model import Catalog
from bot.clock import utc_now
from bot.store import outbox, senders
from bot.store.database import Database, Tx
from bot.store.migrate import migrate
from bot.store.outbox import NewNotice, Notice
from bot.store.signals import Signals, Topic
from notifiers.card import Message
from notifiers.outbox import THEIRS, Outbox
from tests.fakes.chat import ForgetfulChat
from tests.support import FakeClock
from tests.support.relay import relayed
from tests.support.world import make_world

LEASE = timedelta(seconds=2)


class Replica:
    """One process: its own connections and its own outbox, and the same chat as the others."""

    def __init__(self, url: str, catalog: Catalog, chat: ForgetfulChat) -> None:
        self.db = Database(url)
        self.outbox = Outbox(self.db, lambda: catalog, {"console": chat}, utc_now, lease=LEASE)

    async def stop(self) -> None:
        await self.outbox.stop()
        self.db.close()


class Bench:
    """Two replicas that are not started, and a chat that forgets what it was sent."""

    def __init__(self, url: str, directory: Path) -> None:
        self.chat = ForgetfulChat()
        first = Database(url)
        migrate(first)
        first.close()
        catalog = load_catalog(make_world(directory).directory)
        self.replicas = [Replica(url, catalog, self.chat) for _ in range(2)]
        self.db = self.replicas[0].db

    async def put(self, text: str, place: str = "#a", at: datetime | None = None) -> None:
        content = {"text": text, "card": None}
        notice = NewNotice(text, "console", place, Notice.MESSAGE, content=content)
        await self.db.run(lambda tx: outbox.put(tx, notice, at or utc_now()))

    async def quiet(self) -> None:
        async with asyncio.timeout(30):
            while await self.db.read(outbox.lag):
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(postgres_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    one = Bench(postgres_url, tmp_path / "world")
    yield one
    for replica in one.replicas:
        await replica.stop()


async def test_two_replicas_post_nothing_twice_and_keep_the_order(bench: Bench) -> None:
    """Both are told of everything at the same time, as by a signal."""
    for replica in bench.replicas:
        await replica.outbox.start()
    for number in range(40):
        await bench.put(f"{number}", f"#{number % 2}")
        for replica in bench.replicas:
            replica.outbox.poke()
    await bench.quiet()
    assert bench.chat.shown == {
        "#0": [str(number) for number in range(0, 40, 2)],
        "#1": [str(number) for number in range(1, 40, 2)],
    }


async def test_what_a_dead_replica_may_have_posted_is_looked_for(bench: Bench) -> None:
    """It died between the post and its record: the next one finds the message instead of posting it again."""
    survivor = bench.replicas[0].outbox
    survivor._started_at -= timedelta(hours=1)  # it has been running for long

    def died(tx: Tx) -> None:
        senders.take(tx, [("console", "#a")], "dead", timedelta(milliseconds=1))

    await bench.put("hello")
    await bench.chat.post("#a", Message("hello"), "hello")
    await bench.db.run(died)
    await survivor.start()
    await bench.quiet()
    assert bench.chat.shown == {"#a": ["hello"]}


async def test_a_defect_behind_a_posting_posts_nothing_twice(bench: Bench) -> None:
    """It is in the chat, whatever we stumbled over after that: it is looked for before it is sent again."""
    bench.chat.stumbles = 1
    await bench.replicas[0].outbox.start()
    await bench.put("hello")
    bench.replicas[0].outbox.poke()
    await bench.quiet()
    assert bench.chat.stumbles == 0
    assert bench.chat.shown == {"#a": ["hello"]}


async def test_a_doubt_outlives_whoever_could_not_settle_it(bench: Bench) -> None:
    """The next one could not search either, and ended: whoever comes then has to know of the doubt as well."""
    for replica in bench.replicas:
        replica.outbox._started_at -= timedelta(hours=1)  # both have been running for long
    await bench.put("hello")
    await bench.chat.post("#a", Message("hello"), "hello")
    await bench.db.run(lambda tx: senders.take(tx, [("console", "#a")], "dead", timedelta(milliseconds=1)))
    bench.chat.blind = 1
    second, third = (replica.outbox for replica in bench.replicas)
    await second.start()
    async with asyncio.timeout(10):
        while bench.chat.blind or second._senders:
            await asyncio.sleep(0.01)
    await second.stop()
    await third.start()
    await bench.quiet()
    assert bench.chat.shown == {"#a": ["hello"]}


async def test_a_doubt_outlives_a_lost_answer(bench: Bench, postgres_url: str) -> None:
    """Who had the place before was told with it, in an answer that was lost; asked again it is ours already."""
    await bench.put("hello")
    await bench.chat.post("#a", Message("hello"), "hello")
    await bench.db.run(lambda tx: senders.take(tx, [("console", "#a")], "dead", timedelta(milliseconds=1)))
    async with relayed(postgres_url, after=b"UPDATE senders", lose=True) as between:
        catalog = bench.replicas[0].outbox._catalog()
        replica = Replica(between.url, catalog, bench.chat)
        replica.outbox._started_at -= timedelta(hours=1)
        await replica.outbox.start()
        await bench.quiet()
        assert between.stopped.is_set()
        await replica.outbox.stop()
        await asyncio.to_thread(replica.db.close)  # whose last questions go through the relay, which is in this loop
    assert bench.chat.shown == {"#a": ["hello"]}


async def test_a_place_in_other_hands_is_left_alone_until_they_let_go(bench: Bench) -> None:
    """The lease is the other replica's while it lives; then sending goes on without anybody's help."""
    lease = timedelta(seconds=30)
    await bench.db.run(lambda tx: senders.take(tx, [("console", "#a")], "other", lease))
    await bench.replicas[0].outbox.start()
    await bench.put("hello")
    await bench.put("elsewhere", "#b")
    bench.replicas[0].outbox.poke()
    async with asyncio.timeout(10):
        while "#b" not in bench.chat.shown:
            await asyncio.sleep(0.01)
    assert "#a" not in bench.chat.shown
    await bench.db.run(lambda tx: senders.leave(tx, [("console", "#a")], "other"))
    await bench.quiet()
    assert bench.chat.shown["#a"] == ["hello"]


async def test_what_another_replica_has_just_stored_is_left_to_it(bench: Bench, clock: FakeClock) -> None:
    """It sends that itself; two that reach for every message would each do half of the other's work."""
    poller = bench.replicas[0].outbox
    poller._clock, poller._called = clock, False
    await bench.put("hello", at=clock())
    assert await poller._round() <= THEIRS  # sooner where the beat of all replicas comes sooner
    assert not poller._senders
    clock.advance(timedelta(seconds=THEIRS))
    await poller._round()
    await bench.quiet()
    assert bench.chat.shown == {"#a": ["hello"]}


async def test_a_replica_that_stops_has_the_others_look(bench: Bench) -> None:
    """What it leaves behind is not left to it any more."""
    heard: asyncio.Queue[tuple[Topic, int]] = asyncio.Queue()
    leaving, staying = bench.replicas
    signals = Signals(staying.db, lambda topic, number: heard.put_nowait((topic, number)))
    signals.start()
    await signals.listening.wait()
    for topic in Topic:
        assert await heard.get() == (topic, 0)
    await leaving.outbox.start()
    await leaving.outbox.stop()
    assert await asyncio.wait_for(heard.get(), 10) == (Topic.OUTBOX, 0)
    await signals.stop()


async def test_a_kind_of_message_of_a_newer_slipway_is_left_to_it(bench: Bench) -> None:
    """During a rolling upgrade the older replica neither sends nor stumbles over it."""
    from sqlalchemy import text

    await bench.put("newer")
    await bench.db.run(lambda tx: tx.execute(text("UPDATE outbox SET kind = 'hologram'")))
    await bench.replicas[0].outbox.start()
    await bench.put("hello")
    bench.replicas[0].outbox.poke()
    async with asyncio.timeout(10):
        while not bench.chat.shown:
            await asyncio.sleep(0.01)
    assert bench.chat.shown == {"#a": ["hello"]}
