"""What is Jenkins' own: crumbs, the queue that merges and forgets, parameters that are dropped, two stage plugins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from bot.pipelines.base import PipelineRun, RunQuestion, RunRequest, RunResults, RunState, StageState
from bot.pipelines.http import make_client
from bot.pipelines.jenkins import Jenkins
from bot.pipelines.remote import RemotePipeline
from tests.contract.remote_worlds import DEFINITION, JenkinsWorld, jenkins_world, memory, remote_request
from tests.fakes.jenkins import FakeJenkins, Job
from tests.fakes.serving import serving
from tests.support.clock import FakeClock

LATER = timedelta(minutes=1)


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[JenkinsWorld]:
    async with jenkins_world(tmp_path, clock) as world:
        yield world


async def looks(world: JenkinsWorld, request: RunRequest, count: int) -> PipelineRun:
    run = await world.pipeline.look(request)
    for _ in range(count - 1):
        run = run if run.state.is_final else await world.pipeline.look(request)
    return run


async def final(world: JenkinsWorld, request: RunRequest) -> PipelineRun:
    run = await looks(world, request, 50)
    assert run.state.is_final
    return run


async def test_an_answer_that_is_lost_is_found_again(world: JenkinsWorld) -> None:
    """The build runs although nobody told us: it is adopted, from the queue or from the builds."""
    for intent, looks in (("queued", 100), ("built", 0)):
        world.fake.queue_looks = looks
        world.fake.app.fail("POST .*buildWithParameters", "lost")
        request = world.request("good", intent)
        with pytest.raises(OutcomeUnknown):
            await world.pipeline.trigger(request)
        found, again = await world.pipeline.find(request), await world.pipeline.trigger(request)
        assert found is not None
        assert again.id == found.id
    assert world.fake.posts == 2


async def test_a_request_that_never_arrived_is_sent_again_only_when_that_is_sure(
    world: JenkinsWorld, clock: FakeClock
) -> None:
    """A proxy that answers 502 may still pass the request on: we wait longer than it can."""
    world.fake.app.fail("POST .*buildWithParameters", "502")
    request = world.request("good")
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    with pytest.raises(ProviderUnavailable, match="does not show it yet"):
        await world.pipeline.trigger(request)
    clock.advance(LATER)
    assert await world.pipeline.find(request) is None
    await world.pipeline.trigger(request)
    assert (await final(world, request)).state is RunState.SUCCEEDED
    assert len(world.fake.built) == 1


@pytest.mark.parametrize("fault", ["429", "503", "hang", "refused"])
async def test_a_jenkins_that_cannot_be_asked_starts_nothing(world: JenkinsWorld, fault: str) -> None:
    """What is looked up before the trigger may fail as it likes: the trigger was not sent."""
    world.pipeline.system._http.client.timeout = httpx.Timeout(0.2)  # type: ignore[attr-defined]
    world.fake.app.fail("GET /job", fault)
    with pytest.raises(ProviderUnavailable):
        await world.pipeline.trigger(world.request("good"))
    assert world.fake.posts == 0
    assert await world.pipeline.find(world.request("good")) is None


async def test_too_many_requests_are_not_made(world: JenkinsWorld, clock: FakeClock) -> None:
    """Asked to wait, we leave the system alone for that long, whichever deployment asks."""
    world.fake.app.fail("GET /job", "429", retry_after="20")
    with pytest.raises(ProviderUnavailable, match="limits our requests"):
        await world.pipeline.trigger(world.request("good"))
    before = len(world.fake.app.requests)
    with pytest.raises(ProviderUnavailable, match="asked us to wait 20 s"):
        await world.pipeline.trigger(world.request("good", "other"))
    assert len(world.fake.app.requests) == before
    clock.advance(timedelta(seconds=21))
    await world.pipeline.trigger(world.request("good"))


async def test_a_queue_item_that_is_forgotten_is_found_among_the_builds(world: JenkinsWorld) -> None:
    """After five minutes the item's address answers 404, and the build is still ours."""
    world.fake.queue_looks = 0
    request = world.request("good")
    note_only = await world.pipeline.trigger(request)
    assert note_only.state is not RunState.INTERRUPTED
    world.fake.forget_left_items()
    assert (await final(world, request)).state is RunState.SUCCEEDED
    assert world.fake.posts == 1


@pytest.mark.parametrize("how", ["restart", "never queued"])
async def test_a_lost_queue_is_told_and_not_repeated_here(world: JenkinsWorld, how: str) -> None:
    """A restarted controller may forget its queue: the run was interrupted, and the workflow begins another one."""
    world.fake.queue_looks = 100
    world.fake.drops = 1 if how == "never queued" else 0
    request = world.request("good")
    await world.pipeline.trigger(request)
    world.fake.forget_queue()
    run = await world.pipeline.look(request)
    assert run.state is RunState.INTERRUPTED
    assert "lost team/hello before it began" in run.message
    assert world.fake.posts == 1


