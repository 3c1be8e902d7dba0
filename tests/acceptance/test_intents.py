"""What was asked and could not be done: tried again while something is away, given up only when it ends the process."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from bot.app import Outside
from bot.dispatch import MAX_ATTEMPTS, Answer
from bot.errors import ProviderUnavailable
from bot.store import inbox
from bot.store.database import Tx
from bot.store.inbox import InboxRow
from tests.support import FakeClock
from tests.support.running import Running, running
from tests.support.world import make_world


async def again(slipway: Running, clock: FakeClock) -> None:
    """The lease of what failed has run out, and it is begun once more."""
    clock.advance(inbox.LEASE + timedelta(seconds=1))
    await slipway.app.dispatcher.recover()
    async with asyncio.timeout(20):
        while slipway.app.dispatcher._held:
            await asyncio.sleep(0.01)


async def test_an_outage_uses_up_no_tries(tmp_path: Path, clock: FakeClock) -> None:
    """A process that lives was not ended by what it failed at, however often the database was away meanwhile."""
    tries = 0

    async def work(_row: InboxRow) -> Answer:
        nonlocal tries
        tries += 1
        if tries <= MAX_ATTEMPTS + 3:
            raise ProviderUnavailable("The database does not answer.")
        return Answer("accepted", "done")

    async with running(make_world(tmp_path), outside=Outside(clock=clock)) as slipway:
        slipway.app.dispatcher.also("push", work)
        task = await slipway.app.dispatcher.hand_in("github", "e", "push", {})
        assert task is not None
        await task
        for _ in range(MAX_ATTEMPTS + 3):
            await again(slipway, clock)
        row = await slipway.app.db.read(lambda tx: inbox.by_event(tx, "github", "e"))
    assert row is not None
    assert (row.outcome, row.answer, row.attempts) == ("accepted", "done", 0)


async def test_what_ends_every_process_is_given_up(tmp_path: Path, clock: FakeClock) -> None:
    """Whoever asked is told, and no other command suffers for it for ever."""
    async with running(make_world(tmp_path), outside=Outside(clock=clock)) as slipway:
        gone = {"platform": "console", "event_id": "e", "user_id": "owner", "place": "#releases", "text": "/whoami"}
        payload = gone | {"personal": False, "thread": "", "message_id": ""}

        def left_behind(tx: Tx) -> None:
            number = inbox.put(tx, "console", "e", "command", payload, clock(), owner="a process that ended")
            for _ in range(MAX_ATTEMPTS):
                inbox.begin_again(tx, number or 0)

        await slipway.app.db.run(left_behind)
        await again(slipway, clock)
        row = await slipway.app.db.read(lambda tx: inbox.by_event(tx, "console", "e"))
        entry = (await slipway.audit())[-1]
    assert row is not None
    assert row.outcome == "errored"
    assert f"tried {MAX_ATTEMPTS} times" in row.answer
    assert (entry.outcome, entry.subject) == ("errored", "/whoami")
