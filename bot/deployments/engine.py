"""The engine: claim due rows, call the state's handler, record `Go(state)` or `Stay(until)`. Leases live only here.

Level-triggered, as Kubernetes controllers are: a handler looks first, then acts with the intent key, may run twice,
and holds nothing in memory that the next run needs. Waiting costs a row, not a task. While a row is polled quickly its
lease is kept and nothing is written; only changes are.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from bot import fence
from bot.clock import Clock, elapsed, rest_after, until_beat
from bot.deployments.effects import effects
from bot.deployments.model import Data, Deployment, Failure, State
from bot.deployments.moves import Moves, arrived
from bot.deployments.precedence import LOOK, Precedence
from bot.errors import ProviderError, ProviderRejected
from bot.store import audit
from bot.store import deployments as rows
from bot.store.batches import Batches
from bot.store.database import Database, Tx
from bot.store.deployments import Change

log = structlog.get_logger(__name__)

SHORT_WAIT, LONGER_WAIT = timedelta(seconds=5), timedelta(minutes=1)
"""A poll sooner than this keeps the lease and writes nothing; the longer one where few are in work."""

NO_ROOM = timedelta(minutes=10)
"""How long one that was not admitted sleeps unless its row is woken; long enough to let its lease go meanwhile."""

CROWD = 512
"""With more than so many in work, or half of the limit, those that wait long give their leases back meanwhile."""

AT_ONCE = 256
"""How many are claimed in one statement: a thousand are back in work with four, and two replicas still share them."""

MAX_STUMBLES = 5


@dataclass(frozen=True, slots=True)
class Go:
    """Change the state. digest: the release's, once it is known.

    admit: asked in the transaction of the move; a text means that it has to wait for that instead.
    """

    to: State
    data: Data
    note: str = ""
    digest: str | None = None
    actor: str = "slipway"
    admit: Callable[[Tx], str] | None = None


@dataclass(frozen=True, slots=True)
class Stay:
    """Keep the state and look again at `until` (aware UTC), or sooner when signalled."""

    until: datetime
    data: Data


Outcome = Go | Stay
Handler = Callable[[Deployment], Awaitable[Outcome]]
Look = Callable[[Deployment], Awaitable[Outcome | None]]
"""What a state leads to as far as reading tells, and nothing outside is touched for; None: its handler has to say.

