"""`/whoami`: who Slipway takes you for, and what you may do."""

from __future__ import annotations

from bot.catalog.model import Role
from bot.commanding import Args, Command, CommandContext, Reply
from bot.policy.model import Permission
from bot.policy.permissions import roles_of
from notifiers.card import Card

MOST = 20


class WhoamiArgs(Args):
    """Nothing to type."""


async def whoami(ctx: CommandContext, _args: WhoamiArgs) -> Reply:
    """The caller's person, teams, and services by role."""
    person = ctx.catalog.people[ctx.caller.id]
    by_role: dict[Role, list[str]] = {}
    for service in ctx.catalog.services.values():
        for role in roles_of(ctx.catalog, person.id, service):
            by_role.setdefault(role, []).append(service.name)
    teams = [team.name for team in ctx.catalog.teams.values() if person.id in (*team.leads, *team.members)]
    fields = {"id": person.id, "e-mail": person.email or "none", "teams": ", ".join(teams) or "none"}
    for role in Role:
        names = by_role.get(role, [])
        if names and role is not Role.ANYONE:
            more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
            fields[role.value.replace("_", " ")] = ", ".join(names[:MOST]) + more
    text = "" if len(fields) > 3 else "You have no role on any service: you may look, and /help lists how."
    return Reply(card=Card(person.name, text=text, fields=fields))


command = Command(
    name="whoami",
    summary="Show who you are to Slipway",
    example="/whoami",
    permission=Permission.SELF_READ,
    args=WhoamiArgs,
    run=whoami,
)
