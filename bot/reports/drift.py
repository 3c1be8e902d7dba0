"""Where what runs is not what Git wants, over every target that Slipway has deployed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.catalog.model import Catalog, Service, Target
from bot.catalog.repository import resolve_repo
from bot.deployments.providers import Providers
from bot.errors import SlipwayError
from bot.store import deployments as rows
from bot.store.database import Database

AT_ONCE = 8
PAGE = 200


@dataclass(frozen=True, slots=True)
class Drift:
    """A target whose running version is not the wanted one. said: a sentence; unknown: it could not be told."""

    target: str
    said: str
    unknown: bool = False


class DriftFinder:
    """Asks Git and the delivery of each target."""

    def __init__(self, db: Database, catalog: Callable[[], Catalog], providers: Providers, directory: Path) -> None:
        """directory: the catalog's, against which relative repositories are resolved."""
        self._db = db
        self._catalog = catalog
        self._providers = providers
        self._directory = directory

    async def look(self) -> tuple[int, Sequence[Drift]]:
        """How many targets were looked at, and those that drift."""
        targets = await self._deployed()
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(service: Service, target: Target) -> Drift | None:
            async with gate:
                return await self._drift(service, target)

        found = await asyncio.gather(*(one(service, target) for service, target in targets))
        return len(targets), [drift for drift in found if drift is not None]

    async def _deployed(self) -> list[tuple[Service, Target]]:
        every = [(one, target) for one in self._catalog().services.values() for target in one.targets.values()]
        found = []
        for start in range(0, len(every), PAGE):
            page = every[start : start + PAGE]
            names = [(service.name, target.environment) for service, target in page]
            good = await self._db.read(lambda tx: rows.latest_per_target(tx, names))  # noqa: B023
            found += [pair for pair, name in zip(page, names, strict=True) if name in good]
        return found

    async def _drift(self, service: Service, target: Target) -> Drift | None:
        name = f"{service.name}/{target.environment}"
        delivery = self._providers.deliveries.get(target.delivery.provider)
        if delivery is None:
            return Drift(name, f"the delivery provider {target.delivery.provider} is not set up here", unknown=True)
        repo = resolve_repo(self._directory, target.gitops.repo)
        try:
            running = await delivery.running(service, target)
            wanted = await self._providers.writer.read(target.gitops, repo, service.name, target.environment)
        except SlipwayError as error:
            return Drift(name, error.message, unknown=True)
        if running is None:
            return Drift(name, f"Git wants {wanted.version}, nothing is running") if wanted.digest else None
        if running.digest == wanted.digest:
            return None
        return Drift(name, f"Git wants {wanted.version or 'nothing'}, {running.version or 'another image'} is running")