It may be given a deployment as it is foreseen, before that is on record.
"""


async def _no_look(_seen: Deployment) -> Outcome | None:
    return None


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """lease: how long a silent replica keeps its rows. patience: how long an unreachable system is waited for.

    poll: how often the table is looked at when no signal came; replicas: the same where others may have died. A dead
    replica's work is taken over after lease + replicas at the latest.
    """

    lease: timedelta = timedelta(seconds=10)
    patience: timedelta = timedelta(minutes=10)
    poll: timedelta = timedelta(seconds=30)
    replicas: timedelta = timedelta(seconds=3.5)
    limit: int = 4096


class Engine:
    """Runs the handlers of every due deployment, each under a lease."""

    def __init__(
        self,
        db: Database,
        moves: Moves,
        handlers: Mapping[State, Handler],
        clock: Clock,
        settings: EngineSettings | None = None,
        look: Look = _no_look,
    ) -> None:
        """Take the handlers by state; states without one are left alone. look: is asked first, see `Look`."""
        self._look = look
        self.precedence = Precedence()
        self._db = db
        self._moves = moves
        self._handlers = dict(handlers)
        self._clock = clock
        self.settings = settings or EngineSettings()
        self.owner = uuid4().hex
        self._work: dict[int, asyncio.Task[None]] = {}
        self._leaving: set[int] = set()
        self._nudges: dict[int, asyncio.Event] = {}
        self._renewed: dict[int, float] = {}
        self._parking: dict[int, rows.Leaving] = {}
        self._peek = Batches(self._peek_all)
        self._recording = Batches(self._record_all)
        self._poked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_lease_lost: Callable[[], None] = lambda: None

    async def _peek_all(self, ids: Sequence[int]) -> list[tuple[str, int, int] | None]:
        return await self._db.read(lambda tx: rows.peek(tx, ids))

    async def start(self) -> None:
        """Begin to work. On SQLite the leases of the process before us are void: it is gone."""
        self._loop = asyncio.get_running_loop()
        if self._db.is_sqlite:
            await self._db.run(rows.forget_leases)
        self._poked.set()
        self._tasks = [asyncio.create_task(self._claiming()), asyncio.create_task(self._renewing())]

    async def stop(self, grace: float = 2.0) -> None:
        """Stop claiming, let handlers finish for `grace` seconds, end the rest, and hand the leases over."""
        for task in self._tasks:
            task.cancel()
        busy = list(self._work.values())
        for event in self._nudges.values():
            event.set()
        self._stopping = True
        if busy:
            _, late = await asyncio.wait(busy, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    _stopping = False

    def poke(self, deployment_id: int | None = None) -> None:
        """Something changed: look now. May be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._poke, deployment_id)

    def poke_all(self) -> None:
        """Something changed for everybody: look at every deployment in work."""
        for deployment_id in list(self._nudges):
            self.poke(deployment_id)
        self.poke()

    def _poke(self, deployment_id: int | None) -> None:
        self._poked.set()
        event = self._nudges.get(deployment_id) if deployment_id is not None else None
        if event is not None:
            event.set()

    @property
    def busy(self) -> int:
        """How many deployments are in work here."""
        return len(self._work)

    async def _claiming(self) -> None:
        count = 0
        while True:
            is_called = self._poked.is_set() or count > 0
            self._poked.clear()
            began = elapsed()
            count = 0
            try:
                count, pause = await self._claim(is_called)
            except ProviderError as error:
                log.warning("claim_failed", error=error.message)
                pause = 1.0
            except Exception:  # one row we cannot read must not stop all others for ever
                log.exception("claim_stumbled")
                pause = 5.0
            # If it was less, there is no more at present, and what comes meanwhile is claimed together.
            if count < AT_ONCE and (is_called or count):
                await rest_after(began, longest=0.2)
            if pause > 0:
                await _event_or(self._poked, pause)

    async def _claim(self, is_called: bool) -> tuple[int, float]:
        """Claim once; returns how many were claimed, and how many seconds there is nothing to do.

        is_called: there is something, as a rule. Else a look comes first, because that is what idling costs.
        """
        room = self.settings.limit - len(self._work)
        if room <= 0:
            return 0, 0.2
        at = self._clock()
        states = tuple(self._handlers)

        def claim(tx: Tx) -> tuple[list[Deployment], datetime | None]:
            taken = rows.claim(tx, self.owner, states, at, self.settings.lease, min(room, AT_ONCE))
            return taken, None if taken else rows.next_wake(tx, states)

        began = elapsed()
        is_due, wake_at = True, None
        if self._db.is_sqlite or not is_called:
            is_due, wake_at = await self._db.glance(lambda tx: rows.is_due(tx, states, at))
        claimed: list[Deployment] = []
        if is_due:
            claimed, wake_at = await self._db.run(claim)
        for seen in claimed:
            self._renewed[seen.id] = began
            if seen.id in self._work and seen.id not in self._leaving:
                continue  # the lease of a row still in work here ran out and came back to us
            self._nudges[seen.id] = asyncio.Event()
            task = asyncio.create_task(self._drive(seen), name=f"deployment-{seen.id}")
            self._work[seen.id] = task
        return len(claimed), 0.0 if claimed else self._idle_for(wake_at)

    def _idle_for(self, wake_at: datetime | None) -> float:
        longest = self.settings.poll.total_seconds()
        if not self._db.is_sqlite:
            longest = min(longest, until_beat(self.settings.replicas.total_seconds()))
        if wake_at is None:
            return longest
        return min(longest, max(0.01, (wake_at - self._clock()).total_seconds()))

    async def _renewing(self) -> None:
        while True:
            pause = self.settings.lease.total_seconds() / 3
            await asyncio.sleep(pause)
            began = elapsed()
            # What was recorded a moment ago got a new lease with that.
            old = began - pause / 2
            ids = [one for one in self._work if one not in self._leaving and self._renewed.get(one, 0.0) < old]
            if not ids:
                continue
            try:
                kept = await self._renew(ids)
            except ProviderError:
                # Whoever could not renew for a whole lease must assume that another replica took over.
                kept = {number for number in ids if self._is_fresh(number)}
            except Exception:
                log.exception("renewal_stumbled")
                kept = {number for number in ids if self._is_fresh(number)}
            for lost in set(ids) - kept:
                # One that was let go, or claimed again, in the meantime is not lost.
                if self._renewed.get(lost, began) < began:
                    self._abandon(lost)

    async def _renew(self, ids: list[int]) -> set[int]:
        """Lengthen the leases; returns those that are still ours. Raises ProviderError."""
        at, began = self._clock(), elapsed()
        kept = await self._db.run(lambda tx: rows.renew(tx, self.owner, ids, at, self.settings.lease))
        self._renewed.update(dict.fromkeys(kept, began))
        return kept

    def _is_fresh(self, deployment_id: int) -> bool:
        """Whether the lease cannot have run out yet, by our own clock, with a margin."""
        return elapsed() - self._renewed.get(deployment_id, 0.0) < self.settings.lease.total_seconds() * 0.8

    def _may_act(self, deployment_id: int) -> bool:
        """As `_is_fresh`; what is not in work any more is nobody's turn."""
        return deployment_id not in self._work or self._is_fresh(deployment_id)

    async def _is_ours(self, deployment_id: int) -> bool:
        """Whether we may act: a replica that was paused finds out here that another took over."""
        if self._is_fresh(deployment_id):
            return True
        try:
            return bool(await self._renew([deployment_id]))
        except ProviderError:
            return False

    def _abandon(self, deployment_id: int) -> None:
        task = self._work.get(deployment_id)
        if task is not None:
            log.warning("lease_lost", deployment_id=deployment_id)
            self.on_lease_lost()
            task.cancel()

    async def _drive(self, seen: Deployment) -> None:
        """Run handlers of one deployment until it waits for long, ends, or is not ours any more."""
        with structlog.contextvars.bound_contextvars(deployment_id=seen.ref):
            try:
                current: Deployment | None = seen
                while current is not None:
                    current = await self._turn(current)
            except ProviderError as error:
                log.warning("turn_not_recorded", error=error.message)
            finally:
                await self._let_go(seen.id)

    async def _let_go(self, deployment_id: int) -> None:
        """Release the lease. From its commit on the row may be claimed again, here too, by another task of ours."""
        self._nudges.pop(deployment_id, None)
        self._renewed.pop(deployment_id, None)
        self._leaving.add(deployment_id)
        leaving = self._parking.pop(deployment_id, None) or rows.Leaving(deployment_id, self.owner)
        hand_over = self._stopping
        try:
            # Together with whatever else is let go now: a thousand that go on waiting are a handful of commits.
            await asyncio.shield(self._db.together(lambda tx: rows.leave(tx, leaving, hand_over)))
        except (ProviderError, RuntimeError) as error:
            log.warning("lease_not_released", error=str(error))
        finally:
            self._leaving.discard(deployment_id)
            if self._work.get(deployment_id) is asyncio.current_task():
                self._work.pop(deployment_id)
            self._poked.set()

    async def _turn(self, seen: Deployment) -> Deployment | None:
        """One call of the handler and its record. Returns the row to go on with, None to let go."""
        handler = self._handlers.get(seen.state)
        if handler is None or self._stopping or not await self._is_ours(seen.id):
            return None
        if self.precedence.lets_by(seen, self._clock()):
            return await self._hold(seen, self._clock() + LOOK)
        ahead: list[Change] = []
        try:
            with self.precedence.turn(seen), fence.holding(lambda: self._may_act(seen.id)):
                outcome = await self._look_ahead(seen, ahead)
                if not ahead:
                    outcome = _reached(seen, outcome or await handler(seen))
        except ProviderRejected as error:
            outcome = Go(State.FAILED, _failed(seen, error.sentence()), note=error.message)
        except ProviderError as error:
            outcome = self._wait_for(seen, error)
        except Exception:
            return await self._stumbled(seen)
        try:
            if ahead:
                return await self._record_change(replace(ahead.pop(), after=tuple(ahead)))
            assert outcome is not None
            return await self._record(seen, outcome)
        except rows.Overtaken:
            # Normal: a person cancelled or a signal moved it. If the lease is ours, go on from what it is now.
            return await self._db.read(lambda tx: rows.mine(tx, seen.id, self.owner))
        except rows.TargetBusy:
            return None

    async def _look_ahead(self, seen: Deployment, ahead: list[Change]) -> Outcome | None:
        """Go on in thought as long as reading is enough: what happened to nothing outside is recorded all at once.

        ahead: is given these changes. Returns where it ends, if a look says that; an error in thought is met again
        when what led to it is on record.
        """
        while True:
            try:
                outcome = await self._look(seen)
            except Exception:
                if not ahead:
                    raise
                return None
            at = self._clock()
            change = _plain_change(seen, _reached(seen, outcome), at) if outcome is not None else None
            if change is None:
                return outcome
            ahead.append(change)
            seen = change.foreseen

    async def _record(self, seen: Deployment, outcome: Outcome) -> Deployment | None:
        at = self._clock()
        if isinstance(outcome, Stay):
            return await self._record_stay(seen, outcome, at)
        go = outcome
        change = _plain_change(seen, go, at)
        if change is not None:
            return await self._record_change(change)
        after = await self._db.together(lambda tx: self._admitted(tx, seen, go, at))
        if isinstance(after, str):
            data = go.data.model_copy(update={"waiting_for": after})
            return await self._record_stay(seen, Stay(at + NO_ROOM, data), at)
        self._moves.announce_changed(after.id, after)
        return None if after.state.is_final else after

    def _admitted(self, tx: Tx, seen: Deployment, go: Go, at: datetime) -> Deployment | str:
        """The deployment after its move, or what it has to wait for."""
        waits = go.admit(tx) if go.admit is not None else ""
        if waits:
            return waits
        after = self._moves.move(
            tx, seen, go.to, at=at, actor=go.actor, note=go.note, data=go.data, digest=go.digest, owner=self.owner
        )
        _witness(tx, seen, go.data, at)
        return after

    async def _record_change(self, change: Change) -> Deployment:
        moved = await self._changed(change)
        self._moves.announce_changed(moved.id, moved)
        return moved

    async def _changed(self, change: Change) -> Deployment:
        """Record it together with all other changes of this moment. Raises Overtaken, TargetBusy."""
        began = elapsed()
        after = await self._recording.add(change)
        if after is None:
            raise rows.Overtaken(f"{change.seen.ref} was changed by somebody else a moment ago.")
        if after.id in self._renewed and not self._db.is_sqlite:
            self._renewed[after.id] = began
        return after

    async def _record_all(self, changes: Sequence[Change]) -> list[Deployment | None]:
        def work(tx: Tx) -> list[Deployment | None]:
            found = self._moves.change_all(tx, changes, self.owner, self.settings.lease)
            for change, after in zip(changes, found, strict=True):
                if after is not None:
                    _witness(tx, change.on_record, after.data, change.at)
            return found

        return await self._db.together(work)

    async def _record_stay(self, seen: Deployment, stay: Stay, at: datetime) -> Deployment | None:
        short = stay.until - at <= LONGER_WAIT and not self._is_crowded(stay, stay.until - at)
        after = seen
        if stay.data != seen.data:
            after = await self._changed(Change(seen, seen.state, stay.data, at, stay.until))
            self._moves.announce_changed(seen.id)
        if short and after is not seen and stay.until <= at:
            return after  # As it was written down a moment ago; whoever changed it since makes the next record fail.
        if short:
            return await self._hold(after, stay.until)
        self._parking[seen.id] = rows.Leaving(seen.id, self.owner, after.version, seen.signal_seq, stay.until)
        return None

    def _is_crowded(self, stay: Stay, pause: timedelta) -> bool:
        """Who waits long, or for a system that does not answer, makes room for those who do not."""
        patient = pause > SHORT_WAIT or stay.data.waiting_since_at is not None
        return patient and len(self._work) > min(CROWD, self.settings.limit // 2)

    async def _hold(self, seen: Deployment, until: datetime) -> Deployment | None:
        """Wait in memory with the lease kept, then read the row again only if it changed."""
        event = self._nudges[seen.id]
        pause = (until - self._clock()).total_seconds()
        if pause > 0:
            await _event_or(event, pause)
        event.clear()
        now = await self._peek.add(seen.id)
        if now == (seen.state.value, seen.version, seen.signal_seq):
            return seen
        return await self._db.read(lambda tx: rows.get(tx, seen.id))

    def _wait_for(self, seen: Deployment, error: ProviderError) -> Outcome:
        """An outside system is not reached: wait with growing pauses, say so on the card, and give up in the end."""
        at = self._clock()
        since = seen.data.waiting_since_at or at
        if at - since >= self.settings.patience:
            return Go(State.FAILED, _failed(seen, error.sentence()), note=error.message)
        data = seen.data.model_copy(update={"waiting_for": error.message, "waiting_since_at": since})
        waited = (at - since).total_seconds()
        pause = min(30.0, max(0.5, waited / 2)) * random.uniform(0.8, 1.2)  # noqa: S311
        return Stay(at + timedelta(seconds=pause), data)

    async def _stumbled(self, seen: Deployment) -> Deployment | None:
        """A defect of ours: counted, retried later, and ended in the open when it keeps happening."""
        log.exception("handler_stumbled", state=seen.state.value)
        at = self._clock()
        wake_at = at + timedelta(seconds=2**seen.attempts)
        count = await self._db.run(lambda tx: rows.stumble(tx, seen, wake_at))
        if count < MAX_STUMBLES:
            return None
        data = _failed(seen, "Slipway itself stumbled here; its log has the details.")
        fresh = await self._db.read(lambda tx: rows.get(tx, seen.id))
        return await self._record(fresh, Go(State.FAILED, data)) if fresh is not None else None


def _plain_change(seen: Deployment, outcome: Outcome, at: datetime) -> Change | None:
    """As a change that goes on at once; None: an end, a wait, or something that asks before it is let in."""
    if isinstance(outcome, Stay):
        goes_on = outcome.until <= at and outcome.data != seen.data
        return Change(seen, seen.state, outcome.data, at, outcome.until) if goes_on else None
    if outcome.admit is not None or outcome.to.is_final:
        return None
    return Change(seen, outcome.to, arrived(outcome.data), at, at, outcome.actor, outcome.note, outcome.digest)


def _reached(seen: Deployment, outcome: Outcome) -> Outcome:
    """What was not reached answers again: nothing is waited for any more, unless the handler says for what."""
    if isinstance(outcome, Go) or seen.data.waiting_since_at is None:
        return outcome
    is_old = outcome.data.waiting_for == seen.data.waiting_for
    over = {"waiting_since_at": None, "waiting_for": "" if is_old else outcome.data.waiting_for}
    return Stay(outcome.until, outcome.data.model_copy(update=over))


def _witness(tx: Tx, seen: Deployment, now: Data, at: datetime) -> None:
    """Write what was done outside into the audit log, at the end of the transaction that records it."""
    for entry in effects(seen, now, at):
        audit.append_at_end(tx, entry)


def _failed(seen: Deployment, message: str) -> Data:
    if seen.data.failure is not None:
        kept = seen.data.failure
        message = f"{kept.message} Then rolling back failed too: {message}"
        return seen.data.model_copy(update={"failure": kept.model_copy(update={"message": message})})
    return seen.data.model_copy(
        update={"failure": Failure(step=STEP_OF_STATE.get(seen.state, "start"), message=message)}
    )


STEP_OF_STATE: Mapping[State, str] = {
    State.QUEUED: "queue",
    State.BUILDING: "build",
    State.GATING: "gate",
    State.TAGGING: "tag",
    State.WRITING: "write",
    State.SYNCING: "deploy",
    State.GRAY: "gray",
    State.VERIFYING: "verify",
    State.ROLLING_BACK: "roll back",
    State.CANCELLING: "cancel",
}
"""What a person calls the step a state belongs to."""


async def _event_or(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
