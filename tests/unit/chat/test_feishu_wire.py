"""What Feishu sends is believed only when it is encrypted, signed, recent and ours; and it is read without guessing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bot.chat import feishu_wire as wire
from bot.chat.lark_parts import cipher_class
from tests.fakes.feishu import BOT, ENCRYPT_KEY, TOKEN, FakeFeishu, sealed

KEYS = wire.Keys(ENCRYPT_KEY, TOKEN)
NOW = 1_700_000_000.0


def opened(body: bytes, headers: dict[str, str], now: float = NOW) -> dict[str, Any]:
    return wire.open_event({name.lower(): value for name, value in headers.items()}, body, KEYS, now)


def test_the_published_vector_of_the_cipher() -> None:
    """The platform's own example: whoever reads it wrong reads nothing."""
    text = "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk="
    assert cipher_class()("test key").decrypt_str(text) == "hello world"


def test_the_signature_is_over_the_bytes_as_they_came() -> None:
    """A hash of timestamp, nonce, key and body; the value was computed apart from this code."""
    expected = "1fe823fdd1ae47acc3611824d5f5eb3cd6cd9c2d5ee14b31c8a4840f49b37537"
    assert wire.signature("1700000000", "n1", "k1", b'{"a":1}') == expected


def test_a_genuine_event_opens() -> None:
    """The way in."""
    event = FakeFeishu().event("im.message.receive_v1", {"x": 1})
    assert opened(*sealed(event, at=NOW)) == event


