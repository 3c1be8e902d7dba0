"""Leases by the database's clock, never the replicas'; on SQLite there is one process, and its clock."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, literal

from bot.store.database import Tx, UtcDateTime


def now(tx: Tx, at: datetime) -> ColumnElement[datetime]:
    """The present instant. at: the process's, for SQLite."""
    return now_of(tx.dialect.name, literal(at, UtcDateTime()))


def now_of(database: str, at: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """As `now`, for a statement that is kept: of `sqlite` or `postgresql`."""
    return at if database == "sqlite" else func.clock_timestamp(type_=UtcDateTime())


def lease_end(tx: Tx, at: datetime, lease: timedelta) -> ColumnElement[datetime]:
    """When a lease taken now runs out."""
    if tx.dialect.name == "sqlite":
        return literal(at + lease, UtcDateTime())
    return database_time_after(lease)


def database_time_after(lease: timedelta) -> ColumnElement[datetime]:
    """That long from now by PostgreSQL's clock."""
    return func.clock_timestamp(type_=UtcDateTime()) + func.make_interval(0, 0, 0, 0, 0, 0, lease.total_seconds())
