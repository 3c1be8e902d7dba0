"""Messages as Feishu cards (JSON 2.0), within the platform's limits. Pure.

Outside text goes into `plain_text` only, which has no markup: it cannot ping `<at id=all>` or pretend to be a link.
Source: open.feishu.cn "卡片 JSON 2.0 结构" and the pages of its components; an unknown property refuses the whole card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from notifiers.card import Button, ButtonStyle, Card, Input, Message, Step

BUTTON = "do"
"""Key of a button's value that says which one it is."""
FORM_BUTTON = "send_"
FORM_INPUT = "in_"

MAX_BODY = 28_000
"""UTF-8 bytes of a card as it is sent; the platform refuses more than 30 KB with everything around it."""
MAX_EXCERPT = 6_000
MAX_TEXT = 4_000
MAX_FIELD = 1_000
MAX_STEPS = 40
BAR = 20

Element = dict[str, Any]

TEMPLATES = {
    "succeeded": "green",
    "failed": "red",
    "error": "red",
    "rejected": "red",
    "refused": "orange",
    "awaiting_approval": "orange",
    "expired": "grey",
    "cancelled": "grey",
    "superseded": "grey",
    "cancelling": "grey",
    "rolling_back": "yellow",
    "rolled_back": "yellow",
    "queued": "wathet",
    "info": "blue",
}
MARKS = {
    "succeeded": "✅",
    "failed": "❌",
    "running": "⏳",
    "pending": "▫️",
    "skipped": "⏭️",
    "cancelled": "🚫",
    "unstable": "⚠️",
}
STYLES = {ButtonStyle.NORMAL: "default", ButtonStyle.PRIMARY: "primary_filled", ButtonStyle.DANGER: "danger"}
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\[\]:_~/?&=%#@!$+,;*-]+")


def render(message: Message, image: str = "") -> str:
    """The card as the JSON text that goes into `content`; long parts are cut until it fits. image: an uploaded key."""
    share = 1.0
    while True:
        text = json.dumps(
            _illustrated(_card(message, share), message, image), ensure_ascii=False, separators=(",", ":")
        )
        # Sent as a string inside JSON, where quotes and line ends take one byte more.
        if len(json.dumps(text, ensure_ascii=False).encode()) <= MAX_BODY or share < 0.01:
            return text
        share /= 2


def _illustrated(made: Element, message: Message, image: str) -> Element:
    if image:
        alt = message.card.chart.title if message.card is not None and message.card.chart is not None else ""
        made["body"]["elements"].append({"tag": "img", "img_key": image, "alt": _text(cut(alt, 300))})
    return made


def plain(message: Message) -> str:
    """The message as `content` of a text, for when a card is refused; nothing in it can mention anybody."""
    card = message.card
    said = message.text if card is None or not card.text else f"{message.text}\n{card.text}"
    return json.dumps({"text": harmless(cut(said or " ", MAX_TEXT))}, ensure_ascii=False)


def harmless(text: str) -> str:
    """Outside text for a place that reads `<at …>`: a zero-width space keeps the tag from being one."""
    return re.sub(r"<(?=/?\s*at\b)", "<\u200b", text, flags=re.IGNORECASE)


def simple(message: Message) -> str:
    """The least card there is, to replace one whose full form is refused."""
    card = message.card
    said = message.text if card is None or not card.text else f"{message.text}\n{card.text}"
    return json.dumps(_shell(message, [_div(cut(said or " ", MAX_TEXT))]), ensure_ascii=False)


def _card(message: Message, share: float) -> Element:
    if message.card is None:
        return _shell(message, [_div(cut(message.text or " ", int(12_000 * share) or 1))])
    card = message.card
    made = _shell(message, list(_elements(card, share)) or [_div(card.title or " ")])
    made["header"] = _header(card)
    return made


def _shell(message: Message, elements: list[Element]) -> Element:
    config = {"update_multi": True, "width_mode": "default", "summary": {"content": cut(message.text or " ", 200)}}
    return {"schema": "2.0", "config": config, "body": {"direction": "vertical", "elements": elements}}


