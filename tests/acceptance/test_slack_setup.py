"""Setting Slack up: what `slipway doctor` finds, how wrong tokens are told, and that the scopes are just enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.catalog.load import load_catalog
from bot.chat.slack_manifest import SCOPES
from bot.doctor import Finding, examine, said
from bot.errors import SlipwayError
from bot.settings import Settings, SettingsInvalid, read_settings
from notifiers.card import Card, Message
from tests.fakes.slack import FakeSlack, words
from tests.support.slack import USERS, running_on_slack, slack_settings
from tests.support.world import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels={"slack": "C1"})


async def problems(settings: Settings, world: World) -> list[Finding]:
    """What the doctor finds wrong."""
    found: list[Finding] = []
    count = await examine(settings, load_catalog(world.directory), found.append)
    wrong = [one for one in found if not one.good]
    assert len(wrong) == count
    return wrong


async def test_the_doctor_is_content_with_our_own_manifest(world: World, slack: FakeSlack) -> None:
    """Whoever followed the chapter reads nothing but good news."""
    assert await problems(slack_settings(world, slack), world) == []
    assert await problems(slack_settings(world, slack, socket=True), world) == []


async def test_the_doctor_says_what_to_click(world: World, slack: FakeSlack) -> None:
    """Scopes, channels and people, each with its remedy."""
    settings = slack_settings(world, slack)
    slack.scopes.discard("files:write")
    (finding,) = await problems(settings, world)
    assert "files:write (long logs as files)" in finding.text
    assert "slipway manifest slack" in finding.fix
    slack.scopes.add("files:write")
    slack.channel("C1", "releases", member=False)
    slack.users.pop(USERS["outsider"])
    people, channel = await problems(settings, world)
    assert "Outsider" in people.text
    assert channel.fix == "Type /invite @slipway there."
    slack.channel("C1", "releases", is_archived=True)
    assert "archived" in (await problems(settings, world))[-1].text


async def test_the_doctor_tries_the_tokens(world: World, slack: FakeSlack) -> None:
    """Each wrong one is named by its setting, and no value is shown."""
    slack.app_token = "xapp-another"
    (finding,) = await problems(slack_settings(world, slack, socket=True), world)
    assert "invalid_auth" in finding.text
    assert "connections:write" in finding.fix
    (finding,) = await problems(slack_settings(world, slack, more_tokens="xoxb-wrong"), world)
    assert "SLACK_MORE_BOT_TOKENS" in finding.fix
    slack.tokens = {}
    (finding,) = await problems(slack_settings(world, slack), world)
    assert "SLACK_BOT_TOKEN" in said(finding)
    assert "xoxb-" not in said(finding).replace("(xoxb-)", "")


async def test_the_doctor_looks_into_every_workspace(tmp_path: Path, slack: FakeSlack) -> None:
    """A channel of another workspace is looked for there."""
    world = make_world(tmp_path / "world", channels={"slack": "T2:#ops"})
    slack.workspace("xoxb-fake-2", "T2", "UBOT2")
    slack.channel("C9", "ops", team="T2")
    assert await problems(slack_settings(world, slack, more_tokens="xoxb-fake-2"), world) == []
    slack.channel("C9", "ops", team="T2", member=False)
    (finding,) = await problems(slack_settings(world, slack, more_tokens="xoxb-fake-2"), world)
    assert "#ops" in finding.text


async def test_the_doctor_looks_for_user_groups(tmp_path: Path, slack: FakeSlack) -> None:
    """A group that is not there owns nothing, silently; so it is told."""
    world = make_world(tmp_path / "world", channels={"slack": "C1"}, groups={"g": {"chats": {"slack": ["@pay", "S2"]}}})
    slack.group("S1", "pay", [])
    (finding,) = await problems(slack_settings(world, slack), world)
    assert "S2" in finding.text
    slack.scopes.discard("usergroups:read")
    scope, groups = await problems(slack_settings(world, slack), world)
    assert "usergroups:read" in scope.text
    assert "cannot be read" in groups.text


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"tokens": {}}, "SLACK_BOT_TOKEN"),
        ({"app_token": "xapp-another"}, "SLACK_APP_TOKEN"),
        ({}, "SLACK_MORE_BOT_TOKENS"),
    ],
    ids=["bot", "app", "more"],
)
async def test_a_wrong_token_is_told_at_start_by_name(
    world: World, slack: FakeSlack, change: dict[str, Any], setting: str
) -> None:
    """One sentence that names the setting, and never the value."""
    for name, value in change.items():
        setattr(slack, name, value)
    more = "xoxb-wrong" if setting == "SLACK_MORE_BOT_TOKENS" else ""
    with pytest.raises(SlipwayError, match=f"^{setting}: ") as told:
        async with running_on_slack(world, slack, socket=True, more_tokens=more):
            pass
    assert "wrong" not in str(told.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"SLACK_APP_TOKEN": "xapp-1"}, "SLACK_BOT_TOKEN is missing"),
        ({"SLACK_BOT_TOKEN": "xoxb-1"}, "SLACK_APP_TOKEN (Socket Mode) and SLACK_SIGNING_SECRET"),
        ({"SLACK_BOT_TOKEN": "xapp-1", "SLACK_SIGNING_SECRET": "x"}, "a bot token starts with xoxb-"),
        ({"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xoxb-1"}, "SLACK_APP_TOKEN: an app-level token starts"),
        ({"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_MORE_BOT_TOKENS": "abc", "SLACK_APP_TOKEN": "xapp-1"}, "MORE_BOT_TOKENS"),
        ({"SLACK_API_BASE_URL": "slack.com"}, "SLACK_API_BASE_URL"),
        ({"SLACK_API_BASE_URL": "https://"}, "SLACK_API_BASE_URL"),
        ({"SLACK_API_BASE_URL": "https://slack.com:secure/api/"}, "SLACK_API_BASE_URL"),
    ],
    ids=str,
)
def test_wrong_settings_are_named(given: dict[str, str], told: str) -> None:
    """Before anything is started, and without their values."""
    with pytest.raises(SettingsInvalid) as error:
        read_settings({"SLIPWAY_CONFIG": "."} | given)
    assert told in str(error.value)


def test_no_slack_is_fine() -> None:
    """Nothing of it is demanded where it is not used."""
    settings = read_settings({"SLIPWAY_CONFIG": "."})
    assert not settings.slack
    assert read_settings({"SLIPWAY_CONFIG": ".", "SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1"}).slack


async def test_every_scope_of_the_manifest_is_used(tmp_path: Path, slack: FakeSlack) -> None:
    """By calls really made: what is not granted fails in the first company, what is not used is a question there."""
    groups = {"payers": {"chats": {"slack": ["@payments"]}}}
    world = make_world(tmp_path / "world", channels={"slack": "#releases"}, groups=groups)
    slack.channel("C2", "private", is_private=True)
    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/whoami")
        await slack.mention(USERS["owner"], "<@UBOT> whoami", thread="1.1")
        await slack.write(USERS["owner"], "whoami")
        for event in ("subteam_members_changed", "subteam_updated", "subteam_created"):
            await slack.event({"type": event})
        await slack.event({"type": "user_change", "user": slack.users[USERS["owner"]]})
        await slipway.answered(3)
        client = slipway.app.slack.client if slipway.app.slack is not None else None
        assert client is not None
        since = slipway.app._clock()
        for place in ("#releases", "C2", f"@{USERS['lead']}"):
            assert await client.find(place, "no such key", "", since) is None
        await client.post("C1", Message("log", Card("log", excerpt="x" * 5_000)), "key")
    assert [one["thread_ts"] for one in slack.files] == [slack.posts("C1")[-1]["ts"]]
    assert "Owner" in words(slack.direct(USERS["owner"]))
    assert {call.answer for call in slack.calls} == {"ok"}
    assert slack.used_scopes == set(SCOPES)
