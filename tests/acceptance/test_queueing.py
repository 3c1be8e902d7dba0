"""Deployments that wait: for an hour, for the next window, for room; and those that a newer one replaces."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bot.app import Outside
from bot.deployments.model import State
from tests.acceptance.conftest import DAYS
from tests.support import FakeClock
from tests.support.running import POLL, running
from tests.support.world import World, make_world

AT_ONCE = {"timeout": "3s", "settle": "0s", "interval": "20ms"}
"""Nothing settles while the clock stands."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Prod is open."""
    return make_world(tmp_path / "world", verify=AT_ONCE)


def opens_in(clock: FakeClock, days: int) -> dict[str, object]:
    """A window of prod of a whole day, so many days from now."""
    day = DAYS[(clock() + timedelta(days=days)).weekday()]
    return {"name": "release-day", "environments": ["prod"], "days": [day], "hours": "00:00-24:00"}


async def test_a_deployment_waits_for_the_next_window_and_then_goes(tmp_path: Path, clock: FakeClock) -> None:
    """Nobody should have to be there when it opens; the card says when it starts, and the queue shows it."""
    world = make_world(tmp_path / "world", verify=AT_ONCE, windows=[opens_in(clock, 2)])
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.say("owner", "/deploy app prod --at next-window")
        seen = await slipway.reaches(State.QUEUED)
        opens = seen.data.not_before
        assert opens is not None
        assert opens > clock()
        await slipway.until(lambda: _waits(slipway, "the next window"), "it to say what it waits for")
        (card,) = await slipway.cards("owner", "d-1")
        assert card["fields"]["starts"].startswith(f"{opens:%a %d %b %Y}")
        assert "waiting for: the next window" in str((await slipway.say("owner", "/queue"))[-1].card)
        assert world.count("builds") == 0
        clock.advance(opens - clock())
        slipway.app.engine.poke()
        assert (await slipway.ends()).state is State.SUCCEEDED


async def _waits(slipway: object, words: str) -> bool:
    seen = await slipway.get(1)  # type: ignore[attr-defined]
    return words in seen.data.waiting_for


async def test_what_waits_for_its_hour_holds_nobody_up_and_can_be_cancelled(world: World, clock: FakeClock) -> None:
    """A plan for tomorrow is no reason for today's fix to wait."""
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        later = (clock() + timedelta(hours=20)).isoformat()
        await slipway.say("owner", f"/deploy app prod --at {later}")
        world.push("second")
        await slipway.say("lead", "/deploy app prod")
        assert (await slipway.ends(2)).state is State.SUCCEEDED
        await slipway.say("owner", "/cancel d-1")
        assert (await slipway.ends(1)).state is State.CANCELLED
    assert world.count("builds") == 1


async def test_an_hour_that_is_closed_or_over_is_refused_now(tmp_path: Path, clock: FakeClock) -> None:
    """Not at three in the night, when it would have started."""
    world = make_world(tmp_path / "world", verify=AT_ONCE, windows=[opens_in(clock, 2)])
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        said = (await slipway.say("owner", "/deploy app prod --at +26h"))[-1].text
        assert "release-day is closed until" in said
        assert "is over already" in (await slipway.say("owner", "/deploy app prod --at 2020-01-01"))[-1].text
        assert await slipway.get(1) is None


async def test_a_newer_wish_of_the_same_person_replaces_the_older_that_waits(world: World, clock: FakeClock) -> None:
    """Only one's own, only what waits, and only if one says so."""
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        later = (clock() + timedelta(hours=20)).isoformat()
        await slipway.say("owner", f"/deploy app prod --at {later}")
        await slipway.say("lead", f"/deploy app prod --at {(clock() + timedelta(hours=21)).isoformat()}")
        world.push("second")
        await slipway.say("owner", f"/deploy app prod --at {later} --supersede")
        ended = await slipway.ends(1)
        others = [await slipway.get(number) for number in (2, 3)]
    assert ended.state is State.SUPERSEDED
    assert [one.state for one in others if one] == [State.QUEUED, State.QUEUED]


