"""The verdict: its order of rules, its properties under every combination of them, and when it changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.catalog.model import (
    ApprovalRule,
    Calendar,
    Catalog,
    DayKind,
    Delegation,
    Freeze,
    Group,
    HandUp,
    Kind,
    ReviewBlock,
    Role,
    Scope,
    Seat,
    Shift,
    Team,
    Window,
)
from bot.policy.approvals import stand_in
from bot.policy.decide import decide, outcome_at
from bot.policy.matching import match
from bot.policy.model import (
    Ballot,
    Facts,
    LockFact,
    Outcome,
    Pass,
    Permission,
    PolicyRequest,
    ReasonCode,
    ReviewFact,
    Verdict,
)
from bot.policy.windows import HORIZON, spans
from tests.support.rules import HERE, SUBJECT, a_catalog, a_freeze, a_lane, a_request, a_service, a_window, utc

NOW = utc(2026, 1, 6, 12)  # a Tuesday; the usual window is open
CLOSED = utc(2026, 1, 7, 12)
TICK = timedelta(microseconds=1)
RANK = {Outcome.REFUSED: 0, Outcome.NEEDS_APPROVAL: 1, Outcome.ALLOWED: 2}
ALL_DAYS = tuple(range(7))


def codes(verdict: Verdict) -> set[str]:
    """The codes of all reasons."""
    return {reason.code.value for reason in verdict.reasons}


def a_pass(**more: object) -> Pass:
    """Let through by the lead for the request's very release."""
    given = Pass("pay", "prod", SUBJECT, CLOSED - timedelta(hours=1), CLOSED + timedelta(hours=1), ("lead",))
    return replace(given, **more)  # type: ignore[arg-type]


# -- who may


@pytest.mark.parametrize(
    ("person", "environment", "allowed"),
    [
        ("olive", "prod", True),
        ("lead", "prod", True),
        ("rae", "prod", True),
        ("ann", "prod", True),
        ("dev", "prod", False),
        ("dev", "dev", True),
        ("out", "dev", False),
        ("nobody", "dev", False),
    ],
)
def test_who_may_deploy(person: str, environment: str, allowed: bool) -> None:
    """Owners, leads, release managers and administrators everywhere; members where nothing is protected."""
    verdict = decide(a_catalog(), a_request(person, environment=environment), Facts(), NOW)
    assert (verdict.outcome is Outcome.ALLOWED) is allowed


def test_a_person_who_left_may_nothing() -> None:
    """An owner's entry is kept for the history, not for the right."""
    people = {**a_catalog().people}
    people["olive"] = replace(people["olive"], active=False)
    verdict = decide(a_catalog(people=people), a_request(), Facts(), NOW)
    assert codes(verdict) >= {"unknown_caller"}
    assert verdict.next_change_at is None


@pytest.mark.parametrize(("service", "environment"), [("pya", "prod"), ("pay", "production")])
def test_an_unknown_target_is_refused(service: str, environment: str) -> None:
    """Total: a request that makes no sense gets an answer, not an exception."""
    verdict = decide(a_catalog(), a_request(service=service, environment=environment), Facts(), NOW)
    assert verdict.outcome is Outcome.REFUSED


# -- when


def test_a_matching_window_closes_all_other_time() -> None:
    """And says when it opens, in its own zone."""
    catalog = a_catalog(windows=(a_window("tue-thu", zone="Asia/Shanghai"),))
    verdict = decide(catalog, a_request(), Facts(), CLOSED)
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.blocking[0].text.endswith("is closed until Thu 08 Jan 2026 10:00 (Asia/Shanghai).")
    assert verdict.next_change_at == utc(2026, 1, 8, 2)


def test_a_freeze_beats_an_open_window() -> None:
    """Whatever the window says."""
    catalog = a_catalog(windows=(a_window(),), freezes=(a_freeze(NOW, NOW + timedelta(hours=1)),))
    verdict = decide(catalog, a_request(), Facts(), NOW)
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.next_change_at == NOW + timedelta(hours=1)


def test_a_freeze_from_a_chat_counts_like_one_of_the_catalog() -> None:
    """And names who set it."""
    frozen = a_freeze(NOW, None, by="Rae", reason="incident 7")
    verdict = decide(a_catalog(), a_request(), Facts(freezes=(frozen,)), NOW)
    assert "without a known end, set by Rae: incident 7" in verdict.blocking[0].text


