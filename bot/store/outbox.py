"""What people shall see, level-triggered: one row per message, `wanted` against `sent`.

Any number of changes between two sendings is one edit, the newest content is what is sent, and a row is behind until
its newest content has arrived: so nothing is stale, nothing final is dropped, nothing is posted twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import JSON, Integer, String, and_, bindparam, case, column, func, select, text, true, update

from bot.store import audit
from bot.store.audit import AuditEntry
from bot.store.database import Tx, at_end
from bot.store.many import InsertMany
from bot.store.prepared import InsertOnce, Prepared
from bot.store.senders import Place
from bot.store.signals import Topic, announce
from bot.store.tables import deployments, outbox

ANSWER = "reply:"
"""How the keys of answers begin."""


class Notice(StrEnum):
    """What a row shows. Only MESSAGE has fixed content; the others are rendered from the deployment when sent."""

    MESSAGE = "message"
    DEPLOYMENT = "deployment"
    APPROVAL = "approval"
    FAILURE = "failure"


KINDS = tuple(Notice)
"""A kind of a newer replica is left to it."""


@dataclass(frozen=True, slots=True)
class NewNotice:
    """A message to be sent. key: unique for ever; priority: higher is sent first within a place."""

    key: str
    platform: str
    place: str
    kind: Notice
    deployment_id: int | None = None
    thread: str = ""
    content: Mapping[str, Any] | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message as it stands. ref: the platform's id of the posted message, empty before.

    ended: whether its deployment has; only `due_in` tells.
    """

    id: int
    key: str
    platform: str
    place: str
    thread: str
    kind: Notice
    deployment_id: int | None
    content: Mapping[str, Any] | None
    wanted: int
    sent: int
    ref: str
    last_hash: str
    attempts: int
    next_at: datetime
    created_at: datetime
    dead: bool
    error: str
    ended: bool = False


_INSERT = InsertOnce(outbox, [outbox.c.key])
_INSERT_MANY = InsertMany(outbox, [outbox.c.key])
_KNOWN = select(outbox.c.key).where(outbox.c.key.in_(bindparam("keys", expanding=True)))
_ARRIVED = bindparam("arrived", type_=Integer)
_SENT = Prepared(
    update(outbox)
    .where(outbox.c.id == bindparam("the_id"))
    # Never backwards: two senders may overlap for a moment.
    .values(sent=case((outbox.c.sent > _ARRIVED, outbox.c.sent), else_=_ARRIVED))
)
_SENT_ALL = text(
    """
    WITH locked AS (SELECT id FROM outbox WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE)
    UPDATE outbox SET sent = greatest(sent, v.arrived), ref = v.ref, last_hash = v.last_hash, attempts = 0, error = ''
    FROM locked JOIN json_to_recordset(CAST(:sent AS json)) AS v(id bigint, arrived int, ref text, last_hash text)
    USING (id) WHERE outbox.id = locked.id
    """
)
"""In one order, as whoever touches the cards of many deployments locks them."""
# Built once: making a statement costs more than running it.
_BEHIND = and_(outbox.c.wanted > outbox.c.sent, outbox.c.dead.is_(False), outbox.c.kind.in_(KINDS))
_PLACES = (
    select(outbox.c.platform, outbox.c.place, func.min(outbox.c.next_at))
    .where(_BEHIND, outbox.c.platform.in_(bindparam("platforms", expanding=True)))
    .group_by(outbox.c.platform, outbox.c.place)
    .order_by(func.max(outbox.c.priority).desc(), func.min(outbox.c.id))
)
_ORDER = (outbox.c.priority.desc(), deployments.c.ended_at.is_(None), outbox.c.id)
_ROWS = select(outbox, deployments.c.ended_at).outerjoin(deployments, deployments.c.id == outbox.c.deployment_id)
_DUE_IN = (
    _ROWS.where(_BEHIND, outbox.c.platform == bindparam("the_platform"), outbox.c.place == bindparam("the_place"))
    .order_by(*_ORDER)
    .limit(bindparam("at_most"))
)


@cache
def _due_in_all() -> Any:
    """`_DUE_IN` for any number of places, each with its own limit."""
    shapes = (column("platform", String), column("place", String), column("at_most", Integer))
    given = func.json_to_recordset(bindparam("places", type_=JSON)).table_valued(*shapes)
    given = given.render_derived("given", with_types=True)
    here = (_BEHIND, outbox.c.platform == given.c.platform, outbox.c.place == given.c.place)
    first = _ROWS.where(*here).order_by(*_ORDER).limit(given.c.at_most).lateral("behind")
    return select(first).select_from(given.join(first, true()))


def put(tx: Tx, notice: NewNotice, at: datetime) -> bool:
    """Add a message; False: its key is here already."""
    return _put(tx, notice, at, at) is not None


