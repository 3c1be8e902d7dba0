"""Indexes of a part of the rows, for what compares our tables with a database.

Apart from the tables, because SQLAlchemy loads the dialects of both databases for them: a fiftieth of a start.
"""

from __future__ import annotations

from sqlalchemy import Index, text

from bot.store.firings import firings
from bot.store.tables import deployments, inbox, outbox
from bot.store.trains import trains

Index(
    "ix_inbox_pending",
    inbox.c.id,
    sqlite_where=inbox.c.done_at.is_(None),
    postgresql_where=inbox.c.done_at.is_(None),
)
Index(
    "ix_deployments_wake",
    deployments.c.wake_at,
    sqlite_where=deployments.c.wake_at.is_not(None),
    postgresql_where=deployments.c.wake_at.is_not(None),
)
Index(
    "ix_deployments_open",
    deployments.c.id,
    sqlite_where=deployments.c.ended_at.is_(None),
    postgresql_where=deployments.c.ended_at.is_(None),
)
Index(
    "ix_deployments_ended",
    deployments.c.ended_at,
    sqlite_where=deployments.c.ended_at.is_not(None),
    postgresql_where=deployments.c.ended_at.is_not(None),
)
Index(
    "ix_firings_open",
    firings.c.id,
    sqlite_where=firings.c.ended_at.is_(None),
    postgresql_where=firings.c.ended_at.is_(None),
)
Index(
    "ix_trains_open",
    trains.c.id,
    sqlite_where=trains.c.ended_at.is_(None),
    postgresql_where=trains.c.ended_at.is_(None),
)
_due = (outbox.c.wanted > outbox.c.sent) & outbox.c.dead.is_(False)
# By place: what was sent leaves traces in an index until they are cleared away, and other places need not read them.
Index(
    "ix_outbox_behind",
    outbox.c.platform,
    outbox.c.place,
    outbox.c.id,
    sqlite_where=text("wanted > sent AND dead = 0"),
    postgresql_where=_due,
)
