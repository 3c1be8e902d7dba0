"""`/queue [service] [environment]`: what waits, in which order, and for what."""

from __future__ import annotations

from typing import Annotated

from bot.catalog.find import find_environment, find_service
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import HOLDS_TARGET, Deployment, State
from bot.policy.model import Permission
from bot.store import deployments as rows
from commands.status import line_of
from notifiers.card import Card

MOST = 15


class QueueArgs(Args):
    """Both may be left out."""

    service: Annotated[str, Arg(ArgKind.SERVICE)] = ""
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = ""


async def queue(ctx: CommandContext, args: QueueArgs) -> Reply:
    """What works and what waits, by target, first come first. Raises BadInput."""
    service = find_service(ctx.catalog, args.service).name if args.service else ""
    place = find_environment(ctx.catalog, args.environment).name if args.environment else ""
    found = await ctx.tools.db.read(lambda tx: rows.open_for(tx, service, place))
    shown = [one for one in found if one.state is State.QUEUED or one.state in HOLDS_TARGET]
    lines = [_line(ctx, one, shown) for one in sorted(shown, key=lambda one: (one.target, _rank(one), one.id))]
    more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
    title = " ".join(["Queue", *(["of", service] if service else []), *(["in", place] if place else [])])
    return Reply(card=Card(title, text="\n".join([*lines[:MOST], *more]) or "Nothing waits."))


def _rank(seen: Deployment) -> int:
    return 0 if seen.state in HOLDS_TARGET else 1


def _line(ctx: CommandContext, seen: Deployment, shown: list[Deployment]) -> str:
    if seen.state in HOLDS_TARGET:
        return f"now: {line_of(seen, ctx)}"
    before = sum(1 for one in shown if one.target == seen.target and one.state is State.QUEUED and one.id < seen.id)
    return f"{before + 1}.: {line_of(seen, ctx)}"


command = Command(
    name="queue",
    summary="Show what waits, in which order and for what",
    example="/queue pay prod",
    permission=Permission.RELEASE_READ,
    args=QueueArgs,
    run=queue,
)
