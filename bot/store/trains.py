"""The rows of release trains: created once, changed only under guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Integer, String, Table, Text, select, text, update

from bot.deployments.train_model import Data, Train, TrainState
from bot.store.database import Tx, UtcDateTime, insert_into, metadata
from bot.store.tables import BigId

trains = Table(
    "trains",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("idempotency_key", String(255), nullable=False, unique=True),
    Column("environment", String(64), nullable=False),
    Column("source", String(64), nullable=False, server_default=""),
    Column("requested_by", String(128), nullable=False),
    Column("origin", JSON, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("state", String(32), nullable=False),
    Column("version", Integer, nullable=False, server_default=text("0")),
    Column("data", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)
STATES = tuple(TrainState)


def create(tx: Tx, key: str, train: Train, at: datetime) -> tuple[Train, bool]:
    """Insert, or find the one this key made before. Returns it and whether it is new."""
    values = {
        "idempotency_key": key,
        "environment": train.environment,
        "source": train.source,
        "requested_by": train.requested_by,
        "origin": train.origin,
        "reason": train.reason,
        "state": train.state.value,
        "version": 0,
        "data": train.data.model_dump(mode="json"),
        "created_at": at,
        "ended_at": None if train.is_open else at,
    }
    statement = insert_into(tx, trains).values(values).on_conflict_do_nothing(index_elements=["idempotency_key"])
    made = tx.execute(statement.returning(trains.c.id)).scalar_one_or_none()
    row = tx.execute(select(trains).where(trains.c.idempotency_key == key)).one()
    return _train(row), made is not None


def get(tx: Tx, number: int) -> Train | None:
    """One train, or None."""
    row = tx.execute(select(trains).where(trains.c.id == number)).one_or_none()
    return _train(row) if row is not None else None


def unfinished(tx: Tx) -> Sequence[int]:
    """Numbers of the trains that are not at their end, oldest first; those of a newer Slipway are left to it."""
    query = select(trains.c.id).where(trains.c.ended_at.is_(None), trains.c.state.in_(STATES))
    return list(tx.execute(query.order_by(trains.c.id)).scalars())


def change(tx: Tx, seen: Train, now: Train, at: datetime) -> Train | None:
    """Write what it is now, guarded by the version last seen. None: somebody was first, nothing was changed."""
    values: Mapping[str, Any] = {
        "state": now.state.value,
        "version": seen.version + 1,
        "data": now.data.model_dump(mode="json"),
        "ended_at": None if now.is_open else at,
    }
    guard = (trains.c.id == seen.id) & (trains.c.version == seen.version)
    if tx.execute(update(trains).where(guard).values(values)).rowcount != 1:
        return None
    return get(tx, seen.id)


def _train(row: Any) -> Train:
    return Train(
        id=row.id,
        environment=row.environment,
        source=row.source,
        requested_by=row.requested_by,
        origin=row.origin,
        reason=row.reason,
        state=TrainState(row.state),
        version=row.version,
        data=Data.model_validate(row.data),
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
