"""A plain cluster: one patch, the rollout as kubectl decides it, and an early end where waiting is idle."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.delivery.base import SyncProgress, SyncRequest, SyncState
from bot.delivery.kubernetes import Clusters, Kubernetes
from bot.delivery.kubernetes_status import WorkloadKind, rollout_status
from bot.errors import OutcomeUnknown, ProviderRejected
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.kubernetes import STRATEGIC, FakeKubernetes, running_kubernetes

DIGEST = f"sha256:{hashlib.sha256(b'1').hexdigest()}"


@dataclass
class Cluster:
    """A fake cluster and the delivery that reaches it by a kubeconfig."""

    fake: FakeKubernetes
    delivery: Kubernetes

    def request(self, intent: str = "d-1-s1", **options: object) -> SyncRequest:
        target = make_target(delivery={"image": "reg.example/{service}", **options})
        return SyncRequest(intent, make_service(target), target, "r" * 40, "1.0", DIGEST)


def kubeconfig(directory: Path, url: str) -> Path:
    path = directory / "kubeconfig"
    body = {
        "current-context": "east",
        "contexts": [{"name": "east", "context": {"cluster": "east", "user": "bot"}}],
        "clusters": [{"name": "east", "cluster": {"server": url}}],
        "users": [{"name": "bot", "user": {"token": "cluster-token"}}],
    }
    path.write_text(json.dumps(body))
    return path


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running_kubernetes() as fake:
        fake.add("hello", "hello", "proxy")
        delivery = Kubernetes(Clusters(kubeconfig(tmp_path, fake.url)))
        yield Cluster(fake, delivery)
        await delivery.close()


async def ended(delivery: Kubernetes, request: SyncRequest) -> SyncProgress:
    async with asyncio.timeout(20):
        while True:
            progress = await delivery.look(request) or await delivery.sync(request)
            if progress.state not in (SyncState.PENDING, SyncState.RUNNING):
                return progress
            await asyncio.sleep(0.01)


async def test_the_image_is_patched_once_and_seen_running(cluster: Cluster) -> None:
    """By digest, in the right container, with our intent in the same patch."""
    request = cluster.request()
    assert await cluster.delivery.running(request.service, request.target) is None
    assert (await ended(cluster.delivery, request)).state is SyncState.SUCCEEDED
    await cluster.delivery.sync(request)
    assert cluster.fake.rollouts == [f"reg.example/hello:1.0@{DIGEST}"]
    assert cluster.fake.content_types == [STRATEGIC]
    running = await cluster.delivery.running(request.service, request.target)
    assert running is not None
    assert (running.digest, running.version, running.healthy) == (DIGEST, "1.0", True)


async def test_a_lost_answer_is_looked_up_and_a_refused_one_tried_again(cluster: Cluster) -> None:
    """The patch and its intent are one: it was done, or it was not."""
    request = cluster.request()
    for fault in ("refuse", "drop"):
        cluster.fake.faults.append(("PATCH", fault))
        with pytest.raises(OutcomeUnknown):
            await cluster.delivery.sync(request)
    assert (await ended(cluster.delivery, request)).state is SyncState.SUCCEEDED
    assert len(cluster.fake.rollouts) == 1


ENDS = [
    ("crashing", "CrashLoopBackOff back-off 40s (before: OOMKilled, exit code 137)"),
    ("pulling", "InvalidImageName"),
    ("deadline", "exceeded its progress deadline"),
    ("quota", "exceeded quota: small"),
]


@pytest.mark.parametrize(("outcome", "said"), ENDS)
async def test_what_cannot_become_well_is_not_waited_for(cluster: Cluster, outcome: str, said: str) -> None:
    """kubectl would wait ten minutes for what the pods say at once."""
    cluster.fake.outcome = outcome
    progress = await ended(cluster.delivery, cluster.request())
    assert progress.state is SyncState.FAILED
    assert said in progress.message


async def test_evidence_has_reason_event_and_last_lines_without_secrets(cluster: Cluster) -> None:
    """The person who asked reads why, and no password of the service's log."""
    cluster.fake.outcome = "crashing"
    cluster.fake.logs = ["starting", "ERROR: no database password=hunter22"]
    request = cluster.request()
    await ended(cluster.delivery, request)
    failure = await cluster.delivery.failure(request)
    text = "\n".join(failure.lines)
    assert "CrashLoopBackOff" in failure.message
    assert "ERROR: no database" in text
    assert "hunter22" not in text
    assert "BackOff: Back-off restarting failed container" in text


