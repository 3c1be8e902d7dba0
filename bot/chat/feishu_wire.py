"""What Feishu and Lark send, as our words: encryption, signature, messages, clicks. Pure, so each trap is a plain test.

Source: open.feishu.cn "Encrypt Key 加密策略", "事件安全校验", "接收消息", "卡片回传交互", "机器人自定义菜单事件".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.chat.base import IncomingClick, IncomingCommand
from bot.chat.lark_parts import cipher_class
from notifiers.feishu import TOPIC
from notifiers.feishu_cards import BUTTON, FORM_BUTTON, FORM_INPUT

PLATFORM = "feishu"
MAX_AGE = 8 * 3600
"""Seconds: Feishu repeats for 6 h, and whether a repeat is signed anew is not documented."""
MAX_AHEAD = 300
_PLACEHOLDER = re.compile(r"@_(?:user_\d+|all)")
_PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " ", "\u3000": " "})


class NotGenuine(Exception):
    """Not signed by Feishu, too old, not encrypted or not for us. The reason is for the log only."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What the developer console shows under "Encryption strategy". Both are secrets."""

    encrypt_key: str = field(repr=False)
    verification_token: str = field(repr=False)


def signature(timestamp: str, nonce: str, key: str, body: bytes) -> str:
    """Hex SHA-256 of timestamp, nonce, encrypt key and the bytes as they came."""
    return hashlib.sha256(timestamp.encode() + nonce.encode() + key.encode() + body).hexdigest()


