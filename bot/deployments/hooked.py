"""What an event from outside does: it wakes the deployment that follows a run, or starts what a push should start."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from bot.catalog.model import Catalog, Kind, Person, Service, Target
from bot.catalog.repository import resolve_repo
from bot.clock import Clock
from bot.deployments import plan
from bot.deployments.engine import Engine
from bot.deployments.following import Refusals, Resolver, is_repo, touches
from bot.deployments.merge_checks import MergeChecks, MergeRequest
from bot.deployments.model import Deployment, Origin, State
from bot.deployments.moves import Moves
from bot.deployments.service import Deployments, Wish
from bot.errors import Refused
from bot.pipelines.memory import RunMemory
from bot.sources.git import Revision
from bot.store import deployments as rows
from bot.store.database import Database, Tx
from bot.store.runs import ATTEMPT, deployment_of

SKIP = re.compile(r"\[(?:skip[ -](?:deploy|ci)|(?:deploy|ci)[ -]skip|no[ -](?:deploy|ci))\]", re.IGNORECASE)
"""A head commit that says so is not deployed by itself."""


@dataclass(frozen=True, slots=True)
class RunHint:
    """A run somewhere changed. intent: if the event says it; else the run's id there, and its pipeline if known."""

    provider: str
    intent: str = ""
    run_id: str = ""
    definition: str = ""


@dataclass(frozen=True, slots=True)
class GateHint:
    """A gate may say something else now: about this commit, or about this service (in this environment, if named)."""

    commit: str = ""
    service: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Push:
    """Commits reached a branch, or a tag was made (then branch is empty). repo: `group/name`; commit: the new head.

    files: changed, empty if unknown. email and user: who pushed. message: of the head commit.
    """

    provider: str
    event_id: str
    repo: str
    branch: str
    commit: str
    email: str = ""
    user: str = ""
    message: str = ""
    files: tuple[str, ...] = ()
    tag: str = ""

    @property
    def what(self) -> str:
        """`push to main`, or `tag v1.4.2`."""
        return f"tag {self.tag}" if self.tag else f"push to {self.branch}"


class Hooked(Protocol):
    """Where events go."""

    async def run_changed(self, hint: RunHint) -> bool:
        """Wake the deployment that follows this run. False: none does."""
        ...

    async def gate_changed(self, hint: GateHint) -> bool:
        """Wake the deployments that wait at their gates for this. False: none does."""
        ...

    async def pushed(self, push: Push) -> Sequence[str]:
        """Start what the catalog wants started by itself; returns what came of it, one line each."""
        ...

    async def proposed(self, change: MergeRequest) -> Sequence[str]:
        """Check a merge request as the catalog wants it; returns what came of it, one line each."""
        ...