def test_a_rollback_needs_no_window_but_heeds_a_freeze() -> None:
    """Going back must never wait for a window; a freeze says by itself whether it lets a rollback through."""
    catalog = a_catalog(windows=(a_window(),))
    request = a_request(kind=Kind.ROLLBACK, permission=Permission.RELEASE_ROLLBACK)
    assert decide(catalog, request, Facts(), CLOSED).outcome is Outcome.ALLOWED
    strict, lenient = a_freeze(NOW, None), a_freeze(NOW, None, exempt_kinds=("rollback",))
    assert decide(catalog, request, Facts(freezes=(strict,)), CLOSED).outcome is Outcome.REFUSED
    assert decide(catalog, request, Facts(freezes=(lenient,)), CLOSED).outcome is Outcome.ALLOWED


def test_a_release_week_leaves_previews_open() -> None:
    """Only hotfixes and rollbacks pass elsewhere."""
    week = a_freeze(NOW, NOW + timedelta(days=7), exempt_kinds=("hotfix", "rollback"), release_week=True)
    catalog = a_catalog(freezes=(week,))
    assert decide(catalog, a_request(environment="dev"), Facts(), NOW).outcome is Outcome.ALLOWED
    assert decide(catalog, a_request(), Facts(), NOW).outcome is Outcome.REFUSED
    assert decide(catalog, a_request(kind=Kind.HOTFIX), Facts(), NOW).outcome is Outcome.ALLOWED


def test_a_freeze_on_holidays_recurs() -> None:
    """China's National Day is frozen, the workday after it is not, and the change between is exact."""
    china = Calendar("china", "CN")
    days = a_window(days=ALL_DAYS, hours="00:00-00:00", zone="Asia/Shanghai", calendar=china, on=DayKind.HOLIDAYS)
    catalog = a_catalog(freezes=(a_freeze(utc(2000, 1, 1), None, recurs=days),))
    verdict = decide(catalog, a_request(), Facts(), utc(2026, 10, 1, 4))
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.next_change_at == utc(2026, 10, 7, 16)  # the 8th in Shanghai
    assert next(one.text for one in verdict.blocking).endswith("By the calendar china, 01 Oct 2026 is National Day.")


def test_an_unpublished_year_fails_closed() -> None:
    """A window and a freeze that ask about it both block, with that reason."""
    china = Calendar("china", "CN")
    days = a_window(days=ALL_DAYS, hours="00:00-00:00", calendar=china, on=DayKind.WORKDAYS)
    for catalog in (a_catalog(windows=(days,)), a_catalog(freezes=(a_freeze(NOW, None, recurs=days),))):
        verdict = decide(catalog, a_request(), Facts(), utc(2044, 6, 1))
        assert [one.code for one in verdict.blocking] == [ReasonCode.CALENDAR_UNPUBLISHED]


def test_scopes_may_name_a_cluster() -> None:
    """A maintenance of one cluster freezes what runs there, and nothing else."""
    freeze = a_freeze(NOW, None, scope=Scope(clusters=("prod-*",)))
    catalog = a_catalog(freezes=(freeze,))
    assert decide(catalog, a_request(), Facts(), NOW).outcome is Outcome.REFUSED
    assert decide(catalog, a_request(environment="dev"), Facts(), NOW).outcome is Outcome.ALLOWED


# -- locks


def a_lock(**more: object) -> LockFact:
    """A lock of everything, held by lead."""
    return replace(LockFact("pay/prod", "lead", "load test", None), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lock", "code", "allowed"),
    [
        (a_lock(), "locked", False),
        (a_lock(holder="olive"), "lock_yours", True),
        (a_lock(warning=True), "lock_warning", True),
        (a_lock(exempt_kinds=("normal",)), "lock_exempt", True),
        (a_lock(readable=False, holder="olive"), "lock_unreadable", False),
        (a_lock(expires_at=NOW), "no_window", True),
        (a_lock(what=Scope(services=("other",))), "no_window", True),
        (a_lock(what=Scope(services=("other",)), readable=False), "lock_unreadable", False),
    ],
)
def test_locks(lock: LockFact, code: str, allowed: bool) -> None:
    """The holder passes, a warning only warns, and what cannot be read holds."""
    verdict = decide(a_catalog(), a_request(), Facts(locks=(lock,)), NOW)
    assert code in codes(verdict)
    assert (verdict.outcome is Outcome.ALLOWED) is allowed


