"""Metrics from Prometheus: each number against its limits, or against the stable version's.

Source: prometheus.io/docs/prometheus/latest/querying/api: `POST /api/v1/query` answers `{"status","data":{"resultType",
"result"}}`, a value is `[seconds, "text"]`, also "NaN" or "+Inf"; an error is `{"status":"error","errorType","error"}`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from pydantic import SecretStr

from bot import logs
from bot.catalog.model import MetricRule, Service, Target
from bot.gates.base import Health, MetricsResult


class Prometheus:
    """Asks one Prometheus (or what speaks like it)."""

    name = "prometheus"

    def __init__(self, http: httpx.AsyncClient, url: str, token: SecretStr | None = None) -> None:
        """url: with its path prefix, if it has one."""
        self._http = http
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._token = token

    async def check(
        self, service: Service, target: Target, release: Mapping[str, str], rules: Sequence[MetricRule]
    ) -> MetricsResult:
        """Ask for every number and compare; one that is bad decides. An unreachable system is UNKNOWN, no error.

        release: `version` and `digest`, and `stable` and `stable_digest` of what ran before, empty if nothing did.
        """
        values = {"service": service.name, "environment": target.environment, "team": service.team, **release}
        judged = await asyncio.gather(*(self._judge(rule, values) for rule in rules))
        worst = next((h for h in (Health.BAD, Health.UNKNOWN) if any(one[0] is h for one in judged)), Health.GOOD)
        return MetricsResult(worst, "; ".join(said for health, said in judged if health is worst or len(judged) == 1))

    async def problem(self) -> str:
        """Why it cannot be asked, empty if it can."""
        return (await self._ask("vector(1)", {}))[1]

    async def _judge(self, rule: MetricRule, values: Mapping[str, str]) -> tuple[Health, str]:
        number, why = await self._ask(rule.query, values)
        if number is None:
            return Health.UNKNOWN, f"{rule.name}: {why}"
        if not rule.baseline or _has_no_stable(rule, values):
            return judge(rule, number)
        baseline, why = await self._ask(rule.baseline, values)
        if baseline is None:
            return Health.UNKNOWN, f"{rule.name} of the stable version: {why}"
        return judge(rule, number, baseline)

    async def _ask(self, query: str, values: Mapping[str, str]) -> tuple[float | None, str]:
        """The number, or why there is none."""
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"} if self._token is not None else {}
        try:
            response = await self._http.post(self._url, data={"query": _filled(query, values)}, headers=headers)
            body = response.json()
        except (httpx.HTTPError, ValueError) as error:
            return None, f"Prometheus gave no answer ({type(error).__name__})"
        if not isinstance(body, dict) or body.get("status") != "success":
            said = str(body.get("error") or "") if isinstance(body, dict) else ""
            return None, f"Prometheus says {logs.redact(logs.clean(said))[:200] or f'HTTP {response.status_code}'}"
        return _number(body.get("data") or {})


def judge(rule: MetricRule, number: float, baseline: float | None = None) -> tuple[Health, str]:
    """One number against the limits of its rule; limits themselves are good."""
    limits = [("at least", rule.min, 1), ("at most", rule.max, -1)]
    if baseline is not None:
        limits += [
            ("at least", None if rule.min_factor is None else rule.min_factor * baseline, 1),
            ("at most", None if rule.max_factor is None else rule.max_factor * baseline, -1),
        ]
    for word, limit, sign in limits:
        if limit is not None and (number - limit) * sign < 0:
            stable = f" (stable: {baseline:g})" if baseline is not None else ""
            return Health.BAD, f"{rule.name} is {number:g}, {word} {limit:g} is good{stable}"
    return Health.GOOD, f"{rule.name} is {number:g}"


def _number(data: Mapping[str, Any]) -> tuple[float | None, str]:
    """One scalar, or a vector of exactly one; no data, several series and NaN are no number."""
    result: Any = data.get("result")
    if data.get("resultType") == "vector":
        if not result:
            return None, "no data"
        if len(result) > 1:
            return None, f"the query gives {len(result)} series; it must give one"
        result = result[0].get("value")
    elif data.get("resultType") != "scalar":
        return None, f"the query gives a {data.get('resultType')}; it must give one number"
    try:
        number = float(result[1])
    except (TypeError, ValueError, IndexError):
        return None, "no number"
    return (None, "no data") if math.isnan(number) else (number, "")


def _has_no_stable(rule: MetricRule, values: Mapping[str, str]) -> bool:
    """The first release of all has no other one to be measured by; its own limits count."""
    return any(f"{{{name}}}" in rule.baseline and not values.get(name) for name in ("stable", "stable_digest"))


def _filled(query: str, values: Mapping[str, str]) -> str:
    """Only our names are filled in; names have no quotes or backslashes, so none can leave its string."""
    for name, value in values.items():
        query = query.replace(f"{{{name}}}", value)
    return query