class Events:
    """A `Hooked` on the real thing."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        engine: Engine,
        moves: Moves,
        deployments: Deployments,
        memory: RunMemory,
        sources: Resolver,
        directory: Path,
        clock: Clock,
    ) -> None:
        """memory: knows which intent a run belongs to; directory: the catalog's."""
        self._db = db
        self._catalog = catalog
        self._engine = engine
        self._moves = moves
        self._deployments = deployments
        self._memory = memory
        self._sources = sources
        self._directory = directory
        self._clock = clock
        self._refusals = Refusals(db, catalog, moves, clock)
        self._checks = MergeChecks(db, catalog, engine, moves, deployments, sources, directory, clock)

    async def run_changed(self, hint: RunHint) -> bool:
        """Have the deployment look at its run now. False: no deployment follows it."""
        intent = hint.intent
        if not intent and hint.run_id:
            note = await self._memory.by_run(hint.provider, hint.definition, hint.run_id)
            intent = note.intent if note is not None else ""
        if not intent:
            return False
        at = self._clock()
        # Together with whatever else arrives now: a burst of hints is a handful of commits.
        found = await self._db.together(lambda tx: _wake(tx, ATTEMPT.sub("", intent), at))
        if found is not None:
            self._engine.poke(found)
        return found is not None

    async def gate_changed(self, hint: GateHint) -> bool:
        """Have the deployments that wait at their gates ask them again. False: none waits for this."""
        at = self._clock()

        def work(tx: Tx) -> list[int]:
            waiting = rows.open_for(tx, hint.service, hint.environment)
            ids = [one.id for one in waiting if one.state is State.GATING and hint.commit in ("", one.commit)]
            for number in ids:
                rows.wake(tx, number, at)
            return ids

        woken = await self._db.run(work)
        for number in woken:
            self._engine.poke(number)
        return bool(woken)

    async def pushed(self, push: Push) -> Sequence[str]:
        """Start every target that follows this branch by itself; one line each. A merged proposal is looked at.

        Raises:
            ProviderUnavailable: the repository or the database was not reached; the event should be sent again.
        """
        woken = await self._wake_proposed(push)
        wanted = list(self._followers(push))
        if wanted and SKIP.search(push.message):
            return [*woken, "skipped: the commit's message says so"]
        return [*woken, *[await self._start(push, service, target) for service, target in wanted]]

    async def proposed(self, change: MergeRequest) -> Sequence[str]:
        """See `MergeChecks.proposed`."""
        return await self._checks.proposed(change)

    # --- inside

    async def _wake_proposed(self, push: Push) -> list[str]:
        """Deployments whose merge request this may have been: they look now instead of at their next turn."""
        at = self._clock()

        def work(tx: Tx) -> list[Deployment]:
            ids = [number for state in (State.WRITING, State.ROLLING_BACK) for number in rows.ids_in(tx, state)]
            found = [one for number in ids if (one := rows.get(tx, number)) is not None and _proposes(one, push)]
            for one in found:
                rows.wake(tx, one.id, at)
            return found

        woken = await self._db.run(work) if push.branch else []
        for one in woken:
            self._engine.poke(one.id)
        return [f"{one.ref}: woken" for one in woken]

    def _followers(self, push: Push) -> Iterator[tuple[Service, Target]]:
        for service in self._catalog().services.values():
            if is_repo(resolve_repo(self._directory, service.repo), push.repo):
                for target in service.targets.values():
                    if _follows(target, push):
                        yield service, target

    async def _start(self, push: Push, service: Service, target: Target) -> str:
        name = f"{service.name}/{target.environment}"
        person = self._pusher(push)
        if person is None:
            who = push.email or push.user or "somebody"
            return await self._refused(name, who, "unknown_caller", f"{who} is nobody in the catalog")
        repo = resolve_repo(self._directory, service.repo)
        branch = push.branch or target.branch
        revision = await self._sources.resolve(repo, push.tag or None, branch, service.versions)
        if revision.commit != push.commit:
            # An older event that was repeated or came late; the newer one brings its own.
            return f"{name}: {push.tag or push.branch} is at another commit by now"
        if push.tag and not await self._sources.contains(repo, revision.branch, revision.commit):
            text = f"The tag {push.tag} of {service.name} is not on {target.branch}, so {name} does not follow it."
            return await self._refused(name, person.id, "not_on_branch", text, push)
        try:
            started = await self._deployments.start(self._wish(push, service, target, person, revision))
        except Refused as error:
            return await self._refused(name, person.id, error.code, error.sentence(), push)
        if started.deployment.state is State.QUEUED and not started.joined:
            await self._supersede(started.deployment)
        return f"{name}: {started.deployment.ref}"

    def _wish(self, push: Push, service: Service, target: Target, person: Person, revision: Revision) -> Wish:
        author = self._catalog().person_by_email(revision.author_email)
        what = f"{push.tag}:{push.commit}" if push.tag else push.commit
        return Wish(
            person=person,
            service=service,
            target=target,
            kind=Kind.NORMAL,
            commit=revision.commit,
            version=revision.version,
            branch=push.branch or target.branch,
            reason=push.what,
            origin=Origin("", ""),
            key=f"push:{push.provider}:{what}:{service.name}:{target.environment}",
            author=author.id if author is not None else "",
        )

    def _pusher(self, push: Push) -> Person | None:
        catalog = self._catalog()
        return catalog.person_by_chat(push.provider, push.user) or catalog.person_by_email(push.email)

    async def _supersede(self, newer: Deployment) -> None:
        """Older pushes to the same target that still wait in the queue would only deploy what is replaced next."""
        at = self._clock()

        def work(tx: Tx) -> list[Deployment]:
            waiting = rows.open_for(tx, newer.service, newer.environment)
            older = [one for one in waiting if one.id < newer.id and _is_waiting_push(one)]
            note = f"replaced by the newer push {newer.ref}"
            by = newer.requested_by
            return [
                self._moves.move(tx, one, State.SUPERSEDED, at=at, actor=by, note=note, data=one.data) for one in older
            ]

        for ended in await self._db.run(work):
            self._engine.poke(ended.id)
            self._moves.announce_changed(ended.id, ended)

    async def _refused(self, name: str, who: str, code: str, text: str, push: Push | None = None) -> str:
        if push is None:
            return await self._refusals.note("push:deploy", name, who, code, text)
        key = f"push:{push.provider}:{push.commit}:{push.tag}:{name}"
        return await self._refusals.note(
            "push:deploy", name, who, code, text, f"Your {push.what} did not deploy {name}.", key
        )


def _wake(tx: Tx, intent: str, at: datetime) -> int | None:
    found = deployment_of(tx, intent)
    if found is not None:
        rows.wake(tx, found, at)
    return found


def _is_waiting_push(one: Deployment) -> bool:
    return one.state is State.QUEUED and not one.origin.platform and one.reason.startswith(("push to ", "tag "))


def _follows(target: Target, push: Push) -> bool:
    """Whether this push deploys the target by itself. A tag is about the whole repository: paths do not count."""
    if push.tag:
        return any(fnmatchcase(push.tag, pattern) for pattern in target.auto_deploy_tags)
    return target.auto_deploy and fnmatchcase(push.branch, target.branch) and touches(target.paths, push.files)


def _proposes(one: Deployment, push: Push) -> bool:
    """Whether it waits for a merge request of that repository and branch."""
    gitops = plan.thaw(one.data.plan)[1].gitops
    rule = gitops.merge_request
    if rule is None or gitops.branch != push.branch:
        return False
    return rule.project.casefold() == push.repo.casefold() if rule.project else is_repo(gitops.repo, push.repo)
