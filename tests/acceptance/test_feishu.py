"""Everything that works in the console works in Feishu: real wire, a Feishu on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.deployments.model import State
from tests.acceptance.conftest import closed_window, emergency
from tests.fakes.feishu import FakeFeishu
from tests.support.feishu import GROUP, USERS, company, running_on_feishu
from tests.support.world import World, make_world

CHANNELS = {"console": "#releases", "feishu": GROUP}


@pytest.fixture
async def feishu() -> AsyncIterator[FakeFeishu]:
    async with FakeFeishu() as fake:
        company(fake)
        yield fake


@pytest.fixture
def open_world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels=CHANNELS)


@pytest.fixture
def closed_world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels=CHANNELS, windows=[closed_window()], emergency=[emergency()])


@pytest.mark.parametrize("socket", [False, True], ids=["webhook", "long connection"])
async def test_deploying_from_a_group(open_world: World, feishu: FakeFeishu, socket: bool) -> None:
    """The main job: one command with @, one live card that ends with what runs; over both ways in."""
    async with running_on_feishu(open_world, feishu, socket=socket) as slipway:
        await slipway.type("owner", "/deploy app prod")
        seen = await slipway.ends()
        card = slipway.card()
    assert seen.state is State.SUCCEEDED
    assert card.content["header"]["template"] == "green"
    assert "100 %" in card.words
    assert card.edits > 0
    assert card.reply_to.startswith("om_u")
    assert open_world.count("deploys") == 1


@pytest.mark.parametrize("socket", [False, True], ids=["webhook", "long connection"])
async def test_an_emergency_is_decided_with_buttons(closed_world: World, feishu: FakeFeishu, socket: bool) -> None:
    """Asked with a form, sent to those who may decide, decided by a click; every copy of the card changes."""
    async with running_on_feishu(closed_world, feishu, socket=socket) as slipway:
        await slipway.type("owner", "/deploy app prod")
        refused = slipway.card()
        assert refused.buttons() == ["emergency"]
        toast = await slipway.press("owner", refused, "emergency", reason="checkout is down")
        assert toast["type"] == "success"
        await slipway.quiet()
        (asked,) = feishu.in_place(f"@{USERS['lead']}")
        assert "checkout is down" in asked.words
        own = await slipway.press("owner", slipway.card(), "approve")
        assert own["type"] == "warning"
        assert own["content"]
        assert (await slipway.press("lead", asked, "approve"))["type"] == "success"
        seen = await slipway.ends()
        (other,) = feishu.in_place(f"@{USERS['releaser']}")
    assert seen.state is State.SUCCEEDED
    assert "approve" not in asked.buttons()
    assert "approve" not in other.buttons()


async def test_a_topic_is_answered_in_the_topic(open_world: World, feishu: FakeFeishu) -> None:
    """A group of topics is unreadable when answers stand beside them."""
    async with running_on_feishu(open_world, feishu) as slipway:
        await feishu.deliver(feishu.message(USERS["owner"], "/whoami", GROUP, thread_id="omt_1"))
        await feishu.deliver(feishu.message(USERS["owner"], "/whoami", GROUP))
        await slipway.answered(2)
    assert sorted(one.in_thread for one in feishu.in_place(GROUP)) == [False, True]
    assert all(one.reply_to.startswith("om_u") for one in feishu.in_place(GROUP))


async def test_a_repeat_six_hours_later_does_nothing(open_world: World, feishu: FakeFeishu) -> None:
    """Feishu sends what it believes unanswered again, the last time after six hours, signed then or now."""
    async with running_on_feishu(open_world, feishu) as slipway:
        event = feishu.message(USERS["owner"], "/deploy app prod", GROUP)
        assert await feishu.deliver(event) == (200, {})
        await slipway.ends()
        again = {**event, "header": {**event["header"], "event_id": "another"}}
        for at in (feishu.now(), feishu.now() - 6 * 3600):
            assert await feishu.deliver(again, at=at) == (200, {})
        await slipway.quiet()
        entries = await slipway.audit()
    assert sum(one.action == "command" for one in entries) == 1
    assert open_world.count("deploys") == 1


async def test_strangers_and_outsiders_get_nothing(open_world: World, feishu: FakeFeishu) -> None:
    """Somebody of another company in a shared group, and somebody nobody wrote down."""
    feishu.user("ou_nobody", email="nobody@elsewhere.example")
    async with running_on_feishu(open_world, feishu) as slipway:
        await feishu.deliver(feishu.message("ou_nobody", "/deploy app prod", GROUP))
        foreign = feishu.message(USERS["owner"], "/deploy app prod", GROUP)
        foreign["event"]["sender"]["tenant_key"] = "another"
        await feishu.deliver(foreign)
        await slipway.answered(2)
        entries = await slipway.audit()
    assert [one.outcome for one in entries if one.action == "command"] == ["refused", "refused"]
    assert open_world.count("builds") == 0


async def test_a_department_owns(open_world: World, feishu: FakeFeishu) -> None:
    """Whoever is in the department that the catalog names may deploy, and may not from the event that moves them."""
    feishu.departments = {"od-shop": "0", "od-hr": "0"}
    feishu.users[USERS["outsider"]]["departments"] = ["od-shop"]
    open_world.write_root(
        channels=CHANNELS,
        groups={"shop-people": {"chats": {"feishu": "od-shop"}}},
        teams={"shop": {"leads": ["lead", "shop-people"], "members": ["developer"]}},
    )
    async with running_on_feishu(open_world, feishu) as slipway:

        async def read() -> bool:
            return "outsider" in slipway.app.catalog().teams["shop"].leads

        await slipway.until(read, "the department to be read")
        await slipway.type("outsider", "/deploy app prod")
        assert (await slipway.ends()).state is State.SUCCEEDED
        feishu.users[USERS["outsider"]]["departments"] = ["od-hr"]
        moved = {"object": {"open_id": USERS["outsider"]}}
        await feishu.deliver(feishu.event("contact.user.updated_v3", moved))
        await slipway.type("outsider", "/rollback app prod")
        newest = (await slipway.audit())[-1]
    assert (newest.action, newest.outcome) == ("command", "refused")


async def test_everybody_reads_their_language(closed_world: World, feishu: FakeFeishu) -> None:
    """Chinese in the group, English for somebody whose locale says so, each with the clock of their zone."""
    people = {name: {"name": name.title(), "email": f"{name}@slipway.example"} for name in USERS}
    people["lead"] |= {"locale": "en", "zone": "Europe/Berlin"}
    closed_world.write_root(channels=CHANNELS, windows=[closed_window()], emergency=[emergency()], people=people)
    async with running_on_feishu(closed_world, feishu) as slipway:
        await slipway.type("owner", "/发布 app prod")
        card = slipway.card()
        assert "现在不允许发布到 prod" in card.words
        assert "申请紧急审批" in card.words
        await slipway.press("owner", card, "emergency", reason="Deploy again")
        await slipway.quiet()
        (english,) = feishu.in_place(f"@{USERS['lead']}")
        (chinese,) = feishu.in_place(f"@{USERS['releaser']}")
        toast = await slipway.press("owner", slipway.card(), "approve")
    assert "asks you to let" in english.words
    assert "Europe/Berlin" in english.words
    assert "请你批准" in chinese.words
    assert "Deploy again" in chinese.words
    assert set(toast["i18n"]) == {"zh_cn", "en_us"}
    assert toast["i18n"]["zh_cn"] != toast["i18n"]["en_us"]
