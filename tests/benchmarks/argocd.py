"""1,000 applications followed at once on one Argo CD: processor, memory, and how soon an end is seen.

And in one whole Slipway with its card in the console: from the end of a sync in Argo CD to the card that says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import structlog
from pydantic import SecretStr

from bot.app import Outside
from bot.catalog.model import Target
from bot.delivery.argocd import ArgoCD
from bot.delivery.argocd_api import ArgoApi, ArgoServer
from bot.delivery.base import SyncRequest, SyncState
from bot.deployments.model import State
from tests.acceptance.test_argocd import make_argo_world, rendered, slipway
from tests.fakes.argocd import TOKEN, FakeArgoCD, Json, running_argocd
from tests.fakes.catalogs import make_service, make_target
from tests.support.running import Running

APPS, SECONDS = 1000, 60
OTHERS, CHATTER = 1000, 20
"""Applications of the same Argo CD that nobody deploys, and how often one of them changes, per second."""
RESOURCES = 20
DEPLOYMENTS = 20
REVISION = hashlib.sha1(b"1").hexdigest()
DONE = (SyncState.SUCCEEDED, SyncState.SUSPENDED, SyncState.FAILED)


class Busy(FakeArgoCD):
    """Argo CD on a bad day: writes into each application when it became healthy, to the microsecond."""

    def _compare(self, app: Json, revision: str, health: str) -> None:
        app["status"]["summary"] = {"externalURLs": [str(time.time())]}
        super()._compare(app, revision, health)
        item = {"version": "v1", "kind": "ConfigMap", "namespace": "shop", "status": "Synced"}
        app["status"]["resources"] += [item | {"name": f"{app['metadata']['name']}-{n}"} for n in range(RESOURCES)]

    def _end(self, app: Json, state: Json, phase: str, message: str) -> None:
        """It compares by itself half a second after a sync, as the real one does, and the health follows later."""
        super()._end(app, state, phase, message)
        self.spawn(self._soon(app, state["syncResult"]["revision"]))

    async def _soon(self, app: Json, revision: str) -> None:
        await asyncio.sleep(0.5)
        self._compare(app, revision, "Progressing")

    async def chatter(self) -> None:
        """What other people's applications do meanwhile."""
        for number in itertools.count():
            self.changed(self.apps[f"other-{number % OTHERS:04}"])
            await asyncio.sleep(1 / CHATTER)

    def changed(self, app: Json) -> None:
        super().changed(app)
        self.events += 1

    events = 0


async def serve() -> None:
    """The fake in a process of its own; prints its address, and at the end how many events it told."""
    fake = Busy(pace=SECONDS / 4)
    for number in range(APPS):
        fake.add(f"app-{number:04}")
    for number in range(OTHERS):
        fake.add(f"other-{number:04}")["status"] = {}
        fake._compare(fake.apps[f"other-{number:04}"], REVISION, "Healthy")
    async with running_argocd(fake):
        fake.spawn(fake.chatter())
        print(fake.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(fake.events, flush=True)


async def follow(url: str) -> None:
    """As the workflow does: sync, then look when told, and every 4 s."""

    async def contains(target: Target, wanted: str, revision: str) -> bool:
        return False

    delivery = ArgoCD({"default": ArgoApi("default", ArgoServer(url, SecretStr(TOKEN)))}, contains)
    events: dict[str, asyncio.Event] = {f"d-{number}-s1": asyncio.Event() for number in range(APPS)}
    delivery.listen(lambda intent: events[intent].set())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    late: list[float] = []
    gate = asyncio.Semaphore(16)

    async def start(number: int) -> SyncRequest:
        target = make_target(service=f"app-{number:04}", delivery={"application": "{service}"})
        intent = f"d-{number}-s1"
        request = SyncRequest(intent, make_service(target), target, REVISION, "1.0", f"sha256:{number:064x}")
        async with gate:
            await delivery.sync(request)
        return request

    async def one(request: SyncRequest) -> None:
        intent = request.intent
        while True:
            events[intent].clear()
            progress = await delivery.look(request)
            if progress is not None and progress.state in DONE:
                app = await delivery._app(delivery._plan(request.service, request.target).apps[0])
                late.append(time.time() - float(app.url))
                return
            pause = 4.0 if progress is not None and progress.told else 0.3
            try:
                await asyncio.wait_for(events[intent].wait(), pause)
            except TimeoutError:
                continue

    requests = await asyncio.gather(*(start(number) for number in range(APPS)))
    began, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(one(request) for request in requests))
    seconds, used = time.monotonic() - began, time.process_time() - cpu
    await delivery.close()
    late.sort()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu": used, "memory": memory, "p99": late[int(len(late) * 0.99)]}))


class Telling(FakeArgoCD):
    """Notes when an application was synced and healthy, before it tells anybody."""

    healthy_at = 0.0

    def _compare(self, app: Json, revision: str, health: str) -> None:
        if health == "Healthy":
            self.healthy_at = time.monotonic()
        super()._compare(app, revision, health)


async def shown(directory: Path, times: int) -> list[float]:
    """Seconds from the end of each of so many syncs, healthy, to the card that shows it."""
    world = make_argo_world(directory / "world")
    took = []
    fake = Telling(render=lambda revision: rendered(world.config, revision))
    async with running_argocd(fake):
        fake.add("app-prod")
        async with slipway(world, fake, poll=Outside().poll) as bot:
            for number in range(1, times + 1):
                world.push(str(number))
                fake.outcome["app-prod"] = "slow"
                await bot.say("owner", "/deploy app prod")
                await bot.reaches(State.SYNCING, number)
                await asyncio.sleep(0.5)  # the look right after its begin is over: an event has to bring the next
                fake.outcome["app-prod"] = "good"
                while not await synced(bot, f"d-{number}"):
                    await asyncio.sleep(0.002)
                took.append(time.monotonic() - fake.healthy_at)
                await bot.ends(number)
    return took


async def synced(bot: Running, deployment: str) -> bool:
    """Whether the card in the channel says that Argo CD is done."""
    cards = [card for card in await bot.cards("lead", deployment) if card["place"] == "#releases"]
    return any(step["name"] == "Deploy" and step["state"] == "succeeded" for card in cards for step in card["steps"])


def main() -> None:
    """Follow them all and print what it took."""
    me = [sys.executable, "-m", "tests.benchmarks.argocd"]
    with subprocess.Popen([*me, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        out = subprocess.run([*me, url], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        assert server.stdin is not None
        server.stdin.close()
        events = int(server.stdout.readline())
    got = json.loads(out)
    share = 100 * got["cpu"] / got["seconds"]
    print(f"{events} events of {APPS + OTHERS} applications with {RESOURCES + 2} resources each", end="; ")
    print(f"{APPS} applications followed for {got['seconds']:.0f} s: {share:.1f} % of a core", end="; ")
    print(f"{got['memory']:.0f} MB at most; p99 from healthy to seen {got['p99'] * 1000:.0f} ms", flush=True)
    with tempfile.TemporaryDirectory() as name:
        took = sorted(asyncio.run(shown(Path(name), DEPLOYMENTS)))
    middle, last = took[len(took) // 2] * 1e3, took[-1] * 1e3
    print(f"from the end of a sync to the card that shows it: median {middle:.0f} ms, the last {last:.0f} ms")


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else follow(sys.argv[1]))
