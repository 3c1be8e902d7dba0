"""The catalog as frozen values: the answer to "what exists", after defaults and conventions are applied.

Written form and its checks are in `schema.py`, reading in `load.py`; everybody else sees only these types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a deployment is for; freezes may exempt kinds."""

    NORMAL = "normal"
    HOTFIX = "hotfix"
    ROLLBACK = "rollback"
    PROMOTION = "promotion"
    BUILD = "build"


OF_RELEASES = tuple(kind for kind in Kind if kind is not Kind.BUILD)
"""What rules may be about; a build alone brings nothing anywhere."""


class Role(StrEnum):
    """What a person is to a service. Ordered from most to least in `ROLE_ORDER`."""

    ADMIN = "admin"
    RELEASE_MANAGER = "release_manager"
    TEAM_LEAD = "team_lead"
    OWNER = "owner"
    MEMBER = "member"
    ANYONE = "anyone"


class DayKind(StrEnum):
    """Which days of a calendar a rule is about."""

    ANY = "any"
    WORKDAYS = "workdays"
    HOLIDAYS = "holidays"


class InFlight(StrEnum):
    """What happens to a run in flight when its window closes."""

    FINISH = "finish"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class SourceLine:
    """Where a value was written: path relative to the catalog directory, and line (1-based)."""

    file: str
    line: int

    def __str__(self) -> str:
        """`file:line`, as editors understand it; without a line, only where it is from."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Person:
    """One human, whatever the number of chat accounts.

    chats: platform name -> the person's ids there, for instance {"slack": ("U024BE7LH",)}.
    """

    id: str
    name: str
    email: str = ""
    chats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    locale: str = ""
    zone: str = ""
    active: bool = True


@dataclass(frozen=True, slots=True)
class Place:
    """How people read in a channel: language, and the clock of which zone; empty where nobody said."""

    locale: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Team:
    """People who work together. `channels`: platform name -> place, for instance {"console": "#releases"}.

    lead_groups and member_groups: the groups whose people are among `leads` and `members`.
    """

    id: str
    name: str
    leads: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    channels: Mapping[str, str] = field(default_factory=dict)
    lead_groups: tuple[str, ...] = ()
    member_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyRule:
    """When a deployment counts as running: healthy for `settle` without a break, within `timeout`."""

    timeout: timedelta = timedelta(minutes=5)
    settle: timedelta = timedelta(seconds=10)
    interval: timedelta = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class MetricRule:
    """A number that tells whether a release is well.

    query: PromQL, with {service}, {environment}, {team}, {version}, {digest}, and {stable} and {stable_digest} of the
    version that ran before.
    min and max: what is allowed, both included. baseline: a second query of the stable version; the number may then be
    at most `factor` times as large (max_factor) or must be at least that share of it (min_factor).
    """

    name: str
    query: str
    min: float | None = None
    max: float | None = None
    baseline: str = ""
    min_factor: float | None = None
    max_factor: float | None = None


@dataclass(frozen=True, slots=True)
class GrayRule:
    """How long a release stays with a part of the traffic, and what decides meanwhile.

    pauses: after these it goes on by itself if the metrics are good, the last one again and again; empty: a person
    decides. weights: percent of traffic at each pause, to be shown. timeout: nobody decided, so it is given up.
    settle: how long the metrics must be good after full. interval: between two looks at the metrics.
    """

    pauses: tuple[timedelta, ...] = ()
    weights: tuple[int, ...] = ()
    timeout: timedelta = timedelta(hours=24)
    interval: timedelta = timedelta(seconds=15)
    settle: timedelta = timedelta(0)
    metrics: tuple[MetricRule, ...] = ()


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """Which pipeline builds a service. `options` are the provider's own settings, checked by the provider."""

    provider: str = "shell"
    name: str = ""
    timeout: timedelta = timedelta(minutes=30)
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildStep:
    """One command of a build; a list of words, never a shell string."""

    name: str
    run: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BuildRule:
    """How a service is built by the convention of its language.

    artifact: the file or directory it leaves. tests, coverage: patterns of the reports it leaves. image_file: what its
    image is built from.
    """

    steps: tuple[BuildStep, ...] = ()
    artifact: str = ""
    tests: tuple[str, ...] = ()
    coverage: tuple[str, ...] = ()
    image_file: str = ""


