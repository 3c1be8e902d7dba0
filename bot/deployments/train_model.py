"""A release train: many services into one environment, in waves, until too many fail; pure.

Services are coupled in the order in which they need each other. A car is one service with the release it would get.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from bot.catalog.model import Catalog, Kind
from bot.deployments.model import Deployment, State


class CarState(StrEnum):
    """Where one service of a train stands. UNDOING and later: the train is rolled back."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNDO_WAITING = "undo_waiting"
    UNDOING = "undoing"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"


class TrainState(StrEnum):
    """STOPPING: nothing new is started, what runs is waited for. A word of a newer Slipway is left alone."""

    RUNNING = "running"
    STOPPING = "stopping"
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    ROLLED_BACK = "rolled_back"


OPEN = frozenset({TrainState.RUNNING, TrainState.STOPPING, TrainState.ROLLING_BACK})


class _Record(BaseModel):
    # A newer replica may have written fields we do not know; they are kept, not dropped.
    model_config = ConfigDict(extra="allow", frozen=True)


class Car(_Record):
    """One service. why: of what was skipped or failed; blocks: what needs it must not go without it.

    deployment and undo: numbers of the deployments it became. stopped: skipped because the train was, so that it may
    go on.
    """

    service: str
    wave: int = 1
    state: CarState = CarState.WAITING
    why: str = ""
    blocks: bool = False
    stopped: bool = False
    kind: Kind = Kind.PROMOTION
    version: str = ""
    commit: str = ""
    branch: str = ""
    digest: str = ""
    author: str = ""
    size: int | None = None
    before: str = ""
    deployment: int | None = None
    undo: int | None = None


class Data(_Record):
    """limit: how many at once. budget: how many may fail before nothing more is started."""

    cars: tuple[Car, ...] = ()
    limit: int = 4
    budget: int = 0
    undo_on_stop: bool = False
    undo_by: str = ""
    said: str = ""


class Train(_Record):
    """One row. version: counts every change."""

    id: int
    environment: str
    source: str
    requested_by: str
    origin: dict[str, Any]
    reason: str
    state: TrainState
    version: int
    data: Data
    created_at: datetime
    ended_at: datetime | None = None

    @property
    def ref(self) -> str:
        """The name people type: `t-3`."""
        return f"t-{self.id}"

    @property
    def is_open(self) -> bool:
        """Whether something may still happen by itself."""
        return self.state in OPEN

    def with_cars(self, cars: Sequence[Car]) -> Train:
        """The same train with these."""
        return self.model_copy(update={"data": self.data.model_copy(update={"cars": tuple(cars)})})


def parse_train(text: str) -> int | None:
    """The number in `t-3`, or None."""
    digits = text.strip().casefold()
    number = digits.removeprefix("t-")
    return int(number) if digits.startswith("t-") and number.isascii() and number.isdigit() else None


BUTTON = "train-"
"""What the buttons of a train's card begin with."""
_KEY = "train:"


def is_of_train(button: str) -> bool:
    """Whether a button is one of a train's card."""
    return button.startswith(BUTTON)


def key_of(number: int, place: str) -> str:
    """Of the train's card in one place."""
    return f"{_KEY}{number}:{place}"[:255]


def train_of(key: str) -> int | None:
    """The train whose card has that key, or None."""
    number = key.removeprefix(_KEY).partition(":")[0]
    return int(number) if key.startswith(_KEY) and number.isascii() and number.isdigit() else None


def waves(catalog: Catalog, services: Collection[str]) -> dict[str, int]:
    """Service -> wave from 1: each comes after everything it needs, also through services that do not travel."""
    level: dict[str, int] = {}

    def rank(name: str, on_the_way: frozenset[str]) -> int:
        if name not in level:
            known = catalog.services.get(name)
            needs = [one for one in (known.needs if known is not None else ()) if one not in on_the_way]
            level[name] = 1 + max((rank(one, on_the_way | {name}) for one in needs), default=0)
        return level[name]

    ranks = {name: rank(name, frozenset({name})) for name in services}
    numbers = {found: at + 1 for at, found in enumerate(sorted(set(ranks.values())))}
    return {name: numbers[found] for name, found in ranks.items()}


def needed(catalog: Catalog, service: str) -> frozenset[str]:
    """Everything a service needs, directly or not."""
    found: set[str] = set()
    left = [service]
    while left:
        known = catalog.services.get(left.pop())
        fresh = [one for one in (known.needs if known is not None else ()) if one not in found]
        found.update(fresh)
        left += fresh
    return frozenset(found - {service})


def looked(train: Train, seen: Mapping[int, Deployment]) -> Train:
    """What became of the deployments, and what follows from it for the train. Starts nothing."""
    cars = [_looked(car, seen) for car in train.data.cars]
    train = train.with_cars(cars)
    failed = [car for car in cars if car.state is CarState.FAILED]
    if train.state is TrainState.RUNNING and len(failed) > train.data.budget:
        said = f"{len(failed)} failed, more than the {train.data.budget} that may: nothing more is started."
        train = stopped(train, said)
    return train