def is_signed(headers: Mapping[str, str], keys: Keys, body: bytes, now: float) -> bool:
    """Whether Feishu signed these very bytes lately. headers: lower-case names. Constant time; never raises."""
    timestamp = headers.get("x-lark-request-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if not -MAX_AHEAD <= now - int(timestamp) <= MAX_AGE:
        return False
    expected = signature(timestamp, headers.get("x-lark-request-nonce", ""), keys.encrypt_key, body)
    given = headers.get("x-lark-signature", "")
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def open_event(headers: Mapping[str, str], body: bytes, keys: Keys, now: float) -> dict[str, Any]:
    """The event inside a request. Only the challenge comes unsigned, and it changes nothing.

    Raises:
        NotGenuine: forged, old, not encrypted, or of another app.
    """
    signed = is_signed(headers, keys, body, now)
    event = _decrypted(body, keys)
    if not same(token_of(event), keys.verification_token):
        raise NotGenuine("token")
    if not signed and event.get("type") != "url_verification":
        raise NotGenuine("signature or age")
    return event


def _decrypted(body: bytes, keys: Keys) -> dict[str, Any]:
    try:
        outer = json.loads(body)
        event = json.loads(cipher_class()(keys.encrypt_key).decrypt_str(outer["encrypt"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotGenuine("encryption") from error
    if not isinstance(event, dict):
        raise NotGenuine("shape")
    return event


def token_of(event: Mapping[str, Any]) -> str:
    """The verification token an event carries; in its header since version 2.0."""
    header = event.get("header")
    found = header.get("token") if isinstance(header, Mapping) else event.get("token")
    return found if isinstance(found, str) else ""


def same(given: str, expected: str) -> bool:
    """Equal, in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def kind_of(event: Mapping[str, Any]) -> str:
    """The event's type."""
    return str(event["header"]["event_type"])


def _account(event: Mapping[str, Any], who: Mapping[str, Any], open_id: object) -> str:
    """The person's open_id; somebody of another company in a shared group is nobody's account."""
    if not isinstance(open_id, str) or not open_id:
        return ""
    ours, theirs = event["header"].get("tenant_key"), who.get("tenant_key")
    return open_id if not theirs or theirs == ours else f"{theirs}:{open_id}"


# -- messages --------------------------------------------------------------------------------------------------------


def command(event: Mapping[str, Any], bot: str) -> IncomingCommand | None:
    """A message as a command, or None if it is not said to us. bot: our own open_id."""
    body = event["event"]
    message, sender = body["message"], body["sender"]
    who = _account(event, sender, sender["sender_id"].get("open_id"))
    personal = message.get("chat_type") == "p2p"
    mentions = list(message.get("mentions") or ())
    said = text_of(message)
    if sender.get("sender_type") != "user" or not who or who == bot or said is None:
        return None
    if not personal and not any(_mentioned(one) == bot for one in mentions):
        return None
    return IncomingCommand(
        platform=PLATFORM,
        # The docs say to recognise a repeated message by this, not by its event id.
        event_id=f"message:{message['message_id']}",
        user_id=who,
        place=str(message["chat_id"]),
        text=words_for(said, mentions, bot),
        personal=personal,
        thread=str(message.get("thread_id") or ""),
        message_id=f"{message['message_id']}{TOPIC if message.get('thread_id') else ''}",
    )


def text_of(message: Mapping[str, Any]) -> str | None:
    """What was typed, with placeholders for mentions; None for pictures, files and what cannot be read."""
    try:
        content = json.loads(message["content"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    kind = message.get("message_type")
    if kind == "text":
        return str(content.get("text") or "")
    return "\n".join(_post_lines(content)) if kind == "post" else None


def _post_lines(content: Mapping[str, Any]) -> Iterator[str]:
    if content.get("title"):
        yield str(content["title"])
    for line in content.get("content") or ():
        yield "".join(_post_part(part) for part in line if isinstance(part, Mapping))


def _post_part(part: Mapping[str, Any]) -> str:
    return str(part.get("user_id") if part.get("tag") == "at" else part.get("text") or "")


def words_for(text: str, mentions: list[Mapping[str, Any]], bot: str) -> str:
    """The words after our name, or those before it if none follow; other people by their id."""
    ids = {str(one.get("key")): _mentioned(one) for one in mentions}
    ours = next((found for found in _PLACEHOLDER.finditer(text) if ids.get(found.group()) == bot), None)
    if ours is not None:
        after = text[ours.end() :].strip(" \t\r\n:：,，")
        text = after or text[: ours.start()]
    resolved = _PLACEHOLDER.sub(lambda found: f"@{ids.get(found.group()) or found.group()[2:]}", text)
    return resolved.translate(_PLAIN).strip() or "help"


def _mentioned(mention: Mapping[str, Any]) -> str:
    ids = mention.get("id")
    return str(ids.get("open_id") or "") if isinstance(ids, Mapping) else ""


def menu(event: Mapping[str, Any]) -> IncomingCommand | None:
    """An entry of the bot's menu; its key is the command, `status` or `status_pay_prod`."""
    body = event["event"]
    operator = body["operator"]
    who = _account(event, operator, (operator.get("operator_id") or {}).get("open_id"))
    if not who:
        return None
    text = str(body.get("event_key") or "").replace("_", " ").strip()
    key = f"menu:{event['header']['event_id']}"
    return IncomingCommand(PLATFORM, key, who, f"@{who}", text or "help", personal=True)


# -- clicks ----------------------------------------------------------------------------------------------------------


def click(event: Mapping[str, Any]) -> IncomingClick | None:
    """A pressed button or a sent form, or None if it is none of ours."""
    body = event["event"]
    action, context, operator = body["action"], body.get("context") or {}, body["operator"]
    value = action.get("value")
    value = value if isinstance(value, Mapping) else {}
    name = str(action.get("name") or "")
    button = name.removeprefix(FORM_BUTTON) if name.startswith(FORM_BUTTON) else str(value.get(BUTTON) or "")
    message, who = str(context.get("open_message_id") or ""), _account(event, operator, operator.get("open_id"))
    if not (button and message and who):
        return None
    return IncomingClick(
        platform=PLATFORM,
        event_id=f"click:{event['header']['event_id']}",
        user_id=who,
        place=str(context.get("open_chat_id") or ""),
        message_ref=message,
        button=button,
        inputs=form_values(button, action.get("form_value")),
    )


def form_values(button: str, values: object) -> dict[str, str]:
    """What was typed into the form of a button: input name -> text."""
    if not isinstance(values, Mapping):
        return {}
    prefix = f"{FORM_INPUT}{button}_"
    given = {str(key): str(value or "").strip() for key, value in values.items()}
    return {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}


def toast(accepted: bool, english: str, chinese: str = "") -> dict[str, Any]:
    """The answer to a click: a line that only the person who pressed sees, in the language of their client."""
    kind = "success" if accepted else "warning"
    i18n = {"zh_cn": chinese or english, "en_us": english}
    return {"toast": {"type": kind, "content": chinese or english, "i18n": i18n}}
