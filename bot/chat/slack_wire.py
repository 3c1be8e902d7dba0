"""What Slack sends, as our words: signature, the three bodies, the texts. Pure, so every trap is a plain test.

Source: docs.slack.dev "Verifying requests from Slack", "Slash commands", "Handling user interaction", "Events API".
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from bot.chat.base import IncomingClick, IncomingCommand
from notifiers.slack_blocks import ACT, ASK

PLATFORM = "slack"
MAX_AGE = 300
"""Seconds a signed request may be off, in either direction."""
MAX_FIELDS = 100
_MENTION = re.compile(r"<@([A-Z0-9]+)(?:\|[^>]*)?>")
_REFERENCE = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")
_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " "})


class Unreadable(ValueError):
    """The body is none of the three that Slack sends."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it and where we are installed. Both are team and user ids; home is empty if Slack did not say."""

    team: str
    user: str
    home: str = ""


def is_genuine(secret: str, timestamp: str, signature: str, body: bytes, now: float) -> bool:
    """Whether Slack signed these very bytes within the last five minutes. Constant time; never raises."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(now - int(timestamp)) > MAX_AGE:
        return False
    base = b"v0:" + timestamp.encode() + b":" + body
    expected = "v0=" + hmac.digest(secret.encode(), base, "sha256").hex()
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def read_body(content_type: str, body: bytes) -> dict[str, Any]:
    """The body as Bolt wants it: the JSON, the JSON of the form field `payload`, or the form's fields.

    Only a field named `payload` counts: that word inside a command's text is text.

    Raises:
        Unreadable: none of these.
    """
    try:
        if content_type.partition(";")[0].strip().lower() == "application/json":
            return _object(json.loads(body))
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
        if "payload" in fields and "command" not in fields:
            return _object(json.loads(fields["payload"]))
    except (ValueError, RecursionError) as error:
        raise Unreadable("The body cannot be read.") from error
    return dict(fields)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable("The body is no object.")
    return value


def event_id(kind: str, *parts: object) -> str:
    """Our key of something that happened: readable while it is short, else hashed."""
    joined = ":".join(str(part) for part in parts)
    return f"{kind}:{joined}" if len(joined) <= 200 else f"{kind}:{hashlib.sha256(joined.encode()).hexdigest()}"


def account(actor: Actor, primary: str) -> str:
    """The user as the catalog writes it: the bare id in the primary workspace, else `T0123:U0456`.

    Somebody from another organisation in a shared channel has another home team, so nobody's account is theirs.
    """
    home = actor.home or actor.team
    return actor.user if home == primary else f"{home}:{actor.user}"


def place(team: str, channel: str, primary: str) -> str:
    """The channel as the outbox writes it."""
    return channel if team == primary else f"{team}:{channel}"


def plain_text(text: str) -> str:
    """What somebody typed: references by id, links by address, escapes undone, typographic quotes made plain."""
    return _unescape(_REFERENCE.sub(_referred, text)).translate(_QUOTES)


def _referred(found: re.Match[str]) -> str:
    sign, target, shown = found.group(1), found.group(2), found.group(3)
    if sign == "!":
        return f"@{target.partition('^')[0]}"
    if sign:
        return f"{sign}{target}"
    # An address Slack made a link of: what was typed is the label if there is one.
    return shown or target.removeprefix("mailto:")


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def mention_text(text: str, bot: str) -> str:
    """The words after the bot's name, or those before it if none follow."""
    for found in _MENTION.finditer(text):
        if found.group(1) == bot:
            after = text[found.end() :].strip(" \t\r\n:,")
            return plain_text(after or text[: found.start()].strip()) or "help"
    return plain_text(text) or "help"


def slash_text(command: str, text: str) -> str:
    """`/deploy` with `pay prod` is `/deploy pay prod`; under `/slipway` the words alone are the command."""
    words = plain_text(text).strip()
    if command.lstrip("/") in ("slipway", "release"):
        return words or "help"
    return f"{command} {words}".strip()


