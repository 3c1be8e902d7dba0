"""What was true of a service when its deployment was asked for, kept with it: a reload changes nothing in flight."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from bot.catalog.model import Service, Target

_SERVICE = TypeAdapter(Service)


def freeze(service: Service, target: Target) -> dict[str, Any]:
    """The service with only the target in question, as plain JSON."""
    only = replace(service, targets={target.environment: target})
    return dict(_SERVICE.dump_python(only, mode="json"))


def thaw(plan: dict[str, Any]) -> tuple[Service, Target]:
    """The service and target again."""
    service = _SERVICE.validate_python(plan)
    (target,) = service.targets.values()
    return service, target
