"""The rules of time and approval: from the written pieces to the catalog's values, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

from bot.catalog import messages, units
from bot.catalog.build import scope_of, seat_of
from bot.catalog.model import (
    ApprovalRule,
    Calendar,
    Catalog,
    DayKind,
    Delegation,
    Freeze,
    Group,
    HandUp,
    Limit,
    Scope,
    Service,
    Shift,
    Window,
)
from bot.catalog.problems import Path, Problem
from bot.catalog.references import Names
from bot.catalog.schema import ApprovalIn, FreezeIn, RecursIn, SeatIn, WindowIn
from bot.catalog.written import Entry, Root
from bot.policy.approvals import LONG_AGO, can_be_filled, seats_of
from bot.policy.calendars import is_region, regions
from bot.policy.scopes import matches_service
from bot.policy.windows import is_open, next_opening

ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
"""Where a freeze without a beginning begins: before everything."""
OUTSIDE = ("github", "gitlab", "oncall")
"""Systems that know who is in a group, beside chats."""
EVERY_DAY = tuple(range(7))


# -- from written to meant -------------------------------------------------------------------------------------------


def calendars(root: Root) -> dict[str, Calendar]:
    """Calendars by name."""
    return {
        name: Calendar(
            name=name,
            region=entry.value.region.upper(),
            weekend=entry.value.weekend,
            work=tuple(sorted(entry.value.workdays.items())),
            rest=tuple(sorted(entry.value.holidays.items())),
            source=entry.source(),
        )
        for name, entry in root.calendars.items()
    }


def windows(root: Root) -> tuple[Window, ...]:
    """Windows as written, in the catalog's zone if they name none."""
    known = calendars(root)
    return tuple(_window(root, entry, entry.value.name, scope_of(entry.value), known) for entry in root.windows)


def _window(
    root: Root, entry: Entry[WindowIn] | Entry[FreezeIn], name: str, scope: Scope, known: Mapping[str, Calendar]
) -> Window:
    written: RecursIn = entry.value
    zone = written.zone or root.setting("zone")
    return Window(
        name=name,
        scope=scope,
        days=written.days or (EVERY_DAY if written.calendar and not written.cron else ()),
        start=written.hours[0],
        end=written.hours[1],
        zone=zone,
        source=entry.source(),
        cron=written.cron,
        duration=written.duration or timedelta(0),
        from_at=units.in_zone(written.from_, zone) if written.from_ is not None else None,
        until_at=units.in_zone(written.until, zone, end=True) if written.until is not None else None,
        calendar=known.get(written.calendar),
        on=written.on_,
        announce=written.announce if written.announce is not None else root.setting("announce"),
    )


def freezes(root: Root) -> tuple[Freeze, ...]:
    """Freezes and release weeks as written, as instants."""
    known = calendars(root)
    plain = [_freeze(root, entry, known, release_week=False) for entry in root.freezes]
    return (*plain, *(_freeze(root, entry, known, release_week=True) for entry in root.release_weeks))


def _freeze(root: Root, entry: Entry[FreezeIn], known: Mapping[str, Calendar], *, release_week: bool) -> Freeze:
    written = entry.value
    zone = written.zone or root.setting("zone")
    return Freeze(
        name=written.name,
        scope=scope_of(written),
        start_at=units.in_zone(written.from_, zone) if written.from_ is not None else ALWAYS,
        end_at=units.in_zone(written.until, zone, end=True) if written.until is not None else None,
        reason=written.reason,
        exempt_kinds=tuple(kind.value for kind in written.exempt),
        source=entry.source(),
        recurs=_window(root, entry, written.name, Scope(), known) if written.recurs else None,
        release_week=release_week,
        announce=written.announce,
    )


def groups(root: Root) -> dict[str, Group]:
    """Groups by name."""
    found = {}
    for name, entry in root.groups.items():
        zone = entry.value.zone or root.setting("zone")
        shifts = tuple(
            Shift(one.person, units.in_zone(one.from_, zone), units.in_zone(one.until, zone, end=True))
            for one in entry.value.shifts
        )
        chats = {platform: tuple(ids) for platform, ids in entry.value.chats.items()}
        outside = {system: tuple(getattr(entry.value, system)) for system in OUTSIDE}
        sources = {system: names for system, names in outside.items() if names}
        found[name] = Group(name, tuple(entry.value.people), shifts, entry.source(), chats, sources)
    return found


def delegations(root: Root) -> tuple[Delegation, ...]:
    """Leaves as written, as instants."""
    made = []
    for entry in root.leave:
        leave, zone = entry.value, entry.value.zone or root.setting("zone")
        start, end = units.in_zone(leave.from_, zone), units.in_zone(leave.until, zone, end=True)
        made.append(Delegation(leave.person, leave.to, start, end, entry.source()))
    return tuple(made)


def approvals(root: Root) -> tuple[ApprovalRule, ...]:
    """Approval rules as written."""
    return tuple(_approval(root, entry) for entry in root.approvals)


def _approval(root: Root, entry: Entry[ApprovalIn]) -> ApprovalRule:
    written = entry.value
    return ApprovalRule(
        name=written.name,
        scope=scope_of(written),
        seats=tuple(seat_of(one) for one in written.seats),
        expires_after=written.expires_after,
        source=entry.source(),
        total=written.total,
        not_author=written.not_author,
        larger_than=written.larger_than,
        when=_hours(root, entry),
        remind_after=written.remind_after,
        hand_up=tuple(HandUp(one.after, seat_of(one)) for one in sorted(written.hand_up, key=lambda one: one.after)),
    )