def _looked(car: Car, seen: Mapping[int, Deployment]) -> Car:
    if car.state is CarState.RUNNING and (now := seen.get(car.deployment or 0)) is not None and now.state.is_final:
        if now.state is State.SUCCEEDED:
            return car.model_copy(update={"state": CarState.SUCCEEDED})
        return car.model_copy(update={"state": CarState.FAILED, "why": _why(now), "blocks": True})
    if car.state is CarState.UNDOING and (now := seen.get(car.undo or 0)) is not None and now.state.is_final:
        good = now.state is State.SUCCEEDED
        return car.model_copy(
            update={"state": CarState.UNDONE if good else CarState.UNDO_FAILED, "why": "" if good else _why(now)}
        )
    return car


def _why(seen: Deployment) -> str:
    failure = seen.data.failure
    return failure.message[:300] if failure is not None else f"it was {seen.state.value.replace('_', ' ')}"


def without_blocked(train: Train, catalog: Catalog) -> Train:
    """What needs a service that did not get there is skipped."""
    return train.with_cars(unblocked(train.data.cars, catalog))


def unblocked(found: Sequence[Car], catalog: Catalog) -> list[Car]:
    """The same cars; those that need one that blocks are skipped, and say which."""
    blocking = {car.service for car in found if car.blocks}
    cars = []
    for car in found:
        missing = sorted(needed(catalog, car.service) & blocking) if car.state is CarState.WAITING else []
        if missing:
            why = f"it needs {', '.join(missing)}, which did not get there"
            car = car.model_copy(update={"state": CarState.SKIPPED, "why": why})
        cars.append(car)
    return cars


def to_begin(train: Train) -> Iterator[Car]:
    """What may be started now: of the lowest wave that is not over, as many as may run at once."""
    waiting, running = CarState.WAITING, CarState.RUNNING
    if train.state is TrainState.ROLLING_BACK:
        waiting, running = CarState.UNDO_WAITING, CarState.UNDOING
    elif train.state is not TrainState.RUNNING:
        return
    unfinished = [car for car in train.data.cars if car.state in (waiting, running)]
    if not unfinished:
        return
    numbers = [car.wave for car in unfinished]
    wave = max(numbers) if train.state is TrainState.ROLLING_BACK else min(numbers)
    room = train.data.limit - sum(1 for car in unfinished if car.state is running)
    yield from [car for car in unfinished if car.wave == wave and car.state is waiting][: max(0, room)]


def stopped(train: Train, said: str) -> Train:
    """Nothing more is started; what waits is skipped."""
    cars = [
        car.model_copy(update={"state": CarState.SKIPPED, "why": "the train was stopped", "stopped": True})
        if car.state is CarState.WAITING
        else car
        for car in train.data.cars
    ]
    data = train.data.model_copy(update={"cars": tuple(cars), "said": said})
    return train.model_copy(update={"state": TrainState.STOPPING, "data": data})


def can_resume(train: Train) -> bool:
    """Whether something would go on that was only stopped."""
    is_going_back = train.state in (TrainState.ROLLING_BACK, TrainState.ROLLED_BACK) or bool(train.data.undo_by)
    return not is_going_back and any(car.stopped for car in train.data.cars)


def can_undo(train: Train) -> bool:
    """Whether something got there, or still may, that can be taken back."""
    if train.state in (TrainState.ROLLING_BACK, TrainState.ROLLED_BACK) or train.data.undo_by:
        return False
    return train.is_open or any(car.state is CarState.SUCCEEDED for car in train.data.cars)


def resumed(train: Train, said: str) -> Train:
    """What was only stopped goes on; the failures so far are forgiven, and one more stops it again."""
    cars = [
        car.model_copy(update={"state": CarState.WAITING, "why": "", "stopped": False}) if car.stopped else car
        for car in train.data.cars
    ]
    failed = sum(1 for car in cars if car.state is CarState.FAILED)
    budget = max(train.data.budget, failed)
    data = train.data.model_copy(update={"cars": tuple(cars), "said": said, "budget": budget})
    return train.model_copy(update={"state": TrainState.RUNNING, "data": data, "ended_at": None})


def arrived(train: Train) -> Train:
    """The next state if nothing runs or waits any more."""
    cars = train.data.cars
    busy = (CarState.RUNNING, CarState.WAITING, CarState.UNDOING, CarState.UNDO_WAITING)
    if any(car.state in busy for car in cars):
        return train
    if train.state is TrainState.STOPPING and train.data.undo_on_stop:
        return undoing(train, train.data.undo_by)
    if train.state is TrainState.STOPPING:
        return train.model_copy(update={"state": TrainState.STOPPED})
    if train.state is TrainState.ROLLING_BACK:
        return train.model_copy(update={"state": TrainState.ROLLED_BACK})
    failed = any(car.state is CarState.FAILED for car in cars)
    return train.model_copy(update={"state": TrainState.FAILED if failed else TrainState.SUCCEEDED})


def undoing(train: Train, by: str) -> Train:
    """Everything that got there goes back, the last wave first."""
    cars = [
        car.model_copy(update={"state": CarState.UNDO_WAITING}) if car.state is CarState.SUCCEEDED else car
        for car in train.data.cars
    ]
    data = train.data.model_copy(update={"cars": tuple(cars), "undo_by": by})
    return train.model_copy(update={"state": TrainState.ROLLING_BACK, "data": data, "ended_at": None})
