"""Periodic jobs: every replica looks at the clock, and the database lets one of them start each occurrence.

Level-triggered, as the engine: what is due follows from the catalog and from what has been started before, so a sleep,
a crash or a second replica changes nothing. Starting is one transaction: the occurrence's row, unique by job and
instant, and the command as a stored intent, which from then on goes the way of every command. (The plan named
APScheduler for this too; its memory of what it missed would have to be kept beside it, and then this is all there is.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import structlog

from bot.catalog.model import Catalog, Periodic, Person
from bot.chat.base import IncomingCommand
from bot.clock import Clock
from bot.deployments.audience import personal_places
from bot.deployments.model import State
from bot.errors import Conflict, ProviderError, Refused
from bot.policy.model import ReasonCode
from bot.schedule import occurrences
from bot.schedule.own import own_jobs
from bot.schedule.works import Work, Working, kind_of
from bot.store import audit, firings, inbox, outbox
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.firings import RUNNING, Firing, JobRow
from bot.store.outbox import NewNotice, Notice

log = structlog.get_logger(__name__)

PLATFORM = "schedule"
"""Whence these intents come; no chat has this name, so nobody can send one from outside."""
ON_TIME = timedelta(minutes=1)
"""Later than this, an occurrence was missed."""
LOOKED_BACK = timedelta(days=31)
MOST_AT_ONCE = 20
LONGEST_SLEEP = 30.0
"""Seconds."""
MIND = 3.5
"""Seconds between two looks while something has begun: whoever is at it may die."""
GOOD = frozenset({"accepted", State.SUCCEEDED.value})


class SchedulePeople:
    """Who a job runs as: a person of the catalog by id, if active."""

    async def person(self, catalog: Catalog, user_id: str) -> Person | None:
        """The person, or None."""
        found = catalog.people.get(user_id)
        return found if found is not None and found.active else None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job for people. next_at: None while paused. last: its newest occurrence."""

    job: Periodic
    paused_by: str
    next_at: datetime | None
    last: Firing | None