async def test_no_more_than_the_limit_work_at_once(tmp_path: Path) -> None:
    """The others wait in the queue, say for what, and go when there is room."""
    limit = {"name": "one-by-one", "environments": ["prod"], "at_once": 1, "per": "team"}
    world = make_world(tmp_path / "world", ("app", "web"), limits=[limit])
    gate = tmp_path / "go"
    world.push("slow", test=f"while [ ! -f {gate} ]; do sleep 0.05; done")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING, 1)
        await slipway.say("owner", "/deploy web prod")

        async def waits() -> bool:
            seen = await slipway.get(2)
            return seen is not None and "one-by-one lets 1 work at once" in seen.data.waiting_for

        await slipway.until(waits, "the second to wait for room")
        gate.touch()
        assert (await slipway.ends(1)).state is State.SUCCEEDED
        assert (await slipway.ends(2)).state is State.SUCCEEDED


async def test_a_hotfix_passes_a_freeze_that_lets_it_through(tmp_path: Path) -> None:
    """And the card and the audit say that it was one."""
    freeze = {"name": "sales", "from": "2000-01-01", "exempt": ["hotfix"]}
    async with running(make_world(tmp_path / "world", freezes=[freeze])) as slipway:
        assert "The freeze sales holds" in (await slipway.say("owner", "/deploy app prod"))[-1].text
        await slipway.say("owner", "/deploy app prod --hotfix")
        assert (await slipway.ends()).state is State.SUCCEEDED
        (card,) = await slipway.cards("owner", "d-1")
        assert card["fields"]["kind"] == "hotfix"
        assert any(entry.detail.startswith("hotfix of") for entry in await slipway.audit())


async def test_the_size_of_a_change_decides_who_is_asked(tmp_path: Path) -> None:
    """A rule for large changes leaves small ones alone, by the commits that would really ship."""
    rule = {"name": "large", "environments": ["prod"], "larger_than": 2, "seats": [{"roles": ["team_lead"]}]}
    world = make_world(tmp_path / "world")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        assert (await slipway.ends(1)).state is State.SUCCEEDED
        world.write_root(approvals=[rule])
        assert slipway.app.catalogs.reload()
        for number, commits, state in ((2, 2, State.SUCCEEDED), (3, 3, State.AWAITING_APPROVAL)):
            for at in range(commits):
                world.push(f"change {number} {at}")
            await slipway.say("owner", "/deploy app prod")
            await slipway.reaches(state, number)


async def test_approvals_of_a_planned_deployment_are_asked_at_once(tmp_path: Path, clock: FakeClock) -> None:
    """Nobody is woken when it starts: the yes of today is good for the hour that was asked for."""
    rule = {"name": "one-key", "environments": ["prod"], "seats": [{"roles": ["team_lead"]}]}
    world = make_world(tmp_path / "world", verify=AT_ONCE, approvals=[rule])
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.say("owner", f"/deploy app prod --at {(clock() + timedelta(hours=70)).isoformat()}")
        await slipway.reaches(State.AWAITING_APPROVAL)
        clock.advance(timedelta(hours=30))  # longer than a question usually stays open
        await slipway.say("lead", "/approve d-1")
        await slipway.reaches(State.QUEUED)
        clock.advance(timedelta(hours=40))
        slipway.app.engine.poke()
        assert (await slipway.ends()).state is State.SUCCEEDED


async def test_a_next_window_that_is_frozen_by_then_is_the_one_after(tmp_path: Path, clock: FakeClock) -> None:
    """It was asked for the next window, whichever that is; a freeze in between moves it, and nothing fails."""
    world = make_world(tmp_path / "world", verify=AT_ONCE, windows=[opens_in(clock, 2)])
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.say("owner", "/deploy app prod --at next-window")
        first = (await slipway.reaches(State.QUEUED)).data.not_before
        assert first is not None
        await slipway.say("releaser", "/freeze sales --environment prod --until +4d --reason sales")
        clock.advance(first - clock())
        slipway.app.engine.poke()

        async def moved() -> bool:
            seen = await slipway.get(1)
            return seen is not None and seen.data.not_before == first + timedelta(days=7)

        await slipway.until(moved, "it to be moved to the window after the freeze")
        clock.advance(timedelta(days=7))
        slipway.app.engine.poke()
        assert (await slipway.ends()).state is State.SUCCEEDED
    assert world.count("builds") == 1
