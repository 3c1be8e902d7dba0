"""Our windows and freezes as Argo CD sync windows, which never allow more than we do.

Source: argoproj/argo-cd v3.5.1 pkg/apis/application/v1alpha1/types.go (`SyncWindow`, `SyncWindows.CanSync`). What
matters: a window is active while the wall clock of its zone is strictly between a firing of its cron and that plus its
duration; an active deny forbids; otherwise, if any allow window matches, one must be active. A schedule that never
fires counts as active for ever, so none is written that might not fire. What cannot be said there (calendars, bounded
dates, cron where clocks change) is closed for good if it is a window, and denied for good if it is a freeze. It is said
for kind `normal`: Argo CD knows no kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bot.catalog.model import Catalog, Freeze, Kind, Scope, Window
from bot.policy.cron import WEEKDAYS, Cron, parse_cron
from bot.policy.scopes import matches

WEEK = 7 * 1440
EARLY = 61
"""Minutes that a denial begins before a weekly freeze: one because Argo CD's first instant is not in it, sixty because
the wall clock may show the hour before the start a second time."""
LATE = 60
"""Minutes that it ends after one, for the hour that is shown before the end is shown a second time."""
ALWAYS = ("* * * * *", timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class SyncWindow:
    """One entry of `spec.syncWindows`. applications: names, never patterns."""

    kind: str
    schedule: str
    duration: timedelta
    zone: str
    applications: tuple[str, ...]
    description: str

    def written(self) -> dict[str, object]:
        """As it stands in an AppProject."""
        return {
            "kind": self.kind,
            "schedule": self.schedule,
            "duration": f"{int(self.duration.total_seconds()) // 60}m",
            "timeZone": self.zone,
            "applications": list(self.applications),
            "manualSync": False,
            "description": self.description[:255],
        }


def sync_windows(catalog: Catalog, application: str = "{service}-{environment}", *, now: datetime) -> list[SyncWindow]:
    """Every entry, for applications named by the pattern; what is over at `now` is left out."""
    found: list[SyncWindow] = []
    limited: dict[str, bool] = {}
    for window in catalog.windows:
        names = _applications(catalog, window.scope, application)
        entries = list(_allow(window, names)) if names else []
        found += entries
        for name in names:
            limited[name] = limited.get(name, False) or bool(entries)
    shut = tuple(name for name, opened in limited.items() if not opened)
    if shut:
        found.append(SyncWindow("deny", *ALWAYS, "UTC", shut, "its windows cannot be said in Argo CD"))
    for freeze in catalog.freezes:
        over = freeze.end_at is not None and freeze.end_at <= now
        names = _applications(catalog, freeze.scope, application, spare_previews=freeze.release_week)
        if names and not over and Kind.NORMAL.value not in freeze.exempt_kinds:
            found += _deny(freeze, names)
    return found


def _applications(catalog: Catalog, scope: Scope, pattern: str, *, spare_previews: bool = False) -> tuple[str, ...]:
    return tuple(
        pattern.replace("{service}", service.name).replace("{environment}", place).replace("{team}", service.team)
        for service in catalog.services.values()
        for place in service.targets
        if matches(scope, service, place, Kind.NORMAL) and not (spare_previews and catalog.environments[place].preview)
    )


def _allow(window: Window, names: tuple[str, ...]) -> Iterator[SyncWindow]:
    if window.calendar is not None or window.from_at is not None or window.until_at is not None:
        return
    if window.cron:
        schedule = _plain(parse_cron(window.cron), window.cron)
        if schedule and not _clocks_change(window.zone):
            yield SyncWindow("allow", schedule, window.duration, window.zone, names, window.name)
        return
    start, length = _minutes(window)
    days = ",".join(WEEKDAYS[(day + 1) % 7] for day in window.days)
    schedule = f"{start % 60} {start // 60} * * {days}"
    yield SyncWindow("allow", schedule, timedelta(minutes=length), window.zone, names, window.name)


def _deny(freeze: Freeze, names: tuple[str, ...]) -> Iterator[SyncWindow]:
    text = f"{freeze.name}: {freeze.reason}" if freeze.reason else freeze.name
    recurs = freeze.recurs
    if recurs is not None and recurs.calendar is None and not recurs.cron:
        start, length = _minutes(recurs)
        for day in recurs.days:
            early = (day * 1440 + start - EARLY) % WEEK
            schedule = f"{early % 60} {early % 1440 // 60} * * {WEEKDAYS[(early // 1440 + 1) % 7]}"
            yield SyncWindow("deny", schedule, timedelta(minutes=EARLY + length + LATE), recurs.zone, names, text)
    elif recurs is not None or freeze.end_at is None:
        yield SyncWindow("deny", *ALWAYS, "UTC", names, text)
    else:
        begin = (freeze.start_at.astimezone(UTC) - timedelta(minutes=1)).replace(second=0, microsecond=0)
        minutes = (freeze.end_at - begin + timedelta(seconds=59)) // timedelta(minutes=1)
        schedule = f"{begin.minute} {begin.hour} {begin.day} {begin.month} *"
        yield SyncWindow("deny", schedule, timedelta(minutes=minutes + 1), "UTC", names, text)


def _minutes(window: Window) -> tuple[int, int]:
    """Start of day and length, in minutes of wall time."""
    start = window.start.hour * 60 + window.start.minute
    end = window.end.hour * 60 + window.end.minute
    return start, (end - start) if end > start else (end - start) % 1440 or 1440


def _plain(cron: Cron, text: str) -> str:
    """The expression without what the two dialects read differently; empty if it cannot be said."""
    parts = text.split()
    stars = (parts[2] == "*", parts[4] == "*")
    if not cron.either and not any(stars):
        return ""
    minutes = sorted({one.minute for one in cron.times})
    hours = sorted({one.hour for one in cron.times})
    days = "*" if stars[0] else ",".join(str(one) for one in sorted(cron.days))
    weekdays = "*" if stars[1] else ",".join(WEEKDAYS[(one + 1) % 7] for one in sorted(cron.weekdays))
    months = ",".join(str(one) for one in sorted(cron.months))
    return f"{_list(minutes)} {_list(hours)} {days} {months} {weekdays}"


def _list(numbers: list[int]) -> str:
    return ",".join(str(one) for one in numbers)


def _clocks_change(zone_name: str) -> bool:
    """Whether the zone's offset has changed since 2020 or will before 2040."""
    zone, day = ZoneInfo(zone_name), datetime(2020, 1, 1, tzinfo=UTC)
    offsets = {(day + timedelta(days=n)).astimezone(zone).utcoffset() for n in range(0, 7300, 10)}
    return len(offsets) > 1
