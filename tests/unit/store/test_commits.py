"""What all transactions need is held for as long as PostgreSQL takes, and never while a process does something else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, insert, text

from bot.store import audit, console
from bot.store.audit import AuditEntry
from bot.store.console import NewConsoleMessage
from bot.store.database import Database, Tx
from bot.store.signals import Topic, announce
from bot.store.tables import audit_head
from tests.support.databases import migrated
from tests.support.relay import relayed

ENTRY = AuditEntry(datetime(2026, 11, 26, tzinfo=UTC), "owner", "command", "/deploy pay prod", "accepted")


@pytest.fixture
def db(postgres_url: str) -> Iterator[Database]:
    with migrated(postgres_url) as one:
        yield one


def write_down(tx: Tx) -> None:
    """As every command does: its entry, and a signal to the other replicas."""
    announce(tx, Topic.OUTBOX)
    audit.append_at_end(tx, ENTRY)


async def test_whoever_stops_at_the_end_of_the_chain_holds_nobody_up(db: Database, postgres_url: str) -> None:
    """Paused right after it sent its entry, it is on record, and the others go on at once."""
    async with relayed(postgres_url, after=b"audit_append") as between:
        paused = Database(between.url)
        writing = asyncio.create_task(paused.run(write_down))
        async with asyncio.timeout(20):
            await between.stopped.wait()
        await db.run(write_down)
        assert await db.read(audit.verify) == (2, "")
        between.ended.set()
        await writing
        await asyncio.to_thread(paused.close)


async def test_a_chain_that_refuses_undoes_the_rest(db: Database) -> None:
    """Its error is met with the commit; nothing of the transaction stays, and the next one goes on as usual."""

    def work(tx: Tx) -> None:
        tx.execute(text("CREATE TABLE made (x integer)"))
        write_down(tx)

    head = await db.read(lambda tx: tx.execute(audit_head.select()).one())
    await db.run(lambda tx: tx.execute(delete(audit_head)))
    for _ in range(12):  # more often than there are connections
        with pytest.raises(Exception, match="query returned no rows"):
            await db.run(work)
    await db.run(lambda tx: tx.execute(insert(audit_head).values(**head._mapping)))
    await db.run(work)
    assert await db.read(audit.verify) == (1, "")


async def test_a_connection_that_is_lost_before_the_end_is_replaced(db: Database) -> None:
    """Nothing was committed, so the whole of it is done again."""
    runs = 0

    def work(tx: Tx) -> None:
        nonlocal runs
        runs += 1
        write_down(tx)
        tx.execute(text("SELECT 1"))
        if runs == 1:
            tx.connection.driver_connection.close()  # type: ignore[union-attr]

    await db.run(work)
    assert runs == 2
    assert await db.read(audit.verify) == (1, "")


async def test_consoles_numbers_wait_for_no_disk(db: Database) -> None:
    """Within the transaction that takes one, from there on, and in no other."""

    def setting(tx: Tx) -> str:
        return str(tx.execute(text("SHOW synchronous_commit")).scalar_one())

    def work(tx: Tx) -> list[str]:
        tx.execute(text("SET LOCAL synchronous_commit = on"))  # tests wait for no disk at all
        before = setting(tx)
        console.add_all(tx, [(NewConsoleMessage("#a", "owner", "hello", dedupe_key="1"), ENTRY.at)])
        return [before, setting(tx)]

    tests_own = await db.run(setting)
    assert await db.run(work) == ["on", "off"]
    assert await db.run(setting) == tests_own