async def test_cancelled_is_not_waited_for(cluster: Cluster) -> None:
    """A rollout cannot be stopped, only replaced by the one before."""
    cluster.fake.outcome = "slow"
    request = cluster.request()
    await cluster.delivery.sync(request)
    await cluster.delivery.cancel(request)
    assert (await ended(cluster.delivery, request)).message == "It was cancelled."


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"deployment": "gone"}, "There is no Deployment gone in namespace prod"),
    ({"container": "web"}, "has no container web; it has hello, proxy"),
    ({"context": "west"}, "configuration cannot be used"),
    ({"image": ""}, "`image`"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
async def test_a_slip_in_the_catalog_is_told(cluster: Cluster, options: dict[str, object], said: str) -> None:
    """Before anything is changed, with what to correct."""
    with pytest.raises(ProviderRejected) as caught:
        await cluster.delivery.sync(cluster.request("d-1-s1", **options))
    assert said in caught.value.sentence()
    assert cluster.fake.rollouts == []


RBAC = Path(__file__).parents[2] / "deploy" / "rbac.yaml"


async def test_the_role_we_ship_allows_what_we_ask_for_and_no_secrets(cluster: Cluster) -> None:
    """Least privilege is worth nothing if release day finds out what was left out."""
    cluster.fake.add("store", "store", kind="StatefulSet")
    for outcome, options in (("good", {}), ("crashing", {"kind": "StatefulSet", "deployment": "store"})):
        cluster.fake.outcome = outcome
        request = cluster.request(container="store" if options else "hello", **options)
        await ended(cluster.delivery, request)
        await cluster.delivery.running(request.service, request.target)
        await cluster.delivery.failure(request)
    role = next(yaml.safe_load_all(RBAC.read_text()))
    allowed = {(one, verb) for rule in role["rules"] for one in rule["resources"] for verb in rule["verbs"]}
    assert cluster.fake.used >= {("deployments", "patch"), ("statefulsets", "patch"), ("pods/log", "get")}
    assert cluster.fake.used <= allowed
    assert not any("secrets" in one or "*" in one for one, _ in allowed)


def deployment(generation: int = 2, replicas: int | None = 3, **status: Any) -> dict[str, Any]:
    spec = {} if replicas is None else {"replicas": replicas}
    return {"metadata": {"generation": generation}, "spec": spec, "status": {"observedGeneration": 2, **status}}


# Cases of kubernetes/kubectl v0.36.3 pkg/polymorphichelpers/rollout_status_test.go, TestDeploymentStatusViewerStatus.
STATUS = [
    (deployment(replicas=1, replicas_=0), SyncState.RUNNING, "0 of 1 new replicas"),
    (deployment(replicas=1, updatedReplicas=1, availableReplicas=0), SyncState.RUNNING, "0 of 1 updated replicas"),
    (deployment(updatedReplicas=3, availableReplicas=3), SyncState.SUCCEEDED, ""),
    (deployment(generation=3, updatedReplicas=3, availableReplicas=3), SyncState.RUNNING, "seen the change"),
    (deployment(replicas=None, updatedReplicas=1, availableReplicas=1), SyncState.SUCCEEDED, ""),
]


@pytest.mark.parametrize(("body", "state", "said"), STATUS)
def test_the_rollout_is_judged_as_kubectl_does(body: dict[str, Any], state: SyncState, said: str) -> None:
    """People compare with `kubectl rollout status`."""
    assert rollout_status(body)[0] is state
    assert said in rollout_status(body)[1]


def workload(kind: str, spec: dict[str, Any] | None = None, **status: Any) -> tuple[dict[str, Any], WorkloadKind]:
    body = {"metadata": {"generation": 2}, "spec": spec or {}, "status": {"observedGeneration": 2, **status}}
    return body, WorkloadKind(kind)


ROLLING: dict[str, Any] = {
    "replicas": 3,
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
}
PARTED: dict[str, Any] = {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}
PLAIN: dict[str, Any] = {"replicas": 3, "updateStrategy": {"type": "RollingUpdate"}}
BY_HAND: dict[str, Any] = {"replicas": 3, "updateStrategy": {"type": "OnDelete"}}
REVISIONS = {"updateRevision": "b", "currentRevision": "a"}
# Cases of the same file: TestStatefulSetStatusViewerStatus, TestDaemonSetStatusViewerStatus, and of a wrong strategy.
OTHERS = [
    (workload("StatefulSet", BY_HAND), SyncState.FAILED, "only when pods are deleted"),
    (
        workload("StatefulSet", ROLLING, readyReplicas=2, updatedReplicas=3),
        SyncState.RUNNING,
        "2 of 3 replicas are ready",
    ),
    (workload("StatefulSet", ROLLING, readyReplicas=3, updatedReplicas=1), SyncState.RUNNING, "1 of 3 new replicas"),
    (workload("StatefulSet", ROLLING, readyReplicas=3, updatedReplicas=3), SyncState.SUCCEEDED, ""),
    (workload("StatefulSet", PARTED, readyReplicas=3, updatedReplicas=1), SyncState.SUCCEEDED, ""),
    (workload("StatefulSet", PLAIN, readyReplicas=3, updatedReplicas=1, **REVISIONS), SyncState.RUNNING, "1 of 3"),
    (workload("StatefulSet", ROLLING, observedGeneration=0, readyReplicas=3), SyncState.RUNNING, "seen the change"),
    (workload("DaemonSet", BY_HAND), SyncState.FAILED, "only when pods are deleted"),
    (workload("DaemonSet", desiredNumberScheduled=4, updatedNumberScheduled=3), SyncState.RUNNING, "3 of 4 new"),
    (
        workload("DaemonSet", desiredNumberScheduled=4, updatedNumberScheduled=4, numberAvailable=3),
        SyncState.RUNNING,
        "3 of 4 updated",
    ),
    (
        workload("DaemonSet", desiredNumberScheduled=4, updatedNumberScheduled=4, numberAvailable=4),
        SyncState.SUCCEEDED,
        "",
    ),
    (workload("DaemonSet", observedGeneration=1, desiredNumberScheduled=0), SyncState.RUNNING, "seen the change"),
]


@pytest.mark.parametrize(("given", "state", "said"), OTHERS)
def test_other_kinds_are_judged_as_kubectl_does(
    given: tuple[dict[str, Any], WorkloadKind], state: SyncState, said: str
) -> None:
    """They have other numbers and no deadline of their own."""
    found = rollout_status(*given)
    assert found[0] is state
    assert said in found[1]


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
async def test_other_kinds_are_rolled_out_too(cluster: Cluster, kind: str) -> None:
    """One patch, the numbers of that kind, and the digest seen running."""
    cluster.fake.add("store", "store", kind=kind)
    request = cluster.request(kind=kind, deployment="store", container="store")
    progress = await ended(cluster.delivery, request)
    assert (progress.state, progress.applied, progress.healthy, progress.total) == (SyncState.SUCCEEDED, 2, 2, 2)
    running = await cluster.delivery.running(request.service, request.target)
    assert running is not None
    assert (running.digest, running.healthy) == (DIGEST, True)


async def live(cluster: Cluster, request: SyncRequest) -> SyncProgress:
    """Begun, and told of by a watch."""
    async with asyncio.timeout(20):
        progress = await cluster.delivery.sync(request)
        while not progress.told:
            await asyncio.sleep(0.01)
            progress = await cluster.delivery.look(request) or progress
    return progress


async def test_the_end_is_seen_by_the_watch(cluster: Cluster) -> None:
    """A thousand rollouts cannot be asked for three times a second: a watch tells, and nothing is asked meanwhile."""
    cluster.fake.outcome = "slow"
    request = cluster.request()
    told = asyncio.Event()
    await live(cluster, request)
    cluster.delivery.listen(lambda intent: told.set() if intent == request.intent else None)
    before = cluster.fake.gets
    cluster.fake.bookmark()
    cluster.fake.outcome = "good"
    async with asyncio.timeout(20):
        while True:
            await told.wait()
            told.clear()
            progress = await cluster.delivery.look(request)
            if progress is not None and progress.state is SyncState.SUCCEEDED:
                break
    assert (cluster.fake.gets - before, cluster.fake.lists, cluster.fake.watches) == (0, 1, 1)


@pytest.mark.parametrize("how", ["request", "event", "cut"])
async def test_a_watch_that_ends_loses_nothing(cluster: Cluster, how: str) -> None:
    """A version that is gone is listed anew, a clean end goes on from where it was."""
    cluster.fake.outcome = "slow"
    request = cluster.request()
    await live(cluster, request)
    lists = cluster.fake.lists
    cluster.fake.gone = how if how != "cut" else ""
    cluster.fake.cut()
    cluster.fake.outcome = "good"
    assert (await ended(cluster.delivery, request)).state is SyncState.SUCCEEDED
    async with asyncio.timeout(20):
        while cluster.fake.watches < (2 if how == "cut" else 3):
            await asyncio.sleep(0.01)
    assert cluster.fake.lists - lists == (0 if how == "cut" else 1)
    assert len(cluster.fake.rollouts) == 1


async def test_without_the_right_to_watch_it_is_asked_for(cluster: Cluster) -> None:
    """An older role is no reason to fail."""
    cluster.fake.denied = True
    progress = await ended(cluster.delivery, cluster.request())
    assert (progress.state, progress.told) == (SyncState.SUCCEEDED, False)


async def test_an_event_from_before_our_patch_does_not_start_it_again(cluster: Cluster) -> None:
    """The watch may trail what we just did: it is not undone in our memory, and nothing is patched twice."""
    cluster.fake.outcome = "slow"
    request = cluster.request()
    await live(cluster, request)
    old = json.loads(json.dumps(cluster.fake.deployments["hello"]))
    old["metadata"] |= {"annotations": {}, "generation": 1}
    cluster.fake._tell({"type": "MODIFIED", "object": old})
    cluster.fake.bookmark()
    await asyncio.sleep(0.05)
    assert await cluster.delivery.look(request) is not None
    assert len(cluster.fake.rollouts) == 1


def test_old_replicas_are_waited_for() -> None:
    """Done means that only the new ones are left."""
    body = deployment(updatedReplicas=3, availableReplicas=3)
    body["status"]["replicas"] = 5
    assert rollout_status(body) == (SyncState.RUNNING, "2 old replicas are pending termination.")
