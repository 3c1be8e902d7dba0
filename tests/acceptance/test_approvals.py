"""The emergency lane: asked with a button, answered by the right people, bound to one release, in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from bot.app import Outside
from bot.deployments.model import State
from tests.acceptance.conftest import closed_window, emergency
from tests.support import FakeClock
from tests.support.running import POLL, Running, running
from tests.support.world import World, make_world


async def asked(slipway: Running, person: str = "owner") -> str:
    """Ask for app in prod outside the window and press the emergency button; returns the channel card's message."""
    await slipway.say(person, "/deploy app prod --reason customers cannot pay")
    (card,) = await slipway.cards(person, "d-1")
    assert card["state"] == "refused"
    assert [button["id"] for button in card["buttons"]] == ["emergency"]
    assert (await slipway.click(person, card["ref"], "emergency")).accepted
    await slipway.reaches(State.AWAITING_APPROVAL)
    return str(card["ref"])


async def personal_card(slipway: Running, person: str) -> dict[str, object]:
    """The personal question of a person about d-1."""
    (card,) = [one for one in await slipway.cards(person, "d-1") if one["place"] == "@slipway"]
    return card


async def test_a_closed_window_refuses_says_why_and_offers_the_lane(closed: World) -> None:
    """By which rule, where it is written, when it opens; and nothing was started."""
    async with running(closed) as slipway:
        await slipway.say("owner", "/deploy app prod")
        (card,) = await slipway.cards("owner", "d-1")
        assert "release-day is closed until" in card["text"]
        assert "release-day (slipway.yaml:" in card["fields"]["rule"]
        assert "10:00" in card["fields"]["allowed"]
        assert ("owner", "deployment:create", "refused", "window_closed") in [
            (entry.actor, entry.action, entry.outcome, entry.code) for entry in await slipway.audit()
        ]
    assert closed.count("builds") == 0


async def test_an_approval_lets_one_release_through(closed: World, database_url: str) -> None:
    """Asked in the channel and personally, decided by one, every copy changes; the approver stands in Git."""
    async with running(closed, database_url) as slipway:
        channel = await asked(slipway)
        for person in ("lead", "releaser"):
            question = await personal_card(slipway, person)
            assert [button["id"] for button in question["buttons"]] == ["approve", "reject"]  # type: ignore[attr-defined]
            assert "customers cannot pay" in str(question["text"])
        assert [card for card in await slipway.cards("developer", "d-1") if card["place"] == "@slipway"] == []
        lead = await personal_card(slipway, "lead")
        assert (await slipway.click("lead", str(lead["ref"]), "approve")).accepted
        seen = await slipway.ends()
        for person in ("lead", "releaser"):
            told = await personal_card(slipway, person)
            assert told["state"] == "succeeded"
            assert told["buttons"] == []
        (card,) = [one for one in await slipway.cards("owner") if one["ref"] == channel]
        assert card["state"] == "succeeded"
        assert card["fields"]["approved by"] == "Lead"
    assert seen.state is State.SUCCEEDED
    assert "Approved-by: Lead <lead@slipway.example>" in closed.config_log()[0]


@pytest.mark.parametrize(
    ("person", "status", "words"),
    [
        ("owner", 403, "You asked for this one"),
        ("developer", 403, "You may not decide"),
        ("outsider", 403, "You may not decide"),
        ("stranger", 403, "I do not know you"),
    ],
)
async def test_the_wrong_person_changes_nothing(closed: World, person: str, status: int, words: str) -> None:
    """The right is checked at the press, not when the button was shown."""
    async with running(closed) as slipway:
        ref = await asked(slipway)
        answer = await slipway.click(person, ref, "approve")
        assert (answer.accepted, answer.status) == (False, status)
        assert words in answer.error
        seen = await slipway.get(1)
        assert seen is not None
        assert seen.state is State.AWAITING_APPROVAL
        refused = [entry for entry in await slipway.audit() if entry.action == "click" and entry.outcome == "refused"]
        assert len(refused) == 1


async def test_the_text_twins_do_the_same(closed: World) -> None:
    """For those who type, and for scripts."""
    async with running(closed) as slipway:
        await asked(slipway)
        mine = await slipway.say("owner", "/approve d-1")
        assert "You asked for this one" in mine[-1].text
        yes = await slipway.say("lead", "/approve", place="@slipway")
        assert any("You approved d-1" in message.text for message in yes)
        assert (await slipway.ends()).state is State.SUCCEEDED


async def test_one_rejection_ends_it_with_its_reason(closed: World) -> None:
    """The requester hears who said no, and why."""
    async with running(closed) as slipway:
        ref = await asked(slipway)
        assert (await slipway.click("releaser", ref, "reject", reason="not today")).accepted
        seen = await slipway.ends()
        late = await slipway.click("lead", ref, "approve")
        told = await personal_card(slipway, "owner")
    assert seen.state is State.REJECTED
    assert (late.accepted, late.status) == (False, 409)
    assert "Releaser said no: not today" in str(told["text"])
    assert closed.count("builds") == 0


