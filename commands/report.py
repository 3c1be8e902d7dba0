"""`/report [team] [--days N]`: the four keys, emergency passes and the slowest stages of the last days."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bot.catalog.find import find_team
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.policy.model import Permission
from bot.reports import LONGEST
from notifiers.card import Card

if TYPE_CHECKING:
    from bot.reports.gather import Reporter


class ReportArgs(Args):
    """team: of one team, else of all; days: up to now."""

    team: Annotated[str, Arg(ArgKind.TEXT)] = ""
    days: Annotated[int, Arg(ArgKind.NUMBER, option=True)] = Field(default=7, ge=1, le=LONGEST)


def make_command(reporter: Reporter) -> Command:
    """The command over these figures."""

    async def run(ctx: CommandContext, args: ReportArgs) -> Reply:
        team = find_team(ctx.catalog, args.team).id if args.team else ""
        end = ctx.tools.clock()
        report = await reporter.report(end - timedelta(days=args.days), end, ctx.caller.zone or ctx.catalog.zone, team)
        from bot.reports.telling import card_of

        card: Card = card_of(report, team)
        return Reply(card.title, card)

    return Command(
        name="report",
        summary="Show how releases went: how many, how fast, how many failed, what was slow",
        example="/report payments --days 30",
        permission=Permission.RELEASE_READ,
        args=ReportArgs,
        run=run,
    )
