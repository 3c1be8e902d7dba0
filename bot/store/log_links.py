"""Links to whole logs: who was given one, to what, and until when. The link's secret is kept as its hash alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Column, Integer, String, Table, delete, insert, select

from bot.store.database import Tx, UtcDateTime, metadata

log_links = Table(
    "log_links",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("deployment_id", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("stage", String(200), nullable=False, server_default=""),
    Column("person", String(128), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)


@dataclass(frozen=True, slots=True)
class LogLink:
    """stage: empty for the whole run. person: whose right to read it is checked each time."""

    deployment_id: int
    stage: str
    person: str
    expires_at: datetime


def put(tx: Tx, token: str, link: LogLink) -> None:
    """Keep a new link."""
    values = {name: getattr(link, name) for name in LogLink.__dataclass_fields__}
    tx.execute(insert(log_links).values(token_hash=_hash(token), **values))


def find(tx: Tx, token: str, at: datetime) -> LogLink | None:
    """The link of a token while it lasts, or None."""
    row = tx.execute(
        select(log_links).where(log_links.c.token_hash == _hash(token), log_links.c.expires_at > at)
    ).one_or_none()
    return LogLink(row.deployment_id, row.stage, row.person, row.expires_at) if row is not None else None


def forget(tx: Tx, before: datetime) -> None:
    """Drop links that are over."""
    tx.execute(delete(log_links).where(log_links.c.expires_at < before))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
