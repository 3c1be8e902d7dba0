"""What people asked, stored before their platform is answered: a crash loses nothing and a repeat adds nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, bindparam, or_, select, text, update

from bot.store.database import Tx, UtcDateTime
from bot.store.leases import database_time_after, lease_end, now, now_of
from bot.store.many import InsertMany
from bot.store.prepared import InsertOnce, Prepared
from bot.store.tables import inbox


@dataclass(frozen=True, slots=True)
class InboxRow:
    """One stored intent. outcome and answer are set once it is done."""

    id: int
    platform: str
    event_id: str
    kind: str
    payload: Mapping[str, Any]
    received_at: datetime
    done_at: datetime | None
    attempts: int
    outcome: str
    answer: str


KINDS = ("command", "click", "push", "merge_request")
LEASE = timedelta(seconds=10)
"""How long a silent replica keeps an intent it is at."""


_INSERT = InsertOnce(inbox, [inbox.c.platform, inbox.c.event_id])
_FINISH_ALL = text(
    """
    UPDATE inbox SET done_at = v.at, outcome = v.outcome, answer = v.answer
    FROM json_to_recordset(CAST(:done AS json)) AS v(id bigint, at timestamptz, outcome text, answer text)
    WHERE inbox.id = ANY(:ids) AND inbox.id = v.id AND inbox.done_at IS NULL
    RETURNING inbox.id
    """
)
"""The ids are named twice: of the JSON's rows PostgreSQL knows nothing, and would read the whole table for them."""
_FINISH = Prepared(update(inbox).where(inbox.c.id == bindparam("the_id"), inbox.c.done_at.is_(None)))


_INSERT_ALL = InsertMany(
    inbox,
    [inbox.c.platform, inbox.c.event_id],
    [inbox.c.id, inbox.c.platform, inbox.c.event_id],
    {"lease_until": database_time_after(LEASE)},
)
"""For PostgreSQL, whose clock says until when they are held."""


def put(
    tx: Tx, platform: str, event_id: str, kind: str, payload: Mapping[str, Any], at: datetime, owner: str = ""
) -> int | None:
    """Store an intent and return its id, or None if this event is here already. owner: who is at it from now on."""
    values = {"platform": platform, "event_id": event_id, "kind": kind, "payload": dict(payload), "received_at": at}
    if owner and tx.dialect.name == "sqlite":
        return _INSERT.run(tx, values | {"lease_owner": owner, "lease_until": at + LEASE})
    if owner:
        made = _INSERT_ALL.run(tx, [values | {"lease_owner": owner}])
        return made[0].id if made else None
    return _INSERT.run(tx, values)


@dataclass(frozen=True, slots=True)
class NewIntent:
    """What `put_all` stores."""

    platform: str
    event_id: str
    kind: str
    payload: Mapping[str, Any]
    at: datetime


def put_all(tx: Tx, new: Sequence[NewIntent], owner: str) -> list[int | None]:
    """As `put`, for many at once, each held by `owner`."""
    if tx.dialect.name == "sqlite":
        return [put(tx, one.platform, one.event_id, one.kind, one.payload, one.at, owner) for one in new]
    values = [
        {
            "platform": one.platform,
            "event_id": one.event_id,
            "kind": one.kind,
            "payload": dict(one.payload),
            "received_at": one.at,
            "lease_owner": owner,
        }
        for one in new
    ]
    made = {(row.platform, row.event_id): row.id for row in _INSERT_ALL.run(tx, values)}
    # Of two with one event the first is new and the second its repeat.
    return [made.pop((one.platform, one.event_id), None) for one in new]


def fresh(inbox_id: int, platform: str, event_id: str, kind: str, payload: Mapping[str, Any]) -> InboxRow:
    """An intent as it is right after it was stored, without asking for it again."""
    return InboxRow(inbox_id, platform, event_id, kind, payload, datetime.now(UTC), None, 0, "", "")


def get(tx: Tx, inbox_id: int) -> InboxRow | None:
    """One intent, or None."""
    row = tx.execute(select(inbox).where(inbox.c.id == inbox_id)).one_or_none()
    return _row(row) if row is not None else None


