"""A reading is shared only by those who asked before it began: nobody is told what was true before they asked."""

from __future__ import annotations

import asyncio

import pytest

from bot.store.shared import SharedReading


class Source:
    """Counts its readings; each ends when it is let."""

    def __init__(self) -> None:
        self.value = 0
        self.readings = 0
        self.go = asyncio.Event()

    async def read(self) -> int:
        self.readings += 1
        value = self.value
        await self.go.wait()
        return value


async def test_a_burst_is_served_by_two_readings() -> None:
    """Who asks while one is under way waits for the next one, together."""
    source = Source()
    shared = SharedReading(source.read)
    first = asyncio.create_task(shared())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.value = 1
    later = [asyncio.create_task(shared()) for _ in range(100)]
    await asyncio.sleep(0)
    source.go.set()
    assert await first == 0
    assert await asyncio.gather(*later) == [1] * 100
    assert source.readings == 2
    source.value = 2
    assert await shared() == 2


async def test_a_failure_is_everybodys_and_over_with() -> None:
    """The next who asks is not told of it again, and who gives up takes nothing from the others."""
    outcomes: list[Exception | int] = [ValueError("away"), 7]

    async def read() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        await asyncio.sleep(0)
        return outcome

    shared = SharedReading(read)
    found = await asyncio.gather(shared(), shared(), return_exceptions=True)
    assert all(isinstance(one, ValueError) for one in found)
    patient, hasty = asyncio.create_task(shared()), asyncio.create_task(shared())
    await asyncio.sleep(0)
    hasty.cancel()
    assert await patient == 7
    with pytest.raises(asyncio.CancelledError):
        await hasty
