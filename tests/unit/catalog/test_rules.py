"""Windows, freezes, calendars, groups, leave and approvals as they are written: what they mean, and their mistakes."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from bot.catalog.groups import with_members
from bot.catalog.load import load_catalog
from bot.catalog.model import DayKind
from bot.catalog.problems import CatalogProblems
from bot.policy.windows import is_open, next_opening
from tests.support.rules import utc
from tests.unit.catalog.directories import good


def rules(directory: Path, text: str) -> tuple[str, ...]:
    """Every problem of a right catalog with these further sections."""
    with pytest.raises(CatalogProblems) as caught:
        load_catalog(good(directory, rules=text))
    return tuple(str(one) for one in caught.value.problems)


def test_every_form_of_time(tmp_path: Path) -> None:
    """Weekly, cron, dated, and by the days of a calendar with the company's own."""
    catalog = load_catalog(
        good(
            tmp_path,
            rules="""
zone: Asia/Shanghai
calendars:
  china: {region: CN, holidays: {2026-05-08: company day}, workdays: {2026-05-09: inventory}}
windows:
  - {name: weekly, days: [tue], hours: "10:00-18:00"}
  - {name: cron, cron: "0 10 1 * *", duration: 2h}
  - {name: dated, from: 2026-06-01T10:00, until: 2026-06-01T12:00}
  - {name: worked, calendar: china, on: workdays, hours: "10:00-18:00"}
freezes:
  - {name: holidays, calendar: china, on: holidays, exempt: [rollback]}
release_weeks:
  - {name: big, from: 2026-06-08, until: 2026-06-15}
""",
        )
    )
    weekly, cron, dated, worked = catalog.windows
    assert (weekly.days, cron.duration, dated.from_at) == ((1,), timedelta(hours=2), utc(2026, 6, 1, 2))
    assert next_opening(cron, utc(2026, 5, 20)) == utc(2026, 6, 1, 2)
    assert (worked.on, worked.days) == (DayKind.WORKDAYS, tuple(range(7)))
    assert [is_open(worked, utc(2026, 5, day, 4)) for day in (8, 9, 10)] == [False, True, False]
    holidays, big = catalog.freezes
    assert holidays.recurs is not None
    assert is_open(holidays.recurs, utc(2026, 10, 1))
    assert (big.release_week, big.exempt_kinds) == (True, ("hotfix", "rollback"))
    assert catalog.calendars["china"].rest == ((date(2026, 5, 8), "company day"),)


def test_clusters_cascade(tmp_path: Path) -> None:
    """The environment's, unless the service or its own environment says otherwise."""
    catalog = load_catalog(good(tmp_path, rules="freezes: [{name: f, from: 2026-01-01, clusters: [east-*]}]"))
    assert catalog.services["pay"].targets["prod"].cluster == ""
    assert catalog.freezes[0].scope.clusters == ("east-*",)


def test_groups_leave_and_approvals(tmp_path: Path) -> None:
    """On call from the catalog, who stands in, and a rule of several groups at night."""
    catalog = load_catalog(
        good(
            tmp_path,
            rules="""
groups:
  oncall: {shifts: [{person: rita, from: 2026-01-01, until: 2026-02-01}], zone: Europe/Berlin}
leave:
  - {person: leo, to: rita, from: 2026-01-10, until: 2026-01-20}
approvals:
  - name: two-keys
    environments: [prod]
    seats: [{roles: team_lead}, {name: on call, groups: oncall}]
    total: 2
    not_author: true
    larger_than: 10
    hours: "20:00-08:00"
""",
        )
    )
    (rule,) = catalog.approvals
    assert [seat.name for seat in rule.seats] == ["team lead", "on call"]
    assert rule.when is not None
    assert is_open(rule.when, utc(2026, 1, 1, 23))
    assert catalog.groups["oncall"].shifts[0].from_at == utc(2025, 12, 31, 23)
    assert catalog.delegations[0].to == "rita"


