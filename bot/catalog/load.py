"""Reads a catalog directory: every mistake at once, or a whole catalog; a second look re-reads only what changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bot.catalog import build, messages, periodics, rules
from bot.catalog.commit import commit_of
from bot.catalog.document import Document
from bot.catalog.files import SERVICES, UNSURE, Listing, Stamp, digest_of, list_files, read_file
from bot.catalog.groups import anybody, with_members
from bot.catalog.model import Catalog, EmergencyRule, Place, Scope, Service
from bot.catalog.options import check_options
from bot.catalog.problems import CatalogProblems, Problem
from bot.catalog.references import Known, Names, check_root, check_scopes, check_service, names_of
from bot.catalog.written import Root, ServiceFile, read_root, read_services
from bot.clock import utc_now
from bot.lean import without_collection
from bot.policy.approvals import eligible
from bot.policy.scopes import matches_service


def load_catalog(directory: Path, known: Known | None = None) -> Catalog:
    """Read a directory. known: the providers, platforms and formats the program has.

    Raises:
        CatalogProblems: it is wrong; `problems` has every mistake with file, line, field and what is allowed.
    """
    return Loader(directory, known).load()


@dataclass(frozen=True, slots=True)
class _Parsed:
    """One file as read before. problem: it could not be read."""

    stamp: Stamp
    sha: str
    document: Document | None = None
    services: ServiceFile | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class _Built:
    """The services of one file, built in a context: the same file in the same context needs no second look."""

    context: str
    sha: str
    services: Mapping[str, Service]
    problems: tuple[Problem, ...]


class Loader:
    """Loads one directory again and again; keeps what it read by content hash. Not for use by two threads at once."""

    def __init__(self, directory: Path, known: Known | None = None) -> None:
        """Nothing is read yet."""
        self._directory = directory
        self._known = known or Known()
        self._parsed: dict[str, _Parsed] = {}
        self._built: dict[str, _Built] = {}

    def load(self, listing: Listing | None = None) -> Catalog:
        """Read what changed and make a catalog of all. listing: what is there, if somebody looked just now.

        Raises:
            CatalogProblems: it is wrong.
        """
        with without_collection():
            return self._load(listing or list_files(self._directory))

    def digest(self, listing: Listing) -> str:
        """SHA-256 over names and contents of all files; reads those whose stamp is new."""
        self._read(listing)
        return digest_of({name: self._parsed[name].sha for name in listing.files})

    def _load(self, listing: Listing) -> Catalog:
        digest = self.digest(listing)
        parsed = [self._parsed[name] for name in listing.files]
        problems = [*listing.problems, *(one.problem for one in parsed if one.problem is not None)]
        if not listing.files and not problems:
            problems.append(Problem(".", 0, "", messages.nothing_here()))
        if not listing.files:
            raise CatalogProblems(problems)
        root = read_root([one.document for one in parsed if one.document is not None and one.services is None])
        catalog, found = self._make(digest, root, [one.services for one in parsed if one.services is not None])
        self._forget()
        problems += found
        if problems or catalog is None:
            raise CatalogProblems(problems)
        return replace(catalog, commit=commit_of(self._directory))

    def _read(self, listing: Listing) -> None:
        for name, stamp in listing.files.items():
            old = self._parsed.get(name)
            if old is None or old.stamp != stamp or stamp[2] == UNSURE:
                self._parsed[name] = self._parse(name, stamp, old)
        for name in self._parsed.keys() - listing.files.keys():
            del self._parsed[name]
            self._built.pop(name, None)

    def _parse(self, name: str, stamp: Stamp, old: _Parsed | None) -> _Parsed:
        content = read_file(self._directory, name)
        if isinstance(content, Problem):
            return _Parsed(stamp, f"unreadable {content.message}", problem=content)
        if old is not None and old.sha == content.sha:
            return replace(old, stamp=stamp)
        document = Document(name, content.text)
        services = read_services(document) if name.startswith(f"{SERVICES}/") else None
        document.forget()
        return _Parsed(stamp, content.sha, document, services)

    def _forget(self) -> None:
        for one in self._parsed.values():
            if one.document is not None:
                one.document.forget()

    def _make(self, digest: str, root: Root, files: list[ServiceFile]) -> tuple[Catalog | None, list[Problem]]:
        names = names_of(root, self._known)
        problems = [*root.problems, *check_root(root, names), *rules.check_rules(root, names)]
        problems += periodics.check_periodics(root, names)
        buildable = not any(problem.field.endswith("zone") for problem in problems)
        services, found = self._services(root, names, files)
        problems += found
        everything = _with_services(names, files, services)
        problems += [*check_scopes(root, everything), *periodics.check_targets(root, everything)]
        problems += build.check_built(services, root)
        problems += check_options(services, root, files, self._known.options)
        if not buildable:
            return None, problems
        catalog = _catalog(digest, root, services)
        if not root.problems:
            most = with_members(catalog, anybody(catalog))
            problems += [*_check_emergency(most), *rules.check_built_rules(most, utc_now())]
        return catalog, problems

    def _services(self, root: Root, names: Names, files: list[ServiceFile]) -> tuple[dict[str, Service], list[Problem]]:
        context = self._context()
        builder = build.Builder(root, build.environments(root))
        services: dict[str, Service] = {}
        problems: list[Problem] = []
        for file in files:
            made = self._build_file(file, context, builder, names)
            problems += made.problems
            services.update(made.services)
        problems += _names_twice(files)
        return services, problems

    def _build_file(self, file: ServiceFile, context: str, builder: build.Builder, names: Names) -> _Built:
        name = file.document.file
        old, sha = self._built.get(name), self._parsed[name].sha
        if old is not None and (old.context, old.sha) == (context, sha):
            return old
        problems = list(file.problems)
        services = {}
        for service, written in file.services.items():
            problems += check_service(file.entry(service), names)
            services[service] = builder.service(service, written, file.source(service))
        made = _Built(context, sha, services, tuple(problems))
        self._built[name] = made
        return made

    def _context(self) -> str:
        """Changes when any root file does: services depend on defaults, environments, teams and people."""
        root = [f"{name}\0{one.sha}" for name, one in self._parsed.items() if one.services is None]
        return hashlib.sha256("\n".join(sorted(root)).encode()).hexdigest()


def _with_services(names: Names, files: list[ServiceFile], services: Mapping[str, Service]) -> Names:
    """The names of services and their labels; what a file with a mistake may hold beside is not guessed."""
    if any(file.document.broken for file in files):
        return names
    declared = {name for file in files for name in file.lines}
    labels = {f"{key}={value}" for one in services.values() for key, value in one.labels.items()}
    return replace(names, services=declared, labels=labels if declared == services.keys() else None)


def _catalog(digest: str, root: Root, services: Mapping[str, Service]) -> Catalog:
    people = build.people(root)
    admins, admin_groups = build.people_of(root, root.setting("admins"))
    managers, manager_groups = build.people_of(root, root.setting("release_managers"))
    return Catalog(
        digest=digest,
        environments=build.environments(root),
        teams=build.teams(root),
        people=people,
        services=dict(sorted(services.items())),
        windows=rules.windows(root),
        freezes=rules.freezes(root),
        emergency=build.emergency(root),
        admins=admins,
        release_managers=managers,
        admin_groups=admin_groups,
        release_manager_groups=manager_groups,
        channels=root.setting("channels"),
        locale=root.setting("locale"),
        zone=root.setting("zone"),
        announce=root.setting("announce"),
        approvals=rules.approvals(root),
        groups=rules.groups(root),
        delegations=rules.delegations(root),
        calendars=rules.calendars(root),
        periodics=periodics.periodics(root),
        limits=rules.limits(root),
        places={name: Place(entry.value.locale, entry.value.zone) for name, entry in root.places.items()},
        by_chat_id=build.by_chat_id(people),
        by_email={person.email.casefold(): person for person in people.values() if person.email},
    )


def _names_twice(files: list[ServiceFile]) -> Iterator[Problem]:
    seen: dict[str, tuple[str, ServiceFile]] = {}
    for file in files:
        for name in file.lines:
            first, where = seen.setdefault(name.casefold(), (name, file))
            if where is file and first == name:
                continue
            source = str(where.source(first))
            text = (
                messages.defined_twice("service", name, source)
                if first == name
                else messages.differs_in_case("service", name, first, source)
            )
            yield Problem(file.document.file, file.lines[name], name, text)


def _check_emergency(catalog: Catalog) -> Iterator[Problem]:
    """Each rule must have enough people for every service it is about; the first it has not is named."""
    for at, rule in enumerate(catalog.emergency):
        found = _unsatisfied(catalog, rule)
        if found is not None:
            service, count = found
            text = messages.few_approvers(rule.name, rule.count, count, service)
            yield Problem(rule.source.file, rule.source.line, f"emergency[{at}].approvers", text)


def _unsatisfied(catalog: Catalog, rule: EmergencyRule) -> tuple[str, int] | None:
    seen: set[tuple[str, tuple[str, ...]]] = set()
    everywhere = rule.scope == Scope(environments=rule.scope.environments, kinds=rule.scope.kinds)
    for service in catalog.services.values():
        group = (service.team, service.owners)
        if group in seen or not (everywhere or matches_service(rule.scope, service)):
            continue
        seen.add(group)
        count = len(eligible(catalog, rule, service))
        if count < rule.count:
            return service.name, count
    return None
