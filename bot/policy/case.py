"""One request with every rule that is about it: found once, then judged at as many instants as needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from bot.catalog.model import ApprovalRule, Catalog, EmergencyRule, Freeze, Kind, Scope, Service, Window
from bot.policy import reasons as say
from bot.policy.approvals import LONG_AGO, OpenSeat, can_be_satisfied, seats_of, tally
from bot.policy.model import Ballot, Facts, LockFact, Pass, PolicyRequest, ReasonCode, ReviewFact
from bot.policy.permissions import held_by
from bot.policy.scopes import matches
from bot.policy.windows import is_open

FREE_OF_WINDOWS = frozenset({Kind.ROLLBACK})
"""Kinds that need no open window: going back to what ran must never wait."""

ORDINARY = frozenset({Kind.NORMAL, Kind.PROMOTION})
"""Kinds that wait for a review that is owed, where that is set."""

APPROVED_BEFORE = frozenset({Kind.ROLLBACK})
"""Kinds that need no approval: what they bring back was approved when it came."""

MOST_KEPT = 5_000
"""Targets and kinds whose rules are kept with a catalog."""


@dataclass(frozen=True, slots=True)
class Case:
    """A request and the rules about it, by scope alone; what holds at an instant is `decide.py`'s.

    windows: empty: nothing limits it. passes: for this very release and with enough approvers who still may.
    emergency: the first rule about it; lane_open: enough others could approve under it.
    """

    catalog: Catalog
    request: PolicyRequest
    facts: Facts
    service: Service
    permission: say.Finding
    freezes: tuple[Freeze, ...]
    windows: tuple[Window, ...]
    locks: tuple[LockFact, ...]
    rules: tuple[ApprovalRule, ...]
    emergency: EmergencyRule | None
    lane_open: bool
    passes: tuple[Pass, ...]
    preview: bool
    reviews: tuple[ReviewFact, ...] = ()
    _seats: dict[datetime, list[OpenSeat]] = field(default_factory=dict)

    @property
    def free_of_windows(self) -> bool:
        """Whether a closed window does not matter."""
        return self.request.kind in FREE_OF_WINDOWS

    def approval_rules(self, at: datetime) -> tuple[ApprovalRule, ...]:
        """The approval rules that hold at an instant."""
        return tuple(rule for rule in self.rules if rule.when is None or is_open(rule.when, at))

    def seats(self, at: datetime) -> list[OpenSeat]:
        """Every seat of every rule that holds at an instant: one person fills one of them all."""
        if at not in self._seats:
            self._seats[at] = self._seats_at(at, self.request.asked_at)
        return self._seats[at]

    def seats_in_the_end(self, at: datetime) -> list[OpenSeat]:
        """The same with everybody whom the question could still be handed up to."""
        if not any(rule.hand_up for rule in self.rules):
            return self.seats(at)
        return self._seats_at(at, LONG_AGO)

    def _seats_at(self, at: datetime, asked_at: datetime | None) -> list[OpenSeat]:
        person, author = self.request.person, self.request.author
        return [
            seat
            for rule in self.approval_rules(at)
            for seat in seats_of(
                self.catalog, rule, self.service, at, requester=person, author=author, asked_at=asked_at
            )
        ]

    def fixed_edges(self, after: datetime, until: datetime) -> list[datetime]:
        """Instants at which something dated begins or ends, in order."""
        dated = [edge for freeze in self.freezes for edge in (freeze.start_at, freeze.end_at) if edge is not None]
        dated += [edge for given in self.passes for edge in (given.from_at, given.until_at)]
        dated += [one.due_at for one in self.reviews]
        dated += [lock.expires_at for lock in self.locks if lock.expires_at is not None]
        if self.rules:
            dated += [one.until_at for one in self.facts.ballots if one.until_at is not None]
            dated += [edge for one in self.catalog.delegations for edge in (one.from_at, one.until_at)]
            groups = {name for rule in self.rules for seat in rule.seats for name in seat.groups}
            asked = self.request.asked_at
            dated += [asked + one.after for rule in self.rules for one in rule.hand_up if asked is not None]
            groups |= {name for rule in self.rules for one in rule.hand_up for name in one.seat.groups}
            shifts = [
                shift for name in groups if name in self.catalog.groups for shift in self.catalog.groups[name].shifts
            ]
            dated += [edge for shift in shifts for edge in (shift.from_at, shift.until_at)]
        return sorted({edge for edge in dated if after < edge <= until})

    def recurring(self, at: datetime) -> list[tuple[tuple[Window, ...], bool]]:
        """Groups of windows whose 'one is open' matters from an instant on, and what an unknown day counts as.

        While a dated freeze holds, nothing that recurs can change the outcome.
        """
        stops = [one for one in self.freezes if not self._passes_freeze(one) and _in_force(one, at)]
        if any(one.recurs is None for one in stops):
            return []
        groups: list[tuple[tuple[Window, ...], bool]] = []
        if self.windows and not self.free_of_windows:
            groups.append((self.windows, False))
        groups += [((one.recurs,), True) for one in stops if one.recurs is not None]
        groups += [((rule.when,), False) for rule in self.rules if rule.when is not None]
        return groups

    def _passes_freeze(self, freeze: Freeze) -> bool:
        exempt = self.request.kind.value in freeze.exempt_kinds
        return exempt or (freeze.release_week and self.preview)


@dataclass(frozen=True, slots=True)
class Rules:
    """The catalog's rules about a target and a kind, in its order. emergency: the first of them."""

    freezes: tuple[Freeze, ...]
    windows: tuple[Window, ...]
    approvals: tuple[ApprovalRule, ...]
    emergency: EmergencyRule | None


