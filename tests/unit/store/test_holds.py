"""Locks and freezes as rows, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.deployments.facts import standing_facts
from bot.policy.model import Facts
from bot.store import alerts, emergencies, holds
from bot.store import deployments as rows
from bot.store.alerts import Alert
from bot.store.database import Database, Tx
from bot.store.emergencies import Review
from bot.store.holds import ChatFreeze, Lock
from tests.support.clock import MONDAY_MORNING
from tests.support.rows import new_deployment

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


def by_a_lock(tx: Tx) -> None:
    holds.take(tx, LOCK)


def by_a_freeze(tx: Tx) -> None:
    holds.freeze(tx, ChatFreeze("f", {}, MONDAY_MORNING, None, "x", (), "rae"))


def by_an_alert(tx: Tx) -> None:
    until = MONDAY_MORNING + timedelta(hours=1)
    alerts.fire(tx, Alert("f1", "Slow", "pay", "prod", "p99 is 3 s", MONDAY_MORNING, until))


def by_a_review(tx: Tx) -> None:
    deployment, _ = rows.create(tx, new_deployment("k"), MONDAY_MORNING)
    due = MONDAY_MORNING + timedelta(days=1)
    emergencies.owe(tx, Review(deployment.id, "pay", "prod", "lane", "olive", MONDAY_MORNING, due, block="always"))


@pytest.mark.parametrize("hold", [by_a_lock, by_a_freeze, by_an_alert, by_a_review])
def test_each_that_holds_is_seen_alone(db: Database, hold: Callable[[Tx], None]) -> None:
    """They are looked for in one question, and read only if there is any."""
    assert db.run_sync(lambda tx: standing_facts(tx, MONDAY_MORNING)) == Facts()
    db.run_sync(hold)
    seen = db.run_sync(lambda tx: standing_facts(tx, MONDAY_MORNING))
    assert len(seen.locks) + len(seen.freezes) + len(seen.reviews) == 1
