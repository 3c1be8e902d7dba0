"""Merge requests (pull requests): the check pipeline of each service they touch runs for every new head, once.

The code of a merge request is run with the company's credentials, so only that of its own repository is, and only for
people who may build the service. A newer head replaces the check of an older one, also one that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from bot.catalog.model import Catalog, Kind, Person, Service, Target
from bot.catalog.repository import resolve_repo
from bot.clock import Clock
from bot.deployments.engine import Engine
from bot.deployments.following import Refusals, Resolver, is_repo, touches
from bot.deployments.model import Deployment, Origin, Proposal, State
from bot.deployments.moves import Moves
from bot.deployments.service import Deployments, Wish
from bot.errors import ProviderRejected, Refused
from bot.sources.git import Revision
from bot.store import deployments as rows
from bot.store.database import Database, Tx

ACTION = "merge_request:check"
MARKS = {"gitlab": "!"}
"""How a merge request's number is written; elsewhere `#`."""


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """A merge request was opened, changed or ended. repo: `group/name` it is to be merged in; commit: its head.

    branch: the one it comes from; into: the one it is to be merged in. is_fork: it comes from another repository, or
    that cannot be told. user and email: who did this. again: names a wish to check the same head once more, of the
    service `only`; both empty otherwise.
    """

    provider: str
    event_id: str
    repo: str
    number: int
    branch: str
    into: str
    commit: str
    is_open: bool
    is_draft: bool = False
    is_fork: bool = True
    user: str = ""
    email: str = ""
    url: str = ""
    again: str = ""
    only: str = ""

    @property
    def what(self) -> str:
        """`merge request !9`, or `pull request #9`."""
        kind = "merge request" if self.provider == "gitlab" else "pull request"
        return f"{kind} {MARKS.get(self.provider, '#')}{self.number}"

    @property
    def proposal(self) -> Proposal:
        """What its checks remember of it."""
        return Proposal(provider=self.provider, repo=self.repo, number=self.number, url=self.url)


