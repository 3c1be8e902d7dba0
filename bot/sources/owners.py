"""Owners that repositories name themselves: OWNERS and OWNERS_ALIASES of the trusted branch, by path, read by commit.

Trusted is the branch of a service's last environment, never the change that is to be released. What was read counts for
an hour when the repository cannot be reached, then nobody does; a file that cannot be understood is nobody at once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from bot.catalog.model import Catalog, Person, Service
from bot.catalog.repository import resolve_repo
from bot.clock import Clock
from bot.errors import ProviderRejected, ProviderUnavailable
from bot.policy.owners import ROOT, Found, Owners

if TYPE_CHECKING:
    from bot.sources.git import Source

log = structlog.get_logger(__name__)

FILE, ALIASES = "OWNERS", "OWNERS_ALIASES"
BELIEVED = timedelta(hours=1)
FRESH = timedelta(seconds=10)
"""What was read a moment ago is not asked for again."""
ACCOUNTS = ("github", "gitlab")
"""Whose accounts the names in OWNERS are."""
MOST_COMMITS = 2000
SOME = 20

Freshen = Callable[[Service], Awaitable[None]]
"""Reads who owns a service now. Raises ProviderUnavailable: it cannot be told, so nothing should be done."""


@dataclass(frozen=True, slots=True)
class Named:
    """A name in OWNERS, and the place that says so: `services/pay/OWNERS:2`."""

    name: str
    where: str


Resolved = tuple[tuple[Named, ...], tuple[Named, ...], str]
"""Approvers, reviewers, and the file that could not be understood."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What OWNERS says of one service. broken: the file that could not be understood; problem: why nothing was read.

    reviewers: shown, and without a right of their own, as in Prow.
    """

    commit: str
    approvers: tuple[Named, ...]
    broken: str
    at: datetime
    problem: str = ""
    reviewers: tuple[Named, ...] = ()


class RepositoryOwners:
    """Readings of the services that have `owners_file`, and the catalog as they complete it."""

    def __init__(self, sources: Source, directory: Path, clock: Clock) -> None:
        """directory: the catalog's, against which relative repositories are resolved."""
        self._sources = sources
        self._directory = directory
        self._clock = clock
        self._readings: dict[str, Reading] = {}
        self._by_commit: dict[tuple[str, str, str], Resolved] = {}
        self._made: tuple[Catalog, int, Catalog] | None = None
        self._version = 0

    def reading(self, service: str) -> Reading | None:
        """What was read last of a service."""
        return self._readings.get(service)

    async def freshen(self, service: Service) -> None:
        """Read OWNERS of a service as it stands in its trusted branch now; of one without `owners_file`, nothing.

        Raises:
            ProviderUnavailable: the repository is not reached, and what was read before is too old to be believed.
        """
        if not service.owners_file or not service.targets:
            return
        before, at = self._readings.get(service.name), self._clock()
        if before is not None and at - before.at < FRESH and not before.problem:
            return
        try:
            self._learn(service.name, await self._read(service, at))
        except ProviderRejected as error:
            log.warning("owners_not_read", service=service.name, error=error.message)
            self._learn(service.name, Reading("", (), "", at, error.message))
        except ProviderUnavailable as error:
            if before is None or at - before.at > BELIEVED:
                self._learn(service.name, None)
                raise ProviderUnavailable(
                    f"Who owns {service.name} cannot be told: {error.message}", hint="Try again in a minute."
                ) from error
            self._learn(service.name, replace(before, problem=error.message))

    async def refresh_some(self, catalog: Catalog) -> None:
        """Read a few services that were not read yet, so that help and completion know of their owners too."""
        new = (one for one in catalog.services.values() if one.owners_file and one.name not in self._readings)
        for service in list(islice(new, SOME)):
            with suppress(ProviderUnavailable):
                await self.freshen(service)

    async def _read(self, service: Service, at: datetime) -> Reading:
        repo = resolve_repo(self._directory, service.repo)
        branch = list(service.targets.values())[-1].branch
        commit = (await self._sources.resolve(repo, None, branch)).commit
        key = (repo, commit, service.path)
        if key not in self._by_commit:
            if len(self._by_commit) >= MOST_COMMITS:
                self._by_commit.clear()
            self._by_commit[key] = await self._resolved(repo, commit, service.path)
        approvers, reviewers, broken = self._by_commit[key]
        return Reading(commit, approvers, broken, at, reviewers=reviewers)

    async def _resolved(self, repo: str, commit: str, path: str) -> Resolved:
        texts: dict[str, str] = {}
        for directory in _upwards(path):
            name = f"{directory}/{FILE}" if directory else FILE
            content = await self._sources.read(repo, commit, name)
            if content is not None:
                texts[directory] = _text(content)
        found_aliases = await self._sources.read(repo, commit, ALIASES)
        aliases = _text(found_aliases) if found_aliases is not None else None
        owners = Owners(texts, aliases)
        found, reviewing = owners.approvers(path), owners.reviewers(path)
        named = [tuple(_named(one, texts, aliases or "")) for one in (found, reviewing)]
        return named[0], named[1], found.broken

    def _learn(self, service: str, reading: Reading | None) -> None:
        before = self._readings.pop(service, None)
        if reading is not None:
            self._readings[service] = reading
        said = (before.approvers, before.commit) if before is not None else None
        if said != ((reading.approvers, reading.commit) if reading is not None else None):
            self._version += 1

    # -- the catalog --------------------------------------------------------------------------------------------------

    def complete(self, catalog: Catalog) -> Catalog:
        """The catalog with the owners that repositories name."""
        if not self._readings:
            return catalog
        made = self._made
        if made is None or made[0] is not catalog or made[1] != self._version:
            made = self._made = (catalog, self._version, self._completed(catalog))
        return made[2]

    def _completed(self, catalog: Catalog) -> Catalog:
        accounts = accounts_of(catalog)
        services = dict(catalog.services)
        for name, reading in self._readings.items():
            service = services.get(name)
            if service is None or not service.owners_file:
                continue
            known = {
                person.id: f"{one.where} at {reading.commit[:12]}"
                for one in reading.approvers
                if (person := accounts.get(one.name)) is not None
            }
            owners = tuple(dict.fromkeys([*service.owners, *known]))
            sources = {person: where for person, where in known.items() if person not in service.owners}
            services[name] = replace(service, owners=owners, owner_sources=sources)
        return replace(catalog, services=services)


