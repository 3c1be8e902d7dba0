"""From the written pieces to the catalog: defaults cascade, conventions fill in names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from bot.catalog import languages, messages
from bot.catalog.metrics import metric_rule
from bot.catalog.model import (
    MIGRATIONS,
    BuildRule,
    DeliverySpec,
    EmergencyRule,
    Environment,
    GitopsSpec,
    GrayRule,
    MergeBy,
    MergeRequestRule,
    Person,
    PipelineSpec,
    PromoteRule,
    ReviewRule,
    Scope,
    Seat,
    Service,
    SourceLine,
    Target,
    Team,
    VerifyRule,
)
from bot.catalog.problems import Problem
from bot.catalog.schema import PersonIn, ReviewIn, ScopeIn, SeatIn, ServiceIn, TargetDefaults, TeamIn
from bot.catalog.written import Root

Settings = Mapping[str, Any]
"""One or several layers of `TargetDefaults` as plain values; nested ones are mappings too."""

SPECS = ("pipeline", "check", "cd", "gitops", "delivery", "verify", "gray", "promote")
VALUES = (
    "url",
    "rollback_on_failure",
    "in_flight",
    "cluster",
    "auto_deploy",
    "auto_deploy_tags",
    "auto_check",
    "check_drafts",
    "paths",
    "gates",
    "soak",
    "supersede",
)
_SHELL, _VALUES = PipelineSpec().provider, GitopsSpec().format


# -- the cascade -----------------------------------------------------------------------------------------------------


def layer(defaults: TargetDefaults) -> Settings:
    """What is written in one place; what is left out or null is not in it."""
    values: dict[str, Any] = {}
    for name in (*SPECS, *VALUES):
        value = getattr(defaults, name)
        if isinstance(value, BaseModel):
            value = {key: item for key, item in value.__dict__.items() if item is not None}
        if value is not None:
            values[name] = value
    return values


def merge(wide: Settings, narrow: Settings) -> Settings:
    """The narrower place wins, field by field."""
    merged = dict(wide)
    for name, value in narrow.items():
        merged[name] = _merge_spec(wide.get(name, {}), value) if isinstance(value, dict) else value
    return merged


def _merge_spec(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options belong to a provider (or format): another one does not inherit them."""
    merged = {**wide, **narrow}
    if "options" in wide and _kind(merged) == _kind(wide):
        merged["options"] = {**wide["options"], **narrow.get("options", {})}
    elif "options" not in narrow:
        merged.pop("options", None)
    return merged


def _kind(spec: Mapping[str, Any]) -> tuple[str, str]:
    return spec.get("provider", _SHELL), spec.get("format", _VALUES)


@dataclass(frozen=True, slots=True)
class Specs:
    """A target's settings, with names not yet filled in."""

    pipeline: PipelineSpec
    check: PipelineSpec
    cd: PipelineSpec
    gitops: GitopsSpec
    delivery: DeliverySpec
    verify: VerifyRule
    gray: GrayRule
    promote: PromoteRule
    values: Mapping[str, Any]


def specs_of(settings: Settings) -> Specs:
    """The settings as the model's types, with the model's own defaults for what nobody wrote."""
    ci = settings.get("pipeline", {})
    return Specs(
        PipelineSpec(**{"name": "{service}", **ci}),
        _beside(ci, "{service}-check", settings.get("check", {})),
        _beside(ci, "{service}-cd", settings.get("cd", {})),
        _gitops(settings.get("gitops", {})),
        DeliverySpec(**settings.get("delivery", {})),
        VerifyRule(**settings.get("verify", {})),
        _gray(settings.get("gray", {})),
        _promote(settings.get("promote", {})),
        {name: settings[name] for name in VALUES if name in settings},
    )


def _gitops(values: Mapping[str, Any]) -> GitopsSpec:
    asked = values.get("merge_request")
    if asked is None:
        return GitopsSpec(**values)
    rule = MergeRequestRule(asked.host, MergeBy(asked.merge), asked.project, tuple(asked.labels))
    return GitopsSpec(**{**values, "merge_request": rule})


