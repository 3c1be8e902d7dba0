"""`/approve <deployment>` and `/reject <deployment>`: the buttons' text twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply, Tools
from bot.deployments.model import Deployment, State, parse_ref
from bot.deployments.service import words
from bot.errors import BadInput
from bot.policy.model import Permission
from bot.store import deployments as rows


class VoteArgs(Args):
    """deployment may be left out if exactly one waits."""

    deployment: Annotated[str, Arg(ArgKind.DEPLOYMENT)] = ""
    reason: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""


async def approve(ctx: CommandContext, args: VoteArgs) -> Reply:
    """Say yes. Raises Refused or Conflict: not yours, too late, or decided already."""
    return await _vote(ctx, args, True)


async def reject(ctx: CommandContext, args: VoteArgs) -> Reply:
    """Say no; one no of an eligible person ends the question. Raises as `approve`."""
    return await _vote(ctx, args, False)


async def _vote(ctx: CommandContext, args: VoteArgs, yes: bool) -> Reply:
    number = await one_deployment(ctx, args.deployment, (State.AWAITING_APPROVAL,), "waits for approval")
    await freshen_owners(ctx.tools, number)
    after = await ctx.tools.deployments.vote(number, ctx.caller, yes, args.reason[:500], ctx.origin.platform)
    did = "approved" if yes else "rejected"
    if after.state is State.AWAITING_APPROVAL:
        return Reply(f"You {did} {after.ref} ({after.target} {after.release_version}); more approvals are needed.")
    return Reply(f"You {did} {after.ref} ({after.target} {after.release_version}); it is {words(after.state)} now.")


async def freshen_owners(tools: Tools, number: int) -> None:
    """Read who owns a deployment's service now: an owner's right to vote is that of this moment."""
    seen = await tools.db.read(lambda tx: rows.get(tx, number))
    service = tools.catalog().services.get(seen.service) if seen is not None else None
    if service is not None:
        await tools.owners.freshen(service)


async def one_deployment(
    ctx: CommandContext,
    ref: str,
    states: tuple[State, ...],
    what: str,
    fits: Callable[[Deployment], bool] = lambda _: True,
) -> int:
    """The number of the deployment meant; without one, the only one in these states that fits.

    Raises:
        BadInput: there is none, or more than one.
    """
    if ref:
        number = parse_ref(ref)
        if number is None:
            raise BadInput(f"'{ref}' is no deployment.", hint="Deployments look like d-12; /status lists them.")
        return number
    moving = [one for one in await ctx.tools.db.read(rows.open_for) if one.state in states and fits(one)]
    if len(moving) == 1:
        return moving[0].id
    if not moving:
        raise BadInput(f"Nothing {what} now.", hint="/history shows what there was.")
    raise BadInput(f"More than one {what}: {_listed(moving)}.", hint="Name the one you mean.")


def _listed(found: list[Deployment]) -> str:
    return ", ".join(f"{one.ref} ({one.target})" for one in found[:5])


approve_command = Command(
    name="approve",
    summary="Let an emergency deployment through",
    example="/approve d-12",
    permission=Permission.RELEASE_APPROVE,
    args=VoteArgs,
    run=approve,
)

reject_command = Command(
    name="reject",
    summary="Stop an emergency deployment",
    example="/reject d-12 --reason not today",
    permission=Permission.RELEASE_APPROVE,
    args=VoteArgs,
    run=reject,
)
