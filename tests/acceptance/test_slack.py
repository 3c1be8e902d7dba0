"""Everything that works in the console works in Slack: real SDK, real wire, a Slack on this machine."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bot.deployments.model import State
from bot.store import audit
from tests.acceptance.conftest import closed_window, emergency
from tests.acceptance.test_gray import make_gray_world, ready_for_canary
from tests.contract.test_kubernetes import kubeconfig
from tests.fakes.kubernetes import running_kubernetes
from tests.fakes.slack import FakeSlack, buttons, words
from tests.support.slack import USERS, SlackRunning, company, running_on_slack
from tests.support.world import World, make_world


@pytest.fixture
def open_world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels={"slack": "C1"})


@pytest.fixture
def shut_world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels={"slack": "C1"}, windows=[closed_window()], emergency=[emergency()])


def cards(slack: FakeSlack, place: str) -> list[dict[str, Any]]:
    """Messages with a card of a deployment."""
    return [one for one in slack.posts(place) if "header" in [block["type"] for block in one["blocks"]]]


def action(message: dict[str, Any], name: str) -> str:
    """The action id of a button by its name."""
    return next(str(one["action_id"]) for one in buttons(message) if one["action_id"].endswith(f":{name}"))


async def press(slack: FakeSlack, user: str, message: dict[str, Any], name: str, place: str) -> tuple[int, str]:
    return await slack.click(USERS.get(user, user), place, message["ts"], action(message, name))


async def refusals(slipway: SlackRunning, kind: str = "click") -> list[audit.AuditEntry]:
    return [one for one in await slipway.audit() if one.action == kind and one.outcome == "refused"]


@pytest.mark.parametrize("socket", [False, True], ids=["http", "socket"])
async def test_deploying_from_slack(open_world: World, slack: FakeSlack, socket: bool) -> None:
    """The main job: one command, one live card that ends with what runs; over both ways in."""
    async with running_on_slack(open_world, slack, socket=socket) as slipway:
        status, said = await slack.command(USERS["owner"], "/deploy app prod")
        assert (status, said) in [(200, ""), (200, "{}")]
        await slipway.answered(1)
        seen = await slipway.ends()
    assert seen.state is State.SUCCEEDED
    (card,) = cards(slack, "C1")
    assert "app" in card["text"]
    assert "✅" in words(card["blocks"])
    assert slack.unacknowledged == []
    assert buttons(card) == []


async def test_a_mention_in_a_thread_is_answered_there(open_world: World, slack: FakeSlack) -> None:
    """Slash commands do not work in threads, so mentions must; and text around the name does not matter."""
    async with running_on_slack(open_world, slack) as slipway:
        await slack.mention(USERS["owner"], "hey <@UBOT> status app", thread="10.1")
        await slipway.answered(1)
    (answer,) = slack.posts("C1")
    assert answer["thread_ts"] == "10.1"


async def test_the_personal_chat_takes_commands(open_world: World, slack: FakeSlack) -> None:
    """Work without an audience; and the bot's own messages and edits are nobody's commands."""
    async with running_on_slack(open_world, slack) as slipway:
        await slack.write(USERS["owner"], "whoami")
        await slipway.answered(1)
        for more in ({"bot_id": "B1"}, {"subtype": "message_changed"}, {"edited": {"ts": "1.1"}}):
            assert await slack.write(USERS["owner"], "whoami", **more) == (200, "")
        await slack.write("UBOT", "whoami")
        await slipway.quiet()
        assert len([one for one in await slipway.audit() if one.action == "command"]) == 1
    (answer,) = slack.direct(USERS["owner"])
    assert "Owner" in words(answer)


@pytest.mark.parametrize("socket", [False, True], ids=["http", "socket"])
async def test_the_emergency_lane(shut_world: World, slack: FakeSlack, socket: bool) -> None:
    """Asked with a form, decided by the right person, every copy changes; a bystander hears it privately."""
    async with running_on_slack(shut_world, slack, socket=socket) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.answered(1)
        (card,) = cards(slack, "C1")
        await press(slack, "owner", card, "emergency", "C1")
        await slipway.until(lambda: _true(bool(slack.views)), "the form")
        view = next(iter(slack.views.values()))
        await slack.submit(USERS["owner"], view, reason="customers <!channel> cannot pay")
        await slack.submit(USERS["owner"], view, reason="customers <!channel> cannot pay")
        await slipway.reaches(State.AWAITING_APPROVAL)
        (card,) = cards(slack, "C1")
        assert "<!channel>" not in card["text"]
        await press(slack, "outsider", card, "approve", "C1")
        await slipway.answered(3)
        assert "may not decide" in slack.whispers[-1]["text"]
        assert slack.whispers[-1]["user"] == USERS["outsider"]
        (question,) = cards(slack, f"D{USERS['lead']}")
        body = slack.click_body(USERS["lead"], f"D{USERS['lead']}", question["ts"], action(question, "approve"))
        await asyncio.gather(slack.interact(body), slack.interact(body))
        seen = await slipway.ends()
        assert len(await refusals(slipway)) == 1
    assert seen.state is State.SUCCEEDED
    for place in ("C1", f"D{USERS['lead']}", f"D{USERS['releaser']}"):
        (copy,) = cards(slack, place)
        assert "✅" in words(copy)
        assert buttons(copy) == []
    assert slack.unacknowledged == []


async def test_gray_is_decided_by_buttons(tmp_path: Path, slack: FakeSlack) -> None:
    """Dangerous ones ask first; a bystander hears it privately and nothing moves; then on, the next time back."""
    world = make_gray_world(tmp_path / "world", channels={"slack": "C1"})
    async with running_kubernetes() as fake:
        ready_for_canary(fake)
        kube = kubeconfig(tmp_path, fake.url)
        async with running_on_slack(world, slack, kubeconfig=kube) as slipway:
            await slack.command(USERS["owner"], "/deploy app prod")
            await slipway.reaches(State.GRAY)
            (card,) = cards(slack, "C1")
            assert {button["action_id"].rpartition(":")[2] for button in buttons(card)} == {"continue", "abort"}
            assert all("confirm" in button for button in buttons(card))
            await press(slack, "outsider", card, "continue", "C1")
            await slipway.answered(2)
            assert slack.whispers[-1]["user"] == USERS["outsider"]
            seen = await slipway.get(1)
            assert seen is not None
            assert seen.state is State.GRAY
            await press(slack, "owner", card, "continue", "C1")
            assert (await slipway.ends(1)).state is State.SUCCEEDED
            world.push("second")
            await slack.command(USERS["owner"], "/deploy app prod")
            await slipway.reaches(State.GRAY, 2)
            card = cards(slack, "C1")[-1]
            await press(slack, "owner", card, "abort", "C1")
            assert (await slipway.ends(2)).state is State.ROLLED_BACK
            await slipway.quiet()
            (again,) = buttons(cards(slack, "C1")[-1])
    assert again["action_id"].endswith(":retry")
    assert "once more?" in words(again["confirm"])


async def test_a_rejection_carries_its_reason(shut_world: World, slack: FakeSlack) -> None:
    """The requester hears personally who said no, and why."""
    async with running_on_slack(shut_world, slack) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.answered(1)
        (card,) = cards(slack, "C1")
        await press(slack, "owner", card, "emergency", "C1")
        await slipway.until(lambda: _true(bool(slack.views)), "the form")
        await slack.submit(USERS["owner"], next(iter(slack.views.values())))
        await slipway.reaches(State.AWAITING_APPROVAL)
        (card,) = cards(slack, "C1")
        await press(slack, "releaser", card, "reject", "C1")
        await slipway.until(lambda: _true(len(slack.views) == 2), "the form")
        await slack.submit(USERS["releaser"], list(slack.views.values())[1], reason="not today")
        seen = await slipway.ends()
    assert seen.state is State.REJECTED
    (told,) = cards(slack, f"D{USERS['owner']}")
    assert "Releaser said no: not today" in words(told)
    assert shut_world.count("builds") == 0


async def test_repeats_do_one_thing(open_world: World, slack: FakeSlack) -> None:
    """Slack sends again what it thinks was lost: the same trigger and the same event id are the same wish."""
    async with running_on_slack(open_world, slack) as slipway:
        trigger = slack.trigger()
        for _ in range(3):
            assert (await slack.command(USERS["owner"], "/deploy app prod", trigger_id=trigger))[0] == 200
        event = {"type": "app_mention", "user": USERS["owner"], "text": "<@UBOT> status", "ts": "1.1", "channel": "C1"}
        for number in ("1", "2"):
            again = {"X-Slack-Retry-Num": number, "X-Slack-Retry-Reason": "http_timeout"}
            assert (await slack.event(event, "Ev9", extra=again))[0] == 200
        await slipway.answered(2)
        await slipway.ends()
        assert len([one for one in await slipway.audit() if one.action == "command"]) == 2
    assert open_world.count("builds") == 1


@pytest.mark.parametrize(
    "flags",
    [
        {"deleted": True},
        {"is_restricted": True},
        {"is_ultra_restricted": True},
        {"is_stranger": True},
        {"is_bot": True},
    ],
    ids=str,
)
async def test_leavers_guests_and_strangers_have_no_rights(
    open_world: World, slack: FakeSlack, flags: dict[str, Any]
) -> None:
    """Whoever has the right e-mail but is no full, active member is nobody here."""
    slack.user(USERS["owner"], **flags)
    async with running_on_slack(open_world, slack) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.answered(1)
        assert await slipway.get(1) is None
        (refused,) = await refusals(slipway, "command")
    assert refused.code == "unknown_caller"


async def test_another_organisation_in_a_shared_channel_has_no_rights(open_world: World, slack: FakeSlack) -> None:
    """A user id alone is not enough: the same id of another workspace is another person."""
    async with running_on_slack(open_world, slack) as slipway:
        await slack.mention(USERS["owner"], "<@UBOT> deploy app prod", user_team="T9999")
        await slipway.answered(1)
        assert await slipway.get(1) is None


async def test_a_deactivated_user_loses_rights_at_once(shut_world: World, slack: FakeSlack) -> None:
    """The event counts, not the next look-up; also for the vote of somebody asked before."""
    async with running_on_slack(shut_world, slack) as slipway:
        await slack.command(USERS["owner"], "/status")
        await slipway.answered(1)
        await slack.event({"type": "user_change", "user": slack.user(USERS["owner"], deleted=True)})
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.answered(2)
        assert await slipway.get(1) is None
        owner = slipway.app.catalog().people["owner"]
    assert not owner.active


async def test_forged_stale_and_odd_requests_change_nothing(open_world: World, slack: FakeSlack) -> None:
    """Nothing is parsed, stored or answered before the signature is right."""
    form = "application/x-www-form-urlencoded"
    async with running_on_slack(open_world, slack) as slipway:
        import time
        from urllib.parse import urlencode

        body = urlencode(slack.command_body(USERS["owner"], "/deploy app prod")).encode()
        assert (await slack.send(body, form, secret="wrong"))[0] == 401
        assert (await slack.send(body, form, at=time.time() - 301))[0] == 401
        assert (await slack.send(body, form, at=time.time() + 302))[0] == 401
        for stamp in ("", "abc", "1e9", "-5", "９" * 10, "1" * 400):
            odd = {"X-Slack-Request-Timestamp": stamp.encode("utf-8").decode("latin-1")}
            assert (await slack.send(body, form, extra=odd))[0] == 401
        assert (await slack.send(b"{", "application/json"))[0] == 400
        assert (await slack.send(b"[]", "application/json"))[0] == 400
        challenge = json.dumps({"type": "url_verification", "challenge": "abc", "token": "x"}).encode()
        assert await slack.send(challenge, "application/json") == (200, '{"challenge": "abc"}')
        assert [one for one in await slipway.audit() if one.subject != "catalog"] == []


async def test_the_word_payload_is_only_a_word(open_world: World, slack: FakeSlack) -> None:
    """Bolt's own parser takes such a command for a click and loses it."""
    async with running_on_slack(open_world, slack) as slipway:
        assert (await slack.command(USERS["owner"], "/status payload=app", user_name="payload"))[0] == 200
        await slipway.answered(1)


