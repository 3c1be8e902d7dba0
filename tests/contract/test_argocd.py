"""What is Argo CD's own: adoption, automatic sync, windows, streams, faults, gray, several clusters, evidence."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from bot import fence
from bot.catalog.model import Target
from bot.delivery.argocd import ArgoCD
from bot.delivery.argocd_api import AppRef, ArgoApi, ArgoServer, Follower
from bot.delivery.argocd_model import INTENT
from bot.delivery.base import SyncProgress, SyncRequest, SyncState
from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from tests.fakes.argocd import TOKEN, FakeArgoCD, running_argocd
from tests.fakes.catalogs import make_service, make_target
from tests.support import FakeClock

W = hashlib.sha1(b"1").hexdigest()
NEWER = hashlib.sha1(b"2").hexdigest()
DIGEST = f"sha256:{hashlib.sha256(b'1').hexdigest()}"
IMAGE = f"registry.example/hello:1.0@{DIGEST}"


@dataclass
class Argo:
    """One or more fakes, a delivery, and commits known to contain ours."""

    fake: FakeArgoCD
    delivery: ArgoCD
    descendants: set[str] = field(default_factory=set)
    clock: FakeClock = field(default_factory=FakeClock)

    def request(self, intent: str = "d-1-s1", **options: object) -> SyncRequest:
        target = make_target(delivery={"application": "hello", **options})
        return SyncRequest(intent, make_service(target), target, W, "1.0", DIGEST)

    def again(self, clock: Callable[[], datetime] | None = None) -> ArgoCD:
        """A second process: it knows nothing."""
        return make_delivery(self.fake, self.descendants, clock)


def make_delivery(
    fake: FakeArgoCD, descendants: set[str], clock: Callable[[], datetime] | None = None, **more: FakeArgoCD
) -> ArgoCD:
    async def contains(target: Target, wanted: str, revision: str) -> bool:
        return revision in descendants

    fakes = {"default": fake, **more}
    apis = {name: ArgoApi(name, ArgoServer(one.url, SecretStr(TOKEN))) for name, one in fakes.items()}
    return ArgoCD(apis, contains, clock=clock or (lambda: datetime.now(UTC)), window_pause=timedelta(0))


@pytest.fixture
async def argo() -> AsyncIterator[Argo]:
    async with running_argocd() as fake:
        fake.add("hello")
        fake.images = {W: IMAGE, NEWER: IMAGE}
        descendants: set[str] = set()
        delivery = make_delivery(fake, descendants)
        yield Argo(fake, delivery, descendants)
        await delivery.close()


async def until(delivery: ArgoCD, request: SyncRequest, *states: SyncState, start: bool = True) -> SyncProgress:
    """As the workflow does: look, and sync what is not begun."""
    async with asyncio.timeout(20):
        while True:
            progress = await delivery.look(request)
            if start and (progress is None or progress.state is SyncState.PENDING):
                progress = await delivery.sync(request)
            if progress is not None and progress.state in states:
                return progress
            await asyncio.sleep(0.01)


async def test_exactly_the_written_commit_with_our_intent(argo: Argo) -> None:
    """By the intent a later process knows its own; by the commit nobody else's change is shipped with ours."""
    request = argo.request()
    progress = await until(argo.delivery, request, SyncState.SUCCEEDED)
    (body,) = argo.fake.syncs
    assert body["revision"] == W
    assert body["project"] == "default"
    assert {"name": INTENT, "value": "d-1-s1"} in body["infos"]
    assert (progress.applied, progress.healthy, progress.total) == (2, 2, 2)


async def test_the_next_process_adopts_what_the_first_one_started(argo: Argo) -> None:
    """Killed between the answer and its record: one operation, not two."""
    argo.fake.pace = 0.05
    request = argo.request()
    await argo.delivery.sync(request)
    second = argo.again()
    assert await second.look(request) is not None
    await until(second, request, SyncState.SUCCEEDED)
    await second.close()
    assert len(argo.fake.operations) == 1