def _hours(root: Root, entry: Entry[ApprovalIn]) -> Window | None:
    written = entry.value
    whole_day = written.hours == (time(0), time(0))
    if not written.days and whole_day:
        return None
    zone = written.zone or root.setting("zone")
    days = written.days or EVERY_DAY
    return Window(written.name, Scope(), days, written.hours[0], written.hours[1], zone, entry.source())


def limits(root: Root) -> tuple[Limit, ...]:
    """Limits as written."""
    return tuple(
        Limit(one.value.name, scope_of(one.value), one.value.at_once, one.value.per, one.source())
        for one in root.limits
    )


# -- what is wrong with them -----------------------------------------------------------------------------------------


def check_rules(root: Root, names: Names) -> Iterator[Problem]:
    """References between the rules, regions, and people; before anything is built."""
    for rule in (*root.windows, *root.freezes, *root.release_weeks):
        if rule.value.calendar and rule.value.calendar not in root.names.get("calendars", (rule.value.calendar,)):
            yield rule.problem(("calendar",), messages.unknown("calendar", rule.value.calendar, root.calendars))
    for calendar in root.calendars.values():
        region = calendar.value.region.upper()
        if region and not is_region(region):
            yield calendar.problem(("region",), messages.no_region(calendar.value.region, sorted(regions())))
    for group in root.groups.values():
        yield from _people(group, group.value.people, ("people",), names)
        for at, shift in enumerate(group.value.shifts):
            yield from _people(group, [shift.person], ("shifts", at, "person"), names)
            yield from _ordered(group, shift.from_, shift.until, ("shifts", at, "until"))
    for leave in root.leave:
        yield from _people(leave, [leave.value.person], ("person",), names)
        yield from _people(leave, [leave.value.to], ("to",), names)
        yield from _ordered(leave, leave.value.from_, leave.value.until, ("until",))
    for rule_ in root.approvals:
        yield from _seats(root, rule_, names)
    for lane in root.emergency:
        if lane.value.review.by is not None:
            yield from _seat_names(root, lane, lane.value.review.by, ("review", "by"), names)


def _seats(root: Root, entry: Entry[ApprovalIn], names: Names) -> Iterator[Problem]:
    for at, seat in enumerate(entry.value.seats):
        yield from _seat_names(root, entry, seat, ("seats", at), names)
    for at, step in enumerate(entry.value.hand_up):
        yield from _seat_names(root, entry, step, ("hand_up", at), names)
    taken = sum(seat.count for seat in entry.value.seats)
    if entry.value.total and entry.value.total < taken:
        yield entry.problem(("total",), messages.total_too_small(entry.value.total, taken))


def _seat_names(root: Root, entry: Entry[object], seat: SeatIn, path: Path, names: Names) -> Iterator[Problem]:
    yield from _people(entry, seat.people, (*path, "people"), names)
    for number, group in enumerate(seat.groups):
        if group not in root.names.get("groups", (group,)):
            yield entry.problem((*path, "groups", number), messages.unknown("group", group, root.groups))


def _people(entry: Entry[object], people: list[str], path: Path, names: Names) -> Iterator[Problem]:
    for person in people:
        if names.people is not None and person not in names.people:
            yield entry.problem(path, messages.unknown("person", person, names.people))


def _ordered(entry: Entry[object], start: datetime, end: datetime, path: Path) -> Iterator[Problem]:
    if (start.tzinfo is None) == (end.tzinfo is None) and end <= start:
        yield entry.problem(path, messages.ends_before_start())


def check_built_rules(catalog: Catalog, now: datetime) -> Iterator[Problem]:
    """What only shows when everything is together: windows that never open, circles, and approvals nobody can give."""
    for at, window in enumerate(catalog.windows):
        over = window.until_at is not None and window.until_at <= now
        unpublished = window.calendar is not None and window.on is not DayKind.ANY
        if not (over or unpublished or is_open(window, now) or next_opening(window, now) is not None):
            yield Problem(window.source.file, window.source.line, f"windows[{at}]", messages.never_opens(window.name))
    yield from _circles(catalog)
    for at, rule in enumerate(catalog.approvals):
        service = _unfillable(catalog, rule, now)
        if service is not None:
            text = messages.no_approval_possible(rule.name, service)
            yield Problem(rule.source.file, rule.source.line, f"approvals[{at}].seats", text)


def _circles(catalog: Catalog) -> Iterator[Problem]:
    """A circle counts only where all its leaves overlap."""
    for at, first in enumerate(catalog.delegations):
        source, seen = first.source, [first.person]
        start, end, current = first.from_at, first.until_at, first
        while current.to not in seen:
            seen.append(current.to)
            following = [
                one
                for one in catalog.delegations
                if one.person == current.to and one.from_at < end and one.until_at > start
            ]
            if not following:
                break
            current = following[0]
            start, end = max(start, current.from_at), min(end, current.until_at)
        else:
            if source is not None and current.to == first.person:
                text = messages.to_oneself() if len(seen) == 1 else messages.circle([*seen, first.person])
                yield Problem(source.file, source.line, f"leave[{at}].to", text)


def _unfillable(catalog: Catalog, rule: ApprovalRule, now: datetime) -> str | None:
    """The first service for which even everybody together could not fill the seats; shifts count as if all were on."""
    shifts = {
        name: Group(name, (*one.people, *(shift.person for shift in one.shifts)))
        for name, one in catalog.groups.items()
    }
    always = replace(catalog, groups=shifts, delegations=())
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for service in catalog.services.values():
        key = (service.team, service.owners)
        if key in seen or not matches_service(rule.scope, service):
            continue
        seen.add(key)
        if not _fillable(always, rule, service, now):
            return service.name
    return None


def _fillable(catalog: Catalog, rule: ApprovalRule, service: Service, now: datetime) -> bool:
    return can_be_filled(seats_of(catalog, rule, service, now, requester="", author="", asked_at=LONG_AGO))