def _beside(ci: Mapping[str, Any], name: str, own: Mapping[str, Any]) -> PipelineSpec:
    """A pipeline beside the one that builds: the same system and options unless it says otherwise, its own name."""
    return PipelineSpec(**_merge_spec({**ci, "name": name}, own))


def _gray(values: Mapping[str, Any]) -> GrayRule:
    lists = {name: tuple(values[name]) for name in ("pauses", "weights") if name in values}
    metrics = tuple(metric_rule(metric) for metric in values.get("metrics", ()))
    return GrayRule(**{**values, **lists, "metrics": metrics})


def _promote(values: Mapping[str, Any]) -> PromoteRule:
    """`from` is a word of Python's own."""
    renamed = {"source" if name == "from_" else name: value for name, value in values.items()}
    return PromoteRule(**{**renamed, **({"tags": tuple(values["tags"])} if "tags" in values else {})})


# -- services --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Builder:
    """Builds services on the settings of the root files; what many services share is made once."""

    root: Root
    environments: Mapping[str, Environment]
    _shared: dict[tuple[str, str], tuple[Settings, Specs]] = field(default_factory=dict)
    _rules: dict[tuple[str, str], BuildRule] = field(default_factory=dict)

    def service(self, name: str, written: ServiceIn, source: SourceLine) -> Service:
        """One service in every environment it runs in."""
        team = self.root.teams.get(written.team)
        wider = [written, *([team.value.defaults] if team else []), self.root.defaults]
        repo = next((one.repo for one in wider if one.repo), "")
        language = next((one.language for one in wider if one.language is not None), "")
        versions = next((one.versions for one in wider if one.versions is not None), "")
        owners_file = next((one.owners_file for one in wider if one.owners_file is not None), False)
        path = next((one.path for one in wider if one.path is not None), "")
        names = {"service": name, "team": written.team, "language": language}
        owners = written.owners if written.owners is not None else team.value.leads if team else []
        owning, groups = people_of(self.root, owners)
        return Service(
            name=name,
            team=written.team,
            repo=_filler(names)(repo),
            owners=owning,
            language=language,
            labels=written.labels,
            channels=written.channels,
            build=self._build_rule(written, language),
            targets={target.environment: target for target in self._targets(written, names)},
            source=source,
            owner_groups=groups,
            owners_file=owners_file,
            path=_filler(names)(path).strip("/"),
            needs=_unique(written.needs),
            versions=versions,
            migrations=next((tuple(one.migrations) for one in wider if one.migrations is not None), MIGRATIONS),
        )

    def _build_rule(self, written: ServiceIn, language: str) -> BuildRule:
        """By language, then the company's, the team's and the service's own; shared where the service has none."""
        team = self.root.teams.get(written.team)
        wider = (self.root.defaults.build, team.value.defaults.build if team is not None else None)
        company = self.root.setting("languages")
        if written.build is not None:
            return languages.rule(language, company, (*wider, written.build))
        key = (language, written.team)
        if key not in self._rules:
            self._rules[key] = languages.rule(language, company, wider)
        return self._rules[key]

    def _targets(self, written: ServiceIn, names: Mapping[str, str]) -> Iterator[Target]:
        own = layer(written)
        for environment in self.environments.values():
            if written.only is not None and environment.name not in written.only:
                continue
            special = written.environments.get(environment.name)
            settings, specs = self._base(written.team, environment.name)
            if own or special is not None:
                special_layer = layer(special) if special is not None else {}
                specs = specs_of(merge(merge(settings, own), special_layer))
            branch = (special.branch if special is not None else None) or written.branch or environment.branch
            yield _target(specs, environment, branch, names)

    def _base(self, team: str, environment: str) -> tuple[Settings, Specs]:
        """Global, environment's and team's settings."""
        key = (team, environment)
        if key not in self._shared:
            settings = layer(self.root.defaults)
            if environment in self.root.environments:
                settings = merge(settings, layer(self.root.environments[environment].value.defaults))
            if team in self.root.teams:
                settings = merge(settings, layer(self.root.teams[team].value.defaults))
            self._shared[key] = settings, specs_of(settings)
        return self._shared[key]


