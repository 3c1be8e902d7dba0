"""Digests: what the clock posts. Each is made from the occurrence's instant, so that a second run says the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from bot.catalog.model import Catalog, Periodic
from bot.deployments.model import Deployment, State
from bot.deployments.service import words
from bot.reports.drift import DriftFinder
from bot.reports.gather import Reporter
from bot.reports.telling import card_of
from bot.schedule.works import Result
from bot.store import deployments as rows
from bot.store import ended, holds, outbox
from bot.store.database import Database, Tx
from bot.store.firings import Firing
from bot.store.outbox import NewNotice, Notice
from bot.times import say_when, zone_of
from notifiers.card import Card, Message
from notifiers.codec import message_to_json

MOST = 20
"""Lines of a list in a digest."""


class Digests:
    """The work of jobs that post."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        platforms: Sequence[str],
        reporter: Reporter,
        drift: DriftFinder,
        poke: Callable[[], None],
    ) -> None:
        """platforms: those that are switched on; poke: called when there is something to send."""
        self._db = db
        self._catalog = catalog
        self._platforms = tuple(platforms)
        self._reporter = reporter
        self._drift = drift
        self._poke = poke

    async def __call__(self, job: Periodic, firing: Firing) -> Result:
        """Make it and leave it in the outbox; a second run leaves nothing more."""
        made = {"weekly": self._weekly, "daily": self._daily, "drift": self._drifting}[job.digest]
        cards, said = await made(job, firing)
        await self._post(firing, cards)
        return Result(detail=said)

    async def _weekly(self, job: Periodic, firing: Firing) -> tuple[dict[tuple[str, str], Card], str]:
        """The seven days before the day it runs on: of all to the job's channels, of each team to the team's own."""
        start, end = week_before(firing.fire_at, job.zone)
        report = await self._reporter.report(start, end, job.zone)
        cards = dict.fromkeys(self._places(job.channels), card_of(report))
        for team in report.teams:
            known = self._catalog().teams.get(team)
            for place in self._places(known.channels if known is not None else {}):
                cards.setdefault(place, card_of(report, team))
        return cards, f"{report.whole.deployments} deployments of {len(report.teams)} teams"

    async def _daily(self, job: Periodic, firing: Firing) -> tuple[dict[tuple[str, str], Card], str]:
        card = await self._db.read(lambda tx: _today(tx, job.zone, firing.fire_at))
        return dict.fromkeys(self._places(job.channels), card), ""

    async def _drifting(self, job: Periodic, _firing: Firing) -> tuple[dict[tuple[str, str], Card], str]:
        """Posted only where there is something to say."""
        looked_at, found = await self._drift.look()
        drifts = [one for one in found if not one.unknown]
        said = f"{len(drifts)} of {looked_at} targets drift, {len(found) - len(drifts)} could not be told"
        if not drifts:
            return {}, said
        fields = {one.target: one.said for one in drifts[:MOST]}
        card = Card("What runs is not what Git wants", text=f"{said}.", fields=fields)
        return dict.fromkeys(self._places(job.channels), card), said

    def _places(self, channels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        return ((platform, place) for platform, place in channels.items() if platform in self._platforms)

    async def _post(self, firing: Firing, cards: Mapping[tuple[str, str], Card]) -> None:
        def work(tx: Tx) -> None:
            for (platform, place), card in cards.items():
                content = message_to_json(Message(card.title, card))
                key = f"digest:{firing.id}:{platform}:{place}"[:255]
                outbox.put(tx, NewNotice(key, platform, place, Notice.MESSAGE, content=content), firing.fire_at)

        if cards:
            await self._db.run(work)
            self._poke()


def week_before(at: datetime, zone: str) -> tuple[datetime, datetime]:
    """The seven whole days before the day of an instant, by the clock of a zone; in UTC."""
    local = zone_of(zone)
    today = at.astimezone(local).date()
    first = today - timedelta(days=7)
    start, end = (datetime(day.year, day.month, day.day, tzinfo=local).astimezone(UTC) for day in (first, today))
    return start, end


def _today(tx: Tx, zone: str, at: datetime) -> Card:
    """What is going on, and what ended in the last day."""
    open_ones = rows.open_for(tx)
    over = ended.ended(tx, at - timedelta(days=1), at)
    waiting = [one for one in open_ones if one.state is State.AWAITING_APPROVAL]
    moving = [one for one in open_ones if one.state is not State.AWAITING_APPROVAL]
    bad = [one for one in over if one.state in (State.FAILED, State.ROLLED_BACK)]
    good = sum(one.state is State.SUCCEEDED for one in over)
    fields = {
        "on the way": _listed(moving),
        "wait for approval": _listed(waiting),
        "since yesterday": f"{good} succeeded, {len(bad)} failed",
    }
    if bad:
        fields["failed"] = _listed(bad)
    if locks := holds.all_locks(tx):
        fields["locks"] = "; ".join(f"{one.what} by {one.holder}" for one in locks[:MOST])
    if freezes := holds.standing_freezes(tx, at):
        fields["freezes"] = "; ".join(f"{one.name}: {one.reason}" for one in freezes[:MOST])
    return Card(f"Today, {say_when(at, zone)}", fields=fields)


def _listed(found: Sequence[Deployment]) -> str:
    said = [f"{one.ref} {one.target} {one.release_version} ({words(one.state)})" for one in found[:MOST]]
    if len(found) > MOST:
        said.append(f"and {len(found) - MOST} more")
    return "; ".join(said) or "none"
