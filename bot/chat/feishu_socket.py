"""The long connection of Feishu: the same events without a public address, as protobuf frames over a WebSocket.

lark-oapi's own client runs handlers inside its receive loop, asks for the address with a blocking call and costs its
whole import, so it judges this one in the tests only. Source: lark_oapi 1.7.5 `ws/client.py`; open.feishu.cn
"使用长连接接收事件".
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from bot.chat.feishu_frames import CONTROL, Frame, decode, encode
from bot.errors import ProviderError
from notifiers.feishu_api import FeishuApi

log = structlog.get_logger(__name__)

MAX_FRAME = 4 * 1024 * 1024
MAX_PARTS = 64
MAX_WAITING = 256
"""Messages of which some parts are missing; the platform sends again what is never acknowledged."""
PARTS_LIVE = 5.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0

Take = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]


@dataclass(slots=True)
class _Parts:
    """A message that comes in several frames. since: monotonic seconds."""

    payloads: dict[int, bytes] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)


class LongConnection:
    """Keeps one connection open and hands every event to `take`, each in its own task, so a slow one delays none."""

    def __init__(self, api: FeishuApi, take: Take) -> None:
        """take: returns the answer to an event; a ProviderError from it has the platform send the event again."""
        self._api = api
        self._take = take
        self._socket: ClientConnection | None = None
        self._running: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, _Parts] = {}
        self._service = 0
        self._ping_every = 120.0

    @property
    def is_open(self) -> bool:
        """Whether events can arrive now."""
        return self._socket is not None

    def start(self) -> None:
        """Connect, and connect again whenever it breaks."""
        self._running = asyncio.create_task(self._keeping())

    async def stop(self) -> None:
        """Take nothing new; what is being stored is stored and acknowledged first."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1.0)
        for task in [*self._tasks, *([self._running] if self._running else [])]:
            task.cancel()
        await asyncio.gather(*self._tasks, *([self._running] if self._running else []), return_exceptions=True)

    async def _keeping(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._connected()
                pause = FIRST_PAUSE
            except (ProviderError, WebSocketException, OSError, TimeoutError, ValueError) as error:
                # Never the error's text: the address holds a ticket.
                log.warning("feishu_connection_failed", error=type(error).__name__)
                pause = min(LONGEST_PAUSE, pause * 2)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, guards nothing

    async def _connected(self) -> None:
        """One connection, until it ends."""
        place = await self._api.connection()
        url = str(place["URL"])
        self._service = int(parse_qs(urlsplit(url).query).get("service_id", ["0"])[0])
        self._configure(place.get("ClientConfig"))
        async with connect(url, max_size=MAX_FRAME, compression=None) as socket:
            self._socket = socket
            log.info("feishu_connection_open")
            pinging = asyncio.create_task(self._pinging(socket))
            try:
                async for data in socket:
                    if isinstance(data, bytes):
                        self._came(socket, data)
            finally:
                self._socket = None
                pinging.cancel()
                await asyncio.gather(pinging, return_exceptions=True)
        log.info("feishu_connection_closed")

    def _configure(self, config: object) -> None:
        given = config.get("PingInterval") if isinstance(config, Mapping) else None
        if isinstance(given, int) and given > 0:
            self._ping_every = float(given)

    async def _pinging(self, socket: ClientConnection) -> None:
        while True:
            await socket.send(encode(Frame(CONTROL, self._service, {"type": "ping"})))
            await asyncio.sleep(self._ping_every)

    def _came(self, socket: ClientConnection, data: bytes) -> None:
        try:
            frame = decode(data)
            if frame.method == CONTROL:
                self._controlled(frame)
                return
            payload = self._whole(frame.headers, frame.payload)
        except (ValueError, KeyError) as error:
            # One bad frame must not end the connection.
            log.warning("feishu_frame_not_understood", error=type(error).__name__)
            return
        if payload is not None:
            self._later(self._answered(socket, frame, payload))

    def _controlled(self, frame: Frame) -> None:
        if frame.headers.get("type") == "pong" and frame.payload:
            self._configure(json.loads(frame.payload))

    def _whole(self, headers: Mapping[str, str], payload: bytes) -> bytes | None:
        """The message's payload, or None while parts of it are missing."""
        total, number = int(headers.get("sum") or 1), int(headers.get("seq") or 0)
        if total <= 1:
            return payload
        if total > MAX_PARTS or not 0 <= number < total:
            raise ValueError("parts")
        self._forget_old()
        parts = self._waiting.setdefault(headers["message_id"], _Parts())
        parts.payloads[number] = payload
        if len(parts.payloads) < total:
            return None
        del self._waiting[headers["message_id"]]
        return b"".join(parts.payloads[one] for one in range(total))

    def _forget_old(self) -> None:
        limit = time.monotonic() - PARTS_LIVE
        for key in [key for key, parts in self._waiting.items() if parts.since < limit]:
            del self._waiting[key]
        while len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]

    async def _answered(self, socket: ClientConnection, frame: Frame, payload: bytes) -> None:
        started = time.monotonic()
        answer = await self._outcome(payload)
        frame.headers["biz_rt"] = str(int((time.monotonic() - started) * 1000))
        frame.payload = json.dumps(answer).encode()
        try:
            await socket.send(encode(frame))
        except WebSocketException as error:
            # Stored already: the work is done, and a repeat is recognised by its key.
            log.warning("feishu_ack_not_sent", error=type(error).__name__)

    async def _outcome(self, payload: bytes) -> dict[str, Any]:
        try:
            event = json.loads(payload)
            said = await self._take(event) if isinstance(event, dict) else {}
        except ProviderError as error:
            log.error("feishu_event_not_stored", error=error.message)
            return {"code": 500}
        except ValueError:
            return {"code": 200}  # repeating it would not make it readable
        if not said:
            return {"code": 200}
        return {"code": 200, "data": base64.b64encode(json.dumps(said, ensure_ascii=False).encode()).decode()}

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
