"""What the buttons of a card do. The right of whoever presses is checked each time, where the commands' is."""

from __future__ import annotations

from collections.abc import Mapping

from bot.catalog.model import Kind
from bot.commanding import Action, ClickContext, CommandContext
from bot.deployments.model import Deployment, Origin
from bot.deployments.service import Wish
from bot.errors import BadInput, Conflict
from bot.store import deployments as rows
from commands.approve import freshen_owners
from commands.build import again
from commands.deploy import find_target
from commands.rollback import RollbackArgs, rollback


async def emergency(ctx: ClickContext) -> None:
    """Ask the people of the emergency rule. Raises Refused, Conflict."""
    await freshen_owners(ctx.tools, ctx.deployment_id)
    await ctx.tools.deployments.ask_emergency(ctx.deployment_id, ctx.caller, ctx.inputs.get("reason", "")[:500])


async def approve(ctx: ClickContext) -> None:
    """Say yes. Raises Refused, Conflict."""
    await _vote(ctx, True)


async def reject(ctx: ClickContext) -> None:
    """Say no. Raises Refused, Conflict."""
    await _vote(ctx, False)


async def _vote(ctx: ClickContext, yes: bool) -> None:
    reason = ctx.inputs.get("reason", "")[:500]
    await freshen_owners(ctx.tools, ctx.deployment_id)
    await ctx.tools.deployments.vote(ctx.deployment_id, ctx.caller, yes, reason, ctx.origin.platform)


async def cancel(ctx: ClickContext) -> None:
    """End it. Raises Refused, Conflict."""
    await ctx.tools.deployments.cancel(ctx.deployment_id, ctx.caller)


async def go_on(ctx: ClickContext) -> None:
    """Let a gray release, or a pipeline that waits for a person, go on. Raises Refused, Conflict."""
    await ctx.tools.deployments.decide(ctx.deployment_id, ctx.caller, "continue")


async def abort(ctx: ClickContext) -> None:
    """Give a gray release up, or end a pipeline that waits for a person. Raises Refused, Conflict."""
    await ctx.tools.deployments.decide(ctx.deployment_id, ctx.caller, "abort")


async def retry(ctx: ClickContext) -> None:
    """Deploy the same release again, as whoever pressed. Raises Refused, Conflict."""
    seen = await _seen(ctx)
    if seen.kind is Kind.BUILD:
        await again(_as_command(ctx, seen), seen)
        return
    service, target = find_target(_as_command(ctx, seen), seen.service, seen.environment)
    await ctx.tools.owners.freshen(service)
    started = await ctx.tools.deployments.start(
        Wish(
            person=ctx.caller,
            service=service,
            target=target,
            kind=seen.kind,
            commit=seen.commit,
            version=seen.release_version,
            branch=seen.branch,
            reason=f"again after {seen.ref}",
            origin=_origin(ctx, seen),
            key=f"retry:{seen.id}",
            author=seen.data.author,
            size=seen.data.size,
        )
    )
    if started.joined:
        raise Conflict(f"It is on its way already: {started.deployment.ref}.")


async def roll_back(ctx: ClickContext) -> None:
    """Go back to what ran before. Raises Refused, BadInput."""
    seen = await _seen(ctx)
    newest = await ctx.tools.db.read(lambda tx: rows.last_good(tx, seen.service, seen.environment))
    if newest is None or newest.id != seen.id:
        raise Conflict(f"{seen.ref} is not what runs in {seen.environment} any more.", hint="Type /rollback instead.")
    await rollback(_as_command(ctx, seen), RollbackArgs(service=seen.service, environment=seen.environment))


async def _seen(ctx: ClickContext) -> Deployment:
    seen = await ctx.tools.db.read(lambda tx: rows.get(tx, ctx.deployment_id))
    if seen is None:
        raise BadInput("That deployment is gone.", hint="/history lists what there is.")
    return seen


def _origin(ctx: ClickContext, seen: Deployment) -> Origin:
    """Where the new card goes: beside the one that was pressed."""
    return Origin(ctx.origin.platform, ctx.origin.place, ctx.origin.personal)


def _as_command(ctx: ClickContext, seen: Deployment) -> CommandContext:
    return CommandContext(ctx.tools, ctx.caller, ctx.catalog, _origin(ctx, seen), f"button:{seen.id}:{ctx.key}")


actions: Mapping[str, Action] = {
    "emergency": emergency,
    "approve": approve,
    "reject": reject,
    "cancel": cancel,
    "continue": go_on,
    "abort": abort,
    "retry": retry,
    "rollback": roll_back,
}
