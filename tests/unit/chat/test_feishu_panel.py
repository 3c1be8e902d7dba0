"""The panel of commands has ours, in both languages, without touching what others put there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from bot.app import COMMANDS
from bot.chat.feishu_panel import SCOPES, update_panel
from notifiers.feishu_api import FeishuApi
from tests.fakes.feishu import APP_ID, APP_SECRET, FakeFeishu

OURS = [(one.name, one.summary) for one in COMMANDS]


@pytest.fixture
async def feishu() -> AsyncIterator[FakeFeishu]:
    async with FakeFeishu() as fake:
        yield fake


@pytest.fixture
async def api(feishu: FakeFeishu) -> AsyncIterator[FeishuApi]:
    made = FeishuApi(APP_ID, SecretStr(APP_SECRET), feishu.url, timeout=2)
    yield made
    await made.close()


async def test_the_panel_gets_what_is_missing(feishu: FakeFeishu, api: FeishuApi) -> None:
    """A second start changes nothing; a changed summary is corrected; what is not ours stays."""
    theirs = {"command_id": "x", "command": "weather", "description": {"default_value": "Weather"}}
    feishu.slash_commands.append(theirs)
    assert await update_panel(api, OURS) == len(OURS)
    assert await update_panel(api, OURS) == 0
    shown = {one["command"]: one["description"] for one in feishu.slash_commands}
    assert set(shown) == {"weather", *(name for name, _ in OURS)}
    assert shown["deploy"]["i18n"]["zh_cn"] != shown["deploy"]["i18n"]["en_us"]
    assert await update_panel(api, [("deploy", "Ship a release"), *OURS[1:]]) == 1
    assert next(one for one in feishu.slash_commands if one["command"] == "deploy")["description"]["default_value"] == (
        "Ship a release"
    )
    assert theirs in feishu.slash_commands


@pytest.mark.parametrize("scope", SCOPES)
async def test_without_the_scopes_nothing_is_tried(feishu: FakeFeishu, api: FeishuApi, scope: str) -> None:
    """The panel is optional: a refused call would look as if the app were broken."""
    feishu.granted.remove(scope)
    assert await update_panel(api, OURS) == 0
    assert feishu.slash_commands == []
    assert api.refused == ""


async def test_a_name_that_is_taken_stops_nothing(feishu: FakeFeishu, api: FeishuApi) -> None:
    """Two replicas start at once: each adds what the other has not."""
    feishu.fail("POST /open-apis/application/v7/app_slash_commands", code=40000000)
    assert await update_panel(api, OURS) == len(OURS) - 1
