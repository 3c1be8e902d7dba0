"""Runs release trains: looks what became of their deployments, starts the next, and shows it on one card.

Level-triggered like the engine, without leases: what is started is keyed by train and service, and a train is written
under the guard of its version, so two replicas that look at once do each thing once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import structlog

from bot.catalog.model import Catalog, Kind, Person
from bot.clock import Clock
from bot.deployments import train_model as model
from bot.deployments.audience import RESULTS_ONLY, personal_places
from bot.deployments.model import Deployment, Origin
from bot.deployments.service import Deployments, Wish
from bot.deployments.train_model import Car, CarState, Data, Train, TrainState
from bot.errors import BadInput, Conflict, ProviderError, Refused, SlipwayError
from bot.policy.model import ReasonCode
from bot.store import audit, outbox, trains
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.outbox import NewNotice, Notice

log = structlog.get_logger(__name__)

POLL = 15.0
"""Seconds after which open trains are looked at although nothing was heard."""
Show = Callable[[Train], Mapping[str, Any]]
"""A train as a message's content."""


class Trains:
    """The application's verbs on trains, and what drives them."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        deployments: Deployments,
        platforms: Sequence[str],
        clock: Clock,
        show: Show,
        on_message: Callable[[], None],
    ) -> None:
        """on_message: called after a message was stored."""
        self._db = db
        self._catalog = catalog
        self._deployments = deployments
        self._platforms = platforms
        self._clock = clock
        self._show = show
        self._on_message = on_message
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to drive; what the process before left goes on."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._driving())

    async def stop(self) -> None:
        """Drive no more; trains stay where they are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def poke(self, _ended: object = None) -> None:
        """A deployment has ended, or a train changed: look now. May be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._heard.set)

    # --- what people do

    async def depart(
        self, key: str, person: Person, environment: str, source: str, origin: Origin, reason: str, data: Data
    ) -> Train:
        """Store a planned train and begin with it; the same key again is the same train."""
        at = self._clock()
        new = Train(
            id=0,
            environment=environment,
            source=source,
            requested_by=person.id,
            origin=asdict(origin),
            reason=reason,
            state=TrainState.RUNNING,
            version=0,
            data=data,
            created_at=at,
        )

        def work(tx: Tx) -> Train:
            train, is_new = trains.create(tx, key, new, at)
            if is_new:
                going = sum(1 for car in data.cars if car.state is CarState.WAITING)
                detail = f"{going} of {len(data.cars)} services to {environment}"
                audit.append(tx, AuditEntry(at, person.id, "train:start", train.ref, "accepted", "", detail))
                self._tell(tx, train, at)
            return train

        train = await self._db.run(work)
        self._changed()
        return train

    async def get(self, number: int) -> Train:
        """Raises BadInput: there is none."""
        found = await self._db.read(lambda tx: trains.get(tx, number))
        if found is None:
            raise BadInput(f"There is no train t-{number}.", hint="Type /train <environment> to start one.")
        return found

    async def halt(self, number: int, person: Person) -> Train:
        """Start nothing more; what runs is finished. Raises Refused, Conflict, BadInput."""
        return await self._decide(number, person, "stop", _halted)

    async def resume(self, number: int, person: Person) -> Train:
        """Let the rest of a stopped train go on. Raises Refused, Conflict, BadInput."""
        return await self._decide(number, person, "continue", _resumed)

    async def undo(self, number: int, person: Person) -> Train:
        """Roll every service back that got there; each needs the right to. Raises Refused, Conflict, BadInput."""
        return await self._decide(number, person, "rollback", _undone)

    async def _decide(self, number: int, person: Person, what: str, change: Callable[[Train, Person], Train]) -> Train:
        at = self._clock()
        await self.get(number)

        def work(tx: Tx) -> Train:
            seen = trains.get(tx, number)
            assert seen is not None
            self._may_decide(seen, person)
            after = trains.change(tx, seen, change(seen, person), at)
            if after is None:
                raise Conflict(f"{seen.ref} changed a moment ago.", hint="Look at it and say it again.")
            audit.append(tx, AuditEntry(at, person.id, f"train:{what}", seen.ref, "accepted"))
            self._tell(tx, after, at)
            return after

        after = await self._db.run(work)
        self._changed()
        return after

    def _may_decide(self, seen: Train, person: Person) -> None:
        catalog = self._catalog()
        if person.id != seen.requested_by and person.id not in (*catalog.release_managers, *catalog.admins):
            raise Refused(
                f"{seen.ref} is not yours.",
                hint="Its requester, release managers and administrators may do that.",
                code=ReasonCode.NOT_PERMITTED,
            )

    # --- what happens by itself

    async def _driving(self) -> None:
        while True:
            self._heard.clear()
            try:
                await self.advance()
            except ProviderError as error:
                log.warning("trains_not_looked_at", error=error.message)
            except Exception:
                log.exception("train_stumbled")
            try:
                async with asyncio.timeout(POLL):
                    await self._heard.wait()
            except TimeoutError:
                pass

    async def advance(self) -> None:
        """Look at every open train once. Raises DatabaseUnavailable."""
        for number in await self._db.read(trains.unfinished):
            await self._advance(number)

    async def _advance(self, number: int) -> None:
        seen, deployments = await self._db.read(lambda tx: _read(tx, number))
        if seen is None or not seen.is_open:
            return
        now = model.without_blocked(model.looked(seen, deployments), self._catalog())
        changed = {car.service: await self._begin(now, car) for car in model.to_begin(now)}
        now = model.arrived(now.with_cars([changed.get(car.service, car) for car in now.data.cars]))
        if now == seen:
            return
        at = self._clock()

        def work(tx: Tx) -> None:
            after = trains.change(tx, seen, now, at)
            if after is not None:
                self._tell(tx, after, at)
                if not after.is_open:
                    self._end(tx, after, at)

        await self._db.run(work)
        self._changed()

    async def _begin(self, train: Train, car: Car) -> Car:
        """Start its deployment, or its way back; what the rules refuse is skipped and says why."""
        back = train.state is TrainState.ROLLING_BACK
        key = f"train:{train.id}:{car.service}{':undo' if back else ''}"
        known = await self._db.read(lambda tx: rows.find_by_key(tx, key))
        try:
            number = known.id if known is not None else await self._start(train, car, key, back)
        except ProviderError:
            return car  # Tried again at the next look.
        except SlipwayError as error:
            state = CarState.UNDO_FAILED if back else CarState.SKIPPED
            return car.model_copy(update={"state": state, "why": error.message[:300], "blocks": not back})
        started = {"state": CarState.UNDOING, "undo": number} if back else {"deployment": number}
        return car.model_copy(update={"state": CarState.RUNNING, **started})

    async def _start(self, train: Train, car: Car, key: str, back: bool) -> int:
        catalog = self._catalog()
        by = train.data.undo_by if back and train.data.undo_by else train.requested_by
        person, service = catalog.people.get(by), catalog.services.get(car.service)
        target = service.targets.get(train.environment) if service is not None else None
        if person is None or service is None or target is None:
            raise Refused(f"{car.service} in {train.environment}, or who asked, is gone from the catalog.")
        wanted = await self._db.read(lambda tx: _before(tx, train, car)) if back else None
        verb = "rolled back with" if back else "part of"
        wish = Wish(
            person=person,
            service=service,
            target=target,
            kind=Kind.ROLLBACK if back else car.kind,
            commit=wanted.commit if wanted is not None else car.commit,
            version=wanted.release_version if wanted is not None else car.version,
            branch=wanted.branch if wanted is not None else car.branch,
            reason=f"{verb} train {train.ref}{f': {train.reason}' if train.reason else ''}"[:500],
            origin=Origin("", ""),
            key=key,
            author="" if back else car.author,
            size=car.size,
            only_if_allowed=True,
        )
        return (await self._deployments.start(wish)).deployment.id

    # --- telling

    def _tell(self, tx: Tx, train: Train, at: datetime) -> None:
        """One card in each place, edited as it goes."""
        origin = Origin(**train.origin)
        environment = self._catalog().environments.get(train.environment)
        places = {(origin.platform, origin.place): origin.message_id or origin.thread}
        for platform in self._platforms:
            own = environment.channels.get(platform, "") if environment is not None else ""
            places.setdefault((platform, own or self._catalog().channels.get(platform, "")), "")
        for (platform, place), thread in places.items():
            if place and platform in self._platforms and (platform not in RESULTS_ONLY or not train.is_open):
                key = model.key_of(train.id, f"{platform}:{place}")
                content = self._show(train)
                outbox.show(tx, NewNotice(key, platform, place, Notice.MESSAGE, thread=thread, content=content), at)

    def _end(self, tx: Tx, train: Train, at: datetime) -> None:
        audit.append(tx, AuditEntry(at, "slipway", "train:end", train.ref, train.state.value, "", train.data.said))
        if train.state is TrainState.SUCCEEDED:
            return
        origin = Origin(**train.origin)
        places = personal_places(self._catalog(), train.requested_by, self._platforms)
        here = [place for place in places if place[0] == origin.platform] or places
        for platform, account in here[:1]:
            key = model.key_of(train.id, f"{train.state.value}:{train.version}:{platform}:{account}")
            content = _without_buttons(self._show(train))
            notice = NewNotice(key, platform, account, Notice.MESSAGE, content=content, priority=1)
            outbox.put(tx, notice, at)

    def _changed(self) -> None:
        self.poke()
        self._on_message()


def _without_buttons(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message that is never edited must not offer what is decided elsewhere meanwhile."""
    card = content.get("card")
    return {**content, "card": {**card, "buttons": []}} if card else content


