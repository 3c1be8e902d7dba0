"""Our own periodic jobs: listed, paused and run as those of the catalog, each occurrence once over all replicas.

A job of the catalog with the same name takes the place of one of these: so its time or its channel is changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from bot.catalog.model import Catalog, Periodic, SourceLine
from bot.schedule.works import Result, Work
from bot.store.firings import Firing


@dataclass(frozen=True, slots=True)
class OwnJob:
    """cron in the catalog's zone, or every; digest: what it posts, else `work` says what it does."""

    name: str
    work: str
    cron: str = ""
    every: timedelta | None = None
    digest: str = ""
    missed: str = "skip"


OWN = (
    OwnJob("weekly-report", "the figures of the week", cron="0 9 * * mon", digest="weekly", missed="once"),
    OwnJob("drift-report", "what runs against what Git wants", cron="30 8 * * *", digest="drift"),
    OwnJob("lock-reminders", "remind holders of their locks", every=timedelta(minutes=30)),
    OwnJob("review-reminders", "remind of reviews that are owed", every=timedelta(minutes=30)),
    OwnJob("merge-requests", "check merge requests whose webhook was lost", every=timedelta(minutes=10)),
    OwnJob("calendars", "look for years that are not published", every=timedelta(hours=6)),
    OwnJob("retention", "forget what is over", every=timedelta(hours=1)),
    OwnJob("archive", "put away what is long over", cron="0 3 * * *"),
)


def own_jobs(catalog: Catalog) -> dict[str, Periodic]:
    """By name, with those of the catalog over them."""
    owners = catalog.admins or catalog.release_managers
    own = {
        one.name: Periodic(
            name=one.name,
            command="",
            run_as="slipway",
            zone=catalog.zone,
            source=SourceLine("Slipway", 0),
            cron=one.cron,
            every=one.every,
            missed=one.missed,
            channels=catalog.channels,
            owners=owners,
            digest=one.digest,
            work=one.work,
        )
        for one in OWN
    }
    return own | dict(catalog.periodics)


def small_work(does: Callable[[], Awaitable[object]]) -> Work:
    """A work of a function that is done when it returns, and may be run twice."""

    async def work(_job: Periodic, _firing: Firing) -> Result:
        done = await does()
        return Result(detail=f"{done}" if isinstance(done, int) and done else "")

    return work


def works_by_job(does: Mapping[str, Callable[[], Awaitable[object]]]) -> dict[str, Work]:
    """Name of an own job -> function, as works."""
    named = {one.name: one.work for one in OWN}
    return {named[name]: small_work(each) for name, each in does.items()}
