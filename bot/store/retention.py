"""Deletes what nobody will ask for again, a little at a time; deployments, votes and the audit log stay for ever."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CursorResult, Select, Table, and_, delete, or_, select

from bot.store import alerts, firings, log_links, senders
from bot.store.console import console_messages
from bot.store.database import Tx
from bot.store.tables import deployments, inbox, outbox

BATCH = 1000
"""Rows of one table in one transaction, so that no lock is held for long."""


def forget(tx: Tx, before: datetime, limit: int = BATCH) -> int:
    """Delete intents, messages, occurrences and alerts that were over before that. Returns how many; 0: all done.

    A message about a deployment stays as long as the deployment is open or ended later; so does one not yet sent.
    """
    ended = and_(deployments.c.id == outbox.c.deployment_id, deployments.c.ended_at < before)
    told = or_(outbox.c.sent >= outbox.c.wanted, outbox.c.dead)
    about = or_(outbox.c.deployment_id.is_(None), select(deployments.c.id).where(ended).exists())
    log_links.forget(tx, before)
    deleted = _delete(tx, inbox, select(inbox.c.id).where(inbox.c.done_at < before), limit)
    deleted += _delete(tx, outbox, select(outbox.c.id).where(outbox.c.created_at < before, told, about), limit)
    old_messages = select(console_messages.c.id).where(console_messages.c.created_at < before)
    deleted += _delete(tx, console_messages, old_messages, limit)
    return deleted + firings.forget(tx, before) + alerts.forget(tx, before) + senders.forget(tx, before)


def _delete(tx: Tx, table: Table, which: Select[tuple[int]], limit: int) -> int:
    ids = which.order_by(table.c.id).limit(limit)
    done: CursorResult[tuple[()]] = tx.execute(delete(table).where(table.c.id.in_(ids)))
    return done.rowcount