def by_event(tx: Tx, platform: str, event_id: str) -> InboxRow | None:
    """The intent of an event, or None."""
    row = tx.execute(select(inbox).where(inbox.c.platform == platform, inbox.c.event_id == event_id)).one_or_none()
    return _row(row) if row is not None else None


def _free(now: ColumnElement[datetime]) -> ColumnElement[bool]:
    free = or_(inbox.c.lease_until.is_(None), inbox.c.lease_until < now)
    # What a newer replica stored is left to it.
    return inbox.c.done_at.is_(None) & inbox.c.kind.in_(KINDS) & free


@cache
def _is_free(database: str) -> Any:
    return select(select(inbox.c.id).where(_free(now_of(database, bindparam("at", type_=UtcDateTime())))).exists())


def is_free(tx: Tx, at: datetime) -> bool:
    """Whether there are intents nobody is at."""
    return bool(tx.execute(_is_free(tx.dialect.name), {"at": at}).scalar_one())


def claim(tx: Tx, owner: str, at: datetime, limit: int = 200) -> list[int]:
    """Take the intents nobody is at, oldest first; returns their ids."""
    picked = select(inbox.c.id).where(_free(now(tx, at))).order_by(inbox.c.id).limit(limit)
    if tx.dialect.name != "sqlite":
        picked = picked.with_for_update(skip_locked=True)
    ids = list(tx.execute(picked).scalars())
    if ids:
        taken = {"lease_owner": owner, "lease_until": lease_end(tx, at, LEASE)}
        tx.execute(update(inbox).where(inbox.c.id.in_(ids)).values(taken))
    return ids


def begin_again(tx: Tx, inbox_id: int) -> None:
    """Count one more try of an intent that was begun before."""
    tx.execute(update(inbox).where(inbox.c.id == inbox_id).values(attempts=inbox.c.attempts + 1))


def renew(tx: Tx, owner: str, ids: Collection[int], at: datetime) -> None:
    """Lengthen the leases that are ours."""
    mine = inbox.c.id.in_(list(ids)) & (inbox.c.lease_owner == owner)
    tx.execute(update(inbox).where(mine).values(lease_until=lease_end(tx, at, LEASE)))


def release(tx: Tx, owner: str) -> None:
    """Let go of everything that is ours."""
    mine = (inbox.c.lease_owner == owner) & inbox.c.done_at.is_(None)
    tx.execute(update(inbox).where(mine).values(lease_owner=None, lease_until=None))


def forget_leases(tx: Tx) -> None:
    """Free every lease. Only for SQLite at start: the one process that could hold them is gone."""
    tx.execute(update(inbox).where(inbox.c.done_at.is_(None)).values(lease_owner=None, lease_until=None))


def finish(tx: Tx, inbox_id: int, outcome: str, answer: str, at: datetime) -> bool:
    """Mark it done; False if it was done before."""
    values = {"the_id": inbox_id, "done_at": at, "outcome": outcome, "answer": answer}
    return _FINISH.run(tx, values).rowcount == 1


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an intent."""

    id: int
    outcome: str
    answer: str
    at: datetime


def finish_all(tx: Tx, done: Sequence[Done]) -> set[int]:
    """As `finish`, for many at once; the ids of those that were not done before."""
    if tx.dialect.name == "sqlite":
        return {one.id for one in done if finish(tx, one.id, one.outcome, one.answer, one.at)}
    values = [{"id": one.id, "at": one.at.isoformat(), "outcome": one.outcome, "answer": one.answer} for one in done]
    ids = [one.id for one in done]
    return set(tx.execute(_FINISH_ALL, {"done": json.dumps(values), "ids": ids}).scalars())


def _row(row: Any) -> InboxRow:
    return InboxRow(
        id=row.id,
        platform=row.platform,
        event_id=row.event_id,
        kind=row.kind,
        payload=row.payload,
        received_at=row.received_at,
        done_at=row.done_at,
        attempts=row.attempts,
        outcome=row.outcome or "",
        answer=row.answer or "",
    )
