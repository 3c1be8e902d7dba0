"""`/deploy <service> <environment> [version]`: build a release if need be, and put it into an environment."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from bot.catalog.find import find_environment, find_service
from bot.catalog.model import Kind, Service, Target
from bot.catalog.repository import resolve_repo
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.service import Wish, words
from bot.errors import BadInput
from bot.policy.model import Outcome, Permission, Verdict
from bot.store import deployments as rows
from bot.store import releases
from bot.times import parse_when, say_when
from notifiers.card import Card

if TYPE_CHECKING:
    from bot.sources.git import Revision


class DeployArgs(Args):
    """What the caller typed, in order."""

    service: Annotated[str, Arg(ArgKind.SERVICE)]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)]
    version: Annotated[str, Arg(ArgKind.VERSION, label="version|branch")] = ""
    reason: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    plan: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False
    at: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    hotfix: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False
    supersede: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False


async def deploy(ctx: CommandContext, args: DeployArgs) -> Reply:
    """Resolve the version, ask the rules, then create the deployment; its states do the rest.

    Raises:
        BadInput: unknown service, environment or version. Nothing was started.
        Refused: the rules say no. Nothing was started.
    """
    service, target = find_target(ctx, args.service, args.environment)
    revision = await resolve(ctx, service, target, args.version)
    await ctx.tools.owners.freshen(service)
    at, next_window = when(ctx, args.at)
    wish = Wish(
        person=ctx.caller,
        service=service,
        target=target,
        kind=Kind.HOTFIX if args.hotfix else Kind.NORMAL,
        commit=revision.commit,
        version=revision.version,
        branch=revision.branch,
        reason=args.reason[:500],
        origin=ctx.origin,
        key=ctx.key,
        author=author_of(ctx, revision),
        size=await size_of(ctx, service, target, revision.commit),
        at=at,
        next_window=next_window,
        supersede=args.supersede,
    )
    if args.plan:
        return Reply(card=await _plan(ctx, wish, revision))
    started = await ctx.tools.deployments.start(wish)
    if not started.joined:
        return Reply()
    seen = started.deployment
    return Reply(
        f"{seen.service} {seen.release_version} is on its way to {seen.environment} already: "
        f"{seen.ref} is {words(seen.state)}. Nothing new was started."
    )


def when(ctx: CommandContext, text: str) -> tuple[datetime | None, bool]:
    """The instant that was typed after --at, and whether it is the next window. Raises BadInput: no time, or over."""
    words = text.strip().casefold()
    if not words or words in ("next-window", "next window"):
        return None, bool(words)
    zone = ctx.caller.zone or ctx.catalog.zone
    at = parse_when(text, ctx.tools.clock(), zone)
    if at <= ctx.tools.clock():
        raise BadInput(f"{say_when(at, zone)} is over already.", hint="Write --at next-window or --at tomorrow 10:00.")
    return at, False


async def size_of(ctx: CommandContext, service: Service, target: Target, commit: str) -> int | None:
    """How many commits would ship, as far as a rule asks; None: it cannot be told, which counts as large."""
    most = max((rule.larger_than for rule in ctx.catalog.approvals), default=0)
    if not most:
        return None
    good = await ctx.tools.db.read(lambda tx: rows.last_good(tx, service.name, target.environment))
    if good is None or good.commit == commit:
        return None if good is None else 0
    repo = resolve_repo(ctx.tools.directory, service.repo)
    commits = await ctx.tools.sources.commits(repo, good.commit, commit, most + 1)
    return len(commits) or None  # An older commit has none that is new, and is no small change for that.


def author_of(ctx: CommandContext, revision: Revision) -> str:
    """The id of the person who wrote the commit, by e-mail; empty if nobody of the catalog did."""
    known = ctx.catalog.person_by_email(revision.author_email)
    return known.id if known is not None else ""


def find_target(ctx: CommandContext, service: str, environment: str) -> tuple[Service, Target]:
    """The service and its target there. Raises BadInput with the nearest names."""
    known = find_service(ctx.catalog, service)
    place = find_environment(ctx.catalog, environment)
    target = known.targets.get(place.name)
    if target is None:
        raise BadInput(
            f"{known.name} does not run in {place.name}.", hint=f"It runs in {', '.join(known.targets) or 'none'}."
        )
    return known, target


async def resolve(ctx: CommandContext, service: Service, target: Target, version: str) -> Revision:
    """The commit meant by a version, tag, branch, commit or digest; none means the environment's branch.

    Raises:
        BadInput: there is no such version; the newest are named.
        ProviderRejected, ProviderUnavailable: the repository is missing or does not answer.
    """
    repo = resolve_repo(ctx.tools.directory, service.repo)
    if version:
        known = await ctx.tools.deployments.releases.by_name(service.name, version)
        if known is not None:
            said = await ctx.tools.sources.describe(repo, known.commit)
            from bot.sources.git import Revision

            return Revision(
                commit=said.commit,
                version=known.version,
                branch=known.branch or target.branch,
                subject=said.subject,
                author=said.author,
                author_email=said.author_email,
                committed_at=said.committed_at,
            )
    try:
        return await ctx.tools.sources.resolve(repo, version or None, target.branch, service.versions)
    except BadInput as error:
        # People know the service, not where its repository lies on this machine.
        raise BadInput(error.message.replace(repo, service.name), hint=error.hint) from error


async def _plan(ctx: CommandContext, wish: Wish, revision: Revision) -> Card:
    """What would happen: verdict with every reason, commits, pipeline, Git change. Nothing is done."""
    verdict = await ctx.tools.deployments.judge(wish)
    service, target = wish.service, wish.target
    repo = resolve_repo(ctx.tools.directory, service.repo)
    good = await ctx.tools.db.read(lambda tx: rows.last_good(tx, service.name, target.environment))
    built = await ctx.tools.db.read(lambda tx: releases.by_commit(tx, service.name, wish.commit))
    old = good.commit if good is not None else ""
    commits = await ctx.tools.sources.commits(repo, old, wish.commit) if old else []
    path = target.gitops.path.format_map(_Keep(service=service.name, environment=target.environment, team=service.team))
    fields = {
        "verdict": verdict_words(verdict),
        "version": f"{wish.version} ({wish.commit[:12]}, {revision.subject})",
        "running now": good.release_version if good is not None else "nothing deployed by Slipway yet",
        "pipeline": "reuse the build that exists"
        if built
        else f"{target.pipeline.provider}: {target.pipeline.name or service.name}",
        **({"gates": ", ".join(target.gates)} if target.gates else {}),
        "git change": f"{path} on {target.gitops.branch}: {good.release_version if good else 'none'} -> {wish.version}",
    }
    if target.gitops.merge_request is not None:
        fields["git change"] += f", by a merge request on {target.gitops.merge_request.host}"
    if verdict.next_change_at is not None:
        fields["verdict changes"] = say_when(verdict.next_change_at, ctx.caller.zone)
    shipped = "\n".join(f"{one.commit[:12]} {one.subject} ({one.author})" for one in commits)
    reasons = " ".join(reason.text for reason in verdict.reasons)
    if not shipped:
        shipped = f"{revision.commit[:12]} {revision.subject} ({revision.author})" if not old else ""
    text = f"{reasons} Nothing was done." if shipped else f"{reasons} No new commits would ship. Nothing was done."
    return Card(
        f"Plan: {service.name} {wish.version} to {target.environment}", text=text, fields=fields, excerpt=shipped
    )


class _Keep(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def verdict_words(verdict: Verdict) -> str:
    """A verdict in one word or three."""
    names = {
        Outcome.ALLOWED: "allowed",
        Outcome.NEEDS_APPROVAL: "needs approval" if verdict.approvals else "needs emergency approval",
        Outcome.REFUSED: "refused",
    }
    return names[verdict.outcome]


command = Command(
    name="deploy",
    summary="Put a release into an environment",
    example="/deploy pay prod",
    permission=Permission.RELEASE_DEPLOY,
    args=DeployArgs,
    run=deploy,
    notes="Without a version, the newest commit of the environment's branch. --plan only shows what would happen. "
    "--at next-window or --at tomorrow 10:00 waits in the queue till then. --hotfix passes freezes that let hotfixes "
    "through. --supersede ends what you asked for before and still waits.",
)
