"""Alerts from outside: while one fires, deployments of its service wait, and when it ends they go on at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from bot.catalog.model import Catalog
from bot.clock import Clock
from bot.store import alerts, audit
from bot.store import deployments as rows
from bot.store.alerts import Alert
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alert as it was told. firing False: it is over. service and environment: as its labels say, perhaps empty."""

    fingerprint: str
    name: str
    service: str
    environment: str
    summary: str
    started_at: datetime
    firing: bool


class Alarmed(Protocol):
    """Where alarms go."""

    async def heard(self, alarms: Sequence[Alarm]) -> int:
        """Take them over; returns how many were about services of the catalog."""
        ...


class Alarms:
    """An `Alarmed` on the database."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        clock: Clock,
        on_change: Callable[[], None],
        forget_after: timedelta,
    ) -> None:
        """on_change: called after a commit, so that whoever waits looks again. forget_after: the last word of it."""
        self._db = db
        self._catalog = catalog
        self._clock = clock
        self._on_change = on_change
        self._forget_after = forget_after

    async def heard(self, alarms: Sequence[Alarm]) -> int:
        """Take them over; returns how many were about services of the catalog. Raises DatabaseUnavailable."""
        ours = [one for one in alarms if self._is_ours(one)]
        at = self._clock()

        def work(tx: Tx) -> None:
            for one in ours:
                self._take(tx, one, at)
            rows.wake_waiting(tx, at)

        if ours:
            await self._db.run(work)
            self._on_change()
        return len(ours)

    def _is_ours(self, alarm: Alarm) -> bool:
        """An environment we do not know is none of ours: the service may run elsewhere too."""
        known = self._catalog().services.get(alarm.service)
        return known is not None and (not alarm.environment or alarm.environment in known.targets)

    def _take(self, tx: Tx, alarm: Alarm, at: datetime) -> None:
        known = alerts.get(tx, alarm.fingerprint)
        if not alarm.firing:
            if alerts.resolve(tx, alarm.fingerprint):
                self._note(tx, at, "resolve", known)
            return
        told = Alert(
            alarm.fingerprint,
            alarm.name,
            alarm.service,
            alarm.environment,
            alarm.summary,
            alarm.started_at,
            at + self._forget_after,
        )
        alerts.fire(tx, told)
        if known is None or known.started_at != told.started_at:
            self._note(tx, at, "fire", told)

    def _note(self, tx: Tx, at: datetime, what: str, alert: Alert | None) -> None:
        if alert is not None:
            audit.append(tx, AuditEntry(at, "alertmanager", f"alert:{what}", alert.what, "accepted", "", alert.name))
