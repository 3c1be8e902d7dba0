"""Rules of time that other systems have for our targets, judged as those systems judge them, and compared with ours.

Source: argoproj/argo-cd v3.5.1 pkg/apis/application/v1alpha1/types.go (`SyncWindows.CanSync`), with the offset of the
judged instant; GitLab REST v4 freeze periods: from a firing of one cron to the next firing of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Protocol
from zoneinfo import ZoneInfo

from bot.catalog.model import Catalog, Freeze, Kind, Service
from bot.policy.cron import Cron, parse_cron
from bot.policy.scopes import matches
from bot.policy.windows import is_open, spans

FARTHEST = 400
"""Days that are looked back for a firing."""
OFTEN = 96
"""A cron that fires more often in a day is looked at every quarter of an hour instead of at each firing."""
QUARTER = timedelta(minutes=15)
SECOND = timedelta(seconds=1)


class Foreign(Protocol):
    """All rules of one system for one target. system: what people call it; said: its rules, a line each."""

    @property
    def system(self) -> str:
        """Such as `Argo CD (project shop)`."""
        ...

    @property
    def said(self) -> Sequence[str]:
        """Every rule as it stands there."""
        ...

    def blocks(self, at: datetime) -> str:
        """The rule that would keep a deployment of ours from going, empty if none would."""
        ...

    def edges(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Instants at which its answer may change."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron in a zone. cron: None: it cannot be understood."""

    text: str
    zone: str
    cron: Cron | None

    def latest(self, wall: datetime) -> datetime | None:
        """The last firing before a wall time."""
        if self.cron is None:
            return None
        for back in range(FARTHEST):
            day = wall.date() - timedelta(days=back)
            if self.cron.on(day):
                found = [at for at in self._times(day) if at < wall]
                if found:
                    return found[-1]
        return None

    def following(self, wall: datetime) -> datetime | None:
        """The first firing after a wall time."""
        if self.cron is None:
            return None
        for ahead in range(FARTHEST):
            day = wall.date() + timedelta(days=ahead)
            if self.cron.on(day):
                found = next((at for at in self._times(day) if at > wall), None)
                if found is not None:
                    return found
        return None

    def walls(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Firings between two instants, as instants; every quarter of an hour if they are too many."""
        zone = ZoneInfo(self.zone)
        if self.cron is None or len(self.cron.times) > OFTEN:
            at = since
            while at <= until:
                yield at
                at += QUARTER
            return
        day = since.astimezone(zone).date() - timedelta(days=1)
        while day <= until.astimezone(zone).date():
            if self.cron.on(day):
                yield from (at.replace(tzinfo=zone).astimezone(UTC) for at in self._times(day))
            day += timedelta(days=1)

    def _times(self, day: date) -> list[datetime]:
        assert self.cron is not None
        return [datetime.combine(day, at) for at in self.cron.times]


def schedule(text: str, zone: str) -> Schedule:
    """A schedule as Argo CD and GitLab write it; an unknown zone is UTC there."""
    try:
        known = ZoneInfo(zone).key if zone else "UTC"
    except (OSError, LookupError, ValueError):
        known = "UTC"
    try:
        parts = text.replace("?", "*").split()
        found = parse_cron(" ".join(parts))
        star = [part in ("*", "*/1") for part in (parts[2], parts[4])]
        return Schedule(text, known, replace(found, either=not any(star)))
    except (ValueError, IndexError):
        return Schedule(text, known, None)


# -- Argo CD ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SyncRule:
    """One sync window of a project. applications, namespaces and clusters are patterns; every: all kinds must match."""

    kind: str
    when: Schedule
    duration: timedelta
    manual: bool = False
    applications: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    every: bool = False

    def concerns(self, name: str, namespace: str, clusters: Sequence[str]) -> bool:
        """Whether it is about an application; one without any pattern is about none."""
        kinds = [(self.applications, [name]), (self.clusters, clusters), (self.namespaces, [namespace])]
        hits = [any(fnmatchcase(one, pattern) for pattern in some for one in values) for some, values in kinds if some]
        return bool(hits) and (all(hits) if self.every else any(hits))

    def is_active(self, at: datetime) -> bool:
        """Open at both ends, on the wall clock of its zone."""
        wall = at.astimezone(ZoneInfo(self.when.zone)).replace(tzinfo=None)
        fired = self.when.latest(wall)
        if fired is None:  # never within five years counts as active for ever
            return True
        return fired < wall < fired + self.duration

    def said(self) -> str:
        """`deny 0 22 * * * for 60m (Asia/Shanghai)`."""
        minutes = int(self.duration.total_seconds()) // 60
        return f"{self.kind} {self.when.text} for {minutes}m ({self.when.zone}){', manual sync passes' * self.manual}"


@dataclass(frozen=True, slots=True)
class SyncWindows:
    """The sync windows of one application. Slipway's own syncs count as manual there."""

    system: str
    rules: tuple[SyncRule, ...]

    @property
    def said(self) -> Sequence[str]:
        """Every rule as it stands there."""
        return [rule.said() for rule in self.rules]

    def blocks(self, at: datetime) -> str:
        """An active denial, or that no allowing one is active."""
        broken = next((rule for rule in self.rules if rule.when.cron is None), None)
        if broken is not None:
            return broken.said()
        denies = [rule for rule in self.rules if rule.kind == "deny" and rule.is_active(at)]
        if denies:
            return "" if all(rule.manual for rule in denies) else denies[0].said()
        allows = [rule for rule in self.rules if rule.kind == "allow"]
        if not allows or any(rule.is_active(at) for rule in allows) or all(rule.manual for rule in allows):
            return ""
        return f"none of its {len(allows)} allowing windows is active"

    def edges(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Beginnings and ends."""
        for rule in self.rules:
            for start in rule.when.walls(since - rule.duration, until):
                yield start
                yield start + rule.duration


# -- GitLab ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FreezePeriod:
    """One freeze period of a project."""

    start: Schedule
    end: Schedule

    def holds(self, at: datetime) -> bool:
        """From a firing of the start to the next firing of the end; what cannot be understood holds."""
        if self.start.cron is None or self.end.cron is None:
            return True
        wall = at.astimezone(ZoneInfo(self.start.zone)).replace(tzinfo=None)
        began = self.start.latest(wall + SECOND)
        if began is None:
            return False
        over = self.end.following(began)
        return over is None or wall < over

    def said(self) -> str:
        """`frozen from 0 23 * * 5 to 0 7 * * 1 (Asia/Shanghai)`."""
        return f"frozen from {self.start.text} to {self.end.text} ({self.start.zone})"


@dataclass(frozen=True, slots=True)
class FreezePeriods:
    """The freeze periods of one project. GitLab only tells its jobs of them; whether they heed it is theirs."""

    system: str
    periods: tuple[FreezePeriod, ...]

    @property
    def said(self) -> Sequence[str]:
        """Every rule as it stands there."""
        return [one.said() for one in self.periods]

    def blocks(self, at: datetime) -> str:
        """The first period that holds."""
        return next((one.said() for one in self.periods if one.holds(at)), "")

    def edges(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Beginnings and ends."""
        for one in self.periods:
            yield from one.start.walls(since, until)
            yield from one.end.walls(since, until)


# -- beside ours -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conflict:
    """A time in which we allow what another system would block."""

    start: datetime
    end: datetime
    system: str
    rule: str


def conflicts(
    catalog: Catalog,
    freezes: Sequence[Freeze],
    service: Service,
    environment: str,
    others: Sequence[Foreign],
    since: datetime,
    until: datetime,
) -> list[Conflict]:
    """Every such time between two instants, by start. freezes: those set from chats."""
    ours = list(_our_edges(catalog, freezes, service, environment, since, until))
    found: list[Conflict] = []
    for other in others:
        edges = sorted({since, until, *(one for one in (*ours, *other.edges(since, until)) if since < one < until)})
        for start, end in pairwise(edges):
            middle = start + (end - start) / 2
            rule = other.blocks(middle)
            if not rule or not times_allow(catalog, freezes, service, environment, middle):
                continue
            last = found[-1] if found else None
            if last is not None and (last.end, last.system, last.rule) == (start, other.system, rule):
                found[-1] = replace(last, end=end)
            else:
                found.append(Conflict(start, end, other.system, rule))
    return sorted(found, key=lambda one: one.start)


def times_allow(catalog: Catalog, freezes: Sequence[Freeze], service: Service, environment: str, at: datetime) -> bool:
    """Whether windows and freezes let an ordinary deployment go, whoever asks."""
    windows = [one for one in catalog.windows if matches(one.scope, service, environment, Kind.NORMAL)]
    if windows and not any(is_open(one, at) for one in windows):
        return False
    return not any(_in_force(one, at) for one in _about(catalog, freezes, service, environment))


def times_change(
    catalog: Catalog, freezes: Sequence[Freeze], service: Service, environment: str, at: datetime, until: datetime
) -> tuple[bool, datetime | None]:
    """Whether windows and freezes together let it go at an instant, and the first one at which that is different."""
    now = times_allow(catalog, freezes, service, environment, at)
    edges = sorted(set(_our_edges(catalog, freezes, service, environment, at, until)))
    later = (one for one in edges if at < one <= until)
    return now, next(
        (one for one in later if times_allow(catalog, freezes, service, environment, one) is not now), None
    )


def _about(catalog: Catalog, freezes: Sequence[Freeze], service: Service, environment: str) -> Iterator[Freeze]:
    place = catalog.environments.get(environment)
    for one in (*catalog.freezes, *freezes):
        spared = one.release_week and place is not None and place.preview
        spared = spared or Kind.NORMAL.value in one.exempt_kinds
        if not spared and matches(one.scope, service, environment, Kind.NORMAL):
            yield one


def _in_force(freeze: Freeze, at: datetime) -> bool:
    if at < freeze.start_at or (freeze.end_at is not None and at >= freeze.end_at):
        return False
    return freeze.recurs is None or is_open(freeze.recurs, at, unknown=True)


def _our_edges(
    catalog: Catalog, freezes: Sequence[Freeze], service: Service, environment: str, since: datetime, until: datetime
) -> Iterator[datetime]:
    for window in catalog.windows:
        if matches(window.scope, service, environment, Kind.NORMAL):
            for span in spans(window, since, until):
                yield from span
    for freeze in _about(catalog, freezes, service, environment):
        yield freeze.start_at
        if freeze.end_at is not None:
            yield freeze.end_at
        if freeze.recurs is not None:
            for span in spans(freeze.recurs, since, until, unknown=True):
                yield from span
