"""What is Tekton's own: names that cannot exist twice, set-up faults that look like failed runs, results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import OutcomeUnknown, ProviderRejected
from bot.pipelines.base import PipelineRun, RunRequest, RunState, StageState
from bot.pipelines.remote import INSISTS
from bot.pipelines.tekton import run_name
from tests.contract.remote_worlds import TektonWorld, remote_request, tekton_world
from tests.fakes.builds import digest_of
from tests.support.clock import FakeClock


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[TektonWorld]:
    async with tekton_world(tmp_path, clock) as world:
        yield world


async def final(world: TektonWorld, request: RunRequest) -> PipelineRun:
    run = await world.pipeline.look(request)
    for _ in range(20):
        run = run if run.state.is_final else await world.pipeline.look(request)
    return run


async def test_an_answer_that_is_lost_is_found_by_its_name(world: TektonWorld) -> None:
    """The name is made of the intent: even a repeated create could not make a second run."""
    world.fake.app.fail("POST .*/pipelineruns", "lost")
    request = world.request("good")
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    await world.pipeline.trigger(request)
    assert world.started() == 1
    system = world.pipeline.system  # type: ignore[attr-defined]
    assert (await system.send(request)).run_id == run_name(request.intent)
    assert world.started() == 1


def test_names_fit_kubernetes() -> None:
    """At most 63 characters, whatever the intent; others give others."""
    names = {run_name(intent) for intent in ("a", "b", "x" * 500, "d-1:build-r1", "d-1:build-r2")}
    assert len(names) == 5
    assert max(map(len, names)) <= 63


async def test_the_image_comes_from_results_or_from_the_log(world: TektonWorld) -> None:
    """Pipelines that sign with Chains tell their image already; others print a line."""
    for intent, results in (("one", True), ("two", False)):
        world.fake.results = results
        request = world.request("good", intent)
        await world.pipeline.trigger(request)
        run = await final(world, request)
        assert run.artifact is not None
        assert run.artifact.location == f"registry.example/hello@{digest_of(request.commit)}"


async def test_a_set_up_fault_is_told_as_one(world: TektonWorld) -> None:
    """Tekton accepts a run that can never run; the person learns that the pipeline is wrong, not the code."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    world.fake.reason = "CouldntGetTask"
    run = await final(world, request)
    assert (run.state, run.message) == (
        RunState.FAILED,
        "Tekton could not begin the run (CouldntGetTask); correct the pipeline or its parameters.",
    )


async def test_children_that_are_no_task_runs_are_stages_too(world: TektonWorld) -> None:
    """An approval, or a pipeline in the pipeline: nothing of it is listed with the tasks, only the reference is."""
    world.fake.children = [{"kind": "CustomRun", "name": "x-approve", "pipelineTaskName": "approve"}]
    request = world.request("good")
    await world.pipeline.trigger(request)
    before = (await world.pipeline.look(request)).stages[-1]
    after = (await final(world, request)).stages[-1]
    assert (before.name, before.state, after.state) == ("approve", StageState.RUNNING, StageState.SUCCEEDED)


async def test_what_does_not_end_is_ended_by_force(world: TektonWorld, clock: FakeClock) -> None:
    """First its `finally` tasks may still run; one that runs on is cancelled whole, and asked no oftener."""
    request, asked = world.request("slow"), []
    await world.pipeline.trigger(request)
    world.fake.heeds = {"Cancelled"}
    for _ in range(3):
        await world.pipeline.cancel(request)
        asked.append(world.fake.app.count("PATCH"))
        clock.advance(INSISTS + timedelta(seconds=1))
    assert asked == [1, 2, 2]
    assert (await final(world, request)).state is RunState.CANCELLED


async def test_a_wrong_name_is_told_before_anything_is_sent(world: TektonWorld) -> None:
    """A path that leaves its namespace is no name."""
    for name in ("hello", "Team/hello", "team/../other", "team/hello/more"):
        with pytest.raises(ProviderRejected, match="must be namespace/pipeline"):
            await world.pipeline.trigger(remote_request("tekton", "good", "one", name))
    assert world.fake.app.requests == []
