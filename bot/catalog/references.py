"""Whether everything that is named exists, and whether no two things claim the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pydantic import BaseModel

from bot.catalog import explain, messages, units
from bot.catalog.problems import Path, Problem
from bot.catalog.schema import (
    NAME,
    ApprovalIn,
    EmergencyIn,
    FreezeIn,
    GroupIn,
    LeaveIn,
    LimitIn,
    PersonIn,
    RecursIn,
    ScopeIn,
    ServiceIn,
    TargetDefaults,
    WindowIn,
)
from bot.catalog.written import Entry, Root

CODE_HOSTS = frozenset({"github", "gitlab"})
"""Where people have accounts too, which OWNERS, teams and pushes name."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the program has, so that other names are mistakes: providers, chat platforms, formats of Git files.

    options: ("pipeline" or "delivery", provider), ("gitops", format), or ("gate", name) -> the model of its options;
    those of others are not looked at.
    """

    pipelines: frozenset[str] = frozenset({"shell", "jenkins", "gitlab", "github", "tekton", "prow", "yunxiao"})
    deliveries: frozenset[str] = frozenset({"shell", "pipeline", "argocd", "kubernetes", "canary", "rollouts"})
    platforms: frozenset[str] = frozenset({"console", "slack", "feishu", "dingtalk", "wecom", "webhook", "github"})
    formats: frozenset[str] = frozenset({"values", "helm", "kustomize", "manifest", "argocd-source"})
    gates: frozenset[str] = frozenset({"tests", "coverage", "sonarqube", "scan", "signature", "checks", "test_job"})
    options: Mapping[tuple[str, str], type[BaseModel]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Names:
    """What is defined. None: not known, because a file that may hold it is broken; nothing is said about it then.

    owners: what may stand where owners are named, people and groups; owner: what such a one is called.
    """

    environments: Collection[str] | None
    teams: Collection[str] | None
    people: Collection[str] | None
    services: Collection[str] | None = None
    labels: Collection[str] | None = None
    owners: Collection[str] | None = None
    owner: str = "person"
    known: Known = field(default_factory=Known)


def names_of(root: Root, known: Known) -> Names:
    """The names in the root files."""
    sections = {section: _set(root.names.get(section)) for section in ("environments", "teams", "people")}
    people, groups = root.names.get("people"), root.names.get("groups")
    owners = dict.fromkeys([*people, *groups]) if people is not None and groups is not None else None
    return Names(**sections, owners=owners, owner="person or group" if groups else "person", known=known)


def _set(names: Iterable[str] | None) -> Collection[str] | None:
    return dict.fromkeys(names) if names is not None else None


def check_root(root: Root, names: Names) -> Iterator[Problem]:
    """Everything in the root files except scopes, which need the services."""
    yield from _ids(root)
    yield from _people(root, names)
    yield from _groups(root, names)
    for place in root.places.values():
        yield from _zone(place, place.value.zone, ("zone",))
    for entry in root.environments.values():
        yield from _platforms(entry, entry.value.channels, ("channels",), names)
        yield from check_defaults(entry, entry.value.defaults, ("defaults",), names)
    for team in root.teams.values():
        yield from _each(team, names.owner, team.value.leads, ("leads",), names.owners)
        yield from _each(team, names.owner, team.value.members, ("members",), names.owners)
        yield from _platforms(team, team.value.channels, ("channels",), names)
        yield from check_defaults(team, team.value.defaults, ("defaults",), names)
    yield from _settings(root, names)
    yield from _rules(root, names)


def check_service(entry: Entry[ServiceIn], names: Names) -> Iterator[Problem]:
    """One service of a services file."""
    service = entry.value
    if not NAME.fullmatch(str(entry.path[0])):
        yield entry.problem((), messages.bad_name())
    yield from _one(entry, "team", service.team, ("team",), names.teams)
    yield from _each(entry, names.owner, service.owners or (), ("owners",), names.owners)
    yield from _each(entry, "environment", service.only or (), ("only",), names.environments)
    if service.channels:
        yield from _platforms(entry, service.channels, ("channels",), names)
    yield from check_defaults(entry, service, (), names)
    for environment, own in service.environments.items():
        path = ("environments", environment)
        allowed = names.environments if service.only is None else service.only
        yield from _one(entry, "environment", environment, path, allowed)
        yield from check_defaults(entry, own, path, names)


def check_defaults(entry: Entry[object], defaults: TargetDefaults, path: Path, names: Names) -> Iterator[Problem]:
    """Names of providers and formats."""
    known = names.known
    for name, spec in (("pipeline", defaults.pipeline), ("check", defaults.check), ("cd", defaults.cd)):
        if spec is not None and spec.provider is not None:
            where = (*path, name, "provider")
            yield from _one(entry, "pipeline provider", spec.provider, where, known.pipelines)
    if defaults.delivery is not None and defaults.delivery.provider is not None:
        where = (*path, "delivery", "provider")
        yield from _one(entry, "delivery provider", defaults.delivery.provider, where, known.deliveries)
    if defaults.gitops is not None and defaults.gitops.format is not None:
        yield from _one(entry, "format", defaults.gitops.format, (*path, "gitops", "format"), known.formats)
    for gate, settings in (defaults.gates or {}).items():
        yield from _one(entry, "gate", gate, (*path, "gates", gate), known.gates)
        model = known.options.get(("gate", gate))
        for place, text in explain.mistakes(model, settings) if model is not None else ():
            yield entry.problem((*path, "gates", gate, *place), text)


def check_scopes(root: Root, names: Names) -> Iterator[Problem]:
    """A rule about something that does not exist would silently never apply."""
    rules: list[Entry[ScopeIn]] = [
        *root.windows,
        *root.freezes,
        *root.release_weeks,
        *root.emergency,
        *root.approvals,
        *root.limits,
    ]
    clusters = _clusters(root)
    for rule in rules:
        yield from _scope(rule, "environment", rule.value.environments, "environments", names.environments)
        yield from _scope(rule, "team", rule.value.teams, "teams", names.teams)
        yield from _scope(rule, "service", rule.value.services, "services", names.services)
        yield from _scope(rule, "cluster", rule.value.clusters, "clusters", clusters)
        for at, pattern in enumerate(rule.value.labels):
            if "=" not in pattern:
                yield rule.problem(("labels", at), messages.label_without_value(pattern))
        labels = [pattern for pattern in rule.value.labels if "=" in pattern]
        yield from _scope(rule, "label", labels, "labels", names.labels)


def _clusters(root: Root) -> Collection[str] | None:
    """Clusters of environments; None if there may be others, in the settings of services."""
    named = [entry.value.cluster for entry in root.environments.values()]
    return dict.fromkeys(one for one in named if one) if all(named) else None


def _scope(
    rule: Entry[ScopeIn], what: str, patterns: list[str], key: str, choices: Collection[str] | None
) -> Iterator[Problem]:
    for at, pattern in enumerate(patterns):
        if choices is None or pattern in choices or any(sign in pattern for sign in "*?["):
            continue
        if not any(fnmatchcase(choice, pattern) for choice in choices):
            yield rule.problem((key, at), messages.matches_nothing(what, pattern, choices))


def _each(
    entry: Entry[object], what: str, found: Iterable[str], path: Path, choices: Collection[str] | None
) -> Iterator[Problem]:
    if choices is None:
        return
    for at, name in enumerate(found):
        if name not in choices:
            yield entry.problem((*path, at), messages.unknown(what, name, choices))


def _one(entry: Entry[object], what: str, name: str, path: Path, choices: Collection[str] | None) -> Iterator[Problem]:
    if choices is not None and name not in choices:
        yield entry.problem(path, messages.unknown(what, name, choices))


def _platforms(entry: Entry[object], channels: Mapping[str, object], path: Path, names: Names) -> Iterator[Problem]:
    for platform in channels:
        yield from _one(entry, "chat platform", platform, (*path, platform), names.known.platforms)


def _accounts_known(entry: Entry[object], chats: Mapping[str, object], names: Names) -> Iterator[Problem]:
    for platform in chats:
        known = names.known.platforms | CODE_HOSTS
        yield from _one(entry, "chat platform", platform, ("chats", platform), known)


def _ids(root: Root) -> Iterator[Problem]:
    sections: dict[str, Mapping[str, Entry[object]]] = {
        "environment": root.environments,
        "team": root.teams,
        "person": root.people,
    }
    for what, entries in sections.items():
        seen: dict[str, str] = {}
        for name, entry in entries.items():
            if not NAME.fullmatch(name):
                yield entry.problem((), messages.bad_name())
            first = seen.setdefault(name.casefold(), name)
            if first != name:
                where = str(entries[first].source())
                yield entry.problem((), messages.differs_in_case(what, name, first, where))


def _people(root: Root, names: Names) -> Iterator[Problem]:
    owners: dict[tuple[str, str], str] = {("console", person): person for person in root.people}
    for person, entry in root.people.items():
        yield from _accounts_known(entry, entry.value.chats, names)
        yield from _zone(entry, entry.value.zone, ("zone",))
        for field_, what, account in _accounts(entry.value):
            if owners.setdefault(account, person) != person:
                yield entry.problem(field_, messages.taken(what, account[1], owners[account]))


def _groups(root: Root, names: Names) -> Iterator[Problem]:
    for name, entry in root.groups.items():
        yield from _platforms(entry, entry.value.chats, ("chats",), names)
        if name in root.people:
            yield entry.problem((), messages.person_and_group(name))


def _accounts(person: PersonIn) -> Iterator[tuple[Path, str, tuple[str, str]]]:
    if person.email:
        yield ("email",), "The e-mail", ("e-mail", person.email.casefold())
    for platform, accounts in person.chats.items():
        for account in accounts:
            yield ("chats", platform), f"The {platform} account", (platform, account)


def _settings(root: Root, names: Names) -> Iterator[Problem]:
    for section, entry in root.settings.items():
        if section in ("admins", "release_managers"):
            yield from _each(entry, names.owner, getattr(entry.value, section), (), names.owners)
        elif section == "channels":
            yield from _platforms(entry, entry.value.channels, (), names)
        elif section == "zone":
            yield from _zone(entry, entry.value.zone, ())
        elif section == "defaults":
            yield from check_defaults(entry, entry.value.defaults, (), names)
    environments = root.names.get("environments")
    if environments is not None and not environments:
        yield Problem(".", 0, "environments", messages.no_environments())


def _zone(entry: Entry[object], zone: str | None, path: Path) -> Iterator[Problem]:
    if zone and not units.is_zone(zone):
        yield entry.problem(path, messages.unknown("time zone", zone, units.zones()))


def _rules(root: Root, names: Names) -> Iterator[Problem]:
    yield from _unique("window", root.windows)
    yield from _unique("freeze", [*root.freezes, *root.release_weeks])
    yield from _unique("emergency rule", root.emergency)
    yield from _unique("approval rule", root.approvals)
    yield from _unique("limit", root.limits)
    times: list[Entry[RecursIn]] = [*root.windows, *root.freezes, *root.release_weeks]
    for timed in times:
        yield from _zone(timed, timed.value.zone, ("zone",))
        yield from _order(timed, root.setting("zone"))
    zoned: list[Entry[GroupIn] | Entry[LeaveIn] | Entry[ApprovalIn]]
    zoned = [*root.groups.values(), *root.leave, *root.approvals]
    for entry in zoned:
        yield from _zone(entry, entry.value.zone, ("zone",))
    for rule in root.emergency:
        yield from _each(rule, "person", rule.value.approvers.people, ("approvers", "people"), names.people)


def _unique(
    what: str,
    entries: Sequence[Entry[WindowIn] | Entry[FreezeIn] | Entry[EmergencyIn] | Entry[ApprovalIn] | Entry[LimitIn]],
) -> Iterator[Problem]:
    seen: dict[str, Entry[object]] = {}
    for entry in entries:
        name = entry.value.name
        first = seen.setdefault(name, entry)
        if first is not entry:
            yield entry.problem(("name",), messages.defined_twice(what, name, str(first.source())))


def _order(entry: Entry[RecursIn], default: str) -> Iterator[Problem]:
    timed = entry.value
    zone = timed.zone or default
    if timed.until is None or timed.from_ is None or not units.is_zone(zone):
        return
    if units.in_zone(timed.until, zone, end=True) <= units.in_zone(timed.from_, zone):
        yield entry.problem(("until",), messages.ends_before_start())