class Jobs:
    """Starts what is due, and tells the owners what failed."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        platforms: Sequence[str],
        clock: Clock,
        on_intent: Callable[[], None],
        on_message: Callable[[], None],
        works: Mapping[str, Work] | None = None,
    ) -> None:
        """on_intent: called after an intent was stored; on_message: after something was put into the outbox.

        works: what jobs do that are no command, by `kind_of`; without any, our own jobs do nothing.
        """
        self._working = Working(db, works or {}, clock, self._over)
        self._db = db
        self._catalog = catalog
        self._platforms = tuple(platforms)
        self._clock = clock
        self._on_intent = on_intent
        self._on_message = on_message
        self._poked = asyncio.Event()
        self._begun = False
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._for_ever())

    async def stop(self) -> None:
        """Look no more; what was started goes on as a stored intent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._working.stop()

    def poke(self, _number: int = 0) -> None:
        """Something may be over: looked at only while something has begun, because every command and move pokes."""
        if self._begun:
            self.wake()

    def wake(self) -> None:
        """The catalog has changed, or a job goes on: look now. May be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._poked.set)

    async def _for_ever(self) -> None:
        while True:
            self._poked.clear()
            pause = LONGEST_SLEEP
            try:
                await self.look()
                pause = self._until_next()
                if self._begun and not self._db.is_sqlite:
                    pause = min(pause, MIND)
            except ProviderError as error:
                log.warning("jobs_not_looked_at", error=error.message)
                pause = 2.0
            except Exception:
                log.exception("jobs_stumbled")
            try:
                async with asyncio.timeout(pause):
                    await self._poked.wait()
            except TimeoutError:
                pass

    def _until_next(self) -> float:
        """Seconds until something is due by the catalog alone, within bounds."""
        now = self._clock()
        nearest = now + timedelta(seconds=LONGEST_SLEEP)
        for job in self._jobs().values():
            soon = occurrences.due(job, now, nearest)
            nearest = soon[0] if soon else nearest
        return min(LONGEST_SLEEP, max(0.05, (nearest - now).total_seconds()))

    # -- what is due -------------------------------------------------------------------------------------------------

    async def look(self) -> int:
        """Start what is due now and settle what is over. Returns how many were started here."""
        jobs = self._jobs()
        await self._settle()
        at = self._clock()
        memory = await self._db.run(lambda tx: firings.known(tx, jobs, at))
        started = 0
        for job in jobs.values():
            row = memory[job.name]
            if not row.paused:
                started += await self._start_due(job, row, at)
        if started:
            self._on_intent()
            await self._take_up(jobs)
        return started

    def _jobs(self) -> Mapping[str, Periodic]:
        """Our own and those of the catalog."""
        return own_jobs(self._catalog())

    async def _take_up(self, jobs: Mapping[str, Periodic]) -> None:
        begun = await self._db.read(firings.running)
        self._begun = bool(begun)
        await self._working.look(jobs, begun)

    async def _start_due(self, job: Periodic, row: JobRow, at: datetime) -> int:
        last = max(row.since, row.last_at or row.since, at - LOOKED_BACK)
        started = 0
        for fire_at, cause, outcome in plan(job, last, at):
            started += await self._db.run(lambda tx: self._fire(tx, job, fire_at, at, cause, outcome))  # noqa: B023
        return started

    def _fire(self, tx: Tx, job: Periodic, fire_at: datetime, at: datetime, cause: str, outcome: str) -> int:
        firings.lock(tx, job.name)
        if outcome == RUNNING and not job.overlap and firings.running(tx, job.name):
            if job.missed == "all":
                return 0  # its turn comes when the one before is over
            outcome, cause = "overlapped", "the one before was not over"
        firing = firings.fire(tx, job.name, fire_at, at, cause=cause, outcome=outcome, detail=job.what)
        if firing is None or outcome != RUNNING:
            return 0
        self._issue(tx, job, firing, at)
        return 1

    def _issue(self, tx: Tx, job: Periodic, firing: Firing, at: datetime) -> None:
        """A command becomes an intent; what works by itself is taken up by a replica."""
        if job.work:
            return
        said = f"{job.what.removeprefix('/')} ({firing.cause})" if firing.cause else job.what.removeprefix("/")
        if kind_of(job):
            audit.append(tx, AuditEntry(at, job.run_as, "job:fire", job.name, "accepted", "", said[:1000]))
            return
        platform, place, personal = self._place(job)
        incoming = IncomingCommand(platform, firing.event_id, job.run_as, place, f"/{job.command}", personal)
        inbox.put(tx, PLATFORM, firing.event_id, "command", asdict(incoming), at)
        audit.append(tx, AuditEntry(at, job.run_as, "job:fire", job.name, "accepted", "", said[:1000]))

    def _place(self, job: Periodic) -> tuple[str, str, bool]:
        """Where the answer goes: the job's channel, else the person's own chat."""
        for platform, place in job.channels.items():
            if platform in self._platforms:
                return platform, place, False
        for platform, place in personal_places(self._catalog(), job.run_as, self._platforms):
            return platform, place.removeprefix("@"), True
        return next(iter(self._platforms), ""), job.run_as, True

    # -- what came of it ---------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Close what is over: the command was refused, or its deployment has ended."""
        jobs = self._jobs()
        open_ones = await self._db.read(firings.running)
        self._begun = bool(open_ones)
        await self._working.look(jobs, open_ones)
        told = False
        for firing in open_ones:
            if firing.job in jobs and kind_of(jobs[firing.job]):
                continue
            outcome, detail = await self._db.read(lambda tx: outcome_of(tx, firing))  # noqa: B023
            if outcome != RUNNING:
                told |= await self._db.run(lambda tx: self._close(tx, firing, outcome, detail))  # noqa: B023
        if told:
            self._on_message()

    async def _over(self, firing: Firing, outcome: str, detail: str) -> None:
        """What worked by itself has ended."""
        if await self._db.run(lambda tx: self._close(tx, firing, outcome, detail)):
            self._on_message()

    def _close(self, tx: Tx, firing: Firing, outcome: str, detail: str) -> bool:
        at = self._clock()
        if not firings.finish(tx, firing.id, outcome, detail, at):
            return False
        catalog = self._catalog()
        job = self._jobs().get(firing.job)
        told = self._tell_channel(tx, job, firing, outcome, detail) if job is not None else False
        if outcome in GOOD:
            return told
        text = f"The periodic job {firing.job} ({outcome}): {detail} /jobs {firing.job} shows its history."
        for person in job.owners if job is not None else catalog.admins:
            for platform, place in personal_places(catalog, person, self._platforms)[:1]:
                key = f"job:{firing.id}:{platform}:{place}"
                content = {"text": text[:3000], "card": None}
                outbox.put(tx, NewNotice(key, platform, place, Notice.MESSAGE, content=content, priority=1), at)
        audit.append(tx, AuditEntry(at, "slipway", "job:end", firing.job, outcome[:32], "", detail[:1000]))
        return True

    def _tell_channel(self, tx: Tx, job: Periodic, firing: Firing, outcome: str, detail: str) -> bool:
        """How a pipeline ended; commands and digests have said it themselves."""
        if job.pipeline is None:
            return False
        at = self._clock()
        for platform, place in job.channels.items():
            if platform in self._platforms:
                content = {"text": f"The periodic job {job.name}: {detail or outcome}"[:3000], "card": None}
                key = f"job:{firing.id}:told:{platform}:{place}"[:255]
                outbox.put(tx, NewNotice(key, platform, place, Notice.MESSAGE, content=content), at)
        return True

    # -- what people do with it --------------------------------------------------------------------------------------

    async def views(self) -> list[JobView]:
        """Every job of the catalog, by name."""
        jobs, at = self._jobs(), self._clock()
        memory = await self._db.run(lambda tx: firings.known(tx, jobs, at))
        newest = await self._db.read(lambda tx: {name: firings.history(tx, name, 1) for name in jobs})
        return [_view(job, memory[name], newest[name], at) for name, job in sorted(jobs.items())]

    async def history(self, name: str, limit: int = 10) -> list[Firing]:
        """The newest occurrences of a job, newest first. Raises Refused: there is none of that name."""
        self._job(name)
        return await self._db.read(lambda tx: firings.history(tx, name, limit))

    async def run(self, name: str, caller: Person) -> None:
        """Start it now, besides its own times. Raises Refused or Conflict."""
        job, at = self._may(name, caller), self._clock()
        started = await self._db.run(
            lambda tx: (
                firings.known(tx, [name], at),
                self._fire(tx, job, at, at, f"run by {caller.id}", RUNNING),
            )[1]
        )
        if not started:
            raise Conflict(f"{name} is running already.", hint=f"/jobs {name} shows it.")
        self._on_intent()
        await self._take_up(self._jobs())

    async def pause(self, name: str, caller: Person) -> None:
        """Start it no more. Raises Refused."""
        self._may(name, caller)
        await self._change(name, caller, "job:pause", lambda tx, _at: firings.pause(tx, name, caller.id))

    async def resume(self, name: str, caller: Person) -> None:
        """Go on from now. Raises Refused."""
        self._may(name, caller)
        await self._change(name, caller, "job:resume", lambda tx, at: firings.resume(tx, name, at))
        self.wake()

    async def _change(self, name: str, caller: Person, action: str, change: Callable[[Tx, datetime], None]) -> None:
        at = self._clock()

        def work(tx: Tx) -> None:
            firings.known(tx, [name], at)
            change(tx, at)
            audit.append(tx, AuditEntry(at, caller.id, action, name, "accepted"))

        await self._db.run(work)

    def _may(self, name: str, caller: Person) -> Periodic:
        """The job, if this person has a say in it: whoever could type its command, or answers for it."""
        job, catalog = self._job(name), self._catalog()
        if caller.id in (job.run_as, *job.owners, *catalog.admins, *catalog.release_managers):
            return job
        raise Refused(
            f"{name} is not yours to change.",
            hint=f"Ask {', '.join((*job.owners, 'a release manager'))}.",
            code=ReasonCode.NOT_PERMITTED,
        )

    def _job(self, name: str) -> Periodic:
        jobs = self._jobs()
        if name not in jobs:
            raise Refused(
                f"There is no periodic job {name!r}.", hint="/jobs lists them.", code=ReasonCode.NOT_PERMITTED
            )
        return jobs[name]