async def test_a_lost_answer_is_looked_up(argo: Argo) -> None:
    """Argo CD has taken it and we do not know: the next look finds it."""
    argo.fake.faults.append(("POST", "/sync", "drop"))
    request = argo.request()
    with pytest.raises(OutcomeUnknown):
        await argo.delivery.sync(request)
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    assert len(argo.fake.operations) == 1


@pytest.mark.parametrize(("fault", "error"), [("cut", OutcomeUnknown), ("refuse", OutcomeUnknown)])
async def test_a_refused_or_cut_request_is_tried_again(argo: Argo, fault: str, error: type[Exception]) -> None:
    """A proxy's 503 may have come after Argo CD took it: unknown, so looked up, then asked again."""
    argo.fake.faults.append(("POST", "/sync", fault))
    request = argo.request()
    with pytest.raises(error):
        await argo.delivery.sync(request)
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    assert len(argo.fake.operations) == 1


async def test_a_replica_that_was_paused_starts_nothing(argo: Argo) -> None:
    """Another one may have synced meanwhile; looking still works, and whoever surely holds the lease goes on."""
    request = argo.request()
    with fence.holding(lambda: False):
        await argo.delivery.look(request)
        with pytest.raises(ProviderUnavailable, match="This replica was paused"):
            await argo.delivery.sync(request)
    assert argo.fake.syncs == []
    with fence.holding(lambda: True):
        await until(argo.delivery, request, SyncState.SUCCEEDED)
    assert len(argo.fake.syncs) == 1


async def test_not_reached_is_told_apart_from_not_answered() -> None:
    """Where nothing was sent, nothing needs looking up."""
    fake = FakeArgoCD(url="http://127.0.0.1:9")
    delivery = make_delivery(fake, set())
    with pytest.raises(ProviderUnavailable, match="is not reached"):
        await delivery.look(Argo(fake, delivery).request())
    await delivery.close()


async def test_automatic_sync_is_asked_without_a_revision_and_judged_by_what_it_applied(argo: Argo) -> None:
    """A named revision is refused there; a newer head that contains our commit is as good."""
    argo.fake.add("hello", auto_sync=True)
    argo.fake.heads["hello"] = NEWER
    argo.descendants.add(NEWER)
    await until(argo.delivery, argo.request(), SyncState.SUCCEEDED)
    assert "revision" not in argo.fake.syncs[0]


async def test_of_many_sources_ours_alone_is_named(argo: Argo) -> None:
    """Its position and its commit; the others stay at what they follow, and `revision` would be passed over."""
    argo.fake.add("hello", sources=3)
    await until(argo.delivery, argo.request(source=2), SyncState.SUCCEEDED)
    (body,) = argo.fake.syncs
    assert (body["sourcePositions"], body["revisions"], body.get("revision")) == ([2], [W], None)
    assert argo.fake.apps["hello"]["status"]["sync"]["revisions"][1] == W


async def test_automatic_sync_that_was_faster_is_adopted(argo: Argo) -> None:
    """It applied our commit: there is nothing left to start."""
    argo.fake.add("hello", auto_sync=True)
    argo.fake.begin("hello", revision=W, automated=True)
    await until(argo.delivery, argo.request(), SyncState.SUCCEEDED)
    assert argo.fake.syncs == []


async def test_a_head_without_our_commit_is_not_done(argo: Argo) -> None:
    """Argo CD's Git is behind: what it synced is not ours, and another attempt is due."""
    argo.fake.add("hello", auto_sync=True)
    argo.fake.heads["hello"] = "0" * 40
    progress = await until(argo.delivery, argo.request(), SyncState.SUCCEEDED, SyncState.INTERRUPTED)
    assert progress.state is SyncState.INTERRUPTED
    assert "000000000000" in progress.message


async def test_another_operation_in_place_is_waited_for(argo: Argo) -> None:
    """Ours comes after it, once."""
    argo.fake.outcome["hello"] = "slow"
    argo.fake.begin("hello", revision="0" * 40)
    request = argo.request()
    progress = await until(argo.delivery, request, SyncState.PENDING)
    assert "is in progress on hello" in progress.message
    argo.fake.outcome["hello"] = "good"
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    assert [revision for _, revision in argo.fake.operations] == ["0" * 40, W]


