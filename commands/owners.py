"""`/owners <service> [environment]`: who may do what there, and where each of them is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from bot.catalog.find import find_environment, find_service
from bot.catalog.model import Environment, Kind, Person, Service
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.errors import SlipwayError
from bot.policy.approvals import eligible
from bot.policy.model import Permission
from bot.policy.scopes import matches
from bot.sources.owners import Named, accounts_of
from notifiers.card import Card


class OwnersArgs(Args):
    """Without an environment, those who may everywhere."""

    service: Annotated[str, Arg(ArgKind.SERVICE)]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = ""


async def owners(ctx: CommandContext, args: OwnersArgs) -> Reply:
    """Everybody with a right on the service, by the place that gives it. Raises BadInput with the nearest names."""
    service = find_service(ctx.catalog, args.service)
    place = find_environment(ctx.catalog, args.environment) if args.environment else None
    fields = {**_by_catalog(ctx, service, place), **_by_groups(ctx, service)}
    fields["OWNERS of the repository"] = await _by_repository(ctx, service)
    where = f" in {place.name}" if place is not None else ""
    return Reply(card=Card(f"Owners of {service.name}{where}", fields=fields))


def _by_catalog(ctx: CommandContext, service: Service, place: Environment | None) -> dict[str, str]:
    catalog, team = ctx.catalog, ctx.catalog.teams.get(service.team)
    written = tuple(one for one in service.owners if one not in service.owner_sources)
    fields = {f"owners ({service.source})": _names(ctx, written, service.owner_groups)}
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


async def _by_repository(ctx: CommandContext, service: Service) -> str:
    """The approvers for the service's directory, nearest file first, with the line that names each."""
    if not service.owners_file:
        return "not asked (owners_file is not set)"
    try:
        await ctx.tools.owners.freshen(service)
    except SlipwayError as error:
        return f"nobody: {error.message}"
    reading = ctx.tools.owners.reading(service.name)
    if reading is None or reading.problem:
        return f"cannot be read: {reading.problem if reading is not None else 'not asked'}"
    if reading.broken:
        return f"nobody: {reading.broken} at {reading.commit[:12]} cannot be understood"
    reviewing = f"; reviewers {_said(ctx, reading.reviewers)}" if reading.reviewers else ""
    return f"{_said(ctx, reading.approvers) or 'nobody'}{reviewing} at {reading.commit[:12]}"


def _said(ctx: CommandContext, named: Sequence[Named]) -> str:
    """Each with the line that names them; who is nobody of the catalog has no right by it."""
    accounts = accounts_of(ctx.catalog)
    return ", ".join(
        f"{accounts[one.name].name} ({one.where})" if one.name in accounts else f"{one.name} ({one.where}, not known)"
        for one in named
    )


def _by_groups(ctx: CommandContext, service: Service) -> dict[str, str]:
    """The groups whose members another system tells, and what it said last."""
    team = ctx.catalog.teams.get(service.team)
    named = {*service.owner_groups, *ctx.catalog.admin_groups, *ctx.catalog.release_manager_groups}
    named |= {*team.lead_groups, *team.member_groups} if team is not None else set()
    named |= {name for rule in ctx.catalog.approvals for seat in rule.seats for name in seat.groups}
    fields = {}
    for name in sorted(named & ctx.catalog.groups.keys()):
        group = ctx.catalog.groups[name]
        for system, places in group.chats.items():
            fields[f"group {name} ({system} {', '.join(places)})"] = _names(ctx, group.people)
        for system, places in group.sources.items():
            for place in places:
                problem = ctx.tools.memberships.problems.get((system, place), "")
                said = f"cannot be read: {problem}" if problem else _names(ctx, group.people)
                fields[f"group {name} ({system} {place})"] = said
    return fields


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
