"""What is GitHub's own: ids that are not told, runs that appear late, logs elsewhere, Apps, and limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable, SlipwayError
from bot.pipelines.base import PipelineRun, RunQuestion, RunRequest, RunState
from bot.pipelines.github import GitHub
from bot.pipelines.github_auth import AppAuth, read_key
from bot.pipelines.http import make_client
from bot.pipelines.remote import RemotePipeline
from tests.contract.remote_worlds import WORKFLOW, GitHubWorld, github_world, memory, remote_request
from tests.fakes.github import FakeGitHub
from tests.fakes.serving import serving
from tests.support.clock import FakeClock

LATER = timedelta(minutes=3)


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[GitHubWorld]:
    async with github_world(tmp_path, clock) as world:
        yield world


async def final(world: GitHubWorld, request: RunRequest) -> PipelineRun:
    run = await world.pipeline.look(request)
    for _ in range(20):
        run = run if run.state.is_final else await world.pipeline.look(request)
    assert run.state.is_final
    return run


@pytest.mark.parametrize("details", ["ignored", "refused"])
async def test_an_enterprise_server_tells_no_id(world: GitHubWorld, details: str) -> None:
    """Up to 3.19 the answer is empty: the run is found by its name, once it appears."""
    world.fake.details, world.fake.late = details, 2
    request = world.request("good")
    with pytest.raises(OutcomeUnknown, match="does not show the run yet"):
        await world.pipeline.trigger(request)
    with pytest.raises(ProviderUnavailable):
        await world.pipeline.trigger(request)
    assert (await final(world, request)).state is RunState.SUCCEEDED
    assert world.fake.posts == 1


async def test_a_lost_answer_is_found_by_the_runs_name(world: GitHubWorld) -> None:
    """Others run the same workflow; the intent in the name is ours alone."""
    await world.pipeline.trigger(world.request("good", "dep-1:build-r10"))
    world.fake.app.fail("POST .*dispatches", "lost")
    request = world.request("good", "dep-1:build-r1")
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    run = await world.pipeline.find(request)
    assert run is not None
    assert run.id == "701"
    assert world.fake.posts == 2


async def test_where_nothing_can_tell_a_person_is_asked(world: GitHubWorld, clock: FakeClock) -> None:
    """Without the intent in the run's name two runs look alike: never a second one, but a sentence with what to do."""
    world.fake.named = False
    world.fake.app.fail("POST .*dispatches", "lost")
    request = remote_request("github", "good", "one", WORKFLOW, {"run_name": False})
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    clock.advance(LATER)
    with pytest.raises(ProviderRejected, match=r"did not answer, and cannot tell whether it runs\.") as caught:
        await world.pipeline.trigger(request)
    assert "Look there: if nothing runs, deploy again" in caught.value.hint
    assert world.fake.posts == 1


async def test_a_request_that_never_arrived_is_sent_again_when_that_is_sure(
    world: GitHubWorld, clock: FakeClock
) -> None:
    """Runs appear late, so we wait longer than they take."""
    world.fake.app.fail("POST .*dispatches", "500")
    request = world.request("good")
    with pytest.raises(OutcomeUnknown):
        await world.pipeline.trigger(request)
    clock.advance(timedelta(seconds=60))
    with pytest.raises(ProviderUnavailable):
        await world.pipeline.trigger(request)
    clock.advance(LATER)
    await world.pipeline.trigger(request)
    assert world.started() == 1


@pytest.mark.parametrize(
    "headers", [{"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1767603630"}, {"retry_after": "30"}]
)
async def test_a_403_that_is_a_limit_is_waited_for(
    world: GitHubWorld, clock: FakeClock, headers: dict[str, str]
) -> None:
    """GitHub says "too many" with the status of "not allowed"; a deployment must not fail of it."""
    world.fake.app.fail("GET .*workflows", "403", 1, **headers)
    with pytest.raises(ProviderUnavailable, match="limits our requests"):
        await world.pipeline.trigger(world.request("good"))
    with pytest.raises(ProviderUnavailable, match="asked us to wait 30 s"):
        await world.pipeline.trigger(world.request("good"))
    clock.advance(timedelta(seconds=31))
    await world.pipeline.trigger(world.request("good"))


