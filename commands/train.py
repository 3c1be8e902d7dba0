"""`/train <environment> [services]`: many services into one environment, in the order in which they need each other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

from bot.catalog import messages
from bot.catalog.find import find_environment
from bot.catalog.model import Kind, Service, Target
from bot.commanding import Action, Arg, ArgKind, Args, ClickContext, Command, CommandContext, Reply
from bot.deployments import train_model as model
from bot.deployments.model import Deployment
from bot.deployments.service import Wish, is_open
from bot.deployments.train_model import Car, CarState, Data, parse_train
from bot.deployments.trains import Trains
from bot.errors import BadInput, SlipwayError
from bot.policy.model import Permission
from bot.store import deployments as rows
from commands.deploy import author_of, resolve, size_of
from commands.promote import Proven, environment_before, proven
from notifiers.card import Card
from notifiers.trains import CONTINUE, ROLL_BACK, STOP, car_steps, counted, train_message

AT_ONCE = 16
"""Services looked at at the same time while planning."""


class TrainArgs(Args):
    """where: an environment, or a train. what: services, teams, labels (`key=value`), patterns; none: all.

    limit: how many deploy at once. budget: how many may fail. rollback: if it stops for that, all of it goes back.
    """

    where: Annotated[str, Arg(ArgKind.ENVIRONMENT, label="environment|t-N")]
    what: Annotated[str, Arg(ArgKind.TEXT, label="services|team|label|stop|continue|rollback")] = ""
    from_: Annotated[str, Arg(ArgKind.ENVIRONMENT, option=True, label="from")] = ""
    limit: Annotated[int, Arg(ArgKind.NUMBER, option=True), Field(ge=1, le=100)] = 4
    budget: Annotated[int, Arg(ArgKind.NUMBER, option=True), Field(ge=0, le=1000)] = 0
    rollback: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False
    plan: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False
    reason: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""


def make_command(trains: Trains) -> Command:
    """The command over these trains."""

    async def run(ctx: CommandContext, args: TrainArgs) -> Reply:
        number = parse_train(args.where)
        if number is not None:
            return await _existing(ctx, trains, number, args.what.strip().casefold())
        return await _new(ctx, trains, args)

    return Command(
        name="train",
        summary="Bring many services into an environment, in waves; stop or roll back the whole train",
        example="/train prod --from staging team-a pay",
        permission=Permission.RELEASE_DEPLOY,
        args=TrainArgs,
        run=run,
        notes="--plan shows what would ship and what is skipped. "
        "/train t-3 shows a train; add stop, continue or rollback.",
    )


def make_actions(trains: Trains) -> Mapping[str, Action]:
    """What the buttons of a train's card do; the right of whoever presses is checked each time."""

    async def stop(ctx: ClickContext) -> None:
        await trains.halt(ctx.train_id, ctx.caller)

    async def go_on(ctx: ClickContext) -> None:
        await trains.resume(ctx.train_id, ctx.caller)

    async def roll_back(ctx: ClickContext) -> None:
        await trains.undo(ctx.train_id, ctx.caller)

    return {STOP: stop, CONTINUE: go_on, ROLL_BACK: roll_back}


async def _existing(ctx: CommandContext, trains: Trains, number: int, what: str) -> Reply:
    if what == "stop":
        train = await trains.halt(number, ctx.caller)
        return Reply(f"{train.ref} starts nothing more; what is on its way is finished.")
    if what == "continue":
        train = await trains.resume(number, ctx.caller)
        return Reply(f"{train.ref} goes on with what was stopped; one more failure stops it again.")
    if what == "rollback":
        train = await trains.undo(number, ctx.caller)
        return Reply(f"{train.ref} goes back: the last wave first, each service by a commit in Git.")
    if what:
        raise BadInput(f"I cannot {what[:40]} a train.", hint="Type stop, continue or rollback after its number.")
    train = await trains.get(number)
    card = train_message(train, ctx.catalog).card
    return Reply(card=replace(card, buttons=()) if card is not None else None)  # Those of the card that is kept.


async def _new(ctx: CommandContext, trains: Trains, args: TrainArgs) -> Reply:
    """Plan, and depart with what may go. Raises BadInput: nothing is meant, or nothing may go."""
    environment = find_environment(ctx.catalog, args.where).name
    source = find_environment(ctx.catalog, args.from_).name if args.from_ else ""
    services = chosen(ctx, args.what.split(), environment)
    cars = await plan_cars(ctx, services, environment, source)
    going = [car for car in cars if car.state is CarState.WAITING]
    if args.plan or not going:
        title = f"Plan of a train to {environment}"
        text = (
            f"{counted(cars)} {'Nothing was done.' if going else 'There is nothing to ship, so nothing was started.'}"
        )
        waves = str(max((car.wave for car in going), default=0))
        fields = {"waves": waves, "at once": str(args.limit), "may fail": str(args.budget)}
        return Reply(card=Card(title, text=text, steps=car_steps(cars), fields=fields))
    data = Data(cars=tuple(cars), limit=args.limit, budget=args.budget, undo_on_stop=args.rollback)
    await trains.depart(ctx.key, ctx.caller, environment, source, ctx.origin, args.reason[:500], data)
    return Reply()


