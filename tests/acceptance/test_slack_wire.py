"""Every shape that Slack's published samples have, with every field they can hold: all blank there, and here.

Source: slackapi/java-slack-sdk json-logs/samples/app-backend and events (field names).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from bot.store.database import Database, DatabaseUnavailable
from tests.acceptance.test_slack import cards, press
from tests.fakes.slack import TEAM, FakeSlack, words
from tests.support.running import POLL
from tests.support.slack import USERS, running_on_slack
from tests.support.world import World, make_world

FORM, JSON = "application/x-www-form-urlencoded", "application/json"

COMMAND = (
    *("token", "api_app_id", "team_id", "team_domain", "enterprise_id", "enterprise_name", "channel_id"),
    *("channel_name", "user_id", "user_name", "command", "text", "response_url", "trigger_id", "is_enterprise_install"),
)
TEXT = {"type": "plain_text", "text": "", "emoji": False}
CONFIRM = {"title": TEXT, "text": TEXT, "confirm": TEXT, "deny": TEXT, "style": ""}
BUTTON = {"type": "button", "text": TEXT, "action_id": "", "url": "", "value": "", "style": "", "confirm": CONFIRM}
COMMON: dict[str, Any] = {
    "enterprise": {"id": "", "name": ""},
    "team": {"id": "", "domain": "", "enterprise_id": "", "enterprise_name": ""},
    "user": {"id": "", "username": "", "name": "", "team_id": ""},
    "api_app_id": "",
    "token": "",
    "trigger_id": "",
    "is_enterprise_install": False,
    "bot_access_token": "",
    "function_data": {"execution_id": "", "function": {"callback_id": ""}, "inputs": {}},
    "interactivity": {"interactivity_pointer": "", "interactor": {"id": "", "secret": ""}},
}
VIEW: dict[str, Any] = dict.fromkeys(
    ("id", "team_id", "type", "private_metadata", "callback_id", "external_id", "hash", "root_view_id", "app_id"), ""
) | {"title": TEXT, "submit": TEXT, "close": TEXT, "blocks": [], "state": {"values": {}}, "previous_view_id": None}
CONTAINER = {"type": "", "message_ts": "", "attachment_id": 1, "channel_id": "", "view_id": "", "is_ephemeral": False}
INTERACTIONS: dict[str, dict[str, Any]] = {
    "block_actions": {
        "container": CONTAINER | {"is_app_unfurl": False, "app_unfurl_url": "", "thread_ts": ""},
        "channel": {"id": "", "name": ""},
        "message": {"type": "", "subtype": "", "ts": "", "text": "", "blocks": [{"type": "actions", "elements": []}]},
        "view": VIEW,
        "state": {"values": {}},
        "response_url": "",
        "actions": [BUTTON | {"block_id": "", "action_ts": ""}],
    },
    "view_submission": {"view": VIEW, "response_urls": []},
    "view_closed": {"view": VIEW, "is_cleared": False},
    "message_action": {"callback_id": "", "channel": {"id": "", "name": ""}, "message": {"ts": ""}, "message_ts": ""},
    "shortcut": {"callback_id": "", "action_ts": ""},
    "block_suggestion": {"action_id": "", "block_id": "", "value": "", "view": VIEW, "container": CONTAINER},
    "interactive_message": {"callback_id": "", "actions": [{"name": "", "type": "", "value": ""}], "attachment_id": ""},
    "dialog_submission": {"callback_id": "", "submission": {}, "state": "", "channel": {"id": "", "name": ""}},
    "something_new": {},
}
PROFILE = {"email": "", "display_name": "", "real_name": "", "bot_id": "", "guest_invited_by": "", "status_text": ""}
USER = {
    "id": "",
    "team_id": "",
    "name": "",
    "profile": PROFILE,
    "enterprise_user": {"id": "", "enterprise_id": "", "enterprise_name": "", "is_admin": False, "is_owner": False},
} | dict.fromkeys(("deleted", "is_restricted", "is_ultra_restricted", "is_bot", "is_stranger", "is_app_user"), False)
SUBTEAM = {"id": "", "team_id": "", "name": "", "handle": "", "date_delete": 12345, "users": [""], "user_count": 1}
MESSAGE = dict.fromkeys(("client_msg_id", "team", "channel", "user", "text", "ts", "thread_ts", "channel_type"), "")
BOT = {"bot_id": "", "bot_profile": {"id": "", "deleted": False, "name": "", "icons": {}}, "edited": {"user": ""}}
EVENTS: dict[str, dict[str, Any]] = {
    "app_mention": MESSAGE | BOT | {"subtype": "", "blocks": [], "attachments": [], "files": []},
    "message": MESSAGE | BOT | {"metadata": {"event_type": "", "event_payload": {}}, "parent_user_id": ""},
    "app_home_opened": {"user": "", "channel": "", "tab": "", "view": VIEW},
    "user_change": {"user": USER, "cache_ts": 123},
    "team_join": {"user": USER},
    "subteam_members_changed": {"subteam_id": "", "team_id": "", "added_users": [""], "removed_users": [""]},
    "subteam_updated": {"subteam": SUBTEAM},
    "subteam_created": {"subteam": SUBTEAM | {"date_delete": 0}},
    "channel_rename": {"channel": {"id": "", "name": "", "created": 123}},
    "something_new": {},
}
ENVELOPE: dict[str, Any] = {
    "token": "",
    "enterprise_id": "",
    "api_app_id": "",
    "type": "event_callback",
    "authed_users": [""],
    "authed_teams": [""],
    "is_ext_shared_channel": False,
    "event_id": "",
    "event_time": 123,
    "event_context": "",
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels={"slack": "C1"})


def of(team: str, value: Any) -> Any:
    """The sample as it would come from a workspace."""
    if isinstance(value, dict):
        known = {key: of(team, one) for key, one in value.items()}
        return {
            key: {**one, "id": team} if key == "team" and isinstance(one, dict) else one for key, one in known.items()
        }
    return value


@pytest.mark.parametrize("team", ["", TEAM], ids=["blank", "ours"])
async def test_every_published_shape_is_taken(world: World, slack: FakeSlack, team: str) -> None:
    """Blank, strange or new: each is answered 200, nothing is done, and Slipway goes on."""
    installed = {"team_id": team, "enterprise_id": "", "user_id": "", "is_bot": False, "is_enterprise_install": False}
    async with running_on_slack(world, slack) as slipway:
        for kind, fields in INTERACTIONS.items():
            payload = json.dumps(of(team, COMMON | fields) | {"type": kind})
            assert (await slack.send(urlencode({"payload": payload}).encode(), FORM))[0] == 200, kind
        for kind, fields in EVENTS.items():
            event = {"event": fields | {"type": kind, "event_ts": ""}, "team_id": team, "authorizations": [installed]}
            assert (await slack.send(json.dumps(ENVELOPE | event).encode(), JSON))[0] == 200, kind
        limited = {"type": "app_rate_limited", "token": "", "team_id": team, "minute_rate_limited": 1, "api_app_id": ""}
        assert (await slack.send(json.dumps(limited).encode(), JSON))[0] == 200
        await slipway.quiet()
        assert [one for one in await slipway.audit() if one.subject != "catalog"] == []
        blank = dict.fromkeys(COMMAND, "") | {"team_id": team}
        assert (await slack.send(urlencode(blank).encode(), FORM))[0] == 200
        await slack.command(USERS["owner"], "/whoami")
        await slipway.answered(2 if team else 1)
        assert await slipway.get(1) is None
    assert "Owner" in words(slack.posts("C1")[-1])


async def test_a_removed_app_is_told_by_readiness(world: World, slack: FakeSlack) -> None:
    """Uninstalled, or its tokens revoked: whoever runs Slipway sees it before the next deployment fails silently."""
    async with running_on_slack(world, slack) as slipway:
        await slipway.until(lambda: _ready(slipway, ""), "readiness")
        for event in ({"type": "tokens_revoked", "tokens": {"bot": ["UBOT"]}}, {"type": "app_uninstalled"}):
            await slack.event(event)
            await slipway.until(lambda: _ready(slipway, "app_uninstalled"), "readiness to say so")
            await slack.command(USERS["owner"], "/whoami")  # installed again: calls work
            await slipway.until(lambda: _ready(slipway, ""), "readiness")


class Full:
    """A database in front of which the disk is full for a while."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.full = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def together(self, work: Any) -> Any:
        if self.full:
            raise DatabaseUnavailable("The disk is full.")
        return await self._db.together(work)


