"""Small jobs on their intervals: they run again and again, also after one that failed, and end with the process."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from bot.errors import ProviderUnavailable
from bot.schedule import housekeeping
from bot.schedule.housekeeping import Housekeeping


async def test_a_job_runs_again_whatever_became_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is away and what is broken is logged; the next time comes all the same."""
    monkeypatch.setattr(housekeeping, "LATER", 0.0)
    ways, done = iter([ProviderUnavailable("It does not answer."), RuntimeError("broken"), None]), asyncio.Event()

    async def job() -> None:
        if (error := next(ways, None)) is not None:
            raise error
        done.set()

    kept = Housekeeping()
    kept.every(timedelta(seconds=0.02), "job", job)
    kept.start()
    try:
        await asyncio.wait_for(done.wait(), 60)
    finally:
        kept.stop()


async def test_stopped_before_it_began() -> None:
    """A server that ends in its first seconds leaves nothing behind."""
    kept = Housekeeping()
    kept.every(timedelta(seconds=1), "job", asyncio.Event().wait)
    kept.start()
    kept.stop()
    beginning = kept._beginning
    assert beginning is not None
    with pytest.raises(asyncio.CancelledError):
        await beginning
    assert kept._scheduler is None
