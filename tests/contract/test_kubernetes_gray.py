"""Gray on clusters without Argo CD: an Argo Rollout by the Kubernetes API, and a pair of Deployments."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.catalog.model import GrayRule
from bot.delivery.base import Delivery, SyncProgress, SyncRequest, SyncState
from bot.delivery.canary import CanaryPair
from bot.delivery.kubernetes import Clusters
from bot.delivery.rollouts import phase_of
from bot.delivery.rollouts_api import Rollouts
from bot.errors import ProviderRejected, ProviderUnavailable
from tests.contract.test_kubernetes import RBAC, kubeconfig
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.kubernetes import FakeKubernetes, running_kubernetes

ONE, TWO = (f"sha256:{hashlib.sha256(text).hexdigest()}" for text in (b"1", b"2"))


@pytest.fixture
async def fake() -> AsyncIterator[FakeKubernetes]:
    async with running_kubernetes() as fake:
        yield fake


@pytest.fixture
async def pair(tmp_path: Path, fake: FakeKubernetes) -> AsyncIterator[CanaryPair]:
    """`hello` with 4 pods, and `hello-canary` with none."""
    fake.replicas = 4
    fake.add("hello", "hello")
    fake.add("hello-canary", "hello")
    fake.deployments["hello-canary"]["spec"]["replicas"] = 0
    delivery = CanaryPair(Clusters(kubeconfig(tmp_path, fake.url)))
    yield delivery
    await delivery.close()


@pytest.fixture
async def rollouts(tmp_path: Path, fake: FakeKubernetes) -> AsyncIterator[Rollouts]:
    fake.rollouts_api.add("hello", "hello", "proxy")
    delivery = Rollouts(Clusters(kubeconfig(tmp_path, fake.url)))
    yield delivery
    await delivery.close()


def wanted(number: int, weights: Sequence[int] = (), **options: object) -> SyncRequest:
    """Release 1 or 2."""
    target = replace(
        make_target(delivery={"image": "reg.example/{service}", **options}), gray=GrayRule(weights=tuple(weights))
    )
    digest = (ONE, TWO)[number - 1]
    return SyncRequest(f"d-{number}-s1", make_service(target), target, "r" * 40, f"{number}.0", digest)


async def stands(delivery: Delivery, request: SyncRequest) -> SyncProgress:
    """As the workflow does: look, ask to go on where it is pending, until nothing moves."""
    async with asyncio.timeout(20):
        while True:
            with suppress(ProviderUnavailable):  # Somebody else, such as the controller, was first: tried again.
                progress = await delivery.look(request)
                if progress is None or progress.state is SyncState.PENDING:
                    progress = await delivery.sync(request)
                if progress.state not in (SyncState.PENDING, SyncState.RUNNING):
                    return progress
            await asyncio.sleep(0.01)


async def first_runs(delivery: Delivery) -> None:
    """Release 1 everywhere."""
    one = wanted(1)
    if (await stands(delivery, one)).state is SyncState.SUSPENDED:
        await delivery.continue_gray(one, full=True)
    assert (await stands(delivery, one)).state is SyncState.SUCCEEDED


def replicas(fake: FakeKubernetes) -> tuple[int, int]:
    return tuple(fake.deployments[name]["spec"]["replicas"] for name in ("hello", "hello-canary"))


async def test_a_pair_goes_by_weights_and_ends_without_a_canary(fake: FakeKubernetes, pair: CanaryPair) -> None:
    """Shares of pods are shares of traffic; the stable ones are never fewer; then all run the new digest."""
    await first_runs(pair)
    two = wanted(2, (20, 50))
    assert (await stands(pair, two)).state is SyncState.SUSPENDED
    stage = await pair.gray_stage(two)
    assert stage is not None
    assert (stage.step, stage.steps, stage.weight, replicas(fake)) == (0, 2, 20, (4, 1))
    beside = await pair.running(two.service, two.target)
    assert beside is not None
    assert (beside.healthy, beside.digest) == (False, ONE)
    await pair.continue_gray(two)
    assert (await stands(pair, two)).state is SyncState.SUSPENDED
    later = await pair.gray_stage(two)
    assert later is not None
    assert (later.step, later.weight, replicas(fake), later.id != stage.id) == (1, 50, (4, 4), True)
    await pair.continue_gray(two)
    assert (await stands(pair, two)).state is SyncState.SUCCEEDED
    assert replicas(fake) == (4, 0)
    running = await pair.running(two.service, two.target)
    assert running is not None
    assert (running.digest, running.version, running.healthy) == (TWO, "2.0", True)
    with pytest.raises(ProviderRejected, match="no gray stage"):
        await pair.continue_gray(two)


async def test_an_aborted_canary_leaves_the_stable_version_untouched(fake: FakeKubernetes, pair: CanaryPair) -> None:
    """Traffic is back at once, nothing rolls, and the way back in Git finds the stable version there already."""
    await first_runs(pair)
    two = wanted(2)
    await stands(pair, two)
    before = list(fake.rollouts)
    await pair.abort_gray(two)
    aborted = await stands(pair, two)
    assert (aborted.state, aborted.message, replicas(fake)) == (SyncState.FAILED, "It was aborted at gray.", (4, 0))
    undo = replace(wanted(1), intent="d-2-u1")
    assert (await stands(pair, undo)).state is SyncState.SUCCEEDED
    assert fake.rollouts[len(before) :] == [f"reg.example/hello:1.0@{ONE}"]  # The same image: no pod is replaced.
    running = await pair.running(undo.service, undo.target)
    assert running is not None
    assert (running.digest, running.healthy) == (ONE, True)


async def test_a_canary_that_crashes_is_told_with_its_pods(fake: FakeKubernetes, pair: CanaryPair) -> None:
    """The stable pods serve on; the evidence is the canary's."""
    await first_runs(pair)
    fake.outcome = "crashing"
    fake.logs = ["ERROR: no database"]
    two = wanted(2)
    assert (await stands(pair, two)).state is SyncState.FAILED
    found = await pair.failure(two)
    assert "hello-canary-0" in found.message
    assert "ERROR: no database" in found.lines
    running = await pair.running(two.service, two.target)
    assert running is not None
    assert running.digest == ONE


