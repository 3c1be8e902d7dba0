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
from bot.store import audit, firings
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
        # The commands are still being answered, so the log grows while it is read.
        entries = [stored.entry for stored in await one.app.db.read(audit.entries)]
    assert len(found) == len({firing.fire_at for firing in found}) == 12
    assert len([entry for entry in entries if entry.action == "job:fire"]) == 12


# -- what is no command ------------------------------------------------------------------------------------------------


async def test_a_pipeline_runs_without_a_deployment(tmp_path: Path, clock: MovingClock) -> None:
    """Once, as somebody who may; the channel hears how it ended, and nothing was deployed."""
    world = make_world(
        tmp_path / "world",
        periodics=[
            {"name": "nightly", "pipeline": {"service": "app", "environment": "prod"}, "run_as": "owner", "every": "1h"}
        ],
    )
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.app.jobs.look()
        await hour_passes(slipway, clock)
        (firing,) = await settled(slipway)
        await slipway.quiet()
        assert (firing.outcome, world.count("builds"), world.count("deploys")) == ("succeeded", 1, 0)
        said = [one.text for one in await slipway.messages("developer") if one.place == "#releases"]
        assert any("pipeline of app for prod succeeded" in text for text in said)
        assert await slipway.get(1) is None


@pytest.mark.parametrize(
    ("run_as", "test", "outcome"), [("outsider", "exit 0", "refused"), ("owner", "exit 1", "failed")]
)
async def test_a_pipeline_that_fails_or_may_not_run_tells_its_owner(
    tmp_path: Path, clock: MovingClock, run_as: str, test: str, outcome: str
) -> None:
    """A nightly test nobody hears of is none."""
    job = {"pipeline": {"service": "app", "environment": "dev", "branch": "main"}, "run_as": run_as, "owners": ["lead"]}
    world = make_world(tmp_path / "world", periodics=[{"name": "nightly", "every": "1h"} | job])
    world.push("again", test=test)
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.app.jobs.look()
        await hour_passes(slipway, clock)
        (firing,) = await settled(slipway)
        await slipway.quiet()
        assert firing.outcome == outcome
        told = [one.text for one in await slipway.messages("lead") if one.person == "lead"]
        assert any("nightly" in text and outcome in text for text in told)


async def test_the_weeks_figures_are_posted_with_a_picture(tmp_path: Path, clock: MovingClock) -> None:
    """Monday morning, of all to the company's channel and of each team to its own; once, however often it is made."""
    channels = {"console": "#shop"}
    teams = {"shop": {"name": "Shop", "leads": ["lead"], "members": ["owner"], "channels": channels}}
    world = make_world(tmp_path / "world", teams=teams)
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.app.jobs.look()
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
        clock.advance(timedelta(days=7))
        await slipway.app.jobs.look()

        async def posted() -> bool:
            await slipway.app.jobs.look()
            found = await slipway.app.db.read(lambda tx: firings.history(tx, "weekly-report"))
            return bool(found) and all(one.ended_at is not None for one in found)

        await slipway.until(posted, "the weekly report")
        await slipway.quiet()
        cards = [card for card in await slipway.cards("owner") if card["title"].startswith("Releases")]
        assert sorted((card["place"], card["title"].partition(",")[0]) for card in cards) == [
            ("#releases", "Releases"),
            ("#shop", "Releases of shop"),
        ]
        assert all(card["picture"]["src"].startswith("data:image/png") for card in cards)
        assert cards[0]["fields"]["change failure rate"] == "0% (0 of 1)"
        answer = (await slipway.say("lead", "/report shop --days 30"))[-1]
        assert answer.card is not None
        assert answer.card["fields"]["to production"].startswith("1 ")


async def test_a_job_of_a_dead_replica_is_taken_over(tmp_path: Path, clock: MovingClock, postgres_url: str) -> None:
    """Its lease runs out, another replica looks for the run and follows it: one build."""
    job = {"pipeline": {"service": "app", "environment": "prod"}, "run_as": "owner", "every": "1h"}
    world = make_world(tmp_path / "world", periodics=[{"name": "nightly"} | job])
    async with running(world, postgres_url, Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.app.jobs.look()
        at = clock()

        def die(tx: Any) -> int:
            begun = firings.fire(tx, "nightly", at, at)
            assert begun is not None
            assert firings.claim(tx, begun.id, "dead", at, timedelta(seconds=1))
            return begun.id

        number = await slipway.app.db.run(die)
        assert not await slipway.app.db.run(lambda tx: firings.claim(tx, number, "me", at, timedelta(seconds=1)))
        (firing,) = await settled(slipway)
        assert (firing.outcome, world.count("builds")) == ("succeeded", 1)


async def test_our_own_jobs_are_listed_and_can_be_paused(slipway: Running) -> None:
    """By whoever answers for Slipway, and by nobody else."""
    listed = (await slipway.say("developer", "/jobs"))[-1].card
    assert listed is not None
    assert {"weekly-report", "drift-report", "retention", "lock-reminders"} <= set(listed["fields"])
    refused = (await slipway.say("developer", "/jobs pause weekly-report"))[-1].card
    assert "not yours" in (refused or {})["text"]
    await slipway.say("releaser", "/jobs pause weekly-report")
    assert "paused by releaser" in ((await slipway.say("owner", "/jobs"))[-1].card or {})["fields"]["weekly-report"]


async def test_drift_is_found_and_told(tmp_path: Path, clock: MovingClock) -> None:
    """Somebody changed what runs by hand: the digest says so; while all is as Git wants it, it posts nothing."""
    world = make_world(
        tmp_path / "world", periodics=[{"name": "nightly", "digest": "drift", "run_as": "owner", "every": "1h"}]
    )
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.app.jobs.look()
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
        await hour_passes(slipway, clock)
        (first,) = await settled(slipway)
        assert first.detail == "0 of 1 targets drift, 0 could not be told"
        state = world.effects / "running-app-prod.json"
        state.write_text(state.read_text().replace("sha256:", "sha256:f"))
        await hour_passes(slipway, clock)
        await settled(slipway)
        await slipway.quiet()
        cards = [card for card in await slipway.cards("owner") if card["title"] == "What runs is not what Git wants"]
        assert [list(card["fields"]) for card in cards] == [["app/prod"]]
