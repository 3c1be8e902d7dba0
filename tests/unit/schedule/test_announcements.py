"""Channels hear before something opens, closes, freezes or thaws: the right ones, in time, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from bot.catalog.model import Catalog, Environment, Scope, Team
from bot.schedule.announcements import Announcer, places, window_edges
from bot.store import holds
from bot.store.database import Database
from bot.store.holds import ChatFreeze
from bot.store.tables import outbox
from tests.support import FakeClock
from tests.support.rules import a_catalog, a_freeze, a_service, a_window, utc

QUARTER = timedelta(minutes=15)


def company(**more: Any) -> Catalog:
    """Prod has a channel of its own, the team `shop` another one."""
    fields: dict[str, Any] = {
        "environments": {
            "dev": Environment("dev", 1, "main"),
            "prod": Environment("prod", 2, "main", protected=True, channels={"console": "#prod"}),
        },
        "teams": {"shop": Team("shop", "Shop", leads=("lead",), channels={"console": "#shop"})},
        "services": {"pay": replace(a_service(), channels={})},
        "channels": {"console": "#all"},
        **more,
    }
    return a_catalog(**fields)


def told(db: Database) -> list[tuple[str, str]]:
    """Place and text of every message."""
    return [(row.place, row.content["text"]) for row in db.run_sync(lambda tx: tx.execute(select(outbox)).all())]


async def test_a_window_is_told_before_it_opens_and_before_it_closes(db: Database) -> None:
    """A quarter of an hour before, not earlier, and not again a minute later."""
    window = a_window("tue-thu", scope=Scope(environments=("prod",)), announce=QUARTER)
    clock = FakeClock(utc(2026, 1, 6, 9, 44))
    announcer = Announcer(db, lambda: company(windows=(window,)), ("console",), clock, lambda: None)
    counts = []
    for minutes in (0, 1, 5, 10, 60 * 8 - 30, 15):
        clock.advance(timedelta(minutes=minutes))
        await announcer.look()
        counts.append(len(told(db)))
    assert counts == [0, 1, 1, 1, 1, 2]
    assert told(db) == [
        ("#prod", "The release window tue-thu opens Tue 06 Jan 2026 10:00 (UTC)."),
        ("#prod", "The release window tue-thu closes Tue 06 Jan 2026 18:00 (UTC)."),
    ]


async def test_what_opens_together_is_one_message_and_a_freeze_is_mentioned(db: Database) -> None:
    """Two hundred windows must not be two hundred messages, and nobody should be told of an opening that is none."""
    windows = tuple(a_window(f"w{n}", scope=Scope(environments=("prod",)), announce=QUARTER) for n in range(9))
    freeze = a_freeze(utc(2026, 1, 1), utc(2026, 2, 1), "sales", scope=Scope(environments=("prod",)))
    catalog = company(windows=windows, freezes=(freeze,))
    await Announcer(db, lambda: catalog, ("console",), FakeClock(utc(2026, 1, 6, 9, 50)), lambda: None).look()
    names = ", ".join(f"w{n}" for n in range(8))
    assert told(db) == [
        (
            "#prod",
            f"The release window {names} +1 opens Tue 06 Jan 2026 10:00 (UTC). But the freeze sales holds then.",
        )
    ]


async def test_freezes_of_the_catalog_and_of_a_chat_are_told(db: Database) -> None:
    """Beginning and end, the recurring ones too, in the zone of the rule."""
    nights = a_freeze(
        utc(2000, 1, 1),
        None,
        "nights",
        recurs=a_window(days=(0, 1, 2, 3, 4, 5, 6), hours="22:00-06:00"),
        announce=QUARTER,
    )
    week = a_freeze(utc(2026, 1, 6, 22), None, "big", release_week=True)
    new = ChatFreeze("incident", {"services": ["pay"]}, utc(2026, 1, 6), utc(2026, 1, 6, 22), "", (), "rae")
    db.run_sync(lambda tx: holds.freeze(tx, new))
    catalog = company(freezes=(nights, week))
    await Announcer(db, lambda: catalog, ("console",), FakeClock(utc(2026, 1, 6, 21, 50)), lambda: None).look()
    at = "Tue 06 Jan 2026 22:00 (UTC)"
    assert sorted(told(db)) == [
        ("#all", f"The freeze nights begins {at}."),
        ("#all", f"The release week big begins {at}."),
        ("#prod", f"The freeze incident ends {at}."),
        ("#prod", f"The freeze nights begins {at}."),
        ("#prod", f"The release week big begins {at}."),
        ("#shop", f"The freeze incident ends {at}."),
    ]


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        (Scope(), {"#all", "#prod"}),
        (Scope(environments=("pro*",)), {"#prod"}),
        (Scope(environments=("dev",)), {"#all"}),
        (Scope(teams=("shop",)), {"#prod", "#shop"}),
        (Scope(services=("pay",), environments=("dev",)), {"#shop"}),
        (Scope(services=("other",)), set()),
    ],
)
def test_who_is_concerned(scope: Scope, wanted: set[str]) -> None:
    """The channels of what the rule is about, and no others."""
    assert {place for _, place in places(company(), scope, ("console", "slack"))} == wanted


def test_days_that_run_into_each_other_have_no_edge() -> None:
    """Midnight between two open days is nothing to announce; zero announces nothing."""
    window = a_window(days=(0, 1), hours="00:00-00:00", announce=QUARTER)
    assert [edge.kind for edge in window_edges(window, utc(2026, 1, 5, 23, 50))] == []
    assert [edge.kind for edge in window_edges(window, utc(2026, 1, 6, 23, 50))] == ["closes"]
    assert list(window_edges(replace(window, announce=timedelta(0)), utc(2026, 1, 6, 23, 50))) == []
