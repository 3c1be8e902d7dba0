"""Many deployments in one channel under Slack's real limits, in virtual time: what counts is what was waited for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.catalog.load import load_catalog
from bot.catalog.model import Catalog
from bot.clock import Clock
from bot.deployments.model import NewDeployment, Origin, State
from bot.deployments.moves import Moves
from bot.store import deployments as rows
from bot.store import outbox
from bot.store.database import Database, Tx
from bot.store.migrate import migrate
from notifiers.outbox import Outbox
from notifiers.slack import SlackClient
from notifiers.slack_api import SlackApi
from tests.fakes.slack import BOT_TOKEN, FakeSlack, words
from tests.support.rows import new_deployment
from tests.support.slack import company
from tests.support.virtual_time import VirtualLoop, run_virtually
from tests.support.world import make_world

FLEET = 200


@pytest.mark.parametrize("spread", [0.0, 60.0], ids=["all at once", "over a minute"])
def test_every_end_is_seen_within_a_minute(tmp_path: Path, spread: float) -> None:
    """One post a second in the channel and fifty edits a minute: none stale, none twice, no end later than 60 s."""
    services = tuple(f"svc-{number}" for number in range(FLEET))
    catalog = load_catalog(make_world(tmp_path / "world", services, channels={"slack": "C1"}).directory)
    db = Database(f"sqlite:///{tmp_path / 'slipway.db'}")
    migrate(db)
    try:
        slack, ended = run_virtually(partial(_fleet, catalog, db, spread))
    finally:
        db.close()
    late = {number: _seen(slack, number) - at for number, at in ended.items()}
    assert {number: seconds for number, seconds in late.items() if not 0 <= seconds <= 60} == {}
    cards = [one for one in slack.posts("C1") if any(block["type"] == "header" for block in one["blocks"])]
    assert len(cards) == FLEET
    assert all("was cancelled" in words(one) for one in cards)
    # The limits were really reached, and not run into with every call.
    refused = [call for call in slack.calls if call.answer == "ratelimited"]
    assert 0 < len(refused) < len(slack.calls) / 5


async def _fleet(
    catalog: Catalog, db: Database, spread: float, loop: VirtualLoop
) -> tuple[FakeSlack, dict[int, float]]:
    """Post the cards of a fleet, end it within `spread` seconds. Returns when each ended."""
    moves = Moves(lambda: catalog, ("slack",))
    ended: dict[int, float] = {}
    async with FakeSlack(speed=1, now=loop.time) as slack:
        company(slack)
        api = SlackApi([SecretStr(BOT_TOKEN)], slack.base_url)
        await api.open()
        client = SlackClient(api, now=loop.time)
        sender = Outbox(db, lambda: catalog, {"slack": client}, loop.now, elapsed=loop.time)
        await sender.start()
        try:
            for name in catalog.services:
                new = replace(new_deployment(name, service=name), origin=Origin("slack", "C1"))
                await db.run(partial(_create, moves, new, loop.now))
            sender.poke()
            async with asyncio.timeout(2 * FLEET):
                while len(slack.posts("C1")) < FLEET:
                    await asyncio.sleep(1)
            for number in range(1, FLEET + 1):
                await db.run(partial(_end, moves, number, loop.now))
                ended[number] = loop.time()
                sender.poke()
                await asyncio.sleep(spread / FLEET)
            async with asyncio.timeout(10 * FLEET):
                while await db.read(outbox.lag):
                    await asyncio.sleep(1)
        finally:
            await sender.stop()
            await api.close()
    return slack, ended


def _create(moves: Moves, new: NewDeployment, clock: Clock, tx: Tx) -> None:
    moves.create(tx, new, clock())


def _end(moves: Moves, number: int, clock: Clock, tx: Tx) -> None:
    seen = rows.get(tx, number)
    assert seen is not None
    moves.move(tx, seen, State.CANCELLED, at=clock(), actor="owner")


def _seen(slack: FakeSlack, number: int) -> float:
    """When the end of a deployment could first be read in the channel."""
    mark = f"(d-{number})"
    times = [
        at
        for (place, _), versions in slack.history.items()
        for at, message in versions
        if place == "C1" and "was cancelled" in message["text"] and mark in message["text"] + words(message["blocks"])
    ]
    assert times, f"d-{number} was never seen to end"
    return min(times)
