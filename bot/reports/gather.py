"""Reads what a report needs from our own rows, and the ages of the commits from Git."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import structlog

from bot.catalog.find import find_team
from bot.catalog.model import Catalog, Kind
from bot.catalog.repository import resolve_repo
from bot.deployments.engine import STEP_OF_STATE
from bot.deployments.model import Deployment, State
from bot.errors import BadInput, SlipwayError
from bot.reports import LONGEST, measures
from bot.reports.measures import Ended, Report
from bot.sources.git import Commit
from bot.store import emergencies, ended
from bot.store.database import Database, Tx
from bot.store.ended import Good
from bot.times import zone_of

log = structlog.get_logger(__name__)

AT_ONCE = 4
"""How many repositories are asked at the same time."""
"""Days of a report: a quarter."""
MOST_COMMITS = 200
"""Of one deployment; more say nothing new about a median."""
MOST_ASKED = 500
"""Deployments of one report whose commits are looked up: the newest."""
STAGE: Mapping[State, str] = {**STEP_OF_STATE, State.AWAITING_APPROVAL: "approval"}


class Commits(Protocol):
    """The part of a source of revisions that a report needs."""

    async def commits(self, repo: str, old: str, new: str, limit: int = 20) -> list[Commit]:
        """What `new` has and `old` has not."""
        ...


@dataclass(slots=True)
class _Found:
    """What is kept of a row, and its neighbours on the same target: the good one before, the good one after."""

    id: int
    service: str
    environment: str
    kind: Kind
    state: State
    commit: str
    ended_at: datetime
    changed: bool
    emergency: bool
    broke_at: datetime
    stages: Mapping[str, float]
    before: Good | None = None
    after: Good | None = None

    @property
    def good(self) -> Good:
        """As others see it."""
        return Good(self.commit, self.kind, self.ended_at)


class Reporter:
    """Makes reports."""

    def __init__(self, db: Database, catalog: Callable[[], Catalog], source: Commits, directory: Path) -> None:
        """directory: the catalog's, against which relative repositories are resolved."""
        self._db = db
        self._catalog = catalog
        self._source = source
        self._directory = directory

    async def report(self, start: datetime, end: datetime, zone: str = "", team: str = "") -> Report:
        """Of a period; of one team if named. Git that does not answer leaves the lead time out, nothing else."""
        catalog = self._catalog()
        clock = zone_of(zone or catalog.zone)
        production = measures.production_of(catalog)
        rows = await self._rows(start, end, catalog, team, production)
        leads = await self._leads(rows, catalog, production)
        found = [_ended(one, catalog, leads.get(one.id, ())) for one in rows]
        days = measures.days_of(start, end, clock)
        owed = await self._owed(catalog, team)
        teams: dict[str, list[Ended]] = {name: [] for name, _ in owed}
        teams |= measures.by_team(found)
        return Report(
            start=start,
            end=end,
            zone=zone or catalog.zone,
            days=days,
            production=production,
            whole=measures.measured(found, production, days, clock, [ref for _, ref in owed]),
            teams={
                name: measures.measured(each, production, days, clock, [ref for of, ref in owed if of == name])
                for name, each in sorted(teams.items())
            },
        )

    async def _owed(self, catalog: Catalog, team: str) -> list[tuple[str, str]]:
        """(team, deployment) of every review that is owed; of one team if named."""
        found = [(_team_of(catalog, one.service), one.ref) for one in await self._db.read(emergencies.owed)]
        return [pair for pair in found if not team or pair[0] == team]

    async def asked(self, team: str, days: str, now: datetime) -> Report:
        """The last days up to now, as somebody wrote them. Raises BadInput."""
        if not (days.isascii() and days.isdigit() and 1 <= int(days) <= LONGEST):
            raise BadInput(f"days must be a number from 1 to {LONGEST}.", hint="Leave it out for 7.")
        known = find_team(self._catalog(), team).id if team else ""
        return await self.report(now - timedelta(days=int(days)), now, team=known)

    async def _rows(
        self, start: datetime, end: datetime, catalog: Catalog, team: str, production: Sequence[str]
    ) -> list[_Found]:
        found: list[_Found] = []
        after = 0
        while True:
            page, paths = await self._db.read(lambda tx: _page(tx, start, end, after))  # noqa: B023
            found += [
                _kept(one, paths.get(one.id, ())) for one in page if not team or _team_of(catalog, one.service) == team
            ]
            if len(page) < ended.PAGE:
                break
            after = page[-1].id
        targets: defaultdict[tuple[str, str], list[_Found]] = defaultdict(list)
        for one in found:
            if one.environment in production:
                targets[one.service, one.environment].append(one)
        for each in targets.values():
            if any(one.changed for one in each):
                await self._db.read(lambda tx: _know_each_other(tx, each))  # noqa: B023
        return found

    async def _leads(
        self, found: Sequence[_Found], catalog: Catalog, production: Sequence[str]
    ) -> Mapping[int, tuple[timedelta, ...]]:
        """Deployment -> from each commit it brought to its end, of production alone."""
        asked = [
            one
            for one in found
            if one.state is State.SUCCEEDED
            and one.environment in production
            and one.before is not None
            and one.kind is not Kind.ROLLBACK
        ][-MOST_ASKED:]
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(one: _Found) -> tuple[int, tuple[timedelta, ...]]:
            async with gate:
                return one.id, await self._lead(one, catalog)

        return dict(await asyncio.gather(*(ask(one) for one in asked)))

    async def _lead(self, one: _Found, catalog: Catalog) -> tuple[timedelta, ...]:
        service = catalog.services.get(one.service)
        if service is None or one.before is None:
            return ()
        repo = resolve_repo(self._directory, service.repo)
        try:
            commits = await self._source.commits(repo, one.before.commit, one.commit, MOST_COMMITS)
        except SlipwayError as error:
            log.info("lead_time_not_known", deployment_id=f"d-{one.id}", error=error.message)
            return ()
        return tuple(max(timedelta(0), one.ended_at - commit.committed_at) for commit in commits)


