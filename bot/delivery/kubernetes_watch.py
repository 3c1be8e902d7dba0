"""What is known of the workloads of one namespace: a list, then a watch from it, with a slow poll behind.

Written on the client's raw answers, because its own watch reconnects without a pause, asks a version that is gone for
again, and yields the pages of a proxy as events. A version is opaque here: it is sent back, never compared.

Source: kubernetes API concepts "efficient detection of changes": bookmarks; 410 means that the list must be made anew.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import structlog

from bot.delivery.kubernetes_status import Json, section

log = structlog.get_logger(__name__)

SERVER_SECONDS = 240
"""After which the server ends a watch; a clean end is normal."""
TOTAL_SECONDS = SERVER_SECONDS + 30.0
IDLE_SECONDS = 600.0
"""Nobody asked for so long: it stops, and starts again when somebody does."""

Ask = Callable[..., Awaitable[Any]]
"""A list call of the client that gives the raw response; takes `watch` and its parameters."""


class _Gone(Exception):
    """The version is too old to go on from."""


@dataclass(slots=True)
class _Seen:
    """A workload and when (monotonic seconds) it was seen; None: it does not exist."""

    body: Json | None
    at: float


@dataclass(slots=True)
class NamespaceWatch:
    """Workloads of one kind in one namespace. ask: lists and watches; changed: is told a name."""

    ask: Ask
    changed: Callable[[str], None]
    slow: float = 60.0
    now: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    is_live: bool = False
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _wanted_at: float = 0.0
    _task: asyncio.Task[None] | None = None

    def known(self, name: str) -> Json | None:
        """The workload, if the watch is alive and it was seen lately; starts the watch."""
        self._wanted_at = self.now()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(), name="kubernetes-watch")
        seen = self._seen.get(name)
        return seen.body if self.is_live and seen is not None and self.now() - seen.at < self.slow else None

    def keep(self, name: str, body: Json) -> None:
        """Remember it. An event from before a change of ours has a lower generation, and is passed over."""
        known = self._seen.get(name)
        if known is None or known.body is None or _generation(body) >= _generation(known.body):
            self._seen[name] = _Seen(body, self.now())

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        failures, version = 0, ""
        while self.now() - self._wanted_at < IDLE_SECONDS:
            began = self.now()
            try:
                version = version or await self._list()
                async for newest in self._events(version):
                    version, self.is_live = newest, True
            except _Gone:
                self.is_live, version = False, ""
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                self.is_live, version = False, ""
                log.info("kubernetes_watch_lost", error=type(error).__name__)
            failures = 0 if self.now() - began > 10 else failures + 1
            await asyncio.sleep(min(30.0, 0.25 * 2**failures) * random.uniform(0.5, 1.0))  # noqa: S311
        self.is_live = False
        self._seen.clear()

    async def _list(self) -> str:
        """All workloads as they are; returns the version to watch from. What is gone is told too."""
        response = await self.ask(_request_timeout=30.0)
        body = await _json(response)
        found = {str(section(item, "metadata").get("name")): item for item in body.get("items") or []}
        gone = [name for name in self._seen if name not in found]
        for name in gone:
            del self._seen[name]
            self.changed(name)
        for name, item in found.items():
            self.keep(name, item)
            self.changed(name)
        return str(section(body, "metadata").get("resourceVersion") or "")

    async def _events(self, version: str) -> AsyncIterator[str]:
        """Take over every change after that version; yields the version to go on from, first when the link is open."""
        response = await self.ask(
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=SERVER_SECONDS,
            _request_timeout=TOTAL_SECONDS,
        )
        try:
            if response.status != 200:
                await _json(response)
            yield version
            async for line in response.content:
                version = self._event(json.loads(line)) or version
                yield version
        finally:
            response.close()

    def _event(self, event: Json) -> str:
        """Take it over; returns the version it brings, if it does. Raises _Gone, ValueError."""
        item = section(event, "object")
        if event.get("type") == "ERROR":
            raise _Gone if item.get("code") == 410 else ValueError("an error event")
        if event.get("type") != "BOOKMARK":
            self._take(str(event.get("type")), item)
        return str(section(item, "metadata").get("resourceVersion") or "")

    def _take(self, kind: str, item: Json) -> None:
        name = str(section(item, "metadata").get("name") or "")
        if kind == "DELETED":
            self._seen.pop(name, None)
        else:
            self.keep(name, item)
        self.changed(name)


async def _json(response: Any) -> dict[str, Any]:
    """An answer. Raises _Gone, or ValueError: it is none of Kubernetes."""
    text = await response.text()
    if response.status == 410:
        raise _Gone
    body = json.loads(text)
    if response.status != 200 or not isinstance(body, dict):
        raise ValueError(f"HTTP {response.status}")
    return body


def _generation(body: Json) -> int:
    return int(section(body, "metadata").get("generation") or 0)
