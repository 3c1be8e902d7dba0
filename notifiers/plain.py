"""Messages as short markdown for platforms that only listen, and the one request they need.

A robot cannot edit what it posted, so it is told results only; all outside text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx

from notifiers.base import ChatUnavailable
from notifiers.card import Card, Message

MARKS = {
    "succeeded": "✅",
    "failed": "❌",
    "error": "❌",
    "rejected": "❌",
    "refused": "⛔",
    "expired": "⌛",
    "awaiting_approval": "✋",
    "rolled_back": "↩️",
    "cancelled": "🚫",
    "superseded": "🚫",
}
EXCERPT = 1_200
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\[\]:/?&=%#$+,;-]+")
_BLOCK = re.compile(r"^(?=\s*(?:[#>|+*-]|\d+\.))", re.MULTILINE)


def title_of(message: Message) -> str:
    """What a notification shows, on one line."""
    card = message.card
    text = card.title if card is not None else message.text
    mark = MARKS.get(card.state, "") if card is not None else ""
    return " ".join(f"{mark} {text}".split())


def markdown(message: Message, limit: int) -> str:
    """Title, text, fields and the end of the log, in at most `limit` UTF-8 bytes."""
    card = message.card
    if card is None:
        return cut_bytes(escape(message.text) or " ", limit)
    head = [f"**{escape(title_of(message))}**", *_body(card)]
    if not card.excerpt:
        return cut_bytes("\n\n".join(head), limit)
    start = cut_bytes("\n\n".join(head), limit // 2)
    room = min(EXCERPT, limit - len(start.encode()) - 20)
    return f"{start}\n\n{_quoted(card.excerpt, room)}"


def _body(card: Card) -> list[str]:
    fields = [f"{escape(label)}: {_value(value)}" for label, value in card.fields.items()]
    decide = any(button.id == "approve" for button in card.buttons)
    hint = [f"To decide, type /approve {card.deployment} or /reject {card.deployment} in a chat with buttons."]
    return [*([escape(card.text)] if card.text else []), *fields, *(hint if decide else [])]


def _value(value: str) -> str:
    return f"[{value}]({value})" if _ADDRESS.fullmatch(value) else escape(value)


def _quoted(text: str, room: int) -> str:
    """The end of a log, as a quote: what is escaped line by line cannot end the quote."""
    lines: list[str] = []
    for line in reversed(text.splitlines()):
        shown = f"> {escape(line)}"
        room -= len(shown.encode()) + 1
        if room < 0:
            break
        lines.append(shown)
    return "\n".join(reversed(lines))


def escape(text: str) -> str:
    """Outside text without links, mentions, tags, headings or quotes; mere emphasis is left, for it does no harm."""
    plain = text.replace("<", "＜").replace("](", "] (").replace("@", "@\u200b")
    return _BLOCK.sub("\u200b", plain)


def cut_bytes(text: str, limit: int) -> str:
    """The start of a text in at most `limit` UTF-8 bytes, never half a character."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    return raw[: max(0, limit - 3)].decode(errors="ignore") + "…"


async def ask(
    http: httpx.AsyncClient,
    name: str,
    method: str,
    url: str,
    *,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """One call and its JSON object. The address holds secrets, so no error ever quotes it.

    Raises:
        ChatUnavailable: no answer, or one that is not the platform's (a traffic-control page).
    """
    try:
        response = await http.request(method, url, json=body, params=query, headers=headers)
        answer = response.json()
    except httpx.HTTPError as error:
        raise ChatUnavailable(f"{name} did not answer ({type(error).__name__}).") from None
    except ValueError:
        raise ChatUnavailable(f"{name} answered something else than it should.", retry_after=30.0) from None
    if not isinstance(answer, dict):
        raise ChatUnavailable(f"{name} answered something else than it should.", retry_after=30.0)
    return answer
