"""`/status [service] [environment]`: what runs where, and what is on its way."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from bot.catalog.find import find_environment, find_service
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import Deployment, State
from bot.deployments.service import words
from bot.errors import SlipwayError
from bot.policy.model import Permission
from bot.store import deployments as rows
from bot.store.database import Tx
from bot.times import say_for, say_when
from notifiers.card import Card

MOST = 15


class StatusArgs(Args):
    """Both may be left out."""

    service: Annotated[str, Arg(ArgKind.SERVICE)] = ""
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = ""


async def status(ctx: CommandContext, args: StatusArgs) -> Reply:
    """One service in every environment, or all that is on its way."""
    if not args.service:
        return Reply(card=await _overview(ctx, ""))
    if args.service in ctx.catalog.environments and not args.environment:
        return Reply(card=await _overview(ctx, args.service))
    return Reply(card=await _service(ctx, args))


async def _overview(ctx: CommandContext, environment: str) -> Card:
    def work(tx: Tx) -> tuple[list[Deployment], list[Deployment]]:
        return rows.open_for(tx, environment=environment), rows.history(tx, environment=environment, limit=5)

    moving, recent = await ctx.tools.db.read(work)
    now = ctx.tools.clock()
    lines = [line_of(one, ctx) for one in moving[:MOST]]
    if len(moving) > MOST:
        lines.append(f"and {len(moving) - MOST} more")
    fields = {
        one.ref: f"{one.target} {one.release_version}: {words(one.state)}, {say_for(now - one.changed_at)} ago"
        for one in recent
        if one.state.is_final
    }
    title = f"Status of {environment}" if environment else "Status"
    text = "On its way:" if lines else "Nothing is on its way."
    return Card(title, text="\n".join([text, *lines]), fields=fields)


async def _service(ctx: CommandContext, args: StatusArgs) -> Card:
    service = find_service(ctx.catalog, args.service)
    names = [find_environment(ctx.catalog, args.environment).name] if args.environment else list(service.targets)
    fields, lines = {}, []
    for name in names:
        target = service.targets.get(name)
        if target is None:
            continue
        good, moving = await ctx.tools.db.read(partial(_known, service=service.name, environment=name))
        delivery = ctx.tools.providers.deliveries.get(target.delivery.provider)
        fields[name] = await _cell(ctx, good, delivery.running(service, target) if delivery else None)
        lines += [line_of(one, ctx) for one in moving]
    team = ctx.catalog.teams.get(service.team)
    text = "\n".join(["On its way:", *lines]) if lines else "Nothing is on its way."
    fields["owners"] = ", ".join(_names(ctx, service.owners)) or "nobody"
    fields["team"] = team.name if team else service.team
    return Card(f"Status of {service.name}", text=text, fields=fields)


def _known(tx: Tx, service: str, environment: str) -> tuple[Deployment | None, list[Deployment]]:
    return rows.last_good(tx, service, environment), rows.open_for(tx, service, environment)


async def _cell(ctx: CommandContext, good: Deployment | None, asking: object) -> str:
    deployed = (
        f"{good.release_version} since {say_when(good.changed_at, ctx.caller.zone)} ({good.ref})"
        if good
        else "nothing deployed by Slipway yet"
    )
    if asking is None:
        return deployed
    try:
        running = await asking  # type: ignore[misc]
    except SlipwayError as error:
        return f"{deployed}; what runs now cannot be told: {error.message}"
    if running is None:
        return f"{deployed}; nothing is running"
    health = "healthy" if running.healthy else f"not healthy: {running.message}"
    drift = (
        "" if good is None or running.digest == good.digest else f"; running now: {running.version or 'another build'}"
    )
    return f"{deployed}{drift}; {health}" + (f"; {running.url}" if running.url else "")


def line_of(seen: Deployment, ctx: CommandContext) -> str:
    """One deployment in one line."""
    since = say_for(ctx.tools.clock() - seen.changed_at)
    who = ", ".join(_names(ctx, (seen.requested_by,)))
    line = f"{seen.ref} {seen.target} {seen.release_version}: {words(seen.state)} for {since}, asked by {who}"
    gates_since = seen.data.gating_since_at if seen.state is State.GATING else None
    waiting, waits_since = seen.data.waiting_for, seen.data.waiting_since_at or gates_since
    if waiting and waits_since is not None:
        return f"{line}, waiting since {say_when(waits_since, ctx.caller.zone)}: {waiting}"
    return f"{line}, waiting for: {waiting}" if waiting else line


def _names(ctx: CommandContext, people: tuple[str, ...]) -> list[str]:
    return [ctx.catalog.people[one].name if one in ctx.catalog.people else one for one in people]


command = Command(
    name="status",
    summary="Show what runs where and what is on its way",
    example="/status hello",
    permission=Permission.RELEASE_READ,
    args=StatusArgs,
    run=status,
)
