"""Statements whose text is kept: the same rows as by SQLAlchemy's own way, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, case, insert, select, update

from bot.store.database import Database, Tx, sqlite_url
from bot.store.migrate import migrate
from bot.store.prepared import InsertOnce, Prepared
from bot.store.tables import inbox
from tests.support.postgres import PostgresServer

AT = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=8)))
VALUES = {"platform": "slack", "kind": "command", "payload": {"text": "发布 pay", "n": [1, None]}, "received_at": AT}


@pytest.fixture(params=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Each kind of database, up to date and empty."""
    if request.param == "sqlite":
        yield from opened(sqlite_url(tmp_path / "x.db"))
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as url:
        yield from opened(url)


def opened(url: str) -> Iterator[Database]:
    db = Database(url)
    migrate(db)
    yield db
    db.close()


def kept(tx: Tx) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in tx.execute(select(inbox).order_by(inbox.c.id))]


def test_it_stores_what_core_stores(db: Database) -> None:
    """JSON, text beyond ASCII and an instant of another zone."""
    prepared = Prepared(insert(inbox))

    def work(tx: Tx) -> None:
        tx.execute(insert(inbox), {**VALUES, "event_id": "core"})
        prepared.run(tx, {**VALUES, "event_id": "prepared"})
        prepared.run_many(tx, [{**VALUES, "event_id": f"many {number}"} for number in range(2)])

    db.run_sync(work)
    core, *others = db.run_sync(kept)
    assert core["received_at"] == AT
    assert core["received_at"].utcoffset() == timedelta(0)
    same = {name: value for name, value in core.items() if name not in ("id", "event_id")}
    assert [{**same, "id": row["id"], "event_id": row["event_id"]} for row in others] == others
    assert [row["event_id"] for row in others] == ["prepared", "many 0", "many 1"]


def test_a_parameter_twice_and_one_of_the_statement_itself(db: Database) -> None:
    """Both have their places, and what the statement holds needs no value."""
    limit = bindparam("limit_", type_=inbox.c.attempts.type)
    capped = case((inbox.c.attempts > limit, inbox.c.attempts), else_=limit)
    prepared = Prepared(update(inbox).where(inbox.c.event_id == "one").values(attempts=capped))

    def work(tx: Tx) -> list[int]:
        tx.execute(insert(inbox), [{**VALUES, "event_id": name} for name in ("one", "two")])
        assert prepared.run(tx, {"limit_": 7, "outcome": "accepted"}).rowcount == 1
        assert prepared.run(tx, {"limit_": 3, "outcome": None}).rowcount == 1
        return [row["attempts"] for row in kept(tx)]

    assert db.run_sync(work) == [7, 0]


def test_once(db: Database) -> None:
    """A new id, and None where the key is there, whoever inserted it; ids are those of the rows."""
    once = InsertOnce(inbox, [inbox.c.platform, inbox.c.event_id])

    def work(tx: Tx) -> list[int | None]:
        given = [once.run(tx, {**VALUES, "event_id": name}) for name in ("a", "b", "a")]
        tx.execute(insert(inbox), {**VALUES, "event_id": "c"})
        return [*given, once.run(tx, {**VALUES, "event_id": "c"}), *(row["id"] for row in kept(tx))]

    first, second, *rest = db.run_sync(work)
    assert first is not None
    assert second is not None
    assert first < second
    assert rest[:2] == [None, None]
    assert rest[2:4] == [first, second]


def test_a_naive_instant_is_refused(db: Database) -> None:
    """It has no meaning, whichever way it comes."""
    prepared = Prepared(insert(inbox))
    naive = datetime(2026, 11, 24, 10, tzinfo=UTC).replace(tzinfo=None)
    with pytest.raises(Exception, match="naive"):
        db.run_sync(lambda tx: prepared.run(tx, {**VALUES, "event_id": "x", "received_at": naive}))