def put_all(tx: Tx, notices: Iterable[NewNotice], at: datetime) -> None:
    """Add messages whose keys are not here yet, at the end of the transaction, together with all others of it."""
    for notice in notices:
        at_end(tx, _put_missing, _values(notice, at, at))


def _put_missing(tx: Tx, wanted: list[dict[str, Any]]) -> None:
    by_key = {values["key"]: values for values in reversed(wanted)}
    if tx.dialect.name == "sqlite":
        for values in by_key.values():
            _INSERT.run(tx, values)
        return
    # As a rule they are here: a move names the cards that its deployment has had from the beginning.
    known = set(tx.execute(_KNOWN, {"keys": list(by_key)}).scalars())
    _INSERT_MANY.run(tx, [by_key[key] for key in sorted(by_key.keys() - known)])


def put_fresh(tx: Tx, notice: NewNotice, at: datetime) -> None:
    """As `put`, at the end of the transaction with all others of it; for a key that as a rule nobody has yet."""
    at_end(tx, _put_unless_there, _values(notice, at, at))


def _put_unless_there(tx: Tx, wanted: list[dict[str, Any]]) -> None:
    # In one order, so that two replicas which put the same ones do not wait for each other.
    _INSERT_MANY.run(tx, sorted(wanted, key=itemgetter("key")))


def show(tx: Tx, notice: NewNotice, at: datetime) -> None:
    """Add a message with content, or have the one of that key show this content from now on."""
    if put(tx, notice, at):
        return
    values = {"content": notice.content, "wanted": outbox.c.wanted + 1}
    tx.execute(update(outbox).where(outbox.c.key == notice.key, outbox.c.dead.is_(False)).values(values))


def put_held(tx: Tx, notice: NewNotice, at: datetime, until: datetime) -> OutboxRow | None:
    """Add a message that its maker sends by itself: nobody else sees it before `until`. None: it is here already."""
    number = _put(tx, notice, at, until)
    if number is None:
        return None
    return OutboxRow(
        id=number,
        key=notice.key,
        platform=notice.platform,
        place=notice.place,
        thread=notice.thread,
        kind=notice.kind,
        deployment_id=notice.deployment_id,
        content=notice.content,
        wanted=1,
        sent=0,
        ref="",
        last_hash="",
        attempts=0,
        next_at=until,
        created_at=at,
        dead=False,
        error="",
    )


def let_go(tx: Tx, held: Sequence[OutboxRow], at: datetime) -> None:
    """Messages whose maker could not send them: everybody may, unless it was put off meanwhile."""
    for row in held:
        mine = and_(outbox.c.id == row.id, outbox.c.next_at == row.next_at)
        tx.execute(update(outbox).where(mine).values(next_at=at))


def forget_holds(tx: Tx, at: datetime) -> None:
    """Let go of what the process before held. Only for SQLite at start: nobody else can hold anything."""
    held = and_(outbox.c.wanted > outbox.c.sent, outbox.c.attempts == 0, outbox.c.next_at > at)
    tx.execute(update(outbox).where(held).values(next_at=at))


def _put(tx: Tx, notice: NewNotice, at: datetime, next_at: datetime) -> int | None:
    return _INSERT.run(tx, _values(notice, at, next_at))


def _values(notice: NewNotice, at: datetime, next_at: datetime) -> dict[str, Any]:
    return {
        "key": notice.key,
        "platform": notice.platform,
        "place": notice.place,
        "thread": notice.thread,
        "kind": notice.kind.value,
        "deployment_id": notice.deployment_id,
        "content": dict(notice.content) if notice.content is not None else None,
        "priority": notice.priority,
        "next_at": next_at,
        "created_at": at,
    }


def hand_over(tx: Tx) -> None:
    """Have the other replicas look, because this process sends nothing (more).

    Otherwise nobody is told: whoever stores a message sends it, unless it dies, and then the others find it in time.
    """
    announce(tx, Topic.OUTBOX)


def places_behind(tx: Tx, platforms: list[str]) -> list[tuple[str, str, datetime]]:
    """Platform, place and when the first message that is behind there may go, of every place where one is."""
    return [(row[0], row[1], row[2]) for row in tx.execute(_PLACES, {"platforms": platforms})]


def due_in(tx: Tx, platform: str, place: str, limit: int = 1) -> list[OutboxRow]:
    """The first messages of a place that are behind: by priority, then those about ended deployments, then by age."""
    values = {"the_platform": platform, "the_place": place, "at_most": limit}
    return [replace(_row(row), ended=row.ended_at is not None) for row in tx.execute(_DUE_IN, values)]


