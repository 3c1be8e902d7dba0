"""`decide()`: may this person do this to this service here, now, and why. Pure, total, explained.

Freezes beat windows. Having any matching window closes all other time. An emergency pass overcomes windows and freezes,
and stands for the ordinary approvals; never for a missing right or a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from bot.catalog.model import ApprovalRule, Catalog, EmergencyRule, ReviewBlock
from bot.policy import reasons as say
from bot.policy.approvals import OpenSeat, can_be_filled, fill
from bot.policy.case import Case, case_of
from bot.policy.model import Facts, Outcome, PolicyRequest, ReasonCode, Verdict
from bot.policy.reasons import Finding, no, yes
from bot.policy.windows import HORIZON, is_open, is_unknown, union_change

OVERCOME_BY_PASS = frozenset(
    {
        ReasonCode.WINDOW_CLOSED,
        ReasonCode.FREEZE_ACTIVE,
        ReasonCode.CALENDAR_UNPUBLISHED,
        ReasonCode.APPROVAL_NEEDED,
        ReasonCode.APPROVAL_IMPOSSIBLE,
        ReasonCode.REVIEW_OWED,
    }
)
MAX_EDGES = 3000
"""Instants tried for the next change; beyond, the answer is 'not known to change'."""


@dataclass(frozen=True, slots=True)
class _Judgement:
    """A verdict whose sentences are not made yet."""

    outcome: Outcome
    findings: tuple[Finding, ...]
    emergency: EmergencyRule | None = None
    approvals: tuple[ApprovalRule, ...] = ()


def decide(catalog: Catalog, request: PolicyRequest, facts: Facts, at: datetime) -> Verdict:
    """The verdict at an instant (aware), with every reason and the instant at which its outcome changes."""
    case = case_of(catalog, request, facts)
    if isinstance(case, Finding):
        return Verdict(Outcome.REFUSED, (case.reason(),))
    found = _judge(case, at)
    reasons = tuple(one.reason() for one in found.findings)
    return Verdict(found.outcome, reasons, _next_change(case, at, found.outcome), found.emergency, found.approvals)


def outcome_at(catalog: Catalog, request: PolicyRequest, facts: Facts, at: datetime) -> Outcome:
    """The outcome of `decide` alone, which costs a fraction: nothing is looked for in the future."""
    case = case_of(catalog, request, facts)
    return Outcome.REFUSED if isinstance(case, Finding) else _judge(case, at).outcome


def first_opening(catalog: Catalog, request: PolicyRequest, facts: Facts, at: datetime) -> datetime | None:
    """The first instant from `at` on at which it could go without the emergency lane; None: never within a year."""
    case = case_of(catalog, request, facts)
    if isinstance(case, Finding):
        return None
    return at if _is_ordinary(_judge(case, at)) else _first(case, at, _is_ordinary)


def _is_ordinary(found: _Judgement) -> bool:
    return found.outcome is Outcome.ALLOWED or bool(found.approvals)


def _judge(case: Case, at: datetime) -> _Judgement:
    findings = (
        case.permission,
        *_freezes(case, at),
        *_windows(case, at),
        *_locks(case, at),
        *_reviews(case, at),
        *_approvals(case, at),
    )
    blocking = {one.code for one in findings if one.blocking}
    if not blocking:
        return _Judgement(Outcome.ALLOWED, findings)
    if not blocking <= OVERCOME_BY_PASS:
        return _Judgement(Outcome.REFUSED, findings)
    if blocking == {ReasonCode.APPROVAL_NEEDED}:
        return _Judgement(Outcome.NEEDS_APPROVAL, findings, approvals=_unfulfilled(case, at))
    return _in_the_lane(case, at, findings)


def _in_the_lane(case: Case, at: datetime, findings: tuple[Finding, ...]) -> _Judgement:
    """What only the emergency lane can let through."""
    rule = case.emergency
    given = next((one for one in case.passes if one.from_at <= at < one.until_at), None)
    if rule is None and given is None:
        no_lane = yes(ReasonCode.EMERGENCY_IMPOSSIBLE, say.no_lane, case.request)
        return _Judgement(Outcome.REFUSED, (*findings, no_lane))
    if given is not None:
        opened = [replace(one, blocking=False) for one in findings]
        passed = yes(ReasonCode.EMERGENCY_PASS, say.passed, case.catalog, rule, given)
        return _Judgement(Outcome.ALLOWED, (*opened, passed))
    assert rule is not None
    if not case.lane_open:
        empty = yes(ReasonCode.EMERGENCY_IMPOSSIBLE, say.lane_empty, rule)
        return _Judgement(Outcome.REFUSED, (*findings, empty))
    asked = yes(ReasonCode.EMERGENCY_POSSIBLE, say.lane_open, rule)
    return _Judgement(Outcome.NEEDS_APPROVAL, (*findings, asked), emergency=rule)


# -- the single rules


def _freezes(case: Case, at: datetime) -> Iterator[Finding]:
    for freeze in case.freezes:
        if at < freeze.start_at or (freeze.end_at is not None and at >= freeze.end_at):
            continue
        if freeze.recurs is not None and not is_open(freeze.recurs, at, unknown=True):
            continue
        if case.request.kind.value in freeze.exempt_kinds:
            yield yes(ReasonCode.FREEZE_EXEMPT, say.freeze_exempt, freeze, case.request.kind)
        elif freeze.release_week and case.preview:
            yield yes(ReasonCode.PREVIEW_EXEMPT, say.preview_exempt, freeze, case.request.environment)
        elif freeze.recurs is not None and is_unknown(freeze.recurs, at):
            yield no(ReasonCode.CALENDAR_UNPUBLISHED, say.unpublished_freeze, freeze)
        else:
            yield no(ReasonCode.FREEZE_ACTIVE, say.frozen, freeze, at, case.catalog.zone)


def _windows(case: Case, at: datetime) -> Iterator[Finding]:
    if not case.windows:
        yield yes(ReasonCode.NO_WINDOW, say.no_window, case.request)
        return
    opened = [window for window in case.windows if is_open(window, at)]
    yield from (yes(ReasonCode.WINDOW_OPEN, say.window_open, window, at) for window in opened)
    if opened:
        return
    if case.free_of_windows:
        yield yes(ReasonCode.KIND_EXEMPT, say.kind_exempt, case.request.kind)
        return
    for window in case.windows:
        if is_unknown(window, at):
            yield no(ReasonCode.CALENDAR_UNPUBLISHED, say.unpublished_window, window)
        else:
            yield no(ReasonCode.WINDOW_CLOSED, say.window_closed, window, at)


def _locks(case: Case, at: datetime) -> Iterator[Finding]:
    for lock in case.locks:
        if not lock.readable:
            yield no(ReasonCode.LOCK_UNREADABLE, say.lock_unreadable, lock)
        elif lock.expires_at is not None and at >= lock.expires_at:
            continue
        elif lock.warning:
            yield yes(ReasonCode.LOCK_WARNING, say.lock_warning, lock, case.catalog)
        elif lock.holder == case.request.person:
            yield yes(ReasonCode.LOCK_YOURS, say.lock_yours, lock)
        elif case.request.kind.value in lock.exempt_kinds:
            yield yes(ReasonCode.LOCK_EXEMPT, say.lock_exempt, lock, case.request.kind)
        else:
            yield no(ReasonCode.LOCKED, say.locked, lock, case.catalog)


def _reviews(case: Case, at: datetime) -> Iterator[Finding]:
    for owed in case.reviews:
        holds = owed.block is ReviewBlock.ALWAYS or (owed.block is ReviewBlock.OVERDUE and at >= owed.due_at)
        if holds:
            yield no(ReasonCode.REVIEW_OWED, say.review_owed, owed)
        elif owed.block is ReviewBlock.OVERDUE:
            yield yes(ReasonCode.REVIEW_OWED, say.review_due, owed, case.catalog.zone)


def _approvals(case: Case, at: datetime) -> Iterator[Finding]:
    rules = case.approval_rules(at)
    if not rules:
        return
    filled, possible = _filled(case, at), can_be_filled(case.seats_in_the_end(at))
    for rule in rules:
        own = [seat for seat in filled if seat.rule is rule]
        if all(seat.voter for seat in own):
            yield yes(ReasonCode.APPROVAL_GIVEN, say.approval_given, case.catalog, rule, own)
        elif possible:
            yield no(ReasonCode.APPROVAL_NEEDED, say.approval_needed, case.catalog, rule, own)
        else:
            yield no(ReasonCode.APPROVAL_IMPOSSIBLE, say.approval_impossible, rule)


def _filled(case: Case, at: datetime) -> list[OpenSeat]:
    return fill(case.seats(at), case.facts.ballots, case.request.subject, at)


def _unfulfilled(case: Case, at: datetime) -> tuple[ApprovalRule, ...]:
    filled = _filled(case, at)
    return tuple(rule for rule in case.approval_rules(at) if any(not one.voter for one in filled if one.rule is rule))


# -- when it changes


def _next_change(case: Case, at: datetime, outcome: Outcome) -> datetime | None:
    """The first instant within a year at which the outcome differs."""
    return _first(case, at, lambda found: found.outcome is not outcome)


def _first(case: Case, at: datetime, wanted: Callable[[_Judgement], bool]) -> datetime | None:
    """The first instant after `at`, within a year, that is as wanted; only instants where a rule changes are tried."""
    if case.permission.blocking:
        return None
    tried, limit = at, at + HORIZON
    fixed = case.fixed_edges(at, limit)
    for _ in range(MAX_EDGES):
        candidates = [*[edge for edge in fixed if edge > tried][:1], *_moving(case, tried)]
        edge = min(candidates, default=None)
        if edge is None or edge > limit:
            return None
        if wanted(_judge(case, edge)):
            return edge
        tried = edge
    return None


def _moving(case: Case, after: datetime) -> list[datetime]:
    """The next changes of what recurs; while a lock holds, none of them matters."""
    if any(one.blocking for one in _locks(case, after)):
        return []
    changes = (union_change(windows, after, unknown=unknown) for windows, unknown in case.recurring(after))
    return [edge for edge in changes if edge is not None]