class MergeChecks:
    """Starts checks and ends them."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        engine: Engine,
        moves: Moves,
        deployments: Deployments,
        sources: Resolver,
        directory: Path,
        clock: Clock,
    ) -> None:
        """directory: the catalog's."""
        self._db = db
        self._catalog = catalog
        self._engine = engine
        self._moves = moves
        self._deployments = deployments
        self._sources = sources
        self._directory = directory
        self._clock = clock
        self._refusals = Refusals(db, catalog, moves, clock)

    async def proposed(self, change: MergeRequest) -> Sequence[str]:
        """Check its head for every service that wants that, or give its checks up; one line each.

        Raises:
            ProviderUnavailable: the repository or the database was not reached; the event should be sent again.
        """
        if not change.is_open:
            return await self._give_up(change, f"The {change.what} is closed.")
        return [await self._check(change, service, target) for service, target in self._wanted(change)]

    def _wanted(self, change: MergeRequest) -> Iterator[tuple[Service, Target]]:
        """Services of that repository, each with the first environment that follows the branch it is merged in."""
        for service in self._catalog().services.values():
            if change.only not in ("", service.name):
                continue
            if not is_repo(resolve_repo(self._directory, service.repo), change.repo):
                continue
            found = [one for one in service.targets.values() if _follows(one, change)]
            if found:
                yield service, found[0]

    async def _check(self, change: MergeRequest, service: Service, target: Target) -> str:
        name = f"{service.name} {change.what}"
        if change.is_draft and not target.check_drafts:
            return f"{name}: a draft"
        person = self._person(change)
        if person is None:
            who = change.user or change.email or "somebody"
            return await self._refused(change, name, who, "unknown_caller", f"{who} is nobody in the catalog")
        if change.is_fork:
            text = f"It comes from another repository, and {service.name} is checked only with code of its own."
            return await self._refused(change, name, person.id, "fork", text, told=True)
        try:
            return await self._start(change, service, target, person)
        except (Refused, ProviderRejected) as error:
            code = error.code if isinstance(error, Refused) else "rejected"
            return await self._refused(change, name, person.id, code, error.sentence(), told=True)

    async def _start(self, change: MergeRequest, service: Service, target: Target, person: Person) -> str:
        name, repo = f"{service.name} {change.what}", resolve_repo(self._directory, service.repo)
        revision = await self._sources.resolve(repo, None, change.branch, service.versions)
        if revision.commit != change.commit:
            return f"{name}: {change.branch} is at another commit by now"
        if target.paths and not touches(target.paths, await self._sources.brought(repo, change.into, change.commit)):
            return f"{name}: touches nothing of it"
        wish = self._wish(change, service, target, person, revision)
        started = await self._deployments.build(wish, check=True, proposal=change.proposal)
        await self._give_up(change, f"{started.deployment.ref} checks a newer commit.", started.deployment)
        return f"{name}: {started.deployment.ref}"

    def _wish(self, change: MergeRequest, service: Service, target: Target, person: Person, revision: Revision) -> Wish:
        author = self._catalog().person_by_email(revision.author_email)
        return Wish(
            person=person,
            service=service,
            target=replace(target, pipeline=target.check),
            kind=Kind.BUILD,
            commit=revision.commit,
            version=revision.version,
            branch=change.branch,
            reason=change.what,
            origin=Origin("", ""),
            key=key_of(change, service.name),
            author=author.id if author is not None else "",
        )

    def _person(self, change: MergeRequest) -> Person | None:
        catalog = self._catalog()
        return catalog.person_by_chat(change.provider, change.user) or catalog.person_by_email(change.email)

    async def _give_up(self, change: MergeRequest, why: str, newer: Deployment | None = None) -> list[str]:
        """End its checks that are not over: all, or those of the newer one's service that are older."""
        at = self._clock()

        def work(tx: Tx) -> list[Deployment]:
            service = newer.service if newer is not None else ""
            ours = [one for one in rows.open_for(tx, service) if _is_older(one, change.proposal, newer)]
            locked = [seen for one in ours if (seen := rows.lock(tx, one.id)) is not None]
            return [self._ended(tx, seen, why, newer, at) for seen in locked if _can_end(seen)]

        ended = await self._db.run(work)
        for one in ended:
            self._engine.poke(one.id)
            self._moves.announce_changed(one.id, one)
        return [f"{one.ref}: given up" for one in ended]

    def _ended(self, tx: Tx, seen: Deployment, why: str, newer: Deployment | None, at: datetime) -> Deployment:
        by = newer.requested_by if newer is not None else seen.requested_by
        ending = {"given_up": why, "cancelled_by": by, "cancelled_from": seen.state.value}
        data = seen.data.model_copy(update=ending)
        to = State.SUPERSEDED if seen.state is State.QUEUED else State.CANCELLING
        return self._moves.move(tx, seen, to, at=at, actor=by, note=why, data=data)

    async def _refused(
        self, change: MergeRequest, name: str, who: str, code: str, text: str, *, told: bool = False
    ) -> str:
        key = f"check:{change.provider}:{change.commit}:{name}" if told else ""
        return await self._refusals.note(ACTION, name, who, code, text, f"Your {change.what} was not checked.", key)


def key_of(change: MergeRequest, service: str) -> str:
    """Of its check for that service; the commit stands in front, for what is too long is cut off at the end."""
    key = f"check:{change.provider}:{change.commit}:{change.again}:{service}:{change.number}:{change.repo}"
    return key[:255]


def _follows(target: Target, change: MergeRequest) -> bool:
    return target.auto_check and fnmatchcase(change.into, target.branch)


def _is_older(one: Deployment, proposal: Proposal, newer: Deployment | None) -> bool:
    return one.data.proposal == proposal and (newer is None or one.id < newer.id)


def _can_end(seen: Deployment) -> bool:
    return seen.state in (State.QUEUED, State.BUILDING)
