"""Slack misbehaves: the deployment goes on, the message arrives when it can, somebody is told when it cannot."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from bot.deployments.model import State
from tests.acceptance.test_slack import action, cards
from tests.fakes.slack import BOT_USER, FakeSlack, words
from tests.support.slack import USERS, running_on_slack
from tests.support.world import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels={"slack": "C1"})


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "error": "ratelimited", "headers": {"Retry-After": "1"}, "times": 2},
        {"status": 500, "times": 2},
        {"error": "fatal_error", "times": 2},
        {"status": 503, "delay": 0.2, "times": 2},
        {"lost": True, "times": 1},
    ],
    ids=["429", "500", "fatal", "503", "answer lost"],
)
async def test_the_card_arrives_once_whatever_slack_answers(
    world: World, slack: FakeSlack, fault: dict[str, object]
) -> None:
    """Also when the message was posted and only the answer was lost: it is found again, not posted twice."""
    slack.fail("chat.postMessage", **fault)
    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.answered(1)
        seen = await slipway.ends()
    assert seen.state is State.SUCCEEDED
    (card,) = cards(slack, "C1")
    assert "✅" in words(card)


async def test_a_silent_slack_delays_nothing_but_the_message(world: World, slack: FakeSlack) -> None:
    """No answer at all: the acknowledgement and the deployment do not wait for it."""
    async with running_on_slack(world, slack) as slipway:
        assert slipway.app.slack is not None
        slipway.app.slack.api._http._timeout = 3.0
        await slack.command(USERS["owner"], "/status")
        await slipway.answered(1)
        slack.fail("chat.postMessage", hang=True)
        started = time.monotonic()
        await slack.command(USERS["owner"], "/deploy app prod")
        assert time.monotonic() - started < slipway.app.slack.api._http._timeout
        assert (await slipway.ends()).state is State.SUCCEEDED
    assert len([one for one in cards(slack, "C1") if "app" in one["text"]]) == 1


async def test_a_slack_that_answers_too_late(world: World, slack: FakeSlack) -> None:
    """After thirty seconds, say: it has posted, nobody waited for the answer, and the next try finds the message."""
    async with running_on_slack(world, slack) as slipway:
        assert slipway.app.slack is not None
        slipway.app.slack.api._http._timeout = 1.0
        slack.fail("chat.postMessage", late=True, delay=3.0)
        await slack.command(USERS["owner"], "/whoami")
        await slipway.answered(1)
        assert slack.count("chat.postMessage") == 1
        assert slack.count("conversations.history") == 1
    assert len(slack.posts("C1")) == 1


@pytest.mark.parametrize("cut", ["frame", "ack"])
async def test_a_socket_cut_in_the_middle_of_a_click(tmp_path: Path, slack: FakeSlack, cut: str) -> None:
    """Behind the click, or when its acknowledgement was not heard yet: it is done once, and the bot comes back."""
    world = make_world(tmp_path / "world", channels={"slack": "C1"})
    world.push(test="exit 1")
    async with running_on_slack(world, slack, socket=True) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.ends()
        (card,) = cards(slack, "C1")
        body = slack.click_body(USERS["owner"], "C1", card["ts"], action(card, "retry"))
        slack.cut = cut
        unheard = asyncio.create_task(slack.interact(body))
        assert (await slipway.ends(2)).state is State.FAILED
        await slipway.until(lambda: _true(slack.connections >= 2 and bool(slack.sockets)), "a second socket")
        await slipway.until(lambda: _ready(slipway), "readiness")
        # Whoever got no answer presses again: the same press, and then another one.
        await slack.interact(body)
        await slipway.quiet()
        assert await slipway.get(3) is None
        await slack.command(USERS["owner"], "/status")
        await slipway.answered(3)
        unheard.cancel()


@pytest.mark.parametrize("reason", ["warning", "refresh_requested", "link_disabled"])
async def test_slack_asks_for_a_new_socket(world: World, slack: FakeSlack, reason: str) -> None:
    """As it does every few hours: the old one is let go, one is open, and commands go on."""
    async with running_on_slack(world, slack, socket=True) as slipway:
        await slack.disconnect(reason)
        await slipway.until(lambda: _true(slack.connections == 2 and len(slack.sockets) == 1), "a second socket")
        await slack.command(USERS["owner"], "/whoami")
        await slipway.answered(1)
    assert slack.unacknowledged == []


async def test_a_socket_that_does_not_come_up_gets_a_fresh_address(world: World, slack: FakeSlack) -> None:
    """A ticket serves once: the address that failed is never going to work."""
    async with running_on_slack(world, slack, socket=True) as slipway:
        slack.refused_sockets = 1
        await slack.drop()
        await slipway.until(lambda: _true(slack.connections == 2), "a second socket")
        await slack.command(USERS["owner"], "/whoami")
        await slipway.answered(1)


async def test_a_token_revoked_while_running(world: World, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployment goes on, readiness says what is wrong, and what waited is sent when the token is good again."""
    monkeypatch.setattr("notifiers.slack_api.CREDENTIAL_PAUSE", 0.5)
    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/status")
        await slipway.answered(1)
        known, slack.tokens = slack.tokens, {}
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.until(lambda: _ended(slipway), "the end of d-1")
        assert "token" in (await slipway.app.readiness())["slack"]
        assert world.count("deploys") == 1
        slack.tokens = known
        await slipway.quiet()
        assert await slipway.app.readiness() == {}
    _, card = cards(slack, "C1")
    assert "✅" in words(card)


