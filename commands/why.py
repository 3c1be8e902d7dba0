"""`/why <service> <environment> [when] [as person]`: may I, by which rules, and when does the answer change."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel

from bot.catalog.find import find_person
from bot.catalog.model import OF_RELEASES, Kind, Person
from bot.commanding import Arg, ArgKind, Command, CommandContext, Reply
from bot.errors import BadInput
from bot.policy.decide import decide
from bot.policy.model import Permission, PolicyRequest, Verdict
from bot.times import parse_when, say_when
from commands.deploy import find_target, verdict_words
from notifiers.card import Card


class WhyArgs(BaseModel, frozen=True):
    """when: any way `parse_when` understands; none means now. `as PERSON` at the end asks for somebody else."""

    service: Annotated[str, Arg(ArgKind.SERVICE)]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)]
    when: Annotated[str, Arg(ArgKind.TEXT, label="when] [as person")] = ""
    kind: Annotated[str, Arg(ArgKind.TEXT, option=True)] = Kind.NORMAL.value


async def why(ctx: CommandContext, args: WhyArgs) -> Reply:
    """Ask the policy at that time for that person, and show every reason with its rule. Nothing is done.

    Raises:
        BadInput: no such service, environment, time, person or kind.
    """
    service, target = find_target(ctx, args.service, args.environment)
    when, person = _when_and_who(ctx, args.when)
    zone = ctx.caller.zone or ctx.catalog.zone
    at = parse_when(when, ctx.tools.clock(), zone)
    kind = _kind(args.kind)
    permission = Permission.RELEASE_ROLLBACK if kind is Kind.ROLLBACK else Permission.RELEASE_DEPLOY
    request = PolicyRequest(person.id, permission, service.name, target.environment, kind)
    await ctx.tools.owners.freshen(service)
    verdict = decide(ctx.tools.catalog(), request, await ctx.tools.deployments.standing(), at)
    changes = verdict.next_change_at
    fields = {
        "verdict": verdict_words(verdict),
        "at": say_when(at, zone),
        "changes": say_when(changes, zone) if changes is not None else "not within a year",
    }
    verb = "roll back" if kind is Kind.ROLLBACK else "deploy"
    title = f"Why: {verb} {service.name} to {target.environment} as {person.name}"
    return Reply(card=Card(title, text="\n".join(reason_lines(verdict)), fields=fields))


def reason_lines(verdict: Verdict) -> list[str]:
    """Every reason in a line, with its code, rule and place."""
    lines = []
    for reason in verdict.reasons:
        mark = "✗" if reason.blocking else "✓"
        where = f" [{reason.rule}{', ' + reason.where if reason.where else ''}]" if reason.rule else ""
        lines.append(f"{mark} {reason.code.value}: {reason.text}{where}")
    return lines


def _when_and_who(ctx: CommandContext, text: str) -> tuple[str, Person]:
    words = text.split()
    if len(words) >= 2 and words[-2].casefold() == "as":
        return " ".join(words[:-2]), find_person(ctx.catalog, words[-1].lstrip("@"))
    return text, ctx.caller


def _kind(text: str) -> Kind:
    kind = next((one for one in OF_RELEASES if one.value == text.strip().casefold()), None)
    if kind is None:
        known = ", ".join(one.value for one in OF_RELEASES)
        raise BadInput(f"'{text[:40]}' is no kind of deployment.", hint=f"There are {known}.")
    return kind


command = Command(
    name="why",
    summary="Explain whether you may deploy, and when that changes",
    example="/why pay prod tomorrow 10:00 as leo",
    permission=Permission.SELF_READ,
    args=WhyArgs,
    run=why,
)
