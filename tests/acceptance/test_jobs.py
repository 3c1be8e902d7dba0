"""Periodic jobs end to end: started once by many replicas, as a person with that person's rights, and never silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.app import Outside
from bot.clock import utc_now
from bot.deployments.model import State
from bot.store import firings
from tests.support.clock import MONDAY_MORNING
from tests.support.running import POLL, Running, running
from tests.support.world import World, make_world

NIGHTLY = {"name": "nightly", "command": "deploy app dev", "run_as": "owner", "every": "1h"}


def world_with(directory: Path, **job: Any) -> World:
    return make_world(directory, periodics=[NIGHTLY | job])


class MovingClock:
    """Goes on from a Monday, 09:00 UTC, and can be put forward."""

    def __init__(self) -> None:
        self._shift = MONDAY_MORNING - utc_now()

    def __call__(self) -> datetime:
        return utc_now() + self._shift

    def advance(self, by: timedelta) -> None:
        self._shift += by


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


async def started(slipway: Running) -> list[firings.Firing]:
    return await slipway.app.db.read(lambda tx: firings.history(tx, "nightly"))


async def hour_passes(slipway: Running, clock: MovingClock, by: timedelta = timedelta(hours=1)) -> None:
    """The clock moves on and every loop looks."""
    clock.advance(by)
    await slipway.app.jobs.look()


async def settled(slipway: Running) -> list[firings.Firing]:
    async def over() -> bool:
        await slipway.app.jobs.look()
        found = await started(slipway)
        return bool(found) and all(one.ended_at is not None for one in found)

    await slipway.until(over, "the job to be over")
    return await started(slipway)


@pytest.fixture
async def slipway(tmp_path: Path, clock: MovingClock) -> AsyncIterator[Running]:
    outside = Outside(clock=clock, poll=POLL)
    async with running(world_with(tmp_path / "world"), outside=outside) as one:
        await one.app.jobs.look()
        yield one


async def test_a_job_deploys_as_its_person(slipway: Running, clock: MovingClock) -> None:
    """The same way as a typed command: card, audit, result; and /jobs knows how it ended."""
    await hour_passes(slipway, clock)
    seen = await slipway.ends()
    assert (seen.state, seen.requested_by) == (State.SUCCEEDED, "owner")
    (firing,) = await settled(slipway)
    assert (firing.outcome, firing.cause) == ("succeeded", "")
    answer = (await slipway.say("developer", "/jobs nightly"))[-1]
    assert answer.card is not None
    assert "succeeded" in answer.card["text"]
    assert ("owner", "job:fire", "nightly") in [(e.actor, e.action, e.subject) for e in await slipway.audit()]


async def test_the_same_hour_is_started_once(slipway: Running, clock: MovingClock) -> None:
    """However often it is looked at."""
    await hour_passes(slipway, clock)
    for _ in range(5):
        await slipway.app.jobs.look()
    assert len(await started(slipway)) == 1


async def test_it_has_its_persons_rights_and_no_others(tmp_path: Path, clock: MovingClock) -> None:
    """A job of an outsider is refused as the outsider would be, and its owners are told."""
    world = world_with(tmp_path / "world", run_as="outsider", command="deploy app prod", owners=["lead"])
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.app.jobs.look()
        await hour_passes(slipway, clock)
        (firing,) = await settled(slipway)
        await slipway.quiet()
        assert firing.outcome == "refused"
        told = [one.text for one in await slipway.messages("lead") if one.person == "lead"]
        assert any("nightly" in text and "refused" in text for text in told)
        assert await slipway.get(1) is None


async def test_pausing_running_and_resuming(slipway: Running, clock: MovingClock) -> None:
    """A bystander may not; what comes while it is paused is not made up for."""
    refusal = (await slipway.say("outsider", "/jobs pause nightly"))[-1]
    assert "not yours" in (refusal.card or {})["text"]
    await slipway.say("owner", "/jobs pause nightly")
    await hour_passes(slipway, clock)
    assert await started(slipway) == []
    await slipway.say("owner", "/jobs resume nightly")
    await slipway.app.jobs.look()
    assert await started(slipway) == []
    await slipway.say("owner", "/jobs run nightly")
    (firing,) = await settled(slipway)
    assert (firing.cause, firing.outcome) == ("run by owner", "succeeded")


async def test_it_does_not_overlap_itself(slipway: Running, clock: MovingClock) -> None:
    """The one before has not ended: the next is written down as left out."""
    at = clock()
    await slipway.app.db.run(lambda tx: firings.fire(tx, "nightly", at, at))
    await hour_passes(slipway, clock)
    assert [one.outcome for one in await started(slipway)] == ["overlapped", "running"]


async def test_many_replicas_start_each_occurrence_once(tmp_path: Path, clock: MovingClock, postgres_url: str) -> None:
    """Three clocks strike at once, twelve times."""
    world = world_with(tmp_path / "world", command="status", overlap="allow")
    outside = Outside(clock=clock, poll=POLL)
    async with (
        running(world, postgres_url, outside) as one,
        running(world, postgres_url, outside) as two,
        running(world, postgres_url, outside) as three,
    ):
        await one.app.jobs.look()
        for _ in range(12):
            clock.advance(timedelta(hours=1))
            await asyncio.gather(*(each.app.jobs.look() for each in (one, two, three)))
        found = await one.app.db.read(lambda tx: firings.history(tx, "nightly", 100))
        entries = await one.audit()
    assert len(found) == len({firing.fire_at for firing in found}) == 12
    assert len([entry for entry in entries if entry.action == "job:fire"]) == 12