@dataclass(frozen=True, slots=True)
class DeliverySpec:
    """How a version reaches an environment. `options` are the provider's own settings."""

    provider: str = "shell"
    options: Mapping[str, object] = field(default_factory=dict)


class MergeBy(StrEnum):
    """Who merges a change that Slipway proposes."""

    PEOPLE = "people"
    SLIPWAY = "slipway"


@dataclass(frozen=True, slots=True)
class MergeRequestRule:
    """Changes are proposed by a merge request (pull request) instead of being pushed.

    host: `gitlab` or `github`. merge: `slipway` merges as soon as the host lets it. project: `group/name`, empty: as
    the repository's address says.
    """

    host: str
    merge: MergeBy = MergeBy.PEOPLE
    project: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GitopsSpec:
    """Where the version of a service is written.

    repo: path or URL of the configuration repository; path and image/key patterns are filled with
    {service}, {environment}, {team}. merge_request: None pushes directly.
    """

    repo: str = ""
    branch: str = "main"
    path: str = "{environment}/{service}.yaml"
    format: str = "values"
    options: Mapping[str, object] = field(default_factory=dict)
    merge_request: MergeRequestRule | None = None


@dataclass(frozen=True, slots=True)
class PromoteRule:
    """What a promotion into an environment does besides deploying the digest; names may be filled.

    image: with its registry, without tag; empty: the registry is left alone. source: where the image is, if that is
    another repository; it is copied then. tags: further names of the image; one with {version} or {commit} is never
    moved. git_tag: made in the source repository at the release's commit, empty: none.
    """

    image: str = ""
    source: str = ""
    tags: tuple[str, ...] = ("{version}",)
    git_tag: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One service in one environment, with every default and convention applied.

    pipeline: builds a commit (ci). check: looks at a merge request; cd: deploys a tag. auto_check: by itself, drafts
    too if check_drafts.
    """

    service: str
    environment: str
    branch: str
    pipeline: PipelineSpec
    gitops: GitopsSpec
    delivery: DeliverySpec
    verify: VerifyRule
    url: str = ""
    rollback_on_failure: bool = True
    in_flight: InFlight = InFlight.FINISH
    cluster: str = ""
    auto_deploy: bool = False
    auto_deploy_tags: tuple[str, ...] = ()
    auto_check: bool = False
    check_drafts: bool = False
    paths: tuple[str, ...] = ()
    gates: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    gray: GrayRule = GrayRule()
    soak: timedelta = timedelta(0)
    supersede: bool = False
    check: PipelineSpec = PipelineSpec()
    cd: PipelineSpec = PipelineSpec()
    promote: PromoteRule = PromoteRule()


@dataclass(frozen=True, slots=True)
class Environment:
    """A place where releases run. `order` decides promotion; a protected one needs owner rights.

    cluster: its name there, for scopes; preview: stays open in release weeks.
    """

    name: str
    order: int
    branch: str
    protected: bool = False
    channels: Mapping[str, str] = field(default_factory=dict)
    source: SourceLine | None = None
    cluster: str = ""
    preview: bool = False


MIGRATIONS = ("migrations/*", "*/migrations/*", "db/migrate/*", "*/db/migration/*", "*.sql")
"""Where changes of a database are kept by convention; `*` stands for slashes, too."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is deployed. `targets`: environment name -> Target, in the environments' order.

    owner_groups: the groups whose people are among `owners`. owners_file: whether approvers of OWNERS in its repository
    own it too; they are added while it runs, with the place that names each in `owner_sources`. path: its directory in
    a shared repository. needs: services that a release train brings there first.
    versions: how its releases are called, empty: by tag or commit. migrations: patterns of files that change a
    database, of which a rollback warns.
    """

    name: str
    team: str
    repo: str
    owners: tuple[str, ...] = ()
    language: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, Target] = field(default_factory=dict)
    source: SourceLine | None = None
    build: BuildRule = BuildRule()
    owner_groups: tuple[str, ...] = ()
    owners_file: bool = False
    path: str = ""
    owner_sources: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    versions: str = ""
    migrations: tuple[str, ...] = MIGRATIONS


@dataclass(frozen=True, slots=True)
class Scope:
    """What a rule is about. Empty means all. Names may be globs (`pay-*`); labels are `key=value` globs."""

    environments: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which days are worked: public holidays and make-up workdays of a region, and the company's own days.

    region: ISO 3166 code, `CN` or with a subdivision `DE-BY`; empty: no public holidays. weekend: 0 is Monday.
    work and rest: the company's days with their names; they beat the region's.
    """

    name: str
    region: str = ""
    weekend: tuple[int, ...] = (5, 6)
    work: tuple[tuple[date, str], ...] = ()
    rest: tuple[tuple[date, str], ...] = ()
    source: SourceLine | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which deploying is allowed, half-open `[start, end)` in `zone`.

    Weekly: `days` (0 is Monday) with `start` and `end`. `end` at or before `start` runs over midnight and belongs to
    the day it started on; `start == end == 00:00` is the whole day. By cron: `cron` (five fields, wall time in `zone`)
    says when it opens and `duration` for how long. Neither: dated, all of `[from_at, until_at)`. A weekly or cron one
    counts only between `from_at` and `until_at` where given, and only on days of the kind `on` of its calendar.
    announce: so long before it opens or closes the channels are told; zero: never.
    """

    name: str
    scope: Scope
    days: tuple[int, ...]
    start: time
    end: time
    zone: str
    source: SourceLine
    cron: str = ""
    duration: timedelta = timedelta(0)
    from_at: datetime | None = None
    until_at: datetime | None = None
    calendar: Calendar | None = None
    on: DayKind = DayKind.ANY
    announce: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Freeze:
    """An interval `[start_at, end_at)` in which deploying is not allowed; `end_at` None: no known end.

    recurs: it holds only in these times of the interval (weekly, cron or by calendar). release_week: preview
    environments stay open. by: who set it from a chat, empty for one of the catalog. announce: as for a window; None:
    as the catalog says.
    """

    name: str
    scope: Scope
    start_at: datetime
    end_at: datetime | None
    reason: str
    exempt_kinds: tuple[str, ...]
    source: SourceLine
    recurs: Window | None = None
    release_week: bool = False
    by: str = ""
    announce: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """`count` people of a group, by role on the service, by name, or by the names of `Catalog.groups`."""

    name: str
    count: int = 1
    roles: tuple[Role, ...] = ()
    people: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class ReviewBlock(StrEnum):
    """Whether a review that is owed holds up the next ordinary deployment of its target."""

    NO = "no"
    OVERDUE = "overdue"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class ReviewRule:
    """What is owed after an emergency. within: so long after its end; zero: nothing. by: None: who could approve."""

    within: timedelta = timedelta(days=3)
    block: ReviewBlock = ReviewBlock.NO
    by: Seat | None = None


@dataclass(frozen=True, slots=True)
class EmergencyRule:
    """Who may let a deployment through outside its window.

    count: distinct approvers needed, never the requester. roles and people: who is eligible.
    expires_after: how long the question stays open. pass_for: how long the yes is good for. remind_after: as for an
    approval.
    """

    name: str
    scope: Scope
    count: int
    roles: tuple[Role, ...]
    people: tuple[str, ...]
    expires_after: timedelta
    pass_for: timedelta
    source: SourceLine
    remind_after: timedelta = timedelta(0)
    review: ReviewRule = ReviewRule()


@dataclass(frozen=True, slots=True)
class Shift:
    """On call in `[from_at, until_at)`."""

    person: str
    from_at: datetime
    until_at: datetime


@dataclass(frozen=True, slots=True)
class Group:
    """People who own or approve together: always (`people`), or while they are on call (`shifts`, approving only).

    chats: platform -> ids of its user groups and departments, whose members the chat adds to `people` while it runs.
    sources: the same for other systems: github, gitlab and oncall.
    """

    name: str
    people: tuple[str, ...] = ()
    shifts: tuple[Shift, ...] = ()
    source: SourceLine | None = None
    chats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delegation:
    """In `[from_at, until_at)` the rights of `person` to approve are those of `to`, and not the person's own."""

    person: str
    to: str
    from_at: datetime
    until_at: datetime
    source: SourceLine | None = None