async def test_what_cannot_be_stored_is_not_acknowledged(tmp_path: Path, slack: FakeSlack) -> None:
    """A command and a click say so to the person, for Slack sends them once; an event is sent again."""
    from bot.app import Outside

    world = make_world(tmp_path / "world", channels={"slack": "C1"})
    world.push(test="exit 1")
    disks: list[Full] = []

    def wrap(name: str, part: Any) -> Any:
        disks.extend([Full(part)] if name == "db" else [])
        return disks[0] if name == "db" else part

    async with running_on_slack(world, slack, outside=Outside(poll=POLL, wrap=wrap)) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.ends()
        (card,) = cards(slack, "C1")
        disks[0].full = True
        status, said = await slack.command(USERS["owner"], "/deploy app dev")
        assert (status, "nothing was done" in said) == (200, True)
        assert (await press(slack, "owner", card, "retry", "C1"))[0] == 503
        event = {"type": "app_mention", "user": USERS["owner"], "text": "<@UBOT> whoami", "ts": "1.1", "channel": "C1"}
        assert (await slack.event(event, "Ev1"))[0] == 503
        disks[0].full = False
        assert (await slack.event(event, "Ev1"))[0] == 200
        await slipway.answered(2)
        assert await slipway.get(2) is None


async def test_the_same_bytes_again_do_nothing(world: World, slack: FakeSlack) -> None:
    """A captured request is genuine for five minutes."""
    body = urlencode(slack.command_body(USERS["owner"], "/deploy app prod")).encode()
    async with running_on_slack(world, slack) as slipway:
        for _ in range(3):
            assert (await slack.send(body, FORM))[0] == 200
        await slipway.ends()
        assert len([one for one in await slipway.audit() if one.action == "command"]) == 1
    assert world.count("builds") == 1


async def _ready(slipway: Any, why: str) -> bool:
    missing = (await slipway.app.readiness()).get("slack", "")
    return why in missing if why else not missing
