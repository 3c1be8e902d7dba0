"""What Slack sends, trap by trap; inputs are the published vector and payloads shaped as Slack's own samples."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.chat import slack_wire as wire

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
STAMP = "1531420618"
BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


def test_the_published_vector() -> None:
    """Slack's own example, so that agreeing with our fake is not agreeing with ourselves."""
    assert wire.is_genuine(SECRET, STAMP, SIGNATURE, BODY, float(STAMP))
    assert not wire.is_genuine(SECRET, STAMP, SIGNATURE, BODY + b" ", float(STAMP))
    assert not wire.is_genuine(SECRET, STAMP, SIGNATURE, BODY, float(STAMP) + 301)
    assert not wire.is_genuine(SECRET, STAMP, SIGNATURE, BODY, float(STAMP) - 301)
    assert wire.is_genuine(SECRET, STAMP, SIGNATURE, BODY, float(STAMP) + 300)


@given(st.text(max_size=30), st.text(max_size=80), st.binary(max_size=200))
def test_nothing_unsigned_passes_and_nothing_raises(stamp: str, signature: str, body: bytes) -> None:
    """Whatever comes in the headers: a plain no, never an exception that would look like an outage."""
    assert not wire.is_genuine(SECRET, stamp, signature, body, 1531420618.0)


@given(st.binary(max_size=300), st.sampled_from(["application/json", "application/x-www-form-urlencoded", ""]))
def test_any_body_is_read_or_refused(body: bytes, content_type: str) -> None:
    """Only `Unreadable` ever comes out."""
    with contextlib.suppress(wire.Unreadable):
        assert isinstance(wire.read_body(content_type, body), dict)


def test_only_a_field_named_payload_is_a_click() -> None:
    """The word inside a command is text; Bolt's parser takes it for a click."""
    form = "application/x-www-form-urlencoded; charset=utf-8"
    assert wire.read_body(form, b"command=%2Frelease&text=ship+payload-api")["text"] == "ship payload-api"
    assert wire.read_body(form, b"command=%2Frelease&payload=1&text=x")["text"] == "x"
    assert wire.read_body(form, b"payload=%7B%22type%22%3A%22block_actions%22%7D") == {"type": "block_actions"}


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("deploy <@U1|ann> now", "deploy @U1 now"),
        ("in <#C1|releases>", "in #C1"),
        ("in <#C1>", "in #C1"),
        ("see <https://x.example/a|x.example/a>", "see x.example/a"),
        ("see <https://x.example/a>", "see https://x.example/a"),
        ("<!here> a &lt;b&gt; &amp;amp;", "@here a <b> &amp;"),
        ("--reason “it’s down”", '--reason "it\'s down"'),
        ("<!subteam^S1|@team>", "@subteam"),
    ],
)
def test_what_was_typed_is_what_is_read(typed: str, read: str) -> None:
    """Slack rewrites what people type; commands must see their words, and each escape undone once only."""
    assert wire.plain_text(typed) == read


def test_a_mention_may_stand_anywhere() -> None:
    """People write the name first, last, or twice."""
    assert wire.mention_text("<@UBOT> deploy pay prod", "UBOT") == "deploy pay prod"
    assert wire.mention_text("hey <@UBOT|slipway>: status", "UBOT") == "status"
    assert wire.mention_text("status <@UBOT>", "UBOT") == "status"
    assert wire.mention_text("<@U9> <@UBOT> status <@U9>", "UBOT") == "status @U9"
    assert wire.mention_text("<@UBOT>", "UBOT") == "help"


def test_ids_of_other_workspaces_are_other_people() -> None:
    """The same user id elsewhere is somebody else."""
    assert wire.account(wire.Actor("T1", "U1"), "T1") == "U1"
    assert wire.account(wire.Actor("T2", "U1"), "T1") == "T2:U1"
    assert wire.account(wire.Actor("T1", "U1", home="T9"), "T1") == "T9:U1"


def test_long_keys_fit_the_table() -> None:
    """An event id from outside may have any length; two long ones stay two."""
    one, two = wire.event_id("event", "a" * 5000), wire.event_id("event", "a" * 5001)
    assert one != two
    assert max(len(one), len(two)) < 255


def test_a_click_with_a_broken_value_is_no_crash() -> None:
    """Old messages carry old buttons."""
    body = {
        "actions": [{"action_id": "do:cancel", "value": "{not json", "action_ts": "1.1"}],
        "channel": {"id": "C1"},
        "container": {"message_ts": "1.0"},
        "user": {"id": "U1"},
    }
    pressed = wire.press(body, "T1")
    assert pressed is not None
    assert (pressed.button, pressed.deployment) == ("cancel", "")
    assert wire.press({"actions": []}, "T1") is None
    assert wire.press(json.loads('{"actions":[{"action_id":"other"}],"channel":{"id":"C1"}}'), "T1") is None
