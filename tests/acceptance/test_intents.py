"""What was asked and could not be done: tried again while something is away, given up only when it ends the process."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import inspect, select

from bot import dispatch
from bot.app import Outside
from bot.chat.base import IncomingCommand
from bot.dispatch import MAX_ATTEMPTS, Answer
from bot.errors import ProviderUnavailable
from bot.store import inbox
from bot.store.database import Tx, metadata
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


def asking(text: str, event: str = "e") -> IncomingCommand:
    return IncomingCommand("console", event, "owner", "#releases", text)


async def test_what_only_tells_is_stored_with_its_answer(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, also if it comes twice or both at the same time; it is on record like any other."""
    monkeypatch.setattr(dispatch, "AT_ONCE", 20.0)  # however busy the machine is
    async with running(make_world(tmp_path), outside=Outside(clock=clock)) as slipway:
        dispatcher = slipway.app.dispatcher
        assert await dispatcher.command(asking("/whoami"))
        row = await slipway.app.db.read(lambda tx: inbox.by_event(tx, "console", "e"))
        assert not await dispatcher.command(asking("/whoami"))
        both = await asyncio.gather(*(dispatcher.command(asking("/why app prod", "f")) for _ in range(2)))
        await slipway.quiet()
        entries = [(one.action, one.subject, one.outcome) for one in await slipway.audit() if one.action == "command"]
        answers = [one for one in await slipway.app.console_store.newest("owner") if one.card or one.text]
    assert row is not None
    assert (row.done_at, row.outcome) == (clock(), "accepted")
    assert sorted(both) == [False, True]
    assert entries == [("command", "/whoami", "accepted"), ("command", "/why app prod", "accepted")]
    assert len(answers) == 2


async def test_in_a_crowd_it_is_stored_first(tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a burst is acknowledged before anything of it is worked out."""
    async with running(make_world(tmp_path), outside=Outside(clock=clock)) as slipway:
        monkeypatch.setattr(dispatch, "CONCURRENT", 0)
        running_before = set(slipway.app.dispatcher._running)
        assert await slipway.app.dispatcher.command(asking("/whoami"))
        (work,) = slipway.app.dispatcher._running - running_before
        await work
        row = await slipway.app.db.read(lambda tx: inbox.by_event(tx, "console", "e"))
    assert row is not None
    assert row.outcome == "accepted"


WRITTEN_BY_EVERY_COMMAND = {"inbox", "audit", "audit_head", "outbox", "console_messages"}


async def test_what_only_tells_changes_nothing(tmp_path: Path) -> None:
    """Its example leaves every table as it was."""

    def rows(tx: Tx) -> dict[str, list[object]]:
        names = set(inspect(tx).get_table_names()) & set(metadata.tables) - WRITTEN_BY_EVERY_COMMAND
        return {name: [tuple(row) for row in tx.execute(select(metadata.tables[name]))] for name in sorted(names)}

    async with running(make_world(tmp_path)) as slipway:
        await slipway.app.dispatcher.command(asking("/deploy app prod", "first"))
        await slipway.ends()
        before = await slipway.app.db.read(rows)
        assert before["deployments"]
        telling = [command for command in slipway.app.commands if command.only_tells]
        for number, command in enumerate(telling):
            for which, text in enumerate((command.example, f"/{command.name}", f"/{command.name} app prod")):
                assert await slipway.app.dispatcher.command(asking(text, f"{number} {which}"))
        await slipway.quiet()
        assert await slipway.app.db.read(rows) == before
    assert len(telling) >= 10
