"""What is Yunxiao's own: a bare number, parameters that may not be shown, checkpoints, words nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import OutcomeUnknown, ProviderRejected
from bot.pipelines.base import RunQuestion, RunState
from tests.contract.remote_worlds import YunxiaoWorld, remote_request, yunxiao_world
from tests.support.clock import FakeClock


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[YunxiaoWorld]:
    async with yunxiao_world(tmp_path, clock) as world:
        yield world


@pytest.mark.parametrize("as_map", [True, False])
async def test_an_answer_that_is_lost_is_found_by_its_parameters(world: YunxiaoWorld, as_map: bool) -> None:
    """Written as a list in some versions and as a map in others."""
    world.fake.as_map = as_map
    world.fake.app.fail("POST .*/runs", "lost")
    request = world.request("good")
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    run = await world.pipeline.trigger(request)
    assert (run.id, world.fake.posts) == ("19", 1)


async def test_where_parameters_are_not_shown_a_person_is_asked(world: YunxiaoWorld, clock: FakeClock) -> None:
    """Nobody promises that they are: a second run is never started on a guess."""
    world.fake.shows = False
    world.fake.app.fail("POST .*/runs", "lost")
    request = world.request("good")
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    clock.advance(timedelta(minutes=5))
    with pytest.raises(ProviderRejected, match="cannot tell whether it runs"):
        await world.pipeline.trigger(request)
    assert world.fake.posts == 1


async def test_who_has_seen_that_they_are_shown_may_say_so(world: YunxiaoWorld, clock: FakeClock) -> None:
    """Then what is not found was never started."""
    world.fake.app.fail("POST .*/runs", "503")
    request = remote_request("yunxiao", "good", "one", "183", {"findable": True})
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    clock.advance(timedelta(minutes=5))
    await world.pipeline.trigger(request)
    assert world.fake.posts == 1


async def test_a_checkpoint_takes_one_answer(world: YunxiaoWorld) -> None:
    """A run that waits for a person says so."""
    world.fake.waiting = True
    request = world.request("slow")
    await world.pipeline.trigger(request)
    run = await world.pipeline.look(request)
    assert "waits for a person" in run.message
    assert run.asks == RunQuestion("901", "pass build", approval=True)
    assert await world.pipeline.decide(request, "901", go_on=False, by="Ada")
    assert not await world.pipeline.decide(request, "901", go_on=True, by="Ada")
    assert world.fake.decided == ["refuse"]


async def test_an_unknown_word_is_never_called_failed(world: YunxiaoWorld) -> None:
    """`UNKOWN` is one of their own."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    world.fake.status = "UNKOWN"
    assert (await world.pipeline.look(request)).state is RunState.RUNNING
