"""Periodic jobs of the catalog: built from what is written, and what can be said against it."""

from __future__ import annotations

from collections.abc import Iterator

from bot.catalog import messages, units
from bot.catalog.model import Periodic, PipelineJob
from bot.catalog.problems import Problem
from bot.catalog.references import Names
from bot.catalog.schema import PeriodicIn, PipelineJobIn
from bot.catalog.written import Entry, Root


def periodics(root: Root) -> dict[str, Periodic]:
    """By name."""
    return {entry.value.name: _periodic(root, entry) for entry in root.periodics}


def _periodic(root: Root, entry: Entry[PeriodicIn]) -> Periodic:
    written = entry.value
    return Periodic(
        name=written.name,
        command=" ".join((written.command or "").lstrip("/／").split()),
        pipeline=_pipeline(written.pipeline),
        digest=written.digest or "",
        run_as=written.run_as,
        zone=written.zone or root.setting("zone"),
        source=entry.source(),
        cron=written.cron or "",
        every=written.every,
        missed=written.missed,
        overlap=written.overlap == "allow",
        channels=written.channels or root.setting("channels"),
        owners=tuple(dict.fromkeys(written.owners)) or (written.run_as,),
    )


def _pipeline(written: PipelineJobIn | None) -> PipelineJob | None:
    if written is None:
        return None
    return PipelineJob(
        written.service, written.environment, written.name or "", written.branch or "", dict(written.parameters)
    )


def check_periodics(root: Root, names: Names) -> Iterator[Problem]:
    """Names used twice, people, platforms and zones that do not exist."""
    seen: dict[str, Entry[PeriodicIn]] = {}
    for entry in root.periodics:
        written = entry.value
        first = seen.setdefault(written.name, entry)
        if first is not entry:
            yield entry.problem(("name",), messages.defined_twice("periodic job", written.name, str(first.source())))
        if written.zone and not units.is_zone(written.zone):
            yield entry.problem(("zone",), messages.unknown("time zone", written.zone, units.zones()))
        yield from _people(entry, names)
        for platform in written.channels:
            if platform not in names.known.platforms:
                text = messages.unknown("chat platform", platform, names.known.platforms)
                yield entry.problem(("channels", platform), text)


def check_targets(root: Root, names: Names) -> Iterator[Problem]:
    """Services and environments that do not exist; asked when the services are known."""
    for entry in root.periodics:
        yield from _target(entry, names)


def _target(entry: Entry[PeriodicIn], names: Names) -> Iterator[Problem]:
    job = entry.value.pipeline
    if job is None:
        return
    for field, written, known in (
        ("service", job.service, names.services),
        ("environment", job.environment, names.environments),
    ):
        if known is not None and written not in known:
            yield entry.problem(("pipeline", field), messages.unknown(field, written, known))


def _people(entry: Entry[PeriodicIn], names: Names) -> Iterator[Problem]:
    if names.people is None:
        return
    if entry.value.run_as not in names.people:
        yield entry.problem(("run_as",), messages.unknown("person", entry.value.run_as, names.people))
    for at, owner in enumerate(entry.value.owners):
        if owner not in names.people:
            yield entry.problem(("owners", at), messages.unknown("person", owner, names.people))
