"""How many deployments may be at work at once: per environment, team, cluster or in all."""

from __future__ import annotations

from collections.abc import Iterator

from bot.catalog.model import Catalog, Kind, Limit, Per, Service
from bot.deployments.model import Deployment
from bot.policy.scopes import matches
from bot.store import deployments as rows
from bot.store.database import Tx
from bot.store.deployments import AtWork

FREE = frozenset({Kind.ROLLBACK})
"""Kinds that never wait for room: going back must not."""


def no_room(tx: Tx, catalog: Catalog, seen: Deployment) -> str:
    """Why it must wait, empty if there is room; the room is this transaction's until it ends, on every replica."""
    service = catalog.services.get(seen.service)
    if service is None or seen.kind in FREE:
        return ""
    rules = [one for one in catalog.limits if matches(one.scope, service, seen.environment, seen.kind)]
    if not rules:
        return ""
    rows.hold_admission(tx)
    working = rows.at_work(tx)
    for rule in rules:
        inside = [one for one in working if _counts(catalog, rule, one, service, seen.environment)]
        if len(inside) >= rule.at_once:
            names = ", ".join(f"d-{one.id} ({one.service}/{one.environment})" for one in inside[:3])
            more = f" and {len(inside) - 3} more" if len(inside) > 3 else ""
            return f"the limit {rule.name} lets {rule.at_once} work at once; at work are {names}{more}"
    return ""


def _counts(catalog: Catalog, rule: Limit, working: AtWork, service: Service, environment: str) -> bool:
    """Whether one at work takes a place that ours would need."""
    other = catalog.services.get(working.service)
    if other is None or working.kind is Kind.BUILD or not matches(rule.scope, other, working.environment, working.kind):
        return False
    ours, theirs = _places(service, environment), _places(other, working.environment)
    return all(mine == yours for mine, yours, per in zip(ours, theirs, SEPARATE, strict=True) if per is rule.per)


SEPARATE = (Per.ENVIRONMENT, Per.TEAM, Per.CLUSTER)


def _places(service: Service, environment: str) -> Iterator[str]:
    target = service.targets.get(environment)
    yield environment
    yield service.team
    yield target.cluster if target is not None else ""