def _header(card: Card) -> Element:
    header: Element = {
        "title": _text(cut(card.title or " ", 300)),
        "template": TEMPLATES.get(card.state, "blue"),
    }
    if card.deployment:
        header["subtitle"] = _text(cut(card.deployment, 100))
    return header


def _elements(card: Card, share: float) -> Iterator[Element]:
    if card.progress is not None:
        yield _div(bar(card.progress))
    if card.text:
        yield _div(cut(card.text, int(MAX_TEXT * share) or 1))
    if card.steps:
        yield _div("\n".join(_step(step) for step in card.steps[:MAX_STEPS]))
    if card.fields:
        yield {"tag": "div", "fields": [_field(k, cut(v, int(MAX_FIELD * share) or 1)) for k, v in card.fields.items()]}
    yield from _links(card)
    if card.excerpt:
        yield _excerpt(card.excerpt, int(MAX_EXCERPT * share) or 1)
    row = [_column(_button(card, one)) for one in card.buttons if not one.inputs]
    if row:
        yield {"tag": "column_set", "flex_mode": "flow", "columns": row}
    for one in card.buttons:
        if one.inputs:
            yield _form(card, one)


def _step(step: Step) -> str:
    detail = f" · {step.detail}" if step.detail else ""
    return cut(f"{MARKS.get(str(step.state), '▫️')} {step.name}{detail}", 200)


def _field(label: str, value: str) -> Element:
    return {"is_short": len(value) <= 30, "text": _text(f"{cut(label, 100)}\n{value}")}


def _links(card: Card) -> Iterator[Element]:
    """A way to what runs: plain text has no links."""
    for label, value in card.fields.items():
        if _ADDRESS.fullmatch(value) and len(value) <= 1_000:
            open_it = [{"type": "open_url", "default_url": value}]
            yield {"tag": "button", "type": "text", "text": _text(cut(f"{label} ↗", 100)), "behaviors": open_it}


def _excerpt(text: str, limit: int) -> Element:
    """The end is shown: that is where things went wrong."""
    shown = text if len(text) <= limit else "…\n" + text[-limit:]
    lines = shown.count("\n") + 1
    return {
        "tag": "collapsible_panel",
        "expanded": lines <= 12,
        "header": {"title": _text(f"Log · {lines}")},
        "elements": [_div(shown)],
    }


def _column(element: Element) -> Element:
    return {"tag": "column", "width": "auto", "elements": [element]}


def _button(card: Card, button: Button) -> Element:
    made: Element = {
        "tag": "button",
        "type": STYLES[button.style],
        "text": _text(cut(button.label, 100)),
        "behaviors": [{"type": "callback", "value": {BUTTON: button.id, "deployment": card.deployment}}],
    }
    return made | {"confirm": _confirm(button)} if button.confirm else made


def _confirm(button: Button) -> Element:
    return {"title": _text(cut(button.label, 100)), "text": _text(cut(button.confirm, 500))}


def _form(card: Card, button: Button) -> Element:
    send: Element = {
        "tag": "button",
        "name": f"{FORM_BUTTON}{button.id}",
        "type": STYLES[button.style],
        "text": _text(cut(button.label, 100)),
        "form_action_type": "submit",
    }
    if button.confirm:
        send["confirm"] = _confirm(button)
    inputs = [_input(button, one) for one in button.inputs]
    return {"tag": "form", "name": f"form_{button.id}", "elements": [*inputs, send]}


def _input(button: Button, wanted: Input) -> Element:
    return {
        "tag": "input",
        "name": f"{FORM_INPUT}{button.id}_{wanted.name}",
        "label": _text(cut(wanted.label, 100)),
        "required": wanted.required,
        "max_length": 500,
    }


def _div(text: str) -> Element:
    return {"tag": "div", "text": _text(text)}


def _text(text: str) -> Element:
    return {"tag": "plain_text", "content": text or " "}


def bar(percent: int) -> str:
    """A progress bar of text, for 0-100: cards have no progress component."""
    percent = max(0, min(100, percent))
    filled = percent * BAR // 100
    return f"{'▓' * filled}{'░' * (BAR - filled)} {percent} %"


def cut(text: str, limit: int) -> str:
    """The start of a text, marked if something is missing."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"
