"""The outbound side of the console: our messages as rows that every open page is told about.

A channel is `#name`; the personal chat of a person is `@<person id>` here, and `@slipway` to that person.
"""

from __future__ import annotations

import base64
from typing import Any

from bot.store.console import ConsoleStore, NewConsoleMessage
from notifiers.base import ChatRejected
from notifiers.card import Button, Card, Message
from notifiers.chart import png

BOT = "slipway"
PERSONAL = "@slipway"
EXCERPT_LIMIT = 16_000
"""Characters; the end is kept, because that is where things went wrong."""


class ConsoleClient:
    """Posts and edits messages of the browser chat."""

    platform = "console"

    def __init__(self, store: ConsoleStore) -> None:
        """Take the store that wakes the open pages."""
        self._store = store

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        """Post once per key and return the message's id, `m17`. thread: the id of the message answered.

        Raises:
            ChatRejected: no such kind of place.
            DatabaseUnavailable: not stored; retry with the same key.
        """
        where, person = split_place(place)
        stored = await self._store.add(
            NewConsoleMessage(
                place=where,
                person=person,
                author=BOT,
                text=clean(message.text),
                card=card_json(message.card) if message.card else None,
                reply_to=parse_ref(thread),
                dedupe_key=f"out:{key}",
            )
        )
        return f"m{stored.id}"

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        """Replace the message's content.

        Raises as `post`, and ChatRejected when the message is not ours or not there.
        """
        known = await self._store.get(parse_ref(ref) or 0)
        if known is None or known.author != BOT or (known.place, known.person) != split_place(place):
            raise ChatRejected(f"The console has no message {ref} of ours in {place}.")
        await self._store.edit(known.id, clean(message.text), card_json(message.card) if message.card else None)


def split_place(place: str) -> tuple[str, str | None]:
    """The place as readers see it, and whose personal chat it is.

    Raises:
        ChatRejected: neither a channel nor a person.
    """
    if len(place) > 1 and place.startswith("#"):
        return place, None
    if len(place) > 1 and place.startswith("@"):
        return PERSONAL, place[1:]
    raise ChatRejected(f"The console has no place '{place}': a channel is #name, a person @id.")


def parse_ref(ref: str) -> int | None:
    """The number in `m17`, None if it is no message id."""
    digits = ref[1:]
    if ref[:1] != "m" or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        return None
    return int(digits)


def clean(text: str) -> str:
    """What every database can store: no NUL, no half characters."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def card_json(card: Card) -> dict[str, Any]:
    """A card in the shape of the console's API, complete; `picture` only where there is one."""
    shown = {
        "title": clean(card.title),
        "state": card.state,
        "deployment": card.deployment,
        "progress": None if card.progress is None else max(0, min(100, card.progress)),
        "text": clean(card.text),
        "steps": [{"name": clean(s.name), "state": str(s.state), "detail": clean(s.detail)} for s in card.steps],
        "fields": {clean(label): clean(value) for label, value in card.fields.items()},
        "excerpt": _excerpt(card.excerpt),
        "buttons": [_button(button) for button in card.buttons],
    }
    if card.chart is not None:
        picture = base64.b64encode(png(card.chart)).decode()
        shown["picture"] = {"alt": clean(card.chart.title), "src": f"data:image/png;base64,{picture}"}
    return shown


def _excerpt(text: str) -> str | None:
    if not text:
        return None
    text = clean(text)
    return text if len(text) <= EXCERPT_LIMIT else "…\n" + text[-EXCERPT_LIMIT:]


def _button(button: Button) -> dict[str, Any]:
    return {
        "id": button.id,
        "label": clean(button.label),
        "style": str(button.style),
        "confirm": clean(button.confirm),
        "inputs": [{"name": i.name, "label": clean(i.label), "required": i.required} for i in button.inputs],
    }
