"""The audit log: append-only, each entry chained to the one before by SHA-256.

The head row is locked as the last thing in a transaction, so the chain is one over all replicas and is held only for
the length of the commit. `verify` needs no secret and no other table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text, update

from bot.store.database import Tx, at_end, with_commit
from bot.store.many import InsertMany
from bot.store.prepared import Prepared
from bot.store.tables import audit, audit_head

GENESIS = "0" * 64
HEAD_ID = 1
RANK = 100
"""After everything else of a transaction: whoever has the head keeps all others waiting."""

_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
"""Made once: `json.dumps` with these wishes makes an encoder for every call."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to what, and what came of it.

    outcome: accepted, refused, failed, errored, or a state; code: a reason code, may be empty; detail: one sentence.
    """

    at: datetime
    actor: str
    action: str
    subject: str
    outcome: str
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry with its place in the chain."""

    seq: int
    entry: AuditEntry
    hash: str


def chained(previous: str, seq: int, entry: AuditEntry) -> str:
    """The hash of an entry: SHA-256 over the hash before it, its number and its canonical JSON."""
    record = {**_values(entry), "at": entry.at.isoformat(), "seq": seq}
    body = _ENCODE(record)
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


_HEAD = Prepared(select(audit_head.c.seq, audit_head.c.hash).where(audit_head.c.id == HEAD_ID).with_for_update())
_INSERT = InsertMany(audit)
_SET_HEAD = Prepared(update(audit_head).where(audit_head.c.id == HEAD_ID))
_APPEND = text("SELECT audit_append(CAST(:entries AS json))")
"""PostgreSQL chains by itself: had it to ask us, others would wait for the head until this process is at it again."""


def _values(entry: AuditEntry) -> dict[str, Any]:
    """As `asdict`, which copies deeply and slowly."""
    return {name: getattr(entry, name) for name in AuditEntry.__slots__}


def append(tx: Tx, *entries: AuditEntry) -> None:
    """Add entries at the end of the chain. Call it last in a transaction: it locks the head."""
    if not entries:
        return
    if tx.dialect.name != "sqlite":
        tx.execute(_APPEND, {"entries": _as_json(entries)})
        return
    head: Any = _HEAD.run(tx, {}).one()
    seq, digest = head[0], head[1]
    rows = []
    for entry in entries:
        seq += 1
        digest = chained(digest, seq, entry)
        rows.append({**_values(entry), "seq": seq, "hash": digest})
    _INSERT.run(tx, rows)
    _SET_HEAD.run(tx, {"seq": seq, "hash": digest})


def _as_json(entries: Sequence[AuditEntry]) -> str:
    return json.dumps([_unnumbered(entry) for entry in entries])


def _unnumbered(entry: AuditEntry) -> dict[str, Any]:
    """An entry with its canonical JSON before and after its number."""
    values = _values(entry) | {"at": entry.at.isoformat()}
    before, after = (
        {name: value for name, value in values.items() if (name < "seq") is is_before} for is_before in (True, False)
    )
    return values | {"before": f'{_ENCODE(before)[:-1]},"seq":', "after": f",{_ENCODE(after)[1:]}"}


def append_at_end(tx: Tx, entry: AuditEntry) -> None:
    """As `append`, as the last thing of the transaction, together with all others that were put there."""
    at_end(tx, _append_all, entry, RANK)


def _append_all(tx: Tx, waiting: list[AuditEntry]) -> None:
    if tx.dialect.name == "sqlite":
        append(tx, *waiting)
    else:
        with_commit(tx, "SELECT audit_append(%s::json)", (_as_json(waiting),))


def entries(tx: Tx, after: int = 0, limit: int = 1000, subject: str = "") -> list[StoredEntry]:
    """Entries with a number above `after`, oldest first; of one subject if named."""
    query = select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
    if subject:
        query = query.where(audit.c.subject == subject)
    return [
        StoredEntry(
            row.seq, AuditEntry(row.at, row.actor, row.action, row.subject, row.outcome, row.code, row.detail), row.hash
        )
        for row in tx.execute(query)
    ]


def newest(tx: Tx, limit: int = 50) -> list[StoredEntry]:
    """The newest entries, newest first."""
    query = select(audit).order_by(audit.c.seq.desc()).limit(limit)
    return [
        StoredEntry(
            row.seq, AuditEntry(row.at, row.actor, row.action, row.subject, row.outcome, row.code, row.detail), row.hash
        )
        for row in tx.execute(query)
    ]


def newest_of(tx: Tx, subject: str, limit: int = 50) -> list[StoredEntry]:
    """The newest accepted entries of one subject, newest first."""
    query = select(audit).where(audit.c.subject == subject, audit.c.outcome == "accepted")
    return [
        StoredEntry(
            row.seq, AuditEntry(row.at, row.actor, row.action, row.subject, row.outcome, row.code, row.detail), row.hash
        )
        for row in tx.execute(query.order_by(audit.c.seq.desc()).limit(limit))
    ]


def verify(tx: Tx, batch: int = 5000) -> tuple[int, str]:
    """Walk the chain from its beginning to the head as it was when this began; what is added meanwhile is left out.

    Returns: how many entries are whole, and what is wrong with the next one (empty: the chain is whole).
    """
    head = tx.execute(select(audit_head.c.seq, audit_head.c.hash).where(audit_head.c.id == HEAD_ID)).one_or_none()
    if head is None:
        return 0, "the head of the chain is missing"
    digest, seq = GENESIS, 0
    for stored in _walk(tx, head.seq, batch):
        if stored.seq != seq + 1:
            return seq, f"entry {seq + 1} is missing"
        if chained(digest, stored.seq, stored.entry) != stored.hash:
            return seq, f"entry {stored.seq} was changed"
        digest, seq = stored.hash, stored.seq
    if head.seq != seq:
        return seq, f"entries {seq + 1} to {head.seq} are missing"
    if head.hash != digest:
        return seq, f"entry {seq} was changed" if seq else "the head of the chain was changed"
    return seq, ""


def _walk(tx: Tx, last: int, batch: int) -> Iterator[StoredEntry]:
    after = 0
    while after < last and (found := entries(tx, after, min(batch, last - after))):
        yield from (one for one in found if one.seq <= last)
        after = found[-1].seq