def _target(specs: Specs, environment: Environment, branch: str, names: Mapping[str, str]) -> Target:
    fill = _filler({**names, "environment": environment.name})
    gitops = specs.gitops
    values = {"cluster": environment.cluster, **specs.values}
    if "url" in values:
        values["url"] = fill(values["url"])
    if "paths" in values:
        values["paths"] = tuple(map(fill, values["paths"]))
    return Target(
        service=names["service"],
        environment=environment.name,
        branch=branch,
        pipeline=_named(specs.pipeline, fill),
        check=_named(specs.check, fill),
        cd=_named(specs.cd, fill),
        gitops=GitopsSpec(
            fill(gitops.repo),
            fill(gitops.branch),
            fill(gitops.path),
            gitops.format,
            gitops.options,
            gitops.merge_request,
        ),
        delivery=specs.delivery,
        verify=specs.verify,
        gray=specs.gray,
        promote=specs.promote,
        **values,
    )


def _named(spec: PipelineSpec, fill: Callable[[str], str]) -> PipelineSpec:
    if "{" not in spec.name:
        return spec
    return PipelineSpec(spec.provider, fill(spec.name), spec.timeout, spec.options)


def _filler(names: Mapping[str, str]) -> Callable[[str], str]:
    """Fills in the known names and leaves every other placeholder as it is; names have no braces."""
    pairs = [("{" + key + "}", value) for key, value in names.items()]

    def fill(pattern: str) -> str:
        if "{" in pattern:
            for placeholder, value in pairs:
                pattern = pattern.replace(placeholder, value)
        return pattern

    return fill


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


# -- what stands in the root files -----------------------------------------------------------------------------------


def environments(root: Root) -> dict[str, Environment]:
    """In promotion order: by `order`, else as written."""
    made = [
        Environment(
            name=name,
            order=entry.value.order if entry.value.order is not None else at + 1,
            branch=entry.value.branch,
            protected=entry.value.protected,
            channels=entry.value.channels,
            source=entry.source(),
            cluster=entry.value.cluster,
            preview=entry.value.preview,
        )
        for at, (name, entry) in enumerate(root.environments.items())
    ]
    return {one.name: one for one in sorted(made, key=lambda one: one.order)}


def teams(root: Root) -> dict[str, Team]:
    """Teams by id."""
    return {name: _team(root, name, entry.value) for name, entry in root.teams.items()}


def _team(root: Root, name: str, written: TeamIn) -> Team:
    leads, lead_groups = people_of(root, written.leads)
    members, member_groups = people_of(root, written.members)
    return Team(name, written.name or name, leads, members, written.channels, lead_groups, member_groups)


