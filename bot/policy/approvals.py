"""Who may say yes, and whether enough have: the emergency lane's quorum, and the rules every deployment needs.

One person counts once, whatever the number of rules; voters are matched to seats so that as many as possible count.
The requester never counts, nor anybody who left, lost the right, or is on leave: the right is checked at the click.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bot.catalog.model import ApprovalRule, Catalog, Delegation, EmergencyRule, Kind, Role, Seat, Service
from bot.policy.matching import match
from bot.policy.model import Ballot, Reason, ReasonCode
from bot.policy.scopes import matches

__all__ = ["Ballot", "OpenSeat", "Tally", "can_be_satisfied", "check_vote", "eligible", "lane", "tally"]


LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Asked so long ago that it was handed up to everybody."""


@dataclass(frozen=True, slots=True)
class Tally:
    """approvers: who counts now, in order of voting; approved: enough of them."""

    approvers: tuple[str, ...]
    needed: int

    @property
    def approved(self) -> bool:
        """Whether enough eligible people said yes."""
        return len(self.approvers) >= self.needed

    @property
    def open_seats(self) -> int:
        """How many more are needed."""
        return max(0, self.needed - len(self.approvers))


# -- the emergency lane


def eligible(catalog: Catalog, rule: EmergencyRule, service: Service) -> tuple[str, ...]:
    """Active people the rule names, by person or by role on this service. Empty roles and people: nobody."""
    named = [*rule.people, *_by_roles(catalog, rule.roles, service)]
    return tuple(person for person in dict.fromkeys(named) if _active(catalog, person))


def check_vote(catalog: Catalog, rule: EmergencyRule, service: Service, voter: str, requester: str) -> Reason | None:
    """Why this person may not vote, None if they may."""
    where = str(rule.source)
    if voter == requester:
        return _self_approval(rule.name, where)
    allowed = eligible(catalog, rule, service)
    return None if voter in allowed else _not_eligible(catalog, allowed, requester, rule.name, where)


def tally(catalog: Catalog, rule: EmergencyRule, service: Service, requester: str, ballots: Iterable[Ballot]) -> Tally:
    """Count each eligible person once; a vote of somebody who left or lost the right does not count."""
    yes = dict.fromkeys(ballot.person for ballot in ballots if ballot.approve)
    allowed = set(eligible(catalog, rule, service)) - {requester}
    return Tally(tuple(person for person in yes if person in allowed), rule.count)


def lane(catalog: Catalog, service: Service, environment: str, kind: Kind, requester: str) -> EmergencyRule | None:
    """The emergency rule that a deployment can be asked under; None if there is none, or too few could approve."""
    rule = next((one for one in catalog.emergency if matches(one.scope, service, environment, kind)), None)
    return rule if rule is not None and can_be_satisfied(catalog, rule, service, requester) else None


def can_be_satisfied(catalog: Catalog, rule: EmergencyRule, service: Service, requester: str) -> bool:
    """Whether enough others than the requester are eligible at all."""
    others = [one for one in eligible(catalog, rule, service) if one != requester]
    return len(others) >= rule.count


# -- the approvals of ordinary deployments


@dataclass(frozen=True, slots=True)
class OpenSeat:
    """One seat of a rule, and who may fill it. name: of the group, for people; voter: who fills it, empty if nobody."""

    rule: ApprovalRule
    name: str
    people: tuple[str, ...]
    voter: str = ""


def seats_of(
    catalog: Catalog,
    rule: ApprovalRule,
    service: Service,
    at: datetime,
    *,
    requester: str,
    author: str,
    asked_at: datetime | None = None,
) -> list[OpenSeat]:
    """Every seat of a rule at an instant, with the people who may fill it; a group of three seats is three.

    asked_at: when the question was asked, for whom it was handed up to since; None: it was not asked yet.
    """
    barred = {requester, author} if rule.not_author and author else {requester}
    found: list[OpenSeat] = []
    everybody: list[str] = []
    handed = [one.seat for one in rule.hand_up if asked_at is not None and asked_at + one.after <= at]
    for seat in rule.seats:
        named = dict.fromkeys(who for one in (seat, *handed) for who in seat_people(catalog, one, service, at))
        people = tuple(one for one in named if one not in barred)
        everybody += people
        found += [OpenSeat(rule, seat.name, people)] * seat.count
    free = tuple(dict.fromkeys(everybody))
    return found + [OpenSeat(rule, "anybody of these groups", free)] * max(0, rule.total - len(found))