async def test_unknown_events_and_actions_are_acknowledged(open_world: World, slack: FakeSlack) -> None:
    """What nobody waits for must not look like an outage to Slack, or it switches our events off."""
    async with running_on_slack(open_world, slack, socket=True):
        await slack.event({"type": "channel_rename", "channel": {"id": "C1"}})
        for kind in ("shortcut", "view_closed", "block_suggestion", "message_action"):
            view = {"id": "V1", "type": "modal", "callback_id": "other", "private_metadata": ""}
            base = {"type": kind, "user": {"id": "U1"}, "team": {"id": "T0001"}, "callback_id": "x", "action_id": "y"}
            await slack.interact(base | {"view": view, "block_id": "b", "value": "", "trigger_id": "1"})
        await slack.interact(
            {
                "type": "block_actions",
                "user": {"id": "U1"},
                "team": {"id": "T0001"},
                "view": {"id": "V1", "type": "home"},
                "container": {"type": "view"},
                "actions": [{"action_id": "url", "block_id": "b", "type": "button"}],
            }
        )
    assert slack.unacknowledged == []


async def test_the_home_tab(shut_world: World, slack: FakeSlack) -> None:
    """What waits for me, what I own, what runs where; a guest sees nothing of it."""
    slack.user("UGUEST", email="developer@slipway.example", is_restricted=True)
    async with running_on_slack(shut_world, slack) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.answered(1)
        (card,) = cards(slack, "C1")
        await press(slack, "owner", card, "emergency", "C1")
        await slipway.until(lambda: _true(bool(slack.views)), "the form")
        await slack.submit(USERS["owner"], next(iter(slack.views.values())))
        await slipway.reaches(State.AWAITING_APPROVAL)
        for user in (USERS["lead"], USERS["owner"], "UGUEST"):
            await slack.event({"type": "app_home_opened", "user": user, "tab": "home", "channel": "D1"})
        await slipway.until(lambda: _true(len(slack.homes) == 3), "three tabs")
        assert "d-1: app" in words(slack.homes[USERS["lead"]]).split("On its way")[0]
        assert "app: dev –, prod –" in words(slack.homes[USERS["owner"]])
        assert "d-1: app" in words(slack.homes[USERS["owner"]]).split("On its way")[1]
        assert "I do not know you" in words(slack.homes["UGUEST"])
        (question,) = cards(slack, f"D{USERS['lead']}")
        await press(slack, "lead", question, "approve", f"D{USERS['lead']}")
        assert (await slipway.ends()).state is State.SUCCEEDED
        shut_world.write_root(channels={"slack": "C1"}, locale="zh-CN")
        await slipway.until(lambda: _true(slipway.app.catalog().locale == "zh-CN"), "the new catalog")
        slack.homes.clear()
        await slack.event({"type": "app_home_opened", "user": USERS["owner"], "tab": "home", "channel": "D1"})
        await slipway.until(lambda: _true(len(slack.homes) == 1), "the tab")
    mine = words(slack.homes[USERS["owner"]]).split("我的服务")[1]
    assert re.search("app: dev –, prod [0-9a-f]{12}", mine)