async def test_a_closed_window_of_argocd_is_shown_and_waited_for(argo: Argo) -> None:
    """Its refusal would look like a missing right; asked first, it is what it is."""
    deny = {"kind": "deny", "schedule": "0 22 * * *", "duration": "1h"}
    argo.fake.windows["hello"] = {"canSync": False, "activeWindows": [deny]}
    request = argo.request()
    progress = await argo.delivery.sync(request)
    assert progress.state is SyncState.PENDING
    assert "sync window is closed for hello (active: deny 0 22 * * * for 1h)" in progress.message
    assert argo.fake.syncs == []
    del argo.fake.windows["hello"]
    await until(argo.delivery, request, SyncState.SUCCEEDED)


async def test_the_end_is_seen_by_the_stream(argo: Argo) -> None:
    """A thousand deployments cannot be polled each second: once followed, an application is not asked for again."""
    argo.fake.pace = 0.1
    request = argo.request()
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    assert argo.fake.streams == 1
    assert len(argo.fake.gets) < 8


async def test_a_cut_stream_loses_nothing(argo: Argo) -> None:
    """There is no resume: after the link broke everything is looked at once."""
    argo.fake.pace = 0.1
    request = argo.request()
    await until(argo.delivery, request, SyncState.RUNNING)
    argo.fake.cut_streams()
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    assert len(argo.fake.operations) == 1


async def test_an_argocd_that_restarts_is_waited_for(argo: Argo) -> None:
    """It goes in the middle of our sync: not reached is not failed, and nothing is begun a second time."""
    argo.fake.pace = 0.1
    request = argo.request()
    await until(argo.delivery, request, SyncState.RUNNING)
    restart = asyncio.create_task(argo.fake.restart(away=0.3))
    refusals = 0
    async with asyncio.timeout(20):
        while True:
            try:
                progress = await argo.delivery.look(request)
            except ProviderUnavailable:
                refusals += 1
                progress = None
            if progress is not None and progress.state is SyncState.SUCCEEDED and restart.done():
                break
            await asyncio.sleep(0.01)
    await restart
    assert len(argo.fake.operations) == 1


async def test_between_two_attempts_of_argocd_it_is_not_over(argo: Argo) -> None:
    """`finishedAt` is set and the phase is Running: whoever reads only one of them reports a failure that is none."""
    argo.fake.pace, argo.fake.retries = 0.05, 2
    request = argo.request()
    seen = set()
    async with asyncio.timeout(20):
        while (progress := await until(argo.delivery, request, *SyncState)).state is not SyncState.SUCCEEDED:
            seen.add((progress.state, progress.message.partition("#")[0]))
            await asyncio.sleep(0.01)
    assert (SyncState.RUNNING, "one or more objects failed to apply. Retrying attempt ") in seen
    assert {state for state, _ in seen} <= {SyncState.PENDING, SyncState.RUNNING}
    assert len(argo.fake.operations) == 1


async def test_an_app_of_apps_is_done_when_those_below_it_are(argo: Argo) -> None:
    """Argo CD leaves the health of applications out of the health of the one that manages them."""
    child = argo.fake.add("child", project="other")
    argo.fake.below["hello"] = ["child"]
    synced = {"status": "Synced", "revision": W}
    child["status"] = {"sync": dict(synced), "health": {"status": "Healthy"}, "reconciledAt": "2020-01-01T00:00:00Z"}
    request = argo.request()

    async def says(text: str) -> SyncProgress:
        while True:
            progress = await until(argo.delivery, request, SyncState.RUNNING, SyncState.SUCCEEDED)
            if text in progress.message and progress.state is (SyncState.RUNNING if text else SyncState.SUCCEEDED):
                return progress
            await asyncio.sleep(0.01)

    child["status"]["sync"]["status"] = "OutOfSync"
    await asyncio.wait_for(says("Waiting for the application child below it: OutOfSync, Healthy."), 20)
    child["status"] |= {"sync": synced, "health": {"status": "Progressing"}}
    argo.fake.changed(child)
    await asyncio.wait_for(says("Synced, Progressing"), 20)
    child["status"] |= {"health": {"status": "Healthy"}, "summary": {"images": [IMAGE]}}
    argo.fake.changed(child)
    await asyncio.wait_for(says(""), 20)
    argo.fake.apps["hello"]["status"]["summary"] = {"images": []}
    running = await argo.delivery.running(request.service, request.target)
    assert running is not None
    assert (running.digest, running.healthy) == (DIGEST, True)


