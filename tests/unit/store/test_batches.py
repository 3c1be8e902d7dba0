"""Works that come together are done together, and none suffers for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bot.store.batches import MOST, Batches


class Halving:
    """Halves even numbers, a batch at a time, and refuses a batch with an odd one in it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.batches_of = Batches(self.halve)

    async def halve(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await asyncio.sleep(0)
        if any(number % 2 for number in numbers):
            raise ValueError("odd")
        return [number // 2 for number in numbers]


async def test_what_comes_meanwhile_is_the_next_batch() -> None:
    """The order is kept, nothing waits for company, and a batch has its limit."""
    halving = Halving()
    numbers = [2 * number for number in range(MOST + 5)]
    halves = await asyncio.gather(*(halving.batches_of.add(number) for number in numbers))
    assert halves == [number // 2 for number in numbers]
    assert [number for batch in halving.batches for number in batch] == numbers
    assert [len(batch) for batch in halving.batches] == [MOST, 5]
    assert await halving.batches_of.add(8) == 4


async def test_one_that_fails_fails_alone() -> None:
    """The others of its batch are done, each by itself, and hear nothing of it."""
    halving = Halving()
    results = await asyncio.gather(*(halving.batches_of.add(number) for number in (2, 3, 4)), return_exceptions=True)
    assert [results[0], results[2]] == [1, 2]
    with pytest.raises(ValueError, match="odd"):
        raise results[1]  # type: ignore[misc]
    assert halving.batches == [[2, 3, 4], [2], [3], [4]]


async def test_whoever_stops_waiting_keeps_nobody_from_their_result() -> None:
    """A cancelled request is no reason for another's to hang."""
    halving = Halving()
    gone, stays = (asyncio.create_task(halving.batches_of.add(number)) for number in (2, 4))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 2
