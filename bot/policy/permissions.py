"""Which person holds which role on a service, and which role may do what where."""

from __future__ import annotations

from collections.abc import Mapping

from bot.catalog.model import Catalog, Role, Service
from bot.policy.model import Permission

READING = frozenset({Permission.RELEASE_READ, Permission.SELF_READ})
SHIPPING = frozenset({Permission.RELEASE_DEPLOY, Permission.RELEASE_ROLLBACK, Permission.RELEASE_CANCEL})
OWNING = READING | SHIPPING | {Permission.LOG_READ, Permission.BUILD_RUN, Permission.LOCK_WRITE}

ANYWHERE: Mapping[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission) - {Permission.RELEASE_APPROVE},
    Role.RELEASE_MANAGER: OWNING | {Permission.FREEZE_WRITE},
    Role.TEAM_LEAD: OWNING,
    Role.OWNER: OWNING,
    Role.MEMBER: READING | {Permission.LOG_READ, Permission.BUILD_RUN},
    Role.ANYONE: READING,
}
"""In every environment. Approving is nobody's by role: the emergency rule names who is eligible."""

UNPROTECTED: Mapping[Role, frozenset[Permission]] = {Role.MEMBER: SHIPPING}
"""On top of that, in environments that are not protected."""


def roles_of(catalog: Catalog, person: str, service: Service) -> frozenset[Role]:
    """Every role of a person on a service; nobody unknown or inactive has one."""
    known = catalog.people.get(person)
    if known is None or not known.active:
        return frozenset()
    team = catalog.teams.get(service.team)
    held = {
        Role.ANYONE: True,
        Role.ADMIN: person in catalog.admins,
        Role.RELEASE_MANAGER: person in catalog.release_managers,
        Role.OWNER: person in service.owners,
        Role.TEAM_LEAD: team is not None and person in team.leads,
        Role.MEMBER: team is not None and person in (*team.members, *team.leads),
    }
    return frozenset(role for role, yes in held.items() if yes)


def held_by(catalog: Catalog, person: str, permission: Permission, service: Service, environment: str) -> Role | None:
    """The first role of the person that allows it there, the nearest to the service first; None: none does."""
    place = catalog.environments.get(environment)
    if place is None:
        return None
    held = roles_of(catalog, person, service)
    for role in (Role.OWNER, Role.TEAM_LEAD, Role.MEMBER, Role.RELEASE_MANAGER, Role.ADMIN, Role.ANYONE):
        unprotected = not place.protected and permission in UNPROTECTED.get(role, frozenset())
        if role in held and (permission in ANYWHERE.get(role, frozenset()) or unprotected):
            return role
    return None


def has_permission(catalog: Catalog, person: str, permission: Permission, service: str, environment: str) -> bool:
    """Whether any role of the person allows it there."""
    known = catalog.services.get(service)
    return known is not None and held_by(catalog, person, permission, known, environment) is not None


def may_build(catalog: Catalog, person: str, service: Service) -> bool:
    """Whether any role of the person lets them run the service's pipelines; no environment is touched by that."""
    return any(Permission.BUILD_RUN in ANYWHERE.get(role, frozenset()) for role in roles_of(catalog, person, service))


def may_anywhere(catalog: Catalog, person: str, permission: Permission) -> bool:
    """Whether there could be a service where the person may do it; for help, which must not scan 5,000 services."""
    known = catalog.people.get(person)
    if known is None or not known.active:
        return False
    if permission in READING or person in (*catalog.admins, *catalog.release_managers):
        return True
    if permission is Permission.RELEASE_APPROVE:
        return _may_ever_approve(catalog, person)
    in_team = any(person in (*team.leads, *team.members) for team in catalog.teams.values())
    if in_team or not permission:
        return permission in OWNING
    return permission in OWNING and any(person in service.owners for service in catalog.services.values())


def _may_ever_approve(catalog: Catalog, person: str) -> bool:
    leads = any(person in team.leads for team in catalog.teams.values())
    owns = any(person in service.owners for service in catalog.services.values())
    for rule in catalog.emergency:
        if person in rule.people or Role.ANYONE in rule.roles:
            return True
        if (Role.TEAM_LEAD in rule.roles and leads) or (Role.OWNER in rule.roles and owns):
            return True
        if Role.MEMBER in rule.roles and any(person in team.members for team in catalog.teams.values()):
            return True
    return bool(catalog.approvals)  # seats may be filled by shift, leave and hand-up: the click decides


def who_may(catalog: Catalog, permission: Permission, service: Service, environment: str) -> str:
    """The people who may, by role, as the end of a sentence: `owners (Olive) and release managers (Rae)`."""
    place = catalog.environments.get(environment)
    protected = place is None or place.protected
    team = catalog.teams.get(service.team)
    groups = [
        ("owners", service.owners),
        (f"leads of {team.name}" if team else "team leads", team.leads if team else ()),
        ("release managers", catalog.release_managers),
    ]
    if not protected and permission in UNPROTECTED[Role.MEMBER]:
        groups.append((f"members of {team.name}" if team else "team members", team.members if team else ()))
    said = [f"{name} ({', '.join(_name(catalog, one) for one in people)})" for name, people in groups if people]
    if not said:
        return "administrators"
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _name(catalog: Catalog, person: str) -> str:
    known = catalog.people.get(person)
    return known.name if known is not None else person
