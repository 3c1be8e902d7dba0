"""The app manifest: exactly the scopes and events that are used, each with its reason.

Source: docs.slack.dev "App manifest reference", schema 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SCOPES: Mapping[str, str] = {
    "app_mentions:read": "commands to the bot by name, also in threads",
    "channels:history": "find a message again whose posting was not answered",
    "channels:read": "know channels by name, and whether the bot is in them",
    "chat:write": "post and edit cards",
    "commands": "slash commands",
    "files:write": "long logs as files",
    "groups:history": "as channels:history, in private channels",
    "groups:read": "as channels:read, for private channels",
    "im:history": "commands in the personal chat",
    "im:write": "open the personal chat",
    "usergroups:read": "user groups as owners and approvers",
    "users:read": "who has left, who is a guest",
    "users:read.email": "find people of the catalog by e-mail",
}
"""Bot scopes and what each is for."""

METHODS: Mapping[str, tuple[str, ...]] = {
    "auth.test": (),
    "chat.postEphemeral": ("chat:write",),
    "chat.postMessage": ("chat:write",),
    "chat.update": ("chat:write",),
    "conversations.history": ("channels:history", "groups:history", "im:history"),
    "conversations.info": ("channels:read", "groups:read"),
    "conversations.list": ("channels:read", "groups:read"),
    "conversations.open": ("im:write",),
    "conversations.replies": ("channels:history", "groups:history", "im:history"),
    "files.completeUploadExternal": ("files:write",),
    "files.getUploadURLExternal": ("files:write",),
    "usergroups.list": ("usergroups:read",),
    "users.info": ("users:read", "users:read.email"),
    "users.list": ("users:read", "users:read.email"),
    "views.open": (),
    "views.publish": (),
}
"""Methods of the Web API we call, and the bot scopes each needs."""

EVENTS: Mapping[str, tuple[str, ...]] = {
    "app_home_opened": (),
    "app_mention": ("app_mentions:read",),
    "app_uninstalled": (),
    "message.im": ("im:history",),
    "subteam_created": ("usergroups:read",),
    "subteam_members_changed": ("usergroups:read",),
    "subteam_updated": ("usergroups:read",),
    "team_join": ("users:read",),
    "tokens_revoked": (),
    "user_change": ("users:read",),
}
"""Events we subscribe to, and the scope each needs."""

MAX_COMMANDS = 50


def manifest(commands: Sequence[tuple[str, str, str]], request_url: str = "") -> dict[str, Any]:
    """The manifest as plain data. commands: (name, summary, hint); request_url: empty for Socket Mode.

    request_url: the public address of `/slack/events`.
    """
    there = {"request_url": request_url} if request_url else {}
    slashes = [_slash(name, summary, hint, request_url) for name, summary, hint in commands[: MAX_COMMANDS - 1]]
    own = _slash("slipway", "Everything Slipway can do", "help", request_url)
    return {
        "_metadata": {"major_version": 2, "minor_version": 1},
        "display_information": {"name": "Slipway", "description": "Release from your chat, by your rules."},
        "features": {
            "app_home": {
                "home_tab_enabled": True,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": False,
            },
            "bot_user": {"display_name": "slipway", "always_online": True},
            "slash_commands": [own, *slashes],
        },
        "oauth_config": {"scopes": {"bot": sorted(SCOPES)}},
        "settings": {
            "event_subscriptions": {"bot_events": sorted(EVENTS), **there},
            "interactivity": {"is_enabled": True, **there},
            "org_deploy_enabled": False,
            "socket_mode_enabled": not request_url,
            "token_rotation_enabled": False,
        },
    }


def _slash(name: str, summary: str, hint: str, request_url: str) -> dict[str, Any]:
    there = {"url": request_url} if request_url else {}
    made = {"command": f"/{name}"[:32], "description": summary[:2_000], "should_escape": True, **there}
    return made | ({"usage_hint": hint[:1_000]} if hint else {})