def accounts_of(catalog: Catalog) -> Mapping[str, Person]:
    """Name in OWNERS -> person: by their github or gitlab account; who has none, by id or e-mail."""
    found: dict[str, Person] = {}
    for person in catalog.people.values():
        if not person.active:
            continue
        accounts = [one for name in ACCOUNTS for one in person.chats.get(name, ())]
        for name in accounts or [person.id, *([person.email] if person.email else [])]:
            found.setdefault(name.casefold().removeprefix("@"), person)
    return found


def _named(found: Found, texts: Mapping[str, str], aliases: str) -> Iterator[Named]:
    """Each person once, with the nearest place that names them."""
    said: set[str] = set()
    for file, names in found.levels:
        text = texts.get(file.removesuffix(FILE).rstrip("/"), "")
        for name in sorted(names - said):
            said.add(name)
            line = _line_of(text, name)
            yield Named(name, f"{file}:{line}" if line else f"{ALIASES}:{_line_of(aliases, name) or 1}")


def _line_of(text: str, name: str) -> int:
    """The first line with that name as a word of its own; 0: none."""
    word = re.compile(rf"(?<![\w.-])@?{re.escape(name)}(?![\w.-])", re.IGNORECASE)
    return next((number for number, line in enumerate(text.splitlines(), 1) if word.search(line)), 0)


def _upwards(path: str) -> Iterator[str]:
    current = path.strip("/")
    while current:
        yield current
        current = current.rpartition("/")[0]
    yield ROOT


def _text(content: bytes) -> str:
    """As text; what is none is made unreadable rather than half-read."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "["
