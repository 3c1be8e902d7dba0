"""The public address of Feishu: what is not genuine does nothing, what is not stored comes again, clicks come first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.app import Outside
from bot.errors import ProviderUnavailable
from tests.fakes.feishu import TOKEN, FakeFeishu, sealed
from tests.support.feishu import GROUP, USERS, company, running_on_feishu
from tests.support.running import POLL
from tests.support.world import World, make_world

STALE = {
    "operator": {"open_id": USERS["owner"]},
    "action": {"tag": "button", "value": {"do": "approve"}},
    "context": {"open_message_id": "om_none", "open_chat_id": GROUP},
}
"""A click on a card that is none of ours any more."""


@pytest.fixture
async def feishu() -> AsyncIterator[FakeFeishu]:
    async with FakeFeishu() as fake:
        company(fake)
        yield fake


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels={"feishu": GROUP})


async def test_what_is_not_genuine_changes_nothing(world: World, feishu: FakeFeishu) -> None:
    """Forged, old, in clear text, of another app, empty, huge: one answer for all, and nothing in the audit log."""
    async with running_on_feishu(world, feishu) as slipway:
        event = feishu.message(USERS["owner"], "/deploy app prod", GROUP)
        now = feishu.now()
        tries: list[dict[str, Any]] = [
            {"at": now, "sign": False},
            {"at": now, "clear": True},
            {"at": now, "key": "guess"},
            {"at": now - 9 * 3600},
            {"at": now + 3600},
        ]
        answers = [await feishu.raw(*sealed(event, **one)) for one in tries]
        other = feishu.event("im.message.receive_v1", event["event"], token="another")
        answers.append(await feishu.raw(*sealed(other, at=now)))
        answers.append(await feishu.raw(b"", {}))
        assert answers == [(401, {})] * len(answers)
        assert (await feishu.raw(b"x" * 1_100_000, {}))[0] == 413
        assert [one for one in await slipway.audit() if one.action == "command"] == []
    assert world.count("builds") == 0


async def test_the_challenge_is_answered(world: World, feishu: FakeFeishu) -> None:
    """Or Feishu's console does not save the address."""
    challenge = {"challenge": "c-1", "token": TOKEN, "type": "url_verification"}
    async with running_on_feishu(world, feishu):
        assert await feishu.raw(*sealed(challenge, at=feishu.now(), sign=False)) == (200, {"challenge": "c-1"})


async def test_what_cannot_be_stored_comes_again(world: World, feishu: FakeFeishu) -> None:
    """Answered 503, so that Feishu sends it again; then it is done, once."""
    async with running_on_feishu(world, feishu) as slipway:
        store = slipway.app.dispatcher.command

        async def broken(_incoming: object) -> bool:
            raise ProviderUnavailable("The database is away.")

        slipway.app.dispatcher.command = broken  # type: ignore[method-assign, assignment]
        event = feishu.message(USERS["owner"], "/deploy app prod", GROUP)
        assert (await feishu.deliver(event))[0] == 503
        slipway.app.dispatcher.command = store  # type: ignore[method-assign]
        assert (await feishu.deliver(event))[0] == 200
        assert (await feishu.deliver(event))[0] == 200
        await slipway.ends()
    assert world.count("deploys") == 1


async def test_a_storm_does_not_delay_a_click(world: World, feishu: FakeFeishu) -> None:
    """A click has three seconds, so it does not wait for the two hundred messages that came before it."""
    async with running_on_feishu(world, feishu, outside=Outside(poll=POLL)) as slipway:
        await slipway.type("owner", "/deploy app prod")
        await slipway.ends()
        storm = [
            asyncio.create_task(feishu.deliver(feishu.message(USERS["developer"], f"/why app prod # {n}", GROUP)))
            for n in range(200)
        ]
        await asyncio.sleep(0)
        status, said = await feishu.deliver(feishu.event("card.action.trigger", STALE))
        worked_off = await slipway.done()
        await asyncio.gather(*storm)

        async def all_done() -> bool:
            return await slipway.done() >= 202

        await slipway.until(all_done, "the storm to be worked off")
    assert (status, said["toast"]["type"]) == (200, "warning")
    assert worked_off < 190
