"""One replica at a time sends to a place, and none waits for another to find out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from bot.clock import utc_now
from bot.store import senders
from bot.store.database import Database
from bot.store.senders import Hold
from bot.store.tables import senders as table
from tests.support.databases import migrated

LEASE, OVER = timedelta(seconds=30), timedelta(seconds=-1)
A, B, C = ("console", "#a"), ("console", "#b"), ("console", "#c")
SURE, DOUBT = Hold(in_doubt=False), Hold(in_doubt=True)


@pytest.fixture
def db(postgres_url: str) -> Iterator[Database]:
    with migrated(postgres_url) as one:
        yield one


def take(db: Database, owner: str, *places: senders.Place, lease: timedelta = LEASE) -> dict[senders.Place, Hold]:
    return db.run_sync(lambda tx: senders.take(tx, places, owner, lease))


def leave(db: Database, owner: str, *places: senders.Place) -> None:
    db.run_sync(lambda tx: senders.leave(tx, places, owner))


def test_many_places_are_taken_and_left_in_one_statement_each(db: Database) -> None:
    """Those of another one are left out; what was left is taken without doubt, and one's own is kept."""
    assert take(db, "us", B, A) == {A: SURE, B: SURE}
    assert take(db, "them", A, C) == {C: SURE}
    assert take(db, "us", A, C) == {A: SURE}
    leave(db, "them", A)  # not theirs
    assert take(db, "them", A) == {}
    leave(db, "us", A, B)
    assert take(db, "them", A, B) == {A: SURE, B: SURE}


def test_a_place_of_a_dead_replica_is_taken_in_doubt(db: Database) -> None:
    """It may have been in the middle of a sending, which is looked for then."""
    take(db, "dead", A, lease=OVER)
    assert take(db, "us", A) == {A: DOUBT}
    assert take(db, "dead", A) == {}  # it was only paused
    assert take(db, "us", A) == {A: SURE}


def test_nobody_waits_for_what_another_one_is_about(db: Database) -> None:
    """It was taken or left a moment ago by a transaction that still runs: it is asked for again later."""
    take(db, "us", A)
    with db.engine.begin() as running:
        senders.leave(running, [A], "us")
        assert take(db, "them", A, B) == {B: SURE}
    assert take(db, "them", A) == {A: SURE}


def test_places_that_were_left_long_ago_are_forgotten(db: Database) -> None:
    """Those that are held stay."""
    take(db, "us", A, B)
    leave(db, "us", A)
    count = select(func.count()).select_from(table)
    assert db.run_sync(lambda tx: senders.forget(tx, utc_now() - timedelta(days=1))) == 0
    assert db.run_sync(lambda tx: senders.forget(tx, utc_now() + timedelta(days=1))) == 1
    assert db.run_sync(lambda tx: tx.execute(count).scalar_one()) == 1
