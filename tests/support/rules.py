"""Small catalogs for tests of the rules: one service, six people, and whatever rules a test adds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

from bot.catalog.model import (
    Catalog,
    DeliverySpec,
    EmergencyRule,
    Environment,
    Freeze,
    GitopsSpec,
    Person,
    PipelineSpec,
    Role,
    Scope,
    Service,
    SourceLine,
    Target,
    Team,
    VerifyRule,
    Window,
)
from bot.policy.model import Permission, PolicyRequest

HERE = SourceLine("rules.yaml", 1)
ALL = Scope()
PEOPLE = ("olive", "lead", "rae", "dev", "ann", "out")
SUBJECT = "sha256:" + "0" * 64


def utc(*parts: int) -> datetime:
    """An instant in UTC from year, month, day and so on."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def a_window(name: str = "w", days: tuple[int, ...] = (1, 3), hours: str = "10:00-18:00", **more: Any) -> Window:
    """A weekly window, in UTC unless `zone` says otherwise; the same start and end is the whole day."""
    start, end = (time.fromisoformat(part) for part in hours.split("-"))
    fields: dict[str, Any] = {"scope": ALL, "zone": "UTC", "source": HERE, **more}
    return Window(name, days=days, start=start, end=end, **fields)


def a_freeze(start: datetime, end: datetime | None, name: str = "f", **more: Any) -> Freeze:
    """A freeze of everything unless `scope` says otherwise."""
    fields: dict[str, Any] = {"scope": ALL, "reason": "", "exempt_kinds": (), "source": HERE, **more}
    return Freeze(name, start_at=start, end_at=end, **fields)


def a_lane(
    count: int = 1, roles: tuple[Role, ...] = (Role.TEAM_LEAD, Role.RELEASE_MANAGER), **more: Any
) -> EmergencyRule:
    """An emergency rule."""
    fields: dict[str, Any] = {
        "scope": ALL,
        "people": (),
        "expires_after": timedelta(minutes=30),
        "pass_for": timedelta(hours=1),
        "source": HERE,
        **more,
    }
    return EmergencyRule("lane", count=count, roles=roles, **fields)


def a_service(name: str = "pay", environments: tuple[str, ...] = ("dev", "prod"), **more: Any) -> Service:
    """A service of the team `shop`, owned by olive."""
    targets = {one: _target(name, one) for one in environments}
    fields: dict[str, Any] = {"team": "shop", "repo": name, "owners": ("olive",), "targets": targets, "source": HERE}
    return Service(name, **{**fields, **more})


def _target(service: str, environment: str) -> Target:
    return Target(
        service,
        environment,
        "main",
        PipelineSpec(),
        GitopsSpec(repo="config"),
        DeliverySpec(),
        VerifyRule(),
        cluster=f"{environment}-1",
    )


def a_catalog(services: Mapping[str, Service] | None = None, **more: Any) -> Catalog:
    """olive owns pay, lead leads its team, dev is a member, rae manages releases, ann administers, out is nobody."""
    fields: dict[str, Any] = {
        "digest": "d",
        "environments": {
            "dev": Environment("dev", 1, "main", preview=True, cluster="dev-1"),
            "prod": Environment("prod", 2, "main", protected=True, cluster="prod-1"),
        },
        "teams": {"shop": Team("shop", "Shop", leads=("lead",), members=("dev", "olive"))},
        "people": {one: Person(one, one.capitalize(), f"{one}@slipway.example") for one in PEOPLE},
        "services": services or {"pay": a_service()},
        "windows": (),
        "freezes": (),
        "emergency": (),
        "admins": ("ann",),
        "release_managers": ("rae",),
    }
    return Catalog(**{**fields, **more})


def a_request(person: str = "olive", **more: Any) -> PolicyRequest:
    """olive wants to deploy pay to prod."""
    fields: dict[str, Any] = {
        "permission": Permission.RELEASE_DEPLOY,
        "service": "pay",
        "environment": "prod",
        "subject": SUBJECT,
    }
    return PolicyRequest(person, **{**fields, **more})
