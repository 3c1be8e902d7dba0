"""`/freeze` and `/unfreeze`: stop deployments from a chat, with a reason and an end; `/windows`: the next two weeks."""

from __future__ import annotations

from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

from bot.catalog.find import find_environment, find_service
from bot.catalog.model import OF_RELEASES, Freeze, Service, Window
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.errors import BadInput
from bot.policy.model import Facts, Permission
from bot.policy.scopes import matches
from bot.policy.windows import spans
from bot.store.holds import ChatFreeze
from bot.times import parse_when, say_when
from notifiers.card import Card

if TYPE_CHECKING:
    from bot.policy.foreign import Conflict

AHEAD = timedelta(days=14)
MOST = 20
MOST_CONFLICTS = 5


class FreezeArgs(Args):
    """Without a service or environment, everything. until: any way `parse_when` understands; none: until lifted."""

    name: Annotated[str, Arg(ArgKind.TEXT, label="name")]
    reason: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    until: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    start: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT, option=True)] = ""
    service: Annotated[str, Arg(ArgKind.SERVICE, option=True)] = ""
    team: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    label: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    cluster: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    kind: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    exempt: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""


class UnfreezeArgs(Args):
    """The freeze's name, or its number as in f-3."""

    name: Annotated[str, Arg(ArgKind.TEXT, label="name")]


class WindowsArgs(Args):
    """Both may be left out."""

    service: Annotated[str, Arg(ArgKind.SERVICE)] = ""
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = ""


async def freeze(ctx: CommandContext, args: FreezeArgs) -> Reply:
    """Set a freeze.

    Raises:
        BadInput: no such environment, service, team, kind or time.
        Refused: only release managers and administrators may.
    """
    zone = ctx.caller.zone or ctx.catalog.zone
    now = ctx.tools.clock()
    start = parse_when(args.start, now, zone) if args.start else now
    end = parse_when(args.until, now, zone) if args.until else None
    if end is not None and end <= max(start, now):
        raise BadInput("The end must be in the future and after the start.", hint="Write --until tomorrow 10:00.")
    name = "-".join(args.name.split())[:100]
    new = ChatFreeze(name, _scope(ctx, args), start, end, args.reason[:500], _kinds(args.exempt), ctx.caller.id)
    stored = await ctx.tools.deployments.holds.freeze(ctx.caller, new)
    until = f"until {say_when(end, zone)}" if end else "until it is lifted"
    return Reply(f"The freeze {stored.name} (f-{stored.id}) holds {until}. /unfreeze {stored.name} lifts it.")


def _scope(ctx: CommandContext, args: FreezeArgs) -> dict[str, list[str]]:
    scope: dict[str, list[str]] = {}
    if args.environment:
        scope["environments"] = [find_environment(ctx.catalog, args.environment).name]
    if args.service:
        scope["services"] = [args.service if "*" in args.service else find_service(ctx.catalog, args.service).name]
    if args.team:
        if args.team not in ctx.catalog.teams:
            raise BadInput(f"There is no team '{args.team[:60]}'.", hint=f"There are {', '.join(ctx.catalog.teams)}.")
        scope["teams"] = [args.team]
    if args.label:
        scope["labels"] = [_known_label(ctx, args.label)]
    if args.cluster:
        scope["clusters"] = [_known_cluster(ctx, args.cluster)]
    if args.kind:
        scope["kinds"] = list(_kinds(args.kind))
    return scope


def _known_label(ctx: CommandContext, label: str) -> str:
    """A freeze about nothing would stop nobody, unnoticed."""
    known = {f"{key}={value}" for one in ctx.catalog.services.values() for key, value in one.labels.items()}
    if not any(fnmatchcase(one, label) for one in known):
        raise BadInput(f"No service has the label '{label[:60]}'.", hint="Write key=value, for instance tier=gold.")
    return label


def _known_cluster(ctx: CommandContext, cluster: str) -> str:
    known = {target.cluster for one in ctx.catalog.services.values() for target in one.targets.values()} - {""}
    if not any(fnmatchcase(one, cluster) for one in known):
        names = ", ".join(sorted(known)[:8]) or "none"
        raise BadInput(f"There is no cluster '{cluster[:60]}'.", hint=f"There are {names}.")
    return cluster


def _kinds(text: str) -> tuple[str, ...]:
    words = text.replace(",", " ").split()
    known = [kind.value for kind in OF_RELEASES]
    for word in words:
        if word not in known:
            raise BadInput(f"'{word[:40]}' is no kind of deployment.", hint=f"There are {', '.join(known)}.")
    return tuple(words)


async def unfreeze(ctx: CommandContext, args: UnfreezeArgs) -> Reply:
    """Lift a freeze that was set from a chat. Raises Refused, BadInput, Conflict."""
    seen = await ctx.tools.deployments.holds.unfreeze(ctx.caller, "-".join(args.name.split()))
    return Reply(f"The freeze {seen.name} is lifted; what waited for it goes on.")


