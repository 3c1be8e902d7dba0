"""Serves a fake on 127.0.0.1, with faults: what is between us and every real system."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bot.web.server import listen


@dataclass
class Fault:
    """One fault on requests that match `METHOD /path`.

    what: a status such as `503`, `refused` (not handled, connection cut), `lost` (handled, then cut before the answer),
    `cut` (half of the body) or `hang` (handled, then silence).
    """

    pattern: str
    what: str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"<html>proxy error</html>"


class Faulty:
    """An ASGI app between the socket and a fake."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.released = asyncio.Event()

    def fail(self, pattern: str, what: str, times: int = 1, **headers: str) -> None:
        """Break the next `times` requests that match."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(pattern, what, times, named))

    def count(self, pattern: str) -> int:
        """How many requests came that match."""
        return sum(1 for line in self.requests if re.search(pattern, line))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = f"{scope['method']} {scope['raw_path'].decode()}"
        self.requests.append(line)
        fault = next((one for one in self.faults if one.times > 0 and re.search(one.pattern, line)), None)
        if fault is None:
            await self.app(scope, receive, send)
            return
        fault.times -= 1
        await self._break(fault, scope, receive, send)

    async def _break(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.what.isdigit():
            await _answer(send, int(fault.what), fault.body, fault.headers)
        elif fault.what == "refused":
            await _half(send)
        elif fault.what == "cut":
            await self.app(scope, receive, _cutting(send))
        else:
            await self.app(scope, receive, _swallow)
            if fault.what == "hang":
                await self.released.wait()
            await _half(send)


async def _swallow(_message: Message) -> None:
    """The answer goes nowhere."""


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _half(send: Send) -> None:
    """Promise a body and close: the client sees a connection that was cut."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9999")]})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


def _cutting(send: Send) -> Send:
    async def cut(message: Message) -> None:
        if message["type"] == "http.response.body":
            body = message.get("body", b"")
            message = {**message, "body": body[: len(body) // 2], "more_body": True}
        await send(message)

    return cut


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The address of the app while the block runs, without a slash at the end."""
    bound = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, lifespan="off", log_level="critical", access_log=False, ws="none", loop="asyncio")
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    while not server.started:
        await asyncio.sleep(0.002)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        if isinstance(app, Faulty):
            app.released.set()
        server.should_exit = server.force_exit = True
        await task
        bound.close()
