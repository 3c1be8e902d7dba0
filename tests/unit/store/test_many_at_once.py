"""What a burst does in few statements is what each would have done alone, on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from bot.deployments.model import Deployment, State
from bot.store import audit, inbox, outbox, releases
from bot.store import deployments as rows
from bot.store.database import Database, Tx
from bot.store.deployments import Change, TargetBusy
from bot.store.inbox import Done, NewIntent
from bot.store.outbox import NewNotice, Notice, Sent
from bot.store.releases import Release
from bot.store.tables import deployments
from tests.support import FakeClock
from tests.support.rows import new_deployment

LEASE = timedelta(seconds=10)


def claimed(db: Database, clock: FakeClock, *services: str) -> list[Deployment]:
    """A queued deployment of each, leased to `us`."""
    for number, service in enumerate(services):
        db.run_sync(lambda tx, n=number, s=service: rows.create(tx, new_deployment(f"k{n}", service=s), clock()))  # type: ignore[misc]
    found = db.run_sync(lambda tx: rows.claim(tx, "us", [State.QUEUED], clock(), LEASE, 100))
    return sorted(found, key=lambda one: one.id)


def test_a_burst_of_changes_is_recorded_row_by_row(db: Database, clock: FakeClock) -> None:
    """What comes back is what stands in the table; the version of each is its own guard, and the lease too."""
    moved, stayed, overtaken, taken, signalled = claimed(db, clock, "a", "b", "c", "d", "e")
    at, later = clock(), clock() + timedelta(minutes=3)
    db.run_sync(lambda tx: rows.move(tx, overtaken, State.CANCELLED, at=at, actor="owner"))
    db.run_sync(lambda tx: rows.leave(tx, rows.Leaving(taken.id, "us")))
    db.run_sync(lambda tx: rows.wake(tx, signalled.id, at))
    learned = stayed.data.model_copy(update={"waiting_for": "a \u2603 'quote'"})
    changes = [
        Change(moved, State.BUILDING, moved.data, at, at, "slipway", "it begins", "sha256:1"),
        Change(stayed, stayed.state, learned, at, later),
        Change(overtaken, State.BUILDING, overtaken.data, at, at, "slipway"),
        Change(taken, State.BUILDING, taken.data, at, at, "slipway"),
        Change(signalled, signalled.state, learned, at, later),
    ]
    after = db.run_sync(lambda tx: rows.change_all(tx, changes, "us", LEASE))
    assert [one is None for one in after] == [False, False, True, True, False]
    for one in after:
        if one is not None:
            assert db.run_sync(lambda tx, n=one.id: rows.get(tx, n)) == one  # type: ignore[misc]
    assert after[0] is not None
    assert (after[0].state, after[0].digest) == (State.BUILDING, "sha256:1")
    assert after[1] is not None
    assert (after[1].wake_at, after[1].data) == (later, learned)
    assert after[4] is not None
    assert after[4].wake_at == at
    path = db.run_sync(lambda tx: rows.path(tx, moved.id))
    assert [(one.to_state, one.actor, one.note) for one in path[1:]] == [("building", "slipway", "it begins")]
    assert len(db.run_sync(lambda tx: rows.path(tx, stayed.id))) == 1


def test_a_change_makes_the_lease_last_anew(db: Database, clock: FakeClock) -> None:
    """A burst may take longer than a lease lasts; on SQLite, with one process, leases stay as they are."""
    (seen,) = claimed(db, clock, "a")
    clock.advance(2 * LEASE)
    ended = update(deployments).values(lease_until=datetime.now(UTC) - LEASE)
    if not db.is_sqlite:  # whose clock is its own
        db.run_sync(lambda tx: tx.execute(ended))
    change = Change(seen, State.BUILDING, seen.data, clock(), clock())
    assert db.run_sync(lambda tx: rows.change_all(tx, [change], "us", LEASE)) != [None]
    others = db.run_sync(lambda tx: rows.claim(tx, "them", [State.BUILDING], clock(), LEASE, 100))
    assert [one.id for one in others] == ([seen.id] if db.is_sqlite else [])


def test_who_was_due_stays_due(db: Database, clock: FakeClock) -> None:
    """Whatever time is written then: it is claimed at once, and what comes back is what stands in the table."""
    (seen,) = claimed(db, clock, "a")
    clock.advance(timedelta(minutes=1))
    change = Change(seen, State.BUILDING, seen.data, clock(), clock())
    (after,) = db.run_sync(lambda tx: rows.change_all(tx, [change], "us", LEASE))
    assert after == db.run_sync(lambda tx: rows.get(tx, seen.id))
    assert after is not None
    assert after.wake_at == (clock() if db.is_sqlite else seen.wake_at)
    db.run_sync(lambda tx: rows.leave(tx, rows.Leaving(seen.id, "us")))
    found = db.run_sync(lambda tx: rows.claim(tx, "them", [State.BUILDING], clock(), LEASE, 100))
    assert [one.id for one in found] == [seen.id]


def test_a_thought_of_several_steps_is_one_change(db: Database, clock: FakeClock) -> None:
    """Every state that was passed is a transition of its own number; the guard is the row as it was on record."""
    seen, overtaken = claimed(db, clock, "a", "b")
    at = clock()

    def thought(one: Deployment) -> Change:
        building = Change(one, State.BUILDING, one.data, at, at, "slipway", "it begins", "sha256:1")
        learned = one.data.model_copy(update={"artifact": "there"})
        writing = Change(building.foreseen, State.WRITING, one.data, at, at, "slipway", "built before")
        return Change(writing.foreseen, State.WRITING, learned, at, at, after=(building, writing))

    db.run_sync(lambda tx: rows.move(tx, overtaken, State.CANCELLED, at=at, actor="owner"))
    after, nothing = db.run_sync(lambda tx: rows.change_all(tx, [thought(seen), thought(overtaken)], "us", LEASE))
    assert nothing is None
    assert after is not None
    assert (after.state, after.version, after.digest) == (State.WRITING, 3, "sha256:1")
    assert after.data.artifact == "there"
    assert db.run_sync(lambda tx: rows.get(tx, seen.id)) == after
    path = db.run_sync(lambda tx: rows.path(tx, seen.id))
    assert [(one.from_state, one.to_state, one.note) for one in path[1:]] == [
        ("queued", "building", "it begins"),
        ("building", "writing", "built before"),
    ]
    assert db.run_sync(lambda tx: rows.holder(tx, "a", "prod")) == after
    assert [one.to_state for one in db.run_sync(lambda tx: rows.path(tx, overtaken.id))] == ["queued", "cancelled"]


def test_deployments_of_one_moment_are_made_once(db: Database, clock: FakeClock) -> None:
    """Each with its own number and first transition; one whose key was used before is that one."""
    old, is_new = db.run_sync(lambda tx: rows.create(tx, new_deployment("k0"), clock()))
    assert is_new
    wanted = [(new_deployment(f"k{n}", service=f"s{n}"), clock()) for n in range(3)]
    made = db.run_sync(lambda tx: rows.create_all(tx, wanted))
    assert [is_new for _, is_new in made] == [False, True, True]
    assert made[0][0] == old
    for one, _ in made:
        assert db.run_sync(lambda tx, n=one.id: rows.get(tx, n)) == one  # type: ignore[misc]
        assert [step.to_state for step in db.run_sync(lambda tx, n=one.id: rows.path(tx, n))] == ["queued"]  # type: ignore[misc]
    assert made[1][0].id < made[2][0].id


def test_two_for_one_target_are_never_both_let_in(db: Database, clock: FakeClock) -> None:
    """The unique slot holds for a burst as for one; nothing of the burst is kept then."""
    first, second = claimed(db, clock, "a", "a")
    changes = [Change(one, State.BUILDING, one.data, clock(), clock()) for one in (first, second)]
    with pytest.raises(TargetBusy):
        db.run_sync(lambda tx: rows.change_all(tx, changes, "us", LEASE))
    assert db.run_sync(lambda tx: rows.peek(tx, [first.id, second.id, 99])) == [
        ("queued", 0, 0),
        ("queued", 0, 0),
        None,
    ]


def test_who_is_in_front_is_found_for_each(db: Database, clock: FakeClock) -> None:
    """The holder of the target, else the one that was asked for before; of another target nobody."""
    first, second, other = claimed(db, clock, "a", "a", "b")
    waiting = [first, second, other]
    found = db.run_sync(lambda tx: rows.in_front(tx, waiting, clock()))
    assert found == [None, first, None]
    held = db.run_sync(lambda tx: rows.move(tx, first, State.BUILDING, at=clock(), actor="slipway"))
    assert db.run_sync(lambda tx: rows.in_front(tx, [second, other], clock())) == [held, None]
    assert db.run_sync(lambda tx: rows.open_on(tx, ["a/prod", "c/prod"])) == {"a/prod": [held, second]}
    assert db.run_sync(lambda tx: rows.known_keys(tx, ["k0", "k7"])) == {"k0"}


def test_intents_of_one_moment_are_stored_and_finished_once(db: Database, clock: FakeClock) -> None:
    """A repeat in the same burst is a repeat, and one that was answered before is not answered again."""
    new = [NewIntent("console", event, "command", {"text": event}, clock()) for event in ("a", "b", "a")]
    first, second, repeat = db.run_sync(lambda tx: inbox.put_all(tx, new, "us"))
    assert first is not None
    assert second is not None
    assert repeat is None
    assert db.run_sync(lambda tx: inbox.put_all(tx, new[:1], "us")) == [None]
    stored = db.run_sync(lambda tx: inbox.get(tx, second))
    assert stored is not None
    assert stored.payload == {"text": "b"}
    assert db.run_sync(lambda tx: inbox.claim(tx, "other", clock())) == []  # they are held
    done = [Done(number, "accepted", "it's \u2603", clock()) for number in (first, second)]
    assert db.run_sync(lambda tx: inbox.finish_all(tx, done[:1])) == {first}
    assert db.run_sync(lambda tx: inbox.finish_all(tx, done)) == {second}
    stored = db.run_sync(lambda tx: inbox.get(tx, second))
    assert stored is not None
    assert (stored.answer, stored.done_at) == ("it's \u2603", clock())


def test_releases_are_found_by_every_name(db: Database, clock: FakeClock) -> None:
    """Of one name the newest, of a commit its own; a service's names are not another's."""

    def one(service: str, commit: str, digest: str) -> Release:
        return Release(service, commit, "1.0", "main", digest, "", "", clock())

    older, newer, other = one("a", "c1", "d1"), one("a", "c2", "d2"), one("b", "c1", "d1")
    for made in (older, newer, other):
        db.run_sync(lambda tx, made=made: releases.put(tx, made))  # type: ignore[misc]
    names = [("a", "1.0"), ("a", "d1"), ("b", "1.0"), ("b", "d2"), ("a", "1.0")]
    assert db.run_sync(lambda tx: releases.by_names(tx, names)) == [newer, older, other, None, newer]
    commits = [("a", "c1"), ("b", "c2"), ("b", "c1")]
    assert db.run_sync(lambda tx: releases.by_commits(tx, commits)) == [older, None, other]


def test_messages_of_many_places_are_found_and_written_down_together(db: Database, clock: FakeClock) -> None:
    """As one after the other: each place's in its order and to its own limit, and what is wanted since stays behind."""
    texts = [("#a", "a1", 0), ("#b", "b1", 0), ("#a", "a2", 2), ("#a", "a3", 0)]

    def put(tx: Tx) -> None:
        for place, key, priority in (*texts, texts[0]):  # the last one is here already
            outbox.put_fresh(tx, NewNotice(key, "console", place, Notice.MESSAGE, priority=priority), clock())

    db.run_sync(put)
    places = {("console", "#a"): 2, ("console", "#b"): 20, ("console", "#c"): 20}
    behind = db.run_sync(lambda tx: outbox.due_in_all(tx, places))
    first, second = behind["console", "#a"]
    assert [first.key, second.key] == ["a2", "a1"]
    assert [[one.key for one in behind["console", "#b"]], len(behind)] == [["b1"], 2]
    db.run_sync(
        lambda tx: outbox.show(tx, NewNotice("a1", "console", "#a", Notice.MESSAGE, content={"new": 1}), clock())
    )
    done = [Sent(first, "m1", "h1", clock()), Sent(second, "m2", "h2", clock())]
    db.run_sync(lambda tx: outbox.sent_all(tx, done))
    behind = db.run_sync(lambda tx: outbox.due_in_all(tx, places))
    assert [(one.key, one.sent, one.wanted, one.ref) for one in behind["console", "#a"]] == [
        ("a1", 1, 2, "m2"),
        ("a3", 0, 1, ""),
    ]
    posted = [one.entry.detail for one in db.run_sync(audit.entries)]
    assert posted == ["message to console #a as m1", "message to console #a as m2"]


