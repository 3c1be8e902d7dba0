"""An answer is posted while it is written down: who asked waits for no second commit, and a crash repeats nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.app import Outside
from bot.store import inbox
from bot.store.database import DatabaseUnavailable
from bot.store.outbox import lag
from tests.fakes.slack import FakeSlack, words
from tests.support.running import POLL
from tests.support.slack import USERS, SlackRunning, running_on_slack
from tests.support.world import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels={"slack": "C1"})


class Gate:
    """Before a database: what a command writes down after its intent is held up, or refused."""

    def __init__(self) -> None:
        self.calls = -1
        self.opened = asyncio.Event()
        self.is_away = False

    def arm(self) -> None:
        """From the next command on."""
        self.calls = 0

    async def passed(self) -> None:
        if self.calls < 0:
            return
        self.calls += 1
        if self.calls == 2:
            await self.opened.wait()
            if self.is_away:
                raise DatabaseUnavailable("The database does not answer.")


class Gated:
    """The database behind it."""

    def __init__(self, db: Any, gate: Gate) -> None:
        self._db = db
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def together(self, fn: Callable[[Any], Any]) -> Any:
        await self._gate.passed()
        return await self._db.together(fn)


def outside(gate: Gate) -> Outside:
    return Outside(poll=POLL, wrap=lambda name, part: Gated(part, gate) if name == "db" else part)


async def ask(slipway: SlackRunning, slack: FakeSlack, gate: Gate) -> None:
    """Ask, until the answer is in Slack and nothing of it is on record."""
    gate.arm()
    await slack.command(USERS["owner"], "/why app prod")

    async def posted() -> bool:
        return bool(slack.posts("C1"))

    await slipway.until(posted, "the answer in Slack")
    assert not [one for one in await slipway.audit() if one.action == "command"]
    assert await slipway.app.db.read(lag) == 0


async def told_once(slipway: SlackRunning, slack: FakeSlack) -> None:
    """One message, one entry, nothing left to send."""
    await slipway.answered(1)
    (message,) = slack.posts("C1")
    assert "app" in words(message["blocks"]) + message["text"]
    assert [one.outcome for one in await slipway.audit() if one.action == "command"] == ["accepted"]


async def test_an_answer_waits_for_no_second_commit(world: World, slack: FakeSlack) -> None:
    """It is in Slack while it is written down, and sent once."""
    gate = Gate()
    async with running_on_slack(world, slack, outside=outside(gate)) as slipway:
        await ask(slipway, slack, gate)
        gate.opened.set()
        await told_once(slipway, slack)
    assert slack.count("chat.postMessage") == 1
    assert slack.count("conversations.history") == 0


async def test_the_next_process_finds_what_was_posted(world: World, slack: FakeSlack) -> None:
    """The process ended between the posting and the commit: the command is done again, and its answer is there."""
    gate = Gate()
    async with running_on_slack(world, slack, outside=outside(gate)) as slipway:
        await ask(slipway, slack, gate)
        gate.is_away = True
        gate.opened.set()
    async with running_on_slack(world, slack) as slipway:
        await told_once(slipway, slack)
    assert slack.count("chat.postMessage") == 1
    assert slack.count("conversations.history") == 1


async def test_a_database_that_comes_back_finds_what_was_posted(world: World, slack: FakeSlack) -> None:
    """The same process does the command again."""
    gate = Gate()
    async with running_on_slack(world, slack, outside=outside(gate)) as slipway:
        await ask(slipway, slack, gate)
        gate.is_away = True
        gate.opened.set()
        dispatcher = slipway.app.dispatcher

        async def is_given_up() -> bool:
            return not dispatcher.busy

        await slipway.until(is_given_up, "the first attempt to fail")
        await slipway.app.db.run(lambda tx: inbox.release(tx, dispatcher.owner))
        dispatcher.look()
        await told_once(slipway, slack)
    assert slack.count("chat.postMessage") == 1


async def test_a_refused_posting_is_tried_again(world: World, slack: FakeSlack) -> None:
    """Slack took no more while the answer was written down: it is sent later, without a look whether it is there."""
    gate = Gate()
    fault = slack.fail("chat.postMessage", error="ratelimited", status=429, headers={"Retry-After": "1"})
    async with running_on_slack(world, slack, outside=outside(gate)) as slipway:
        gate.arm()
        gate.opened.set()
        await slack.command(USERS["owner"], "/why app prod")
        await told_once(slipway, slack)
    assert fault.times == 0
    assert slack.count("conversations.history") == 0
