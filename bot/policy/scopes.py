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
    return not patterns or any(pattern == name or fnmatchcase(name, pattern) for pattern in patterns)


def _labels(patterns: tuple[str, ...], service: Service) -> bool:
    if not patterns:
        return True
    labels = [f"{key}={value}" for key, value in service.labels.items()]
    return any(fnmatchcase(label, pattern) for pattern in patterns for label in labels)