async def test_what_the_stream_forgot_is_found_by_the_poll_behind_it(argo: Argo) -> None:
    """Argo CD drops events for slow readers and says nothing of it: a live link is no proof."""
    argo.delivery._followers["default"].slow = 0.2
    argo.fake.outcome["hello"] = "slow"
    request = argo.request()
    await until(argo.delivery, request, SyncState.RUNNING)
    argo.fake.deaf = True
    argo.fake.outcome["hello"] = "good"
    progress = await until(argo.delivery, request, SyncState.SUCCEEDED)
    assert (progress.told, argo.fake.streams) == (True, 1)


async def test_a_link_without_a_sign_of_life_is_made_anew(argo: Argo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead peer keeps a connection open for hours; Argo CD gives a sign of life every 15 s."""
    monkeypatch.setattr("bot.delivery.argocd_api.SILENCE", 0.2)
    argo.fake.keepalive = 3600
    argo.fake.outcome["hello"] = "slow"
    request = argo.request()
    await until(argo.delivery, request, SyncState.RUNNING)
    async with asyncio.timeout(20):
        while argo.fake.streams < 2:
            await asyncio.sleep(0.01)
    argo.fake.outcome["hello"] = "good"
    await until(argo.delivery, request, SyncState.SUCCEEDED)


async def test_what_nobody_asks_about_any_more_is_forgotten(argo: Argo) -> None:
    """A link lives for weeks, and 25,000 applications would fill the memory; events about others are passed over."""
    at = [1000.0]
    follower = Follower(ArgoApi("default", ArgoServer(argo.fake.url, SecretStr(TOKEN))), now=lambda: at[0])
    told: list[tuple[str, str]] = []
    follower.changed = told.append
    for name in ("once", "other"):
        argo.fake.add(name)
    once, other = AppRef("default", "default", "once"), AppRef("default", "default", "other")
    assert await follower.look(once) is not None
    at[0] += 700
    assert await follower.look(other) is not None
    assert set(follower._seen) == {("", "other")}
    async with asyncio.timeout(20):
        while ("", "other") not in told:
            argo.fake.changed(argo.fake.apps["once"])
            argo.fake.changed(argo.fake.apps["other"])
            await asyncio.sleep(0.01)
    assert set(told) == {("", "other")}
    await follower.close()


async def test_paused_is_gray_and_continues_by_a_resource_action(argo: Argo) -> None:
    """With Argo CD's rights alone, none in the cluster."""
    argo.fake.outcome["hello"] = "paused"
    request = argo.request()
    await until(argo.delivery, request, SyncState.SUSPENDED)
    argo.fake.outcome["hello"] = "good"
    await argo.delivery.continue_gray(request)
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    assert argo.fake.actions == [("Rollout/hello", "resume")]


async def test_a_failed_analysis_is_told_with_its_metric(argo: Argo) -> None:
    """Whoever asked reads by which number the Rollout gave up."""
    argo.fake.outcome["hello"] = "degraded"
    metric = {
        "name": "success-rate",
        "phase": "Failed",
        "message": "assessed Failed",
        "measurements": [{"value": "[0.4]"}],
    }
    argo.fake.analysis = {"status": {"phase": "Failed", "metricResults": [{"phase": "Successful"}, metric]}}
    request = argo.request(degraded_for="1s")
    await until(argo.delivery, request, SyncState.FAILED)
    found = await argo.delivery.failure(request)
    assert "analysis success-rate is Failed, last value [0.4]: assessed Failed" in found.lines


async def test_an_analysis_without_a_result_is_passed_and_not_run_again(argo: Argo) -> None:
    """Only ending the pause would pause at once again; a person who says go on means past it."""
    argo.fake.outcome["hello"] = "paused"
    argo.fake.inconclusive = True
    request = argo.request()
    await until(argo.delivery, request, SyncState.SUSPENDED)
    argo.fake.outcome["hello"] = "good"
    await argo.delivery.continue_gray(request)
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    assert argo.fake.actions == [("Rollout/hello", "skip-current-step")]


async def test_aborted_gray_is_a_failure_with_a_way_back(argo: Argo) -> None:
    """Traffic is back at once; Git is what must follow."""
    argo.fake.outcome["hello"] = "paused"
    request = argo.request(degraded_for="1s")
    await until(argo.delivery, request, SyncState.SUSPENDED)
    await argo.delivery.abort_gray(request)
    assert argo.fake.actions == [("Rollout/hello", "abort")]
    assert (await until(argo.delivery, request, SyncState.FAILED)).state is SyncState.FAILED


async def test_a_crash_looping_pod_under_a_healthy_application_is_not_healthy(argo: Argo) -> None:
    """Argo CD's health leaves pods out; people mean the pods."""
    argo.fake.outcome["hello"] = "crashing"
    request = argo.request()
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    running = await argo.delivery.running(request.service, request.target)
    assert running is not None
    assert (running.digest, running.healthy) == (DIGEST, False)
    assert running.message == "Pod hello-0: CrashLoopBackOff after 7 restarts."


async def test_old_and_new_pods_side_by_side_are_not_the_release(argo: Argo) -> None:
    """In the middle of a rollout the image that was wanted is there, and is not yet all there is."""
    request = argo.request()
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    other = f"registry.example/hello:0.9@sha256:{'0' * 64}"
    argo.fake.apps["hello"]["status"]["summary"]["images"].append(other)
    running = await argo.delivery.running(request.service, request.target)
    assert running is not None
    assert (running.digest, running.healthy, running.message) == ("", False, "Old and new pods run side by side.")


async def test_helpers_beside_the_service_are_left_out_by_its_image(argo: Argo) -> None:
    """A sidecar's digest says nothing about the release."""
    request = argo.request(image="hello")
    await until(argo.delivery, request, SyncState.SUCCEEDED)
    argo.fake.apps["hello"]["status"]["summary"]["images"].append(f"mesh/proxy@sha256:{'0' * 64}")
    running = await argo.delivery.running(request.service, request.target)
    assert running is not None
    assert running.digest == DIGEST


async def test_evidence_has_reason_event_and_last_lines_without_secrets(argo: Argo) -> None:
    """Why, in the card: nobody should have to open four tools."""
    argo.fake.outcome["hello"] = "degraded"
    argo.fake.logs = ["starting", "Traceback (most recent call last):", "KeyError: 'PORT' token=abc123secret"]
    request = argo.request(degraded_for="1s")
    await until(argo.delivery, request, SyncState.FAILED)
    failure = await argo.delivery.failure(request)
    text = "\n".join(failure.lines)
    assert failure.message == "Pod hello-0: CrashLoopBackOff after 7 restarts."
    assert "hello-0/main: CrashLoopBackOff back-off 5m0s (before: Error, exit code 1), 7 restarts" in text
    assert "KeyError: 'PORT'" in text
    assert "abc123secret" not in text
    assert "unable to retrieve container logs" not in text
    assert "BackOff: Back-off restarting failed container" in text


async def test_several_clusters_go_in_waves_and_all_must_be_healthy(argo: Argo) -> None:
    """One deployment: the second cluster is touched only after the first is well, and a failure names its cluster."""
    async with running_argocd() as west:
        west.add("hello", project="shop")
        west.images = {W: IMAGE}
        west.outcome["hello"] = "failing"
        delivery = make_delivery(argo.fake, set(), west=west)
        several = [
            {"application": "hello", "wave": 1},
            {"application": "hello", "server": "west", "project": "shop", "wave": 2},
        ]
        request = argo.request(applications=several)
        argo.fake.outcome["hello"] = "slow"
        await until(delivery, request, SyncState.RUNNING)
        assert west.operations == []
        argo.fake.outcome["hello"] = "good"
        progress = await until(delivery, request, SyncState.FAILED)
        assert progress.message.startswith("1 of 2 clusters are well. west/hello: one or more objects failed")
        assert [(one.name, one.state) for one in progress.places] == [
            ("hello", SyncState.SUCCEEDED),
            ("west/hello", SyncState.FAILED),
        ]
        assert len(argo.fake.operations) == len(west.operations) == 1
        await delivery.close()


async def test_every_cluster_tells_what_runs_there_and_which_hooks_ran(argo: Argo) -> None:
    """`/where` shows the one that differs by name; a rollback warns of hooks."""
    async with running_argocd() as west:
        west.add("hello", project="shop")
        west.images = {W: IMAGE}
        argo.fake.hooks = ["migrate"]
        delivery = make_delivery(argo.fake, set(), west=west)
        several = [{"application": "hello"}, {"application": "hello", "server": "west", "project": "shop"}]
        request = argo.request(applications=several)
        await until(delivery, request, SyncState.SUCCEEDED)
        other = f"reg.example/hello:0.9@sha256:{'9' * 64}"
        west.apps["hello"]["status"]["summary"]["images"] = [other]
        found = await delivery.everywhere(request.service, request.target)
        assert {name: one.digest if one else "" for name, one in found.items()} == {
            "hello": DIGEST,
            "west/hello": f"sha256:{'9' * 64}",
        }
        assert await delivery.hooks(request.service, request.target) == ["PreSync Job/migrate"]
        await delivery.close()


SEVERAL = [
    {"application": "hello"},
    {"application": "hello", "server": "west"},
    {"application": "hello", "server": "south", "wave": 1},
]


@asynccontextmanager
async def three_clusters(argo: Argo) -> AsyncIterator[tuple[FakeArgoCD, FakeArgoCD, Argo]]:
    """Two at once, then a third; by default every one is good."""
    async with running_argocd() as west, running_argocd() as south:
        for fake in (west, south):
            fake.add("hello")
            fake.images = {W: IMAGE}
        delivery = make_delivery(argo.fake, set(), clock=argo.clock, west=west, south=south)
        yield west, south, Argo(argo.fake, delivery, clock=argo.clock)
        await delivery.close()


async def test_clusters_of_one_wave_go_at_once_and_the_next_wave_waits(argo: Argo) -> None:
    """Each cluster is told: how far, or what it waits for; done is only when all run it."""
    async with three_clusters(argo) as (west, south, several):
        argo.fake.outcome["hello"] = west.outcome["hello"] = "slow"
        request = argo.request(applications=SEVERAL)
        progress = await until(several.delivery, request, SyncState.RUNNING)
        assert (len(argo.fake.operations), len(west.operations), len(south.operations)) == (1, 1, 0)
        last = progress.places[-1]
        assert (last.name, last.state) == ("south/hello", SyncState.PENDING)
        assert "when the clusters before it are healthy" in last.message
        argo.fake.outcome["hello"] = west.outcome["hello"] = "good"
        progress = await until(several.delivery, request, SyncState.SUCCEEDED)
        assert [one.state for one in progress.places] == [SyncState.SUCCEEDED] * 3
        assert (progress.applied, progress.healthy, progress.total) == (6, 6, 6)
        running = await several.delivery.running(request.service, request.target)
        assert running is not None
        assert (running.digest, running.healthy) == (DIGEST, True)


async def test_a_silent_cluster_hides_nothing_of_the_others(argo: Argo) -> None:
    """One Argo CD is down: the others go on and are shown, the next wave waits, and it is over in its time."""
    async with three_clusters(argo) as (west, south, several):
        await west.stop()
        request = argo.request(applications=SEVERAL, timeout="5m")

        async def first_is_done() -> SyncProgress:
            while True:
                progress = await several.delivery.look(request)
                if progress is None or progress.state is SyncState.PENDING:
                    progress = await several.delivery.sync(request)
                if progress.places[0].state is SyncState.SUCCEEDED:
                    return progress
                await asyncio.sleep(0.01)

        progress = await asyncio.wait_for(first_is_done(), 20)
        assert progress.state is SyncState.PENDING
        assert progress.places[1].message == "Argo CD 'west' is not reached (ClientConnectorError)."
        assert south.operations == []
        argo.clock.advance(timedelta(minutes=6))
        progress = await until(several.delivery, request, SyncState.FAILED)
        assert progress.message.startswith("1 of 2 clusters are well. west/hello: ")
        failure = await several.delivery.failure(request)
        assert "west/hello: Argo CD 'west' is not reached" in failure.message


async def test_clusters_that_run_different_versions_are_not_done(argo: Argo) -> None:
    """Somebody synced one of them by hand: the environment does not run one release."""
    async with three_clusters(argo) as (west, _, several):
        request = argo.request(applications=SEVERAL)
        await until(several.delivery, request, SyncState.SUCCEEDED)
        other = f"registry.example/hello:0.9@sha256:{'0' * 64}"
        west.apps["hello"]["status"]["summary"]["images"] = [other]
        running = await several.delivery.running(request.service, request.target)
        assert running is not None
        assert (running.digest, running.healthy) == ("", False)
        assert "west/hello 0.9" in running.message
        west.outcome["hello"] = "crashing"
        running = await several.delivery.running(request.service, request.target)
        assert running is not None
        assert running.message == "west/hello: Pod hello-0: CrashLoopBackOff after 7 restarts."


async def test_evidence_of_every_cluster_that_failed(argo: Argo) -> None:
    """Two failed, each in its own way: both are told, by name."""
    async with three_clusters(argo) as (west, _, several):
        argo.fake.outcome["hello"], west.outcome["hello"] = "degraded", "failing"
        request = argo.request(applications=SEVERAL, degraded_for="1s")

        argo.clock.set(datetime.now(UTC) + timedelta(seconds=30))  # So that Degraded has lasted.
        progress = await until(several.delivery, request, SyncState.FAILED)
        assert progress.message.startswith("0 of 2 clusters are well.")
        failure = await several.delivery.failure(request)
        assert "hello: Pod hello-0: CrashLoopBackOff" in failure.message
        assert "west/hello: one or more objects failed to apply" in failure.message
        assert any(line.startswith("west/hello: Deployment/hello: error") for line in failure.lines)


async def test_a_missing_application_is_told_with_where_to_look(argo: Argo) -> None:
    """The project is always sent: without it Argo CD would speak of rights."""
    with pytest.raises(ProviderRejected, match="has no application gone in project default"):
        await argo.delivery.look(argo.request(application="gone"))


async def test_an_unknown_instance_names_those_that_are_known(argo: Argo) -> None:
    """A slip in the catalog is told with the choice."""
    with pytest.raises(ProviderRejected, match="'east' is not set up here \\(known: default\\)"):
        await argo.delivery.look(argo.request(server="east"))


async def test_a_session_that_ended_is_made_anew(argo: Argo) -> None:
    """A session lives a day; a login is part of the work, and the password never in an error."""
    server = ArgoServer(argo.fake.url, username="bot", password=SecretStr("right-password"))
    api = ArgoApi("default", server)
    delivery = ArgoCD({"default": api}, lambda *_: asyncio.sleep(0, result=False))
    assert await delivery.look(argo.request()) is None
    argo.fake.token = "another.session.token"
    assert await delivery.look(argo.request()) is None
    await delivery.close()
    wrong = ArgoApi("default", ArgoServer(argo.fake.url, username="bot", password=SecretStr("wr0ng")))
    delivery = ArgoCD({"default": wrong}, lambda *_: asyncio.sleep(0, result=False))
    with pytest.raises(ProviderUnavailable) as caught:
        await delivery.look(argo.request())
    assert "wr0ng" not in str(caught.value)
    await delivery.close()


async def test_a_wrong_token_is_told_without_the_token(argo: Argo) -> None:
    """Credentials are not for cards."""
    argo.fake.token = "rotated.away.token"
    second = argo.again()
    with pytest.raises(ProviderUnavailable, match="no session information") as caught:
        await second.look(argo.request())
    assert TOKEN not in caught.value.sentence()
    await second.close()
