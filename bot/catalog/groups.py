"""Groups of people whose members a chat platform tells, put where the catalog names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from bot.catalog.model import Catalog, Group, Service, Team

Members = Mapping[str, tuple[str, ...]]
"""Group name -> people of the catalog."""
ENOUGH = 30


def chat_groups(catalog: Catalog, platform: str) -> dict[str, tuple[str, ...]]:
    """Group name -> ids of user groups and departments of a platform, for the groups that name any."""
    found = {name: group.chats.get(platform, ()) for name, group in catalog.groups.items()}
    return {name: ids for name, ids in found.items() if ids}


def anybody(catalog: Catalog) -> Members:
    """Enough people for any rule, in each group whose members only a chat knows: no file is wrong for that."""
    some = tuple(one.id for one in catalog.people.values() if one.active)[:ENOUGH]
    return {name: some for name, group in catalog.groups.items() if group.sources or any(group.chats.values())}


def with_members(catalog: Catalog, members: Members) -> Catalog:
    """The catalog with these people in these groups, wherever the groups are named; nobody is taken out."""
    known = {name: people for name, people in members.items() if people and name in catalog.groups}
    if not known:
        return catalog
    return replace(
        catalog,
        groups={name: _group(one, known) for name, one in catalog.groups.items()},
        teams={name: _team(one, known) for name, one in catalog.teams.items()},
        services={name: _service(one, known) for name, one in catalog.services.items()},
        admins=_joined(catalog.admins, catalog.admin_groups, known),
        release_managers=_joined(catalog.release_managers, catalog.release_manager_groups, known),
    )


def _joined(people: Iterable[str], groups: Iterable[str], members: Members) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*people, *(one for name in groups for one in members.get(name, ()))]))


def _group(group: Group, members: Members) -> Group:
    return replace(group, people=_joined(group.people, [group.name], members)) if group.name in members else group


def _team(team: Team, members: Members) -> Team:
    if not {*team.lead_groups, *team.member_groups} & members.keys():
        return team
    leads = _joined(team.leads, team.lead_groups, members)
    return replace(team, leads=leads, members=_joined(team.members, team.member_groups, members))


def _service(service: Service, members: Members) -> Service:
    if members.keys().isdisjoint(service.owner_groups):
        return service
    return replace(service, owners=_joined(service.owners, service.owner_groups, members))