async def test_a_job_that_would_lose_the_intent_is_refused(world: JenkinsWorld) -> None:
    """Jenkins drops undeclared parameters in silence: such a run could never be found again."""
    world.fake.jobs[DEFINITION].declared = ("SLIPWAY_COMMIT",)
    with pytest.raises(ProviderRejected, match=r"does not declare the parameter SLIPWAY_INTENT\.") as caught:
        await world.pipeline.trigger(world.request("good"))
    assert "string parameter" in caught.value.hint
    world.fake.jobs[DEFINITION] = Job(buildable=False)
    with pytest.raises(ProviderRejected, match="is disabled"):
        await world.pipeline.trigger(world.request("good"))
    assert world.fake.posts == 0


async def test_only_declared_parameters_are_sent(world: JenkinsWorld) -> None:
    """Values arrive as they are, whatever is in them, and never reach a shell of ours."""
    request = world.request("good")
    await world.pipeline.trigger(request)
    await final(world, request)
    assert world.fake.built == [
        {"SLIPWAY_INTENT": "dep-1:build", "SLIPWAY_COMMIT": request.commit, "SLIPWAY_VERSION": "1.0 $(id)"}
    ]


@pytest.mark.parametrize(("plugin", "known"), [("wfapi", True), ("graph", True), ("overview", True), ("none", False)])
async def test_stages_come_from_either_plugin_or_none(world: JenkinsWorld, plugin: str, known: bool) -> None:
    """A controller may have the old stage view, the new one or neither; the run is followed all the same."""
    world.fake.stages = plugin
    request = world.request("failing")
    await world.pipeline.trigger(request)
    run = await final(world, request)
    assert run.state is RunState.FAILED
    stages = {stage.name: stage.state for stage in run.stages}
    assert stages == ({"test": StageState.FAILED, "build": StageState.SKIPPED} if known else {})
    if not known:  # Asked once by each way for the build and once for the last good one, and then left alone.
        assert world.fake.app.count("/wfapi/describe|/stages/tree|/pipeline-overview/tree") <= 6
    failure = await world.pipeline.failure(request)
    assert "AssertionError: 2 != 3" in failure.lines
    assert failure.tests == ("test_total.Total.test_total",)


async def test_a_run_that_goes_on_costs_one_request_a_look(world: JenkinsWorld) -> None:
    """Hundreds are followed at once: its stages say that it runs; what they do not tell has not changed."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    await looks(world, request, 3)
    before = len(world.fake.app.requests)
    await looks(world, request, 5)
    assert world.fake.app.requests[before:] == ["GET /job/team/job/hello/1/wfapi/describe"] * 5


async def test_stages_to_come_are_known_from_the_last_good_build(tmp_path: Path, clock: FakeClock) -> None:
    """ "Stage 1 of 2" needs the 2, which a running Jenkinsfile does not tell."""
    async with jenkins_world(tmp_path, clock) as world:
        world.pipeline.system._known_stages["job/team/job/hello"] = ("test", "build")  # type: ignore[attr-defined]
        request = world.request("slow")
        await world.pipeline.trigger(request)
        run = await looks(world, request, 5)
        assert [(stage.name, stage.state) for stage in run.stages] == [
            ("test", StageState.RUNNING),
            ("build", StageState.PENDING),
        ]


async def test_an_unstable_build_counts_as_the_catalog_says(world: JenkinsWorld) -> None:
    """Failed tests stop a release unless somebody decided otherwise, in writing."""
    world.fake.unstable = True
    request = world.request("failing")
    await world.pipeline.trigger(request)
    run = await final(world, request)
    assert (run.state, run.message) == (RunState.FAILED, "Jenkins calls the build unstable: tests failed.")
    lenient = remote_request("jenkins", "failing", "other", options={"unstable": "pass"})
    await world.pipeline.trigger(lenient)
    assert (await final(world, lenient)).state is RunState.SUCCEEDED


@pytest.mark.parametrize("plugin", ["wfapi", "graph"])
async def test_a_run_that_waits_for_input_says_so_and_takes_one_answer(world: JenkinsWorld, plugin: str) -> None:
    """Two people answer; Jenkins and we tell the second that it was decided."""
    world.fake.asks, world.fake.stages = True, plugin
    request = world.request("slow")
    await world.pipeline.trigger(request)
    run = await looks(world, request, 5)
    assert run.asks == RunQuestion("Ship", "Ship it?")
    assert run.message == "The Jenkins build waits for a person: Ship it?"
    assert await world.pipeline.decide(request, "Ship", go_on=True, by="Ada")
    assert not await world.pipeline.decide(request, "Ship", go_on=True, by="Ada")
    assert world.fake.decided == ["proceedEmpty"]


async def test_an_input_that_wants_values_is_left_to_jenkins(world: JenkinsWorld) -> None:
    """A button cannot type; the person is told where to."""
    world.fake.asks, world.fake.inputs = True, [{"name": "VERSION"}]
    request = world.request("slow")
    await world.pipeline.trigger(request)
    run = await looks(world, request, 5)
    assert (run.asks, run.message) == (None, "The Jenkins build asks for values (Ship it?); answer it in Jenkins.")


async def test_cancel_takes_it_out_of_the_queue(world: JenkinsWorld) -> None:
    """A deployment that is cancelled before an executor was free never runs."""
    world.fake.queue_looks = 100
    request = world.request("good")
    await world.pipeline.trigger(request)
    await world.pipeline.cancel(request)
    assert (await world.pipeline.look(request)).state is RunState.CANCELLED
    assert world.fake.built == []


@pytest.mark.parametrize(("plugin", "covered"), [("coverage", 82.14), ("jacoco", 70.0), ("", None)])
async def test_tests_and_coverage_come_from_its_plugins(
    world: JenkinsWorld, plugin: str, covered: float | None
) -> None:
    """The newer plugin writes text, the older one numbers; a controller without either tells nothing."""
    world.fake.coverage = plugin
    request = world.request("good")
    await world.pipeline.trigger(request)
    assert (await final(world, request)).results == (RunResults(120, 1, 1, covered) if plugin else None)


async def test_a_build_that_does_not_stop_is_ended_by_force(world: JenkinsWorld, clock: FakeClock) -> None:
    """Stop, term, kill, as Jenkins' own log offers them; and none of them several times a second."""
    world.fake.heeds = "kill"
    request = world.request("slow")
    await world.pipeline.trigger(request)
    await looks(world, request, 3)
    for _ in range(3):
        for _ in range(5):
            await world.pipeline.cancel(request)
        clock.advance(timedelta(seconds=16))
    assert world.fake.stops == ["stop", "term", "kill"]
    assert (await world.pipeline.look(request)).state is RunState.CANCELLED