def _halted(seen: Train, person: Person) -> Train:
    if seen.state is not TrainState.RUNNING:
        raise Conflict(f"{seen.ref} is {seen.state.value.replace('_', ' ')} already.")
    return model.stopped(seen, f"Stopped by {person.name}.")


def _resumed(seen: Train, person: Person) -> Train:
    if not model.can_resume(seen):
        raise Conflict(f"{seen.ref} has nothing that could go on.", hint=f"/train {seen.ref} shows it.")
    return model.resumed(seen, f"Continued by {person.name}.")


def _undone(seen: Train, person: Person) -> Train:
    if seen.state in (TrainState.ROLLING_BACK, TrainState.ROLLED_BACK):
        raise Conflict(f"{seen.ref} is {seen.state.value.replace('_', ' ')} already.")
    if not model.can_undo(seen):
        raise Conflict(f"{seen.ref} has nothing to take back.", hint=f"/train {seen.ref} shows it.")
    if not seen.is_open:
        return model.undoing(seen, person.id)
    halted = model.stopped(seen, f"Rolled back by {person.name}.") if seen.state is TrainState.RUNNING else seen
    return halted.model_copy(
        update={"data": halted.data.model_copy(update={"undo_on_stop": True, "undo_by": person.id})}
    )


def _read(tx: Tx, number: int) -> tuple[Train | None, dict[int, Deployment]]:
    train = trains.get(tx, number)
    cars = train.data.cars if train is not None else ()
    wanted = [car.deployment for car in cars if car.state is CarState.RUNNING]
    wanted += [car.undo for car in cars if car.state is CarState.UNDOING]
    found = ((one, rows.get(tx, one)) for one in wanted if one is not None)
    return train, {number: seen for number, seen in found if seen is not None}


def _before(tx: Tx, train: Train, car: Car) -> Deployment:
    """What ran there before the train came. Raises Refused: nothing did, or something newer runs by now."""
    newest = rows.last_good(tx, car.service, train.environment)
    if newest is None or newest.id != car.deployment:
        by_now = f"{newest.ref} runs" if newest is not None else "nothing runs"
        raise Refused(f"{by_now} there by now.", code=ReasonCode.STALE)
    before = rows.last_good(tx, car.service, train.environment, before=newest.id, not_digest=newest.digest)
    if before is None:
        raise Refused("nothing ran there before.", code=ReasonCode.STALE)
    return before
