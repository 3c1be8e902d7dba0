"""`/build <service> [branch]`: run the service's own pipeline alone; nothing is deployed."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from bot.catalog.find import find_service
from bot.catalog.model import Kind, Service, Target
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import Deployment
from bot.deployments.service import Started, Wish, words
from bot.errors import BadInput
from bot.policy.model import Permission
from commands.deploy import author_of, resolve


class BuildArgs(Args):
    """What the caller typed, in order."""

    service: Annotated[str, Arg(ArgKind.SERVICE)]
    branch: Annotated[str, Arg(ArgKind.VERSION, label="branch")] = ""
    check: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False


async def build(ctx: CommandContext, args: BuildArgs) -> Reply:
    """Run ci (or, with --check, what looks at a merge request) on the newest commit of a branch.

    Raises:
        BadInput: unknown service or branch. Nothing was started.
        Refused: the caller may not build it. Nothing was started.
    """
    service = find_service(ctx.catalog, args.service)
    await ctx.tools.owners.freshen(service)
    target = _target(service, args.branch)
    revision = await resolve(ctx, service, target, args.branch)
    wish = Wish(
        person=ctx.caller,
        service=service,
        target=replace(target, pipeline=target.check) if args.check else target,
        kind=Kind.BUILD,
        commit=revision.commit,
        version=revision.version,
        branch=revision.branch or args.branch,
        reason="",
        origin=ctx.origin,
        key=ctx.key,
        author=author_of(ctx, revision),
    )
    return _said(await ctx.tools.deployments.build(wish, check=args.check))


def _target(service: Service, branch: str) -> Target:
    """Whose settings the pipeline has: of the environment that follows the branch, else of the first."""
    targets = list(service.targets.values())
    if not targets:
        raise BadInput(f"{service.name} runs in no environment.", hint="Name one in the catalog.")
    return next((one for one in targets if one.branch == branch), targets[0])


def _said(started: Started) -> Reply:
    if not started.joined:
        return Reply()
    seen = started.deployment
    return Reply(
        f"{seen.service} {seen.release_version} is being built already: {seen.ref} is {words(seen.state)}. "
        "Nothing new was started."
    )


async def again(ctx: CommandContext, seen: Deployment) -> Reply:
    """Build the same commit once more, as whoever asks. Raises as `build`."""
    service = find_service(ctx.catalog, seen.service)
    await ctx.tools.owners.freshen(service)
    target = _target(service, seen.branch)
    wish = Wish(
        person=ctx.caller,
        service=service,
        target=replace(target, pipeline=target.check) if seen.data.check else target,
        kind=Kind.BUILD,
        commit=seen.commit,
        version=seen.release_version,
        branch=seen.branch,
        reason=f"again after {seen.ref}",
        origin=ctx.origin,
        key=f"retry:{seen.id}",
        author=seen.data.author,
    )
    return _said(await ctx.tools.deployments.build(wish, check=seen.data.check, proposal=seen.data.proposal))


command = Command(
    name="build",
    summary="Run a service's pipeline without deploying",
    example="/build pay feature/refunds",
    permission=Permission.BUILD_RUN,
    args=BuildArgs,
    run=build,
    notes="Without a branch, the first environment's. --check runs what looks at merge requests instead.",
)
