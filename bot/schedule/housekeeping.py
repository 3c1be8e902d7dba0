"""Our own periodic jobs, on APScheduler: the watchdog, intents left behind, and old run directories."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from bot.catalog.model import Catalog
from bot.clock import Clock
from bot.deployments.audience import personal_places
from bot.deployments.engine import Engine
from bot.deployments.model import Deployment
from bot.deployments.service import words
from bot.errors import ProviderError
from bot.store import audit, outbox
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.outbox import NewNotice, Notice
from bot.times import say_for

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

log = structlog.get_logger(__name__)

LATER = 2.0
"""Seconds after the start at which APScheduler is loaded and begins."""


class Watchdog:
    """Finds deployments that should have moved and did not, wakes them, and tells who asked and the admins, once."""

    def __init__(
        self,
        db: Database,
        engine: Engine,
        catalog: Callable[[], Catalog],
        platforms: tuple[str, ...],
        clock: Clock,
        quiet: timedelta,
        on_message: Callable[[], None],
    ) -> None:
        """quiet: how long a due deployment may stay untouched."""
        self._db = db
        self._engine = engine
        self._catalog = catalog
        self._platforms = platforms
        self._clock = clock
        self._quiet = quiet
        self._on_message = on_message

    async def look(self) -> int:
        """Look once. Returns how many are stuck."""
        at = self._clock()
        stuck = await self._db.read(lambda tx: rows.stuck(tx, at - self._quiet))
        for seen in stuck:
            log.error("deployment_stuck", deployment_id=seen.ref, state=seen.state.value)
            await self._db.run(partial(self._tell, seen=seen))
            self._engine.poke(seen.id)
        if stuck:
            self._on_message()
        return len(stuck)

    def _tell(self, tx: Tx, seen: Deployment) -> None:
        at = self._clock()
        catalog = self._catalog()
        since = say_for(at - seen.changed_at)
        text = (
            f"{seen.ref} ({seen.target} {seen.release_version}) has been {words(seen.state)} for {since} without a "
            f"sign of life. /status {seen.service} shows it; /cancel {seen.ref} ends it."
        )
        told = False
        for person in dict.fromkeys((seen.requested_by, *catalog.admins)):
            for platform, place in personal_places(catalog, person, self._platforms)[:1]:
                key = f"stuck:{seen.id}:{seen.version}:{platform}:{place}"
                content = {"text": text, "card": None}
                told |= outbox.put(tx, NewNotice(key, platform, place, Notice.MESSAGE, content=content), at)
        if told:
            audit.append(tx, AuditEntry(at, "watchdog", "deployment:stuck", seen.ref, seen.state.value, "stuck", text))


class Housekeeping:
    """Runs small jobs on their intervals; one that fails is logged and runs again."""

    def __init__(self) -> None:
        """Nothing is scheduled yet."""
        self._jobs: list[tuple[timedelta, str, Callable[[], Awaitable[None]]]] = []
        self._scheduler: BaseScheduler | None = None
        self._beginning: asyncio.Task[None] | None = None

    def every(self, interval: timedelta, name: str, job: Callable[[], Awaitable[object]]) -> None:
        """Schedule a job; two runs of one job never overlap."""

        async def run() -> None:
            try:
                await job()
            except ProviderError as error:
                log.warning("job_failed", job=name, error=error.message)
            except Exception:
                log.exception("job_stumbled", job=name)

        self._jobs.append((interval, name, run))

    def start(self) -> None:
        """Begin, a moment later: the first job is due after a minute, and the first command should not wait for it."""
        self._beginning = asyncio.create_task(self._begin())

    async def _begin(self) -> None:
        await asyncio.sleep(LATER)
        module = await asyncio.to_thread(importlib.import_module, "apscheduler.schedulers.asyncio")
        scheduler: BaseScheduler = module.AsyncIOScheduler(timezone="UTC")
        for interval, name, run in self._jobs:
            seconds = interval.total_seconds()
            scheduler.add_job(run, "interval", seconds=seconds, id=name, max_instances=1, coalesce=True, jitter=1)
        scheduler.start()
        self._scheduler = scheduler

    def stop(self) -> None:
        """Stop without waiting."""
        if self._beginning is not None:
            self._beginning.cancel()
        if self._scheduler is not None and self._scheduler.running:
            self._scheduler.shutdown(wait=False)
