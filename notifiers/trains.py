"""From a train to what a person should see of it; pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.catalog.model import Catalog
from bot.deployments.train_model import BUTTON, Car, CarState, Train, TrainState, can_resume, can_undo
from notifiers.card import Button, ButtonStyle, Card, Message, Step
from notifiers.render import name_of

STOP, CONTINUE, ROLL_BACK = f"{BUTTON}stop", f"{BUTTON}continue", f"{BUTTON}rollback"
MOST = 40
"""Services shown one by one; those that failed or run come first."""
TITLES = {
    TrainState.RUNNING: "Train {ref} to {where} is on its way",
    TrainState.STOPPING: "Train {ref} to {where} is stopping",
    TrainState.ROLLING_BACK: "Train {ref} to {where} is going back",
    TrainState.SUCCEEDED: "Train {ref} to {where} has arrived",
    TrainState.FAILED: "Train {ref} to {where} has arrived without all services",
    TrainState.STOPPED: "Train {ref} to {where} was stopped",
    TrainState.ROLLED_BACK: "Train {ref} to {where} was rolled back",
}
STEP = {
    CarState.WAITING: "pending",
    CarState.RUNNING: "running",
    CarState.SUCCEEDED: "succeeded",
    CarState.FAILED: "failed",
    CarState.SKIPPED: "skipped",
    CarState.UNDO_WAITING: "pending",
    CarState.UNDOING: "running",
    CarState.UNDONE: "cancelled",
    CarState.UNDO_FAILED: "failed",
}
FIRST = (CarState.UNDO_FAILED, CarState.FAILED, CarState.UNDOING, CarState.RUNNING)
ENDED = {TrainState.SUCCEEDED: "succeeded", TrainState.ROLLED_BACK: "rolled_back", TrainState.RUNNING: "syncing"}


def train_message(train: Train, catalog: Catalog) -> Message:
    """The train's card, and the sentence for notifications."""
    title = TITLES[train.state].format(ref=train.ref, where=train.environment)
    cars = train.data.cars
    fields = {"requested by": name_of(catalog, train.requested_by)}
    fields |= {"from": train.source} if train.source else {}
    fields |= {"reason": train.reason} if train.reason else {}
    card = Card(
        title=title,
        state=ENDED.get(train.state, "syncing" if train.is_open else "failed"),
        progress=_percent(cars),
        text=" ".join(part for part in (counted(cars), train.data.said, _next(train)) if part),
        steps=car_steps(cars),
        fields=fields,
        buttons=buttons(train),
    )
    return Message(title, card)


def buttons(train: Train) -> tuple[Button, ...]:
    """What can be decided about it now. Who may is asked at the press."""
    made = []
    if train.state is TrainState.RUNNING:
        made.append(Button(STOP, "Stop", ButtonStyle.NORMAL, f"Start nothing more of {train.ref}?"))
    if can_resume(train):
        question = f"Go on with {train.ref}? One more failure stops it again."
        made.append(Button(CONTINUE, "Continue", ButtonStyle.PRIMARY, question))
    if can_undo(train):
        question = f"Take everything of {train.ref} in {train.environment} back?"
        made.append(Button(ROLL_BACK, "Roll back", ButtonStyle.DANGER, question))
    return tuple(made)


def car_steps(cars: Sequence[Car]) -> tuple[Step, ...]:
    """A line for each service; of a long train the interesting ones."""
    order = {name: at for at, name in enumerate(FIRST)}
    shown = cars
    if len(cars) > MOST:
        shown = sorted(cars, key=lambda car: (order.get(car.state, len(order)), car.wave))[: MOST - 1]
        shown = sorted(shown, key=lambda car: car.wave)
    made = [Step(_name(car), STEP[car.state], _detail(car)) for car in shown]
    if len(shown) < len(cars):
        made.append(Step(f"and {len(cars) - len(shown)} more", "pending"))
    return tuple(made)


def counted(cars: Sequence[Car]) -> str:
    """How many services stand where."""
    number = {state: sum(1 for car in cars if car.state is state) for state in CarState}
    going = number[CarState.RUNNING] + number[CarState.UNDOING]
    failed = number[CarState.FAILED] + number[CarState.UNDO_FAILED]
    there = number[CarState.SUCCEEDED] + number[CarState.UNDO_WAITING]
    back, skipped = number[CarState.UNDONE], number[CarState.SKIPPED]
    return (
        f"Services: {len(cars)}; there: {there}, on their way: {going}, failed: {failed}, "
        f"skipped: {skipped}, rolled back: {back}."
    )


def _name(car: Car) -> str:
    return car.service if car.state is CarState.SKIPPED else f"{car.wave}. {car.service}"


def _detail(car: Car) -> str:
    if car.why:
        return car.why
    change = f"{car.before} -> {car.version}" if car.before else car.version
    number = car.undo or car.deployment
    return f"{change} (d-{number})" if number else change


def _percent(cars: Sequence[Car]) -> int:
    moving = [car for car in cars if car.state is not CarState.SKIPPED]
    over = sum(1 for car in moving if STEP[car.state] not in ("pending", "running"))
    return round(100 * over / len(moving)) if moving else 100


def _next(train: Train) -> str:
    if train.state is TrainState.RUNNING:
        return f"/train {train.ref} stop starts nothing more."
    said = [f"/train {train.ref} continue goes on with what was stopped."] if can_resume(train) else []
    said += [f"/train {train.ref} rollback takes all of it back."] if can_undo(train) and not train.is_open else []
    return " ".join(said)
