"""`/where <service>`: version, digest, since when and by whom in every environment, and where they drift."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from bot.catalog.find import find_service
from bot.catalog.model import Service, Target
from bot.catalog.repository import resolve_repo
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.errors import SlipwayError
from bot.policy.model import Permission
from bot.store import deployments as rows
from bot.times import say_when
from notifiers.card import Card

if TYPE_CHECKING:
    from bot.delivery.base import Running, Written


class WhereArgs(Args):
    """The service."""

    service: Annotated[str, Arg(ArgKind.SERVICE)]


async def where(ctx: CommandContext, args: WhereArgs) -> Reply:
    """Ask what Git wants and what runs, everywhere at once. Raises BadInput: no such service."""
    service = find_service(ctx.catalog, args.service)
    cells = await asyncio.gather(*(_cell(ctx, service, target) for target in service.targets.values()))
    fields = dict(zip(service.targets, (text for text, _ in cells), strict=True))
    clusters = await asyncio.gather(*(_clusters(ctx, service, target) for target in service.targets.values()))
    fields |= {name: text for found in clusters for name, text in found.items()}
    drifting = [name for name, (_, drifts) in zip(service.targets, cells, strict=True) if drifts]
    text = f"What runs is not what Git wants in {', '.join(drifting)}." if drifting else ""
    return Reply(card=Card(f"Where {service.name} is", text=text, fields=fields))


async def _cell(ctx: CommandContext, service: Service, target: Target) -> tuple[str, bool]:
    """A line for one environment, and whether it drifts."""
    good = await ctx.tools.db.read(lambda tx: rows.last_good(tx, service.name, target.environment))
    parts = []
    if good is not None:
        person = ctx.catalog.people.get(good.requested_by)
        since = say_when(good.ended_at or good.changed_at, ctx.caller.zone)
        by = person.name if person is not None else good.requested_by
        parts.append(f"{good.release_version} {good.digest[:19]} since {since} by {by} ({good.ref})")
    else:
        parts.append("nothing deployed by Slipway yet")
    try:
        running, wanted = await asyncio.gather(_running(ctx, service, target), _wanted(ctx, service, target))
    except SlipwayError as error:
        return f"{parts[0]}; it cannot be told what runs: {error.message}", False
    if running is None:
        return f"{parts[0]}; nothing is running", bool(wanted.digest)
    if not running.healthy:
        parts.append(f"not healthy: {running.message}")
    drifts = running.digest != wanted.digest
    if drifts:
        parts.append(
            f"drift: Git wants {wanted.version or 'nothing'}, running is {running.version or 'another image'}"
            f" {running.digest[:19]}".rstrip()
        )
    return "; ".join(parts), drifts


async def _clusters(ctx: CommandContext, service: Service, target: Target) -> dict[str, str]:
    """A line for each cluster of an environment that spans several."""
    delivery = ctx.tools.providers.deliveries.get(target.delivery.provider)
    from bot.delivery.base import Spread

    if not isinstance(delivery, Spread):
        return {}
    try:
        found, wanted = await asyncio.gather(delivery.everywhere(service, target), _wanted(ctx, service, target))
    except SlipwayError:
        return {}  # Told in the environment's own line.
    if len(found) < 2:
        return {}
    return {f"{target.environment}: {name}": _in_cluster(running, wanted) for name, running in found.items()}


def _in_cluster(running: Running | None, wanted: Written) -> str:
    if running is None:
        return "nothing is running"
    said = f"{running.version or 'another image'} {running.digest[:19]}".strip()
    if running.digest != wanted.digest:
        return f"drift: Git wants {wanted.version or 'nothing'}, running is {said}"
    return said if running.healthy else f"{said}; not healthy: {running.message}"


async def _running(ctx: CommandContext, service: Service, target: Target) -> Running | None:
    delivery = ctx.tools.providers.deliveries.get(target.delivery.provider)
    return await delivery.running(service, target) if delivery is not None else None


async def _wanted(ctx: CommandContext, service: Service, target: Target) -> Written:
    repo = resolve_repo(ctx.tools.directory, target.gitops.repo)
    return await ctx.tools.providers.writer.read(target.gitops, repo, service.name, target.environment)


command = Command(
    name="where",
    summary="Show version, digest, since when and by whom in every environment",
    example="/where pay",
    permission=Permission.RELEASE_READ,
    args=WhereArgs,
    run=where,
)
