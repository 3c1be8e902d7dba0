"""Occurrences that work by themselves: one replica at a time, under a lease, and another one if it dies.

A work looks first and then acts, as the handlers of the engine: it may be run twice, and what it does outside carries
the occurrence's own key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import structlog

from bot.catalog.model import Periodic
from bot.clock import Clock
from bot.errors import ProviderError, ProviderRejected, SlipwayError
from bot.store import firings
from bot.store.database import Database
from bot.store.firings import RUNNING, Firing

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=10)
"""How long a silent replica keeps what it is at."""
PATIENCE = timedelta(minutes=10)
"""How long a work is tried whose outside system does not answer."""
PAUSE = 5.0
"""Seconds between two tries."""


@dataclass(frozen=True, slots=True)
class Result:
    """How it stands: `running` means look again after so long."""

    outcome: str = "succeeded"
    detail: str = ""
    again: timedelta = timedelta(seconds=2)


Work = Callable[[Periodic, Firing], Awaitable[Result]]
Close = Callable[[Firing, str, str], Awaitable[None]]


def kind_of(job: Periodic) -> str:
    """The name of the work a job does; empty for a command, which goes the way of every command."""
    return "pipeline" if job.pipeline is not None else "digest" if job.digest else job.work


class Working:
    """Drives what has begun and works by itself."""

    def __init__(self, db: Database, works: Mapping[str, Work], clock: Clock, close: Close) -> None:
        """works: name -> work; close: records how an occurrence ended."""
        self._db = db
        self._works = dict(works)
        self._clock = clock
        self._close = close
        self._owner = uuid4().hex
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._looking = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def look(self, jobs: Mapping[str, Periodic], begun: Sequence[Firing]) -> None:
        """Take up what nobody is at. Raises ProviderError: the database does not answer."""
        async with self._looking:  # two looks at once would both find the same one free
            for firing in begun:
                job = jobs.get(firing.job)
                if job is None or kind_of(job) not in self._works or firing.id in self._tasks:
                    continue
                if await self._claim(firing.id):
                    self._tasks[firing.id] = asyncio.create_task(self._drive(job, firing), name=f"job-{firing.id}")
        if self._tasks and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renewing())

    async def stop(self) -> None:
        """End here; another replica goes on at once, or the next start."""
        tasks = [*self._tasks.values(), *([self._renewal] if self._renewal is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._db.run(lambda tx: firings.release(tx, self._owner))
        except SlipwayError as error:
            log.warning("job_leases_not_released", error=error.message)

    async def _claim(self, firing_id: int) -> bool:
        at = self._clock()
        return await self._db.run(lambda tx: firings.claim(tx, firing_id, self._owner, at, LEASE))

    async def _renewing(self) -> None:
        while self._tasks:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            for firing_id, task in list(self._tasks.items()):
                try:
                    if not await self._claim(firing_id):
                        task.cancel()  # we were paused, and another replica took over
                except SlipwayError as error:
                    log.warning("job_lease_not_renewed", error=error.message)

    async def _drive(self, job: Periodic, firing: Firing) -> None:
        try:
            while True:
                result = await self._once(job, firing)
                if result.outcome != RUNNING:
                    await self._close(firing, result.outcome, result.detail)
                    return
                await asyncio.sleep(result.again.total_seconds())
                if not await self._claim(firing.id):
                    return
        except SlipwayError as error:  # the database is away: whoever sees it again goes on
            log.warning("job_not_recorded", job=job.name, error=error.message)
        finally:
            self._tasks.pop(firing.id, None)

    async def _once(self, job: Periodic, firing: Firing) -> Result:
        try:
            return await self._works[kind_of(job)](job, firing)
        except ProviderRejected as error:
            return Result("failed", error.sentence())
        except ProviderError as error:
            if self._clock() - firing.started_at < PATIENCE:
                return Result(RUNNING, again=timedelta(seconds=PAUSE))
            return Result("failed", error.sentence())
        except SlipwayError as error:
            return Result("refused", error.sentence())
        except Exception:
            log.exception("job_stumbled", job=job.name)
            return Result("errored", "Slipway itself stumbled here; its log has the details.")