async def test_another_process_goes_on_where_the_first_one_stood(
    tmp_path: Path, fake: FakeKubernetes, pair: CanaryPair
) -> None:
    """All that is known stands in the cluster."""
    await first_runs(pair)
    two = wanted(2)
    await stands(pair, two)
    second = CanaryPair(Clusters(kubeconfig(tmp_path, fake.url)))
    stage = await second.gray_stage(two)
    assert stage is not None
    await second.continue_gray(two)
    assert (await stands(pair, two)).state is SyncState.SUCCEEDED
    await second.close()


async def test_what_a_pair_cannot_give_is_told(fake: FakeKubernetes, pair: CanaryPair) -> None:
    """Weights near 100, and a missing canary."""
    with pytest.raises(ProviderRejected, match="between 1 and 80 percent"):
        await pair.sync(wanted(1, (90,)))
    fake.remove("hello-canary")
    with pytest.raises(ProviderRejected, match="no Deployment hello-canary"):
        await pair.sync(wanted(1))


@pytest.mark.parametrize("subresource", [True, False])
async def test_a_rollout_gets_the_catalogs_weights_and_is_continued(
    fake: FakeKubernetes, rollouts: Rollouts, subresource: bool
) -> None:
    """One patch for image, steps and intent; each pause is ended on the status, also where a CRD has none."""
    api = fake.rollouts_api
    api.subresource = subresource
    await first_runs(rollouts)
    two = wanted(2, (10, 60))
    assert (await stands(rollouts, two)).state is SyncState.SUSPENDED
    steps = [{"setWeight": 10}, {"pause": {}}, {"setWeight": 60}, {"pause": {}}]
    assert api.rollouts["hello"]["spec"]["strategy"]["canary"]["steps"] == steps
    assert [one["name"] for one in api.rollouts["hello"]["spec"]["template"]["spec"]["containers"]] == [
        "hello",
        "proxy",
    ]
    seen = []
    while (stage := await rollouts.gray_stage(two)) is not None:
        seen.append(stage.weight)
        await rollouts.continue_gray(two)
    assert seen == [10, 60]
    assert (await stands(rollouts, two)).state is SyncState.SUCCEEDED
    running = await rollouts.running(two.service, two.target)
    assert running is not None
    assert (running.digest, running.healthy) == (TWO, True)


