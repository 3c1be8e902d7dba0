"""What the clock has started: one row per job and occurrence, so that of all replicas one starts it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, Column, String, Table, Text, UniqueConstraint, delete, func, or_, select, update

from bot.store import leases
from bot.store.database import Tx, UtcDateTime, insert_into, metadata
from bot.store.tables import BigId

firings = Table(
    "firings",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("job", String(128), nullable=False),
    Column("fire_at", UtcDateTime, nullable=False),
    Column("cause", String(255), nullable=False, server_default=""),
    # running, or how it ended: a state of a deployment, accepted, refused, failed, errored, skipped, overlapped.
    Column("outcome", String(32), nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    # Of what works by itself: which replica is at it, and until when the others leave it alone.
    Column("lease_owner", String(64)),
    Column("lease_until", UtcDateTime),
    UniqueConstraint("job", "fire_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", String(128), primary_key=True),
    # Occurrences before it were never meant to run: the job was new, or paused.
    Column("since", UtcDateTime, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("paused_by", String(128), nullable=False, server_default=""),
)

RUNNING = "running"


@dataclass(frozen=True, slots=True)
class JobRow:
    """What is remembered of a job. last_at: its newest occurrence."""

    name: str
    since: datetime
    paused: bool
    paused_by: str
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Firing:
    """One occurrence. cause: why it ran at another time than its own, may be empty."""

    id: int
    job: str
    fire_at: datetime
    cause: str
    outcome: str
    detail: str
    started_at: datetime
    ended_at: datetime | None

    @property
    def event_id(self) -> str:
        """The key of its intent."""
        return f"{self.job}@{self.fire_at.isoformat()}"


def known(tx: Tx, names: Iterable[str], at: datetime) -> dict[str, JobRow]:
    """Remember jobs that are new, and return them all."""
    wanted = list(names)
    newest = select(func.max(firings.c.fire_at)).where(firings.c.job == jobs.c.name).scalar_subquery()
    query = select(jobs, newest.label("last_at")).where(jobs.c.name.in_(wanted))
    found = {row.name: _job(row) for row in tx.execute(query)}
    for name in wanted:
        if name not in found:
            tx.execute(insert_into(tx, jobs).values(name=name, since=at, paused=False).on_conflict_do_nothing())
            found[name] = JobRow(name, at, False, "", None)
    return found


def fire(
    tx: Tx, job: str, fire_at: datetime, at: datetime, *, cause: str = "", outcome: str = RUNNING, detail: str = ""
) -> Firing | None:
    """Record an occurrence as begun, or with an outcome as over; None: another replica has it."""
    statement = (
        insert_into(tx, firings)
        .values(
            job=job,
            fire_at=fire_at,
            cause=cause,
            outcome=outcome,
            detail=detail,
            started_at=at,
            ended_at=None if outcome == RUNNING else at,
        )
        .on_conflict_do_nothing()
        .returning(firings)
    )
    row = tx.execute(statement).one_or_none()
    return _firing(row) if row is not None else None


def claim(tx: Tx, firing_id: int, owner: str, at: datetime, lease: timedelta) -> bool:
    """Take the lease of what is not over, or lengthen our own; False: another replica has it, or it is over."""
    free = or_(firings.c.lease_until.is_(None), firings.c.lease_until < leases.now(tx, at))
    open_and_free = (
        (firings.c.id == firing_id) & firings.c.ended_at.is_(None) & (free | (firings.c.lease_owner == owner))
    )
    taken = {"lease_owner": owner, "lease_until": leases.lease_end(tx, at, lease)}
    return tx.execute(update(firings).where(open_and_free).values(taken)).rowcount == 1


def release(tx: Tx, owner: str) -> None:
    """Let go of everything that is ours."""
    mine = update(firings).where(firings.c.lease_owner == owner, firings.c.ended_at.is_(None))
    tx.execute(mine.values(lease_owner=None, lease_until=None))


def finish(tx: Tx, firing_id: int, outcome: str, detail: str, at: datetime) -> bool:
    """Record how it ended; False: somebody did."""
    statement = update(firings).where(firings.c.id == firing_id, firings.c.ended_at.is_(None))
    return tx.execute(statement.values(outcome=outcome, detail=detail[:1000], ended_at=at)).rowcount == 1


def running(tx: Tx, job: str = "") -> list[Firing]:
    """What is not over, oldest first; of one job if named."""
    query = select(firings).where(firings.c.ended_at.is_(None)).order_by(firings.c.id)
    query = query.where(firings.c.job == job) if job else query
    return [_firing(row) for row in tx.execute(query)]


def history(tx: Tx, job: str, limit: int = 10) -> list[Firing]:
    """The newest occurrences, newest first."""
    query = select(firings).where(firings.c.job == job).order_by(firings.c.id.desc()).limit(limit)
    return [_firing(row) for row in tx.execute(query)]


def pause(tx: Tx, job: str, by: str) -> None:
    """Start it no more until it is resumed."""
    tx.execute(update(jobs).where(jobs.c.name == job).values(paused=True, paused_by=by))


def resume(tx: Tx, job: str, at: datetime) -> None:
    """Go on from now; what came while it was paused was not meant to run."""
    tx.execute(update(jobs).where(jobs.c.name == job).values(paused=False, paused_by="", since=at))


def lock(tx: Tx, job: str) -> None:
    """Let nobody else start this job until the end of the transaction."""
    tx.execute(select(jobs.c.name).where(jobs.c.name == job).with_for_update()).all()


def forget(tx: Tx, before: datetime) -> int:
    """Delete what ended before that instant. Returns how many."""
    newest = select(func.max(firings.c.id)).group_by(firings.c.job)
    return tx.execute(delete(firings).where(firings.c.ended_at < before, firings.c.id.not_in(newest))).rowcount


def _job(row: Any) -> JobRow:
    return JobRow(row.name, row.since, row.paused, row.paused_by, row.last_at)


def _firing(row: Any) -> Firing:
    return Firing(row.id, row.job, row.fire_at, row.cause, row.outcome, row.detail, row.started_at, row.ended_at)
