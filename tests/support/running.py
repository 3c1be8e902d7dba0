"""A whole Slipway inside a test: real database, real Git, real sub-processes, reached as its chat reaches it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from bot.app import App, Outside
from bot.chat.base import ClickAnswer, IncomingClick, IncomingCommand
from bot.deployments.model import Deployment, State
from bot.settings import Settings
from bot.store import audit, outbox
from bot.store import deployments as rows
from bot.store.console import ConsoleMessage
from tests.support.world import World

POLL = timedelta(milliseconds=20)
PATIENCE = 30.0
"""Seconds a test waits for something real before it says what it saw instead."""


@dataclass
class Running:
    """Hands and eyes on a running App."""

    app: App
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def say(self, person: str, text: str, place: str = "#releases", event_id: str = "") -> list[ConsoleMessage]:
        """Type a command, wait until it is answered, and return what the person can see."""
        event = event_id or f"e{next(self._numbers)}"
        personal = place == "@slipway"
        where = f"@{person}" if personal else place
        await self.app.dispatcher.command(IncomingCommand("console", event, person, where, text, personal=personal))
        await self.until(lambda: self._answered(event), f"an answer to {text}")
        await self.quiet()
        return await self.messages(person)

    async def _answered(self, event: str) -> bool:
        from bot.store import inbox

        row = await self.app.db.read(lambda tx: inbox.by_event(tx, "console", event))
        return row is not None and row.done_at is not None

    async def click(self, person: str, ref: str, button: str, event_id: str = "", **inputs: str) -> ClickAnswer:
        """Press a button and return what came of it."""
        event = event_id or f"c{next(self._numbers)}"
        return await self.app.dispatcher.handle_click(
            IncomingClick("console", event, person, "#releases", ref, button, inputs=inputs)
        )

    async def messages(self, person: str) -> list[ConsoleMessage]:
        """Everything the person can see, oldest first."""
        return await self.app.console_store.newest(person)

    async def cards(self, person: str, deployment: str = "") -> list[dict[str, Any]]:
        """Cards the person can see; of one deployment if named. Each has its message's id in `ref`."""
        found = [
            {**dict(message.card), "ref": f"m{message.id}", "place": message.place, "said": message.text}
            for message in await self.messages(person)
            if message.card
        ]
        return [card for card in found if not deployment or card["deployment"] == deployment]

    async def ends(self, number: int = 1) -> Deployment:
        """Wait until a deployment has ended and every message about it has arrived."""

        async def ended() -> bool:
            seen = await self.get(number)
            return seen is not None and seen.state.is_final

        await self.until(ended, f"the end of d-{number}")
        await self.quiet()
        seen = await self.get(number)
        assert seen is not None
        return seen

    async def reaches(self, state: State, number: int = 1) -> Deployment:
        """Wait until a deployment is in a state."""

        async def there() -> bool:
            seen = await self.get(number)
            return seen is not None and seen.state is state

        await self.until(there, f"d-{number} to be {state}")
        await self.quiet()
        seen = await self.get(number)
        assert seen is not None
        return seen

    async def get(self, number: int) -> Deployment | None:
        """The deployment of that number."""
        return await self.app.db.read(lambda tx: rows.get(tx, number))

    async def quiet(self) -> None:
        """Wait until no message is behind."""
        self.app.outbox.poke()

        async def sent() -> bool:
            return await self.app.db.read(outbox.lag) == 0

        await self.until(sent, "all messages to arrive")

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for something that really happens elsewhere; fail with what was waited for."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not await condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            states = await self.app.db.read(
                lambda tx: [(d.ref, d.state.value, d.data.waiting_for) for d in rows.history(tx)]
            )
            raise AssertionError(f"waited in vain for {what}; deployments: {states}") from None

    async def audit(self) -> list[audit.AuditEntry]:
        """The audit log; its chain must be whole."""
        entries = await self.app.db.read(lambda tx: audit.entries(tx))
        count, problem = await self.app.db.read(audit.verify)
        assert problem == ""
        assert len(entries) <= count  # a replica may have written meanwhile
        return [stored.entry for stored in entries]


def settings_for(world: World, database_url: str = "") -> Settings:
    """Settings of a console-only Slipway on that world."""
    return Settings(
        config=world.directory,
        console=True,
        console_open=True,
        patience_seconds=2,
        database_url=SecretStr(database_url) if database_url else None,
    )


@asynccontextmanager
async def running(
    world: World,
    database_url: str = "",
    outside: Outside | None = None,
    settings: Mapping[str, object] | None = None,
) -> AsyncIterator[Running]:
    """Start a Slipway on the world, and stop it in order. settings: over the usual ones."""
    chosen = settings_for(world, database_url).model_copy(update=dict(settings or {}))
    app = App(chosen, outside or Outside(poll=POLL))
    await app.start()
    try:
        yield Running(app)
    finally:
        await app.runs.stop_all()
        await app.stop()
