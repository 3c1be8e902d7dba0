"""`/cancel [deployment]`: end one that waits or works; what was written to Git is undone by a commit."""

from __future__ import annotations

from typing import Annotated

from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import HOLDS_TARGET, State
from bot.deployments.service import words
from bot.policy.model import Permission
from commands.approve import one_deployment

CANCELLABLE = (State.AWAITING_APPROVAL, State.QUEUED, *sorted(HOLDS_TARGET))


class CancelArgs(Args):
    """deployment may be left out if exactly one is on its way."""

    deployment: Annotated[str, Arg(ArgKind.DEPLOYMENT)] = ""


async def cancel(ctx: CommandContext, args: CancelArgs) -> Reply:
    """End it. Raises Refused: it has ended, or it is not yours to end."""
    number = await one_deployment(ctx, args.deployment, CANCELLABLE, "is on its way")
    after = await ctx.tools.deployments.cancel(number, ctx.caller)
    return Reply(f"{after.ref} ({after.target} {after.release_version}) is {words(after.state)}.")


command = Command(
    name="cancel",
    summary="End a deployment that is on its way",
    example="/cancel d-12",
    permission=Permission.RELEASE_CANCEL,
    args=CancelArgs,
    run=cancel,
)