def plan(job: Periodic, last: datetime, at: datetime) -> list[tuple[datetime, str, str]]:
    """What to do with the occurrences in `(last, at]`: instant, cause, and `running` or `skipped`."""
    due = occurrences.due(job, last, at)
    if not due:
        return []
    newest = due[-1]
    late = at - newest > ON_TIME
    if job.missed == "all":
        return [(one, "made up for" if at - one > ON_TIME else "", RUNNING) for one in due[:MOST_AT_ONCE]]
    if not late:
        return [(newest, "", RUNNING)]
    if job.missed == "once":
        return [(newest, f"made up for, once for {len(due)}", RUNNING)]
    return [(newest, f"missed, {len(due)} in all", "skipped")]


def outcome_of(tx: Tx, firing: Firing) -> tuple[str, str]:
    """How an occurrence stands: `running`, or how it ended, and a sentence."""
    row = inbox.by_event(tx, PLATFORM, firing.event_id)
    if row is None or row.done_at is None:
        return RUNNING, ""
    deployment = rows.find_by_key(tx, f"{PLATFORM}:{firing.event_id}")
    if deployment is None:
        return row.outcome, row.answer
    if deployment.ended_at is None:
        return RUNNING, ""
    failure = deployment.data.failure
    said = failure.message if failure is not None else ""
    return deployment.state.value, f"{deployment.ref} {deployment.target} {deployment.release_version}. {said}".strip()


def _view(job: Periodic, row: JobRow, newest: Sequence[Firing], at: datetime) -> JobView:
    next_at = None if row.paused else occurrences.next_after(job, at)
    return JobView(job, row.paused_by if row.paused else "", next_at, newest[0] if newest else None)
