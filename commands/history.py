"""`/history [service] [environment]`: the newest deployments."""

from __future__ import annotations

from typing import Annotated

from bot.catalog.find import find_environment, find_service
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.service import words
from bot.policy.model import Permission
from bot.store import deployments as rows
from bot.times import say_for, say_when
from notifiers.card import Card


class HistoryArgs(Args):
    """Both may be left out."""

    service: Annotated[str, Arg(ArgKind.SERVICE)] = ""
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = ""


async def history(ctx: CommandContext, args: HistoryArgs) -> Reply:
    """The newest ten, newest first, with who asked and how long each took."""
    service = find_service(ctx.catalog, args.service).name if args.service else ""
    environment = find_environment(ctx.catalog, args.environment).name if args.environment else ""
    found = await ctx.tools.db.read(lambda tx: rows.history(tx, service, environment, 10))
    what = "/".join(part for part in (service, environment) if part) or "everything"
    if not found:
        return Reply(f"Nothing was deployed yet for {what}.")
    fields = {}
    for one in found:
        name = ctx.catalog.people[one.requested_by].name if one.requested_by in ctx.catalog.people else one.requested_by
        took = f" in {say_for(one.ended_at - one.created_at)}" if one.ended_at else ""
        at = say_when(one.created_at, ctx.caller.zone)
        fields[one.ref] = f"{one.target} {one.release_version} {one.kind.value}: {words(one.state)}{took}, {name}, {at}"
    return Reply(card=Card(f"History of {what}", fields=fields))


command = Command(
    name="history",
    summary="Show the newest deployments",
    example="/history pay prod",
    permission=Permission.RELEASE_READ,
    args=HistoryArgs,
    run=history,
)
