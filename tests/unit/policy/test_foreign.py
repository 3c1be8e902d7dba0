"""Rules of time of other systems: judged as those systems do, and where they would block what we allow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.catalog.model import Freeze, Kind, Scope, Window
from bot.policy.argocd import sync_windows
from bot.policy.decide import decide
from bot.policy.foreign import FreezePeriod, FreezePeriods, SyncWindows, conflicts, schedule, times_allow, times_change
from bot.policy.model import Facts, Outcome
from bot.sources.elsewhere import go_duration, sync_rule
from tests.support.rules import a_catalog, a_freeze, a_request, a_window, utc
from tests.unit.policy.test_argocd import START as THEN
from tests.unit.policy.test_argocd import freezes, may_sync, windows

TUESDAY = utc(2026, 1, 6)


def argo(*entries: Mapping[str, object]) -> SyncWindows:
    """Windows of an application."""
    return SyncWindows("Argo CD", tuple(sync_rule({"applications": ["*"], **entry}) for entry in entries))


@settings(max_examples=80, deadline=None)
@given(known=st.lists(windows(), max_size=2), frozen=st.lists(freezes(), max_size=2), minute=st.integers(0, 366 * 1440))
def test_sync_windows_are_judged_as_argo_cd_judges_them(known: list[Window], frozen: list[Freeze], minute: int) -> None:
    """The reader and the export's own oracle agree at every instant."""
    entries = sync_windows(a_catalog(windows=tuple(known), freezes=tuple(frozen)), now=THEN)
    mine = [entry.written() for entry in entries if "pay-prod" in entry.applications]
    read = SyncWindows("Argo CD", tuple(map(sync_rule, mine)))
    for step in range(0, 600, 7):
        at = THEN + timedelta(minutes=minute + step, seconds=step)
        assert (read.blocks(at) == "") is may_sync(entries, "pay-prod", at), at


DENY = {"kind": "deny", "schedule": "0 12 * * *", "duration": "1h"}
ALLOW = {"kind": "allow", "schedule": "0 10 * * *", "duration": "8h"}
NOON, MORNING, NIGHT = TUESDAY + timedelta(hours=12.5), TUESDAY + timedelta(hours=11), TUESDAY + timedelta(hours=3)


@pytest.mark.parametrize(
    ("entries", "at", "blocked"),
    [
        ([], NIGHT, False),
        ([DENY], NOON, True),
        ([DENY], MORNING, False),
        ([DENY, ALLOW], NOON, True),
        ([ALLOW], MORNING, False),
        ([ALLOW], NIGHT, True),
        ([DENY | {"manualSync": True}], NOON, False),
        ([DENY | {"manualSync": True}, DENY], NOON, True),
        ([ALLOW | {"manualSync": True}], NIGHT, False),
        ([ALLOW | {"manualSync": True}, ALLOW], NIGHT, True),
        ([DENY], TUESDAY + timedelta(hours=12), False),  # its very first instant is not in it
        ([DENY | {"schedule": "0 0 30 2 *"}], MORNING, True),  # never fires: active for ever
        ([DENY | {"schedule": "nonsense"}], MORNING, True),
        ([DENY | {"schedule": "0 12 ? * *"}], NOON, True),
        ([DENY | {"timeZone": "Asia/Shanghai"}], NOON, False),
        ([DENY | {"timeZone": "Asia/Shanghai"}], TUESDAY + timedelta(hours=4.5), True),
        ([DENY | {"schedule": "0 12 */2 * mon"}], NOON, False),  # a step is a restriction: the 6th is no odd day
        ([DENY | {"schedule": "0 12 */2 * tue"}], NOON, True),  # either day field is enough then
    ],
)
def test_the_rules_of_can_sync(entries: list[Mapping[str, object]], at: datetime, blocked: bool) -> None:
    """A sync of ours counts as manual there."""
    assert bool(argo(*entries).blocks(at)) is blocked


@pytest.mark.parametrize(
    ("selectors", "concerned"),
    [
        ({"applications": ["pay-*"]}, True),
        ({"applications": ["web-*"]}, False),
        ({"applications": ["web-*"], "namespaces": ["shop"]}, True),
        ({"applications": ["web-*"], "namespaces": ["shop"], "andOperator": True}, False),
        ({"clusters": ["https://*"], "namespaces": ["shop"], "andOperator": True}, True),
        ({}, False),
    ],
)
def test_which_applications_a_window_is_about(selectors: dict[str, object], concerned: bool) -> None:
    """One kind of selector is enough unless all are asked for; none is about nothing."""
    rule = sync_rule({**DENY, **selectors})
    assert rule.concerns("pay-prod", "shop", ["https://k8s.example"]) is concerned


