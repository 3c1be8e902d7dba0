"""The engine: nothing is lost, nothing runs twice at once, and what cannot go on ends in the open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, text

from bot import dispatch, fence
from bot.catalog.load import load_catalog
from bot.deployments.engine import Engine, EngineSettings, Go, Handler, Look, Outcome, Stay
from bot.deployments.model import Deployment, State
from bot.deployments.moves import Moves
from bot.deployments.precedence import CROWD, GRACE
from bot.errors import ProviderRejected, ProviderUnavailable
from bot.schedule import jobs, works
from bot.store import audit, inbox
from bot.store import deployments as rows
from bot.store.database import Database
from bot.store.migrate import migrate
from notifiers import outbox, places
from tests.support import FakeClock
from tests.support.rows import new_deployment
from tests.support.world import make_world

QUICK = EngineSettings(lease=timedelta(seconds=1), patience=timedelta(minutes=10), poll=timedelta(milliseconds=50))


class Bench:
    """A database with a catalog beside it, and engines on it."""

    def __init__(self, url: str, directory: Path, clock: FakeClock) -> None:
        self.db = Database(url)
        migrate(self.db)
        catalog = load_catalog(make_world(directory).directory)
        self.moves = Moves(lambda: catalog, ("console",))
        self.clock = clock

    async def create(self, key: str = "k", state: State = State.QUEUED, service: str = "app") -> Deployment:
        """A deployment that is due now."""
        new = new_deployment(key, state, service)
        return (await self.db.run(lambda tx: self.moves.create(tx, new, self.clock())))[0]

    @asynccontextmanager
    async def engine(self, look: Look | None = None, **handlers: Handler) -> AsyncIterator[Engine]:
        """A running engine with these handlers, by the state's value."""
        by_state = {State(name): one for name, one in handlers.items()}
        engine = Engine(self.db, self.moves, by_state, self.clock, QUICK, *([look] if look is not None else []))
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop(grace=0.2)

    async def until(self, condition: Callable[[Deployment], bool], number: int = 1) -> Deployment:
        """Wait until the row is like that."""
        async with asyncio.timeout(20):
            while True:
                seen = await self.db.read(lambda tx: rows.get(tx, number))
                if seen is not None and condition(seen):
                    return seen
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Bench]:
    one = Bench(database_url, tmp_path / "world", clock)
    yield one
    one.db.close()


async def test_states_follow_each_other_and_are_written_down(bench: Bench) -> None:
    """Each move leaves a transition; the target is held in between and free at the end."""

    async def queued(seen: Deployment) -> Outcome:
        return Go(State.BUILDING, seen.data)

    async def building(seen: Deployment) -> Outcome:
        holder = await bench.db.read(lambda tx: rows.holder(tx, "app", "prod"))
        assert holder is not None
        return Go(State.SUCCEEDED, seen.data, digest="sha256:1")

    await bench.create()
    async with bench.engine(queued=queued, building=building):
        seen = await bench.until(lambda row: row.state.is_final)
    path = await bench.db.read(lambda tx: rows.path(tx, seen.id))
    assert [step.to_state for step in path] == ["queued", "building", "succeeded"]
    assert seen.digest == "sha256:1"
    assert await bench.db.read(lambda tx: rows.holder(tx, "app", "prod")) is None


