"""A card as Block Kit, within every limit of Slack. Pure.

Outside text goes into plain and rich text elements, which know no markup, and into the fallback text escaped; so a
commit title can neither ping a channel nor disguise a link. Source: docs.slack.dev "Block Kit", "Formatting text".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from notifiers.card import Button, ButtonStyle, Card, Message, Step

Block = dict[str, Any]

MAX_BLOCKS = 50
MAX_TOTAL = 12_000
"""Characters over all blocks; Slack refuses about 13,200."""
MAX_TEXT = 3_000
MAX_FALLBACK = 3_900
MAX_HEADER = 150
MAX_FIELDS = 30
MAX_BUTTON_LABEL = 75
MAX_BUTTON_VALUE = 2_000
MAX_ACTIONS = 25
MAX_TASKS = 20
EXCERPT_SHOWN = 2_800
BAR = 20

BACK = "Back"
ACT, ASK = "do:", "ask:"
"""How an action_id starts: act at once, or open a form first."""

EMOJI = {
    "refused": "⛔",
    "awaiting_approval": "🙋",
    "succeeded": "✅",
    "failed": "❌",
    "error": "❌",
    "rejected": "⛔",
    "expired": "⌛",
    "cancelled": "⏹️",
    "cancelling": "⏹️",
    "superseded": "⏭️",
    "rolling_back": "↩️",
    "rolled_back": "↩️",
    "info": "",
}
MOVING = "🚀"
COLOUR = {
    "succeeded": "#2eb67d",
    "failed": "#e01e5a",
    "error": "#e01e5a",
    "rolled_back": "#e01e5a",
    "refused": "#ecb22e",
    "rejected": "#ecb22e",
    "expired": "#ecb22e",
    "awaiting_approval": "#ecb22e",
    "cancelled": "#868686",
    "superseded": "#868686",
    "info": "#868686",
}
MOVING_COLOUR = "#36c5f0"
TASK_STATUS = {"running": "in_progress", "succeeded": "complete", "failed": "error", "cancelled": "error"}
"""Our stage states as Slack's words; every other one is `pending`."""

_ADDRESS = re.compile(r"https?://[^\s<>|\"]{1,1900}")


def render(message: Message, revision: str = "", back: str = BACK) -> dict[str, Any]:
    """`text`, `blocks` and `attachments` of chat.postMessage and chat.update.

    revision: goes into the block ids, which should change with the content. back: how a dialog is left.
    """
    if message.card is None:
        return {"text": fallback(message.text), "blocks": _words(message.text), "attachments": []}
    return _card(message, message.card, revision, back)


def plain(message: Message) -> dict[str, Any]:
    """The least that says it, for when Slack refuses the structure."""
    said = message.text or (message.card.title if message.card else "")
    return {"text": fallback(said, 1_000), "blocks": [], "attachments": []}


def _card(message: Message, card: Card, revision: str, back: str) -> dict[str, Any]:
    room = _Room(MAX_TOTAL)
    emoji = EMOJI.get(card.state, MOVING)
    title = f"{emoji} {card.title}".strip()
    blocks: list[Block] = [{"type": "header", "text": _plain(room.take(title, MAX_HEADER))}]
    if card.text:
        blocks.append(_rich([_section([_text(room.take(card.text, MAX_TEXT))])]))
    if card.progress is not None and card.state not in COLOUR:
        blocks.append({"type": "context", "elements": [_plain(room.take(bar(card.progress), 60))]})
    if card.steps:
        blocks.append(_plan(card, room))
    if card.buttons:
        blocks.append(_actions(card, revision, back))
        room.take("".join(button.label + button.confirm for button in card.buttons), MAX_TEXT)
    detail = list(_detail(card, room))
    said = message.text or card.title
    colour = COLOUR.get(card.state, MOVING_COLOUR)
    attachments = [{"color": colour, "fallback": fallback(said, 300), "blocks": detail}] if detail else []
    return {"text": fallback(said), "blocks": blocks[:MAX_BLOCKS], "attachments": attachments}


def _detail(card: Card, room: _Room) -> Iterator[Block]:
    lines = [part for label, value in list(card.fields.items())[:MAX_FIELDS] for part in _field(label, value, room)]
    if lines:
        yield _rich([_section(lines[:-1])])
    if card.excerpt:
        shown = room.take_end(card.excerpt, EXCERPT_SHOWN)
        if shown:
            yield _rich([{"type": "rich_text_preformatted", "elements": [_text(shown)]}])


def _field(label: str, value: str, room: _Room) -> Iterator[Block]:
    yield _text(room.take(f"{label}: ", 200) or " ", bold=True)
    shown = room.take(value, 2_000) or "…"
    yield {"type": "link", "url": shown, "text": shown} if _ADDRESS.fullmatch(shown) else _text(shown)
    yield _text("\n")


