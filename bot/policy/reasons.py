"""The sentences of verdicts, each in one place. Times are in the zone of the rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from bot.catalog.model import ApprovalRule, Catalog, DayKind, EmergencyRule, Freeze, Kind, Person, Role, Service, Window
from bot.policy.approvals import OpenSeat
from bot.policy.calendars import day_of
from bot.policy.model import LockFact, Pass, Permission, PolicyRequest, Reason, ReasonCode, ReviewFact
from bot.policy.permissions import who_may
from bot.policy.windows import closing, next_opening

Said = tuple[str, str, str]
"""Text, name of the rule, `file:line` of the rule."""

BREAK_GLASS = "break-glass"
"""What stands for the rule where a pass was given on the server."""

AS_ROLE = {
    Role.ADMIN: "administrator",
    Role.RELEASE_MANAGER: "release manager",
    Role.TEAM_LEAD: "team lead",
    Role.OWNER: "owner",
    Role.MEMBER: "team member",
    Role.ANYONE: "anybody",
}

VERBS = {Permission.RELEASE_ROLLBACK: "roll back", Permission.RELEASE_CANCEL: "cancel deployments of"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found; its sentence is made only when somebody reads it."""

    code: ReasonCode
    blocking: bool
    say: Callable[[], Said]

    def reason(self) -> Reason:
        """The finding with its sentence."""
        text, rule, where = self.say()
        return Reason(self.code, text, rule, where, self.blocking)


def yes(code: ReasonCode, say: Callable[..., Said], *values: object) -> Finding:
    """A finding that stands in nobody's way."""
    return Finding(code, False, partial(say, *values))


def no(code: ReasonCode, say: Callable[..., Said], *values: object) -> Finding:
    """A finding that alone keeps the verdict from being `allowed`."""
    return Finding(code, True, partial(say, *values))


def when(at: datetime, zone: str) -> str:
    """`Tue 24 Nov 2026 10:00 (Asia/Shanghai)`."""
    return f"{at.astimezone(ZoneInfo(zone)):%a %d %b %Y %H:%M} ({zone})"


# -- who


def unknown_caller() -> Said:
    """Nobody in the catalog, or somebody who left."""
    return "I do not know you, or you have left; ask an administrator to look at people.yaml.", "people", ""


def permitted(person: Person, role: Role, service: Service) -> Said:
    """The person may, as what, and the line that says so: of the catalog, or of OWNERS."""
    where = service.owner_sources.get(person.id, str(service.source or "")) if role is Role.OWNER else ""
    rule = "owners" if role is Role.OWNER else "roles"
    kind = AS_ROLE[role]
    return f"{person.name} may, as {kind}.", rule, where


def not_permitted(catalog: Catalog, request: PolicyRequest, service: Service) -> Said:
    """The person may not, and who may."""
    verb = VERBS.get(request.permission, "deploy")
    may = who_may(catalog, request.permission, service, request.environment)
    text = f"You may not {verb} {service.name} in {request.environment}; {may} may."
    if catalog.untold:
        names = ", ".join(sorted(catalog.untold))
        text += f" The chat has not told yet who is in {names}; if you are, try again in a minute."
    return text, "owners", str(service.source or "")


# -- freezes


def freeze_exempt(freeze: Freeze, kind: Kind) -> Said:
    """The kind passes."""
    return f"The freeze {freeze.name} lets a {kind.value} through.", freeze.name, str(freeze.source)


def preview_exempt(freeze: Freeze, environment: str) -> Said:
    """The environment passes."""
    text = f"The release week {freeze.name} leaves {environment} open, because it is a preview environment."
    return text, freeze.name, str(freeze.source)


def frozen(freeze: Freeze, at: datetime, zone: str) -> Said:
    """It holds, until when and why."""
    end = freeze.end_at
    if freeze.recurs is not None:
        zone = freeze.recurs.zone
        ends = [one for one in (closing(freeze.recurs, at, unknown=True), end) if one is not None]
        end = min(ends, default=None)
    until = f" until {when(end, zone)}" if end is not None else ", without a known end"
    what = "release week" if freeze.release_week else "freeze"
    by = f", set by {freeze.by}" if freeze.by else ""
    why = f": {freeze.reason}" if freeze.reason else ""
    day = _day(freeze.recurs, at) if freeze.recurs is not None else ""
    return f"The {what} {freeze.name} holds{until}{by}{why}.{day}", freeze.name, str(freeze.source)


def unpublished_freeze(freeze: Freeze) -> Said:
    """A freeze by a calendar that nobody knows holds."""
    name = freeze.recurs.calendar.name if freeze.recurs is not None and freeze.recurs.calendar is not None else ""
    text = f"The freeze {freeze.name} holds, because the calendar {name} is not published for this year."
    return text, freeze.name, str(freeze.source)


# -- windows


def no_window(request: PolicyRequest) -> Said:
    """Nothing limits it."""
    return f"No release window limits {request.service} in {request.environment}.", "", ""


def window_open(window: Window, at: datetime) -> Said:
    """It is open, until when."""
    end = closing(window, at)
    until = f" until {when(end, window.zone)}" if end is not None else ""
    text = f"The release window {window.name} is open{until}.{_day(window, at)}"
    return text, window.name, str(window.source)


