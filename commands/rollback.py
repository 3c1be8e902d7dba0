"""`/rollback <service> <environment> [version]`: deploy an older release that ran there."""

from __future__ import annotations

from typing import Annotated

from bot.catalog.model import Kind, Service, Target
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import Deployment
from bot.deployments.service import Wish, words
from bot.errors import BadInput
from bot.policy.model import Permission
from bot.store import deployments as rows
from bot.store.database import Tx
from commands.careful import warnings_of
from commands.deploy import find_target


class RollbackArgs(Args):
    """What the caller typed, in order."""

    service: Annotated[str, Arg(ArgKind.SERVICE)]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)]
    version: Annotated[str, Arg(ArgKind.VERSION)] = ""
    reason: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""


async def rollback(ctx: CommandContext, args: RollbackArgs) -> Reply:
    """Find the last good release before the present one, or the one named, and deploy it through the same path.

    Raises:
        BadInput: there is nothing to go back to.
        Refused: the rules say no. Nothing was started.
    """
    service, target = find_target(ctx, args.service, args.environment)
    await ctx.tools.owners.freshen(service)
    wanted, now = await ctx.tools.db.read(
        lambda tx: (
            _wanted(tx, service, target, args.version),
            rows.last_good(tx, service.name, target.environment),
        )
    )
    warnings = await warnings_of(ctx, service, target, now, wanted)
    started = await ctx.tools.deployments.start(
        Wish(
            person=ctx.caller,
            service=service,
            target=target,
            kind=Kind.ROLLBACK,
            commit=wanted.commit,
            version=wanted.release_version,
            branch=wanted.branch,
            reason=args.reason[:500],
            origin=ctx.origin,
            key=ctx.key,
            warnings=warnings,
        )
    )
    if not started.joined:
        return Reply(" ".join(warnings))
    seen = started.deployment
    return Reply(
        f"{seen.release_version} is on its way to {seen.environment} already: {seen.ref} is {words(seen.state)}."
    )


def _wanted(tx: Tx, service: Service, target: Target, version: str) -> Deployment:
    current = rows.last_good(tx, service.name, target.environment)
    place = (service.name, target.environment)
    found = rows.good_with(tx, *place, version) if version else _before(tx, current)
    if found is None:
        versions = rows.good_versions(tx, service.name, target.environment)
        known = (
            f"These ran there: {', '.join(versions)}."
            if versions
            else f"Use /deploy {service.name} {target.environment}."
        )
        what = f"{version} never ran well" if version else "There is no earlier release to go back to"
        raise BadInput(f"{what} in {target.environment} for {service.name}.", hint=known)
    return found


def _before(tx: Tx, current: Deployment | None) -> Deployment | None:
    """The release that ran before the present one; undoing a rollback's own target twice goes further back."""
    if current is None:
        return None
    return rows.last_good(tx, current.service, current.environment, before=current.id, not_digest=current.digest)


command = Command(
    name="rollback",
    summary="Go back to the release that ran before",
    example="/rollback hello prod",
    permission=Permission.RELEASE_ROLLBACK,
    args=RollbackArgs,
    run=rollback,
    notes="A rollback is a deployment of an older release, with its own line in Git. Owners may do it outside windows.",
)
