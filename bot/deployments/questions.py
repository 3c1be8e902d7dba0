"""A question to people about one deployment: who may answer it, and when it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.catalog.model import ApprovalRule, Catalog, EmergencyRule, Service
from bot.deployments.model import Deployment, Emergency
from bot.errors import Refused
from bot.policy.approvals import OpenSeat, check_seat, check_vote, eligible, fill, seats_of, tally
from bot.policy.model import Ballot, Reason, ReasonCode, Verdict

APPROVAL_LASTS = timedelta(hours=24)
"""How long an ordinary approval is good for while its deployment waits."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one deployment is asked about: an emergency rule's quorum, or the seats of approval rules."""

    catalog: Catalog
    service: Service
    requester: str
    subject: str
    rule: EmergencyRule | None
    seats: tuple[OpenSeat, ...] = ()

    def people(self) -> tuple[str, ...]:
        """Everybody who may answer now."""
        if self.rule is not None:
            named = eligible(self.catalog, self.rule, self.service)
        else:
            named = tuple(dict.fromkeys(person for seat in self.seats for person in seat.people))
        return tuple(person for person in named if person != self.requester)

    def open_seats(self, ballots: Sequence[Ballot], at: datetime) -> list[tuple[str, tuple[str, ...]]]:
        """What is still missing: name of the group and who of it could answer, a line for each seat."""
        voted = {one.person for one in ballots}
        if self.rule is not None:
            approvers, _ = self.count(ballots, at)
            free = tuple(one for one in self.people() if one not in voted)
            return [("", free)] * max(0, self.rule.count - len(approvers))
        bound = [one for one in ballots if one.subject == self.subject]
        filled = fill(self.seats, bound, self.subject, at)
        return [(one.name, tuple(who for who in one.people if who not in voted)) for one in filled if not one.voter]

    def check(self, voter: str) -> Reason | None:
        """Why this person may not answer, None if they may."""
        if self.rule is not None:
            return check_vote(self.catalog, self.rule, self.service, voter, self.requester)
        return check_seat(self.catalog, self.seats, voter, self.requester)

    def count(self, ballots: Sequence[Ballot], at: datetime) -> tuple[tuple[str, ...], bool]:
        """Who counts, and whether that is enough."""
        bound = [one for one in ballots if one.subject == self.subject]
        if self.rule is not None:
            found = tally(self.catalog, self.rule, self.service, self.requester, bound)
            return found.approvers, found.approved
        filled = [seat.voter for seat in fill(self.seats, bound, self.subject, at)]
        return tuple(voter for voter in filled if voter), all(filled)


def rules_of(catalog: Catalog, seen: Deployment) -> list[EmergencyRule | ApprovalRule]:
    """The rules a deployment was asked under, as far as they are still there."""
    asked = seen.data.emergency
    if asked is None:
        return []
    if asked.approvals:
        return [one for one in catalog.approvals if one.name in asked.approvals]
    return [one for one in catalog.emergency if one.name == asked.rule]


def question_of(catalog: Catalog, seen: Deployment, service: Service, at: datetime) -> Question:
    """The question as the catalog in force puts it. Raises Refused: its rule is gone."""
    asked = seen.data.emergency
    assert asked is not None
    if not asked.approvals:
        rule = next((one for one in catalog.emergency if one.name == asked.rule), None)
        if rule is None:
            raise _gone(asked.rule, seen)
        return Question(catalog, service, seen.requested_by, asked.subject, rule)
    rules = [one for one in catalog.approvals if one.name in asked.approvals]
    if len(rules) < len(asked.approvals):
        raise _gone(asked.rule, seen)
    seats = tuple(
        seat
        for one in rules
        for seat in seats_of(
            catalog,
            one,
            service,
            at,
            requester=seen.requested_by,
            author=seen.data.author,
            asked_at=asked.asked_at,
        )
    )
    return Question(catalog, service, seen.requested_by, asked.subject, None, seats)


def ask(verdict: Verdict, subject: str, reason: str, at: datetime, for_at: datetime | None = None) -> Emergency:
    """The question that a verdict leads to. for_at: when it is to go, if later; till then it may be answered."""
    rule = verdict.emergency
    if rule is not None:
        return ask_under(rule, subject, reason, at)
    return Emergency(
        rule=", ".join(one.name for one in verdict.approvals),
        approvals=tuple(one.name for one in verdict.approvals),
        needed=sum(max(one.total, sum(seat.count for seat in one.seats)) for one in verdict.approvals),
        subject=subject,
        asked_at=at,
        expires_at=max(at + min(one.expires_after for one in verdict.approvals), for_at or at),
        pass_minutes=(max(for_at or at, at) - at + APPROVAL_LASTS).total_seconds() / 60,
        reason=reason,
    )


def ask_under(rule: EmergencyRule, subject: str, reason: str, at: datetime) -> Emergency:
    """The question to the people of an emergency rule."""
    return Emergency(
        rule=rule.name,
        needed=rule.count,
        subject=subject,
        asked_at=at,
        expires_at=at + rule.expires_after,
        pass_minutes=rule.pass_for.total_seconds() / 60,
        reason=reason,
    )


def _gone(rule: str, seen: Deployment) -> Refused:
    return Refused(
        f"The rule '{rule}' that {seen.ref} was asked under is gone.",
        hint="Cancel it and ask again.",
        code=ReasonCode.STALE,
    )