async def test_a_403_that_is_none_is_told(world: GitHubWorld) -> None:
    """Waiting would not help; an administrator would."""
    world.fake.app.fail("GET .*workflows", "403")
    with pytest.raises(ProviderRejected, match="does not allow this to Slipway's account"):
        await world.pipeline.trigger(world.request("good"))


async def test_a_branch_that_moved_builds_nothing_of_ours(world: GitHubWorld) -> None:
    """A dispatch names a branch: what it built must be the commit that was approved."""
    world.fake.moved = "e" * 40
    request = world.request("slow")
    await world.pipeline.trigger(request)
    run = await world.pipeline.look(request)
    assert (run.state, run.message.split(",")[0]) == (
        RunState.FAILED,
        f"GitHub built {'e' * 12} instead of {request.commit[:12]}",
    )
    assert world.fake.runs[700].build.aborted


async def test_an_environments_reviewer_is_asked_and_answers_once(world: GitHubWorld) -> None:
    """A run that waits for a person says so; the answer goes to GitHub with the comment."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    world.fake.waiting = True
    run = await world.pipeline.look(request)
    assert "waits for a reviewer" in run.message
    assert run.asks == RunQuestion("7", "let it into the GitHub environment prod", approval=True)
    assert not await world.pipeline.decide(request, "8", go_on=True, by="Ada")
    assert await world.pipeline.decide(request, "7", go_on=True, by="Ada")
    assert not await world.pipeline.decide(request, "7", go_on=True, by="Ada")
    assert world.fake.reviews == [{"environment_ids": [7], "state": "approved", "comment": "Ada in Slipway"}]


async def test_an_unknown_conclusion_is_never_called_failed(world: GitHubWorld) -> None:
    """Nor is one that waits for a person."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    world.fake.status = "completed"
    assert (await world.pipeline.look(request)).state is RunState.RUNNING


async def test_a_disabled_or_misnamed_workflow_is_told(world: GitHubWorld) -> None:
    """The catalog's mistake is told as one, before anything is sent."""
    world.fake.state = "disabled_manually"
    with pytest.raises(ProviderRejected, match="is disabled"):
        await world.pipeline.trigger(world.request("good"))
    with pytest.raises(ProviderRejected, match="must be owner/repository/workflow"):
        await world.pipeline.trigger(remote_request("github", "good", "one", "hello"))
    assert world.fake.posts == 0


async def test_an_app_renews_its_token_before_it_ends(tmp_path: Path, clock: FakeClock) -> None:
    """Installation tokens live for an hour and may be revoked sooner; their length means nothing."""
    fake, key = FakeGitHub(WORKFLOW), rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with memory(tmp_path) as notes:
        async with serving(fake.app) as url, make_client(f"{url}/", auth=AppAuth(url, "42", "9", key, clock)) as client:
            pipeline = RemotePipeline(GitHub(client, clock), notes, clock)
            request = remote_request("github", "slow", "one", WORKFLOW)
            await pipeline.trigger(request)
            assert len(fake.tokens) == 1
            clock.advance(timedelta(minutes=56))
            await pipeline.look(request)
            fake.valid.clear()
            await pipeline.look(request)
    assert len(fake.tokens) == 3
    assert fake.posts == 1
    assert {claim["iss"] for claim in fake.claims} == {"42"}
    assert {claim["exp"] - claim["iat"] for claim in fake.claims} == {600}


def test_a_key_file_that_is_none_is_named_by_its_variable(tmp_path: Path) -> None:
    """The content of a secret file is never in a message."""
    path = tmp_path / "key.pem"
    path.write_text("-----BEGIN PRIVATE KEY-----\nsecret\n")
    with pytest.raises(SlipwayError, match="KEY_FILE: no private key can be read there") as caught:
        read_key(path, "KEY_FILE")
    assert "secret" not in caught.value.sentence()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    formats = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*formats))
    assert read_key(path, "KEY_FILE").key_size == 2048
