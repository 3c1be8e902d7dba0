"""Requests over kept connections, against servers that speak HTTP well, badly, late, or not at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from notifiers import http_host
from notifiers.http_host import Cut, HttpAnswer, HttpHost, NotConnected
from tests.support.certificates import make_authority
from tests.support.network import free_port

WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Kind: a\r\n\r\nok"
OTHER = WELL.replace(b"ok", b"no")
PATIENCE = 10.0

Answering = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], None]


class Server:
    """Reads requests one after another on each connection; `answering` writes what comes back."""

    def __init__(self, answering: Answering) -> None:
        self.connections = 0
        self.requests: list[tuple[list[str], bytes]] = []
        """Lines of the head, and the body."""
        self.ended = asyncio.Event()
        """A connection ended."""
        self._answering = answering

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                length = next(int(line.partition(":")[2]) for line in lines if line.startswith("Content-Length:"))
                self.requests.append((lines, await reader.readexactly(length)))
                await self._answering(lines[0].split()[1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended.set()
            writer.close()


@asynccontextmanager
async def served(answering: Answering, secure: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Server, str]]:
    """The server and its origin."""
    server = Server(answering)
    listening = await asyncio.start_server(server.take, "127.0.0.1", 0, ssl=secure)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield server, f"{'https' if secure else 'http'}://127.0.0.1:{port}"
    finally:
        listening.close()


def saying(*answers: bytes) -> Answering:
    """Each request in its turn gets the next of these; the last one for ever. Empty: the connection is closed."""
    left = list(answers)

    async def answer(_target: str, writer: asyncio.StreamWriter) -> None:
        said = left.pop(0) if len(left) > 1 else left[0]
        if said:
            writer.write(said)
        else:
            writer.close()

    return answer


async def ask(host: HttpHost, target: str = "/api/x", timeout: float = PATIENCE) -> HttpAnswer:
    return await host.ask("POST", target, {"Authorization": "Bearer t"}, b"body", timeout)


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Both event loops: neither their transports nor their TLS are the same."""
    chosen: Run = request.param
    return chosen


def test_what_is_sent_and_what_comes_back(run: Run) -> None:
    """The request as RFC 9112 has it; a header of the answer in whatever case; one connection for both requests."""

    async def work() -> None:
        async with served(saying(WELL)) as (server, origin):
            host = HttpHost(f"{origin}/not/looked/at")
            first = await host.ask("POST", "/api/a?b=c", {"X-One": "1"}, "grün".encode(), PATIENCE)
            second = await host.ask("GET", "/api/d", {}, b"", PATIENCE)
            host.close()
            await server.ended.wait()
        assert (first.status, first.body, first.header("x-KIND"), first.header("absent")) == (200, b"ok", "a", "")
        assert second.body == b"ok"
        place = origin.removeprefix("http://")
        head = ["POST /api/a?b=c HTTP/1.1", f"Host: {place}", "X-One: 1", "Content-Length: 5", "", ""]
        assert server.requests[0] == (head, "grün".encode())
        assert server.requests[1][0][0] == "GET /api/d HTTP/1.1"
        assert server.connections == 1

    run(work())


@pytest.mark.parametrize(
    ("answer", "body", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", 2),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", 2),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"ok", 1),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", 1),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", 1),
        (WELL + OTHER, b"ok", 2),
    ],
    ids=["close", "1.0", "chunked", "interim", "empty", "one too many"],
)
def test_ways_to_answer(answer: bytes, body: bytes, connections: int) -> None:
    """Each is read whole, and a connection is used again only where the server lets it be."""

    async def work() -> None:
        async with served(saying(answer)) as (server, origin):
            host = HttpHost(origin)
            for _ in range(2):
                assert (await ask(host)).body == body
            assert server.connections == connections
            host.close()

    asyncio.run(work())