def _words(text: str) -> list[Block]:
    """A text without a card, whole, in as many blocks as it needs; the end is cut, not the start."""
    text = cut(text, MAX_TOTAL)
    parts = [text[start : start + MAX_TEXT] for start in range(0, len(text), MAX_TEXT)]
    return [_rich([_section([_text(part)])]) for part in parts]


def _plan(card: Card, room: _Room) -> Block:
    tasks = [_task(number, step, room) for number, step in enumerate(card.steps[:MAX_TASKS])]
    return {"type": "plan", "title": room.take(card.deployment or card.title, 150), "tasks": tasks}


def _task(number: int, step: Step, room: _Room) -> Block:
    detail = f" · {step.detail}" if step.detail else ""
    return {
        "type": "task_card",
        "task_id": f"t{number}",
        "title": room.take(f"{step.name}{detail}", 200) or "…",
        "status": TASK_STATUS.get(str(step.state), "pending"),
    }


def _actions(card: Card, revision: str, back: str) -> Block:
    elements = [_button(card, button, back) for button in card.buttons[:MAX_ACTIONS]]
    return {"type": "actions", "block_id": f"a:{card.deployment[:100]}:{revision[:100]}", "elements": elements}


def _button(card: Card, button: Button, back: str) -> Block:
    asks = bool(button.inputs)
    value: dict[str, Any] = {"d": card.deployment, "l": button.label}
    if asks:
        value["i"] = [[one.name, one.label, int(one.required)] for one in button.inputs]
    element: Block = {
        "type": "button",
        "action_id": f"{ASK if asks else ACT}{button.id}"[:255],
        "text": _plain(cut(button.label, MAX_BUTTON_LABEL)),
        "value": cut(json.dumps(value, ensure_ascii=False), MAX_BUTTON_VALUE),
    }
    if button.style is not ButtonStyle.NORMAL:
        element["style"] = str(button.style.value)
    if button.confirm and not asks:
        element["confirm"] = _confirm(button, back)
    return element


def _confirm(button: Button, back: str) -> Block:
    return {
        "title": _plain(cut(button.label, 100)),
        "text": _plain(cut(button.confirm, 300)),
        "confirm": _plain(cut(button.label, 30)),
        "deny": _plain(cut(back, 30)),
    }


def form(
    button: str, label: str, inputs: list[tuple[str, str, bool]], metadata: Mapping[str, Any], back: str = BACK
) -> Block:
    """The modal that asks what a button wants to know. metadata: given back at its submission."""
    return {
        "type": "modal",
        "callback_id": f"form:{button}"[:255],
        "title": _plain(cut(label, 24)),
        "submit": _plain(cut(label, 24)),
        "close": _plain(cut(back, 24)),
        "private_metadata": json.dumps(metadata, ensure_ascii=False),
        "blocks": [
            {
                "type": "input",
                "block_id": f"in:{name}",
                "optional": not required,
                "label": _plain(cut(text, 2_000)),
                "element": {"type": "plain_text_input", "action_id": "value", "multiline": True, "max_length": 500},
            }
            for name, text, required in inputs
        ],
    }


def bar(percent: int) -> str:
    """A progress bar of text, for 0-100."""
    percent = max(0, min(100, percent))
    filled = percent * BAR // 100
    return f"{'▓' * filled}{'░' * (BAR - filled)} {percent} %"


def escape(text: str) -> str:
    """Outside text for a place that reads mrkdwn: no mention, no link, no ping."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fallback(text: str, limit: int = MAX_FALLBACK) -> str:
    """What notifications and screen readers say, escaped and still within `limit` characters; never empty."""
    shown = cut(text, limit)
    while len(escape(shown)) > limit:
        shown = cut(shown, len(shown) * 3 // 4)
    return escape(shown) or " "


def cut(text: str, limit: int) -> str:
    """The start of a text, marked if something is missing."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


class _Room:
    """Characters still allowed in this message."""

    def __init__(self, characters: int) -> None:
        self._left = characters

    def take(self, text: str, limit: int) -> str:
        """As much of the start as there is room for."""
        shown = cut(text, min(limit, self._left))
        self._left -= len(shown)
        return shown

    def take_end(self, text: str, limit: int) -> str:
        """As much of the end as there is room for: that is where things went wrong."""
        limit = min(limit, self._left)
        shown = text if len(text) <= limit else ("…\n" + text[-(limit - 2) :] if limit > 2 else "")
        self._left -= len(shown)
        return shown


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": text or " ", "emoji": False}


def _rich(elements: list[Block]) -> Block:
    return {"type": "rich_text", "elements": elements}


def _section(elements: list[Block]) -> Block:
    return {"type": "rich_text_section", "elements": elements}


def _text(text: str, bold: bool = False) -> Block:
    element: Block = {"type": "text", "text": text or " "}
    return element | {"style": {"bold": True}} if bold else element
