"""`/continue [deployment]` and `/abort [deployment]`: what follows a pause with a part of the traffic."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel

from bot.commanding import Arg, ArgKind, Command, CommandContext, Reply
from bot.deployments.model import State
from bot.policy.model import Permission
from commands.approve import one_deployment


class ContinueArgs(BaseModel, frozen=True):
    """deployment may be left out if exactly one is at gray; full: past every further pause."""

    deployment: Annotated[str, Arg(ArgKind.DEPLOYMENT)] = ""
    full: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False


class AbortArgs(BaseModel, frozen=True):
    """deployment may be left out if exactly one is at gray."""

    deployment: Annotated[str, Arg(ArgKind.DEPLOYMENT)] = ""


async def continue_(ctx: CommandContext, args: ContinueArgs) -> Reply:
    """Give it more traffic. Raises Refused, Conflict."""
    number = await one_deployment(ctx, args.deployment, (State.GRAY,), "is at gray")
    after = await ctx.tools.deployments.decide_gray(number, ctx.caller, "full" if args.full else "continue")
    return Reply(f"{after.ref} ({after.target} {after.release_version}) goes on{' to full' if args.full else ''}.")


async def abort(ctx: CommandContext, args: AbortArgs) -> Reply:
    """Take its traffic away and go back. Raises Refused, Conflict."""
    number = await one_deployment(ctx, args.deployment, (State.GRAY,), "is at gray")
    after = await ctx.tools.deployments.decide_gray(number, ctx.caller, "abort")
    return Reply(f"{after.ref} ({after.target} {after.release_version}) gives its traffic back.")


continue_command = Command(
    name="continue",
    summary="Let a gray release go on to more traffic",
    example="/continue d-12",
    permission=Permission.RELEASE_DEPLOY,
    args=ContinueArgs,
    run=continue_,
)
abort_command = Command(
    name="abort",
    summary="Give up a gray release: traffic back, then Git",
    example="/abort d-12",
    permission=Permission.RELEASE_CANCEL,
    args=AbortArgs,
    run=abort,
)