async def test_a_rollout_is_aborted_and_goes_back_without_steps(fake: FakeKubernetes, rollouts: Rollouts) -> None:
    """Traffic first; then the spec, so that it is healthy again; full skips every pause."""
    await first_runs(rollouts)
    two = wanted(2)
    await stands(rollouts, two)
    await rollouts.abort_gray(two)
    aborted = await stands(rollouts, two)
    assert (aborted.state, aborted.message) == (SyncState.FAILED, "RolloutAborted: aborted update to revision 2")
    assert fake.rollouts_api.patches[-1] == ("/status", {"status": {"abort": True}})
    undo = replace(wanted(1), intent="d-2-u1")
    assert (await stands(rollouts, undo)).state is SyncState.SUCCEEDED
    with pytest.raises(ProviderRejected, match="no gray stage"):
        await rollouts.abort_gray(undo)
    again = replace(wanted(2, (10, 60)), intent="d-3-s1")
    await stands(rollouts, again)
    await rollouts.continue_gray(again, full=True)
    assert (await stands(rollouts, again)).state is SyncState.SUCCEEDED


async def test_a_failed_analysis_names_its_metric(fake: FakeKubernetes, rollouts: Rollouts) -> None:
    """The Rollout gave up by itself; the person reads by which number."""
    api = fake.rollouts_api
    api.add("hello", "hello", steps=[{"setWeight": 20}, {"analysis": {}}, {"pause": {}}])
    await first_runs(rollouts)
    api.failing = "assessed Failed due to failed (1) > failureLimit (0)"
    two = wanted(2)
    progress = await stands(rollouts, two)
    assert progress.state is SyncState.FAILED
    assert "RolloutAborted" in progress.message
    found = await rollouts.failure(two)
    said = "analysis success-rate is Failed, last value [0.42]: assessed Failed due to failed (1) > failureLimit (0)"
    assert said in found.lines


async def test_the_role_we_ship_allows_what_we_ask_for(
    fake: FakeKubernetes, pair: CanaryPair, rollouts: Rollouts
) -> None:
    """Release day must not find out what was left out."""
    fake.rollouts_api.add("hello", "hello", steps=[{"analysis": {}}])
    for delivery in (pair, rollouts):
        await first_runs(delivery)
        fake.rollouts_api.failing, fake.outcome = "too slow", "crashing"
        await stands(delivery, wanted(2))
        await delivery.failure(wanted(2))
        fake.rollouts_api.failing, fake.outcome = "", "good"
    again = replace(wanted(2, (10,)), intent="d-3-s1")
    assert (await stands(rollouts, again)).state is SyncState.SUSPENDED  # Aborted before, tried again.
    await rollouts.continue_gray(again)
    role = next(yaml.safe_load_all(RBAC.read_text()))
    allowed = {(one, verb) for rule in role["rules"] for one in rule["resources"] for verb in rule["verbs"]}
    assert fake.used >= {("rollouts", "patch"), ("rollouts/status", "patch"), ("analysisruns", "get")}
    assert fake.used <= allowed


PHASES: list[tuple[dict[str, Any], str]] = [
    ({"observedGeneration": "2", "phase": "Healthy"}, "Healthy"),
    ({"observedGeneration": "1", "phase": "Healthy"}, "Progressing"),
    ({"observedGeneration": "2", "phase": "Paused", "pauseConditions": [{}], "controllerPause": True}, "Paused"),
    ({"observedGeneration": "2", "phase": "Paused", "pauseConditions": None, "controllerPause": True}, "Progressing"),
    ({"observedGeneration": "2", "phase": "Degraded"}, "Degraded"),
    ({"observedGeneration": "2", "phase": "Degraded", "message": "RolloutAborted: x", "abort": True}, "Degraded"),
    ({"observedGeneration": "2", "phase": "Degraded", "message": "RolloutAborted: x"}, "Progressing"),
    ({}, "Progressing"),
]


@pytest.mark.parametrize(("status", "phase"), PHASES)
def test_the_phase_is_decided_as_its_own_program_does(status: dict[str, Any], phase: str) -> None:
    """`observedGeneration` is a text; what is not seen yet is never taken for done."""
    assert phase_of({"metadata": {"generation": 2}, "status": status})[0] == phase