async def windows(ctx: CommandContext, args: WindowsArgs) -> Reply:
    """Windows and freezes of the next 14 days, of a target, a service, or all. Raises BadInput."""
    standing = await ctx.tools.deployments.standing()
    service = find_service(ctx.catalog, args.service) if args.service else None
    place = find_environment(ctx.catalog, args.environment).name if args.environment else ""
    now = ctx.tools.clock()
    found = [*_openings(ctx, service, place, now), *_freezes(ctx, service, place, now, standing)]
    lines = [text for _, text in sorted(found)]
    if service is not None:
        lines = [*await _elsewhere(ctx, service, place, standing, now), *lines]
    title = " ".join(["Windows", *(["of", service.name] if service else []), *(["in", place] if place else [])])
    more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
    text = "\n".join([*lines[:MOST], *more]) or "Nothing opens, closes or freezes in the next 14 days."
    fields = _now(ctx, service, place, standing, now) if service is not None else {}
    return Reply(card=Card(title, text=text, fields=fields))


def _now(ctx: CommandContext, service: Service, place: str, standing: Facts, now: datetime) -> dict[str, str]:
    """What all windows and freezes together say now, and when that changes."""
    from bot.policy.foreign import times_change

    fields = {}
    for name in (place,) if place else service.targets:
        opened, changes = times_change(ctx.catalog, standing.freezes, service, name, now, now + AHEAD)
        until = f"until {say_when(changes, ctx.catalog.zone)}" if changes is not None else "for the next 14 days"
        state = "open" if opened else "closed"
        fields[name] = f"{state} {until}"
    return fields


async def _elsewhere(ctx: CommandContext, service: Service, place: str, standing: Facts, now: datetime) -> list[str]:
    """What other systems would block of what we allow, and their rules."""
    from bot.policy.foreign import conflicts

    lines: list[str] = []
    rules: list[str] = []
    for name, target in service.targets.items():
        if place not in ("", name):
            continue
        read = await ctx.tools.elsewhere.of(service, target)
        lines += [f"{name}: {problem}" for problem in read.problems]
        found = conflicts(ctx.catalog, standing.freezes, service, name, read.rules, now, now + AHEAD)
        lines += [conflict_line(name, one, ctx.catalog.zone) for one in found[:MOST_CONFLICTS]]
        rules += [f"{name}: {one.system}: {said}" for one in read.rules for said in one.said]
    return [*lines, *rules[:MOST_CONFLICTS]]


def conflict_line(environment: str, found: Conflict, zone: str) -> str:
    """A warning: open here, shut there."""
    start, end = say_when(found.start, zone), say_when(found.end, zone)
    text = f"! {environment}: {found.system} would block from {start} to {end} what we allow: {found.rule}"
    return text


def _openings(ctx: CommandContext, service: Service | None, place: str, now: datetime) -> list[tuple[datetime, str]]:
    return [
        (start, f"open   {say_when(start, one.zone)} to {say_when(end, one.zone)}: {one.name} ({one.source})")
        for one in ctx.catalog.windows
        if _about(ctx, one, service, place)
        for start, end in spans(one, now, now + AHEAD)
    ]


def _freezes(
    ctx: CommandContext, service: Service | None, place: str, now: datetime, standing: Facts
) -> list[tuple[datetime, str]]:
    found = []
    for one in (*ctx.catalog.freezes, *standing.freezes):
        if not _about(ctx, one, service, place) or one.start_at > now + AHEAD or (one.end_at and one.end_at <= now):
            continue
        passes = f", {' and '.join(one.exempt_kinds)} pass" if one.exempt_kinds else ""
        why = f": {one.reason}" if one.reason else ""
        zone = one.recurs.zone if one.recurs else ctx.catalog.zone
        times = [(max(one.start_at, now), one.end_at)] if one.recurs is None else _recurring(one, now)
        for start, end in times:
            until = f" to {say_when(end, zone)}" if end else " without a known end"
            found.append((start, f"frozen {say_when(start, zone)}{until}: {one.name} ({one.source}){passes}{why}"))
    return found


def _recurring(freeze: Freeze, now: datetime) -> list[tuple[datetime, datetime | None]]:
    assert freeze.recurs is not None
    return [
        (start, end)
        for start, end in spans(freeze.recurs, now, now + AHEAD, unknown=True)
        if end > freeze.start_at and (freeze.end_at is None or start < freeze.end_at)
    ]


def _about(ctx: CommandContext, rule: Window | Freeze, service: Service | None, place: str) -> bool:
    """Whether the rule is about what was asked for, for any kind."""
    if service is None:
        patterns = rule.scope.environments
        return not place or not patterns or any(fnmatchcase(place, pattern) for pattern in patterns)
    places = [place] if place else list(ctx.catalog.environments)
    return any(matches(rule.scope, service, where, kind) for where in places for kind in OF_RELEASES)


freeze_command = Command(
    name="freeze",
    summary="Stop deployments, with a reason and an end",
    example="/freeze incident-7 --environment prod --until +4h --reason payments are down --exempt rollback",
    permission=Permission.FREEZE_WRITE,
    args=FreezeArgs,
    run=freeze,
    notes="Without --environment, --service, --team, --label, --cluster or --kind it holds everywhere.",
)

unfreeze_command = Command(
    name="unfreeze",
    summary="Lift a freeze that was set from a chat",
    example="/unfreeze incident-7",
    permission=Permission.FREEZE_WRITE,
    args=UnfreezeArgs,
    run=unfreeze,
)

windows_command = Command(
    name="windows",
    summary="Show when deploying is open and when it is frozen in the next 14 days",
    example="/windows pay prod",
    permission=Permission.RELEASE_READ,
    args=WindowsArgs,
    run=windows,
)
