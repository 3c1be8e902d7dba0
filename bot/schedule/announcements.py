"""Tells channels before a release window opens or closes and a freeze begins or ends; each edge once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from bot.catalog.model import Catalog, Freeze, Kind, Scope, Window
from bot.clock import Clock
from bot.deployments.audience import channel_of
from bot.deployments.facts import standing_facts
from bot.deployments.reviews import put
from bot.policy.scopes import matches, matches_service
from bot.policy.windows import is_open, spans
from bot.store.database import Database, Tx
from bot.times import say_when

MOST_SERVICES = 300
"""Services whose channels are looked at for one rule."""
MOST_NAMES = 8


@dataclass(frozen=True, slots=True)
class Edge:
    """A moment at which a rule changes. kind: opens, closes, begins or ends; ahead: how long before it is told."""

    kind: str
    at: datetime
    name: str
    scope: Scope
    zone: str
    ahead: timedelta
    what: str


class Announcer:
    """Looks at every rule of time again and again; housekeeping calls it."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        platforms: Sequence[str],
        clock: Clock,
        poke: Callable[[], None],
    ) -> None:
        """poke: called when there is something to send."""
        self._db = db
        self._catalog = catalog
        self._platforms = platforms
        self._clock = clock
        self._poke = poke

    async def look(self) -> int:
        """Tell what is about to change. Returns how many messages that are, those told before included."""
        catalog, at = self._catalog(), self._clock()
        standing = await self._db.read(lambda tx: standing_facts(tx, at))
        freezes = (*catalog.freezes, *standing.freezes)
        found = [edge for window in catalog.windows for edge in window_edges(window, at)]
        found += [edge for freeze in freezes for edge in freeze_edges(freeze, at, catalog)]
        messages = list(self._messages(catalog, found, freezes))
        if messages:
            await self._db.run(lambda tx: _put_all(tx, messages, at))
            self._poke()
        return len(messages)

    def _messages(
        self, catalog: Catalog, found: Sequence[Edge], freezes: Sequence[Freeze]
    ) -> Iterator[tuple[str, tuple[str, str], str]]:
        """Key, place and text; what changes at the same moment is one message for a place."""
        by_place: dict[tuple[tuple[str, str], str, str, datetime, timedelta], list[Edge]] = {}
        for edge in found:
            for place in places(catalog, edge.scope, self._platforms):
                by_place.setdefault((place, edge.what, edge.kind, edge.at, edge.ahead), []).append(edge)
        for (place, what, kind, at, _), edges in by_place.items():
            names = sorted({edge.name for edge in edges})
            key = f"announce:{kind}:{at.isoformat()}:{'+'.join(names)[:100]}"
            yield key, place, announcement(catalog, what, edges, freezes)


def _put_all(tx: Tx, messages: Sequence[tuple[str, tuple[str, str], str]], at: datetime) -> None:
    for key, (platform, place), text in messages:
        put(tx, key, platform, place, text, at)


def window_edges(window: Window, at: datetime) -> Iterator[Edge]:
    """Openings and closings that are to be told now; days that run into each other have none between them."""
    until = at + window.announce
    if window.announce:
        for start, end in spans(window, at, until):
            if at < start <= until and not is_open(window, start - timedelta(microseconds=1)):
                yield Edge("opens", start, window.name, window.scope, window.zone, window.announce, "release window")
            if at < end <= until and not is_open(window, end):
                yield Edge("closes", end, window.name, window.scope, window.zone, window.announce, "release window")


def freeze_edges(freeze: Freeze, at: datetime, catalog: Catalog) -> Iterator[Edge]:
    """Beginnings and ends that are to be told now."""
    ahead = freeze.announce if freeze.announce is not None else catalog.announce
    what = "release week" if freeze.release_week else "freeze"
    zone = freeze.recurs.zone if freeze.recurs is not None else catalog.zone
    for kind, edge in _edges_of(freeze, at, at + ahead):
        if at < edge <= at + ahead:
            yield Edge(kind, edge, freeze.name, freeze.scope, zone, ahead, what)


def _edges_of(freeze: Freeze, at: datetime, until: datetime) -> Iterator[tuple[str, datetime]]:
    tick = timedelta(microseconds=1)
    if freeze.recurs is None:
        yield "begins", freeze.start_at
        if freeze.end_at is not None:
            yield "ends", freeze.end_at
        return
    for start, end in spans(freeze.recurs, at, until, unknown=True):
        begins = max(start, freeze.start_at)
        over = end if freeze.end_at is None else min(end, freeze.end_at)
        if begins < over:
            if not is_open(freeze.recurs, begins - tick, unknown=True):
                yield "begins", begins
            if not is_open(freeze.recurs, over, unknown=True):
                yield "ends", over


def places(catalog: Catalog, scope: Scope, platforms: Sequence[str]) -> list[tuple[str, str]]:
    """Where whoever is concerned reads: channels of the services named, else of environments, else the company's."""
    environments = [one for one in catalog.environments if not scope.environments or _named(scope.environments, one)]
    found: dict[tuple[str, str], None] = {}
    if scope.services or scope.teams or scope.labels or scope.clusters:
        concerned = [one for one in catalog.services.values() if matches_service(scope, one)][:MOST_SERVICES]
        for service in concerned:
            for environment in environments:
                if any(matches(scope, service, environment, kind) for kind in Kind):
                    for platform in platforms:
                        found[platform, channel_of(catalog, service.name, environment, platform)] = None
    else:
        for environment in environments:
            for platform in platforms:
                own = catalog.environments[environment].channels.get(platform, "")
                found[platform, own or catalog.channels.get(platform, "")] = None
    return [place for place in found if place[1]]


def _named(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def announcement(catalog: Catalog, what: str, edges: Sequence[Edge], freezes: Sequence[Freeze]) -> str:
    """One sentence, and a second one if a freeze keeps closed what opens."""
    first = edges[0]
    names = sorted({edge.name for edge in edges})
    more = f" +{len(names) - MOST_NAMES}" if len(names) > MOST_NAMES else ""
    listed = f"{', '.join(names[:MOST_NAMES])}{more}"
    when = say_when(first.at, first.zone)
    kind, verb = what, first.kind
    text = f"The {kind} {listed} {verb} {when}."
    if first.kind == "opens":
        holding = [one.name for one in freezes if _holds(catalog, one, first)]
        text += f" But the freeze {', '.join(holding[:3])} holds then." if holding else ""
    return text


def _holds(catalog: Catalog, freeze: Freeze, edge: Edge) -> bool:
    """Whether it keeps closed everything that opens, for an ordinary deployment."""
    holds = freeze.start_at <= edge.at and (freeze.end_at is None or edge.at < freeze.end_at)
    if not holds or Kind.NORMAL.value in freeze.exempt_kinds:
        return False
    if freeze.recurs is not None and not is_open(freeze.recurs, edge.at, unknown=True):
        return False
    concerned = [
        (service, environment)
        for service in [one for one in catalog.services.values() if matches_service(edge.scope, one)][:MOST_SERVICES]
        for environment in service.targets
        if matches(edge.scope, service, environment, Kind.NORMAL)
    ]
    return bool(concerned) and all(matches(freeze.scope, *one, Kind.NORMAL) for one in concerned)
