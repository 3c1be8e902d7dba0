"""The catalog as the console shows it: people with what they are, and the channels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from bot.catalog.model import Catalog

NAMED = 3
"""Services named in a role before the rest is counted."""


@dataclass(frozen=True, slots=True)
class ConsolePerson:
    """Somebody to talk as, or with. role: in words, for people."""

    id: str
    name: str
    role: str


class Directory:
    """People and channels of the catalog in force; worked out once per catalog."""

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        """catalog: gives the one in force."""
        self._catalog = catalog
        self._of: Catalog | None = None
        self._people: dict[str, ConsolePerson] = {}
        self._channels: tuple[str, ...] = ()

    @property
    def people(self) -> dict[str, ConsolePerson]:
        """Active people by id, in the catalog's order."""
        self._refresh()
        return self._people

    @property
    def channels(self) -> tuple[str, ...]:
        """Console channels: the common one first, then the others by name."""
        self._refresh()
        return self._channels

    def _refresh(self) -> None:
        catalog = self._catalog()
        if catalog is not self._of:
            self._people = _people(catalog)
            self._channels = _channels(catalog)
            self._of = catalog


def _people(catalog: Catalog) -> dict[str, ConsolePerson]:
    owned: dict[str, list[str]] = defaultdict(list)
    for service in catalog.services.values():
        for person in service.owners:
            owned[person].append(service.name)
    active = [person for person in catalog.people.values() if person.active]
    return {one.id: ConsolePerson(one.id, one.name, _role(catalog, one.id, owned[one.id])) for one in active}


def _role(catalog: Catalog, person: str, owned: list[str]) -> str:
    leads = [team.name for team in catalog.teams.values() if person in team.leads]
    member_of = [team.name for team in catalog.teams.values() if person in team.members]
    parts = [
        "Admin" if person in catalog.admins else "",
        "Release manager" if person in catalog.release_managers else "",
        f"Lead of {_listed(leads)}" if leads else "",
        f"Owner of {_listed(owned)}" if owned else "",
    ]
    said = [part for part in parts if part]
    if not said and member_of:
        said = [f"Member of {_listed(member_of)}"]
    return ", ".join(said) or "No role"


def _listed(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:NAMED])} and {rest} more"


def _channels(catalog: Catalog) -> tuple[str, ...]:
    main = catalog.channels.get("console", "")
    tables = [
        *(team.channels for team in catalog.teams.values()),
        *(service.channels for service in catalog.services.values()),
        *(environment.channels for environment in catalog.environments.values()),
    ]
    others = {channel for channels in tables if (channel := channels.get("console", "")).startswith("#")}
    return (*((main,) if main.startswith("#") else ()), *sorted(others - {main}))