@pytest.mark.parametrize("error", ["channel_not_found", "not_in_channel"])
async def test_an_answer_that_cannot_be_posted_goes_to_the_asker(world: World, slack: FakeSlack, error: str) -> None:
    """Slash commands work in every channel, the bot does not: the asker reads the answer, and why it came there."""
    slack.channel("C2", "elsewhere", member=False)
    async with running_on_slack(world, slack) as slipway:
        channel = "C2" if error == "not_in_channel" else "C404"
        await slack.command(USERS["owner"], "/whoami", channel=channel)
        await slipway.until(lambda: _true(bool(slack.direct(USERS["owner"]))), "the answer")
    (answer,) = slack.direct(USERS["owner"])
    assert "Owner" in words(answer)


async def test_a_closed_channel_is_told_once_and_served_when_opened(
    tmp_path: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requester hears what to do about it, and when it is done the card comes."""
    monkeypatch.setattr("notifiers.slack_api.CLOSED_PAUSE", 0.5)
    world = make_world(tmp_path / "world", channels={"slack": "C2"})
    slack.channel("C2", "closed", member=False)
    async with running_on_slack(world, slack) as slipway:
        await slack.write(USERS["owner"], "deploy app prod")
        await slipway.until(lambda: _ended(slipway), "the end of d-1")
        await slipway.until(lambda: _true("/invite" in words(slack.direct(USERS["owner"]))), "the hint")
        await slipway.until(lambda: _true(_refusals(slack, "not_in_channel") >= 2), "another try")
        slack.channel("C2", "closed", member=True)
        await slipway.quiet()
    assert len([one for one in slack.direct(USERS["owner"]) if "/invite" in words(one)]) == 1
    (card,) = cards(slack, "C2")
    assert "✅" in words(card)


async def test_whoever_cannot_be_written_to(world: World, slack: FakeSlack) -> None:
    """A personal message that is refused is told in the channel instead of being lost."""
    world.push(test="exit 1")
    slack.fail("chat.postMessage", error="cannot_dm_bot", times=0)
    slack.faults.clear()
    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/status")
        await slipway.answered(1)
        slack.users[USERS["owner"]]["is_bot"] = True
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.ends()
    assert slack.direct(USERS["owner"]) == []
    assert "cannot_dm_bot" in words(slack.posts("C1"))


@pytest.mark.parametrize("error", ["msg_too_long", "msg_blocks_too_long", "invalid_blocks"])
async def test_content_that_slack_refuses_is_said_plainly(world: World, slack: FakeSlack, error: str) -> None:
    """A limit we did not know of costs the layout, never the message."""
    slack.fail("chat.postMessage", error=error)
    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/whoami")
        await slipway.answered(1)
    (answer,) = slack.posts("C1")
    assert answer["text"].strip()
    assert answer["blocks"] == []


async def test_a_deleted_card_is_posted_anew(world: World, slack: FakeSlack) -> None:
    """Somebody tidied the channel: the end is still seen."""
    slack.fail("chat.update", error="message_not_found")
    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.ends()
    assert "✅" in words(cards(slack, "C1")[-1])


async def test_a_crash_between_posting_and_remembering(world: World, slack: FakeSlack) -> None:
    """The next process finds the message of the one before by its metadata."""
    from bot.store import outbox
    from bot.store.tables import outbox as table

    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/whoami")
        await slipway.answered(1)
        # As it stands when the power goes between Slack's answer and our transaction.
        await slipway.app.db.run(lambda tx: tx.execute(table.update().values(sent=0, ref="", last_hash="")))
        assert await slipway.app.db.read(outbox.lag) == 1
    async with running_on_slack(world, slack) as slipway:
        await slipway.quiet()
    assert len(slack.posts("C1")) == 1


async def test_slack_away_at_the_start(world: World, slack: FakeSlack) -> None:
    """The bot starts, says it is not ready, and comes up by itself."""
    slack.fail("auth.test", status=503, times=1)
    async with running_on_slack(world, slack) as slipway:
        assert "slack" in await slipway.app.readiness()
        assert (await slack.command(USERS["owner"], "/whoami"))[0] == 503
        await slipway.until(lambda: _ready(slipway), "readiness")
        await slack.command(USERS["owner"], "/whoami")
        await slipway.answered(1)
    assert BOT_USER in slack.users


async def _true(value: bool) -> bool:
    return value


async def _ended(slipway: object) -> bool:
    seen = await slipway.get(1)  # type: ignore[attr-defined]
    return seen is not None and seen.state.is_final


async def _ready(slipway: object) -> bool:
    return await slipway.app.readiness() == {}  # type: ignore[attr-defined,no-any-return]


def _refusals(slack: FakeSlack, code: str) -> int:
    return sum(1 for call in slack.calls if call.answer == code)
