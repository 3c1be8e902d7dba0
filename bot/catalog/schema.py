"""The written form of the catalog: what may stand in the files, and its JSON Schema for editors.

A directory holds any number of `*.yaml` files with the sections of `RootFile` (each section in one file), and
`services/**/*.yaml`, each a mapping of service names to `ServiceIn`.

Settings cascade, the later one wins: `defaults`, `environments.<e>.defaults`, `teams.<t>.defaults`, the
service, the service's `environments.<e>`. `pipeline`, `gitops`, `delivery` and `verify` are merged field by field,
`options` key by key as long as the provider stays the same; another provider starts with no options.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import models_json_schema
from pydantic_core import PydanticCustomError

from bot.catalog import messages, units
from bot.catalog.document import typed
from bot.catalog.model import OF_RELEASES, DayKind, InFlight, Kind, Per, ReviewBlock, Role
from bot.policy.cron import parse_cron
from bot.sources import naming

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
NAME = re.compile(NAME_PATTERN)
APPROVING = (Role.ADMIN, Role.RELEASE_MANAGER, Role.TEAM_LEAD, Role.OWNER, Role.MEMBER)
"""Roles that an emergency rule may name; `anyone` would be no approval."""

LEVELS = ("guest", "planner", "reporter", "developer", "maintainer", "owner")
"""Of members in GitLab, from least to most."""

T = TypeVar("T")


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise PydanticCustomError("bad_name", messages.bad_name().replace("{", "{{"))
    return value


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError(messages.bad_duration())
    return units.parse_duration(value)


def _some_time(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError(messages.bad_duration())
    return value


def _days(value: object) -> object:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise ValueError(messages.bad_days("", units.DAYS) if value in ([], "") else "must be a list of days")
    return units.parse_days(value)


def _hours(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(messages.bad_hours())
    return units.parse_hours(value)


def _instant(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(messages.bad_instant())
    return units.parse_instant(value)


def _cron(value: str) -> str:
    try:
        parse_cron(value)
    except ValueError as error:
        raise ValueError(messages.bad_cron(str(error))) from None
    return value


def _date(value: object) -> object:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(messages.bad_date()) from None


def _path(value: str) -> str:
    if not value or value.startswith("/") or "\\" in value or ".." in value.split("/"):
        raise ValueError(messages.bad_path())
    return value


def _address(value: str) -> str:
    """A token in an address would end up in logs and cards, so it is refused here, and never repeated."""
    if re.search(r"://[^/@\s]*:[^/@\s]*@", value) or re.search(r"^https?://[^/@\s]+@", value):
        raise PydanticCustomError("password", messages.password_in_address())
    return value


def _naming(value: str) -> str:
    unknown = naming.unknown_holes(value)
    if unknown:
        raise ValueError(messages.unknown("placeholder", unknown[0], naming.HOLES))
    if value and not any(f"{{{one}}}" in value for one in ("count", "commit", "time")):
        raise ValueError("needs {count}, {commit} or {time}, or two commits would have one name")
    return value


def _github_team(value: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", value):
        raise ValueError(messages.bad_team())
    return value


def _gitlab_place(value: str) -> str:
    place, _, level = value.partition(":")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", place) or (level and level not in LEVELS):
        raise ValueError(messages.bad_place(level, LEVELS))
    return value


def _email(value: str) -> str:
    if value and not re.fullmatch(r"[^@\s<>,]+@[^@\s<>,]+", value):
        raise ValueError(messages.bad_email())
    return value


def _locale(value: str) -> str:
    if value and not re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*", value):
        raise ValueError(messages.bad_locale())
    return value


def _list_schema(item: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item}]})


_TEXT = {"type": "string"}
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
Words = Annotated[list[str], BeforeValidator(_one_or_more), _list_schema(_TEXT)]
Kinds = Annotated[
    list[Kind],
    BeforeValidator(_one_or_more),
    _list_schema({"type": "string", "enum": [kind.value for kind in OF_RELEASES]}),
]
Roles = Annotated[
    list[Role],
    BeforeValidator(_one_or_more),
    _list_schema({"type": "string", "enum": [role.value for role in APPROVING]}),
]
_DURATION_SCHEMA = WithJsonSchema({"type": "string", "pattern": units.DURATION_PATTERN, "examples": ["30s", "1h30m"]})
Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_some_time), _DURATION_SCHEMA]
DurationOrZero = Annotated[timedelta, BeforeValidator(_duration), _DURATION_SCHEMA]
Days = Annotated[tuple[int, ...], BeforeValidator(_days), BeforeValidator(_one_or_more), _list_schema(_TEXT)]
Hours = Annotated[
    tuple[time, time],
    BeforeValidator(_hours),
    WithJsonSchema({"type": "string", "pattern": units.HOURS_PATTERN, "examples": ["10:00-18:00", "00:00-24:00"]}),
]
Instant = Annotated[
    datetime, BeforeValidator(_instant), WithJsonSchema({"type": "string", "examples": ["2026-11-09T18:00"]})
]
Cron = Annotated[str, AfterValidator(_cron), WithJsonSchema({"type": "string", "examples": ["0 10 * * mon-fri"]})]
Date = Annotated[date, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]
Language = Annotated[str, AfterValidator(lambda value: _name(value) if value else value)]
Options = Annotated[dict[str, Any], BeforeValidator(typed)]
RepositoryPath = Annotated[str, AfterValidator(_path)]
Address = Annotated[str, AfterValidator(_address)]
VersionNaming = Annotated[str, AfterValidator(_naming)]
Team = Annotated[str, AfterValidator(_github_team)]
Place = Annotated[str, AfterValidator(_gitlab_place)]
Email = Annotated[str, AfterValidator(_email)]
Locale = Annotated[str, AfterValidator(_locale)]
Channels = dict[str, Annotated[str, StringConstraints(min_length=1)]]


class Written(BaseModel):
    """Base of everything written: frozen, and an unknown field is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)


