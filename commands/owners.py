"""`/owners <service> [environment]`: who may do what there, and where each of them is named."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel

from bot.catalog.find import find_environment, find_service
from bot.catalog.load import resolve_repo
from bot.catalog.model import Environment, Kind, Person, Service
from bot.commanding import Arg, ArgKind, Command, CommandContext, Reply
from bot.errors import SlipwayError
from bot.policy.approvals import eligible
from bot.policy.model import Permission
from bot.policy.owners import Owners
from bot.policy.scopes import matches
from notifiers.card import Card


class OwnersArgs(BaseModel, frozen=True):
    """Without an environment, those who may everywhere."""

    service: Annotated[str, Arg(ArgKind.SERVICE)]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = ""


async def owners(ctx: CommandContext, args: OwnersArgs) -> Reply:
    """Everybody with a right on the service, by the place that gives it. Raises BadInput with the nearest names."""
    service = find_service(ctx.catalog, args.service)
    place = find_environment(ctx.catalog, args.environment) if args.environment else None
    fields = _by_catalog(ctx, service, place)
    fields["OWNERS of the repository"] = await _by_repository(ctx, service, place)
    where = f" in {place.name}" if place is not None else ""
    return Reply(card=Card(f"Owners of {service.name}{where}", fields=fields))


def _by_catalog(ctx: CommandContext, service: Service, place: Environment | None) -> dict[str, str]:
    catalog, team = ctx.catalog, ctx.catalog.teams.get(service.team)
    fields = {f"owners ({service.source})": _names(ctx, service.owners, service.owner_groups)}
    if team is not None:
        fields[f"leads of {team.name}"] = _names(ctx, team.leads, team.lead_groups)
        limit = "" if place is not None and not place.protected else " (where nothing is protected)"
        if place is None or not place.protected:
            fields[f"members of {team.name}{limit}"] = _names(ctx, team.members, team.member_groups)
    fields["release managers"] = _names(ctx, catalog.release_managers, catalog.release_manager_groups)
    fields["administrators"] = _names(ctx, catalog.admins, catalog.admin_groups)
    for rule in catalog.emergency:
        places = [place.name] if place is not None else list(service.targets)
        if any(matches(rule.scope, service, one, kind) for one in places for kind in Kind):
            fields[f"emergency: {rule.count} of ({rule.source})"] = _names(ctx, eligible(catalog, rule, service))
    return fields


async def _by_repository(ctx: CommandContext, service: Service, place: Environment | None) -> str:
    """The root's approvers at the newest commit of the trusted branch."""
    known = [place.name] if place is not None else list(service.targets)[-1:]
    target = service.targets.get(known[0]) if known else None
    if target is None:
        return "not asked"
    repo, sources = resolve_repo(ctx.tools.directory, service.repo), ctx.tools.sources
    try:
        commit = (await sources.resolve(repo, None, target.branch)).commit
        text = await sources.read(repo, commit, "OWNERS")
        aliases = await sources.read(repo, commit, "OWNERS_ALIASES")
    except SlipwayError as error:
        return f"cannot be read: {error.message}"
    if text is None:
        return "none"
    read = Owners({"": _text(text)}, _text(aliases) if aliases is not None else None)
    found = read.approvers("")
    if found.broken:
        return f"nobody: {found.broken} at {commit[:12]} cannot be understood"
    return f"{', '.join(sorted(found.people)) or 'nobody'} (OWNERS at {commit[:12]})"


def _text(content: bytes) -> str:
    """As text; what is none is made unreadable rather than half-read."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "["


def _names(ctx: CommandContext, people: tuple[str, ...], groups: tuple[str, ...] = ()) -> str:
    """Who has the right, and through which group."""
    known = [ctx.catalog.people[one] for one in people if one in ctx.catalog.people]
    return ", ".join(f"{one.name}{_how(ctx, one, groups)}" for one in known) or "nobody"


def _how(ctx: CommandContext, person: Person, groups: tuple[str, ...]) -> str:
    through = next((name for name in groups if person.id in ctx.catalog.groups[name].people), "")
    said = [*([] if person.active else ["left"]), *([through] if through else [])]
    return f" ({', '.join(said)})" if said else ""


command = Command(
    name="owners",
    summary="Show who may deploy a service, and where that is written",
    example="/owners pay prod",
    permission=Permission.RELEASE_READ,
    args=OwnersArgs,
    run=owners,
)
