"""The providers' own settings, checked by the providers' models, at the line where each was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from bot.catalog import explain
from bot.catalog.model import Service, Target
from bot.catalog.problems import Path, Problem
from bot.catalog.schema import TargetDefaults
from bot.catalog.written import Entry, Root, ServiceFile

Models = Mapping[tuple[str, str], type[BaseModel]]
Layer = tuple[Entry[Any], Path, TargetDefaults]
"""A place that may hold options: its piece, the path in it, and what is written there."""


def check_options(
    services: Mapping[str, Service], root: Root, files: Sequence[ServiceFile], models: Models
) -> Iterator[Problem]:
    """Every mistake once, where it is written; one that comes from a default is told of the first service only."""
    told: set[tuple[str, int, str, str]] = set()
    good: set[tuple[str, str, int]] = set()
    for service in services.values() if models else ():
        for target in service.targets.values():
            for problem in _of_target(service, target, root, files, models, good):
                key = (problem.file, problem.line, problem.field, problem.message)
                if key not in told:
                    told.add(key)
                    yield problem


def _of_target(
    service: Service,
    target: Target,
    root: Root,
    files: Sequence[ServiceFile],
    models: Models,
    good: set[tuple[str, str, int]],
) -> Iterator[Problem]:
    written = (
        ("pipeline", target.pipeline.provider, target.pipeline.options),
        ("delivery", target.delivery.provider, target.delivery.options),
        ("gitops", target.gitops.format, target.gitops.options),
    )
    for what, kind, options in written:
        model = models.get((what, kind))
        # What many targets share is one object for the length of a load.
        key = (what, kind, id(options))
        if model is None or key in good:
            continue
        mistakes = explain.mistakes(model, dict(options))
        if not mistakes:
            good.add(key)
        layers = _layers(service, target, root, files) if mistakes else []
        for place, text in mistakes:
            yield _at(layers, what, place, text)


def _layers(service: Service, target: Target, root: Root, files: Sequence[ServiceFile]) -> list[Layer]:
    """From the narrowest place to the widest."""
    layers: list[Layer] = []
    entry = next(file.entry(service.name) for file in files if service.name in file.services)
    own = entry.value.environments.get(target.environment)
    if own is not None:
        layers.append((entry, ("environments", target.environment), own))
    layers.append((entry, (), entry.value))
    for found in (root.teams.get(service.team), root.environments.get(target.environment)):
        if found is not None:
            layers.append((found, ("defaults",), found.value.defaults))
    if "defaults" in root.settings:
        layers.append((root.settings["defaults"], (), root.defaults))
    return layers


def _at(layers: list[Layer], what: str, place: Path, text: str) -> Problem:
    """Where the wrong key is written; a missing one: where the provider or its options are; else the widest place."""
    for entry, path, written in layers:
        spec = getattr(written, what)
        if place and spec is not None and spec.options and place[0] in spec.options:
            return entry.problem((*path, what, "options", *place), text)
    for entry, path, written in layers:
        if getattr(written, what) is not None:
            return entry.problem((*path, what), text)
    entry, path, _ = layers[-1]
    return entry.problem((*path, what), text)
