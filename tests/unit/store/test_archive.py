"""What is put away: out of the tables that commands read, and still answered about."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sqlalchemy import Table, func, select

from bot.app import Outside
from bot.deployments.model import Deployment, State
from bot.store import archive, audit, outbox
from bot.store import deployments as rows
from bot.store.archive import KEPT
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.deployments import Vote
from bot.store.outbox import NewNotice, Notice
from bot.store.put_away import put_away
from bot.store.tables import deployments, transitions
from bot.store.tables import outbox as messages
from tests.support import FakeClock
from tests.support.rows import new_deployment
from tests.support.running import running
from tests.support.world import make_world

LATER = timedelta(days=500)


def ended(tx: Tx, clock: FakeClock, key: str, service: str = "app", state: State = State.SUCCEEDED) -> Deployment:
    """A deployment with a vote and a message."""
    made, _ = rows.create(tx, new_deployment(key, service=service), clock())
    rows.add_vote(tx, made.id, Vote("lead", "s", "approve", "because", clock()), "console")
    outbox.put(tx, NewNotice(f"card:{key}", "console", "#a", Notice.DEPLOYMENT, made.id), clock())
    return rows.move(tx, made, state, at=clock(), actor="owner", note="over")


def told(tx: Tx, over: list[Deployment]) -> None:
    """Their messages have arrived."""
    for one in over:
        for row in outbox.of_deployment(tx, one.id):
            outbox.sent_all(tx, [outbox.Sent(row, "m1", "hash")])


def fill(db: Database, clock: FakeClock, count: int = KEPT + 3, service: str = "app") -> list[Deployment]:
    made = db.run_sync(lambda tx: [ended(tx, clock, f"{service}{number}", service) for number in range(count)])
    db.run_sync(lambda tx: told(tx, made))
    return made


def count(db: Database, table: Table = deployments) -> int:
    query = select(func.count()).select_from(table)
    return db.run_sync(lambda tx: tx.execute(query).scalar_one())


async def test_what_is_put_away_is_still_known_whole(db: Database, clock: FakeClock) -> None:
    """Each field, state and vote as it was; the tables hold what commands look for."""
    made = fill(db, clock)
    paths = [db.run_sync(lambda tx, one=one: rows.path(tx, one.id)) for one in made]  # type: ignore[misc]
    db.run_sync(lambda tx: audit.append(tx, AuditEntry(clock(), "owner", "command", "/deploy", "accepted")))
    assert await put_away(db, clock()) == 0  # nothing is old yet
    assert await put_away(db, clock() + LATER) == 3
    assert await put_away(db, clock() + LATER) == 0
    assert (count(db), count(db, transitions), count(db, messages)) == (KEPT, 2 * KEPT, KEPT)
    for one, path in zip(made, paths, strict=True):
        assert db.run_sync(lambda tx, one=one: rows.get(tx, one.id)) == one  # type: ignore[misc]
        assert db.run_sync(lambda tx, one=one: rows.path(tx, one.id)) == path  # type: ignore[misc]
        votes = db.run_sync(lambda tx, one=one: rows.votes_of(tx, one.id))  # type: ignore[misc]
        assert [vote.person for vote in votes] == ["lead"]
    kept = db.run_sync(lambda tx: archive.find(tx, made[0].id))
    assert kept is not None
    assert [message.key for message in kept.messages] == ["card:app0"]
    assert db.run_sync(audit.verify) == (1, "")


async def test_history_goes_on_into_the_archive(db: Database, clock: FakeClock) -> None:
    """In order, each once, and of the target that was asked for."""
    made = fill(db, clock)
    fill(db, clock, service="other")
    await put_away(db, clock() + LATER)
    found = db.run_sync(lambda tx: rows.history(tx, "app", "prod", limit=100))
    assert [one.id for one in found] == [one.id for one in reversed(made)]
    assert [one.id for one in db.run_sync(lambda tx: rows.history(tx, "app", "prod", 2, before=3))] == [2, 1]


async def test_what_is_needed_stays(db: Database, clock: FakeClock) -> None:
    """The last good ones of a target, however old; what is open; and what somebody has not been told of yet."""
    few = fill(db, clock, count=2, service="quiet")
    waiting = db.run_sync(lambda tx: rows.create(tx, new_deployment("open"), clock())[0])
    untold = db.run_sync(lambda tx: ended(tx, clock, "untold", state=State.FAILED))
    db.run_sync(lambda tx: rows.touch_cards(tx, untold.id, clock()))
    fill(db, clock)
    assert await put_away(db, clock() + LATER) == 3
    for number in (*(one.id for one in few), waiting.id, untold.id):
        assert db.run_sync(lambda tx, number=number: archive.find(tx, number)) is None  # type: ignore[misc]
    assert db.run_sync(lambda tx: rows.last_good(tx, "quiet", "prod")) == few[-1]


async def test_people_still_get_an_answer(tmp_path: Path, clock: FakeClock) -> None:
    """`/why d-1` and `/status` of one from years ago, after the job put it away."""
    async with running(make_world(tmp_path), outside=Outside(clock=clock)) as slipway:
        db = slipway.app.db
        made = await db.run(lambda tx: [ended(tx, clock, f"app{number}") for number in range(KEPT + 3)])
        await db.run(lambda tx: told(tx, made))
        clock.advance(LATER)
        assert await slipway.app.archive_old() == 3
        why = await slipway.say("owner", "/why d-1")
        assert "d-1" in why[-1].text
        assert "There is no" not in why[-1].text
        history = await slipway.say("owner", "/history app prod")
        assert f"d-{KEPT + 3}" in str(history[-1].card)
