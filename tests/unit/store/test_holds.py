"""Locks and freezes as rows, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.deployments.facts import standing_facts
from bot.store import holds
from bot.store.database import Database
from bot.store.holds import ChatFreeze, Lock
from bot.store.migrate import migrate
from tests.support.clock import MONDAY_MORNING


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    migrate(database)
    yield database
    database.close()


LOCK = Lock("pay/prod", "olive", "load test", MONDAY_MORNING, MONDAY_MORNING + timedelta(hours=2), exempt=("rollback",))


def test_one_lock_for_one_thing(db: Database) -> None:
    """Two who lock at once: one has it, and the other knows."""
    assert db.run_sync(lambda tx: holds.take(tx, LOCK))
    assert not db.run_sync(lambda tx: holds.take(tx, replace(LOCK, holder="leo")))
    assert db.run_sync(holds.all_locks) == [LOCK]


def test_a_lock_that_changed_hands_is_not_released(db: Database) -> None:
    """Whoever looked before must not release what somebody else holds now."""
    db.run_sync(lambda tx: holds.take(tx, LOCK))
    assert db.run_sync(lambda tx: holds.replace_lock(tx, LOCK, replace(LOCK, holder="leo")))
    assert not db.run_sync(lambda tx: holds.release(tx, LOCK))
    assert not db.run_sync(lambda tx: holds.replace_lock(tx, LOCK, LOCK))
    seen = db.run_sync(lambda tx: holds.get_lock(tx, "pay/prod"))
    assert seen is not None
    assert (seen.holder, seen.version) == ("leo", 2)
    assert db.run_sync(lambda tx: holds.release(tx, seen))


@pytest.mark.parametrize("what", ["pay", "/", "pay/", "a/b/c", ""])
def test_a_lock_that_cannot_be_understood_holds_everything(db: Database, what: str) -> None:
    """A row that a newer version or a person at the database wrote must not open a door."""
    db.run_sync(lambda tx: holds.take(tx, replace(LOCK, what=what)))
    (fact,) = db.run_sync(lambda tx: standing_facts(tx, MONDAY_MORNING)).locks
    assert not fact.readable


def test_a_freeze_stands_until_its_end_or_until_it_is_lifted(db: Database) -> None:
    """And is lifted once."""
    end = MONDAY_MORNING + timedelta(hours=1)
    new = ChatFreeze("f", {"environments": ["prod"], "moon": ["full"]}, MONDAY_MORNING, end, "x", ("hotfix",), "rae")
    number = db.run_sync(lambda tx: holds.freeze(tx, new))
    (freeze,) = db.run_sync(lambda tx: standing_facts(tx, MONDAY_MORNING)).freezes
    assert (freeze.scope.environments, freeze.exempt_kinds, freeze.end_at) == (("prod",), ("hotfix",), end)
    assert db.run_sync(lambda tx: holds.standing_freezes(tx, end)) == []
    assert db.run_sync(lambda tx: holds.lift(tx, number, MONDAY_MORNING))
    assert not db.run_sync(lambda tx: holds.lift(tx, number, MONDAY_MORNING))
    assert db.run_sync(lambda tx: standing_facts(tx, MONDAY_MORNING)).freezes == ()
