"""What people hold deployments up with: locks, and freezes set from a chat. Their past is in the audit log.

A lock has one row per thing locked, so that two people cannot hold it at once; `version` grows when it changes hands,
so that nobody releases a lock that is another one by now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    bindparam,
    delete,
    false,
    insert,
    or_,
    select,
    text,
    update,
)

from bot.store.database import Tx, UtcDateTime, insert_into, metadata
from bot.store.tables import BigId

locks = Table(
    "locks",
    metadata,
    # "pay/prod", "*/prod", "team:shop/*", "*/*": the thing locked.
    Column("what", String(300), primary_key=True),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("holder", String(128), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("since_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("warning", Boolean, nullable=False, server_default=false()),
    Column("exempt", JSON, nullable=False),
    Column("nagged_at", UtcDateTime),
)

freezes = Table(
    "freezes",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("name", String(100), nullable=False),
    Column("scope", JSON, nullable=False),
    Column("start_at", UtcDateTime, nullable=False),
    Column("end_at", UtcDateTime),
    Column("reason", Text, nullable=False, server_default=""),
    Column("exempt", JSON, nullable=False),
    Column("by", String(128), nullable=False),
    Column("lifted_at", UtcDateTime),
    Index("ix_freezes_name", "name"),
)


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock as stored. exempt: kinds that pass; warning: it only warns."""

    what: str
    holder: str
    reason: str
    since_at: datetime
    expires_at: datetime | None = None
    warning: bool = False
    exempt: tuple[str, ...] = ()
    version: int = 1
    nagged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChatFreeze:
    """A freeze from a chat as stored. scope: field of `Scope` -> patterns."""

    name: str
    scope: dict[str, list[str]]
    start_at: datetime
    end_at: datetime | None
    reason: str
    exempt: tuple[str, ...]
    by: str
    id: int = 0


def get_lock(tx: Tx, what: str) -> Lock | None:
    """The lock on exactly this, expired or not."""
    row = tx.execute(select(locks).where(locks.c.what == what)).one_or_none()
    return _lock(row) if row is not None else None


# Built once: making a statement costs more than running it, and every command asks for these.
ALL_LOCKS = select(locks).order_by(locks.c.what)
STANDING = (
    select(freezes)
    .where(freezes.c.lifted_at.is_(None), or_(freezes.c.end_at.is_(None), freezes.c.end_at > bindparam("at")))
    .order_by(freezes.c.id)
)


def all_locks(tx: Tx) -> list[Lock]:
    """Every lock, expired ones too, by what they lock."""
    return [_lock(row) for row in tx.execute(ALL_LOCKS)]


def take(tx: Tx, lock: Lock) -> bool:
    """Put a lock where there is none; False if somebody was first."""
    statement = insert_into(tx, locks).values(**_values(lock)).on_conflict_do_nothing(index_elements=["what"])
    # Not every driver counts the rows of an insert, so the row itself is asked for.
    return tx.execute(statement.returning(locks.c.what)).one_or_none() is not None


def replace_lock(tx: Tx, seen: Lock, lock: Lock) -> bool:
    """Put a lock in the place of the one seen; False if that has changed."""
    guard = (locks.c.what == seen.what) & (locks.c.version == seen.version)
    values = {**_values(lock), "version": seen.version + 1, "nagged_at": None}
    return tx.execute(update(locks).where(guard).values(**values)).rowcount == 1


def release(tx: Tx, seen: Lock) -> bool:
    """Take the lock away that was seen; False if it has changed."""
    return tx.execute(delete(locks).where(locks.c.what == seen.what, locks.c.version == seen.version)).rowcount == 1


def nagged(tx: Tx, seen: Lock, at: datetime) -> None:
    """Note that its holder was reminded."""
    guard = (locks.c.what == seen.what) & (locks.c.version == seen.version)
    tx.execute(update(locks).where(guard).values(nagged_at=at))


def freeze(tx: Tx, new: ChatFreeze) -> int:
    """Store a freeze; returns its number."""
    statement = insert(freezes).values(
        name=new.name,
        scope=new.scope,
        start_at=new.start_at,
        end_at=new.end_at,
        reason=new.reason,
        exempt=list(new.exempt),
        by=new.by,
    )
    key = tx.execute(statement).inserted_primary_key
    assert key is not None
    return int(key[0])


def standing_freezes(tx: Tx, at: datetime) -> list[ChatFreeze]:
    """Freezes that were not lifted and are not over."""
    return [_freeze(row) for row in tx.execute(STANDING, {"at": at})]


def lift(tx: Tx, freeze_id: int, at: datetime) -> bool:
    """End a freeze; False if somebody was first."""
    guard = (freezes.c.id == freeze_id) & freezes.c.lifted_at.is_(None)
    return tx.execute(update(freezes).where(guard).values(lifted_at=at)).rowcount == 1


def _values(lock: Lock) -> dict[str, object]:
    return {
        "what": lock.what,
        "holder": lock.holder,
        "reason": lock.reason,
        "since_at": lock.since_at,
        "expires_at": lock.expires_at,
        "warning": lock.warning,
        "exempt": list(lock.exempt),
    }


def _lock(row: Row[tuple[object, ...]]) -> Lock:
    return Lock(
        what=row.what,
        holder=row.holder,
        reason=row.reason,
        since_at=row.since_at,
        expires_at=row.expires_at,
        warning=row.warning,
        exempt=_words(row.exempt),
        version=row.version,
        nagged_at=row.nagged_at,
    )


def _freeze(row: Row[tuple[object, ...]]) -> ChatFreeze:
    return ChatFreeze(
        row.name, dict(row.scope), row.start_at, row.end_at, row.reason, _words(row.exempt), row.by, row.id
    )


def _words(value: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(str(one) for one in value or ())