@dataclass(frozen=True, slots=True)
class HandUp:
    """Who may fill a rule's seats too, from `after` the question was asked on."""

    after: timedelta
    seat: Seat


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """Who must say yes before a deployment may start; several rules hold at once and a person counts once in all.

    seats: each must be filled. total: people in all, those beyond the seats from any of its groups; 0: just the seats.
    not_author: whoever wrote the newest commit does not count. larger_than: only changes of more commits than that; an
    unknown size counts as large. when: only in these times. remind_after: those who have not answered are reminded so
    long after the question, then after twice as long, and so on; zero: never. hand_up: in order of time.
    """

    name: str
    scope: Scope
    seats: tuple[Seat, ...]
    expires_after: timedelta
    source: SourceLine
    total: int = 0
    not_author: bool = False
    larger_than: int = 0
    when: Window | None = None
    remind_after: timedelta = timedelta(0)
    hand_up: tuple[HandUp, ...] = ()


class Per(StrEnum):
    """What a limit counts separately."""

    ALL = "all"
    ENVIRONMENT = "environment"
    TEAM = "team"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Limit:
    """How many deployments may be at work at once. per: counted for each environment, team or cluster by itself."""

    name: str
    scope: Scope
    at_once: int
    per: Per
    source: SourceLine


@dataclass(frozen=True, slots=True)
class PipelineJob:
    """A pipeline that is run without deploying what it makes.

    name: the definition, empty for the service's own; branch: empty for the environment's.
    """

    service: str
    environment: str
    name: str = ""
    branch: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Periodic:
    """What the clock starts as `run_as`, with that person's rights and no others.

    One of: command, as it would be typed; pipeline; digest, the name of a summary that is posted. work: what a job of
    our own does, empty for those of the catalog. cron: in `zone`; else every: counted from midnight UTC of 1970-01-01.
    missed: `skip`, `once` or `all`. overlap: whether it may start while the one before is not over. owners: who hears
    when it fails.
    """

    name: str
    command: str
    run_as: str
    zone: str
    source: SourceLine
    cron: str = ""
    every: timedelta | None = None
    missed: str = "skip"
    overlap: bool = False
    channels: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    pipeline: PipelineJob | None = None
    digest: str = ""
    work: str = ""

    @property
    def what(self) -> str:
        """What it does, in a few words."""
        if self.pipeline is not None:
            name = f" {self.pipeline.name}" if self.pipeline.name else ""
            return f"pipeline{name} of {self.pipeline.service} for {self.pipeline.environment}"
        if self.digest:
            return f"digest {self.digest}"
        return f"/{self.command}" if self.command else self.work


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything, checked, frozen and indexed. Built only by `load.py`.

    digest: SHA-256 of the files it was read from, so that one can say which catalog decided. commit: of its repository,
    with `+` for changes since; empty: it is in none.
    admin_groups and release_manager_groups: the groups whose people are among `admins` and `release_managers`.
    places: channel or platform -> how people read there.
    untold: groups of which a chat has not told who is in them, or not for too long: nobody is in them meanwhile.
    """

    digest: str
    environments: Mapping[str, Environment]
    teams: Mapping[str, Team]
    people: Mapping[str, Person]
    services: Mapping[str, Service]
    windows: tuple[Window, ...]
    freezes: tuple[Freeze, ...]
    emergency: tuple[EmergencyRule, ...]
    admins: tuple[str, ...] = ()
    release_managers: tuple[str, ...] = ()
    channels: Mapping[str, str] = field(default_factory=dict)
    locale: str = "en"
    zone: str = "UTC"
    by_chat_id: Mapping[tuple[str, str], Person] = field(default_factory=dict)
    by_email: Mapping[str, Person] = field(default_factory=dict)
    approvals: tuple[ApprovalRule, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    delegations: tuple[Delegation, ...] = ()
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    periodics: Mapping[str, Periodic] = field(default_factory=dict)
    admin_groups: tuple[str, ...] = ()
    release_manager_groups: tuple[str, ...] = ()
    announce: timedelta = timedelta(minutes=15)
    commit: str = ""
    limits: tuple[Limit, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    untold: frozenset[str] = frozenset()
    found: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What was worked out from this very catalog and is kept with it (see `bot/policy/case.py`)."""

    def person_by_chat(self, platform: str, user_id: str) -> Person | None:
        """The active person with that account, or None."""
        person = self.by_chat_id.get((platform, user_id))
        return person if person is not None and person.active else None

    def person_by_email(self, email: str) -> Person | None:
        """The active person with that address (case does not matter), or None."""
        person = self.by_email.get(email.casefold())
        return person if person is not None and person.active else None