def fill(seats: Sequence[OpenSeat], ballots: Iterable[Ballot], subject: str, at: datetime) -> list[OpenSeat]:
    """The seats with those who said yes to this very subject, as many filled as can be."""
    voters = [one.person for one in ballots if one.approve and one.subject == subject and subject and _counts(one, at)]
    taken = match([seat.people for seat in seats], voters)
    return [OpenSeat(seat.rule, seat.name, seat.people, taken.get(number, "")) for number, seat in enumerate(seats)]


def can_be_filled(seats: Sequence[OpenSeat]) -> bool:
    """Whether there are enough different people for all seats."""
    people = list(dict.fromkeys(person for seat in seats for person in seat.people))
    return len(match([seat.people for seat in seats], people)) == len(seats)


def check_seat(catalog: Catalog, seats: Sequence[OpenSeat], voter: str, requester: str) -> Reason | None:
    """Why this person may not vote on these seats, None if they may."""
    rule = seats[0].rule if seats else None
    name, where = (rule.name, str(rule.source)) if rule is not None else ("", "")
    if voter == requester:
        return _self_approval(name, where)
    allowed = tuple(dict.fromkeys(person for seat in seats for person in seat.people))
    return None if voter in allowed else _not_eligible(catalog, allowed, requester, name, where)


def seat_people(catalog: Catalog, seat: Seat, service: Service, at: datetime) -> tuple[str, ...]:
    """Active people of a seat at an instant: those named, by role, by group or on call; on leave, their delegates."""
    named = [*seat.people, *_by_roles(catalog, seat.roles, service)]
    for name in seat.groups:
        group = catalog.groups.get(name)
        if group is not None:
            named += [*group.people, *(one.person for one in group.shifts if one.from_at <= at < one.until_at)]
    acting = [stand_in(catalog.delegations, person, at) for person in named]
    return tuple(dict.fromkeys(person for person in acting if person and _active(catalog, person)))


def stand_in(delegations: Sequence[Delegation], person: str, at: datetime) -> str:
    """Who acts for a person at an instant: themselves, or whom they handed to; nobody (empty) in a circle."""
    seen: set[str] = set()
    while person not in seen:
        seen.add(person)
        handed = next((one for one in delegations if one.person == person and one.from_at <= at < one.until_at), None)
        if handed is None:
            return person
        person = handed.to
    return ""


# -- shared


def _counts(ballot: Ballot, at: datetime) -> bool:
    return ballot.until_at is None or at < ballot.until_at


def _by_roles(catalog: Catalog, roles: Iterable[Role], service: Service) -> list[str]:
    team = catalog.teams.get(service.team)
    by_role = {
        Role.ADMIN: catalog.admins,
        Role.RELEASE_MANAGER: catalog.release_managers,
        Role.TEAM_LEAD: team.leads if team else (),
        Role.OWNER: service.owners,
        Role.MEMBER: (*team.members, *team.leads) if team else (),
    }
    return [person for role in roles for person in by_role.get(role, ())]


def _self_approval(rule: str, where: str) -> Reason:
    text = "You asked for this one, so somebody else has to decide it."
    return Reason(ReasonCode.SELF_APPROVAL, text, rule, where, blocking=True)


def _not_eligible(catalog: Catalog, allowed: Iterable[str], requester: str, rule: str, where: str) -> Reason:
    names = ", ".join(catalog.people[one].name for one in allowed if one != requester)
    text = f"You may not decide this one; {names or 'nobody at present'} may."
    return Reason(ReasonCode.NOT_ELIGIBLE, text, rule, where, blocking=True)


def _active(catalog: Catalog, person: str) -> bool:
    known = catalog.people.get(person)
    return known is not None and known.active and bool(person)
