"""Indexes of a part of the rows, for what compares our tables with a database.

Apart from the tables, because SQLAlchemy loads the dialects of both databases for them: a fiftieth of a start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Index, text

from bot.store.firings import firings
from bot.store.tables import deployments, inbox, outbox
from bot.store.trains import trains


def _partial(name: str, columns: Sequence[Column[Any]], postgresql: Any, sqlite: Any = None) -> None:
    """An index of the rows that meet a condition; sqlite: the same in its own words, where they differ."""
    where = postgresql if sqlite is None else sqlite
    Index(name, *columns, sqlite_where=where, postgresql_where=postgresql)


_partial("ix_inbox_pending", [inbox.c.id], inbox.c.done_at.is_(None))
_partial("ix_deployments_wake", [deployments.c.wake_at], deployments.c.wake_at.is_not(None))
_partial("ix_deployments_open", [deployments.c.id], deployments.c.ended_at.is_(None))
_partial("ix_deployments_ended", [deployments.c.ended_at], deployments.c.ended_at.is_not(None))
_partial("ix_firings_open", [firings.c.id], firings.c.ended_at.is_(None))
_partial("ix_trains_open", [trains.c.id], trains.c.ended_at.is_(None))
# By place: what was sent leaves traces in an index until they are cleared away, and other places need not read them.
_partial(
    "ix_outbox_behind",
    [outbox.c.platform, outbox.c.place, outbox.c.id],
    (outbox.c.wanted > outbox.c.sent) & outbox.c.dead.is_(False),
    text("wanted > sent AND dead = 0"),
)