def _page(
    tx: Tx, start: datetime, end: datetime, after: int
) -> tuple[list[Deployment], Mapping[int, Sequence[tuple[State, datetime]]]]:
    page = ended.ended(tx, start, end, after)
    return page, ended.paths(tx, [one.id for one in page])


def _kept(seen: Deployment, path: Sequence[tuple[State, datetime]]) -> _Found:
    ended_at = seen.ended_at or seen.changed_at
    emergency = seen.data.emergency
    way_back = next((at for state, at in path if state is State.ROLLING_BACK), None)
    return _Found(
        id=seen.id,
        service=seen.service,
        environment=seen.environment,
        kind=seen.kind,
        state=seen.state,
        commit=seen.commit,
        ended_at=ended_at,
        changed=bool(seen.data.revision) and seen.data.git_changed,
        emergency=emergency is not None and not emergency.approvals and emergency.pass_until_at is not None,
        broke_at=(way_back or ended_at) if seen.state is State.ROLLED_BACK else ended_at,
        stages=_stages(seen, path),
    )


def _know_each_other(tx: Tx, found: Sequence[_Found]) -> None:
    """The neighbours of each, in order; only those of the first and the last are not among them."""
    before = ended.good_before(tx, found[0].service, found[0].environment, found[0].id)
    after = ended.good_after(tx, found[0].service, found[0].environment, found[-1].id)
    for one in found:
        one.before = before
        before = one.good if one.state is State.SUCCEEDED else before
    for one in reversed(found):
        one.after = after
        after = one.good if one.state is State.SUCCEEDED else after


def _team_of(catalog: Catalog, service: str) -> str:
    known = catalog.services.get(service)
    return known.team if known is not None else "gone"


def _ended(one: _Found, catalog: Catalog, leads: tuple[timedelta, ...]) -> Ended:
    restored_at = one.after.ended_at if one.after is not None else None
    return Ended(
        ref=f"d-{one.id}",
        service=one.service,
        team=_team_of(catalog, one.service),
        environment=one.environment,
        kind=one.kind,
        state=one.state,
        ended_at=one.ended_at,
        changed=one.changed,
        emergency=one.emergency,
        leads=leads,
        stages=one.stages,
        broke_at=one.broke_at,
        restored_at=one.ended_at if one.state is State.ROLLED_BACK else restored_at,
        undone=one.after is not None and one.after.kind is Kind.ROLLBACK and one.state is State.SUCCEEDED,
    )


def _stages(seen: Deployment, path: Sequence[tuple[State, datetime]]) -> dict[str, float]:
    """Seconds in each state, and of each stage of the pipeline as the CI system measured it."""
    took: dict[str, float] = {}
    for (state, at), (_, until) in pairwise(path):
        if name := STAGE.get(state):
            took[name] = took.get(name, 0.0) + (until - at).total_seconds()
    for stage in seen.data.stages:
        if stage.seconds is not None:
            took[f"pipeline: {stage.name}"] = stage.seconds
    return took