def chosen(ctx: CommandContext, words: Sequence[str], environment: str) -> list[Service]:
    """The services that are meant, of those that run there. Raises BadInput: a word means none."""
    there = [one for one in ctx.catalog.services.values() if environment in one.targets]
    found: dict[str, Service] = {}
    for word in words:
        matching = [one for one in there if _is_meant(word, one)]
        if not matching:
            near = messages.nearest(word, [*(one.name for one in there), *ctx.catalog.teams])
            hint = f"Did you mean {messages.listed(near)}?" if near else "Name services, teams or labels (key=value)."
            raise BadInput(f"'{word[:60]}' is no service, team or label in {environment}.", hint=hint)
        found |= {one.name: one for one in matching}
    return list(found.values()) if words else there


def _is_meant(word: str, service: Service) -> bool:
    key, equals, value = word.partition("=")
    if equals:
        return key in service.labels and fnmatchcase(service.labels[key], value)
    return fnmatchcase(service.name, word) or service.team == word.removeprefix("team:")


async def plan_cars(ctx: CommandContext, services: Sequence[Service], environment: str, source: str) -> list[Car]:
    """A car for each, in waves: with what it would ship, or why it is skipped."""
    room = asyncio.Semaphore(AT_ONCE)

    async def plan(service: Service) -> Car:
        async with room:
            try:
                return await _car(ctx, service, service.targets[environment], source)
            except BadInput as error:
                return Car(service=service.name, state=CarState.SKIPPED, why=error.message)
            except SlipwayError as error:
                return Car(service=service.name, state=CarState.SKIPPED, why=error.message, blocks=True)

    cars = await asyncio.gather(*(plan(service) for service in services))
    numbers = model.waves(ctx.catalog, [car.service for car in cars])
    placed = [car.model_copy(update={"wave": numbers[car.service]}) for car in cars]
    return _renumbered(model.unblocked(placed, ctx.catalog))


def _renumbered(cars: Sequence[Car]) -> list[Car]:
    """Waves without gaps, in order; what is skipped stands at the end."""
    going = sorted({car.wave for car in cars if car.state is CarState.WAITING})
    place = {wave: at + 1 for at, wave in enumerate(going)}
    made = [car.model_copy(update={"wave": place.get(car.wave, len(going) or 1)}) for car in cars]
    return sorted(made, key=lambda car: (car.state is CarState.SKIPPED, car.wave, car.service))


async def _car(ctx: CommandContext, service: Service, target: Target, source: str) -> Car:
    """What it would ship. Raises SlipwayError: why it is skipped."""
    await ctx.tools.owners.freshen(service)
    good = await ctx.tools.db.read(lambda tx: rows.last_good(tx, service.name, target.environment))
    if source or next(iter(service.targets)) != target.environment:
        front = _front(service, target, source)
        found = await proven(ctx, service, service.targets[front], target)
        car = _promoted(service, found)
        is_there = good is not None and good.digest == found.release.digest
    else:
        car = await _newest(ctx, service, target)
        is_there = good is not None and good.commit == car.commit
    if good is not None and is_there:
        raise BadInput(f"{good.release_version} runs there already.")
    car = car.model_copy(update={"size": await size_of(ctx, service, target, car.commit)})
    wish = _wish(ctx, service, target, car)
    verdict = await ctx.tools.deployments.judge(wish)
    if not is_open(verdict, wish):
        text = " ".join(reason.text for reason in verdict.blocking)
        return car.model_copy(update={"state": CarState.SKIPPED, "why": text[:300], "blocks": True})
    return _after(car, good)


def _front(service: Service, target: Target, source: str) -> str:
    """Where it comes from; never from behind. Raises BadInput."""
    if not source:
        return environment_before(service, target.environment)
    names = list(service.targets)
    if source not in names or names.index(source) >= names.index(target.environment):
        raise BadInput(f"{service.name} has no {source} in front of {target.environment}.")
    return source


def _promoted(service: Service, found: Proven) -> Car:
    release = found.release
    return Car(
        service=service.name,
        version=release.version,
        commit=release.commit,
        branch=release.branch,
        digest=release.digest,
        author=found.deployment.data.author,
    )


async def _newest(ctx: CommandContext, service: Service, target: Target) -> Car:
    """In the first environment a train brings the newest commit of its branch."""
    revision = await resolve(ctx, service, target, "")
    return Car(
        service=service.name,
        kind=Kind.NORMAL,
        version=revision.version,
        commit=revision.commit,
        branch=revision.branch,
        author=author_of(ctx, revision),
    )


def _wish(ctx: CommandContext, service: Service, target: Target, car: Car) -> Wish:
    return Wish(
        person=ctx.caller,
        service=service,
        target=target,
        kind=car.kind,
        commit=car.commit,
        version=car.version,
        branch=car.branch,
        reason="",
        origin=ctx.origin,
        key="",
        author=car.author,
        size=car.size,
        only_if_allowed=True,
    )


def _after(car: Car, good: Deployment | None) -> Car:
    return car.model_copy(update={"before": good.release_version}) if good is not None else car
