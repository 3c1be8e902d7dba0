"""The slow look behind the webhooks of merge requests: what a lost one would have started is started after all.

Each head is asked about once over all replicas. Its check is run in the name of whoever pushed it, never in that of who
opened the merge request: a push that may not be checked does not become one that may by waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import structlog

from bot.catalog.model import Catalog
from bot.catalog.repository import resolve_repo
from bot.clock import Clock
from bot.delivery.open_requests import OpenRequest, OpenRequests
from bot.deployments.following import is_repo
from bot.deployments.hooked import Hooked
from bot.deployments.merge_checks import MergeRequest, key_of
from bot.errors import ProviderError, ProviderRejected
from bot.store import deployments as rows
from bot.store import inbox
from bot.store.database import Database, Tx

log = structlog.get_logger(__name__)

BACK = timedelta(days=1)
"""What changed longer ago is left alone: a lost webhook of last week is made up for by the next push."""
PLATFORM = "hook"
"""What events of hosts are stored under; see `bot/pushes.py`."""


class MergeLooks:
    """Looks at the hosts that are set up, for services that have their merge requests checked."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        hosts: Sequence[OpenRequests],
        events: Hooked,
        directory: Path,
        clock: Clock,
    ) -> None:
        """events: takes what the webhook would have brought; directory: the catalog's."""
        self._db = db
        self._catalog = catalog
        self._hosts = hosts
        self._events = events
        self._directory = directory
        self._clock = clock
        self._refused: set[str] = set()

    async def look(self) -> int:
        """Look once. Returns how many heads were not known before.

        Raises:
            ProviderRejected: a host does not let us look; said once, for asking every few minutes changes nothing.
        """
        checked = self._checked()
        found, refusal = 0, None
        for host in self._hosts if checked else ():
            try:
                found += await self._look_at(host, checked)
            except ProviderError as error:
                log.warning("merge_requests_not_looked_at", provider=host.provider, error=error.message)
                if isinstance(error, ProviderRejected) and host.provider not in self._refused:
                    self._refused.add(host.provider)
                    refusal = error
        if refusal is not None:
            raise refusal
        return found

    def _checked(self) -> dict[str, str]:
        """Services that have their merge requests checked: name -> address of the repository."""
        return {
            service.name: resolve_repo(self._directory, service.repo)
            for service in self._catalog().services.values()
            if any(target.auto_check for target in service.targets.values())
        }

    async def _look_at(self, host: OpenRequests, checked: Mapping[str, str]) -> int:
        found = 0
        for one in await host.changed(sorted(set(checked.values())), self._clock() - BACK):
            names = [name for name, address in checked.items() if is_repo(address, one.repo)]
            change = _as_webhook(host.provider, one)
            if not names or await self._is_known(change, names):
                continue
            said = await self._events.proposed(replace(change, user=await host.pusher(one)))
            log.info("merge_request_found", provider=host.provider, url=one.url, said=" ".join(said)[:200])
            found += 1
        return found

    async def _is_known(self, change: MergeRequest, names: Sequence[str]) -> bool:
        """Its webhook came, or an earlier look found it."""
        event = f"{change.provider}:{change.event_id}"[:255]

        def known(tx: Tx) -> bool:
            began = any(rows.find_by_key(tx, key_of(change, name)) is not None for name in names)
            return began or inbox.by_event(tx, PLATFORM, event) is not None

        return await self._db.read(known)


def _as_webhook(provider: str, one: OpenRequest) -> MergeRequest:
    return MergeRequest(
        provider=provider,
        event_id=f"look:{one.repo}!{one.number}:{one.commit}:{one.into}:{one.is_draft}",
        repo=one.repo,
        number=one.number,
        branch=one.branch,
        into=one.into,
        commit=one.commit,
        is_open=True,
        is_draft=one.is_draft,
        is_fork=one.is_fork,
        url=one.url,
    )