def test_a_body_without_a_length_ends_with_its_connection(run: Run) -> None:
    """As a gateway may answer; nothing else may be taken for such an end."""

    async def until_the_end(_target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\nsorry")
        writer.close()

    async def work() -> None:
        async with served(until_the_end) as (_, origin):
            answer = await ask(HttpHost(origin))
        assert (answer.status, answer.body) == (502, b"sorry")

    run(work())


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno", WELL[:20], WELL],
    ids=["nothing", "no HTTP", "half a body", "half a head", "too large"],
)
def test_what_became_of_it_is_not_known(run: Run, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question was sent and no whole answer came: that is said, and the connection is not used again."""

    async def once(_target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async def work() -> None:
        async with served(once) as (server, origin):
            host = HttpHost(origin)
            if answer is WELL:
                monkeypatch.setattr(http_host, "LARGEST", 1)
            for _ in range(2):
                with pytest.raises(Cut):
                    await ask(host)
            assert server.connections == len(server.requests) == 2

    run(work())


def test_a_late_answer_is_nobody_elses(run: Run) -> None:
    """After a timeout the next request has a connection of its own, and its own answer."""
    go = asyncio.Event()

    async def first_late(target: str, writer: asyncio.StreamWriter) -> None:
        if target == "/late":
            await go.wait()
        writer.write(OTHER if target == "/late" else WELL)

    async def work() -> None:
        async with served(first_late) as (server, origin):
            host = HttpHost(origin)
            with pytest.raises(TimeoutError):
                await ask(host, "/late", timeout=0.05)
            go.set()
            assert (await ask(host)).body == b"ok"
            assert server.connections == 2
            host.close()

    run(work())


def test_a_request_given_up_takes_its_connection_along(run: Run) -> None:
    """Cancelled between question and answer."""

    async def never(target: str, writer: asyncio.StreamWriter) -> None:
        if target != "/never":
            writer.write(WELL)

    async def work() -> None:
        async with served(never) as (server, origin):
            host = HttpHost(origin)
            waiting = asyncio.create_task(ask(host, "/never"))
            while not server.requests:
                await asyncio.sleep(0)
            waiting.cancel()
            await server.ended.wait()
            assert (await ask(host)).body == b"ok"
            assert server.connections == 2
            host.close()

    run(work())


def test_what_nobody_asked_for_is_no_answer(run: Run) -> None:
    """A server that speaks by itself between two requests: its words are not the next one's answer."""
    said = asyncio.Event()

    async def twice(_target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(WELL)
        await writer.drain()
        if not said.is_set():
            asyncio.get_running_loop().call_later(0.01, writer.write, OTHER)
            said.set()

    async def work() -> None:
        async with served(twice) as (server, origin):
            host = HttpHost(origin)
            assert (await ask(host)).body == b"ok"
            await server.ended.wait()
            assert (await ask(host)).body == b"ok"
            host.close()

    run(work())


def test_many_at_once_get_their_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than there may be connections; each has the answer to its own question."""
    monkeypatch.setattr(http_host, "MOST", 4)

    async def echo(target: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(target), target.encode()))

    async def work() -> None:
        async with served(echo) as (server, origin):
            host = HttpHost(origin)
            targets = [f"/{number}" for number in range(40)]
            answers = await asyncio.gather(*(ask(host, target) for target in targets))
            assert [one.body.decode() for one in answers] == targets
            assert server.connections <= 4
            host.close()

    run(work())


def test_a_connection_unused_for_long_is_not_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may have forgotten it without a word."""
    monkeypatch.setattr(http_host, "KEEP", -1.0)

    async def work() -> None:
        async with served(saying(WELL)) as (server, origin):
            host = HttpHost(origin)
            for _ in range(3):
                await ask(host)
            assert server.connections == 3
            host.close()

    run(work())


def test_nobody_there(run: Run) -> None:
    """Nothing was asked, and that is said: such a message may be posted again without a look."""

    async def work() -> None:
        with pytest.raises(NotConnected):
            await ask(HttpHost(f"http://127.0.0.1:{free_port()}"))

    run(work())


def test_tls_by_the_companys_authority(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trusted as SSL_CERT_FILE says; of an authority nobody knows, or for another host, nothing is told."""
    trusted, context = make_authority(tmp_path)

    async def work() -> None:
        async with served(saying(WELL), context) as (server, origin):
            with pytest.raises(NotConnected):
                await ask(HttpHost(origin))
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
            with pytest.raises(NotConnected):
                await ask(HttpHost(origin.replace("127.0.0.1", "localhost")))
            assert not server.requests
            host = HttpHost(origin)
            for _ in range(2):
                assert (await ask(host)).body == b"ok"
            assert len(server.requests) == 2
            host.close()
            await server.ended.wait()

    run(work())


@pytest.mark.parametrize("token", ["a\nX-Evil: 1", "a\rb", "a\r\n"])
def test_a_header_keeps_to_its_line(token: str) -> None:
    """It is not sent, and the error does not quote it."""

    async def work() -> None:
        async with served(saying(WELL)) as (server, origin):
            host = HttpHost(origin)
            with pytest.raises(ValueError, match="line break") as raised:
                await host.ask("POST", "/", {"Authorization": token}, b"", PATIENCE)
            assert token not in str(raised.value)
            with pytest.raises(ValueError, match="line break"):
                await host.ask("POST", f"/{token}", {}, b"", PATIENCE)
            assert not server.connections

    asyncio.run(work())


@pytest.mark.parametrize("origin", ["ftp://host", "slack.com/api/", "https://"])
def test_an_origin_that_is_none(origin: str) -> None:
    """Said when it is given, not when somebody waits."""
    with pytest.raises(ValueError, match="origin"):
        HttpHost(origin)
