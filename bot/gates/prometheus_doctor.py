"""What `slipway doctor` looks at in Prometheus: whether it answers, and whether the catalog's metrics find anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx

from bot.catalog.model import Catalog, Service, Target
from bot.doctor import Finding
from bot.gates.base import Health
from bot.gates.prometheus import Prometheus
from bot.settings import Settings

MOST = 20
"""Targets whose metrics are asked for; each costs Prometheus a query."""
FIX = "Correct `gray.metrics`, or have the service report them; without data gray goes on by nobody but a person."


async def check(settings: Settings, catalog: Catalog) -> AsyncIterator[Finding]:
    """Ask what a deployment would ask, of what runs now; changes nothing."""
    measured = list(_measured(catalog))
    async with httpx.AsyncClient(timeout=5.0, follow_redirects=False, trust_env=False) as http:
        prometheus = Prometheus(http, settings.prometheus_url, settings.prometheus_token)
        problem = await prometheus.problem()
        if problem:
            yield Finding("prometheus", f"{problem}.", "Check SLIPWAY_PROMETHEUS_URL and SLIPWAY_PROMETHEUS_TOKEN.")
            return
        yield Finding("prometheus", f"It answers; {len(measured)} targets are measured.")
        for service, target in measured[:MOST]:
            rules = [rule for rule in target.gray.metrics if not any(hole in rule.query for hole in _OF_A_RELEASE)]
            result = await prometheus.check(service, target, {}, rules)
            if rules and result.health is Health.UNKNOWN:
                yield Finding("prometheus", f"{service.name} in {target.environment}: {result.message}.", FIX)


_OF_A_RELEASE = ("{version}", "{digest}", "{stable}", "{stable_digest}")


def _measured(catalog: Catalog) -> Iterator[tuple[Service, Target]]:
    for service in catalog.services.values():
        yield from ((service, target) for target in service.targets.values() if target.gray.metrics)