def test_lark_oapi_accepts_what_the_fake_sends() -> None:
    """The fake signs and encrypts as the platform does: judged by code that nobody here wrote."""
    body, headers = sealed(FakeFeishu().event("im.message.receive_v1", {"sender": {}, "message": {}}), at=NOW)
    script = f"""
import lark_oapi as lark
from lark_oapi.core.model import RawRequest
seen = []
handler = lark.EventDispatcherHandler.builder({ENCRYPT_KEY!r}, {TOKEN!r})
handler = handler.register_p2_im_message_receive_v1(seen.append).build()
request = RawRequest()
request.uri, request.body, request.headers = "/", {body!r}, {headers!r}
print(handler.do(request).status_code, len(seen))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["200", "1"], done.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sign": False}, "signature"),
        ({"key": "another-key"}, "encryption"),
        ({"clear": True}, "encryption"),
        ({"at": NOW - wire.MAX_AGE - 1}, "age"),
        ({"at": NOW + wire.MAX_AHEAD + 1}, "age"),
    ],
)
def test_forged_old_and_clear_events_are_refused(change: dict[str, Any], reason: str) -> None:
    """Each is what somebody without the keys, or with an old recording, can send."""
    event = FakeFeishu().event("im.message.receive_v1", {})
    with pytest.raises(wire.NotGenuine, match=reason):
        opened(*sealed(event, **({"at": NOW} | change)))


def test_an_event_of_another_app_is_refused() -> None:
    """Encrypted under our key, yet with another token: not from our console."""
    event = FakeFeishu().event("im.message.receive_v1", {}, token="another")
    with pytest.raises(wire.NotGenuine, match="token"):
        opened(*sealed(event, at=NOW))


@pytest.mark.parametrize("stamp", ["", "abc", "１７００００００００", "-1", "9" * 30])
def test_a_timestamp_that_is_no_number_is_refused(stamp: str) -> None:
    """A refusal, not a crash: a 500 would make the platform send it again for hours."""
    body, headers = sealed(FakeFeishu().event("x", {}), at=NOW)
    with pytest.raises(wire.NotGenuine):
        opened(body, {**headers, "X-Lark-Request-Timestamp": stamp})


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b'{"encrypt": 7}', b'{"encrypt": "AAAA"}', b"[" * 5000])
def test_a_body_that_is_nothing_is_refused(body: bytes) -> None:
    """Whatever arrives at a public address."""
    with pytest.raises(wire.NotGenuine):
        opened(body, {})


def test_a_changed_byte_is_seen() -> None:
    """The signature covers the body."""
    body, headers = sealed(FakeFeishu().event("x", {}), at=NOW)
    with pytest.raises(wire.NotGenuine):
        opened(body + b" ", headers)


def test_the_challenge_comes_unsigned_and_must_know_the_token() -> None:
    """Setting the address up is the one thing that is not signed."""
    challenge = {"challenge": "c", "token": TOKEN, "type": "url_verification"}
    assert opened(*sealed(challenge, at=NOW, sign=False))["challenge"] == "c"
    with pytest.raises(wire.NotGenuine):
        opened(*sealed({**challenge, "token": "guess"}, at=NOW, sign=False))


# -- messages --------------------------------------------------------------------------------------------------------


def said(text: str, chat: str = "oc_1", **more: Any) -> Any:
    return wire.command(FakeFeishu().message("ou_1", text, chat, **more), BOT)


def test_a_message_becomes_a_command() -> None:
    """Recognised again by its message id: the docs say that the event id of a repeat may differ."""
    event = FakeFeishu().message("ou_1", "/deploy pay prod", "oc_1")
    command = wire.command(event, BOT)
    assert command is not None
    assert (command.text, command.user_id, command.place, command.personal) == (
        "/deploy pay prod",
        "ou_1",
        "oc_1",
        False,
    )
    assert command.event_id == f"message:{event['event']['message']['message_id']}"
    assert said("/status", "").personal


def test_mentions_are_whole_words() -> None:
    """`@_user_1` is the start of `@_user_10`: a plain replacement would name somebody else."""
    mentions = [{"key": f"@_user_{n}", "id": {"open_id": f"ou_{n}"}} for n in range(2, 11)]
    mentions.append({"key": "@_user_1", "id": {"open_id": BOT}})
    content = json.dumps({"text": "hey @_user_1 lock pay for @_user_10 and @_all"})
    assert said("", content=content, mentions=mentions).text == "lock pay for @ou_10 and @all"


def test_a_post_is_read_line_by_line() -> None:
    """Rich text is what people paste."""
    content = {"title": "", "content": [[{"tag": "at", "user_id": "@_user_1"}, {"tag": "text", "text": " /why pay"}]]}
    assert said("", message_type="post", content=json.dumps(content)).text == "/why pay"


@pytest.mark.parametrize(
    "more",
    [
        {"mentions": []},
        {"mentions": [{"key": "@_user_1", "id": {"open_id": "ou_other"}}]},
        {"message_type": "image", "content": '{"image_key": "k"}'},
        {"content": "no json"},
        {"content": "[]"},
    ],
)
def test_what_is_not_said_to_us_is_nothing(more: dict[str, Any]) -> None:
    """A group talks about deploys all day."""
    assert said("/deploy pay prod", **more) is None


def test_full_width_and_typographic_characters_are_plain() -> None:
    """A Chinese keyboard writes these."""
    assert said("/deploy\u3000pay prod --reason “hot fix”", "").text == '/deploy pay prod --reason "hot fix"'


def test_another_bot_is_nobody() -> None:
    """Two bots answering each other would never end."""
    event = FakeFeishu().message("ou_1", "/status", "")
    event["event"]["sender"]["sender_type"] = "app"
    assert wire.command(event, BOT) is None


def test_another_company_is_nobodys_account() -> None:
    """In a shared group the same id could be somebody else."""
    event = FakeFeishu().message("ou_1", "/status", "oc_1")
    event["event"]["sender"]["tenant_key"] = "another"
    command = wire.command(event, BOT)
    assert command is not None
    assert command.user_id == "another:ou_1"


def test_a_menu_entry_is_a_command() -> None:
    """Its key cannot hold spaces."""
    operator = {"operator_id": {"open_id": "ou_1"}}
    event = FakeFeishu().event("application.bot.menu_v6", {"operator": operator, "event_key": "status_pay_prod"})
    command = wire.menu(event)
    assert command is not None
    assert (command.text, command.place, command.personal) == ("status pay prod", "@ou_1", True)
