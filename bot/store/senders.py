"""Which replica sends to a place: one at a time, under a lease of the database's clock; many places in one statement.

A place that was left keeps its row, so that taking it is an UPDATE that passes over what another replica is at: who
inserts where another one has just deleted waits for its commit, and that was most of what two replicas waited for.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, text

from bot.store.database import Tx
from bot.store.tables import senders

Place = tuple[str, str]
"""Platform and place."""

NOBODY = ""
"""The owner of a place that was left."""

_WANTED = "json_to_recordset(CAST(:places AS json)) AS wanted(platform text, place text)"
_TAKE = text(
    f"""
    WITH free AS (
        SELECT s.platform, s.place, s.owner AS was FROM senders s JOIN {_WANTED} USING (platform, place)
        WHERE s.owner = :owner OR s.until < clock_timestamp()
        FOR UPDATE OF s SKIP LOCKED
    ), taken AS (
        UPDATE senders s SET owner = :owner, until = clock_timestamp() + make_interval(secs => :seconds)
        FROM free WHERE s.platform = free.platform AND s.place = free.place
        RETURNING s.platform, s.place, free.was
    ), fresh AS (
        INSERT INTO senders (platform, place, owner, until)
        SELECT platform, place, :owner, clock_timestamp() + make_interval(secs => :seconds) FROM {_WANTED}
        WHERE NOT EXISTS (SELECT FROM senders s WHERE s.platform = wanted.platform AND s.place = wanted.place)
        ORDER BY platform, place
        ON CONFLICT DO NOTHING RETURNING platform, place
    )
    SELECT platform, place, was FROM taken UNION ALL SELECT platform, place, :owner FROM fresh
    """  # noqa: S608 - no value is in it
)
_LEAVE = text(
    f"""
    UPDATE senders s SET owner = '', until = clock_timestamp() FROM {_WANTED}
    WHERE s.platform = wanted.platform AND s.place = wanted.place AND s.owner = :owner
    """  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class Hold:
    """A place is ours. in_doubt: taken from a replica that died, or was paused, perhaps in the middle of a sending."""

    in_doubt: bool


def take(tx: Tx, places: Collection[Place], owner: str, lease: timedelta) -> dict[Place, Hold]:
    """Be the one who sends to these places, or stay it. Returns those that are ours now; others are another's.

    A place is in doubt if it was taken from a replica that never let go: its last sending may or may not have arrived.
    """
    if tx.dialect.name == "sqlite":
        return {place: Hold(in_doubt=False) for place in places}
    values = {"places": _named(places), "owner": owner, "seconds": lease.total_seconds()}
    return {(row[0], row[1]): Hold(in_doubt=row[2] not in (owner, NOBODY)) for row in tx.execute(_TAKE, values)}


def leave(tx: Tx, places: Collection[Place], owner: str) -> None:
    """Let other replicas send to them."""
    if places and tx.dialect.name != "sqlite":
        tx.execute(_LEAVE, {"places": _named(places), "owner": owner})


def forget(tx: Tx, before: datetime) -> int:
    """Delete the places that were left before that. Returns how many."""
    return tx.execute(delete(senders).where(senders.c.owner == NOBODY, senders.c.until < before)).rowcount


def _named(places: Collection[Place]) -> str:
    return json.dumps([{"platform": platform, "place": place} for platform, place in sorted(places)])
