"""The inbound side of the console: the browser chat as a chat platform like any other.

The console's user id is the person's id of the catalog. A text starting with `/`, any text in the personal chat, and a
text to `@slipway` in a channel are commands; other texts are talk among people, only kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from bot.chat.base import ClickAnswer, ClickHandler, Inbound, IncomingClick, IncomingCommand
from bot.store.console import ConsoleMessage, ConsoleStore, NewConsoleMessage

PERSONAL = "@slipway"
INPUT_LIMIT = 1_000
"""Characters of one text asked for by a button."""

_MENTION = re.compile(r"@slipway(?=[\s:,]|$)[:,]?\s*", re.IGNORECASE)


class ConsoleAdapter:
    """Stores what people say, and hands commands and clicks over."""

    platform = "console"

    def __init__(self, inbound: Inbound, clicks: ClickHandler, store: ConsoleStore) -> None:
        """Take where commands go, who decides clicks, and where messages are kept."""
        self._inbound = inbound
        self._clicks = clicks
        self._store = store

    async def start(self) -> None:
        """Nothing to open: the web routes call `say` and `press`."""

    async def stop(self) -> None:
        """End the open streams; what was accepted is stored."""
        self._store.close()

    async def say(self, person: str, place: str, text: str, key: str = "") -> ConsoleMessage:
        """Store what a person said and hand it over if it is a command.

        key: the caller's own name of this request. The same key again gives the same message; the command is handed
        over once more under the same event id, so that a first try that broke half-way is completed and nothing is
        done twice.

        Raises:
            DatabaseUnavailable: try again with the same key.
        """
        personal = place == PERSONAL
        message = await self._store.add(
            NewConsoleMessage(
                place=place,
                person=person if personal else None,
                author=person,
                text=text,
                dedupe_key=f"in:{_digest(person, key)}" if key else "",
            )
        )
        await self._hand_over(message)
        return message

    async def press(
        self, person: str, message_id: int | None, button: str, inputs: Mapping[str, str], key: str = ""
    ) -> tuple[str, ClickAnswer]:
        """Hand a click over and return its event id and what became of it.

        Raises:
            DatabaseUnavailable: try again with the same key.
        """
        event_id = f"c{_digest(person, key)[:32]}" if key else f"c{uuid4().hex}"
        message = await self._store.get(message_id) if message_id is not None else None
        if message is None or message.person not in (None, person):
            return event_id, ClickAnswer(False, 404, "There is no such message here; reload to see what is there now.")
        definition = _button(message, button)
        if definition is None:
            return event_id, ClickAnswer(False, 409, "That button is gone: the card has changed, so look at it again.")
        asked = definition.get("inputs") or ()
        if problem := _input_problem(asked, inputs):
            return event_id, ClickAnswer(False, 400, problem)
        # A script may send one set of inputs to any button; only what the button asks for goes on.
        names = {str(one["name"]) for one in asked}
        wanted = {name: text for name, text in inputs.items() if name in names}
        return event_id, await self._clicks.click(_incoming_click(person, message, button, wanted, event_id))

    async def _hand_over(self, message: ConsoleMessage) -> None:
        text = command_text(message.text, personal=message.person is not None)
        if text is None:
            return
        ref = f"m{message.id}"
        await self._inbound.command(
            IncomingCommand(
                platform=self.platform,
                event_id=ref,
                user_id=message.author,
                place=outbound_place(message),
                text=text,
                personal=message.person is not None,
                thread=ref,
                message_id=ref,
            )
        )


def command_text(text: str, personal: bool) -> str | None:
    """The command in a text, without the mention; None if it is talk among people."""
    if text.startswith("/"):
        return text
    if mention := _MENTION.match(text):
        return text[mention.end() :] or "help"
    return text if personal else None


def outbound_place(message: ConsoleMessage) -> str:
    """Where an answer goes: the channel, or `@<person>` for a personal chat."""
    return message.place if message.person is None else f"@{message.person}"


def _incoming_click(
    person: str, message: ConsoleMessage, button: str, inputs: Mapping[str, str], event_id: str
) -> IncomingClick:
    return IncomingClick(
        platform=ConsoleAdapter.platform,
        event_id=event_id,
        user_id=person,
        place=outbound_place(message),
        message_ref=f"m{message.id}",
        button=button,
        deployment=str((message.card or {}).get("deployment") or ""),
        inputs=dict(inputs),
        personal=message.person is not None,
    )


def _button(message: ConsoleMessage, button: str) -> Mapping[str, Any] | None:
    buttons: Sequence[Mapping[str, Any]] = (message.card or {}).get("buttons") or ()
    return next((one for one in buttons if one.get("id") == button), None)


def _input_problem(wanted: Sequence[Mapping[str, Any]], given: Mapping[str, str]) -> str:
    for one in wanted:
        if len(given.get(str(one["name"]), "")) > INPUT_LIMIT:
            return f"'{one['label']}' is too long; keep it under {INPUT_LIMIT} characters."
        if one.get("required") and not given.get(str(one["name"]), "").strip():
            return f"'{one['label']}' is needed; fill it in and press again."
    return ""


def _digest(person: str, key: str) -> str:
    # Hashed, so that no choice of person and key can look like another pair, or be too long for the column.
    return hashlib.sha256(f"{len(person)}:{person}:{key}".encode()).hexdigest()
