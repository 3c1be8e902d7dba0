"""What is GitLab's own: variables that may be forbidden, child pipelines, manual jobs, branches that move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from bot.pipelines.base import PipelineRun, RunQuestion, RunRequest, RunResults, RunState, StageState
from tests.contract.remote_worlds import GitLabWorld, gitlab_world, remote_request
from tests.support.clock import FakeClock

BY_NAME = {"intent": "name", "inputs": {"commit": "{commit}"}}


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[GitLabWorld]:
    async with gitlab_world(tmp_path, clock) as world:
        yield world


async def final(world: GitLabWorld, request: RunRequest) -> PipelineRun:
    run = await world.pipeline.look(request)
    for _ in range(20):
        run = run if run.state.is_final else await world.pipeline.look(request)
    assert run.state.is_final
    return run


@pytest.mark.parametrize("options", [{}, BY_NAME], ids=["by variable", "by name"])
async def test_an_answer_that_is_lost_is_found_again(world: GitLabWorld, options: dict[str, object]) -> None:
    """The pipeline exists although nobody told us, and others stand beside it: ours is found by the intent."""
    for intent in ("other-1", "other-2"):
        await world.pipeline.trigger(remote_request("gitlab", "good", intent, options=options))
    world.fake.app.fail("POST .*/pipeline$", "lost")
    request = remote_request("gitlab", "good", "mine", options=options)
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    run = await world.pipeline.find(request)
    assert run is not None
    assert run.id == "63"
    await world.pipeline.trigger(request)
    assert world.fake.posts == 3


async def test_a_request_that_never_arrived_is_sent_again(world: GitLabWorld, clock: FakeClock) -> None:
    """A pipeline is listed from the moment it exists, so what is not listed later was never made."""
    world.fake.app.fail("POST .*/pipeline$", "503")
    request = world.request("good")
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    with pytest.raises(ProviderUnavailable):
        await world.pipeline.find(request)
    clock.advance(timedelta(minutes=1))
    await world.pipeline.trigger(request)
    assert (await final(world, request)).state is RunState.SUCCEEDED
    assert world.started() == 1


async def test_forbidden_variables_are_told_with_the_way_out(world: GitLabWorld) -> None:
    """New projects forbid variables: the person learns which option to set, and nothing is left behind."""
    world.fake.variables_allowed = False
    with pytest.raises(ProviderRejected, match="Insufficient permissions to set pipeline variables") as caught:
        await world.pipeline.trigger(world.request("good"))
    assert "Set `intent: name`" in caught.value.hint
    assert await world.pipeline.find(world.request("good")) is None
    await world.pipeline.trigger(remote_request("gitlab", "good", "dep-1:build", options=BY_NAME))


async def test_a_branch_that_moved_builds_nothing_of_ours(world: GitLabWorld) -> None:
    """GitLab starts branches, not commits: a digest of another commit must never become this release."""
    world.fake.moved = "f" * 40
    request = world.request("slow")
    await world.pipeline.trigger(request)
    run = await world.pipeline.look(request)
    assert run.state is RunState.FAILED
    assert f"built {'f' * 12} instead of {request.commit[:12]}, because main moved on" in run.message
    assert world.fake.built[0].build.aborted


async def test_jobs_of_child_pipelines_count(world: GitLabWorld) -> None:
    """Progress, logs and the artifact come from children as from the pipeline itself."""
    world.fake.child = True
    request = world.request("good")
    await world.pipeline.trigger(request)
    world.fake.pipelines[62].build = world.fake.pipelines[61].build
    run = await final(world, request)
    assert [stage.name for stage in run.stages] == ["test", "build"]
    assert run.artifact is not None


async def test_a_pipeline_that_waits_for_a_person_takes_one_answer(world: GitLabWorld) -> None:
    """`manual` is not finished: it waits, names the job, and a second click changes nothing."""
    world.fake.manual = True
    request = world.request("slow")
    await world.pipeline.trigger(request)
    run = await world.pipeline.look(request)
    assert (run.state, run.message) == (RunState.RUNNING, "The GitLab pipeline waits for a person to start build it.")
    assert run.asks == RunQuestion("611", "start build it")
    assert await world.pipeline.decide(request, "611", go_on=True, by="Ada")
    assert not await world.pipeline.decide(request, "611", go_on=True, by="Ada")
    assert world.fake.played == [611]


async def test_tests_and_coverage_come_from_its_reports(world: GitLabWorld) -> None:
    """Totals of the JUnit reports, and the number that a job printed."""
    world.fake.reports = True
    request = world.request("good")
    await world.pipeline.trigger(request)
    assert (await final(world, request)).results == RunResults(12, 1, 0, 71.5)


async def test_an_unknown_status_is_never_called_failed(world: GitLabWorld) -> None:
    """A newer GitLab has words we do not know: the run goes on until it says success or failed."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    world.fake.status = "levitating"
    assert (await world.pipeline.look(request)).state is RunState.RUNNING
    world.fake.status = "skipped"
    run = await world.pipeline.look(request)
    assert (run.state, run.message) == (RunState.FAILED, "GitLab skipped this pipeline; its rules let no job run.")


async def test_colours_and_sections_do_not_reach_a_chat(world: GitLabWorld) -> None:
    """A trace is written for GitLab's own page."""
    request = world.request("failing")
    await world.pipeline.trigger(request)
    await final(world, request)
    lines = await world.pipeline.log_tail(request, "test", 3)
    assert lines[-1] == "FAILED (failures=1)"
    assert (await world.pipeline.log_tail(request, "test"))[0] == "$ ./test"
    stages = {stage.name: stage.state for stage in (await world.pipeline.look(request)).stages}
    assert stages == {"test": StageState.FAILED, "build": StageState.SKIPPED}


async def test_a_deleted_pipeline_is_told(world: GitLabWorld) -> None:
    """Somebody deleted it: the deployment ends with a sentence and nothing is started behind their back."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    world.fake.pipelines.clear()
    with pytest.raises(ProviderRejected, match="no longer has run 61 of team/hello"):
        await world.pipeline.find(request)
    assert world.fake.posts == 1


async def test_a_wrong_token_is_told_without_it(world: GitLabWorld) -> None:
    """Whoever reads the chat learns what to do, not the token."""
    world.pipeline.system._http.client.headers["PRIVATE-TOKEN"] = "glpat-wrong"  # type: ignore[attr-defined]
    with pytest.raises(ProviderRejected, match="does not accept Slipway's credentials") as caught:
        await world.pipeline.trigger(world.request("good"))
    assert "glpat" not in caught.value.sentence()


async def test_values_from_outside_stay_values(world: GitLabWorld) -> None:
    """A branch that is named like a placeholder is not filled again."""
    request = replace(world.request("good"), branch="{commit}")
    await world.pipeline.trigger(request)
    assert world.fake.built[0].ref == "{commit}"
    assert world.fake.built[0].variables["SLIPWAY_BRANCH"] == "{commit}"
