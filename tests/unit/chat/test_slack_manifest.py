"""The manifest grants exactly what is used."""

from __future__ import annotations

import re
from pathlib import Path

from bot.app import COMMANDS
from bot.chat.slack_manifest import EVENTS, METHODS, SCOPES, manifest

ROOT = Path(__file__).parents[3]
SOURCES = [*ROOT.glob("bot/chat/slack*.py"), *ROOT.glob("notifiers/slack*.py")]
METHOD = re.compile(r'"((?:auth|chat|conversations|files|users|usergroups|views)\.[a-z]+(?:[A-Z][A-Za-z]+)?)"')


def test_every_method_we_call_is_listed() -> None:
    """A call nobody granted fails in the first company that installs us."""
    called = {name for path in SOURCES if path.name != "slack_manifest.py" for name in METHOD.findall(path.read_text())}
    # What the manifest may list beyond our literal calls is nothing but these, which the tab of the app will use.
    assert called <= set(METHODS)
    assert set(METHODS) - called <= {"conversations.info", "views.publish"}


def test_scopes_are_exactly_those_used() -> None:
    """Too few break it; too many are what a careful administrator refuses."""
    needed = {scope for scopes in (*METHODS.values(), *EVENTS.values()) for scope in scopes} | {"commands"}
    assert needed == set(SCOPES)


def test_the_manifest_is_within_slacks_limits() -> None:
    """Slack refuses a manifest as a whole."""
    commands = [(one.name, one.summary, one.example) for one in COMMANDS]
    for url in ("", "https://slipway.example/slack/events"):
        made = manifest(commands, url)
        slashes = made["features"]["slash_commands"]
        assert len(slashes) <= 50
        assert all(len(one["command"]) <= 32 and one["should_escape"] for one in slashes)
        assert made["settings"]["socket_mode_enabled"] is (url == "")
        assert ("request_url" in made["settings"]["event_subscriptions"]) is (url != "")