async def test_twenty_commands_at_one_post_a_second(open_world: World, tmp_path: Path) -> None:
    """At Slack's limit of a channel (ten times as fast here) all are answered, with hardly a refusal."""
    async with FakeSlack(speed=10) as slow:
        company(slow)
        async with running_on_slack(open_world, slow) as slipway:
            await asyncio.gather(*(slow.command(USERS["owner"], "/whoami") for _ in range(20)))
            await slipway.answered(20)
        assert len(slow.posts("C1")) == 20
        refused = [call for call in slow.calls if call.answer == "ratelimited"]
        assert len(refused) <= 3
        assert slow.count("chat.postMessage") <= 23


async def test_the_thread_holds_what_the_card_has_no_room_for(tmp_path: Path, slack: FakeSlack) -> None:
    """The channel's thread has the lines that matter, whole, and once; the requester's has the log."""
    world = make_world(tmp_path / "world", channels={"slack": "C1"})
    noise = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo \"error: $(printf 'x%.0s' $(seq 250)) $i\"; done"
    world.push(test=f"echo begin of the log; {noise}; exit 1")
    slack.fail("chat.update", lost=True)
    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.ends()
    (card,) = cards(slack, "C1")
    (told,) = cards(slack, f"D{USERS['owner']}")
    files = {one["channel"]: one for one in slack.files}
    assert len(slack.files) == len(files) == 2
    assert files["C1"]["thread_ts"] == card["ts"]
    assert files["C1"]["title"] == "d-1.txt"
    assert files["C1"]["content"].count(b"error: ") == 20
    assert b"begin of the log" not in files["C1"]["content"]
    assert files[f"D{USERS['owner']}"]["thread_ts"] == told["ts"]
    assert b"begin of the log" in files[f"D{USERS['owner']}"]["content"]


async def test_logs_brings_the_whole_log_as_a_file(tmp_path: Path, slack: FakeSlack) -> None:
    """Into the thread of the answer, as far as its reader may see it; the card has the end and a link."""
    world = make_world(tmp_path / "world", channels={"slack": "C1"})
    world.push(test="echo begin of the log; i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; done")

    async def sent() -> bool:
        return any("title" in one for one in slack.files)

    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/build app main")
        await slipway.ends()
        await slack.command(USERS["owner"], "/logs d-1 test")
        await slipway.until(sent, "the file")
    (file,) = slack.files
    assert (file["title"], file["channel"]) == ("d-1-test.log", "C1")
    assert file["content"].startswith(b"begin of the log\nline 1\n")
    assert file["content"].endswith(b"line 200\n")
    assert b"begin" not in str(slack.posts("C1")[-1]).encode()


async def _true(value: bool) -> bool:
    return value
