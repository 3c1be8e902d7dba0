"""Reads the rules of time that Argo CD and GitLab have for our targets: shown beside ours, never obeyed blindly."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bot.catalog.model import Service, Target
from bot.clock import Clock
from bot.errors import ProviderError
from bot.policy.foreign import Foreign, FreezePeriod, FreezePeriods, SyncRule, SyncWindows, schedule

if TYPE_CHECKING:
    from bot.delivery.argocd_api import ArgoApi
    from bot.pipelines.http import Http
    from bot.settings import Settings

FRESH = timedelta(minutes=1)
"""How long what was read is shown again: a comparison of all targets asks for each project once."""
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, slots=True)
class Read:
    """The other systems' rules for a target, and why some could not be read."""

    rules: tuple[Foreign, ...]
    problems: tuple[str, ...] = ()


class Elsewhere:
    """Asks the systems that are set up; nothing is opened before the first question. `close()` ends its connections."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Remember where they are."""
        self._settings = settings
        self._clock = clock
        self._kept: dict[tuple[str, ...], tuple[datetime, Any]] = {}

    @cached_property
    def _argocd(self) -> Mapping[str, ArgoApi]:
        if not self._settings.argocd:
            return {}
        from bot.delivery.argocd_api import ArgoApi
        from bot.delivery.argocd_settings import argo_servers

        return {name: ArgoApi(name, server) for name, server in argo_servers(self._settings).items()}

    @cached_property
    def _gitlab(self) -> Http | None:
        if not self._settings.gitlab_url:
            return None
        from bot.pipelines.http import Http
        from bot.pipelines.outside import gitlab_client

        return Http("GitLab", gitlab_client(self._settings), self._clock)

    async def close(self) -> None:
        """End what was opened."""
        opened = vars(self)
        for api in opened.get("_argocd", {}).values():
            await api.close()
        if opened.get("_gitlab") is not None:
            await opened["_gitlab"].client.aclose()

    async def of(self, service: Service, target: Target) -> Read:
        """What they say of a target; what cannot be read is said, and never taken for open."""
        rules: list[Foreign] = []
        problems: list[str] = []
        for read in (self._of_argocd, self._of_gitlab):
            try:
                rules += await read(service, target)
            except (ProviderError, KeyError, TypeError, ValueError, AttributeError) as error:
                said = error.message if isinstance(error, ProviderError) else "an answer that is not understood"
                problems.append(f"{read.__name__.removeprefix('_of_')} cannot be read: {said}")
        return Read(tuple(rules), tuple(problems))

    async def _of_argocd(self, service: Service, target: Target) -> list[Foreign]:
        if target.delivery.provider != "argocd" or not self._argocd:
            return []
        from bot.delivery.argocd import references

        found: list[Foreign] = []
        for ref in references(service, target):
            api = self._argocd.get(ref.server)
            if api is None:
                continue
            windows = await self._kept_or(("argocd", ref.server, ref.project), partial(api.windows, ref.project))
            destination = await self._kept_or(("app", ref.server, ref.name), partial(api.destination, ref))
            clusters = [str(destination.get(key) or "") for key in ("name", "server")]
            rules = tuple(
                rule
                for rule in map(sync_rule, windows)
                if rule.concerns(ref.name, str(destination.get("namespace") or ""), [one for one in clusters if one])
            )
            if rules:
                found.append(SyncWindows(f"Argo CD {ref.name} (project {ref.project})", rules))
        return found

    async def _of_gitlab(self, _service: Service, target: Target) -> list[Foreign]:
        if target.pipeline.provider != "gitlab" or self._gitlab is None or not target.pipeline.name:
            return []
        project, http = target.pipeline.name.strip("/"), self._gitlab
        path = f"projects/{quote(project, safe='')}/freeze_periods"
        found = await self._kept_or(("gitlab", project), lambda: http.get_json(path, {"per_page": 100}))
        periods = tuple(freeze_period(one) for one in found or ())
        return [FreezePeriods(f"GitLab {project}", periods)] if periods else []

    async def _kept_or(self, key: tuple[str, ...], read: Callable[[], Awaitable[Any]]) -> Any:
        at = self._clock()
        kept = self._kept.get(key)
        if kept is None or at - kept[0] > FRESH:
            if len(self._kept) > 20_000:
                self._kept.clear()
            kept = self._kept[key] = (at, await read())
        return kept[1]


def sync_rule(window: Mapping[str, Any]) -> SyncRule:
    """One entry of `spec.syncWindows`."""
    return SyncRule(
        kind=str(window["kind"]),
        when=schedule(str(window["schedule"]), str(window.get("timeZone") or "")),
        duration=go_duration(str(window["duration"])),
        manual=bool(window.get("manualSync")),
        applications=tuple(map(str, window.get("applications") or ())),
        namespaces=tuple(map(str, window.get("namespaces") or ())),
        clusters=tuple(map(str, window.get("clusters") or ())),
        every=bool(window.get("andOperator")),
    )


def freeze_period(one: Mapping[str, Any]) -> FreezePeriod:
    """One freeze period as GitLab says it."""
    zone = str(one.get("cron_timezone") or "UTC")
    return FreezePeriod(schedule(str(one["freeze_start"]), zone), schedule(str(one["freeze_end"]), zone))


def go_duration(text: str) -> timedelta:
    """`1h30m`. Raises ValueError."""
    parts = _PART.findall(text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration")
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))