async def test_what_is_due_at_a_start_is_claimed_at_once(bench: Bench) -> None:
    """Without asking first whether there is anything, which waits for others who ask."""
    asked: list[str] = []

    async def queued(seen: Deployment) -> Outcome:
        return Go(State.SUCCEEDED, seen.data)

    await bench.create()
    if bench.db.is_sqlite:
        return  # where asking is a reading in this very process
    event.listen(bench.db.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    async with bench.engine(queued=queued):
        await bench.until(lambda row: row.state.is_final)
    assert next(one for one in asked if "wake_at <=" in one).startswith("WITH chosen")


async def _through(seen: Deployment) -> Outcome | None:
    """Reading leads from the queue to the point where Git is written, and no further."""
    if seen.state is State.QUEUED:
        return Go(State.BUILDING, seen.data, note="nothing is in front")
    if seen.state is State.BUILDING:
        return Go(State.WRITING, seen.data, digest="sha256:1")
    if seen.state is State.WRITING and not seen.data.artifact:
        return Stay(seen.changed_at, seen.data.model_copy(update={"artifact": "there"}))
    return None


async def test_what_reading_leads_to_is_on_record_before_anything_is_done(bench: Bench) -> None:
    """All of it in one update of the row, with a transition and an audit entry for each move; then the handler acts."""
    found: list[Deployment] = []
    changes = 0

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal changes
        changes += "state = v.state" in statement

    async def writing(seen: Deployment) -> Outcome:
        recorded = await bench.db.read(lambda tx: rows.get(tx, seen.id))
        assert recorded is not None
        found.append(recorded)
        assert (recorded.state, recorded.version, recorded.data) == (seen.state, seen.version, seen.data)
        return Go(State.SUCCEEDED, seen.data)

    async def never(_seen: Deployment) -> Outcome:
        raise AssertionError("reading was enough")

    await bench.create()
    event.listen(bench.db.engine, "before_cursor_execute", count)
    async with bench.engine(_through, queued=never, building=never, writing=writing):
        seen = await bench.until(lambda row: row.state.is_final)
    path = await bench.db.read(lambda tx: rows.path(tx, seen.id))
    assert [step.to_state for step in path] == ["queued", "building", "writing", "succeeded"]
    assert path[1].note == "nothing is in front"
    assert [(one.state, one.digest, one.data.artifact) for one in found] == [(State.WRITING, "sha256:1", "there")]
    entries = await bench.db.read(lambda tx: audit.entries(tx, subject=seen.ref))
    assert [one.entry.outcome for one in entries] == ["queued", "building", "writing", "succeeded"]
    if not bench.db.is_sqlite:
        assert changes == 1  # The end is recorded by itself.


async def test_nothing_of_a_thought_counts_when_somebody_was_first(bench: Bench) -> None:
    """A person cancels while it is being read: what was foreseen is not recorded, and nothing is done."""

    async def look(seen: Deployment) -> Outcome | None:
        if seen.state is State.BUILDING and not (await bench.until(lambda _: True)).state.is_final:
            on_record = await bench.until(lambda row: row.state is State.QUEUED)
            await bench.db.run(
                lambda tx: bench.moves.move(tx, on_record, State.CANCELLED, at=bench.clock(), actor="owner")
            )
        return await _through(seen)

    async def writing(_seen: Deployment) -> Outcome:
        raise AssertionError("it was cancelled before")

    await bench.create()
    async with bench.engine(look, queued=writing, building=writing, writing=writing):
        seen = await bench.until(lambda row: row.state.is_final)
    path = await bench.db.read(lambda tx: rows.path(tx, seen.id))
    assert [step.to_state for step in path] == ["queued", "cancelled"]


async def test_what_is_not_reached_in_thought_is_waited_for_on_record(bench: Bench) -> None:
    """What led there is kept, and the card says what is waited for."""

    async def look(seen: Deployment) -> Outcome | None:
        if seen.state is State.WRITING:
            raise ProviderUnavailable("The configuration repository does not answer.")
        return await _through(seen)

    async def nothing(seen: Deployment) -> Outcome:
        return Stay(bench.clock() + timedelta(hours=1), seen.data)

    await bench.create()
    async with bench.engine(look, queued=nothing, building=nothing, writing=nothing):
        seen = await bench.until(lambda row: row.data.waiting_since_at is not None)
    assert (seen.state, seen.digest) == (State.WRITING, "sha256:1")
    assert seen.data.waiting_for == "The configuration repository does not answer."


async def test_what_is_not_in_git_goes_first_and_the_rest_a_few_seconds_later(bench: Bench) -> None:
    """A sync is not asked for while a crowd is on its way to Git; for longer than the grace nothing waits."""
    begun: list[str] = []
    through = asyncio.Event()
    crowd = 0

    async def queued(seen: Deployment) -> Outcome:
        nonlocal crowd
        if seen.service == "first":
            return Go(State.SYNCING, seen.data)
        crowd += 1
        await through.wait()
        return Stay(bench.clock() + timedelta(hours=1), seen.data)

    async def syncing(seen: Deployment) -> Outcome:
        begun.append(seen.service)
        return Go(State.SUCCEEDED, seen.data)

    for number in range(CROWD + 1):
        await bench.create(f"k{number}", service=f"s{number}")
    async with bench.engine(queued=queued, syncing=syncing) as engine:
        async with asyncio.timeout(20):
            while crowd <= CROWD:
                await asyncio.sleep(0.01)
        first = await bench.create("first", service="first")
        engine.poke()
        await bench.until(lambda row: row.state is State.SYNCING, first.id)
        for _ in range(3):  # It looks again whenever it is called, and waits on.
            engine.poke(first.id)
            await bench.until(lambda _: True, first.id)
        assert begun == []
        bench.clock.advance(GRACE)
        engine.poke(first.id)
        await bench.until(lambda row: row.state is State.SUCCEEDED, first.id)
        assert crowd == CROWD + 1  # They are on their way still.
        through.set()


async def test_many_that_go_on_waiting_are_a_few_transactions(bench: Bench) -> None:
    """A thousand waiting for a click are due together after a start; one commit for each would take seconds."""
    until = bench.clock() + timedelta(hours=1)
    looked: set[int] = set()
    writes = 0

    async def queued(seen: Deployment) -> Outcome:
        looked.add(seen.id)
        return Stay(until, seen.data)

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal writes
        writes += statement.startswith("UPDATE deployments")

    for number in range(100):
        await bench.create(f"k{number}", service=f"s{number}")
    event.listen(bench.db.engine, "before_cursor_execute", count)
    async with bench.engine(queued=queued):
        for number in range(1, 101):
            seen = await bench.until(lambda row: row.wake_at == until, number)
            assert (seen.version, seen.attempts) == (0, 0)
    assert len(looked) == 100
    assert writes < 50
    leased = await bench.db.read(lambda tx: tx.execute(text("SELECT count(lease_owner) FROM deployments")).scalar_one())
    assert leased == 0


async def test_a_signal_while_a_handler_runs_is_not_lost(bench: Bench) -> None:
    """The handler wants to sleep for an hour; the signal that came meanwhile wakes it at once."""
    calls = 0

    async def queued(seen: Deployment) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 1:
            await bench.db.run(lambda tx: rows.wake(tx, seen.id, bench.clock()))
        if calls == 2:
            return Go(State.FAILED, seen.data)
        return Stay(bench.clock() + timedelta(hours=1), seen.data)

    await bench.create()
    async with bench.engine(queued=queued):
        await bench.until(lambda row: row.state.is_final)
    assert calls == 2


async def test_a_short_wait_writes_nothing(bench: Bench) -> None:
    """Polling a pipeline for an hour must not write for an hour."""
    looked = asyncio.Event()
    calls = 0

    async def queued(seen: Deployment) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 20:
            looked.set()
        return Stay(bench.clock() + timedelta(milliseconds=5), seen.data)

    before = await bench.create()
    async with bench.engine(queued=queued):
        await asyncio.wait_for(looked.wait(), 10)
        during = await bench.db.read(lambda tx: rows.get(tx, before.id))
    assert during is not None
    assert (during.version, during.wake_at) == (before.version, before.wake_at)


async def test_losing_the_guard_is_normal(bench: Bench) -> None:
    """A person cancelled while the handler worked: its result is dropped and the new state goes on."""

    async def building(seen: Deployment) -> Outcome:
        await bench.db.run(lambda tx: bench.moves.move(tx, seen, State.CANCELLING, at=bench.clock(), actor="owner"))
        return Go(State.GATING, seen.data)

    async def cancelling(seen: Deployment) -> Outcome:
        return Go(State.CANCELLED, seen.data)

    await bench.create(state=State.BUILDING)
    await bench.db.run(lambda tx: rows.wake(tx, 1, bench.clock()))
    async with bench.engine(building=building, cancelling=cancelling):
        seen = await bench.until(lambda one: one.state.is_final)
    path = await bench.db.read(lambda tx: rows.path(tx, seen.id))
    assert [step.to_state for step in path] == ["building", "cancelling", "cancelled"]


async def test_an_unreachable_system_is_waited_for_and_given_up_in_the_end(bench: Bench) -> None:
    """The card says what is waited for; after the patience is over it fails with that sentence."""

    async def building(seen: Deployment) -> Outcome:
        raise ProviderUnavailable("Jenkins does not answer.")

    await bench.create(state=State.BUILDING)
    await bench.db.run(lambda tx: rows.wake(tx, 1, bench.clock()))
    async with bench.engine(building=building) as engine:
        await bench.until(lambda row: row.data.waiting_for == "Jenkins does not answer.")
        bench.clock.advance(timedelta(minutes=11))
        engine.poke(1)
        seen = await bench.until(lambda row: row.state.is_final)
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert (seen.data.failure.step, seen.data.failure.message) == ("build", "Jenkins does not answer.")


async def test_what_is_reached_again_is_waited_for_no_more(bench: Bench) -> None:
    """Whatever the handler does of its own: the card does not go on to say so, and the next outage has all patience."""
    away = True

    async def syncing(seen: Deployment) -> Outcome:
        if away:
            raise ProviderUnavailable("Argo CD does not answer.")
        return Stay(
            bench.clock() + timedelta(seconds=1), seen.data.model_copy(update={"sync_message": "waits for pods"})
        )

    await bench.create(state=State.SYNCING)
    await bench.db.run(lambda tx: rows.wake(tx, 1, bench.clock()))
    async with bench.engine(syncing=syncing) as engine:
        await bench.until(lambda row: row.data.waiting_for == "Argo CD does not answer.")
        bench.clock.advance(timedelta(minutes=9))
        away = False
        engine.poke(1)
        seen = await bench.until(lambda row: row.data.sync_message != "")
    assert (seen.data.waiting_for, seen.data.waiting_since_at) == ("", None)


async def test_those_who_wait_for_a_system_make_room_for_others(bench: Bench) -> None:
    """More deployments wait for a system that is down than fit in work: one that needs it not goes on all the same."""

    async def queued(seen: Deployment) -> Outcome:
        if seen.service == "app":
            return Go(State.SUCCEEDED, seen.data)
        raise ProviderUnavailable("Jenkins does not answer.")

    for number in range(6):
        await bench.create(f"k{number}", service=f"waits-{number}")
    await bench.create("other", service="app")
    settings = replace(QUICK, limit=4)
    engine = Engine(bench.db, bench.moves, {State.QUEUED: queued}, bench.clock, settings)
    await engine.start()
    try:
        await bench.until(lambda row: row.state is State.SUCCEEDED, 7)
    finally:
        await engine.stop(grace=0.2)
    waiting = await bench.until(lambda row: row.data.waiting_since_at is not None, 1)
    assert (waiting.state, waiting.data.waiting_for) == (State.QUEUED, "Jenkins does not answer.")


async def test_a_no_is_believed_at_once(bench: Bench) -> None:
    """A rejected request is not repeated."""
    calls = 0

    async def building(seen: Deployment) -> Outcome:
        nonlocal calls
        calls += 1
        raise ProviderRejected("The job is missing.", hint="Create it.")

    await bench.create(state=State.BUILDING)
    await bench.db.run(lambda tx: rows.wake(tx, 1, bench.clock()))
    async with bench.engine(building=building):
        seen = await bench.until(lambda row: row.state.is_final)
    assert calls == 1
    assert seen.data.failure is not None
    assert seen.data.failure.message == "The job is missing. Create it."


async def test_a_poisonous_row_ends_in_the_open(bench: Bench) -> None:
    """A defect of ours is counted, tried a few times, and then told; it does not spin for ever."""
    calls = 0

    async def building(seen: Deployment) -> Outcome:
        nonlocal calls
        calls += 1
        raise RuntimeError("a defect")

    await bench.create(state=State.BUILDING)
    await bench.db.run(lambda tx: rows.wake(tx, 1, bench.clock()))
    async with bench.engine(building=building) as engine:

        def is_over(row: Deployment) -> bool:
            if not engine.busy:  # it waits for its next attempt
                bench.clock.advance(timedelta(minutes=1))
                engine.poke(1)
            return row.state.is_final

        seen = await bench.until(is_over)
    assert calls == 5
    assert seen.data.failure is not None
    assert "Slipway itself stumbled" in seen.data.failure.message


async def test_a_turn_that_was_paused_changes_nothing_outside(bench: Bench) -> None:
    """It looked, and was stopped for longer than a lease before it acted: it looks again, and then acts."""
    acted = looked = 0

    async def building(seen: Deployment) -> Outcome:
        nonlocal acted, looked
        looked += 1
        if looked == 1:
            engine._renewed[seen.id] -= QUICK.lease.total_seconds()
        try:
            fence.check()
        finally:
            bench.clock.advance(timedelta(seconds=2))
        acted += 1
        return Go(State.SUCCEEDED, seen.data)

    await bench.create(state=State.BUILDING)
    await bench.db.run(lambda tx: rows.wake(tx, 1, bench.clock()))
    async with bench.engine(building=building) as engine:
        await bench.until(lambda row: row.state.is_final)
    assert (looked, acted) == (2, 1)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_two_engines_never_run_one_row_at_once(bench: Bench) -> None:
    """Leases: fifty rows, two engines, each handler call alone with its row."""
    inside: set[int] = set()
    calls: list[int] = []

    async def queued(seen: Deployment) -> Outcome:
        assert seen.id not in inside
        inside.add(seen.id)
        calls.append(seen.id)
        await asyncio.sleep(0.01)
        inside.discard(seen.id)
        return Go(State.FAILED, seen.data)

    for number in range(50):
        await bench.create(f"k{number}", service=f"s{number}")
    async with bench.engine(queued=queued), bench.engine(queued=queued):
        await bench.until(lambda _: len(calls) >= 50)
        for number in range(1, 51):
            await bench.until(lambda row: row.state is State.FAILED, number)
    assert sorted(calls) == list(range(1, 51))


async def test_states_without_a_handler_are_left_alone(bench: Bench) -> None:
    """An older replica does not touch what only a newer one understands."""

    async def queued(seen: Deployment) -> Outcome:
        return Go(State.FAILED, seen.data)

    await bench.create("old", state=State.BUILDING)
    await bench.db.run(lambda tx: rows.wake(tx, 1, bench.clock()))
    await bench.create("new", service="other")
    async with bench.engine(queued=queued):
        await bench.until(lambda row: row.state is State.FAILED, 2)
    untouched = await bench.db.read(lambda tx: rows.get(tx, 1))
    assert untouched is not None
    assert untouched.state is State.BUILDING


async def test_a_word_of_a_newer_slipway_is_kept_and_shown(bench: Bench) -> None:
    """During a rolling upgrade the older replica lists, wakes and leaves alone a state it never heard of."""

    async def queued(seen: Deployment) -> Outcome:
        return Go(State.FAILED, seen.data)

    first = await bench.create("new")
    unheard = State("baking")
    await bench.db.run(lambda tx: bench.moves.move(tx, first, unheard, at=bench.clock(), actor="newer"))
    await bench.create("usual", service="other")
    async with bench.engine(queued=queued):
        await bench.until(lambda row: row.state is State.FAILED, 2)
    found = await bench.db.read(lambda tx: rows.history(tx))
    assert [one.state.value for one in found] == ["failed", "baking"]
    assert not found[1].state.is_final
    with pytest.raises(ValueError, match="not a valid State"):
        State("No State!")


async def test_a_stopped_replica_that_comes_back_writes_nothing(bench: Bench) -> None:
    """Fencing: whoever lost the lease is refused although the row looks as it did."""
    first = await bench.create()
    await bench.db.run(lambda tx: rows.claim(tx, "other", [State.QUEUED], bench.clock(), timedelta(seconds=30), 1))
    with pytest.raises(rows.Overtaken):
        await bench.db.run(
            lambda tx: bench.moves.move(tx, first, State.BUILDING, at=bench.clock(), actor="slipway", owner="paused")
        )
    with pytest.raises(rows.Overtaken):
        await bench.db.run(lambda tx: rows.stay(tx, first, first.data, bench.clock(), bench.clock(), "paused"))
    path = await bench.db.read(lambda tx: rows.path(tx, first.id))
    assert len(path) == 1


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_the_work_of_a_dead_replica_is_taken_over(bench: Bench) -> None:
    """Its lease runs out by the database's clock, and the poll of the living one finds the row."""

    async def queued(seen: Deployment) -> Outcome:
        return Go(State.FAILED, seen.data)

    await bench.create()
    await bench.db.run(lambda tx: rows.claim(tx, "dead", [State.QUEUED], bench.clock(), timedelta(seconds=1), 1))
    async with bench.engine(queued=queued):
        await bench.until(lambda row: row.state is State.FAILED)


def test_a_dead_replicas_work_waits_fifteen_seconds_at_most() -> None:
    """Its lease, and then the poll of the living ones: of deployments, intents, messages and periodic jobs."""
    settings = EngineSettings()
    waits = {
        "deployments": settings.lease + settings.replicas,
        "intents": inbox.LEASE + timedelta(seconds=dispatch.MIND),
        "messages": places.LEASE + timedelta(seconds=outbox.POLL_REPLICAS),
        "jobs": works.LEASE + timedelta(seconds=jobs.MIND),
    }
    assert {name for name, wait in waits.items() if wait >= timedelta(seconds=15)} == set()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_replica_that_stops_in_order_hands_over_at_once(bench: Bench) -> None:
    """Another one goes on without waiting for the lease, which would take an hour here."""
    steps: list[str] = []

    def handler(name: str) -> Handler:
        async def queued(seen: Deployment) -> Outcome:
            steps.append(name)
            if name == "second":
                return Go(State.FAILED, seen.data)
            return Stay(bench.clock() + timedelta(milliseconds=1), seen.data)

        return queued

    long = replace(QUICK, lease=timedelta(hours=1))
    first, second = (
        Engine(bench.db, bench.moves, {State.QUEUED: handler(name)}, bench.clock, long) for name in ("first", "second")
    )
    await bench.create()
    await first.start()
    await bench.until(lambda _: "first" in steps)
    await second.start()
    try:
        await first.stop(grace=0.2)
        await bench.until(lambda row: row.state is State.FAILED)
    finally:
        await second.stop(grace=0.2)
    assert steps[-1] == "second"


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_lease_that_could_not_be_renewed_is_not_acted_on(bench: Bench) -> None:
    """Paused longer than the lease: before the next call outside the replica asks whether the row is still its own."""
    calls = 0

    async def queued(seen: Deployment) -> Outcome:
        nonlocal calls
        calls += 1
        if calls == 1:
            # In one step: let go first, the engine under test might be the next to claim it.
            await bench.db.run(lambda tx: tx.execute(text("UPDATE deployments SET lease_owner = 'other'")))
            engine._renewed[seen.id] = 0.0  # as after a SIGSTOP: the last renewal was long ago
        return Stay(bench.clock() + timedelta(milliseconds=1), seen.data)

    await bench.create()
    async with bench.engine(queued=queued) as engine:
        async with asyncio.timeout(10):
            while calls == 0 or engine.busy:
                await asyncio.sleep(0.01)
    assert calls == 1


async def test_a_kind_of_a_newer_slipway_is_left_alone_and_stops_nobody(bench: Bench) -> None:
    """One row that this version cannot work on must not keep the engine from all others."""

    async def queued(seen: Deployment) -> Outcome:
        return Go(State.FAILED, seen.data)

    await bench.create("new")
    await bench.db.run(lambda tx: tx.execute(text("UPDATE deployments SET kind = 'rehearsal'")))
    await bench.create("usual", service="other")
    async with bench.engine(queued=queued):
        await bench.until(lambda row: row.state is State.FAILED, 2)
    untouched = await bench.db.read(lambda tx: rows.get(tx, 1))
    assert untouched is not None
    assert untouched.state is State.QUEUED


class Lagging(Database):
    """One whose answer to a release takes a while to come back after the commit, as on a busy machine."""

    async def run(self, fn):  # type: ignore[no-untyped-def]
        value = await super().run(fn)
        await asyncio.sleep(0.5 if "_let_go" in fn.__qualname__ else 0)
        return value


async def test_a_row_that_is_claimed_while_it_is_let_go_is_not_lost(tmp_path: Path, clock: FakeClock) -> None:
    """The lease is free from the commit on, and what was signalled meanwhile is due at once: it must be looked at."""
    bench = Bench(f"sqlite:///{tmp_path / 'slipway.db'}", tmp_path / "world", clock)
    bench.db.close()
    bench.db = Lagging(f"sqlite:///{tmp_path / 'slipway.db'}")
    await bench.create()
    looks = 0

    async def queued(seen: Deployment) -> Outcome:
        nonlocal looks
        looks += 1
        if looks == 1:
            await bench.db.run(lambda tx: rows.wake(tx, seen.id, clock()))
        return Stay(clock() + timedelta(hours=1), seen.data)

    try:
        async with bench.engine(queued=queued), asyncio.timeout(20):
            while looks < 2:
                await asyncio.sleep(0.02)
    finally:
        bench.db.close()
