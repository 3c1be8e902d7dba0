"""The loop of virtual time: waits cost nothing, work in threads stops the clock, sockets work."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.virtual_time import VirtualLoop, run_virtually


def test_an_hour_passes_exactly() -> None:
    """Whatever the machine does, a wait is as long as was asked."""

    async def work(loop: VirtualLoop) -> float:
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(60))
        return loop.time()

    assert run_virtually(work) == 3600


def test_time_stands_still_for_a_thread() -> None:
    """A timer cannot win against work that is on its way, however slow that is."""

    async def work(loop: VirtualLoop) -> float:
        async with asyncio.timeout(0.001):
            await loop.run_in_executor(None, time.sleep, 0.02)
        return loop.time()

    assert run_virtually(work) == 0


def test_a_timeout_is_seen() -> None:
    """Nothing comes: the limit is reached at its time."""

    async def work(loop: VirtualLoop) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return loop.time()

    assert run_virtually(work) == 30


def test_bytes_arrive_before_time_passes() -> None:
    """A question over a real socket is answered within no time."""

    async def work(loop: VirtualLoop) -> float:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readline()).upper())
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"hello\n")
                assert await reader.readline() == b"HELLO\n"
                writer.close()
                await writer.wait_closed()
        return loop.time()

    assert run_virtually(work) == 0
