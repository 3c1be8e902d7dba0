"""Files in the thread of a message: charts, long output, and the log of what failed.

The message is there already when its files are sent, so a failure is only logged. Source: docs.slack.dev
"files.getUploadURLExternal", "files.completeUploadExternal".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import IO

import structlog

from bot.errors import ProviderError, SlipwayError
from notifiers.card import Card
from notifiers.chart import png
from notifiers.slack_api import SlackApi
from notifiers.slack_blocks import EXCERPT_SHOWN

log = structlog.get_logger(__name__)

MAX_FILE = 900_000
MAX_LOG = 50_000_000
"""Bytes of a whole log; Slack itself would take a gigabyte."""
LOG_LINES = 5_000
LOG_PATIENCE = 5.0
"""Seconds a personal message's file waits for the log."""
BADLY = frozenset({"failed", "rolled_back"})

LogOf = Callable[[str, int], Awaitable[str]]
"""Given a deployment's reference and a number of lines, the end of its log, redacted; empty if it has none."""


class SlackFiles:
    """Sends along what a card has no room for."""

    def __init__(self, api: SlackApi, log_of: LogOf | None = None) -> None:
        """log_of: the log that a personal message about a failure brings along; its reader may see it."""
        self._api = api
        self._log_of = log_of

    async def attach(self, team: str, channel: str, thread: str, card: Card | None, *, personal: bool) -> None:
        """Put what belongs to a card into its thread; a deployment's log once, however often it comes to this."""
        if card is None:
            return
        try:
            if card.chart is not None:
                await self._upload(team, channel, thread, "chart.png", png(card.chart), card.chart.title)
            content = (await self._output(card, personal))[-MAX_FILE:].encode()
            name = f"{card.deployment or 'log'}.txt"
            if content and not (card.deployment and await self._has(team, channel, thread, name)):
                await self._upload(team, channel, thread, name, content)
        except ProviderError as error:
            log.warning("file_not_uploaded", deployment=card.deployment, error=error.message)

    async def _output(self, card: Card, personal: bool) -> str:
        """The log for the one reader of a failure, else what the card had no room for."""
        if personal and card.state in BADLY and self._log_of is not None:
            try:
                async with asyncio.timeout(LOG_PATIENCE):
                    if whole := await self._log_of(card.deployment, LOG_LINES):
                        return whole
            except (SlipwayError, TimeoutError) as error:
                log.warning("log_not_read", deployment=card.deployment, error=str(error))
        return card.excerpt if len(card.excerpt) > EXCERPT_SHOWN else ""

    async def _has(self, team: str, channel: str, thread: str, name: str) -> bool:
        """Whether an edit before this one, or the process before us, put it there already."""
        async for page in self._api.pages("conversations.replies", team, channel=channel, ts=thread):
            for one in page.get("messages") or ():
                if any(file.get("title") == name for file in one.get("files") or ()):
                    return True
        return False

    async def put(self, team: str, channel: str, thread: str, name: str, file: IO[bytes], size: int) -> None:
        """Send a file from the disk into a thread. Raises ChatUnavailable, ChatRejected."""
        place = await self._api.ask("files.getUploadURLExternal", team, filename=name, length=size)
        await self._api.upload(str(place["upload_url"]), file)
        sharing = {"files": [{"id": place["file_id"], "title": name}], "channel_id": channel, "thread_ts": thread}
        await self._api.call("files.completeUploadExternal", team, **sharing)

    async def _upload(self, team: str, channel: str, thread: str, name: str, content: bytes, words: str = "") -> None:
        """words: for who does not see the picture."""
        said = {"alt_txt": words[:1000]} if words else {}
        place = await self._api.ask("files.getUploadURLExternal", team, filename=name, length=len(content), **said)
        await self._api.upload(str(place["upload_url"]), content)
        files = [{"id": place["file_id"], "title": words or name}]
        sharing = {"files": files, "channel_id": channel, "thread_ts": thread}
        await self._api.call("files.completeUploadExternal", team, **sharing)
