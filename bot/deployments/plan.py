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


def thaw(plan: dict[str, Any]) -> tuple[Service, Target]:
    """The service and target again."""
    service = _adapter().validate_python(plan)
    (target,) = service.targets.values()
    return service, target
