"""`/diff <service> <environment> [other]`: the commits by which an environment is ahead of another one."""

from __future__ import annotations

from typing import Annotated

from bot.catalog.repository import resolve_repo
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.errors import BadInput
from bot.policy.model import Permission
from bot.store import deployments as rows
from commands.deploy import find_target
from commands.promote import environment_before
from notifiers.card import Card

MOST = 20


class DiffArgs(Args):
    """other: left out, the one before it in order."""

    service: Annotated[str, Arg(ArgKind.SERVICE)]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)]
    other: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = ""


async def diff(ctx: CommandContext, args: DiffArgs) -> Reply:
    """What the other environment has and this one has not, and the other way round. Raises BadInput."""
    service, target = find_target(ctx, args.service, args.environment)
    other = find_target(ctx, args.service, args.other)[1].environment if args.other else ""
    other = other or environment_before(service, target.environment)
    here = await ctx.tools.db.read(lambda tx: rows.last_good(tx, service.name, target.environment))
    there = await ctx.tools.db.read(lambda tx: rows.last_good(tx, service.name, other))
    if here is None or there is None:
        empty = target.environment if here is None else other
        raise BadInput(
            f"Slipway has not deployed {service.name} to {empty} yet.", hint=f"Type /deploy {service.name} {empty}."
        )
    repo = resolve_repo(ctx.tools.directory, service.repo)
    ahead = await ctx.tools.sources.commits(repo, here.commit, there.commit, limit=MOST + 1)
    behind = await ctx.tools.sources.commits(repo, there.commit, here.commit, limit=MOST + 1)
    authors = sorted({one.author for one in ahead})
    lines = [f"{one.commit[:12]} {one.subject} ({one.author})" for one in ahead[:MOST]]
    lines += ["and more"] if len(ahead) > MOST else []
    fields = {target.environment: here.release_version, other: there.release_version}
    fields |= {"authors": ", ".join(authors)} if authors else {}
    fields |= {f"only in {target.environment}": f"{len(behind)} commits"} if behind else {}
    same = "Both run the same." if here.digest == there.digest else "No commits are in between."
    text = f"{other} has these that {target.environment} has not:" if lines else same
    return Reply(
        card=Card(
            f"{service.name}: {other} before {target.environment}", text=text, fields=fields, excerpt="\n".join(lines)
        )
    )


command = Command(
    name="diff",
    summary="List the commits and authors between two environments",
    example="/diff pay prod",
    permission=Permission.RELEASE_READ,
    args=DiffArgs,
    run=diff,
)
