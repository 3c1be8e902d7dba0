"""Whether a rule is about a request: every part of its scope that is not empty must match."""

from __future__ import annotations

from fnmatch import fnmatchcase

from bot.catalog.model import Kind, Scope, Service


def matches(scope: Scope, service: Service, environment: str, kind: Kind) -> bool:
    """True if the rule applies. Names are globs; labels are `key=value` globs of which one must match."""
    return (
        _any(scope.environments, environment)
        and _any(scope.kinds, kind.value)
        and matches_service(scope, service)
        and (not scope.clusters or _in_cluster(scope.clusters, service, environment))
    )


def matches_service(scope: Scope, service: Service) -> bool:
    """True if the rule applies to the service in some environment, for some kind."""
    return _any(scope.services, service.name) and _any(scope.teams, service.team) and _labels(scope.labels, service)


def _in_cluster(patterns: tuple[str, ...], service: Service, environment: str) -> bool:
    target = service.targets.get(environment)
    return target is not None and bool(target.cluster) and _any(patterns, target.cluster)


def _any(patterns: tuple[str, ...], name: str) -> bool:
    # Loops, not `any(...)`: this runs for every rule of every command, and a generator costs more than its body.
    if not patterns or name in patterns:
        return True
    for pattern in patterns:  # noqa: SIM110
        if _is_glob(pattern) and fnmatchcase(name, pattern):
            return True
    return False


def _labels(patterns: tuple[str, ...], service: Service) -> bool:
    if not patterns:
        return True
    for pattern in patterns:
        key, equals, value = pattern.partition("=")
        if equals and service.labels.get(key) == value:
            return True
        if _is_glob(pattern) and any(fnmatchcase(f"{key}={value}", pattern) for key, value in service.labels.items()):
            return True
    return False


def _is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern or "[" in pattern
