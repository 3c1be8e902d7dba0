"""What was true of a service when its deployment was asked for, kept with it: a reload changes nothing in flight."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from bot.catalog.model import Service, Target


@cache
def _adapter() -> TypeAdapter[Service]:
    return TypeAdapter(Service)


def freeze(service: Service, target: Target) -> dict[str, Any]:
    """The service with only the target in question, as plain JSON."""
    only = replace(service, targets={target.environment: target})
    return dict(_adapter().dump_python(only, mode="json"))


_KEPT = 2048
_thawed: dict[int, tuple[dict[str, Any], Service, Target]] = {}
"""Each plan itself is kept beside what it says, so that its `id` is its own as long as it stands here."""


def thaw(plan: dict[str, Any]) -> tuple[Service, Target]:
    """The service and target again. A deployment asks some ten times a turn, of the same plan."""
    known = _thawed.get(id(plan))
    if known is None:
        service = _adapter().validate_python(plan)
        (target,) = service.targets.values()
        known = _thawed[id(plan)] = (plan, service, target)
        if len(_thawed) > _KEPT:
            _thawed.pop(next(iter(_thawed)), None)
    return known[1:]
