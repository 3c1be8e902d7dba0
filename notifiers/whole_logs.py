"""A whole log as a file beside the card of `/logs`, where the chat takes files; the link on the card stands anyhow.

It waits on the disk between its system and the chat, so memory stays flat. It is sent in the background: a slow system
holds up no message, and a file that cannot be sent is only logged.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Protocol

import structlog

from bot.errors import SlipwayError
from notifiers.card import Card

log = structlog.get_logger(__name__)

TOKEN = "log"  # noqa: S105
"""Where a card has the token of its link, among what it says to programs."""
AT_ONCE = 2
PATIENCE = 300.0
"""Seconds for one log, from its system to the chat."""


class OpenLog(Protocol):
    """A log that is being read, as `bot.deployments.run_log` opens it, which is not loaded for this."""

    @property
    def name(self) -> str:
        """For the file."""
        ...

    @property
    def pieces(self) -> AsyncIterator[bytes]:
        """Whole lines, without secrets."""
        ...


OpenLogs = Callable[[str], Awaitable[OpenLog | None]]
"""Given the token of a link, the log; None if the link is over, or whoever asked may not read it any more."""
Put = Callable[[str, IO[bytes], int], Awaitable[None]]
"""Takes the file's name, the file at its beginning, and its size."""


class WholeLogs:
    """Sends them. Larger ones than the chat takes are left to the link."""

    def __init__(self, open_log: OpenLogs, most: int) -> None:
        """most: bytes that the chat takes."""
        self._open = open_log
        self._most = most
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, card: Card | None, put: Put) -> None:
        """Begin to send the log of a card that has one; of others nothing."""
        token = card.about.get(TOKEN) if card is not None else None
        if token:
            task = asyncio.create_task(self._send(token, put))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, token: str, put: Put) -> None:
        try:
            async with self._turns, asyncio.timeout(PATIENCE):
                found = await self._open(token)
                if found is not None:
                    await self._spool(found, put)
        except (SlipwayError, TimeoutError, OSError) as error:
            log.warning("log_not_sent", error=str(error) or type(error).__name__)

    async def _spool(self, found: OpenLog, put: Put) -> None:
        with tempfile.TemporaryFile(prefix="slipway-log-") as file:
            size = 0
            async for piece in found.pieces:
                size += len(piece)
                if size > self._most:
                    log.info("log_left_to_its_link", name=found.name)
                    return
                file.write(piece)
            file.seek(0)
            if size:
                await put(found.name, file, size)
