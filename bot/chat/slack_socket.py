"""Socket Mode: one WebSocket to Slack, opened with an app-level token, that comes back by itself within seconds.

The SDK speaks the protocol. Left alone it notices a cut connection only at its next ping, and tries an address again
whose ticket is used up; so the socket is watched here, and gets a fresh address when it does not come up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import SecretStr
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest

from bot.errors import ProviderError
from notifiers.slack_api import SlackApi

if TYPE_CHECKING:
    from bot.chat.slack import Answered

log = structlog.get_logger(__name__)

PING = 5.0
LOOK = 0.5
PAUSE = 5.0
"""Seconds until Slack is asked again for an address."""
STUCK = 4.0
"""Seconds after which an address that does not connect is given up for a new one."""

Take = Callable[[dict[str, Any]], Awaitable["Answered"]]
"""Given an envelope's payload, stores what it asks for and says what Slack is answered."""


class SlackSocket:
    """Opens the socket, keeps it open, and acknowledges what was stored."""

    def __init__(self, api: SlackApi, app_token: SecretStr, take: Take) -> None:
        """Nothing is opened yet. take: called for every envelope, many at a time."""
        self._api = api
        self._token = app_token
        self._take = take
        self._client: Any = None
        self._address = ""
        self._watching: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def check(self) -> None:
        """Ask Slack whether the token opens sockets. Raises ChatUnavailable: no, or not known now."""
        self._address = await self._api.socket_address(self._token)

    def start(self) -> None:
        """Open it, in the background, and keep it open."""
        quiet = logging.getLogger("slipway.slack_socket")
        quiet.setLevel(logging.CRITICAL + 1)  # its errors quote the address, and the address holds a ticket
        self._client = SocketModeClient(
            app_token=self._token.get_secret_value(),
            web_client=self._api.socket_client(),
            ping_interval=PING,
            logger=quiet,
        )
        self._client.socket_mode_request_listeners.append(self._envelope)
        self._watching = asyncio.create_task(self._watch(self._client))

    async def stop(self) -> None:
        """Close it; what was taken is stored."""
        tasks = [*self._tasks, *([self._watching] if self._watching is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    async def is_open(self) -> bool:
        """Whether envelopes arrive now."""
        return self._client is not None and bool(await self._client.is_connected())

    async def _watch(self, client: Any) -> None:
        opening: asyncio.Task[None] | None = None
        since = time.monotonic()
        was_open = False
        while True:
            if await client.is_connected():
                if not was_open:
                    log.info("slack_socket_open")
                was_open, since = True, time.monotonic()
            else:
                if was_open:
                    log.warning("slack_socket_lost")
                was_open = False
                if opening is None or opening.done():
                    opening = asyncio.create_task(self._open(client))
                    self._tasks.add(opening)
                    opening.add_done_callback(self._tasks.discard)
                elif time.monotonic() - since > STUCK:
                    client.wss_uri, since = None, time.monotonic()
            await asyncio.sleep(LOOK)

    async def _open(self, client: Any) -> None:
        try:
            # The SDK opens a new one by itself when Slack asks for it, under the same lock.
            async with client.connect_operation_lock, asyncio.timeout(60):
                if await client.is_connected():
                    return
                client.wss_uri = self._address or await self._api.socket_address(self._token)
                self._address = ""
                await client.connect()
        except (ProviderError, TimeoutError) as error:
            log.warning("slack_socket_not_opened", error=str(error))
            await asyncio.sleep(PAUSE)

    async def _envelope(self, _client: object, request: SocketModeRequest) -> None:
        # In a task: the SDK hands envelopes over one by one, and ours are stored many at a time.
        task = asyncio.create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: SocketModeRequest) -> None:
        answer = await self._take(request.payload)
        if answer.status >= 500:
            return  # not stored, so not acknowledged: Slack sends it again
        frame: dict[str, Any] = {"envelope_id": request.envelope_id}
        if answer.body:
            frame["payload"] = json.loads(answer.body) if answer.body.startswith("{") else {"text": answer.body}
        try:
            await self._client.send_message(json.dumps(frame))
        except Exception as error:
            # Stored already: the work is done, and a repeat is recognised by its key.
            log.warning("slack_ack_not_sent", error=type(error).__name__)
