"""The archive: deployments long over, each as one compressed record, out of the tables that every command reads.

A record holds the row, what the deployment went through, its votes and its messages. The audit log is not touched.
What commands look for stays where it is: the newest good ones of every target, however old.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Column, Index, Integer, LargeBinary, String, Table, delete, insert, select, text

from bot.store.database import Tx, UtcDateTime, metadata
from bot.store.tables import BigId, deployments, outbox, transitions, votes

BATCH = 200
"""Rows looked at in one transaction, so that no lock is held for long."""
KEPT = 20
"""Newer good deployments of the same target that there must be before one is archived."""

archived_deployments = Table(
    "archived_deployments",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=False),
    Column("service", String(128), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),
    # How the record is written, so that a later version can write another way.
    Column("form", Integer, nullable=False, server_default=text("1")),
    Column("record", LargeBinary, nullable=False),
    Index("ix_archived_deployments_target", "service", "environment", "id"),
    Index("ix_archived_deployments_service", "service", "id"),
    Index("ix_archived_deployments_environment", "environment", "id"),
)

_PARTS = {"transitions": transitions, "votes": votes, "messages": outbox}


@dataclass(frozen=True, slots=True)
class Record:
    """One archived deployment: rows with the columns of the tables they came from."""

    deployment: Any
    transitions: Sequence[Any]
    votes: Sequence[Any]
    messages: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction of archiving did. next: the number to go on after, None when all were looked at."""

    moved: int
    next: int | None


def archive(tx: Tx, before: datetime, after: int = 0, limit: int = BATCH) -> Step:
    """Move deployments that ended before that, among the next so many numbers after `after`."""
    c = deployments.c
    old = select(c.id).where(c.ended_at < before, c.id > after).order_by(c.id).limit(limit)
    looked = list(tx.execute(old).scalars())
    if not looked:
        return Step(0, None)
    ids = [number for number in looked if _is_superseded(tx, number) and not _is_awaited(tx, number)]
    if ids:
        _move(tx, ids)
    return Step(len(ids), looked[-1])


def may_archive(tx: Tx) -> bool:
    """Whether this account may take history out of its tables; the small one of `roles.sql` may not."""
    if tx.dialect.name == "sqlite":
        return True
    query = text("SELECT has_table_privilege('transitions', 'DELETE')")
    return bool(tx.execute(query).scalar_one())


def find(tx: Tx, number: int) -> Record | None:
    """An archived deployment, or None."""
    query = select(archived_deployments.c.record).where(archived_deployments.c.id == number)
    packed = tx.execute(query).scalar_one_or_none()
    return _unpacked(packed) if packed is not None else None


def older(tx: Tx, service: str, environment: str, before: int | None, limit: int) -> list[Any]:
    """Rows of the newest archived deployments of a service or environment, newest first."""
    c = archived_deployments.c
    query = select(c.record).order_by(c.id.desc()).limit(limit)
    for column, wanted in ((c.service, service), (c.environment, environment)):
        query = query.where(column == wanted) if wanted else query
    if before is not None:
        query = query.where(c.id < before)
    return [_unpacked(packed).deployment for packed in tx.execute(query).scalars()]


def _is_superseded(tx: Tx, number: int) -> bool:
    c, newer = deployments.c, deployments.alias()
    own = select(c.service, c.environment).where(c.id == number)
    row = tx.execute(own).one()
    query = select(newer.c.id).where(
        newer.c.service == row.service,
        newer.c.environment == row.environment,
        newer.c.id > number,
        newer.c.state == "succeeded",
    )
    return tx.execute(query.order_by(newer.c.id).offset(KEPT - 1).limit(1)).first() is not None


def _is_awaited(tx: Tx, number: int) -> bool:
    """Whether a message about it has not arrived yet."""
    behind = (outbox.c.wanted > outbox.c.sent) & outbox.c.dead.is_(False)
    return tx.execute(select(outbox.c.id).where(outbox.c.deployment_id == number, behind).limit(1)).first() is not None


def _move(tx: Tx, ids: Sequence[int]) -> None:
    rows = {row.id: row for row in tx.execute(select(deployments).where(deployments.c.id.in_(ids)))}
    parts = {name: _by_deployment(tx, table, ids) for name, table in _PARTS.items()}
    records = [
        {
            "id": number,
            "service": row.service,
            "environment": row.environment,
            "ended_at": row.ended_at,
            "record": _packed(row, {name: found.get(number, []) for name, found in parts.items()}),
        }
        for number, row in rows.items()
    ]
    tx.execute(insert(archived_deployments), records)
    for table in _PARTS.values():
        tx.execute(delete(table).where(table.c.deployment_id.in_(ids)))
    tx.execute(delete(deployments).where(deployments.c.id.in_(ids)))


def _by_deployment(tx: Tx, table: Table, ids: Sequence[int]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in tx.execute(select(table).where(table.c.deployment_id.in_(ids)).order_by(table.c.id)):
        found.setdefault(row.deployment_id, []).append(row)
    return found


def _packed(row: Any, parts: Mapping[str, Iterable[Any]]) -> bytes:
    record = {"deployment": _plain(row)} | {name: [_plain(one) for one in rows] for name, rows in parts.items()}
    return zlib.compress(json.dumps(record, ensure_ascii=False).encode())


def _plain(row: Any) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row._mapping.items()}


def _unpacked(packed: bytes) -> Record:
    record = json.loads(zlib.decompress(packed))
    parts = {name: [_row(table, one) for one in record[name]] for name, table in _PARTS.items()}
    return Record(_row(deployments, record["deployment"]), **parts)


def _row(table: Table, values: Mapping[str, Any]) -> SimpleNamespace:
    """With the columns of today: one that is new since has no value."""
    dated = {column.name for column in table.c if isinstance(column.type, UtcDateTime)}
    known = {column.name: values.get(column.name) for column in table.c}
    return SimpleNamespace(
        **{
            name: datetime.fromisoformat(value) if name in dated and value is not None else value
            for name, value in known.items()
        }
    )
