"""`/promote <service> <environment>`: put the very image that runs in the environment before into the next one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from bot.catalog.model import Kind, Service, Target
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import Deployment
from bot.deployments.service import Wish, words
from bot.errors import BadInput, ProviderRejected, Refused
from bot.policy.model import Permission
from bot.store import deployments as rows
from bot.store import releases
from bot.store.releases import Release
from bot.times import say_for, say_when
from commands.deploy import find_target, size_of, when

if TYPE_CHECKING:
    from bot.delivery.base import Running


class PromoteArgs(Args):
    """environment: where it goes; where it comes from is the one before it in order."""

    service: Annotated[str, Arg(ArgKind.SERVICE)]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT, lead="to")]
    reason: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    at: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""


@dataclass(frozen=True, slots=True)
class Proven:
    """What may be promoted: the deployment that brought it there, and its release."""

    deployment: Deployment
    release: Release


async def promote(ctx: CommandContext, args: PromoteArgs) -> Reply:
    """Look what really runs in front, then deploy that digest without a build.

    Raises:
        BadInput: there is no environment in front, or nothing runs there.
        Refused: it is not healthy, not what Slipway put there, or has not run long enough. Nothing was started.
    """
    service, target = find_target(ctx, args.service, args.environment)
    source = environment_before(service, target.environment)
    await ctx.tools.owners.freshen(service)
    found = await proven(ctx, service, service.targets[source], target)
    at, next_window = when(ctx, args.at)
    started = await ctx.tools.deployments.start(
        Wish(
            person=ctx.caller,
            service=service,
            target=target,
            kind=Kind.PROMOTION,
            commit=found.release.commit,
            version=found.release.version,
            branch=found.release.branch,
            reason=args.reason[:500] or f"promoted from {source} ({found.deployment.ref})",
            origin=ctx.origin,
            key=ctx.key,
            author=found.deployment.data.author,
            size=await size_of(ctx, service, target, found.release.commit),
            at=at,
            next_window=next_window,
        )
    )
    if not started.joined:
        return Reply()
    seen = started.deployment
    return Reply(f"{seen.release_version} is on its way to {seen.environment} already: {seen.ref} {words(seen.state)}.")


def environment_before(service: Service, environment: str) -> str:
    """The environment in front of it, of those the service runs in. Raises BadInput: it is the first."""
    names = list(service.targets)
    place = names.index(environment)
    if place == 0:
        raise BadInput(
            f"{environment} is the first environment of {service.name}; nothing is in front of it.",
            hint=f"Type /deploy {service.name} {environment}.",
        )
    return names[place - 1]


async def proven(ctx: CommandContext, service: Service, source: Target, target: Target) -> Proven:
    """What runs in the source and may go on to the target. Raises Refused, BadInput: why it may not."""
    running = await _running(ctx, service, source)
    good = await ctx.tools.db.read(lambda tx: rows.last_good(tx, service.name, source.environment))
    if good is None or good.digest != running.digest:
        wanted = f"{good.release_version} ({good.ref})" if good is not None else "nothing"
        raise Refused(
            f"{service.name} in {source.environment} runs {running.version or 'another image'}, "
            f"but Slipway put {wanted} there.",
            hint=f"Deploy to {source.environment} first.",
            code="drift",
        )
    release = await ctx.tools.db.read(lambda tx: releases.by_name(tx, service.name, good.digest))
    if release is None:
        raise Refused(
            f"The build of {good.release_version} is not known any more.",
            hint=f"Deploy to {source.environment} again.",
            code="drift",
        )
    _soaked(ctx, good, source, target.soak)
    return Proven(good, release)


async def _running(ctx: CommandContext, service: Service, source: Target) -> Running:
    """What runs there, seen at this moment. Raises Refused: it is not healthy; BadInput: there is nothing."""
    delivery = ctx.tools.providers.deliveries.get(source.delivery.provider)
    if delivery is None:
        raise ProviderRejected(
            f"The delivery provider '{source.delivery.provider}' is not set up here.", hint="Ask an administrator."
        )
    running = await delivery.running(service, source)
    if running is None:
        raise BadInput(
            f"Nothing of {service.name} runs in {source.environment}, so there is nothing to promote.",
            hint=f"Type /deploy {service.name} {source.environment} first.",
        )
    if not running.healthy:
        raise Refused(
            f"{service.name} is not healthy in {source.environment}: {running.message}",
            hint="Repair it there first.",
            code="not_healthy",
        )
    return running


def _soaked(ctx: CommandContext, good: Deployment, source: Target, soak: timedelta) -> None:
    """It must have run there for a while, as the next environment asks."""
    since = good.ended_at or good.changed_at
    at = since + soak
    now = ctx.tools.clock()
    if now < at:
        raise Refused(
            f"{good.release_version} runs in {source.environment} for {say_for(now - since)}; "
            f"{say_for(soak)} are asked for.",
            hint=f"Promote it after {say_when(at, ctx.caller.zone)}.",
            next_change_at=at,
            code="soaking",
        )


command = Command(
    name="promote",
    summary="Put the image that runs in the environment before into the next one",
    example="/promote pay to prod",
    permission=Permission.RELEASE_DEPLOY,
    args=PromoteArgs,
    run=promote,
    notes="Nothing is built: it is the same image, by digest, that runs and is healthy in the environment before.",
)