def people_of(root: Root, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The people that names of people and groups mean, as far as files tell, and the groups among the names."""
    groups = tuple(dict.fromkeys(one for one in names if one in root.groups and one not in root.people))
    found = [people for one in names for people in (root.groups[one].value.people if one in groups else [one])]
    return _unique(found), groups


def people(root: Root) -> dict[str, Person]:
    """People by id."""
    return {name: _person(name, entry.value) for name, entry in root.people.items()}


def _person(name: str, written: PersonIn) -> Person:
    return Person(
        id=name,
        name=written.name or name,
        email=written.email,
        chats={platform: tuple(accounts) for platform, accounts in written.chats.items()},
        locale=written.locale,
        zone=written.zone,
        active=written.active,
    )


def by_chat_id(known: Mapping[str, Person]) -> dict[tuple[str, str], Person]:
    """(platform, account) -> person; the console account is the person's id."""
    accounts = {
        (platform, account): person
        for person in known.values()
        for platform, ids in person.chats.items()
        for account in ids
    }
    return accounts | {("console", person.id): person for person in known.values()}


def emergency(root: Root) -> tuple[EmergencyRule, ...]:
    """Emergency rules as written."""
    return tuple(
        EmergencyRule(
            name=entry.value.name,
            scope=scope_of(entry.value),
            count=entry.value.approvers.count,
            roles=tuple(dict.fromkeys(entry.value.approvers.roles)),
            people=_unique(entry.value.approvers.people),
            expires_after=entry.value.expires_after,
            pass_for=entry.value.pass_for,
            remind_after=entry.value.remind_after,
            review=_review(entry.value.review),
            source=entry.source(),
        )
        for entry in root.emergency
    )


def _review(written: ReviewIn) -> ReviewRule:
    by = seat_of(written.by) if written.by is not None else None
    return ReviewRule(written.within, written.block, by)


def seat_of(written: SeatIn) -> Seat:
    """A group of approvers as written."""
    names = [role.value.replace("_", " ") for role in written.roles]
    return Seat(
        name=written.name or ", ".join([*names, *written.groups, *written.people]),
        count=written.count,
        roles=tuple(written.roles),
        people=tuple(written.people),
        groups=tuple(written.groups),
    )


def scope_of(written: ScopeIn) -> Scope:
    """What a rule is about."""
    return Scope(
        environments=tuple(written.environments),
        teams=tuple(written.teams),
        services=tuple(written.services),
        labels=tuple(written.labels),
        kinds=tuple(kind.value for kind in written.kinds),
        clusters=tuple(written.clusters),
    )


# -- what only shows when everything is together ---------------------------------------------------------------------


def check_built(services: Mapping[str, Service], root: Root) -> Iterator[Problem]:
    """Services without an owner or a place to read from and to write to, and two that write to the same place."""
    missing: dict[str, list[tuple[Service, str]]] = {"owners": [], "repo": [], "gitops.repo": []}
    for service in services.values():
        if not (service.owners or service.owner_groups or service.owners_file or _names_leads(root, service.team)):
            missing["owners"].append((service, messages.no_owner(service.team)))
        if not service.repo:
            missing["repo"].append((service, messages.no_repository()))
        elif "{environment}" in service.repo:
            missing["repo"].append((service, messages.repository_per_environment()))
        if not all(target.gitops.repo for target in service.targets.values()):
            missing["gitops.repo"].append((service, messages.no_configuration_repository()))
    for field_, found in missing.items():
        yield from _told_once(field_, found)
    yield from _told_once("gitops.path", list(_same_places(services)))
    yield from _told_once("needs", list(_needs(services)))


def _names_leads(root: Root, team: str) -> bool:
    """True also if the team is not known: that has been told."""
    return team not in root.teams or bool(root.teams[team].value.leads)


def _needs(services: Mapping[str, Service]) -> Iterator[tuple[Service, str]]:
    """Needs that are no services, and circles: a train could never bring one of them first."""
    done: set[str] = set()
    for service in services.values():
        for name in service.needs:
            if name not in services:
                yield service, messages.unknown("service", name, services)
        circle = _circle(services, service.name, done)
        if circle:
            yield service, messages.needs_in_circle(circle)


def _circle(services: Mapping[str, Service], start: str, done: set[str]) -> list[str]:
    """The first circle that is met from there, empty if none. done: services that are in none."""
    path: list[str] = []
    left: list[tuple[str, bool]] = [(start, True)]
    while left:
        name, is_entered = left.pop()
        if not is_entered:
            path.pop()
            done.add(name)
        elif name in path:
            return [*path[path.index(name) :], name]
        elif name not in done and name in services:
            path.append(name)
            left += [(name, False), *((one, True) for one in services[name].needs)]
    return []


def _same_places(services: Mapping[str, Service]) -> Iterator[tuple[Service, str]]:
    taken: dict[tuple[str, str, str], Target] = {}
    for service in services.values():
        for target in service.targets.values():
            place = (target.gitops.repo, target.gitops.branch, target.gitops.path)
            first = taken.setdefault(place, target)
            if first is not target and target.gitops.repo:
                one, other = f"{first.service} in {first.environment}", f"{service.name} in {target.environment}"
                yield service, messages.same_place(one, other, target.gitops.path)
                break


def _told_once(field_: str, found: list[tuple[Service, str]]) -> Iterator[Problem]:
    """A missing default is one mistake, not 5,000."""
    told = found if len(found) <= 3 else found[:1]
    for service, text in told:
        source = service.source or SourceLine(".", 0)
        message = messages.and_more(text, len(found) - 1) if len(told) < len(found) else text
        yield Problem(source.file, source.line, f"{service.name}.{field_}", message)