def window_closed(window: Window, at: datetime) -> Said:
    """It is closed, until when."""
    start = next_opening(window, at)
    until = f" until {when(start, window.zone)}" if start is not None else " and does not open within a year"
    text = f"The release window {window.name} is closed{until}.{_day(window, at)}"
    return text, window.name, str(window.source)


def _day(window: Window, at: datetime) -> str:
    """What its calendar calls the day, if it has a name."""
    if window.calendar is None or window.on is DayKind.ANY:
        return ""
    local = at.astimezone(ZoneInfo(window.zone)).date()
    known = day_of(window.calendar, local)
    if known is None or not known.name:
        return ""
    return f" By the calendar {window.calendar.name}, {local:%d %b %Y} is {known.name}."


def unpublished_window(window: Window) -> Said:
    """A window by a calendar that nobody knows is closed."""
    name = window.calendar.name if window.calendar is not None else ""
    text = f"The release window {window.name} is closed, because the calendar {name} is not published for this year."
    return text, window.name, str(window.source)


def kind_exempt(kind: Kind) -> Said:
    """Windows do not limit it."""
    return f"A {kind.value} needs no open release window.", "", ""


# -- locks


def lock_unreadable(lock: LockFact) -> Said:
    """A broken lock holds."""
    return f"The lock on {lock.scope} cannot be read, and so it holds.", lock.scope, ""


def locked(lock: LockFact, catalog: Catalog) -> Said:
    """Somebody holds it, why and until when."""
    until = f" until {when(lock.expires_at, catalog.zone)}" if lock.expires_at is not None else ""
    return f"{_name(catalog, lock.holder)} holds the lock on {lock.scope}{until}{_why(lock)}.", lock.scope, ""


def lock_warning(lock: LockFact, catalog: Catalog) -> Said:
    """Somebody asks for care."""
    return f"{_name(catalog, lock.holder)} asks for care with {lock.scope}{_why(lock)}.", lock.scope, ""


def lock_yours(lock: LockFact) -> Said:
    """The requester holds it."""
    return f"You hold the lock on {lock.scope}.", lock.scope, ""


def lock_exempt(lock: LockFact, kind: Kind) -> Said:
    """The kind passes."""
    return f"The lock on {lock.scope} lets a {kind.value} through.", lock.scope, ""


def _why(lock: LockFact) -> str:
    return f": {lock.reason.rstrip('.')}" if lock.reason else ""


# -- approvals


def approval_given(catalog: Catalog, rule: ApprovalRule, seats: Sequence[OpenSeat]) -> Said:
    """Everybody needed said yes."""
    names = ", ".join(_name(catalog, seat.voter) for seat in seats)
    return f"{names} approved it under {rule.name}.", rule.name, str(rule.source)


def approval_needed(catalog: Catalog, rule: ApprovalRule, seats: Sequence[OpenSeat]) -> Said:
    """Which seats are open, and who may fill them."""
    parts = []
    for seat in dict.fromkeys(seat for seat in seats if not seat.voter):
        count = sum(1 for one in seats if one == seat)
        who = ", ".join(_name(catalog, one) for one in seat.people[:5])
        more = f" and {len(seat.people) - 5} more" if len(seat.people) > 5 else ""
        parts.append(f"{count} of {seat.name} ({who}{more})")
    return f"{rule.name} still needs {' and '.join(parts)} to approve.", rule.name, str(rule.source)


def approval_impossible(rule: ApprovalRule) -> Said:
    """Nobody could fulfil it."""
    text = f"Too few people besides you could approve under {rule.name}; ask an administrator to name more."
    return text, rule.name, str(rule.source)


def review_owed(owed: ReviewFact) -> Said:
    """An emergency of before holds up what is ordinary."""
    text = f"The emergency {owed.ref} is not reviewed yet; type /review {owed.ref} and what was found."
    return text, owed.ref, ""


def review_due(owed: ReviewFact, zone: str) -> Said:
    """An emergency of before will hold up what is ordinary."""
    return f"The emergency {owed.ref} is to be reviewed until {when(owed.due_at, zone)}.", owed.ref, ""


def passed(catalog: Catalog, rule: EmergencyRule | None, given: Pass) -> Said:
    """An emergency pass is in force."""
    if given.given_by or rule is None:
        why = f": {given.reason.rstrip('.')}" if given.reason else ""
        text = f"{given.given_by} gave a pass on the server until {when(given.until_at, catalog.zone)}{why}."
        return text, BREAK_GLASS, ""
    names = ", ".join(_name(catalog, one) for one in given.approvers)
    return f"{names} let it through until {when(given.until_at, catalog.zone)}.", rule.name, str(rule.source)


def lane_open(rule: EmergencyRule) -> Said:
    """The emergency lane can be asked."""
    many = "approval" if rule.count == 1 else "approvals"
    text = f"In an emergency it can go with {rule.count} {many} under {rule.name}."
    return text, rule.name, str(rule.source)


def lane_empty(rule: EmergencyRule) -> Said:
    """The emergency lane has nobody in it."""
    text = f"Too few people besides you could approve an emergency under {rule.name}."
    return text, rule.name, str(rule.source)


def no_lane(request: PolicyRequest) -> Said:
    """There is no emergency lane."""
    return f"There is no emergency rule for {request.environment}.", "", ""


def _name(catalog: Catalog, person: str) -> str:
    known = catalog.people.get(person)
    return known.name if known is not None else person
