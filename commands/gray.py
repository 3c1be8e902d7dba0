"""`/continue [deployment]` and `/abort [deployment]`: what follows a pause at gray, or a question of the pipeline."""

from __future__ import annotations

from typing import Annotated

from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import Deployment, State
from bot.policy.model import Permission
from commands.approve import one_deployment

WAITS = (State.GRAY, State.BUILDING)


def _waits(seen: Deployment) -> bool:
    return seen.state is State.GRAY or (seen.data.asks is not None and seen.data.asks.is_open)


class ContinueArgs(Args):
    """deployment may be left out if exactly one waits; full: past every further pause."""

    deployment: Annotated[str, Arg(ArgKind.DEPLOYMENT)] = ""
    full: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False


class AbortArgs(Args):
    """deployment may be left out if exactly one waits."""

    deployment: Annotated[str, Arg(ArgKind.DEPLOYMENT)] = ""


async def continue_(ctx: CommandContext, args: ContinueArgs) -> Reply:
    """Give it more traffic, or let its pipeline go on. Raises Refused, Conflict."""
    number = await one_deployment(ctx, args.deployment, WAITS, "waits for a go", _waits)
    after = await ctx.tools.deployments.decide(number, ctx.caller, "full" if args.full else "continue")
    return Reply(f"{after.ref} ({after.target} {after.release_version}) goes on{' to full' if args.full else ''}.")


async def abort(ctx: CommandContext, args: AbortArgs) -> Reply:
    """Take its traffic away and go back, or end its pipeline. Raises Refused, Conflict."""
    number = await one_deployment(ctx, args.deployment, WAITS, "waits for a go", _waits)
    after = await ctx.tools.deployments.decide(number, ctx.caller, "abort")
    if after.state is State.BUILDING:
        return Reply(f"The pipeline of {after.ref} ({after.target} {after.release_version}) is being ended.")
    return Reply(f"{after.ref} ({after.target} {after.release_version}) gives its traffic back.")


continue_command = Command(
    name="continue",
    summary="Let a gray release, or a pipeline that asks, go on",
    example="/continue d-12",
    permission=Permission.RELEASE_DEPLOY,
    args=ContinueArgs,
    run=continue_,
)
abort_command = Command(
    name="abort",
    summary="Give up a gray release, or end a pipeline that asks",
    example="/abort d-12",
    permission=Permission.RELEASE_CANCEL,
    args=AbortArgs,
    run=abort,
)