def slash_command(body: Mapping[str, Any], team: str, primary: str, channel: str) -> IncomingCommand:
    """A slash command. channel: the place as the catalog may call it."""
    actor = Actor(team, str(body.get("user_id") or ""), str(body.get("team_id") or ""))
    channel_id = str(body.get("channel_id") or "")
    return IncomingCommand(
        platform=PLATFORM,
        event_id=event_id("command", team, body.get("trigger_id")),
        user_id=account(actor, primary),
        place=channel,
        text=slash_text(str(body.get("command") or ""), str(body.get("text") or "")),
        personal=channel_id.startswith("D"),
    )


def mention(body: Mapping[str, Any], team: str, primary: str, bot: str, channel: str) -> IncomingCommand:
    """An `app_mention`, or a text in the personal chat."""
    event = body["event"]
    home = str(event.get("user_team") or event.get("source_team") or event.get("team") or team)
    personal = event.get("channel_type") == "im" or str(event.get("channel") or "").startswith("D")
    return IncomingCommand(
        platform=PLATFORM,
        event_id=event_id("event", team, body.get("event_id")),
        user_id=account(Actor(team, str(event["user"]), home), primary),
        place=channel,
        text=mention_text(str(event.get("text") or ""), bot),
        personal=personal,
        thread=str(event.get("thread_ts") or ""),
    )


def is_own_or_edited(event: Mapping[str, Any], bot: str) -> bool:
    """Messages that are nobody's command: the bot's, another bot's, edits, joins."""
    return bool(event.get("bot_id") or event.get("subtype") or event.get("edited") or event.get("user") in (bot, None))


@dataclass(frozen=True, slots=True)
class Press:
    """A pressed button of a message. asks: it wants a form first; inputs: (name, label, required)."""

    button: str
    asks: bool
    label: str
    deployment: str
    channel: str
    message_ts: str
    thread_ts: str
    actor: Actor
    event_id: str
    trigger_id: str
    inputs: tuple[tuple[str, str, bool], ...] = ()


def press(body: Mapping[str, Any], team: str) -> Press | None:
    """The button of a `block_actions`, or None if it is not one of ours on a message."""
    actions = body.get("actions") or ()
    container = body.get("container") or {}
    action = actions[0] if actions else {}
    name = str(action.get("action_id") or "")
    channel = str((body.get("channel") or {}).get("id") or container.get("channel_id") or "")
    if not name.startswith((ACT, ASK)) or not channel:
        return None
    value = _value(action.get("value"))
    user = body.get("user") or {}
    message_ts = str(container.get("message_ts") or (body.get("message") or {}).get("ts") or "")
    actor = Actor(team, str(user.get("id") or ""), str(user.get("team_id") or ""))
    return Press(
        button=name.partition(":")[2],
        asks=name.startswith(ASK),
        label=str(value.get("l") or "")[:75],
        deployment=str(value.get("d") or ""),
        channel=channel,
        message_ts=message_ts,
        thread_ts=str(container.get("thread_ts") or ""),
        actor=actor,
        event_id=event_id("click", team, channel, message_ts, action.get("action_ts"), actor.user, name),
        trigger_id=str(body.get("trigger_id") or ""),
        inputs=tuple((str(n), str(label), bool(required)) for n, label, required in value.get("i") or ()),
    )


def _value(raw: object) -> dict[str, Any]:
    try:
        value = json.loads(str(raw))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def click(
    pressed: Press, channel: str, team: str, primary: str, inputs: Mapping[str, str] | None = None, key: str = ""
) -> IncomingClick:
    """A press as the core takes it. channel: the place as the catalog may call it. key: of a submitted form."""
    who = account(pressed.actor, primary)
    where = place(team, pressed.channel, primary)
    personal = pressed.channel.startswith("D")
    return IncomingClick(
        platform=PLATFORM,
        event_id=key or pressed.event_id,
        user_id=who,
        place=f"@{who}" if personal else channel,
        message_ref=f"{pressed.channel}:{pressed.message_ts}",
        button=pressed.button,
        deployment=pressed.deployment,
        inputs=dict(inputs or {}),
        personal=personal,
        private_place=f"@{who}" if personal else f"~{where}~{pressed.actor.user}",
    )


def form_values(view: Mapping[str, Any]) -> dict[str, str]:
    """What was typed into our form: input name -> text."""
    values = (view.get("state") or {}).get("values") or {}
    return {
        block.removeprefix("in:"): str((fields.get("value") or {}).get("value") or "").strip()
        for block, fields in values.items()
        if block.startswith("in:") and isinstance(fields, Mapping)
    }
