"""What is over, for those who look back: read in pages, so that a long look holds nobody up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from bot.catalog.model import Kind
from bot.deployments.model import Deployment, State
from bot.store.database import Tx
from bot.store.deployments import KINDS, READ, as_deployment
from bot.store.tables import deployments, transitions

PAGE = 500


@dataclass(frozen=True, slots=True)
class Good:
    """A deployment that went well, as its neighbours need it."""

    commit: str
    kind: Kind
    ended_at: datetime


def ended(tx: Tx, start: datetime, end: datetime, after: int = 0, limit: int = PAGE) -> list[Deployment]:
    """Deployments that ended in `[start, end)` with a number above `after`, oldest first; builds alone are none."""
    query = (
        select(*READ)
        .where(deployments.c.ended_at >= start, deployments.c.ended_at < end, deployments.c.id > after)
        .where(deployments.c.kind != Kind.BUILD.value)
        .order_by(deployments.c.id)
        .limit(limit)
    )
    return [as_deployment(row) for row in tx.execute(query)]


def paths(tx: Tx, ids: Collection[int]) -> Mapping[int, Sequence[tuple[State, datetime]]]:
    """Of each deployment: the states it went through and when each began, in order."""
    found: defaultdict[int, list[tuple[State, datetime]]] = defaultdict(list)
    query = (
        select(transitions.c.deployment_id, transitions.c.to_state, transitions.c.at)
        .where(transitions.c.deployment_id.in_(list(ids)))
        .order_by(transitions.c.deployment_id, transitions.c.version)
    )
    for row in tx.execute(query):
        found[row.deployment_id].append((State(row.to_state), row.at))
    return found


def good_before(tx: Tx, service: str, environment: str, number: int) -> Good | None:
    """The newest succeeded deployment of a target before that one, or None."""
    return _neighbour(tx, service, environment, number, before=True)


def good_after(tx: Tx, service: str, environment: str, number: int) -> Good | None:
    """The first succeeded deployment of a target after that one, or None."""
    return _neighbour(tx, service, environment, number, before=False)


def _neighbour(tx: Tx, service: str, environment: str, number: int, before: bool) -> Good | None:
    c = deployments.c
    query = select(c.commit, c.kind, c.ended_at).where(
        c.service == service,
        c.environment == environment,
        c.state == State.SUCCEEDED.value,
        c.id < number if before else c.id > number,
    )
    row = tx.execute(query.order_by(c.id.desc() if before else c.id).limit(1)).one_or_none()
    if row is None:
        return None
    return Good(row.commit, Kind(row.kind) if row.kind in KINDS else Kind.NORMAL, row.ended_at)