def test_whether_there_is_something_to_do_is_seen_without_taking_it(db: Database, clock: FakeClock) -> None:
    """For deployments also when the next one is; what is held is nobody else's, until its holder is dead."""
    states = (State.QUEUED,)
    assert db.run_sync(lambda tx: rows.is_due(tx, states, clock())) == (False, None)
    assert db.run_sync(lambda tx: inbox.is_free(tx, clock())) is False
    db.run_sync(lambda tx: rows.create(tx, new_deployment("k"), clock()))
    db.run_sync(lambda tx: inbox.put(tx, "console", "e", "command", {}, clock()))
    assert db.run_sync(lambda tx: rows.is_due(tx, states, clock())) == (True, clock())
    assert db.run_sync(lambda tx: inbox.is_free(tx, clock())) is True
    db.run_sync(lambda tx: rows.claim(tx, "us", states, clock(), LEASE, 1))
    db.run_sync(lambda tx: inbox.claim(tx, "us", clock()))
    assert db.run_sync(lambda tx: rows.is_due(tx, states, clock())) == (False, None)
    assert db.run_sync(lambda tx: inbox.is_free(tx, clock())) is False


async def test_who_looks_in_the_same_moment_looks_together(db: Database) -> None:
    """Each gets its own answer, and one that fails fails alone."""

    def broken(_tx: Tx) -> int:
        raise ValueError("odd")

    looks = [db.glance(lambda _tx, n=n: n) for n in range(3)]  # type: ignore[misc]
    *found, error = await asyncio.gather(*looks, db.glance(broken), return_exceptions=True)
    assert found == [0, 1, 2]
    assert isinstance(error, ValueError)
