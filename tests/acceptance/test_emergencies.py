"""What follows an emergency: a review that is owed; and the pass from the server, for when chat is down."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.app import Outside
from bot.deployments.model import State
from bot.deployments.reviews import report
from bot.errors import SlipwayError
from bot.server_pass import PassWish, break_glass, checked
from bot.store import emergencies
from bot.store.database import Database
from tests.acceptance.conftest import closed_window, emergency
from tests.support import FakeClock
from tests.support.rules import a_catalog
from tests.support.running import POLL, Running, running
from tests.support.world import make_world

AT_ONCE = {"timeout": "3s", "settle": "0s", "interval": "20ms"}


def lane(block: str, within: str = "3d") -> dict[str, Any]:
    """The emergency lane with what is owed afterwards."""
    return emergency() | {"review": {"within": within, "block": block}}


async def through_the_lane(slipway: Running, number: int = 1) -> None:
    """The owner asks, the lead approves, it runs."""
    await slipway.say("owner", "/deploy app prod --reason customers cannot pay")
    (card,) = [one for one in await slipway.cards("owner", f"d-{number}") if one["place"] == "#releases"]
    assert (await slipway.click("owner", card["ref"], "emergency")).accepted
    await slipway.reaches(State.AWAITING_APPROVAL, number)
    await slipway.say("lead", f"/approve d-{number}")
    assert (await slipway.ends(number)).state is State.SUCCEEDED


async def test_an_emergency_owes_a_review_by_somebody_else(tmp_path: Path) -> None:
    """Everybody concerned is told; the requester cannot clear it; the report says what became of it."""
    world = make_world(tmp_path / "world", windows=[closed_window()], emergency=[lane("no")])
    async with running(world) as slipway:
        await through_the_lane(slipway)
        for person in ("owner", "lead", "releaser"):
            assert any("The emergency d-1 (app in prod) waits" in one.text for one in await slipway.messages(person))
        assert "owed until" in str((await slipway.say("owner", "/reviews"))[-1].card)
        assert "What was found?" in (await slipway.say("lead", "/review d-1"))[-1].text
        assert "somebody else reviews it" in (await slipway.say("owner", "/review d-1 all is well"))[-1].text
        assert "You may not review d-1; Lead, Releaser may" in (await slipway.say("outsider", "/review d-1 x"))[-1].text
        assert (
            "d-1 (app in prod) is reviewed" in (await slipway.say("lead", "/review d-1 a certificate ran out"))[-1].text
        )
        assert "was reviewed already, by Lead" in (await slipway.say("releaser", "/review d-1 me too"))[-1].text
        assert (await slipway.say("owner", "/reviews"))[-1].text == "No review is owed."
        card = str((await slipway.say("owner", "/reviews --since 1d"))[-1].card)
        assert "1 emergencies, 1 reviewed, 0 owed, 0 overdue" in card
        assert "a certificate ran out" in card
        actions = [entry.action for entry in await slipway.audit()]
        assert ("review:owed" in actions, "review:done" in actions) == (True, True)


async def test_a_review_may_hold_up_what_is_ordinary(tmp_path: Path) -> None:
    """The next ordinary deployment waits for it, a rollback does not, and reviewing opens the way."""
    world = make_world(tmp_path / "world", windows=[closed_window()], emergency=[lane("always")])
    async with running(world) as slipway:
        await through_the_lane(slipway)
        world.write_root(emergency=[lane("always")])
        assert slipway.app.catalogs.reload()
        world.push("second")
        said = (await slipway.say("owner", "/deploy app prod"))[-1]
        assert "The emergency d-1 is not reviewed yet; type /review d-1" in str(said.card)
        await slipway.say("lead", "/review d-1 understood")
        await slipway.say("owner", "/deploy app prod --reason again")
        seen = await slipway.ends(3)  # the second was the offer of the lane
    assert seen.state is State.SUCCEEDED


async def test_reminders_of_a_review_grow_rarer_and_reach_the_channel_when_it_is_late(
    tmp_path: Path, clock: FakeClock
) -> None:
    """After one day, two more, four more."""
    windows = [closed_window(clock())]
    world = make_world(tmp_path / "world", verify=AT_ONCE, windows=windows, emergency=[lane("no")])
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await through_the_lane(slipway)
        counts, told = [], []
        for days in (0, 1, 1, 1, 3, 1):
            clock.advance(timedelta(days=days))
            await slipway.app.deployments.reviews.remind()
            await slipway.quiet()
            told = [one for one in await slipway.messages("lead") if "The emergency d-1" in one.text]
            counts.append(sum(one.place == "@slipway" for one in told))
        assert counts == [1, 2, 2, 3, 3, 4]
        late = [one for one in told if one.place == "#releases"]
        assert [("it was due" in one.text) for one in late] == [True, True]


async def test_the_glass_is_broken_on_the_server(tmp_path: Path) -> None:
    """No lane, a closed window, no chat: the server's own pass lets one deployment through, on the same audit chain."""
    world = make_world(tmp_path / "world", windows=[closed_window()])
    async with running(world) as slipway:
        assert "is closed until" in (await slipway.say("owner", "/deploy app prod"))[-1].text
        said: list[str] = []
        wish = PassWish("app", "prod", "", "owner", timedelta(minutes=10), "chat is down, customers cannot pay", True)
        other = Database(slipway.app.settings.database)  # as the command does: a process beside the running one

        async def take_up() -> None:
            while not said:
                await asyncio.sleep(0.05)
            slipway.app.dispatcher.look()

        try:
            good, _ = await asyncio.gather(
                break_glass(other, slipway.app.catalog(), wish, datetime.now(UTC), said.append, pause=0.05), take_up()
            )
        finally:
            other.close()
        assert good, said
        seen = await slipway.ends(1)
        assert seen.data.emergency is not None
        assert seen.data.emergency.given_by.startswith("server:")
        assert any("succeeded" in line for line in said)
        given = [entry for entry in await slipway.audit() if entry.action == "pass:give"]
        assert [entry.subject for entry in given] == ["p-1 app/prod"]
        assert "chat is down" in given[0].detail
        assert [one.rule for one in await slipway.app.deployments.reviews.owed()] == ["break-glass"]
        world.push("second")
        assert "is closed until" in (await slipway.say("owner", "/deploy app prod"))[-1].text
        assert "gave a pass on the server until" in str(seen.data.reasons)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (PassWish("pya", "prod", "", "olive", timedelta(hours=1), "x"), "There is no service 'pya'. Did you mean pay"),
        (PassWish("pay", "prod", "", "out", timedelta(hours=1), "x"), "Out may not deploy pay in prod"),
        (PassWish("pay", "prod", "", "olive", timedelta(hours=25), "x"), "at most 24 hours"),
        (PassWish("pay", "prod", "", "olive", timedelta(hours=1), " "), "Why is this needed?"),
    ],
)
def test_a_pass_gives_no_right_and_no_silence(wish: PassWish, words: str) -> None:
    """It overcomes times and approvals, never a missing right, and never without a reason and an end."""
    with pytest.raises(SlipwayError, match=words.replace("?", r"\?")):
        checked(a_catalog(), wish, datetime.now(UTC), "server:root@host")


def test_the_report_counts_and_names_each() -> None:
    """What an auditor asks for once a quarter."""
    at = datetime(2026, 6, 1, tzinfo=UTC)
    one = emergencies.Review(1, "pay", "prod", "lane", "olive", at - timedelta(days=9), at - timedelta(days=6))
    two = emergencies.Review(2, "pay", "prod", "lane", "olive", at - timedelta(days=1), at + timedelta(days=2))
    lines = report([one, two], at, "UTC")
    assert lines[0] == "2 emergencies, 0 reviewed, 2 owed, 1 overdue"
    assert lines[1].endswith("asked by olive: overdue for 144 h")