def rules_about(catalog: Catalog, service: Service, environment: str, kind: Kind) -> Rules:
    """The rules whose scope matches; found once, as going through all of them is half of a verdict."""
    key = (service.name, environment, kind)
    known: Rules | None = catalog.found.get(key)
    if known is None:
        if len(catalog.found) >= MOST_KEPT:
            catalog.found.clear()

        def about(scope: Scope) -> bool:
            return matches(scope, service, environment, kind)

        known = catalog.found[key] = Rules(
            freezes=tuple(one for one in catalog.freezes if about(one.scope)),
            windows=tuple(one for one in catalog.windows if about(one.scope)),
            approvals=tuple(one for one in catalog.approvals if kind not in APPROVED_BEFORE and about(one.scope)),
            emergency=next((one for one in catalog.emergency if about(one.scope)), None),
        )
    return known


def case_of(catalog: Catalog, request: PolicyRequest, facts: Facts) -> Case | say.Finding:
    """The case, or why there is none: an unknown service or environment."""
    service = catalog.services.get(request.service)
    place = catalog.environments.get(request.environment)
    if service is None:
        return say.no(ReasonCode.UNKNOWN_SERVICE, lambda: (f"There is no service {request.service}.", "", ""))
    if place is None:
        return say.no(
            ReasonCode.UNKNOWN_ENVIRONMENT, lambda: (f"There is no environment {request.environment}.", "", "")
        )
    kind, name = request.kind, place.name
    rules = rules_about(catalog, service, name, kind)
    emergency = rules.emergency
    return Case(
        catalog=catalog,
        request=request,
        facts=facts,
        service=service,
        permission=_permission(catalog, request, service),
        freezes=(*rules.freezes, *(one for one in facts.freezes if matches(one.scope, service, name, kind))),
        windows=rules.windows,
        locks=tuple(one for one in facts.locks if not one.readable or matches(one.what, service, name, kind)),
        rules=tuple(one for one in rules.approvals if _is_large_enough(one, request)),
        emergency=emergency,
        lane_open=emergency is not None and can_be_satisfied(catalog, emergency, service, request.person),
        passes=_good_passes(catalog, request, service, emergency, facts),
        preview=place.preview,
        reviews=tuple(
            one for one in facts.reviews if (one.service, one.environment) == (service.name, name) and kind in ORDINARY
        ),
    )


def relevant(catalog: Catalog, request: PolicyRequest, facts: Facts) -> Facts:
    """Only the facts that are about the request: the verdict is the same with them alone."""
    case = case_of(catalog, request, facts)
    if isinstance(case, say.Finding):
        return Facts()
    freezes = tuple(one for one in facts.freezes if one in case.freezes)
    return Facts(facts.passes, case.locks, freezes, facts.ballots, case.reviews)


def _permission(catalog: Catalog, request: PolicyRequest, service: Service) -> say.Finding:
    person = catalog.people.get(request.person)
    if person is None or not person.active:
        return say.no(ReasonCode.UNKNOWN_CALLER, say.unknown_caller)
    role = held_by(catalog, person.id, request.permission, service, request.environment)
    if role is not None:
        return say.yes(ReasonCode.PERMITTED, say.permitted, person, role, service)
    return say.no(ReasonCode.NOT_PERMITTED, say.not_permitted, catalog, request, service)


def _is_large_enough(rule: ApprovalRule, request: PolicyRequest) -> bool:
    return not rule.larger_than or request.size is None or request.size > rule.larger_than


def _good_passes(
    catalog: Catalog, request: PolicyRequest, service: Service, rule: EmergencyRule | None, facts: Facts
) -> tuple[Pass, ...]:
    """A pass counts only for this very release, and while enough of its approvers still may approve."""
    if not request.subject:
        return ()
    wanted = (request.service, request.environment, request.subject)
    return tuple(
        given
        for given in facts.passes
        if (given.service, given.environment, given.subject) == wanted
        and (given.given_by or _has_quorum(catalog, request, service, rule, given))
    )


def _has_quorum(
    catalog: Catalog, request: PolicyRequest, service: Service, rule: EmergencyRule | None, given: Pass
) -> bool:
    if rule is None:
        return False
    ballots = [Ballot(one, True) for one in given.approvers]
    return tally(catalog, rule, service, request.person, ballots).approved


def _in_force(freeze: Freeze, at: datetime) -> bool:
    return freeze.start_at <= at and (freeze.end_at is None or at < freeze.end_at)