def test_a_lock_is_never_overcome_by_an_emergency() -> None:
    """Whoever holds it knows something that the approver may not."""
    catalog = a_catalog(windows=(a_window(),), emergency=(a_lane(),))
    facts = Facts(passes=(a_pass(),), locks=(a_lock(expires_at=CLOSED + timedelta(minutes=5)),))
    verdict = decide(catalog, a_request(), facts, CLOSED)
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.next_change_at == CLOSED + timedelta(minutes=5)


# -- the emergency lane


def lane(**more: Any) -> Catalog:
    """Closed now, with an emergency rule."""
    return a_catalog(windows=(a_window(),), emergency=(a_lane(),), **more)


def test_a_pass_lets_its_own_release_through() -> None:
    """And ends exactly when it ends."""
    verdict = decide(lane(), a_request(), Facts(passes=(a_pass(),)), CLOSED)
    assert verdict.outcome is Outcome.ALLOWED
    assert verdict.next_change_at == CLOSED + timedelta(hours=1)


@pytest.mark.parametrize(
    "given",
    [
        a_pass(service="hello"),
        a_pass(environment="dev"),
        a_pass(subject="sha256:" + "1" * 64),
        a_pass(until_at=CLOSED),
        a_pass(from_at=CLOSED + TICK),
        a_pass(approvers=()),
        a_pass(approvers=("olive",)),
        a_pass(approvers=("out",)),
    ],
)
def test_a_pass_is_bound_to_all_it_names(given: Pass) -> None:
    """Another service, place, release or time, the requester's own yes, or somebody without the right: no pass."""
    assert decide(lane(), a_request(), Facts(passes=(given,)), CLOSED).outcome is Outcome.NEEDS_APPROVAL


def test_a_pass_ends_with_the_right_of_its_approver() -> None:
    """Whoever left since, or leads no more, lets nothing through."""
    moved = lane(teams={"shop": Team("shop", "Shop", leads=("dev",))})
    assert decide(moved, a_request(), Facts(passes=(a_pass(),)), CLOSED).outcome is Outcome.NEEDS_APPROVAL


def test_the_lane_is_shut_if_only_the_requester_could_approve() -> None:
    """An offer that nobody can take up would leave people waiting."""
    only = a_catalog(windows=(a_window(),), emergency=(a_lane(roles=(Role.OWNER,)),))
    verdict = decide(only, a_request(), Facts(), CLOSED)
    assert verdict.outcome is Outcome.REFUSED
    assert "emergency_impossible" in codes(verdict)


# -- ordinary approvals


def approval(*seats: Seat, **more: object) -> ApprovalRule:
    """A rule for everything."""
    rule = ApprovalRule("two-keys", Scope(), seats, timedelta(hours=4), HERE)
    return replace(rule, **more)  # type: ignore[arg-type]


LEADS, MANAGERS = Seat("leads", roles=(Role.TEAM_LEAD,)), Seat("managers", roles=(Role.RELEASE_MANAGER,))


def votes(*people: str, subject: str = SUBJECT, until: datetime | None = None) -> Facts:
    """A yes of each."""
    return Facts(ballots=tuple(Ballot(one, True, subject, until) for one in people))


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        (votes(), Outcome.NEEDS_APPROVAL),
        (votes("lead"), Outcome.NEEDS_APPROVAL),
        (votes("lead", "lead"), Outcome.NEEDS_APPROVAL),
        (votes("lead", "olive"), Outcome.NEEDS_APPROVAL),
        (votes("lead", "out"), Outcome.NEEDS_APPROVAL),
        (votes("lead", "rae", subject="sha256:other"), Outcome.NEEDS_APPROVAL),
        (votes("lead", "rae", until=NOW), Outcome.NEEDS_APPROVAL),
        (votes("lead", "rae", until=NOW + TICK), Outcome.ALLOWED),
        (votes("rae", "lead"), Outcome.ALLOWED),
    ],
)
def test_every_group_must_say_yes_to_this_release(facts: Facts, outcome: Outcome) -> None:
    """One of each, each once, never the requester, only for the release voted on, only while the vote is fresh."""
    catalog = a_catalog(approvals=(approval(LEADS, MANAGERS),))
    assert decide(catalog, a_request(), facts, NOW).outcome is outcome


