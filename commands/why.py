"""`/why <service> <environment> [when] [as person]`: may I, by which rules, and when does the answer change."""

from __future__ import annotations

from typing import Annotated

from bot.catalog.commit import CHANGED
from bot.catalog.find import find_person
from bot.catalog.model import OF_RELEASES, Kind, Person
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import parse_ref
from bot.errors import BadInput
from bot.policy.decide import decide
from bot.policy.model import Permission, PolicyRequest, Verdict
from bot.store import deployments as rows
from bot.times import parse_when, say_when
from commands.deploy import find_target, verdict_words
from notifiers.card import Card


class WhyArgs(Args):
    """when: any way `parse_when` understands; none means now. `as PERSON` at the end asks for somebody else.

    service may also be a deployment such as d-12; then nothing else is asked for.
    """

    service: Annotated[str, Arg(ArgKind.SERVICE)]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = ""
    when: Annotated[str, Arg(ArgKind.TEXT, label="when] [as person")] = ""
    kind: Annotated[str, Arg(ArgKind.TEXT, option=True)] = Kind.NORMAL.value


async def why(ctx: CommandContext, args: WhyArgs) -> Reply:
    """Ask the policy at that time for that person, and show every reason with its rule. Nothing is done.

    Raises:
        BadInput: no such service, environment, time, person or kind.
    """
    number = parse_ref(args.service) if not args.environment and args.service not in ctx.catalog.services else None
    if number is not None:
        return await _of_deployment(ctx, number)
    if not args.environment:
        raise BadInput("Which environment?", hint=f"Type /why {args.service[:100]} prod, or /why d-12.")
    service, target = find_target(ctx, args.service, args.environment)
    when, person = _when_and_who(ctx, args.when)
    zone = ctx.caller.zone or ctx.catalog.zone
    at = parse_when(when, ctx.tools.clock(), zone)
    kind = _kind(args.kind)
    permission = Permission.RELEASE_ROLLBACK if kind is Kind.ROLLBACK else Permission.RELEASE_DEPLOY
    request = PolicyRequest(person.id, permission, service.name, target.environment, kind)
    await ctx.tools.owners.freshen(service)
    catalog = ctx.tools.catalog()
    verdict = decide(catalog, request, await ctx.tools.deployments.standing(), at)
    changes = verdict.next_change_at
    fields = {
        "verdict": verdict_words(verdict),
        "at": say_when(at, zone),
        "changes": say_when(changes, zone) if changes is not None else "not within a year",
        "catalog": catalog_words(catalog.commit, catalog.digest),
    }
    verb = "roll back" if kind is Kind.ROLLBACK else "deploy"
    title = f"Why: {verb} {service.name} to {target.environment} as {person.name}"
    return Reply(card=Card(title, text="\n".join(reason_lines(verdict)), fields=fields))


async def _of_deployment(ctx: CommandContext, number: int) -> Reply:
    """What the rules said of a deployment whenever they were asked, from what was kept with it."""
    seen = await ctx.tools.db.read(lambda tx: rows.get(tx, number))
    if seen is None:
        raise BadInput(f"There is no deployment d-{number}.", hint="/history lists what there is.")
    zone = ctx.caller.zone or ctx.catalog.zone
    lines: list[str] = []
    fields: dict[str, str] = {}
    for one in seen.data.derivations:
        fields[one.step] = f"{one.outcome.replace('_', ' ')}, {say_when(one.at, zone)}"
        lines += [_line(note.code, note.text, note.rule, note.where, note.blocking) for note in one.reasons]
        fields["catalog"] = catalog_words(one.commit, one.catalog)
    if not lines:
        lines = [_line(note.code, note.text, note.rule, note.where, note.blocking) for note in seen.data.reasons]
    title = f"Why: {seen.ref} {seen.target} {seen.release_version}"
    return Reply(card=Card(title, text="\n".join(dict.fromkeys(lines)) or "Nothing was kept.", fields=fields))


def catalog_words(commit: str, digest: str) -> str:
    """Which catalog it was: its commit, if it stands in Git, and the digest of its files."""
    files = f"files {digest[:12]}"
    if not commit:
        return files
    changed = " with changes since" if commit.endswith(CHANGED) else ""
    return f"commit {commit[:12]}{changed}, {files}"


def _line(code: str, text: str, rule: str, where: str, blocking: bool) -> str:
    mark = "✗" if blocking else "✓"
    place = f" [{rule}{', ' + where if where else ''}]" if rule else ""
    return f"{mark} {code}: {text}{place}"


def reason_lines(verdict: Verdict) -> list[str]:
    """Every reason in a line, with its code, rule and place."""
    return [_line(one.code.value, one.text, one.rule, one.where, one.blocking) for one in verdict.reasons]


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
    notes="/why d-12 shows what the rules said of a deployment, and by which commit of the catalog.",
    permission=Permission.SELF_READ,
    args=WhyArgs,
    run=why,
)
