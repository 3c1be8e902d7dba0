"""What is deleted and, above all, what is not."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select, update

from bot.deployments.model import State
from bot.store import audit, firings, inbox, outbox, retention
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.outbox import NewNotice, Notice
from bot.store.tables import deployments, transitions
from bot.store.tables import outbox as messages
from tests.support import FakeClock
from tests.support.rows import new_deployment


def fill(tx: Tx, clock: FakeClock) -> None:
    """An old day: an answered intent and one that is not, a sent message and one that is not, two deployments."""
    at = clock()
    for event in ("done", "waiting"):
        inbox.put(tx, "console", event, "command", {}, at)
    inbox.finish(tx, 1, "accepted", "", at)
    ended, _ = rows.create(tx, new_deployment("ended"), at)
    rows.move(tx, ended, State.FAILED, at=at, actor="slipway")
    opened, _ = rows.create(tx, new_deployment("open", service="other"), at)
    for key, number in [("sent", None), ("unsent", None), ("of ended", ended.id), ("of open", opened.id)]:
        outbox.put(tx, NewNotice(key, "console", "#a", Notice.MESSAGE, number), at)
    for day in range(3):
        firings.fire(tx, "nightly", at + timedelta(minutes=day), at, outcome="accepted")
    audit.append(tx, AuditEntry(at, "owner", "command", "/deploy", "accepted"))


def tell(tx: Tx) -> None:
    tx.execute(update(messages).where(messages.c.key != "unsent").values(sent=messages.c.wanted))


def keys(db: Database) -> set[str]:
    return set(db.run_sync(lambda tx: list(tx.execute(select(messages.c.key)).scalars())))


def test_only_what_is_over_and_old_goes(db: Database, clock: FakeClock) -> None:
    """An open deployment keeps its card, an unanswered intent its row, a job its newest occurrence; history is kept."""
    db.run_sync(lambda tx: fill(tx, clock))
    db.run_sync(tell)
    assert db.run_sync(lambda tx: retention.forget(tx, clock())) == 0  # nothing is old yet
    later = clock() + timedelta(days=90)
    assert db.run_sync(lambda tx: retention.forget(tx, later)) > 0
    assert db.run_sync(lambda tx: retention.forget(tx, later)) == 0
    assert keys(db) == {"unsent", "of open"}
    assert db.run_sync(lambda tx: [inbox.get(tx, number) is not None for number in (1, 2)]) == [False, True]
    assert len(db.run_sync(lambda tx: firings.history(tx, "nightly"))) == 1
    assert db.run_sync(audit.verify) == (1, "")
    for table in (deployments, transitions):
        counted = select(func.count()).select_from(table)
        assert db.run_sync(lambda tx, counted=counted: tx.execute(counted).scalar_one()) >= 2  # type: ignore[misc]


def test_a_little_at_a_time(db: Database, clock: FakeClock) -> None:
    """A year of arrears is paid in short transactions."""
    for number in range(25):
        db.run_sync(lambda tx, number=number: inbox.put(tx, "console", f"e{number}", "command", {}, clock()))  # type: ignore[misc]
        db.run_sync(lambda tx, number=number: inbox.finish(tx, number + 1, "accepted", "", clock()))  # type: ignore[misc]
    later = clock() + timedelta(days=90)
    assert [db.run_sync(lambda tx: retention.forget(tx, later, limit=10)) for _ in range(4)] == [10, 10, 5, 0]
