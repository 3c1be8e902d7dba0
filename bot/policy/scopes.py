"""Whether a rule is about a request: every part of its scope that is not empty must match."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from bot.catalog.model import Kind, Scope, Service


def matches(scope: Scope, service: Service, environment: str, kind: Kind) -> bool:
    """True if the rule applies. Names are globs; labels are `key=value` globs of which one must match."""
    # What is empty is not asked, here and below: this runs for every rule of every command.
    if scope.environments and not _any(scope.environments, environment):
        return False
    if scope.kinds and kind not in scope.kinds and not _any(scope.kinds, kind.value):
        return False
    if scope.clusters and not _in_cluster(scope.clusters, service, environment):
        return False
    return matches_service(scope, service)


def matches_service(scope: Scope, service: Service) -> bool:
    """True if the rule applies to the service in some environment, for some kind."""
    if scope.services and not _any(scope.services, service.name):
        return False
    if scope.teams and not _any(scope.teams, service.team):
        return False
    return not scope.labels or _labels(scope.labels, service.labels)


def _in_cluster(patterns: tuple[str, ...], service: Service, environment: str) -> bool:
    target = service.targets.get(environment)
    return target is not None and bool(target.cluster) and _any(patterns, target.cluster)


def _any(patterns: tuple[str, ...], name: str) -> bool:
    if name in patterns:
        return True
    # A loop, not `any(...)`: a generator costs more than its body.
    for pattern in patterns:  # noqa: SIM110
        if _is_glob(pattern) and fnmatchcase(name, pattern):
            return True
    return False


def _labels(patterns: tuple[str, ...], labels: Mapping[str, str]) -> bool:
    for pattern in patterns:
        key, equals, value = pattern.partition("=")
        if equals and labels.get(key) == value:
            return True
        if _is_glob(pattern) and any(fnmatchcase(f"{key}={value}", pattern) for key, value in labels.items()):
            return True
    return False


def _is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern or "[" in pattern
