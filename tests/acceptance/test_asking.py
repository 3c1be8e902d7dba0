"""A question that stays open: seats on the card, reminders with growing pauses, and the next group."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from bot.app import Outside
from bot.deployments.model import State
from tests.support import FakeClock
from tests.support.running import POLL, Running, running
from tests.support.world import World, make_world

TWO_KEYS = {
    "name": "two-keys",
    "environments": ["prod"],
    "seats": [{"roles": ["team_lead"]}, {"people": ["releaser"], "name": "on call"}],
    "remind_after": "30m",
    "expires_after": "8h",
    "hand_up": [{"after": "2h", "people": ["developer"]}],
}


def two_keys(tmp_path: Path) -> World:
    """Prod needs a lead and whoever is on call; after two hours a developer will do."""
    verify = {"timeout": "3s", "settle": "0s", "interval": "20ms"}
    return make_world(tmp_path / "world", verify=verify, approvals=[TWO_KEYS])


async def later(slipway: Running, clock: FakeClock, minutes: int) -> None:
    """Let time pass; the question is looked at again."""
    clock.advance(timedelta(minutes=minutes))
    slipway.app.engine.poke(1)


async def reminded(slipway: Running, person: str) -> int:
    """How often a person was reminded."""
    return sum("for your answer about app" in one.text for one in await slipway.messages(person))


async def test_the_card_shows_votes_and_open_seats(tmp_path: Path, clock: FakeClock) -> None:
    """Whoever waits must see for whom, without asking anybody."""
    async with running(two_keys(tmp_path), outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.say("owner", "/deploy app prod")
        (card,) = [one for one in await slipway.cards("owner", "d-1") if one["place"] == "#releases"]
        assert card["text"] == "0 of 2 approvals. Still open: 1 team lead (Lead); 1 on call (Releaser)."
        await slipway.say("lead", "/approve d-1")
        (card,) = [one for one in await slipway.cards("owner", "d-1") if one["place"] == "#releases"]
        assert card["text"] == "1 of 2 approvals. Still open: 1 on call (Releaser)."
        assert card["fields"]["approved by"] == "Lead"


async def test_who_is_silent_is_reminded_with_growing_pauses(tmp_path: Path, clock: FakeClock) -> None:
    """After 30 minutes, 60 more, 120 more; never those who have answered."""
    async with running(two_keys(tmp_path), outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.say("lead", "/approve d-1")
        for minutes, wanted in ((29, 0), (1, 1), (30, 1), (30, 2), (119, 2), (1, 3)):
            await later(slipway, clock, minutes)

            async def is_so(wanted: int = wanted) -> bool:
                return await reminded(slipway, "releaser") == wanted

            await slipway.until(is_so, f"{wanted} reminders, {minutes} minutes later")
        assert await reminded(slipway, "lead") == 0


async def test_a_question_nobody_answers_goes_to_the_next_group(tmp_path: Path, clock: FakeClock) -> None:
    """Before that the next group has no right; afterwards it is asked, and its yes is enough."""
    async with running(two_keys(tmp_path), outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.say("lead", "/approve d-1")
        assert "You may not decide" in (await slipway.say("developer", "/approve d-1"))[-1].text
        await later(slipway, clock, 120)

        async def asked_too() -> bool:
            return any(one["place"] == "@slipway" for one in await slipway.cards("developer", "d-1"))

        await slipway.until(asked_too, "the next group to be asked")
        asked = [one for one in await slipway.cards("developer", "d-1") if one["place"] == "@slipway"]
        assert len(asked) == 1
        assert "1 on call (Releaser, Developer)" in asked[0]["text"]
        assert "approval:hand_up" in [entry.action for entry in await slipway.audit()]
        await slipway.say("developer", "/approve d-1")
        seen = await slipway.ends()
    assert seen.state is State.SUCCEEDED
    assert seen.data.emergency is not None
    assert seen.data.emergency.approvers == ("lead", "developer")


async def test_an_approval_of_an_older_release_is_not_one_of_the_newer(tmp_path: Path, clock: FakeClock) -> None:
    """Votes are bound to the release they were given for."""
    world = two_keys(tmp_path)
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.say("lead", "/approve d-1")
        world.push("second")
        await slipway.say("owner", "/deploy app prod")
        (card,) = [one for one in await slipway.cards("owner", "d-2") if one["place"] == "#releases"]
        assert card["text"].startswith("0 of 2 approvals.")
