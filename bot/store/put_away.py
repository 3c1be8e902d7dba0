"""Archives a little at a time, so that nobody waits for it."""

from __future__ import annotations

import asyncio
from datetime import datetime

from bot.store.archive import archive
from bot.store.database import Database

PAUSE = 0.02
"""Seconds between two transactions."""


async def put_away(db: Database, before: datetime) -> int:
    """Archive every deployment that ended before that and is not needed any more. Returns how many."""
    moved, after = 0, 0
    while True:
        started_after = after
        step = await db.run(lambda tx: archive(tx, before, started_after))  # noqa: B023
        moved += step.moved
        if step.next is None:
            return moved
        after = step.next
        await asyncio.sleep(PAUSE)
