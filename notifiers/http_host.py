"""Requests to one host over kept connections, for what people in a chat wait for: HTTP/1.1, small bodies, no more.

aiohttp, by which rarer calls and those through a proxy go, takes a third of a command's processor time for its own
handling and a sixth of the start to be loaded. What reads the answers is httptools, as on the side where we listen;
what finds a way to the host is aiohappyeyeballs, as in aiohttp; and aiofastnet's TLS costs half of uvloop's.
Sources: RFC 9110 and 9112.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools
from aiofastnet import create_connection
from aiohappyeyeballs import start_connection

CONNECT = 5.0
"""Seconds for a new connection."""
KEEP = 60.0
"""Seconds for which a connection without a request is kept."""
MOST = 100
"""Connections at once; who comes then waits."""
LARGEST = 32_000_000
"""Bytes of an answer's body."""
ATTEMPT = 0.25
"""Seconds until the host's next address is tried beside the one before (RFC 8305)."""
BREAK = re.compile(r"[\r\n\x00]")


class NotConnected(OSError):
    """There is no connection, so nothing was asked."""


class Cut(ConnectionError):
    """The connection ended, or what came is no HTTP: whether the question was heard is not known."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back. headers: as they were sent, in their order."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The first header of this name, in whatever case; empty if there is none."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), "")


class HttpHost:
    """One scheme, host and port. Requests at once have a connection each, and leave it to the next."""

    def __init__(self, origin: str) -> None:
        """origin: `https://host[:port]`, what follows is not looked at. Nothing is opened yet."""
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an origin begins with http:// or https:// and a host")
        self._is_secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or (443 if self._is_secure else 80)
        # Without a name and password, which belong to no header of that name.
        self._named = f"Host: {parts.netloc.rpartition('@')[2]}\r\n".encode("latin-1")
        self._context: ssl.SSLContext | None = None
        self._idle: list[_Connection] = []
        self._room = asyncio.Semaphore(MOST)

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> HttpAnswer:
        """Send one request and read its answer. target: path and query; timeout: seconds for the answer.

        Raises:
            NotConnected: nothing was sent.
            Cut, TimeoutError: what became of it is not known.
            ValueError: a header or the target would end its line.
        """
        asked = self._request(method, target, headers, body)
        async with self._room:
            connection = self._kept() or await self._connect()
            try:
                return await connection.exchange(asked, timeout)
            finally:
                self._leave(connection)

    def close(self) -> None:
        """End the connections that are kept; those in use end with their requests."""
        for connection in self._idle:
            connection.end()
        self._idle.clear()

    def _request(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
        head = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if BREAK.search(target) or head.count("\n") != len(headers) or head.count("\r") != len(headers):
            raise ValueError("a header or the address holds a line break")  # and not which: it may be a token
        begin = f"{method} {target} HTTP/1.1\r\n".encode("ascii")
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        return b"".join((begin, self._named, head.encode("latin-1"), length, body))

    def _kept(self) -> _Connection | None:
        """One that is open; the last used first, so that what a burst opened can grow old."""
        now = asyncio.get_running_loop().time()
        if self._idle and now - self._idle[0].idle_since > KEEP:
            self._idle.pop(0).end()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_free and now - connection.idle_since <= KEEP:
                return connection
            connection.end()
        return None

    def _leave(self, connection: _Connection) -> None:
        if connection.is_free:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.end()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        opened: socket.socket | None = None
        try:
            async with asyncio.timeout(CONNECT):
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                opened = await start_connection(found, happy_eyeballs_delay=ATTEMPT)
                connection = await self._spoken_over(opened)
                opened = None
        except OSError as error:  # a timeout, too
            raise NotConnected(f"no connection to {self._host} ({type(error).__name__})") from error
        finally:
            if opened is not None:
                opened.close()
        return connection

    async def _spoken_over(self, opened: socket.socket) -> _Connection:
        loop = asyncio.get_running_loop()
        if not self._is_secure:
            return (await loop.create_connection(_Connection, sock=opened))[1]
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(["http/1.1"])
        made = await create_connection(loop, _Connection, sock=opened, ssl=self._context, server_hostname=self._host)
        return made[1]


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[HttpAnswer] | None = None
        self._is_spoiled = False
        self._begin()

    def _begin(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0
        self._has_head = False

    @property
    def is_free(self) -> bool:
        """Whether the next request may go this way."""
        transport = self._transport
        return self._waiting is None and not self._is_spoiled and transport is not None and not transport.is_closing()

    async def exchange(self, asked: bytes, timeout: float) -> HttpAnswer:
        """Send it and wait, at most so many seconds. Raises Cut and TimeoutError."""
        assert self._transport is not None
        self._begin()
        self._is_spoiled = True  # until the answer is whole
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[HttpAnswer] = loop.create_future()
        self._waiting = waiting
        # Not `asyncio.timeout`, which costs as much as to read the answer.
        late = loop.call_later(timeout, self._fail, TimeoutError("no answer in time"))
        self._transport.write(asked)
        try:
            return await waiting
        finally:
            late.cancel()

    def end(self) -> None:
        """Close it at once."""
        self._is_spoiled = True
        if self._transport is not None:
            self._transport.abort()

    # -- what the event loop says ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:  # nobody asked; it must not be taken for the next answer
            self.end()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(Cut("what came is no HTTP"))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._has_head and not self._says_length():
            self._complete()  # such a body ends with its connection
        self._fail(Cut("the connection ended"))

    # -- what the parser says ----------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._has_head = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > LARGEST:
            self._fail(Cut("the answer is too large"))
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._has_head:  # an interim answer (1xx); the real one follows
            self._begin()
            return
        self._is_spoiled = self._waiting is None or not self._parser.should_keep_alive()
        self._complete()

    # ----------------------------------------------------------------------------------------------------------------

    def _says_length(self) -> bool:
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._headers)

    def _complete(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            answer = HttpAnswer(self._parser.get_status_code(), tuple(self._headers), b"".join(self._body))
            waiting.set_result(answer)

    def _fail(self, error: OSError) -> None:
        self.end()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
