"""`/review <deployment> <what was found>` and `/reviews`: what an emergency leaves to be looked at."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from bot.catalog.units import parse_duration
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import parse_ref
from bot.deployments.reviews import report
from bot.errors import BadInput
from bot.policy.model import Permission
from notifiers.card import Card

MOST = 30
USUAL = timedelta(days=90)


class ReviewArgs(Args):
    """What was found, in a sentence."""

    deployment: Annotated[str, Arg(ArgKind.DEPLOYMENT)]
    note: Annotated[str, Arg(ArgKind.TEXT, label="what was found")] = ""


class ReviewsArgs(Args):
    """since: as `90d`; none: only what is owed."""

    since: Annotated[str, Arg(ArgKind.TEXT, option=True)] = ""


async def review(ctx: CommandContext, args: ReviewArgs) -> Reply:
    """Note that an emergency was looked at. Raises BadInput, Refused, Conflict."""
    number = parse_ref(args.deployment)
    if number is None:
        raise BadInput(f"'{args.deployment[:60]}' is no deployment.", hint="Deployments look like d-12.")
    seen = await ctx.tools.deployments.reviews.review(ctx.caller, number, args.note)
    return Reply(f"{seen.ref} ({seen.service} in {seen.environment}) is reviewed.")


async def reviews(ctx: CommandContext, args: ReviewsArgs) -> Reply:
    """What is owed, or the report of a time. Raises BadInput: no length of time."""
    now, zone = ctx.tools.clock(), ctx.caller.zone or ctx.catalog.zone
    if not args.since:
        found = await ctx.tools.deployments.reviews.owed()
        if not found:
            return Reply("No review is owed.")
        return Reply(card=Card("Reviews that are owed", text="\n".join(report(found, now, zone)[1 : MOST + 1])))
    try:
        start = now - parse_duration(args.since)
    except ValueError as error:
        raise BadInput(f"--since {error}.", hint="Write --since 90d.") from None
    found = await ctx.tools.deployments.reviews.since(start)
    lines = report(found, now, zone)
    more = [f"and {len(lines) - MOST - 1} more"] if len(lines) > MOST + 1 else []
    return Reply(card=Card("Emergencies and their reviews", text="\n".join([*lines[: MOST + 1], *more])))


review_command = Command(
    name="review",
    summary="Say what was found about an emergency",
    example="/review d-12 a certificate had run out; it is renewed by a job now",
    permission=Permission.SELF_READ,
    args=ReviewArgs,
    run=review,
)

reviews_command = Command(
    name="reviews",
    summary="Show which emergencies are still to be reviewed, or report on all of a time",
    example="/reviews --since 90d",
    permission=Permission.RELEASE_READ,
    args=ReviewsArgs,
    run=reviews,
)
