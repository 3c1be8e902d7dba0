"""Signals between replicas: at once, only with the commit, never one's own, and made up after an interruption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from bot.store.database import Database, Tx
from bot.store.signals import Signals, Topic, announce

Heard = asyncio.Queue[tuple[Topic, int]]


@pytest.fixture
async def replicas(postgres_url: str) -> AsyncIterator[tuple[Database, Database, Heard]]:
    """Two replicas; what the second one hears."""
    here, there = Database(postgres_url), Database(postgres_url)
    heard: Heard = asyncio.Queue()
    signals = Signals(there, lambda topic, number: heard.put_nowait((topic, number)))
    signals.start()
    await asyncio.wait_for(signals.listening.wait(), 10)
    for _ in Topic:
        await heard.get()  # at the start everything is looked at once
    yield here, there, heard
    await signals.stop()
    here.close()
    there.close()


async def test_a_commit_is_heard_at_once(replicas: tuple[Database, Database, Heard]) -> None:
    """A click on one replica must not wait for the poll of the one that runs the deployment."""
    here, _, heard = replicas
    for number in range(20):
        await here.run(lambda tx, number=number: announce(tx, Topic.DEPLOYMENT, number))  # type: ignore[misc]
        # Nobody polls here, so that it is heard at all is the signal's doing.
        assert await asyncio.wait_for(heard.get(), 5) == (Topic.DEPLOYMENT, number)


async def test_said_twice_is_sent_once(replicas: tuple[Database, Database, Heard]) -> None:
    """A transaction that changes ten messages wakes the other replicas once."""
    here, _, heard = replicas

    def work(tx: Tx) -> None:
        for _ in range(10):
            announce(tx, Topic.OUTBOX)
        announce(tx, Topic.DEPLOYMENT, 1)

    await here.run(work)
    assert await asyncio.wait_for(heard.get(), 5) == (Topic.OUTBOX, 0)
    assert await asyncio.wait_for(heard.get(), 5) == (Topic.DEPLOYMENT, 1)


async def test_what_was_rolled_back_is_not_told(replicas: tuple[Database, Database, Heard]) -> None:
    """Nor does it go out with the next transaction of the same connection."""
    here, _, heard = replicas

    def work(tx: Tx) -> None:
        announce(tx, Topic.DEPLOYMENT, 1)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await here.run(work)
    await here.run(lambda tx: announce(tx, Topic.DEPLOYMENT, 2))
    assert await asyncio.wait_for(heard.get(), 5) == (Topic.DEPLOYMENT, 2)


async def test_ones_own_words_are_passed_over(replicas: tuple[Database, Database, Heard]) -> None:
    """Whoever changed something knows it already; looking again would double the work. Foreign words are nothing."""
    here, there, heard = replicas
    await there.run(lambda tx: announce(tx, Topic.DEPLOYMENT, 1))
    await here.run(
        lambda tx: tx.execute(text("SELECT pg_notify('slipway', 'x newer_topic 1'), pg_notify('slipway', '')"))
    )
    await here.run(lambda tx: announce(tx, Topic.DEPLOYMENT, 2))
    assert await asyncio.wait_for(heard.get(), 5) == (Topic.DEPLOYMENT, 2)


async def test_a_cut_connection_is_made_up_for(replicas: tuple[Database, Database, Heard]) -> None:
    """What was said meanwhile is lost, so everything is looked at once when listening again."""
    here, _, heard = replicas
    whose = "query LIKE 'LISTEN%' AND datname = current_database()"
    kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {whose}"
    await here.run(lambda tx: tx.execute(text(kill)).all())
    assert {await asyncio.wait_for(heard.get(), 10) for _ in Topic} == {(topic, 0) for topic in Topic}
    await here.run(lambda tx: announce(tx, Topic.OUTBOX))
    assert await asyncio.wait_for(heard.get(), 5) == (Topic.OUTBOX, 0)


async def test_listening_sets_no_clock(
    replicas: tuple[Database, Database, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg's own wait wakes ten times a second for ever, which was half of what an idle replica used."""
    here, _, heard = replicas
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    later = loop.call_later

    def noting(delay: float, *args: Any, **more: Any) -> asyncio.TimerHandle:
        delays.append(delay)
        return later(delay, *args, **more)

    monkeypatch.setattr(loop, "call_later", noting)
    for number in range(3):
        await here.run(lambda tx, number=number: announce(tx, Topic.DEPLOYMENT, number))  # type: ignore[misc]
        assert await heard.get() == (Topic.DEPLOYMENT, number)
    assert [delay for delay in delays if delay > 0] == []
