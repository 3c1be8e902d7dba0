"""1,000 applications followed at once on one Argo CD: processor, memory, and how soon an end is seen."""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import subprocess
import sys
import time

from pydantic import SecretStr

from bot.catalog.model import Target
from bot.delivery.argocd import ArgoCD
from bot.delivery.argocd_api import ArgoApi, ArgoServer
from bot.delivery.base import SyncRequest, SyncState
from tests.fakes.argocd import TOKEN, FakeArgoCD, Json, running_argocd
from tests.fakes.catalogs import make_service, make_target

APPS, SECONDS = 1000, 60
REVISION = hashlib.sha1(b"1").hexdigest()
DONE = (SyncState.SUCCEEDED, SyncState.SUSPENDED, SyncState.FAILED)


class Stamping(FakeArgoCD):
    """Writes into each application when it became healthy, to the microsecond."""

    def _compare(self, app: Json, revision: str, health: str) -> None:
        app["status"]["summary"] = {"externalURLs": [str(time.time())]}
        super()._compare(app, revision, health)


async def serve() -> None:
    """The fake in a process of its own; operations take `SECONDS`, each tells of itself every few seconds."""
    fake = Stamping(pace=SECONDS / 6)
    for number in range(APPS):
        fake.add(f"app-{number:04}")
    async with running_argocd(fake):
        print(fake.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def follow(url: str) -> None:
    """As the workflow does: sync, then look when told, and every 4 s."""

    async def contains(target: Target, wanted: str, revision: str) -> bool:
        return False

    delivery = ArgoCD({"default": ArgoApi("default", ArgoServer(url, SecretStr(TOKEN)))}, contains)
    events: dict[str, asyncio.Event] = {f"d-{number}-s1": asyncio.Event() for number in range(APPS)}
    delivery.listen(lambda intent: events[intent].set())
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


def main() -> None:
    """Follow them all and print what it took."""
    me = [sys.executable, "-m", "tests.benchmarks.argocd"]
    with subprocess.Popen([*me, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        out = subprocess.run([*me, url], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        server.terminate()
    got = json.loads(out)
    share = 100 * got["cpu"] / got["seconds"]
    print(f"{APPS} applications followed for {got['seconds']:.0f} s: {share:.1f} % of a core", end="; ")
    print(f"{got['memory']:.0f} MB at most; p99 from healthy to seen {got['p99'] * 1000:.0f} ms", flush=True)


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "serve" else follow(sys.argv[1]))
