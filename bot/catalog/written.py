"""The files' contents as checked pieces, each with the place it was written at; nothing refers to anything yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from bot.catalog import messages
from bot.catalog.document import Document
from bot.catalog.explain import read
from bot.catalog.model import SourceLine
from bot.catalog.problems import Path, Problem
from bot.catalog.schema import (
    SECTIONS,
    ApprovalIn,
    CalendarIn,
    DefaultsIn,
    EmergencyIn,
    EnvironmentIn,
    FreezeIn,
    GroupIn,
    LeaveIn,
    LimitIn,
    PeriodicIn,
    PersonIn,
    PlaceIn,
    ReleaseWeekIn,
    RootFile,
    ServiceIn,
    TeamIn,
    WindowIn,
)

T_co = TypeVar("T_co", covariant=True)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Entry(Generic[T_co]):
    """A checked piece and where it stands."""

    value: T_co
    document: Document
    path: Path

    def source(self) -> SourceLine:
        """File and line."""
        return SourceLine(self.document.file, self.document.line(self.path))

    def problem(self, path: Path, message: str) -> Problem:
        """A problem below this piece."""
        return self.document.problem((*self.path, *path), message)


@dataclass(slots=True)
class Root:
    """The sections of the root files. Pieces with a problem are left out, but their names are in `names`.

    names: section -> names written in it; a section is left out if it is nowhere and a broken file may hold it.
    settings: the small sections `admins`, `release_managers`, `channels`, `locale` and `zone`, and `defaults`.
    """

    environments: dict[str, Entry[EnvironmentIn]] = field(default_factory=dict)
    teams: dict[str, Entry[TeamIn]] = field(default_factory=dict)
    people: dict[str, Entry[PersonIn]] = field(default_factory=dict)
    windows: list[Entry[WindowIn]] = field(default_factory=list)
    freezes: list[Entry[FreezeIn]] = field(default_factory=list)
    emergency: list[Entry[EmergencyIn]] = field(default_factory=list)
    release_weeks: list[Entry[ReleaseWeekIn]] = field(default_factory=list)
    calendars: dict[str, Entry[CalendarIn]] = field(default_factory=dict)
    groups: dict[str, Entry[GroupIn]] = field(default_factory=dict)
    places: dict[str, Entry[PlaceIn]] = field(default_factory=dict)
    leave: list[Entry[LeaveIn]] = field(default_factory=list)
    approvals: list[Entry[ApprovalIn]] = field(default_factory=list)
    periodics: list[Entry[PeriodicIn]] = field(default_factory=list)
    limits: list[Entry[LimitIn]] = field(default_factory=list)
    settings: dict[str, Entry[RootFile]] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def setting(self, section: str) -> Any:
        """The value of a small section, or its default."""
        entry = self.settings.get(section)
        return getattr(entry.value if entry is not None else _nothing(), section)

    @property
    def defaults(self) -> DefaultsIn:
        """Settings of every service."""
        value: DefaultsIn = self.setting("defaults")
        return value


@cache
def _nothing() -> RootFile:
    """Where nothing is written; made once, for each service asks."""
    return RootFile()


def read_root(documents: Iterable[Document]) -> Root:
    """Read the sections of all root files."""
    root = Root()
    places: dict[str, Document] = {}
    known = list(documents)
    for document in known:
        root.problems += document.problems
        for section, value in document.values.items():
            problem = _misplaced(section, document, places)
            if problem is not None:
                root.problems.append(problem)
                continue
            places[section] = document
            if value is not None:
                _read_section(root, section, value, document)
    if not any(document.broken for document in known):
        for section in SECTIONS:
            root.names.setdefault(section, ())
    return root


def _misplaced(section: str, document: Document, places: dict[str, Document]) -> Problem | None:
    if section not in SECTIONS:
        return document.problem((section,), messages.no_such_field(section, SECTIONS))
    first = places.get(section)
    if first is not None:
        where = f"{first.file}:{first.line((section,))}"
        return document.problem((section,), messages.section_twice(section, where))
    return None


def _read_section(root: Root, section: str, value: Any, document: Document) -> None:
    if section in MAPPINGS:
        setattr(root, section, _read_mapping(root, MAPPINGS[section], section, value, document))
    elif section in LISTS:
        setattr(root, section, _read_list(root, LISTS[section], section, value, document))
    else:
        found, problems = read(RootFile, {section: value}, document, ())
        root.problems += problems
        if found is not None:
            root.settings[section] = Entry(found, document, (section,))


MAPPINGS: dict[str, type[BaseModel]] = {
    "environments": EnvironmentIn,
    "teams": TeamIn,
    "people": PersonIn,
    "calendars": CalendarIn,
    "groups": GroupIn,
    "places": PlaceIn,
}
LISTS: dict[str, type[BaseModel]] = {
    "windows": WindowIn,
    "freezes": FreezeIn,
    "emergency": EmergencyIn,
    "release_weeks": ReleaseWeekIn,
    "leave": LeaveIn,
    "approvals": ApprovalIn,
    "periodics": PeriodicIn,
    "limits": LimitIn,
}


def _read_mapping(root: Root, model: type[M], section: str, value: Any, document: Document) -> dict[str, Entry[M]]:
    if not isinstance(value, dict):
        root.problems.append(document.problem((section,), messages.not_a_mapping(f"'{section}'")))
        return {}
    root.names[section] = tuple(value)
    entries = {}
    for name, item in value.items():
        path = (section, name)
        found, problems = read(model, item if item is not None else {}, document, path)
        root.problems += problems
        if found is not None:
            entries[name] = Entry(found, document, path)
    return entries


def _read_list(root: Root, model: type[M], section: str, value: Any, document: Document) -> list[Entry[M]]:
    if not isinstance(value, list):
        root.problems.append(document.problem((section,), messages.not_a_list(f"'{section}'")))
        return []
    root.names[section] = tuple(str(item["name"]) for item in value if isinstance(item, dict) and "name" in item)
    entries = []
    for at, item in enumerate(value):
        found, problems = read(model, item, document, (section, at))
        root.problems += problems
        if found is not None:
            entries.append(Entry(found, document, (section, at)))
    return entries


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """A file under `services/`. lines: every name written in it -> its line, also of services with a problem."""

    document: Document
    services: dict[str, ServiceIn]
    lines: dict[str, int]
    problems: tuple[Problem, ...]

    def entry(self, name: str) -> Entry[ServiceIn]:
        """A service with its place."""
        return Entry(self.services[name], self.document, (name,))

    def source(self, name: str) -> SourceLine:
        """Where a service is written."""
        return SourceLine(self.document.file, self.lines[name])


def read_services(document: Document) -> ServiceFile:
    """Read a file under `services/`, service by service, so that one mistake hides no other."""
    problems = list(document.problems)
    services: dict[str, ServiceIn] = {}
    for name, value in document.values.items():
        found, wrong = read(ServiceIn, value if value is not None else {}, document, (name,))
        problems += wrong
        if found is not None:
            services[name] = found
    return ServiceFile(document, services, dict(document.key_lines), tuple(problems))
