"""`/lock`, `/unlock`, `/locks`: keep a target, a team or everything for oneself for a while, with a reason."""

from __future__ import annotations

from typing import Annotated

from bot.catalog.find import find_environment, find_service
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.holds import LockWish
from bot.errors import BadInput
from bot.policy.model import Permission
from bot.store.holds import Lock
from bot.times import parse_when, say_for, say_when
from notifiers.card import Card

TEAM = "team:"


class LockArgs(Args):
    """until: any way `parse_when` understands; none: until it is released."""

    what: Annotated[str, Arg(ArgKind.SERVICE, label="service|team:NAME|*")]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = "*"
    reason: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    until: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""
    warn: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False
    steal: Annotated[bool, Arg(ArgKind.FLAG, option=True)] = False


class UnlockArgs(Args):
    """What was locked, as it was typed."""

    what: Annotated[str, Arg(ArgKind.SERVICE, label="service|team:NAME|*")]
    environment: Annotated[str, Arg(ArgKind.ENVIRONMENT)] = "*"


class LocksArgs(Args):
    """Nothing to say."""


async def lock(ctx: CommandContext, args: LockArgs) -> Reply:
    """Take a lock.

    Raises:
        BadInput: no such service, team, environment or time.
        Refused: no right.
        Conflict: somebody holds it.
    """
    what = what_of(ctx, args.what, args.environment)
    zone = ctx.caller.zone or ctx.catalog.zone
    now = ctx.tools.clock()
    until = parse_when(args.until, now, zone) if args.until else None
    if until is not None and until <= now:
        raise BadInput(f"{say_when(until, zone)} is over already.", hint="Write --until +2h, for instance.")
    wish = LockWish(what, args.reason[:500], until, args.warn, args.steal)
    taken, before = await ctx.tools.deployments.holds.lock(ctx.caller, wish)
    took = f" It was {_name(ctx, before.holder)}'s, who has been told." if before and _other(ctx, before) else ""
    end = f"until {say_when(until, zone)}" if until else f"until you type /unlock {what.replace('/', ' ')}"
    verb = "You asked for care with" if taken.warning else "You hold the lock on"
    return Reply(f"{verb} {what} {end}.{took}")


async def unlock(ctx: CommandContext, args: UnlockArgs) -> Reply:
    """Release a lock. Raises Refused, BadInput, Conflict: not yours, none there, or changed a moment ago."""
    what = what_of(ctx, args.what, args.environment)
    seen = await ctx.tools.deployments.holds.unlock(ctx.caller, what)
    told = (
        f" {_name(ctx, seen.holder)} has been told." if _other(ctx, seen) and seen.holder in ctx.catalog.people else ""
    )
    return Reply(f"The lock on {what} is released; what waited for it goes on.{told}")


async def locks(ctx: CommandContext, args: LocksArgs) -> Reply:
    """Every lock that holds, with holder, reason and end."""
    held = await ctx.tools.deployments.holds.locks()
    return Reply(card=Card("Locks", text="\n".join(_line(ctx, one) for one in held) or "Nothing is locked."))


def what_of(ctx: CommandContext, what: str, environment: str) -> str:
    """`pay/prod` from what was typed. Raises BadInput with the nearest names."""
    place = "*" if environment == "*" else find_environment(ctx.catalog, environment).name
    if what == "*":
        return f"*/{place}"
    if what.casefold().startswith(TEAM):
        team = what[len(TEAM) :]
        if team not in ctx.catalog.teams:
            raise BadInput(f"There is no team '{team[:60]}'.", hint=f"There are {', '.join(ctx.catalog.teams)}.")
        return f"{TEAM}{team}/{place}"
    return f"{find_service(ctx.catalog, what).name}/{place}"


def _line(ctx: CommandContext, lock: Lock) -> str:
    zone = ctx.caller.zone or ctx.catalog.zone
    age = say_for(ctx.tools.clock() - lock.since_at)
    until = f", until {say_when(lock.expires_at, zone)}" if lock.expires_at else ""
    passes = f"; {' and '.join(lock.exempt)} pass" if lock.exempt else ""
    kind = "asks for care" if lock.warning else "holds it"
    why = f": {lock.reason}" if lock.reason else ""
    return f"{lock.what}: {_name(ctx, lock.holder)} {kind} for {age}{until}{passes}{why}"


def _other(ctx: CommandContext, lock: Lock) -> bool:
    return lock.holder != ctx.caller.id


def _name(ctx: CommandContext, person: str) -> str:
    known = ctx.catalog.people.get(person)
    return known.name if known is not None else person.capitalize()


lock_command = Command(
    name="lock",
    summary="Keep a service, a team or everything for yourself",
    example="/lock pay prod --reason load test --until +2h",
    permission=Permission.LOCK_WRITE,
    args=LockArgs,
    run=lock,
    notes="Only your own deployments pass it. --warn only warns; --steal takes it over and tells who held it.",
)

unlock_command = Command(
    name="unlock",
    summary="Release a lock",
    example="/unlock pay prod",
    permission=Permission.LOCK_WRITE,
    args=UnlockArgs,
    run=unlock,
)

locks_command = Command(
    name="locks",
    summary="Show what is locked, by whom and why",
    example="/locks",
    permission=Permission.RELEASE_READ,
    args=LocksArgs,
    run=locks,
)