def test_one_person_fills_one_seat_of_all_rules() -> None:
    """Somebody in two groups is not two people."""
    catalog = a_catalog(approvals=(approval(LEADS), approval(LEADS, name="other")), release_managers=())
    verdict = decide(catalog, a_request(), votes("lead"), NOW)
    assert "approval_impossible" in codes(verdict)
    assert verdict.outcome is Outcome.REFUSED


def test_further_people_of_any_group() -> None:
    """`total` asks for more people than the seats name."""
    catalog = a_catalog(approvals=(approval(LEADS, Seat("members", 0, (Role.MEMBER,)), total=2),))
    assert decide(catalog, a_request(), votes("lead"), NOW).outcome is Outcome.NEEDS_APPROVAL
    assert decide(catalog, a_request(), votes("dev", "lead"), NOW).outcome is Outcome.ALLOWED


def test_the_author_does_not_approve_where_the_rule_says_so() -> None:
    """Two people see a change: whoever wrote it is not the second."""
    rule = approval(Seat("members", roles=(Role.MEMBER,)), not_author=True)
    request = a_request(author="dev")
    assert decide(a_catalog(approvals=(rule,)), request, votes("dev"), NOW).outcome is Outcome.NEEDS_APPROVAL
    assert decide(a_catalog(approvals=(rule,)), request, votes("lead"), NOW).outcome is Outcome.ALLOWED


@pytest.mark.parametrize(("size", "asked"), [(3, False), (4, True), (None, True)])
def test_a_rule_for_large_changes(size: int | None, asked: bool) -> None:
    """An unknown size counts as large: not knowing never makes it easier."""
    catalog = a_catalog(approvals=(approval(LEADS, larger_than=3),))
    assert (decide(catalog, a_request(size=size), Facts(), NOW).outcome is Outcome.NEEDS_APPROVAL) is asked


def test_a_rule_for_some_hours() -> None:
    """Outside them nobody is asked, and the change is announced exactly."""
    night = a_window(days=ALL_DAYS, hours="20:00-08:00")
    catalog = a_catalog(approvals=(approval(LEADS, when=night),))
    verdict = decide(catalog, a_request(), Facts(), NOW)
    assert (verdict.outcome, verdict.next_change_at) == (Outcome.ALLOWED, utc(2026, 1, 6, 20))


def test_on_call_and_leave_change_who_may() -> None:
    """The right is that of the moment: the shift, and who stands in."""
    shifts = (Shift("dev", NOW, NOW + timedelta(hours=1)), Shift("rae", NOW + timedelta(hours=1), utc(2027, 1, 1)))
    catalog = a_catalog(
        groups={"oncall": Group("oncall", shifts=shifts)},
        approvals=(approval(Seat("on call", groups=("oncall",))),),
        delegations=(Delegation("rae", "ann", NOW + timedelta(hours=2), NOW + timedelta(hours=3)),),
    )
    for hours, voter in ((0, "dev"), (1, "rae"), (2, "ann"), (3, "rae")):
        at = NOW + timedelta(hours=hours)
        for person in ("dev", "rae", "ann"):
            allowed = decide(catalog, a_request(), votes(person), at).outcome is Outcome.ALLOWED
            assert allowed is (person == voter), (hours, person)


def test_a_circle_of_delegation_is_nobody() -> None:
    """It must not end in a loop, nor in a right."""
    circle = [Delegation(one, other, NOW, utc(2027, 1, 1)) for one, other in (("a", "b"), ("b", "c"), ("c", "a"))]
    assert stand_in(circle, "a", NOW) == ""
    assert stand_in(circle, "d", NOW) == "d"


def test_a_rollback_needs_no_approval() -> None:
    """What it brings back was approved when it came."""
    request = a_request(kind=Kind.ROLLBACK, permission=Permission.RELEASE_ROLLBACK)
    assert decide(a_catalog(approvals=(approval(LEADS),)), request, Facts(), NOW).outcome is Outcome.ALLOWED


groups = st.lists(st.sets(st.sampled_from("abcdef"), max_size=4), max_size=5)


@settings(max_examples=150, deadline=None)
@given(seats=groups, voters=st.lists(st.sampled_from("abcdef"), unique=True, max_size=6))
def test_matching_equals_brute_force(seats: list[set[str]], voters: list[str]) -> None:
    """A greedy assignment would ask for one more approval than is needed."""
    found = match(seats, voters)
    assert all(voter in seats[seat] for seat, voter in found.items())
    assert len(set(found.values())) == len(found)
    padded = [*voters, *[""] * max(0, len(seats) - len(voters))]
    best = max(
        sum(voter in seat for voter, seat in zip(order, seats, strict=True))
        for order in permutations(padded, len(seats))
    )
    assert len(found) == best


