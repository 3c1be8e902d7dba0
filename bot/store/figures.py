"""The figures that are read when Prometheus asks: a handful of queries on partial indexes, cheap at any history."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, select

from bot.metrics import Snapshot
from bot.store import firings
from bot.store.database import Tx
from bot.store.firings import RUNNING
from bot.store.tables import audit_head, deployments, inbox, outbox

GOOD_JOB = frozenset({RUNNING, "accepted", "succeeded", "skipped"})


def snapshot(tx: Tx, at: datetime, jobs: Collection[str] = ()) -> Snapshot:
    """Everything at once. jobs: names of the catalog, the only ones that are told."""
    by_state = select(deployments.c.state, func.count()).where(deployments.c.ended_at.is_(None))
    is_behind = (outbox.c.wanted > outbox.c.sent) & outbox.c.dead.is_(False)
    behind = select(func.count(), func.min(outbox.c.next_at)).where(is_behind)
    pending = select(func.count(), func.min(inbox.c.received_at)).where(inbox.c.done_at.is_(None))
    waiting, oldest = tx.execute(behind).one()
    asked, first = tx.execute(pending).one()
    return Snapshot(
        open_by_state={row[0]: row[1] for row in tx.execute(by_state.group_by(deployments.c.state))},
        outbox_behind=waiting,
        outbox_age=_age(oldest, at),
        inbox_pending=asked,
        inbox_age=_age(first, at),
        audit_entries=tx.execute(select(func.coalesce(func.max(audit_head.c.seq), 0))).scalar_one(),
        jobs=_jobs(tx, jobs),
    )


def _age(oldest: datetime | None, at: datetime) -> float:
    return max(0.0, (at - oldest).total_seconds()) if oldest is not None else 0.0


def _jobs(tx: Tx, names: Collection[str]) -> dict[str, tuple[float, bool]]:
    found = {}
    for name in names:
        for newest in firings.history(tx, name, 1):
            found[name] = newest.fire_at.timestamp(), newest.outcome in GOOD_JOB
    return found
