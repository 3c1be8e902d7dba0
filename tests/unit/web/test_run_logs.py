"""A log is handed on while it is read: nobody waits for its end, and none of it piles up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette

from bot.deployments.run_log import OpenLog
from bot.errors import ProviderUnavailable
from bot.web.run_logs import log_routes
from tests.fakes.serving import serving


class Endless:
    """A log without an end, that counts what was taken of it."""

    def __init__(self) -> None:
        self.taken = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            self.taken += 1
            await asyncio.sleep(0)
            yield b"building, all is well so far\n" * 2000

    async def open(self, token: str) -> OpenLog | None:
        return OpenLog("d-1.log", self.pieces()) if token == "good" else None


async def test_a_log_without_end_is_read_no_faster_than_it_is_taken() -> None:
    """What the reader does not take is not read: so a log of any size costs the same memory."""
    log = Endless()
    async with serving(Starlette(routes=log_routes(log.open))) as url, httpx.AsyncClient() as client:
        async with client.stream("GET", f"{url}/logs/good") as answer:
            got = 0
            async for chunk in answer.aiter_bytes():
                got += len(chunk)
                if got > 3_000_000:
                    break
        # Beside what was taken, only buffers of the sockets are filled.
        assert log.taken * 58_000 < got + 12_000_000
        assert (await client.get(f"{url}/logs/bad")).status_code == 404


async def test_a_log_that_breaks_off_says_so_at_its_end() -> None:
    """The status is long sent; half a log must not pass for a whole one."""

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            yield b"line %d\n" % number
        raise ProviderUnavailable("Jenkins stopped answering in the middle of a log.")

    async def open_log(token: str) -> OpenLog | None:
        return OpenLog("d 1/../x.log", pieces(int(token)))

    transport = httpx.ASGITransport(Starlette(routes=log_routes(open_log)))
    async with httpx.AsyncClient(transport=transport, base_url="http://slipway") as client:
        answer = await client.get("/logs/2")
        assert answer.text == (
            "line 0\nline 1\n\n[Jenkins stopped answering in the middle of a log. The rest of the log is missing.]\n"
        )
        assert answer.headers["content-disposition"] == 'inline; filename="d-1-..-x.log"'
        answer = await client.get("/logs/0")
        assert (answer.status_code, answer.text) == (502, "Jenkins stopped answering in the middle of a log.\n")