# -- properties over random rules

hours = st.integers(0, 24 * 21).map(lambda n: utc(2026, 3, 20) + timedelta(hours=n))
zones = st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Europe/Berlin"])
scopes = st.sampled_from([Scope(), Scope(environments=("prod",)), Scope(services=("p*",)), Scope(services=("x",))])
kinds = st.sampled_from([(), ("hotfix",), ("rollback", "hotfix")])


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Weekly, cron or dated."""
    more: dict[str, Any] = {"zone": draw(zones), "scope": draw(scopes)}
    match draw(st.sampled_from(["weekly", "cron", "dated"])):
        case "weekly":
            days = tuple(sorted(draw(st.sets(st.integers(0, 6), min_size=1))))
            return a_window(
                days=days, hours=draw(st.sampled_from(["10:00-18:00", "22:00-03:00", "00:00-00:00"])), **more
            )
        case "cron":
            cron = draw(st.sampled_from(["0 9 * * mon", "30 2 */3 * *", "0 */6 * * *"]))
            return a_window(days=(), hours="00:00-00:00", cron=cron, duration=timedelta(hours=5), **more)
    start = draw(hours)
    return a_window(days=(), hours="00:00-00:00", from_at=start, until_at=start + timedelta(hours=9), **more)


@st.composite
def freezes(draw: st.DrawFn) -> Freeze:
    """With or without an end, recurring or not."""
    start, length = draw(hours), draw(st.one_of(st.none(), st.integers(1, 100)))
    recurs = replace(draw(windows()), scope=Scope()) if draw(st.integers(0, 2)) == 0 else None
    end = start + timedelta(hours=length) if length else None
    return a_freeze(start, end, exempt_kinds=draw(kinds), scope=draw(scopes), recurs=recurs)


@st.composite
def locks(draw: st.DrawFn) -> LockFact:
    """Readable or not, of anybody, ending or not."""
    return LockFact(
        "pay/prod",
        draw(st.sampled_from(["olive", "lead", "slipway"])),
        "",
        draw(st.one_of(st.none(), hours)),
        readable=draw(st.integers(0, 9)) > 0,
        what=draw(scopes),
        warning=draw(st.booleans()),
    )


@st.composite
def passes(draw: st.DrawFn) -> Pass:
    """Good ones and others."""
    start = draw(hours)
    who = draw(st.sampled_from([("lead",), ("rae", "lead"), ("olive",), ()]))
    return Pass("pay", "prod", draw(st.sampled_from([SUBJECT, "x"])), start, start + timedelta(hours=5), who)


reviews = st.builds(
    ReviewFact, st.just("d-1"), st.just("pay"), st.sampled_from(["prod", "dev"]), hours, st.sampled_from(ReviewBlock)
)
hand_ups = st.lists(
    st.builds(
        HandUp,
        st.integers(1, 60).map(lambda n: timedelta(hours=n)),
        st.sampled_from([Seat("managers", roles=(Role.RELEASE_MANAGER,)), Seat("ann", people=("ann",))]),
    ),
    max_size=2,
).map(tuple)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Catalog, PolicyRequest, Facts, datetime]:
    """A catalog, a request, facts and an instant."""
    night = draw(st.one_of(st.none(), windows()))
    catalog = a_catalog(
        windows=tuple(draw(st.lists(windows(), max_size=3))),
        freezes=tuple(draw(st.lists(freezes(), max_size=2))),
        emergency=(a_lane(draw(st.integers(1, 3))),) if draw(st.booleans()) else (),
        approvals=(approval(LEADS, when=night, hand_up=draw(hand_ups)),) if draw(st.integers(0, 2)) == 0 else (),
    )
    facts = Facts(
        passes=tuple(draw(st.lists(passes(), max_size=2))),
        locks=tuple(draw(st.lists(locks(), max_size=1))),
        freezes=tuple(draw(st.lists(freezes(), max_size=1))),
        ballots=tuple(
            Ballot(one, True, SUBJECT, draw(st.one_of(st.none(), hours)))
            for one in draw(st.sets(st.sampled_from(["lead", "rae", "ann"])))
        ),
        reviews=tuple(draw(st.lists(reviews, max_size=1))),
    )
    kind = draw(st.sampled_from(list(Kind)))
    asked = draw(st.one_of(st.none(), hours))
    request = a_request(draw(st.sampled_from(["olive", "dev", "out"])), kind=kind, asked_at=asked)
    return catalog, request, facts, draw(hours)


@settings(max_examples=150, deadline=None)
@given(world=worlds())
def test_total_and_deterministic(world: tuple[Catalog, PolicyRequest, Facts, datetime]) -> None:
    """The same question has the same answer, always one of three, and a no always says why."""
    verdict = decide(*world)
    assert verdict == decide(*world)
    assert outcome_at(*world) is verdict.outcome
    assert verdict.outcome in Outcome
    assert bool(verdict.blocking) is (verdict.outcome is not Outcome.ALLOWED)


@settings(max_examples=150, deadline=None)
@given(world=worlds())
def test_the_next_change_is_exact(world: tuple[Catalog, PolicyRequest, Facts, datetime]) -> None:
    """Different at it, the same just before it, and constant at every edge in between."""
    catalog, request, facts, at = world
    verdict = decide(*world)
    change = verdict.next_change_at
    end = change or at + timedelta(days=60)
    for probe in edges(catalog, facts, at, end, request.asked_at):
        assert outcome_at(catalog, request, facts, probe) is verdict.outcome, probe
    if change is not None:
        assert outcome_at(catalog, request, facts, change - TICK) is verdict.outcome
        assert outcome_at(catalog, request, facts, change) is not verdict.outcome


def edges(catalog: Catalog, facts: Facts, at: datetime, end: datetime, asked: datetime | None) -> list[datetime]:
    """Every instant between at which any rule begins or ends."""
    recurring = [
        *catalog.windows,
        *(one.recurs for one in (*catalog.freezes, *facts.freezes) if one.recurs),
        *(one.when for one in catalog.approvals if one.when),
    ]
    found = [edge for one in recurring for pair in spans(one, at, min(end, at + HORIZON)) for edge in pair]
    found += [edge for one in (*catalog.freezes, *facts.freezes) for edge in (one.start_at, one.end_at) if edge]
    found += [edge for one in facts.passes for edge in (one.from_at, one.until_at)]
    found += [one.expires_at for one in facts.locks if one.expires_at]
    found += [one.until_at for one in facts.ballots if one.until_at]
    found += [one.due_at for one in facts.reviews]
    found += [asked + one.after for rule in catalog.approvals for one in rule.hand_up if asked]
    return sorted({edge for edge in found if at < edge < end})[:400]


@settings(max_examples=100, deadline=None)
@given(world=worlds(), extra=freezes())
def test_a_freeze_never_allows_more(world: tuple[Catalog, PolicyRequest, Facts, datetime], extra: Freeze) -> None:
    """Whatever else holds: freezes beat windows, in the catalog and from a chat."""
    catalog, request, facts, at = world
    before = RANK[decide(catalog, request, facts, at).outcome]
    frozen = replace(catalog, freezes=(*catalog.freezes, extra))
    after = decide(frozen, request, facts, at)
    if catalog.approvals and catalog.emergency and after.outcome is not Outcome.REFUSED:
        return  # the lane's quorum stands for the approvals, and a freeze opens the lane
    assert RANK[after.outcome] <= before
    assert RANK[decide(catalog, request, replace(facts, freezes=(extra, *facts.freezes)), at).outcome] <= before


@settings(max_examples=100, deadline=None)
@given(world=worlds(), what=st.sampled_from(["owners", "leads", "members", "managers", "admins", "person"]))
def test_removing_a_right_never_allows_more(world: tuple[Catalog, PolicyRequest, Facts, datetime], what: str) -> None:
    """Taking a role from anybody can only turn a yes into a no."""
    catalog, request, facts, at = world
    team = catalog.teams["shop"]
    less = {
        "owners": {"services": {"pay": a_service(owners=())}},
        "leads": {"teams": {"shop": replace(team, leads=())}},
        "members": {"teams": {"shop": replace(team, members=())}},
        "managers": {"release_managers": ()},
        "admins": {"admins": ()},
        "person": {"people": {name: one for name, one in catalog.people.items() if name != request.person}},
    }[what]
    after = decide(replace(catalog, **less), request, facts, at).outcome  # type: ignore[arg-type]
    assert RANK[after] <= RANK[decide(catalog, request, facts, at).outcome]
