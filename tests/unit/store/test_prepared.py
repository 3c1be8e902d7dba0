"""Statements whose text is kept: the same rows as by SQLAlchemy's own way, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, case, insert, select, update
from sqlalchemy.exc import IntegrityError, MultipleResultsFound, NoResultFound

from bot.store.database import Database, DatabaseUnavailable, Tx, sqlite_url
from bot.store.prepared import InsertOnce, Prepared
from bot.store.tables import inbox
from tests.support.databases import migrated
from tests.support.postgres import PostgresServer

AT = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=8)))
VALUES = {"platform": "slack", "kind": "command", "payload": {"text": "发布 pay", "n": [1, None]}, "received_at": AT}


@pytest.fixture(params=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Each kind of database, up to date and empty."""
    if request.param == "sqlite":
        with migrated(sqlite_url(tmp_path / "x.db")) as one:
            yield one
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as url, migrated(url) as one:
        yield one


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


def test_a_statement_alone_begins_the_transaction(db: Database) -> None:
    """What it wrote goes with a failure after it, and is there after a commit, whichever statement came first."""
    prepared = Prepared(insert(inbox))

    def fails(tx: Tx) -> None:
        prepared.run(tx, {**VALUES, "event_id": "lost"})
        prepared.run_many(tx, [{**VALUES, "event_id": "lost too"}])
        raise RuntimeError("after both")

    with pytest.raises(RuntimeError):
        db.run_sync(fails)
    db.run_sync(lambda tx: prepared.run(tx, {**VALUES, "event_id": "kept"}))
    assert [row["event_id"] for row in db.run_sync(kept)] == ["kept"]


def test_what_comes_back_is_asked_alike(db: Database) -> None:
    """One value, one row, none, and more than one where one was meant."""
    numbers = Prepared(select(inbox.c.id, inbox.c.event_id).order_by(inbox.c.id))
    assert db.run_sync(lambda tx: numbers.run(tx, {}).scalar()) is None
    assert db.run_sync(lambda tx: numbers.run(tx, {}).scalar_one_or_none()) is None
    with pytest.raises(NoResultFound):
        db.run_sync(lambda tx: numbers.run(tx, {}).one())
    db.run_sync(lambda tx: Prepared(insert(inbox)).run(tx, {**VALUES, "event_id": "a"}))
    first = db.run_sync(lambda tx: numbers.run(tx, {}).scalar_one())
    assert db.run_sync(lambda tx: tuple(numbers.run(tx, {}).one())) == (first, "a")
    db.run_sync(lambda tx: Prepared(insert(inbox)).run(tx, {**VALUES, "event_id": "b"}))
    assert [row[1] for row in db.run_sync(lambda tx: numbers.run(tx, {}).all())] == ["a", "b"]
    for one in ("one", "scalar_one", "scalar_one_or_none"):
        with pytest.raises(MultipleResultsFound):
            db.run_sync(lambda tx, name=one: getattr(numbers.run(tx, {}), name)())  # type: ignore[misc]


def test_what_is_refused_is_told_as_by_sqlalchemy(db: Database) -> None:
    """A key twice; and the error does not hold what people wrote."""
    prepared = Prepared(insert(inbox))
    with pytest.raises(IntegrityError):
        db.run_sync(lambda tx: [prepared.run(tx, {**VALUES, "event_id": "same"}) for _ in range(2)])
    assert db.run_sync(kept) == []


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Database]:
    """SQLite alone."""
    with migrated(sqlite_url(tmp_path / "x.db")) as made:
        yield made


def test_a_full_disk_is_told_in_a_sentence(one: Database) -> None:
    """By the statements that every command runs, too; what people wrote is in no error."""
    prepared = Prepared(insert(inbox))
    pages = one.run_sync(lambda tx: tx.exec_driver_sql("PRAGMA page_count").scalar())
    one.run_sync(lambda tx: tx.exec_driver_sql(f"PRAGMA max_page_count={pages}"))
    large = {**VALUES, "payload": {"text": "secret" * 2000}}
    with pytest.raises(DatabaseUnavailable, match="disk of the database is full") as raised:
        one.run_sync(lambda tx: prepared.run_many(tx, [{**large, "event_id": f"e{number}"} for number in range(9)]))
    assert "secret" not in str(raised.value.__cause__)


def test_a_commit_that_fails_leaves_nothing_behind(one: Database) -> None:
    """SQLite stays in such a transaction until somebody ends it, and nothing could be written from then on."""

    def fails_at_its_end(tx: Tx) -> None:
        tx.exec_driver_sql("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        tx.exec_driver_sql("CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED)")
        tx.exec_driver_sql("INSERT INTO b VALUES (1)")

    with pytest.raises(IntegrityError):
        one.run_sync(fails_at_its_end)
    one.run_sync(lambda tx: Prepared(insert(inbox)).run(tx, {**VALUES, "event_id": "after"}))
    assert [row["event_id"] for row in one.run_sync(kept)] == ["after"]
    assert one.run_sync(lambda tx: tx.exec_driver_sql("SELECT name FROM sqlite_master WHERE name = 'b'").all()) == []
