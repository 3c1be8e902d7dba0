"""One company in Slack and Feishu at once: one deployment, one vote per human, and cards that agree within 2 s."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bot.app import App, Outside
from bot.deployments.model import State
from notifiers import outbox
from tests.acceptance.conftest import closed_window, emergency
from tests.fakes import slack as fake_slack
from tests.fakes.feishu import FakeFeishu
from tests.fakes.slack import FakeSlack
from tests.support import feishu as feishu_support
from tests.support import slack as slack_support
from tests.support.feishu import GROUP, FeishuRunning, feishu_settings
from tests.support.running import POLL
from tests.support.slack import serving
from tests.support.world import World, make_world


@dataclass
class Both(FeishuRunning):
    """Hands on both chats."""

    slack: FakeSlack = None  # type: ignore[assignment]

    async def press_in_slack(self, person: str, button: str) -> None:
        """Press a button of the deployment's card in the channel."""
        before = await self.done()
        card = self.slack_card()
        name = next(one["action_id"] for one in fake_slack.buttons(card) if one["action_id"].endswith(f":{button}"))
        assert (await self.slack.click(slack_support.USERS[person], "C1", card["ts"], name))[0] == 200
        await self.answered(before + 1)

    def slack_card(self) -> dict[str, Any]:
        """The deployment's card in the Slack channel."""
        found = [one for one in self.slack.posts("C1") if "header" in [block["type"] for block in one["blocks"]]]
        assert len(found) == 1
        return dict(found[0])

    def slack_buttons(self) -> list[str]:
        """What can be pressed there."""
        return [str(one["action_id"]).partition(":")[2] for one in fake_slack.buttons(self.slack_card())]


@pytest.fixture
async def feishu() -> AsyncIterator[FakeFeishu]:
    async with FakeFeishu() as fake:
        feishu_support.company(fake)
        yield fake


@asynccontextmanager
async def both(world: World, slack: FakeSlack, feishu: FakeFeishu) -> AsyncIterator[Both]:
    settings = feishu_settings(
        world,
        feishu,
        slack_bot_token=SecretStr(fake_slack.BOT_TOKEN),
        slack_signing_secret=SecretStr(fake_slack.SECRET),
        slack_api_base_url=slack.base_url,
    )
    app = App(settings, Outside(poll=POLL))
    await app.start()
    try:
        async with serving(app) as url:
            slack.app_url = feishu.app_url = url
            yield Both(app, feishu=feishu, slack=slack)
    finally:
        await app.runs.stop_all()
        await app.stop()


def shut(tmp_path: Path, approvals: int) -> World:
    channels = {"slack": "C1", "feishu": GROUP}
    return make_world(
        tmp_path / "world", channels=channels, windows=[closed_window()], emergency=[emergency(approvals)]
    )


async def test_one_human_votes_once(tmp_path: Path, slack: FakeSlack, feishu: FakeFeishu) -> None:
    """Two accounts are one person: the second vote is told so, and a second person is still needed."""
    async with both(shut(tmp_path, approvals=2), slack, feishu) as slipway:
        await slipway.type("owner", "/deploy app prod")
        await slipway.press("owner", slipway.card(), "emergency", reason="now")
        await slipway.reaches(State.AWAITING_APPROVAL)
        assert (await slipway.press("lead", slipway.card(), "approve"))["type"] == "success"
        await slipway.press_in_slack("lead", "approve")
        seen = await slipway.get(1)
        assert seen is not None
        assert seen.state is State.AWAITING_APPROVAL
        await slipway.press_in_slack("releaser", "approve")
        seen = await slipway.ends()
    assert seen.state is State.SUCCEEDED


@pytest.mark.parametrize("where", ["feishu", "slack"])
async def test_a_decision_in_one_changes_the_other(
    tmp_path: Path, slack: FakeSlack, feishu: FakeFeishu, where: str
) -> None:
    """At once, long before anybody would look by himself, nobody is asked any more what is decided already."""
    async with both(shut(tmp_path, approvals=1), slack, feishu) as slipway:
        await slipway.type("owner", "/deploy app prod")
        await slipway.press("owner", slipway.card(), "emergency", reason="now")
        await slipway.reaches(State.AWAITING_APPROVAL)
        assert "approve" in slipway.slack_buttons()
        began = time.monotonic()
        if where == "feishu":
            await slipway.press("lead", slipway.card(), "approve")
        else:
            await slipway.press_in_slack("lead", "approve")

        async def agree() -> bool:
            return "approve" not in slipway.slack_buttons() + slipway.card().buttons()

        await slipway.until(agree, "both cards to change")
        took = time.monotonic() - began
        await slipway.ends()
    assert took < outbox.POLL / 2
    assert slipway.card().content["header"]["template"] == "green"
