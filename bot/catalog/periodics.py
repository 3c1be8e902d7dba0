"""Periodic jobs of the catalog: built from what is written, and what can be said against it."""

from __future__ import annotations

from collections.abc import Iterator

from bot.catalog import messages, units
from bot.catalog.model import Periodic
from bot.catalog.problems import Problem
from bot.catalog.references import Names
from bot.catalog.schema import PeriodicIn
from bot.catalog.written import Entry, Root


def periodics(root: Root) -> dict[str, Periodic]:
    """By name."""
    return {entry.value.name: _periodic(root, entry) for entry in root.periodics}


def _periodic(root: Root, entry: Entry[PeriodicIn]) -> Periodic:
    written = entry.value
    return Periodic(
        name=written.name,
        command=" ".join(written.command.lstrip("/／").split()),
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


def _people(entry: Entry[PeriodicIn], names: Names) -> Iterator[Problem]:
    if names.people is None:
        return
    if entry.value.run_as not in names.people:
        yield entry.problem(("run_as",), messages.unknown("person", entry.value.run_as, names.people))
    for at, owner in enumerate(entry.value.owners):
        if owner not in names.people:
            yield entry.problem(("owners", at), messages.unknown("person", owner, names.people))