class PipelineIn(Written):
    """A pipeline of a service: `pipeline` builds a commit (ci), `check` looks at a merge request, `cd` deploys.

    What `check` and `cd` leave out is as in `pipeline`; their names are {service}-check and {service}-cd then.
    """

    provider: str | None = None
    """Name of the CI system, for instance shell."""
    name: str | None = None
    """The pipeline's name there; may contain {service}, {team}, {environment} and {language}."""
    timeout: Duration | None = None
    """How long one run may take."""
    options: Options | None = None
    """The provider's own settings, left as they are."""


class MergeRequestIn(Written):
    """Propose changes by a merge request (pull request) instead of pushing them."""

    host: Literal["gitlab", "github"]
    """Where the configuration repository is."""
    merge: Literal["people", "slipway"] = "people"
    """Who merges: people, or Slipway as soon as the host allows it."""
    project: str = ""
    """Its group/name there; left out: as in the repository's address."""
    labels: list[str] = Field(default_factory=list)
    """Labels of the merge request."""


class StepIn(Written):
    """One command of a build."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$")]
    run: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)]
    """A list of words, never a shell string."""


class BuildIn(Written):
    """How services of a language are built; what is left out is what Slipway knows of the language."""

    steps: list[StepIn] | None = None
    """Commands, in order; `.slipway/pipeline.yaml` in the repository replaces them."""
    artifact: RepositoryPath | None = None
    """The file or directory that is left."""
    tests: list[RepositoryPath] | None = None
    """Patterns of JUnit reports, such as target/surefire-reports/*.xml."""
    coverage: list[RepositoryPath] | None = None
    """Patterns of coverage reports."""
    image_file: RepositoryPath | None = None
    """What the image is built from."""


class GitopsIn(Written):
    """Where the version is written."""

    repo: Address | None = None
    """Configuration repository: an address, or a path relative to this directory."""
    branch: str | None = None
    """Branch that is written."""
    path: RepositoryPath | None = None
    """File in the repository; may contain {service}, {team}, {environment} and {language}."""
    format: str | None = None
    """Kind of file; `values` is a YAML file with version, digest and commit."""
    options: Options | None = None
    """Further settings of the format, left as they are."""
    merge_request: MergeRequestIn | None = None
    """Propose the change instead of pushing it."""


class DeliveryIn(Written):
    """How a version is brought to run."""

    provider: str | None = None
    """Name of the CD system, for instance shell."""
    options: Options | None = None
    """The provider's own settings, left as they are."""


class VerifyIn(Written):
    """When a deployment counts as running."""

    timeout: Duration | None = None
    """How long to wait until it is healthy."""
    settle: DurationOrZero | None = None
    """How long it must stay healthy without a break."""
    interval: Duration | None = None
    """Time between two looks."""


class MetricIn(Written):
    """A number that tells whether a release is well."""

    name: str = ""
    """What people call it, for instance success rate."""
    query: str = ""
    """PromQL; may contain {service}, {environment}, {team}, {version}, {digest}, {stable} and {stable_digest}."""
    success_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Instead of a query: the least share of requests that must not fail, for instance 0.99."""
    latency: Annotated[float, Field(gt=0)] | None = None
    """Instead of a query: the most seconds that `quantile` of the requests may take."""
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.99
    selector: str = 'app="{service}"'
    """Labels of the service's series, for success_rate and latency."""
    metric: str = ""
    """Their metric; left out: http_requests_total and http_request_duration_seconds_bucket."""
    failed: str = 'code=~"5.."'
    """Labels of failed requests."""
    window: str = "2m"
    """Over how long they are counted."""
    compare: str = ""
    """The label that holds the version: the new one is compared with the one that ran before, by `factor`."""
    factor: Annotated[float, Field(gt=0)] | None = None
    """The least share of the stable success rate, or the most times the stable latency."""
    min: float | None = None
    """The least that is good."""
    max: float | None = None
    """The most that is good."""
    baseline: str = ""
    """The same of the stable version, to compare with."""
    min_factor: float | None = None
    """The least share of the baseline that is good, for instance 0.95."""
    max_factor: float | None = None
    """The most times the baseline that is good, for instance 1.2."""

    @model_validator(mode="after")
    def _has_a_limit(self) -> MetricIn:
        ways = (bool(self.query), self.success_rate is not None, self.latency is not None)
        if sum(ways) != 1:
            raise ValueError("give exactly one of query, success_rate and latency")
        if not self.query:
            if bool(self.compare) != (self.factor is not None):
                raise ValueError("compare and factor belong together")
            return self
        if not self.name:
            raise ValueError("a query needs a name")
        if all(limit is None for limit in (self.min, self.max, self.min_factor, self.max_factor)):
            raise ValueError("give min or max, or a baseline with min_factor or max_factor")
        if bool(self.baseline) != (self.min_factor is not None or self.max_factor is not None):
            raise ValueError("baseline and min_factor or max_factor belong together")
        return self


class GrayIn(Written):
    """How long a release stays with a part of the traffic, and what decides meanwhile."""

    pauses: list[Duration] | None = None
    """After these it goes on by itself if the metrics are good; none: a person decides."""
    weights: list[Annotated[int, Field(ge=0, le=100)]] | None = None
    """Percent of traffic at each pause, to be shown."""
    timeout: Duration | None = None
    """When nobody decided, it is given up."""
    interval: Duration | None = None
    """Time between two looks at the metrics."""
    settle: DurationOrZero | None = None
    """How long the metrics must stay good after full."""
    metrics: list[MetricIn] | None = None
    """What must be good; no data is not good."""


class PromoteIn(Written):
    """What a promotion does besides deploying the digest."""

    image: str | None = None
    """The image with its registry, without tag, for instance registry.example.com/shop/{service}."""
    from_: str | None = Field(default=None, alias="from")
    """The repository it is copied from, where that is another one."""
    tags: list[str] | None = None
    """Further names of the image, with {service}, {environment}, {team}, {version} and {commit}."""
    git_tag: str | None = None
    """Tag made in the source repository, for instance {service}-{version}."""


class TargetDefaults(Written):
    """Settings of a service in an environment; each may be left to the next wider place."""

    pipeline: PipelineIn | None = None
    check: PipelineIn | None = None
    cd: PipelineIn | None = None
    gitops: GitopsIn | None = None
    delivery: DeliveryIn | None = None
    verify: VerifyIn | None = None
    gray: GrayIn | None = None
    promote: PromoteIn | None = None
    url: str | None = None
    """Where the running service answers."""
    rollback_on_failure: bool | None = None
    """Whether a failed deployment goes back to the version before."""
    in_flight: InFlight | None = None
    """What happens to a deployment on its way when its window closes."""
    soak: DurationOrZero | None = None
    """How long a release must have run in the environment before, to be promoted into this one."""
    cluster: str | None = None
    """Cluster it runs in, for the scopes of rules; left out: the environment's."""
    supersede: bool | None = None
    """Whether a newer deployment ends what the same person asked for before and still waits."""
    auto_deploy: bool | None = None
    """Whether a push to its branch deploys it by itself, in the name of who pushed."""
    auto_deploy_tags: tuple[str, ...] | None = None
    """Patterns of tags, such as `v*`: one that is pushed and stands on the branch is deployed by itself."""
    auto_check: bool | None = None
    """Whether a merge request to its branch is checked by the check pipeline, in the name of who opened or pushed."""
    check_drafts: bool | None = None
    """Whether drafts are, too."""
    paths: tuple[str, ...] | None = None
    """Patterns of files in a shared repository, such as `pay/*` or `{service}/*`; a push or merge request that touches
    none of them deploys and checks nothing."""
    gates: dict[str, Options] | None = None
    """Gate -> its settings; each must pass before the version is written to Git."""


class DefaultsIn(TargetDefaults):
    """Settings for all services, or all of a team."""

    repo: Address | None = None
    """Source repository; may contain {service}, {team} and {language}."""
    language: Language | None = None
    """Programming language, for patterns, for people, and for how it is built: java, go, nodejs, php, python."""
    migrations: Words | None = None
    """Patterns of files that change a database, of which a rollback warns."""
    versions: VersionNaming | None = None
    """How releases are called, for instance {release}-{date}.{count}; left out: by their tag, else by their commit."""
    build: BuildIn | None = None
    """What is built differently than the language's convention says."""
    owners_file: bool | None = None
    """Whether approvers of OWNERS in the repository, on the branch of the last environment, own it too."""
    path: RepositoryPath | None = None
    """Its directory in a shared repository, for OWNERS; may contain {service} and {team}."""


class OwnTarget(TargetDefaults):
    """What one service does differently in one environment."""

    branch: str | None = None
    """Branch that is deployed there when no version is named."""


class EnvironmentIn(Written):
    """A place where releases run."""

    branch: str = "main"
    """Branch that is deployed when no version is named."""
    order: int | None = None
    """Place in the promotion order; left out: the order of writing."""
    protected: bool = False
    """Whether only owners, leads and release managers may deploy here."""
    cluster: str = ""
    """Its cluster, for the scopes of rules."""
    preview: bool = False
    """Whether it stays open in release weeks."""
    channels: Channels = {}
    """Chat platform -> place, for instance {console: "#releases"}."""
    defaults: TargetDefaults = Field(default_factory=TargetDefaults)


class TeamIn(Written):
    """People who work together."""

    name: str | None = None
    """Name for people; left out: the id."""
    leads: Words = []
    members: Words = []
    channels: Channels = {}
    defaults: DefaultsIn = Field(default_factory=DefaultsIn)


class PersonIn(Written):
    """One human, whatever the number of chat accounts."""

    name: str | None = None
    """Name for people; left out: the id."""
    email: Email = ""
    chats: dict[str, Words] = {}
    """Chat platform -> account ids there; the console account is the id itself."""
    locale: Locale = ""
    zone: str = ""
    active: bool = True
    """No for somebody who left: the history keeps the name, the rights are gone."""


class ScopeIn(Written):
    """What a rule is about; nothing named means all. Names may be patterns such as `pay-*`."""

    environments: Words = []
    teams: Words = []
    services: Words = []
    labels: Words = []
    """Labels as key=value, one of which must match."""
    kinds: Kinds = []
    clusters: Words = []


class RecursIn(ScopeIn):
    """A time: on days of the week, by cron for a duration, on the days of a calendar, or from one date to another."""

    days: Days = ()
    """Days such as [tue, thu], mon-fri, daily, weekdays or weekend."""
    hours: Hours = (time(0), time(0))
    """Such as "10:00-18:00", "22:00-02:00" (overnight, belongs to the first day); left out: the whole day."""
    cron: Cron = ""
    """When it begins, as five fields of wall time; needs `duration`."""
    duration: Duration | None = None
    """How long each one is, at most 31 days."""
    calendar: str = ""
    """Name of a calendar whose days count; needs `on`."""
    on_: DayKind = Field(default=DayKind.ANY, alias="on")
    """The calendar's `workdays` or `holidays` (weekends too)."""
    from_: Instant | None = Field(default=None, alias="from")
    """First instant; without an offset it is local to the zone."""
    until: Instant | None = None
    """First instant after it; left out: no known end."""
    zone: str | None = None
    """IANA time zone; left out: the catalog's."""
    announce: DurationOrZero | None = None
    """So long before it begins or ends the channels are told, 0s: never; left out: as the catalog says."""

    @property
    def recurs(self) -> bool:
        """Whether it comes again and again."""
        return bool(self.days or self.cron or self.calendar)

    @model_validator(mode="after")
    def _one_form(self) -> RecursIn:
        if bool(self.cron) != (self.duration is not None):
            raise ValueError(messages.cron_and_duration())
        if self.duration is not None and self.duration > timedelta(days=31):
            raise ValueError(messages.too_long())
        if self.cron and self.days:
            raise ValueError(messages.cron_or_days())
        if bool(self.calendar) != (self.on_ is not DayKind.ANY):
            raise ValueError(messages.calendar_and_on())
        return self


class WindowIn(RecursIn):
    """A time in which deploying is allowed; having one closes all other time."""

    name: Name

    @model_validator(mode="after")
    def _some_time(self) -> WindowIn:
        if not self.recurs and (self.from_ is None or self.until is None):
            raise ValueError(messages.no_time())
        return self


class FreezeIn(RecursIn):
    """A time in which deploying is not allowed; it beats windows."""

    name: Name
    reason: str = ""
    exempt: Kinds = []
    """Kinds that are allowed all the same, for instance [hotfix, rollback]."""

    @model_validator(mode="after")
    def _some_time(self) -> FreezeIn:
        if not self.recurs and self.from_ is None:
            raise ValueError(messages.no_beginning())
        return self


class ReleaseWeekIn(FreezeIn):
    """A freeze before a big release: only hotfixes and rollbacks pass, and preview environments stay open."""

    exempt: Kinds = [Kind.HOTFIX, Kind.ROLLBACK]


class CalendarIn(Written):
    """Which days are worked."""

    region: str = ""
    """Public holidays and make-up workdays of a country such as CN, or of a part of one such as DE-BY."""
    weekend: Days = (5, 6)
    holidays: dict[Date, str] = {}
    """The company's own days off, with their names; they beat the region's days."""
    workdays: dict[Date, str] = {}
    """The company's own working days, with the reason; they beat all others."""


class ShiftIn(Written):
    """Who is on call."""

    person: str
    from_: Instant = Field(alias="from")
    until: Instant


class GroupIn(Written):
    """People who own or approve together: by name, as a chat's user group tells, or while they are on call.

    Wherever owners, leads, members, admins or release managers are named, a group's name may stand; shifts count for
    approvals only.
    """

    people: Words = []
    chats: dict[str, Words] = {}
    """Chat platform -> user groups or departments there, whose members belong to the group."""
    github: Annotated[list[Team], BeforeValidator(_one_or_more), _list_schema(_TEXT)] = []
    """Teams, as organization/team."""
    gitlab: Annotated[list[Place], BeforeValidator(_one_or_more), _list_schema(_TEXT)] = []
    """Groups or projects; maintainers and above, or from another level on: group/project:developer."""
    oncall: Words = []
    """Paths below SLIPWAY_ONCALL_URL that tell who is on call now."""
    shifts: list[ShiftIn] = []
    zone: str | None = None

    @model_validator(mode="after")
    def _somebody(self) -> GroupIn:
        others = (self.github, self.gitlab, self.oncall, *self.chats.values())
        if not self.people and not self.shifts and not any(others):
            raise ValueError(messages.empty_group())
        return self


class LeaveIn(Written):
    """While somebody is away, another person approves in their place."""

    person: str
    to: str
    from_: Instant = Field(alias="from")
    until: Instant
    zone: str | None = None


class SeatIn(Written):
    """`count` people of a group must say yes."""

    name: str = ""
    """What people call the group; left out: its roles, people and groups."""
    count: Annotated[int, Field(ge=0, le=20)] = 1
    roles: Roles = []
    people: Words = []
    groups: Words = []

    @model_validator(mode="after")
    def _somebody(self) -> SeatIn:
        if not self.roles and not self.people and not self.groups:
            raise ValueError(messages.nothing_to_approve())
        if Role.ANYONE in self.roles:
            raise ValueError(messages.not_allowed(Role.ANYONE, [role.value for role in APPROVING]))
        return self


class HandUpIn(SeatIn):
    """Who may answer too when a question has stayed open for a while; `count` means nothing here."""

    after: Duration
    """Counted from the question."""


class ApprovalIn(ScopeIn):
    """Who must say yes before a deployment; every rule that is about it holds, and a person counts once in all."""

    name: Name
    seats: Annotated[list[SeatIn], Field(min_length=1, max_length=10)]
    total: Annotated[int, Field(ge=0, le=20)] = 0
    """People in all; those beyond the seats may come from any of its groups."""
    not_author: bool = False
    """Whether the author of the newest commit does not count."""
    larger_than: Annotated[int, Field(ge=0)] = 0
    """Only changes of more commits than this."""
    days: Days = ()
    """Only on these days."""
    hours: Hours = (time(0), time(0))
    """Only in these hours."""
    zone: str | None = None
    expires_after: Duration = timedelta(hours=8)
    """How long the question stays open."""
    remind_after: DurationOrZero = timedelta(minutes=30)
    """Who has not answered is reminded then, and again after twice as long, and so on; 0s: never."""
    hand_up: Annotated[list[HandUpIn], Field(max_length=5)] = []
    """Groups that may answer too, if nobody has for so long."""

    @model_validator(mode="after")
    def _in_time(self) -> ApprovalIn:
        if any(one.after >= self.expires_after for one in self.hand_up):
            raise ValueError(messages.handed_up_too_late())
        return self


class ApproversIn(Written):
    """Who may say yes, and how many must."""

    count: Annotated[int, Field(ge=1, le=100)] = 1
    roles: Roles = []
    people: Words = []

    @model_validator(mode="after")
    def _somebody(self) -> ApproversIn:
        if not self.roles and not self.people:
            raise ValueError(messages.nothing_to_approve())
        if Role.ANYONE in self.roles:
            raise ValueError(messages.not_allowed(Role.ANYONE, [role.value for role in APPROVING]))
        return self


class ReviewIn(Written):
    """What is owed after an emergency."""

    within: DurationOrZero = timedelta(days=3)
    """So long after its end; 0s: no review is owed."""
    block: ReviewBlock = ReviewBlock.NO
    """Whether it holds up the next ordinary deployment there: no, overdue (once it is late), or always."""
    by: SeatIn | None = None
    """Who may review; left out: whoever could have approved. Never the person who asked."""


class EmergencyIn(ScopeIn):
    """Who may let a deployment through outside its window; the first rule that is about it counts."""

    name: Name
    approvers: ApproversIn
    expires_after: Duration = timedelta(minutes=30)
    """How long the question stays open."""
    pass_for: Duration = timedelta(hours=1)
    """How long the yes is good for."""
    review: ReviewIn = Field(default_factory=ReviewIn)
    remind_after: DurationOrZero = timedelta(minutes=10)
    """Who has not answered is reminded then, and again after twice as long, and so on; 0s: never."""


class LimitIn(ScopeIn):
    """How many deployments may be at work at once; the others wait in the queue. Rollbacks never wait for it."""

    name: Name
    at_once: Annotated[int, Field(ge=1, le=1000)]
    """So many; a deployment is at work from its build to its end."""
    per: Per = Per.ALL
    """Count each environment, team or cluster by itself, or all together."""


class PipelineJobIn(Written):
    """A pipeline that is run without deploying what it makes: nightly tests, a scan."""

    service: str
    environment: str
    """Whose branch is built, and whose pipeline settings are used."""
    name: str | None = None
    """Another definition than the service's own, where the CI system has several."""
    branch: str | None = None
    parameters: dict[str, str] = {}


class PeriodicIn(Written):
    """What the clock starts, as one person and with exactly that person's rights: a command, a pipeline or a digest."""

    name: Name
    command: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    """As it would be typed, without the slash: `deploy hello test`."""
    pipeline: PipelineJobIn | None = None
    digest: Literal["weekly", "daily", "drift"] | None = None
    """Posted to the channels: the week's figures, what is going on today, or where what runs is not what Git wants."""
    run_as: str
    """The person who asks; give robots a person of their own."""
    cron: Annotated[str, AfterValidator(_cron)] | None = None
    """Five fields, as in crontab."""
    every: Duration | None = None
    """Instead of cron: this long from one occurrence to the next, counted from midnight UTC."""
    zone: str | None = None
    """IANA time zone of `cron`; left out: the catalog's."""
    missed: Literal["skip", "once", "all"] = "skip"
    """What happens with occurrences that Slipway slept through."""
    overlap: Literal["forbid", "allow"] = "forbid"
    """Whether it may start while the one before is not over."""
    channels: Channels = {}
    """Where the answer is told; left out: the catalog's channels."""
    owners: Words = []
    """Who hears when it fails; left out: the person it runs as."""

    @model_validator(mode="after")
    def _one_time(self) -> PeriodicIn:
        if sum(one is not None for one in (self.command, self.pipeline, self.digest)) != 1:
            raise ValueError("needs exactly one of command, pipeline and digest")
        if (self.cron is None) == (self.every is None):
            raise ValueError("needs exactly one of cron and every")
        if self.every is not None and self.every < timedelta(minutes=1):
            raise ValueError("every: must be at least 1m")
        return self


class ServiceIn(DefaultsIn):
    """What is deployed. Typically five lines; the rest follows from names and defaults."""

    team: str
    branch: str | None = None
    """Branch that is deployed in every environment; left out: the environment's."""
    owners: Words | None = None
    """People who may deploy it; left out: the team's leads."""
    labels: dict[str, str] = {}
    channels: Channels = {}
    needs: Words = []
    """Services that a release train brings there before this one."""
    only: Words | None = None
    """Environments it runs in; left out: all."""
    environments: dict[str, OwnTarget] = {}
    """What it does differently there."""


class PlaceIn(Written):
    """How people read in a channel of a chat: language, and the clock of which zone."""

    locale: Locale = ""
    zone: str = ""


class RootFile(Written):
    """A file in the catalog directory: any of these sections, each in one file only."""

    environments: dict[str, EnvironmentIn] = {}
    teams: dict[str, TeamIn] = {}
    people: dict[str, PersonIn] = {}
    windows: list[WindowIn] = []
    freezes: list[FreezeIn] = []
    emergency: list[EmergencyIn] = []
    release_weeks: list[ReleaseWeekIn] = []
    languages: dict[str, BuildIn] = {}
    """Language -> how its services are built here; changes what Slipway knows, or adds a language."""
    calendars: dict[str, CalendarIn] = {}
    groups: dict[str, GroupIn] = {}
    leave: list[LeaveIn] = []
    approvals: list[ApprovalIn] = []
    periodics: list[PeriodicIn] = []
    limits: list[LimitIn] = []
    defaults: DefaultsIn = Field(default_factory=DefaultsIn)
    """Settings of every service."""
    admins: Words = []
    release_managers: Words = []
    channels: Channels = {}
    """Where releases are told unless a service, environment or team says otherwise."""
    places: dict[str, PlaceIn] = {}
    """A channel's id, or a chat platform for all its channels -> how people read there."""
    locale: Locale = "en"
    zone: str = "UTC"
    """IANA time zone of windows and freezes that name none."""
    announce: DurationOrZero = timedelta(minutes=15)
    """So long before a window opens or closes and a freeze begins or ends the channels are told; 0s: never."""


SECTIONS = tuple(RootFile.model_fields)


def fields_at(model: type[BaseModel], path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The fields known at a place in a model, as they are written."""
    found: type[BaseModel] | None = model
    for part in path:
        if found is None:
            return ()
        field = next((one for name, one in found.model_fields.items() if part in (name, one.alias)), None)
        if field is not None:
            found = _model_in(field.annotation)
    return _written_names(found) if found is not None else ()


@cache
def _written_names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the catalog's files.

    The whole schema accepts either kind. An editor that is told which is which gives better help: point files in the
    directory itself at `#/$defs/RootFile`, and files under `services/` at `#/$defs/ServicesFile`.
    """
    _describe()

    class ServicesFile(RootModel[dict[Name, ServiceIn]]):
        """A file under `services/`: service names and what they are."""

    _, schema = models_json_schema([(RootFile, "validation"), (ServicesFile, "validation")])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Slipway catalog",
        "description": "Files in the catalog's directory are RootFile, files under services/ are ServicesFile.",
        "anyOf": [{"$ref": "#/$defs/RootFile"}, {"$ref": "#/$defs/ServicesFile"}],
        "$defs": schema["$defs"],
    }


def _describe() -> None:
    """Give every field the docstring below it, which pydantic would look for at every start, for this alone."""
    made = [top for top in ast.parse(Path(__file__).read_text()).body if isinstance(top, ast.ClassDef)]
    written = {top.name: dict(_described(top)) for top in made}
    models = [one for top in made if isinstance(one := globals()[top.name], type) and issubclass(one, BaseModel)]
    for model in models:
        for base in reversed(model.__mro__):
            for name, said in written.get(base.__name__, {}).items():
                model.model_fields[name].description = said
    for model in models:
        model.model_rebuild(force=True)


def _described(top: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(top.body):
        said = below.value if isinstance(below, ast.Expr) else None
        if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Constant) and isinstance(said.value, str):
            yield ast.unparse(field.target), inspect.cleandoc(said.value)
