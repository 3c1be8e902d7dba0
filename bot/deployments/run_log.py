"""The log of a deployment's pipeline run: who may read it, its end, all of it, and links to it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bot.catalog.model import Catalog, Kind
from bot.clock import Clock
from bot.deployments import plan
from bot.deployments.build_log import build_log, run_of
from bot.deployments.model import Deployment
from bot.deployments.providers import Providers
from bot.policy.model import Permission
from bot.policy.permissions import has_permission, may_build
from bot.store import deployments as rows
from bot.store import log_links
from bot.store.database import Database, Tx
from bot.store.log_links import LogLink

LASTS = timedelta(hours=1)
"""How long a link is good for."""


@dataclass(frozen=True, slots=True)
class OpenLog:
    """A log that is being read. name: for a file; pieces: whole lines, without secrets."""

    name: str
    pieces: AsyncIterator[bytes]


class RunLogs:
    """Reads logs of runs, with the right of whoever asks checked each time."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        providers: Providers,
        directory: Path,
        clock: Clock,
        address: str,
    ) -> None:
        """directory: the catalog's; address: where people reach this Slipway, without a slash at the end."""
        self._db = db
        self._catalog = catalog
        self._providers = providers
        self._directory = directory
        self._clock = clock
        self._address = address

    def may_read(self, person: str, seen: Deployment) -> bool:
        """Whether the person may read logs of that service there, now."""
        catalog = self._catalog()
        service, target = plan.thaw(seen.data.plan)
        known = catalog.services.get(service.name)
        if seen.kind is Kind.BUILD and known is not None and may_build(catalog, person, known):
            return True
        return has_permission(catalog, person, Permission.LOG_READ, service.name, target.environment)

    async def tail(self, seen: Deployment, stage: str, lines: int) -> tuple[str, ...]:
        """The last lines, redacted. Raises ProviderRejected, ProviderUnavailable."""
        return await build_log(self._providers, self._directory, seen, stage, lines)

    async def link(self, seen: Deployment, stage: str, person: str) -> str:
        """An address that gives the whole log for an hour, to whoever has it, in the name of this person."""
        token, at = secrets.token_urlsafe(24), self._clock()
        kept = LogLink(seen.id, stage[:200], person, at + LASTS)
        await self._db.run(lambda tx: log_links.put(tx, token, kept))
        return f"{self._address}/logs/{token}"

    async def open(self, token: str) -> OpenLog | None:
        """The log of a link; None if the link is over, or its person may not read it any more.

        Raises ProviderRejected, ProviderUnavailable: the log cannot be had.
        """
        at = self._clock()

        def work(tx: Tx) -> tuple[LogLink, Deployment] | None:
            link = log_links.find(tx, token, at)
            seen = rows.get(tx, link.deployment_id) if link is not None else None
            return (link, seen) if link is not None and seen is not None else None

        found = await self._db.read(work)
        if found is None or not self.may_read(found[0].person, found[1]):
            return None
        link, seen = found
        pipeline, request = run_of(self._providers, self._directory, seen)
        stage = f"-{link.stage}" if link.stage else ""
        return OpenLog(f"{seen.ref}{stage}.log", pipeline.whole_log(request, link.stage))