WEEKEND = FreezePeriod(schedule("0 23 * * 5", "Asia/Shanghai"), schedule("0 7 * * 1", "Asia/Shanghai"))


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        (utc(2026, 1, 9, 14, 59), False),
        (utc(2026, 1, 9, 15), True),
        (utc(2026, 1, 11), True),
        (utc(2026, 1, 11, 22, 59), True),
        (utc(2026, 1, 11, 23), False),
        (utc(2026, 1, 13), False),
    ],
)
def test_a_freeze_period_of_gitlab(at: datetime, holds: bool) -> None:
    """From one cron to the next firing of the other, in its zone."""
    assert WEEKEND.holds(at) is holds


def test_where_the_other_system_would_block_what_we_allow() -> None:
    """Exactly those times, none of those that are closed here anyway."""
    catalog = a_catalog(windows=(a_window("tue-thu"),), freezes=(a_freeze(utc(2026, 1, 8), utc(2026, 1, 9)),))
    service = catalog.services["pay"]
    found = conflicts(catalog, (), service, "prod", [argo(DENY)], TUESDAY, TUESDAY + timedelta(days=7))
    said = "deny 0 12 * * * for 60m (UTC)"
    assert [(one.start, one.end, one.rule) for one in found] == [(utc(2026, 1, 6, 12), utc(2026, 1, 6, 13), said)]
    gitlab = FreezePeriods("GitLab", (FreezePeriod(schedule("0 17 * * 2", "UTC"), schedule("0 1 * * 3", "UTC")),))
    (late,) = conflicts(catalog, (), service, "prod", [gitlab], TUESDAY, TUESDAY + timedelta(days=2))
    assert (late.start, late.end) == (utc(2026, 1, 6, 17), utc(2026, 1, 6, 18))
    frozen = (a_freeze(TUESDAY, None),)
    assert conflicts(catalog, frozen, service, "prod", [argo(DENY)], TUESDAY, TUESDAY + timedelta(days=7)) == []


@settings(max_examples=60, deadline=None)
@given(known=st.lists(windows(), max_size=2), frozen=st.lists(freezes(), max_size=2), hour=st.integers(0, 366 * 24))
def test_our_own_times_are_the_verdicts(known: list[Window], frozen: list[Freeze], hour: int) -> None:
    """What is compared is what would really be allowed."""
    catalog = a_catalog(windows=tuple(known), freezes=tuple(frozen))
    at = THEN + timedelta(hours=hour, minutes=3)
    allowed = decide(catalog, a_request(kind=Kind.NORMAL), Facts(), at).outcome is Outcome.ALLOWED
    assert times_allow(catalog, (), catalog.services["pay"], "prod", at) is allowed


@settings(max_examples=40, deadline=None)
@given(known=st.lists(windows(), max_size=2), frozen=st.lists(freezes(), max_size=2), hour=st.integers(0, 366 * 24))
def test_the_next_change_of_all_times_together(known: list[Window], frozen: list[Freeze], hour: int) -> None:
    """The same until then, another from then on: what `/windows` says of a combination."""
    catalog = a_catalog(windows=tuple(known), freezes=tuple(frozen))
    at, pay = THEN + timedelta(hours=hour), catalog.services["pay"]
    opened, change = times_change(catalog, (), pay, "prod", at, at + timedelta(days=14))
    if change is not None:
        assert times_allow(catalog, (), pay, "prod", change) is not opened
    end = change or at + timedelta(days=14)
    for part in range(40):
        probe = at + (end - at) * part / 40
        assert times_allow(catalog, (), pay, "prod", probe) is opened, probe


@pytest.mark.parametrize(("text", "seconds"), [("1h30m", 5400), ("90s", 90), ("1.5h", 5400), ("500ms", 0.5)])
def test_durations_as_go_writes_them(text: str, seconds: float) -> None:
    """Days are none of them."""
    assert go_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "1d", "h", "1h 2m", "x1h"])
def test_what_is_no_duration(text: str) -> None:
    """It would be refused there too."""
    with pytest.raises(ValueError, match="is no duration"):
        go_duration(text)


def test_a_scope_of_kinds_is_heeded() -> None:
    """A window of hotfixes alone limits no ordinary deployment."""
    catalog = a_catalog(windows=(a_window("h", scope=Scope(kinds=("hotfix",))),))
    assert times_allow(catalog, (), catalog.services["pay"], "prod", NIGHT)
