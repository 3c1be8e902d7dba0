"""What is Prow's own: executions that nobody can list by their labels, states that come before the end, Deck."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from bot.pipelines.base import INTENT_MARK, Pipeline, PipelineRun, RunRequest, RunState
from bot.pipelines.http import make_client
from bot.pipelines.prow import Prow, label_of
from bot.pipelines.remote import RemotePipeline
from tests.contract.remote_worlds import ProwWorld, memory, prow_world, remote_request
from tests.fakes.prow import TOKEN, FakeProw
from tests.fakes.serving import serving
from tests.support.clock import FakeClock

JOB = "hello-ci"


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[ProwWorld]:
    async with prow_world(tmp_path, clock) as world:
        yield world


@pytest.fixture
async def alone(tmp_path: Path, clock: FakeClock) -> AsyncIterator[tuple[RemotePipeline, FakeProw]]:
    """Gangway and Deck without the cluster."""
    fake = FakeProw(JOB)
    with memory(tmp_path) as notes:
        async with (
            serving(fake.app) as url,
            make_client(f"{url}/", {"Authorization": f"Bearer {TOKEN}"}) as gangway,
            make_client(f"{url}/") as deck,
        ):
            yield RemotePipeline(Prow(gangway, clock, deck=deck), notes, clock), fake


async def final(pipeline: Pipeline, request: RunRequest) -> PipelineRun:
    run = await pipeline.look(request)
    for _ in range(9):
        run = run if run.state.is_final else await pipeline.look(request)
    return run


async def test_a_postsubmit_builds_exactly_our_commit(world: ProwWorld) -> None:
    """Refs name the commit, so no branch can move away; the intent is in the label, the annotation and the job."""
    request = world.request("good")
    await world.pipeline.trigger(request)
    (job,) = world.fake.jobs.values()
    assert job.refs == {"org": "team", "repo": "hello", "base_ref": "main", "base_sha": request.commit}
    assert (job.annotations, job.labels) == ({INTENT_MARK: request.intent}, {INTENT_MARK: label_of(request.intent)})
    assert job.build.parameters["SLIPWAY_INTENT"] == request.intent


async def test_a_lost_answer_is_found_by_the_label(world: ProwWorld) -> None:
    """Gangway shows no labels, the cluster does."""
    world.fake.app.fail("POST .*executions", "lost")
    request = world.request("good")
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    await world.pipeline.trigger(request)
    assert world.fake.posts == 1


async def test_without_the_cluster_a_person_is_asked(alone: tuple[RemotePipeline, FakeProw], clock: FakeClock) -> None:
    """Two executions of one job look alike in Gangway: never a second one on a guess."""
    pipeline, fake = alone
    fake.app.fail("POST .*executions", "lost")
    request = remote_request("prow", "good", "one", JOB)
    with pytest.raises(OutcomeUnknown):
        await pipeline.trigger(request)
    clock.advance(timedelta(minutes=5))
    with pytest.raises(ProviderRejected, match="cannot tell whether it runs"):
        await pipeline.trigger(request)
    assert fake.posts == 1


async def test_without_the_cluster_it_is_followed_by_gangway_and_deck(
    alone: tuple[RemotePipeline, FakeProw],
) -> None:
    """State, artifact and log are there; to end it somebody must go to Deck, and is told so."""
    pipeline, _ = alone
    request = remote_request("prow", "good", "one", JOB)
    await pipeline.trigger(request)
    run = await final(pipeline, request)
    assert run.state is RunState.SUCCEEDED
    assert run.artifact is not None
    slow = remote_request("prow", "slow", "two", JOB)
    await pipeline.trigger(slow)
    assert await pipeline.log_tail(slow) == ("waiting",)
    with pytest.raises(ProviderRejected, match="only through its cluster") as caught:
        await pipeline.cancel(slow)
    assert "Abort it in Deck" in caught.value.hint


async def test_a_state_is_final_only_once_its_end_is_written(world: ProwWorld) -> None:
    """Prow sets the word first and uploads the log after it."""
    world.fake.late = True
    request = world.request("failing")
    await world.pipeline.trigger(request)
    for _ in range(5):
        assert (await world.pipeline.look(request)).state is RunState.RUNNING
    world.fake.late = False
    assert (await world.pipeline.look(request)).state is RunState.FAILED


async def test_a_job_that_could_not_run_says_why(world: ProwWorld) -> None:
    """`error` is Prow's own trouble, not the code's."""
    request = world.request("failing")
    await world.pipeline.trigger(request)
    world.fake.state = "error"
    run = await final(world.pipeline, request)
    assert (run.state, run.message) == (
        RunState.FAILED,
        "Prow could not run the job: Pod can not be created.",
    )


async def test_an_unknown_word_is_never_called_failed(world: ProwWorld) -> None:
    """A newer Prow may have more states."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    world.fake.state = "hibernating"
    assert (await world.pipeline.look(request)).state is RunState.RUNNING


async def test_a_gateway_that_breaks_is_no_refusal(world: ProwWorld) -> None:
    """An unknown job is a 500 with a sentence; a 500 without it may have started the job."""
    world.fake.app.fail("POST .*executions", "500")
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(world.request("good"))
    with pytest.raises(ProviderUnavailable, match="does not show it yet"):
        await world.pipeline.trigger(world.request("good"))
    with pytest.raises(ProviderRejected, match='failed to find associated postsubmit job "hello-ci-missing"'):
        await world.pipeline.trigger(world.request("undefined", "other"))


async def test_what_prow_could_not_take_is_told_before_anything_is_sent(world: ProwWorld) -> None:
    """A job name that is none, and a repository that Prow cannot name."""
    for name in ("", "../x", "a job"):
        with pytest.raises(ProviderRejected, match="must be the name of a Prow job"):
            await world.pipeline.trigger(remote_request("prow", "good", "one", name))
    with pytest.raises(ProviderRejected, match="as org/name"):
        await world.pipeline.trigger(replace(world.request("good"), repo="hello"))
    assert world.fake.posts == 0


async def test_a_periodic_job_takes_its_commit_from_the_environment(world: ProwWorld) -> None:
    """Prow refuses refs for periodics; empty variables are refused too, so they are left out."""
    options = {"type": "periodic", "envs": {"COMMIT": "{commit}", "EMPTY": ""}}
    request = remote_request("prow", "good", "one", JOB, options)
    await world.pipeline.trigger(request)
    (job,) = world.fake.jobs.values()
    assert (job.refs, job.build.parameters) == ({}, {"COMMIT": request.commit, "SLIPWAY_INTENT": "one"})
