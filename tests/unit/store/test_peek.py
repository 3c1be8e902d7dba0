"""Looks that are too short for a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from bot.store import inbox
from bot.store.database import Database, DatabaseUnavailable, Tx, sqlite_url
from bot.store.migrate import migrate
from tests.support import FakeClock


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    one = Database(sqlite_url(tmp_path / "slipway.db"))
    migrate(one)
    yield one
    one.close()


async def test_what_was_committed_is_seen(db: Database, clock: FakeClock) -> None:
    """Each look sees everything committed before it, on both databases, and leaves no transaction open."""
    for number in range(3):
        await db.run(lambda tx, n=number: inbox.put(tx, "slack", f"e{n}", "command", {}, clock()))  # type: ignore[misc]
        seen = await db.peek(lambda tx: tx.execute(text("SELECT count(*) FROM inbox")).scalar())
        assert seen == number + 1


async def test_a_look_waits_for_no_long_reading(sqlite: Database) -> None:
    """A report may read for a minute; a command asks beside it."""
    go = threading.Event()
    long = asyncio.create_task(sqlite.read(lambda _tx: go.wait(30)))
    await asyncio.sleep(0)
    assert await sqlite.peek(lambda tx: tx.execute(text("SELECT 1")).scalar()) == 1
    assert not long.done()
    go.set()
    assert await long


async def test_a_look_that_fails_says_so(sqlite: Database) -> None:
    """As any other reading."""

    def work(tx: Tx) -> None:
        tx.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(DatabaseUnavailable):
        await sqlite.peek(work)
    assert await sqlite.peek(lambda tx: tx.execute(text("SELECT 1")).scalar()) == 1