def test_a_group_may_stand_where_people_are_named(tmp_path: Path) -> None:
    """As owner, lead, member, administrator; whom only a chat knows comes later, and is nobody until then."""
    directory = good(
        tmp_path,
        rules="""
groups:
  payers: {people: [rita], chats: {feishu: [g128187, od-4e6ac4d14bcd5071a37a39de902c7141]}}
  unseen: {chats: {slack: S0123}}
admins: [unseen, leo]
approvals:
  - {name: a, seats: [{groups: unseen, count: 2}]}
emergency:
  - {name: e, approvers: {count: 2, roles: [owner]}}
""",
    )
    (directory / "services" / "pay.yaml").write_text(
        "pay: {team: shop, owners: [payers, olive]}\nweb: {team: shop, owners: unseen}\n"
    )
    catalog = load_catalog(directory)
    assert catalog.services["pay"].owners == ("rita", "olive")
    assert catalog.services["pay"].owner_groups == ("payers",)
    assert catalog.services["web"].owners == ()
    assert (catalog.admins, catalog.admin_groups) == (("leo",), ("unseen",))
    told = with_members(catalog, {"unseen": ("olive", "leo")})
    assert told.services["web"].owners == ("olive", "leo")
    assert told.admins == ("leo", "olive")
    assert with_members(catalog, {"unseen": ()}) is catalog


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("groups: {leo: {people: [rita]}}", "'leo' is a person too"),
        ("places: {oc_1: {zone: Europe/Berln}}", "Europe/Berlin"),
        ("places: {oc_1: {language: en}}", "places.oc_1.language"),
        ("groups: {g: {chats: {feishy: [g1]}}}", "Did you mean feishu?"),
        ("groups: {g: {people: [leo]}}\nadmins: [gg]", "There is no person or group 'gg'."),
        ("windows: [{name: w}]", "rules.yaml:1: windows[0]: This has no time; write `days`"),
        ('windows: [{name: w, cron: "0 10 * *", duration: 1h}]', "is no cron expression (must have five fields"),
        ('windows: [{name: w, cron: "0 25 * * *", duration: 1h}]', "'25' is no number from 0 to 23"),
        ('windows: [{name: w, cron: "0 10 * * *"}]', "needs both `cron` and `duration`"),
        ('windows: [{name: w, cron: "0 10 30 2 *", duration: 1h}]', "does not open within a year"),
        (
            "windows: [{name: w, calendar: chnia, on: workdays}]\ncalendars: {china: {region: CN}}",
            "Did you mean china?",
        ),
        ("windows: [{name: w, calendar: c}]\ncalendars: {c: {}}", "needs both `calendar` and `on`"),
        ("windows: [{name: w, days: [mon], from: 2026-02-01, until: 2026-01-01}]", "'until' must be after 'from'"),
        ("calendars: {c: {region: CHN}}", "There are no public holidays for 'CHN'. Did you mean"),
        ("calendars: {c: {holidays: {someday: x}}}", "must be a day such as 2026-11-09"),
        ("groups: {g: {}}", "must name people, chats or shifts"),
        ("groups: {g: {people: [lea]}}", "There is no person 'lea'. Did you mean leo?"),
        ("leave: [{person: leo, to: leo, from: 2026-01-01, until: 2026-02-01}]", "stand in for themselves"),
        (
            "leave:\n- {person: leo, to: rita, from: 2026-01-01, until: 2026-02-01}\n"
            "- {person: rita, to: leo, from: 2026-01-15, until: 2026-03-01}",
            "rules.yaml:2: leave[0].to: This delegation goes in a circle (leo -> rita -> leo)",
        ),
        ("approvals: [{name: a, seats: [{roles: admin}]}]", "Too few different people could approve pay under 'a'"),
        ("approvals: [{name: a, seats: [{groups: oncal}]}]\ngroups: {oncall: {people: [leo]}}", "Did you mean oncall?"),
        ("approvals: [{name: a, seats: [{people: leo, count: 2}]}]", "Too few different people"),
        ("approvals: [{name: a, seats: [{people: leo}, {people: rita}], total: 1}]", "leave it out or raise it"),
        ("approvals: [{name: a, seats: [{roles: anyone}]}]", "'anyone' is not allowed here"),
        ("approvals: [{name: a, seats: []}]", "approvals[0].seats"),
        (
            "approvals: [{name: a, seats: [{people: leo}], hand_up: [{after: 9h, people: rita}]}]",
            "is handed up after it has expired",
        ),
        (
            "approvals: [{name: a, seats: [{people: leo}], hand_up: [{after: 1h, groups: oncal}]}]\n"
            "groups: {oncall: {people: [leo]}}",
            "rules.yaml:1: approvals[0].hand_up[0].groups[0]: There is no group 'oncal'. Did you mean oncall?",
        ),
        (
            "emergency: [{name: e, approvers: {people: leo}, review: {by: {people: lea}}}]",
            "emergency[0].review.by.people: There is no person 'lea'. Did you mean leo?",
        ),
        ("emergency: [{name: e, approvers: {people: leo}, review: {block: maybe}}]", "'maybe' is not allowed here"),
        ("limits: [{name: l, at_once: 0}]", "limits[0].at_once"),
        ("limits: [{name: l, at_once: 1, per: tem}]", "Did you mean team?"),
        ("limits: [{name: l, at_once: 1, environments: [prd]}]", "Did you mean prod?"),
        ("groups: {g: {github: payments}}", "'github' must be a team such as organization/team"),
        ("groups: {g: {gitlab: 'acme/pay:maintaner'}}", "has no level 'maintaner'; Did you mean maintainer"),
        ("groups: {g: {gitlab: '/acme'}}", "must be a group or project such as group/project"),
        ("announce: soon", "must be a time such as"),
        ("freezes: [{name: f, from: 2026-01-01}]\nrelease_weeks: [{name: f, from: 2026-01-01}]", "already defined in"),
    ],
)
def test_a_bad_rule_is_named_with_what_to_write(tmp_path: Path, text: str, words: str) -> None:
    """A rule that cannot hold would be found out in the night it was meant for."""
    assert any(words in one for one in rules(tmp_path, text)), rules(tmp_path, text)


def test_leaves_one_after_the_other_are_no_circle(tmp_path: Path) -> None:
    """Two people who stand in for each other in turn."""
    text = (
        "leave:\n- {person: leo, to: rita, from: 2026-01-01, until: 2026-02-01}\n"
        "- {person: rita, to: leo, from: 2026-02-01, until: 2026-03-01}"
    )
    assert len(load_catalog(good(tmp_path, rules=text)).delegations) == 2