def due_in_all(tx: Tx, places: Mapping[Place, int]) -> dict[Place, list[OutboxRow]]:
    """As `due_in`, for many places at once: place -> its limit. A place where nothing is behind is left out."""
    if tx.dialect.name == "sqlite":
        found = {place: due_in(tx, *place, limit=limit) for place, limit in places.items()}
        return {place: rows for place, rows in found.items() if rows}
    given = [{"platform": name, "place": place, "at_most": limit} for (name, place), limit in places.items()]
    behind: dict[Place, list[OutboxRow]] = {}
    rows = tx.execute(_due_in_all(), {"places": given}).all()
    for row in sorted(rows, key=lambda row: (-row.priority, row.ended_at is None, row.id)):
        behind.setdefault((row.platform, row.place), []).append(replace(_row(row), ended=row.ended_at is not None))
    return behind


@dataclass(frozen=True, slots=True)
class Sent:
    """The content of `row.wanted` has arrived; what was wanted since stays to be sent.

    at: when it was posted or edited; None: it was there already.
    """

    row: OutboxRow
    ref: str
    digest: str
    at: datetime | None = None


def sent_all(tx: Tx, arrived: Sequence[Sent]) -> None:
    """Write down what has arrived, on record where it was posted. An answer is on record with what it answers."""
    if tx.dialect.name == "sqlite":
        for one in arrived:
            values = {"the_id": one.row.id, "arrived": one.row.wanted, "ref": one.ref, "last_hash": one.digest}
            _SENT.run(tx, values | {"attempts": 0, "error": ""})
    elif arrived:
        given = {
            one.row.id: {"id": one.row.id, "arrived": one.row.wanted, "ref": one.ref, "last_hash": one.digest}
            for one in arrived
        }
        tx.execute(_SENT_ALL, {"sent": json.dumps([*given.values()]), "ids": [*given]})
    for row, ref, at in ((one.row, one.ref, one.at) for one in arrived):
        if at is not None and not row.ref and not row.key.startswith(ANSWER):
            said = f"{row.kind.value} to {row.platform} {row.place} as {ref}"
            audit.append_at_end(tx, _entry(row, at, "posted", said))


def refused(tx: Tx, row: OutboxRow, error: str, at: datetime) -> None:
    """As `bury`, and on record: somebody was not told."""
    bury(tx, row, error)
    said = f"{row.kind.value} to {row.platform} {row.place} was refused: {error}"
    audit.append_at_end(tx, _entry(row, at, "refused", said))


def _entry(row: OutboxRow, at: datetime, outcome: str, detail: str) -> AuditEntry:
    subject = f"d-{row.deployment_id}" if row.deployment_id is not None else row.key
    return AuditEntry(at, "slipway", "message:post", subject[:255], outcome, "", detail[:1000])


def postpone(tx: Tx, row: OutboxRow, next_at: datetime, error: str) -> None:
    """Not delivered: try again at `next_at`."""
    statement = update(outbox).where(outbox.c.id == row.id)
    tx.execute(statement.values(attempts=outbox.c.attempts + 1, next_at=next_at, error=error[:500]))


def bury(tx: Tx, row: OutboxRow, error: str) -> None:
    """Never deliverable: kept for the record, not tried again."""
    tx.execute(update(outbox).where(outbox.c.id == row.id).values(dead=True, error=error[:500]))


def by_ref(tx: Tx, platform: str, ref: str) -> OutboxRow | None:
    """The message a platform knows by that id, or None."""
    query = select(outbox).where(outbox.c.platform == platform, outbox.c.ref == ref, outbox.c.kind.in_(KINDS)).limit(1)
    row = tx.execute(query).one_or_none()
    return _row(row) if row is not None else None


def of_deployment(tx: Tx, deployment_id: int) -> list[OutboxRow]:
    """Every message about one deployment."""
    query = (
        select(outbox).where(outbox.c.deployment_id == deployment_id, outbox.c.kind.in_(KINDS)).order_by(outbox.c.id)
    )
    return [_row(row) for row in tx.execute(query)]


def keys_about(tx: Tx, ids: Sequence[int]) -> dict[int, frozenset[str]]:
    """Of each of these deployments: the keys of the messages about it."""
    found: dict[int, set[str]] = {}
    query = select(outbox.c.deployment_id, outbox.c.key).where(outbox.c.deployment_id.in_(list(ids)))
    for row in tx.execute(query):
        found.setdefault(row.deployment_id, set()).add(row.key)
    return {number: frozenset(keys) for number, keys in found.items()}


def lag(tx: Tx) -> int:
    """How many messages are behind."""
    query = select(func.count()).select_from(outbox).where(outbox.c.wanted > outbox.c.sent, outbox.c.dead.is_(False))
    return tx.execute(query).scalar_one()


def _row(row: Any) -> OutboxRow:
    return OutboxRow(
        id=row.id,
        key=row.key,
        platform=row.platform,
        place=row.place,
        thread=row.thread,
        kind=Notice(row.kind),
        deployment_id=row.deployment_id,
        content=row.content,
        wanted=row.wanted,
        sent=row.sent,
        ref=row.ref,
        last_hash=row.last_hash,
        attempts=row.attempts,
        next_at=row.next_at,
        created_at=row.created_at,
        dead=row.dead,
        error=row.error,
    )