async def test_a_branch_job_is_addressed_by_its_encoded_name(tmp_path: Path, clock: FakeClock) -> None:
    """A multibranch job for feature/x is named `feature%2Fx`, and its address encodes that once more."""
    fake = FakeJenkins("team/hello/feature%2Fx")
    with memory(tmp_path) as notes:
        async with serving(fake.app) as url, make_client(f"{url}/", auth=("bot", "t0ken")) as client:
            pipeline = RemotePipeline(Jenkins(client, clock), notes, clock)
            base = remote_request("jenkins", "good", "one", options={"multibranch": True})
            await pipeline.trigger(replace(base, branch="feature/x"))
    assert fake.posts == 1
    assert fake.app.count("POST /job/team/job/hello/job/feature%252Fx/buildWithParameters") == 1


async def test_a_password_brings_a_crumb_of_its_session(tmp_path: Path, clock: FakeClock) -> None:
    """Without one Jenkins answers 403; an API token needs none."""
    fake = FakeJenkins(DEFINITION, password="secret-enough")
    with memory(tmp_path) as notes:
        async with serving(fake.app) as url, make_client(f"{url}/", auth=("bot", "secret-enough")) as client:
            plain = RemotePipeline(Jenkins(client, clock), notes, clock)
            request = remote_request("jenkins", "good", "one")
            with pytest.raises(ProviderRejected, match="does not allow this"):
                await plain.trigger(request)
            assert await notes.recall("one") is None
            crumbed = RemotePipeline(Jenkins(client, clock, password=True), notes, clock)
            await crumbed.trigger(request)
    assert fake.posts == 1


async def test_wrong_credentials_are_told_without_them(tmp_path: Path, clock: FakeClock) -> None:
    """The sentence reaches a chat; the token does not."""
    fake = FakeJenkins(DEFINITION)
    with memory(tmp_path) as notes:
        async with serving(fake.app) as url, make_client(f"{url}/", auth=("bot", "wr0ng-token")) as client:
            pipeline = RemotePipeline(Jenkins(client, clock), notes, clock)
            with pytest.raises(ProviderRejected) as caught:
                await pipeline.trigger(remote_request("jenkins", "good", "one"))
    assert "does not accept Slipway's credentials" in caught.value.sentence()
    assert "wr0ng" not in caught.value.sentence()


async def test_an_answer_cut_in_the_middle_is_asked_for_again(world: JenkinsWorld) -> None:
    """Half a JSON is an outage, not a state."""
    request = world.request("good")
    await world.pipeline.trigger(request)
    await world.pipeline.look(request)
    world.fake.stages = "none"
    world.fake.app.fail(r"GET /job/team/job/hello/1/api", "cut")
    with pytest.raises(ProviderUnavailable):
        await world.pipeline.look(request)
    assert (await final(world, request)).state is RunState.SUCCEEDED


async def test_two_replicas_at_once_send_one_request(tmp_path: Path, clock: FakeClock) -> None:
    """A lease that ran out while its holder still worked: the note decides who sends."""
    fake = FakeJenkins(DEFINITION)
    with memory(tmp_path) as notes:
        async with serving(fake.app) as url, make_client(f"{url}/", auth=("bot", "t0ken")) as client:
            replicas = [RemotePipeline(Jenkins(client, clock), notes, clock) for _ in range(5)]
            request = remote_request("jenkins", "good", "one")
            answers = await asyncio.gather(*(one.trigger(request) for one in replicas), return_exceptions=True)
    assert fake.posts == 1
    assert all(isinstance(one, PipelineRun | ProviderUnavailable) for one in answers)
