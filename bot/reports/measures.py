"""The measures, pure: what ended in a period in, figures out.

Source of the four keys: DORA, "Accelerate State of DevOps": deployment frequency, lead time for changes, change failure
rate, time to restore service. They are about production; here that is the protected environments, or if there is none,
the last one. What everybody did everywhere is counted beside them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from statistics import median

from bot.catalog.model import Catalog, Kind
from bot.deployments.model import State

CHANGED = frozenset({State.SUCCEEDED, State.FAILED, State.ROLLED_BACK, State.CANCELLED})
"""Ends that may have changed what runs."""
SLOWEST = 5


@dataclass(frozen=True, slots=True)
class Ended:
    """A deployment that is over, with what the measures need.

    changed: whether Git was changed for it. leads: from each commit that it brought, to its end. stages: seconds by
    name. restored_at: when its target was good again after it went wrong; undone: a rollback took it back later.
    """

    ref: str
    service: str
    team: str
    environment: str
    kind: Kind
    state: State
    ended_at: datetime
    changed: bool = False
    emergency: bool = False
    leads: tuple[timedelta, ...] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    broke_at: datetime | None = None
    restored_at: datetime | None = None
    undone: bool = False


@dataclass(frozen=True, slots=True)
class SlowStage:
    """How long a stage took: the median of all, and the slowest with its deployment. In seconds."""

    name: str
    median: float
    longest: float
    ref: str


@dataclass(frozen=True, slots=True)
class Measures:
    """The figures of one team, or of all.

    deployments and days are about what was really begun, in every environment; changes and what follows are about
    production alone. None: there was nothing to measure. broken: targets that were not good again yet.
    owed: deployments whose review is owed now, whenever they were.
    """

    deployments: int = 0
    by_state: Mapping[str, int] = field(default_factory=dict)
    days: tuple[tuple[int, int], ...] = ()
    changes: int = 0
    failures: tuple[str, ...] = ()
    failure_rate: float | None = None
    lead_time: timedelta | None = None
    lead_commits: int = 0
    time_to_restore: timedelta | None = None
    broken: tuple[str, ...] = ()
    emergency: tuple[str, ...] = ()
    owed: tuple[str, ...] = ()
    slowest: tuple[SlowStage, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A period `[start, end)` by the days of a zone; teams: id -> figures, of those that had something to do."""

    start: datetime
    end: datetime
    zone: str
    days: tuple[date, ...]
    production: tuple[str, ...]
    whole: Measures
    teams: Mapping[str, Measures]


def production_of(catalog: Catalog) -> tuple[str, ...]:
    """The environments that count as production."""
    protected = tuple(name for name, one in catalog.environments.items() if one.protected)
    ordered = sorted(catalog.environments.values(), key=lambda one: one.order)
    return protected or tuple(one.name for one in ordered[-1:])


def days_of(start: datetime, end: datetime, zone: tzinfo) -> tuple[date, ...]:
    """The days of a period, by the clock of a zone."""
    first, last = start.astimezone(zone).date(), (end - timedelta(microseconds=1)).astimezone(zone).date()
    return tuple(first + timedelta(days=number) for number in range((last - first).days + 1))


def measured(
    found: Sequence[Ended], production: Iterable[str], days: Sequence[date], zone: tzinfo, owed: Sequence[str] = ()
) -> Measures:
    """The figures of these deployments."""
    where = frozenset(production)
    changes = [one for one in found if one.environment in where and _is_change(one)]
    failures = [one for one in changes if _is_failure(one)]
    leads = [lead for one in changes if one.state is State.SUCCEEDED for lead in one.leads]
    restored = [
        one.restored_at - one.broke_at for one in failures if one.restored_at is not None and one.broke_at is not None
    ]
    return Measures(
        deployments=sum(one.state in CHANGED for one in found),
        by_state=dict(sorted(Counter(one.state.value for one in found).items())),
        days=_by_day(found, days, zone),
        changes=len(changes),
        failures=tuple(one.ref for one in failures),
        failure_rate=len(failures) / len(changes) if changes else None,
        lead_time=_middle(leads),
        lead_commits=len(leads),
        time_to_restore=_middle(restored),
        broken=tuple(dict.fromkeys(f"{one.service}/{one.environment}" for one in failures if one.restored_at is None)),
        emergency=tuple(one.ref for one in found if one.emergency),
        owed=tuple(owed),
        slowest=slowest(found),
    )


def by_team(found: Iterable[Ended]) -> dict[str, list[Ended]]:
    """Team -> its deployments."""
    teams: defaultdict[str, list[Ended]] = defaultdict(list)
    for one in found:
        teams[one.team].append(one)
    return dict(sorted(teams.items()))


def slowest(found: Iterable[Ended]) -> tuple[SlowStage, ...]:
    """The stages that take longest, by their median."""
    took: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for one in found:
        for name, seconds in one.stages.items():
            took[name].append((seconds, one.ref))
    stages = [
        SlowStage(name, median(seconds for seconds, _ in each), *max(each)) for name, each in sorted(took.items())
    ]
    return tuple(sorted(stages, key=lambda stage: -stage.median)[:SLOWEST])


def _middle(lengths: Sequence[timedelta]) -> timedelta | None:
    return timedelta(seconds=median(one.total_seconds() for one in lengths)) if lengths else None


def _is_change(one: Ended) -> bool:
    return one.kind is not Kind.ROLLBACK and one.changed and one.state in CHANGED


def _is_failure(one: Ended) -> bool:
    return one.state in (State.FAILED, State.ROLLED_BACK) or (one.state is State.SUCCEEDED and one.undone)


def _by_day(found: Iterable[Ended], days: Sequence[date], zone: tzinfo) -> tuple[tuple[int, int], ...]:
    """Of each day: how many ended well, and how many did not."""
    good: Counter[date] = Counter()
    bad: Counter[date] = Counter()
    for one in found:
        if one.state in CHANGED and one.state is not State.CANCELLED:
            (good if one.state is State.SUCCEEDED else bad)[one.ended_at.astimezone(zone).date()] += 1
    return tuple((good[day], bad[day]) for day in days)
