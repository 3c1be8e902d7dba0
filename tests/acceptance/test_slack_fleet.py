"""Many deployments in one channel under Slack's limits, twenty times as fast as real so that the test ends."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.catalog.load import load_catalog
from bot.clock import utc_now
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
from tests.support.world import make_world

SPEED = 20
FLEET = 200


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 60.0], ids=["all at once", "over a minute"])
async def test_every_end_is_seen_within_a_minute(tmp_path: Path, spread: float) -> None:
    """One post a second in the channel and fifty edits a minute: none stale, none twice, no end later than 60 s."""
    services = tuple(f"svc-{number}" for number in range(FLEET))
    catalog = load_catalog(make_world(tmp_path / "world", services, channels={"slack": "C1"}).directory)
    db = Database(f"sqlite:///{tmp_path / 'slipway.db'}")
    migrate(db)
    moves = Moves(lambda: catalog, ("slack",))
    async with FakeSlack(speed=SPEED) as slack:
        company(slack)
        api = SlackApi([SecretStr(BOT_TOKEN)], slack.base_url)
        await api.open()
        sender = Outbox(db, lambda: catalog, {"slack": SlackClient(api)}, utc_now, patience=5 / SPEED)
        await sender.start()
        ended: dict[int, float] = {}
        try:
            for service in services:
                new = replace(new_deployment(service, service=service), origin=Origin("slack", "C1"))
                await db.run(partial(_create, moves, new))
            sender.poke()
            async with asyncio.timeout(60):
                while len(slack.posts("C1")) < FLEET:
                    await asyncio.sleep(0.05)
            for number in range(1, FLEET + 1):
                await db.run(partial(_end, moves, number))
                ended[number] = time.monotonic()
                sender.poke()
                await asyncio.sleep(spread / SPEED / FLEET)
            async with asyncio.timeout(60):
                while await db.read(outbox.lag):
                    await asyncio.sleep(0.05)
        finally:
            await sender.stop()
            await api.close()
            db.close()
    late = [(_seen(slack, number) - at) * SPEED for number, at in ended.items()]
    assert max(late) <= 60
    cards = [one for one in slack.posts("C1") if any(block["type"] == "header" for block in one["blocks"])]
    assert len(cards) == FLEET
    assert all("was cancelled" in words(one) for one in cards)


def _create(moves: Moves, new: NewDeployment, tx: Tx) -> None:
    moves.create(tx, new, utc_now())


def _end(moves: Moves, number: int, tx: Tx) -> None:
    seen = rows.get(tx, number)
    assert seen is not None
    moves.move(tx, seen, State.CANCELLED, at=utc_now(), actor="owner")


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
