"""Firing alerts of services, as Alertmanager told them; each holds the deployments of its service.

One row per alert, keyed by Alertmanager's fingerprint of its labels. What was not heard of for long is believed over: a
silenced alert is never told as resolved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Row, String, Table, Text, bindparam, select, update

from bot.store.database import Tx, UtcDateTime, insert_into, metadata

alerts = Table(
    "alerts",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("service", String(128), nullable=False),
    # Empty: it does not say where, so it is about every environment.
    Column("environment", String(64), nullable=False, server_default=""),
    Column("summary", Text, nullable=False, server_default=""),
    Column("started_at", UtcDateTime, nullable=False),
    Column("until_at", UtcDateTime, nullable=False),
    Column("lifted_by", String(128), nullable=False, server_default=""),
)


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert that fires. until_at: believed till then, unless it is told again; lifted_by: who lets pass."""

    fingerprint: str
    name: str
    service: str
    environment: str
    summary: str
    started_at: datetime
    until_at: datetime
    lifted_by: str = ""

    @property
    def what(self) -> str:
        """What it holds, as locks are written: `pay/prod`, `pay/*`."""
        return f"{self.service}/{self.environment or '*'}"


def fire(tx: Tx, alert: Alert) -> None:
    """It fires, or still does. What a person lifted stays lifted while it is the same firing."""
    values = {name: getattr(alert, name) for name in Alert.__dataclass_fields__}
    again = {name: value for name, value in values.items() if name not in ("fingerprint", "lifted_by")}
    if (known := get(tx, alert.fingerprint)) is not None and known.started_at != alert.started_at:
        again["lifted_by"] = ""
    statement = insert_into(tx, alerts).values(**values)
    tx.execute(statement.on_conflict_do_update(index_elements=["fingerprint"], set_=again))


def resolve(tx: Tx, fingerprint: str) -> bool:
    """It is over. False: it was not known."""
    return tx.execute(alerts.delete().where(alerts.c.fingerprint == fingerprint)).rowcount > 0


def get(tx: Tx, fingerprint: str) -> Alert | None:
    """The alert of that fingerprint, or None."""
    row = tx.execute(select(alerts).where(alerts.c.fingerprint == fingerprint)).one_or_none()
    return _alert(row) if row is not None else None


FIRING = (
    select(alerts)
    .where(alerts.c.until_at > bindparam("at"), alerts.c.lifted_by == "")
    .order_by(alerts.c.service, alerts.c.started_at)
)
"""Built once: every command asks."""


def firing(tx: Tx, at: datetime) -> Sequence[Alert]:
    """Every alert that holds now, by service."""
    return [_alert(row) for row in tx.execute(FIRING, {"at": at})]


def lift(tx: Tx, what: str, by: str, at: datetime) -> Sequence[Alert]:
    """Let deployments pass although these alerts fire, till they fire anew. Returns them."""
    found = [one for one in firing(tx, at) if one.what == what]
    for one in found:
        tx.execute(update(alerts).where(alerts.c.fingerprint == one.fingerprint).values(lifted_by=by))
    return found


def forget(tx: Tx, before: datetime) -> int:
    """Delete what was not heard of since. Returns how many."""
    return tx.execute(alerts.delete().where(alerts.c.until_at < before)).rowcount


def _alert(row: Row[tuple[object, ...]]) -> Alert:
    return Alert(**{name: getattr(row, name) for name in Alert.__dataclass_fields__})