async def test_nobody_decided_in_time(closed: World, clock: FakeClock) -> None:
    """An expired question cannot be answered, not even in the moment before it is swept up."""
    closed.write_root(windows=[closed_window(clock())], emergency=[emergency()])
    async with running(closed, outside=Outside(clock=clock, poll=POLL)) as slipway:
        ref = await asked(slipway)
        clock.advance(timedelta(minutes=30))
        answer = await slipway.click("lead", ref, "approve")
        assert (answer.accepted, answer.status) == (False, 403)
        assert "has expired" in answer.error
        slipway.app.engine.poke()
        seen = await slipway.ends()
        assert seen.state is State.EXPIRED
        told = await personal_card(slipway, "owner")
        assert "Ask again with /deploy app prod" in str(told["text"])
    assert closed.count("builds") == 0


async def test_two_distinct_people_when_two_are_needed(tmp_path: Path) -> None:
    """One person counts once, however often they press."""
    world = make_world(tmp_path / "world", windows=[closed_window()], emergency=[emergency(count=2)])
    async with running(world) as slipway:
        ref = await asked(slipway)
        assert (await slipway.click("lead", ref, "approve")).accepted
        again = await slipway.click("lead", ref, "approve")
        assert (again.accepted, again.status) == (False, 409)
        await slipway.quiet()
        (card,) = [one for one in await slipway.cards("owner") if one["ref"] == ref]
        assert card["text"].startswith("1 of 2 approvals")
        assert (await slipway.click("releaser", ref, "approve")).accepted
        seen = await slipway.ends()
    assert seen.state is State.SUCCEEDED
    assert seen.data.emergency is not None
    assert seen.data.emergency.approvers == ("lead", "releaser")


async def test_everybody_at_once_decides_once(closed: World, database_url: str) -> None:
    """Two people and many repeated presses in one instant: one decision, one build."""
    async with running(closed, database_url) as slipway:
        ref = await asked(slipway)
        presses = [slipway.click(person, ref, "approve") for person in ("lead", "releaser") for _ in range(10)]
        answers = Counter((answer.accepted, answer.status) for answer in await asyncio.gather(*presses))
        assert answers == {(True, 200): 1, (False, 409): 19}
        assert (await slipway.ends()).state is State.SUCCEEDED
    assert closed.count("builds") == 1


async def test_approve_and_reject_at_once_is_one_of_both(closed: World) -> None:
    """Whoever is first decides; the other is told so."""
    async with running(closed) as slipway:
        ref = await asked(slipway)
        answers = await asyncio.gather(slipway.click("lead", ref, "approve"), slipway.click("releaser", ref, "reject"))
        seen = await slipway.ends()
    assert [answer.accepted for answer in answers].count(True) == 1
    assert seen.state is (State.SUCCEEDED if answers[0].accepted else State.REJECTED)


async def test_a_click_delivered_twice_is_answered_twice_and_done_once(closed: World) -> None:
    """The second delivery hears what the first one did."""
    async with running(closed) as slipway:
        ref = await asked(slipway)
        first = await slipway.click("lead", ref, "approve", event_id="same")
        second = await slipway.click("lead", ref, "approve", event_id="same")
        assert (first.accepted, second.accepted) == (True, True)
        await slipway.ends()


async def test_an_approver_who_left_meanwhile_does_not_count(closed: World) -> None:
    """Policy is asked again before Git is written, with the people of that moment."""
    closed.push("second", test=closed.held)
    async with running(closed) as slipway:
        ref = await asked(slipway)
        await slipway.click("lead", ref, "approve")
        await slipway.reaches(State.BUILDING)
        people = {name: {"name": name, "active": name != "lead"} for name in ("owner", "lead", "releaser", "developer")}
        closed.write_root(windows=[closed_window()], emergency=[emergency()], people=people)
        assert slipway.app.catalogs.reload()
        closed.let_go()
        seen = await slipway.ends()
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert seen.data.failure.step == "policy"
    assert closed.config_log() == []


async def test_a_pass_ends(closed: World, clock: FakeClock) -> None:
    """A yes of two hours ago does not open production."""
    closed.write_root(windows=[closed_window(clock())], emergency=[emergency()])
    closed.push("second", test=closed.held)
    async with running(closed, outside=Outside(clock=clock, poll=POLL)) as slipway:
        ref = await asked(slipway)
        await slipway.click("lead", ref, "approve")
        await slipway.reaches(State.BUILDING)
        clock.advance(timedelta(hours=2))
        closed.let_go()
        seen = await slipway.ends()
    assert seen.state is State.FAILED
    assert closed.config_log() == []


async def test_only_the_requester_asks(closed: World) -> None:
    """Somebody else's request is not mine to escalate."""
    async with running(closed) as slipway:
        await slipway.say("owner", "/deploy app prod")
        (card,) = await slipway.cards("lead", "d-1")
        answer = await slipway.click("lead", card["ref"], "emergency")
        assert (answer.accepted, answer.status) == (False, 403)
        assert "Type /deploy app prod" in answer.error


async def test_the_lane_needs_somebody_else(tmp_path: Path) -> None:
    """If nobody but the requester could approve, the lane is not offered."""
    rule = emergency() | {"approvers": {"count": 1, "people": ["owner"]}}
    world = make_world(tmp_path / "world", windows=[closed_window()], emergency=[rule])
    async with running(world) as slipway:
        messages = await slipway.say("owner", "/deploy app prod")
        assert "is closed until" in messages[-1].text
        assert await slipway.get(1) is None
