"""Limits of what comes in: size and time of every body, and for hooks how much one sender may cost the others."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 5_000_000
"""Bytes; single routes take less."""
SLOWEST_BODY = 20.0
"""Seconds from the first byte of a body to its last."""


class _Late(Exception):
    """The body did not arrive in time."""


class _Large(Exception):
    """The body is too large."""


class BodyLimits:
    """ASGI middleware: a body is small and arrives soon, or the request is answered without it."""

    def __init__(self, app: ASGIApp, largest: int = LARGEST_BODY, slowest: float = SLOWEST_BODY) -> None:
        """largest: bytes; slowest: seconds."""
        self._app = app
        self._largest = largest
        self._slowest = slowest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, self._limited(receive), noted)
        except (_Late, _Large) as error:
            if started:
                raise ConnectionError("the body was given up after the answer had begun") from error
            await self._refuse(error, scope, receive, send)

    async def _refuse(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        late = isinstance(error, _Late)
        said = "The body did not arrive in time; send it again." if late else "The body is too large."
        answer = JSONResponse({"error": said}, 408 if late else 413, {"connection": "close"})
        await answer(scope, receive, send)

    def _limited(self, receive: Receive) -> Receive:
        deadline = time.monotonic() + self._slowest
        seen, whole = 0, False

        async def limited() -> Message:
            nonlocal seen, whole
            if whole:  # what comes now is the end of the connection, which a stream waits for
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError as error:
                raise _Late from error
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self._largest:
                raise _Large
            return message

        return limited


@dataclass
class _Bucket:
    """Tokens that come back with time."""

    tokens: float
    at: float


class Lane:
    """How much one hook may cost, at once and by and by, so that a sender in a loop harms itself alone."""

    def __init__(
        self,
        rate: float = 600.0,
        burst: float = 6_000.0,
        at_once: int = 64,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """rate: events a second in the long run; burst: what may come at once before; at_once: in work together."""
        self._rate = rate
        self._burst = burst
        self._now = now
        self._bucket = _Bucket(burst, now())
        self.room = asyncio.Semaphore(at_once)

    def take(self) -> float:
        """Take one event: 0, or seconds after which it may be sent again."""
        return _take(self._bucket, self._rate, self._burst, self._now())


class Strangers:
    """Addresses that keep sending what is not genuine: after a while they are not even listened to.

    An address from which something genuine came is a friend's proxy and is never shut out.
    """

    REMEMBERED = 4096
    PAUSE = 1.0
    """Seconds that the refusal of one who is shut out takes: a sender in a loop waits, and costs nothing meanwhile."""
    HELD = 256
    """Refusals that wait at once, of all addresses; what comes beyond is refused at once."""

    def __init__(
        self,
        rate: float = 0.5,
        burst: float = 30.0,
        friend_for: float = 600.0,
        now: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """rate, burst: of tries that are not genuine, per address; friend_for: seconds a friend is remembered."""
        self._rate = rate
        self._burst = burst
        self._friend_for = friend_for
        self._now = now
        self._pause = pause
        self._held = 0
        self._tries: OrderedDict[str, _Bucket] = OrderedDict()
        self._friends: OrderedDict[str, float] = OrderedDict()

    def wait(self, address: str) -> float:
        """0 if it may try, or seconds after which it may."""
        bucket = self._tries.get(address)
        if bucket is None or self._friends.get(address, 0.0) > self._now():
            return 0.0
        _refill(bucket, self._rate, self._burst, self._now())
        return 0.0 if bucket.tokens >= 1 else (1 - bucket.tokens) / self._rate

    async def hold(self) -> None:
        """Wait before one who is shut out is told so."""
        if self._held >= self.HELD:
            return
        self._held += 1
        try:
            await self._pause(self.PAUSE)
        finally:
            self._held -= 1

    def failed(self, address: str) -> bool:
        """It was not genuine. Returns whether that is worth a line in the log."""
        bucket = self._tries.setdefault(address, _Bucket(self._burst, self._now()))
        self._tries.move_to_end(address)
        if len(self._tries) > self.REMEMBERED:
            self._tries.popitem(last=False)
        return _take(bucket, self._rate, self._burst, self._now()) == 0.0

    def genuine(self, address: str) -> None:
        """It was."""
        self._friends[address] = self._now() + self._friend_for
        self._friends.move_to_end(address)
        if len(self._friends) > self.REMEMBERED:
            self._friends.popitem(last=False)


def _refill(bucket: _Bucket, rate: float, burst: float, now: float) -> None:
    bucket.tokens = min(burst, bucket.tokens + (now - bucket.at) * rate)
    bucket.at = now


def _take(bucket: _Bucket, rate: float, burst: float, now: float) -> float:
    _refill(bucket, rate, burst, now)
    if bucket.tokens < 1:
        return (1 - bucket.tokens) / rate
    bucket.tokens -= 1
    return 0.0
