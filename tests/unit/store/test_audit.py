"""The audit log is append-only and every change to it is found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, update

from bot.store import audit
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.migrate import migrate
from bot.store.tables import audit as table

AT = datetime(2026, 11, 21, 9, 18, 7, 123456, tzinfo=UTC)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    migrate(database)
    for number in range(20):
        entry = AuditEntry(AT, "owner", "command", f"/deploy {number}", "accepted", "", "支付 ✓")
        database.run_sync(lambda tx, entry=entry: audit.append(tx, entry))  # type: ignore[misc]
    yield database
    database.close()


def test_an_untouched_log_is_whole(db: Database) -> None:
    """The chain survives a round trip through either database, zone and letters included."""
    assert db.run_sync(lambda tx: audit.verify(tx, batch=7)) == (20, "")


def test_a_changed_entry_is_named(db: Database) -> None:
    """Whoever edits history is found, wherever."""
    db.run_sync(lambda tx: tx.execute(update(table).where(table.c.seq == 9).values(actor="somebody")))
    assert db.run_sync(audit.verify) == (8, "entry 9 was changed")


@pytest.mark.parametrize("column", ["at", "actor", "action", "subject", "outcome", "code", "detail", "hash"])
def test_no_column_can_be_changed_unseen(db: Database, column: str) -> None:
    """In the first entry, the last one and one between; the first that was touched is the one that is named."""
    forged: object = datetime(2026, 1, 1, tzinfo=UTC) if column == "at" else "0" * 64 if column == "hash" else "x"
    for seq in (20, 11, 1):
        db.run_sync(lambda tx, seq=seq: tx.execute(update(table).where(table.c.seq == seq).values({column: forged})))  # type: ignore[misc]
        assert db.run_sync(audit.verify) == (seq - 1, f"entry {seq} was changed")


def test_a_removed_entry_is_named(db: Database) -> None:
    """Also in the middle."""
    db.run_sync(lambda tx: tx.execute(delete(table).where(table.c.seq == 5)))
    assert db.run_sync(audit.verify) == (4, "entry 5 is missing")


def test_a_cut_end_is_named(db: Database) -> None:
    """Removing the newest entries is the easiest forgery."""
    db.run_sync(lambda tx: tx.execute(delete(table).where(table.c.seq > 17)))
    assert db.run_sync(audit.verify) == (17, "entries 18 to 20 are missing")


def test_a_rolled_back_transaction_leaves_no_gap(db: Database) -> None:
    """An entry exists only if what it tells of does."""

    def work(tx: object) -> None:
        audit.append(tx, AuditEntry(AT, "owner", "command", "x", "accepted"))  # type: ignore[arg-type]
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        db.run_sync(work)
    assert db.run_sync(audit.verify) == (20, "")


def test_what_is_added_while_it_is_verified_is_no_forgery(db: Database) -> None:
    """A running company writes all the time; the walk ends where the head was when it began."""
    added = []

    def add_one(tx: Tx) -> None:
        audit.append(tx, AuditEntry(AT, "owner", "command", "meanwhile", "accepted"))
        added.append(1)

    def work(tx: Tx) -> tuple[int, str]:
        walk = audit._walk

        def walking(tx: Tx, last: int, batch: int) -> Iterator[audit.StoredEntry]:
            for stored in walk(tx, last, batch):
                add_one(tx)
                yield stored

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(audit, "_walk", walking)
            return audit.verify(tx, batch=7)

    assert db.run_sync(work) == (20, "")
    assert db.run_sync(audit.verify) == (20 + len(added), "")


def test_odd_texts_are_chained_as_they_are_stored(db: Database) -> None:
    """PostgreSQL hashes by itself what `verify` hashes here: quotes, lines and what JSON writes otherwise."""
    texts = ['"quoted" \\ {"seq":7}', "two\nlines\t\r", "\u2028 \x7f \x01 é 支付 \U0001f600", ""]
    odd = [AuditEntry(AT, text, "command", text, "accepted", "", text) for text in texts]
    db.run_sync(lambda tx: audit.append(tx, *odd))
    assert db.run_sync(audit.verify) == (24, "")
    assert [one.entry for one in db.run_sync(lambda tx: audit.entries(tx, after=20))] == odd
