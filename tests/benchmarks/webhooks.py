"""A burst of 5,000 webhooks in ten seconds, alone and beside a hostile sender: what is lost, and how long answers take.

python -m tests.benchmarks.webhooks [EVENTS]
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
from sqlalchemy import func, select

from bot.clock import utc_now
from bot.deployments.model import Data, Emergency, State
from bot.store import deployments as rows
from bot.store.database import Database, Tx
from bot.store.tables import deployments
from tests.support.chaos import Replica, database, ready
from tests.support.rows import new_deployment
from tests.support.world import make_world

TARGETS = 500
SECONDS = 10.0
SECRET = "hook-secret"
HOSTILE = "--hostile"
GOOD, EVIL = "127.0.0.1", "127.0.0.2"


def waiting(tx: Tx) -> list[str]:
    """Deployments that wait and are woken by every event; returns their intents."""
    at = utc_now()
    question = Emergency(
        rule="r", needed=1, subject="s", asked_at=at, expires_at=at + timedelta(hours=8), pass_minutes=60
    )
    made = []
    for number in range(TARGETS):
        new = new_deployment(f"w{number}", State.AWAITING_APPROVAL, f"s{number}", Data(emergency=question))
        made.append(rows.create(tx, new, at)[0].intent)
    return made


def event(intent: str, number: int) -> tuple[bytes, dict[str, str]]:
    """A GitLab pipeline event that carries the intent."""
    variables = [{"key": "SLIPWAY_INTENT", "value": f"{intent}-r1"}]
    body = {"object_kind": "pipeline", "object_attributes": {"id": number, "variables": variables}}
    headers = {"X-Gitlab-Token": SECRET, "Idempotency-Key": f"e{number}", "content-type": "application/json"}
    return json.dumps(body).encode(), headers


async def burst(url: str, intents: list[str], events: int, first: int = 0) -> tuple[Counter[int], list[float]]:
    """All of them, evenly over ten seconds; one that is told to wait comes again."""
    statuses: Counter[int] = Counter()
    took: list[float] = []

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        body, headers = event(intents[number % len(intents)], number)
        began = time.perf_counter()
        async with session.post(f"{url}/hooks/gitlab", data=body, headers=headers) as answer:
            statuses[answer.status] += 1
            await answer.read()
        took.append(time.perf_counter() - began)

    connector = aiohttp.TCPConnector(limit=50, local_addr=(GOOD, 0))
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        began = time.monotonic()
        for number in range(events):
            group.create_task(one(session, first + number))
            ahead = began + number * SECONDS / events - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)
    return statuses, took


@contextmanager
def beside_hostile(url: str) -> Iterator[Counter[int]]:
    """A hostile sender meanwhile, and in the end what it was answered.

    In a process of its own that has what processor time the others leave: in truth it has a machine of its own.
    """
    me = [sys.executable, "-m", "tests.benchmarks.webhooks", HOSTILE, url]
    heard: Counter[int] = Counter()
    with subprocess.Popen(me, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            yield heard
        finally:
            said, _ = process.communicate("")
            heard.update({int(status): count for status, count in json.loads(said).items()})


async def hostile(url: str) -> None:
    """Forgeries as fast as they are answered, from another address, until nobody holds the input any more."""
    os.nice(19)
    stop = asyncio.Event()
    watch = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    watch.add_done_callback(lambda _: stop.set())
    print("begun", flush=True)
    print(json.dumps(await forgeries(url, stop)))


async def forgeries(url: str, stop: asyncio.Event) -> Counter[int]:
    """What they were answered."""
    statuses: Counter[int] = Counter()
    body = b"x" * 20_000
    forged = {"X-Hub-Signature-256": "sha256=" + hmac.new(b"guess", body, hashlib.sha256).hexdigest()}
    connector = aiohttp.TCPConnector(limit=8, local_addr=(EVIL, 0))
    async with aiohttp.ClientSession(connector=connector) as session:

        async def flood() -> None:
            while not stop.is_set():
                async with session.post(f"{url}/hooks/github", data=body, headers=forged) as answer:
                    statuses[answer.status] += 1
                    await answer.read()

        await asyncio.gather(*(flood() for _ in range(8)))
    return statuses


async def measure(directory: Path, events: int) -> None:
    """Print the figures."""
    world = make_world(directory / "world")
    with database() as server:
        url = server.server.url("chaos")
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = kept | {
            "SLIPWAY_CONFIG": str(world.directory),
            "SLIPWAY_DATABASE_URL": url,
            "SLIPWAY_LOG_LEVEL": "error",
            "SLIPWAY_GITLAB_HOOK_SECRET": SECRET,
            "SLIPWAY_GITHUB_HOOK_SECRET": SECRET,
        }
        replica, db = Replica(0, directory, environment), Database(url)
        replica.start()
        try:
            async with aiohttp.ClientSession() as session:
                await ready(session, replica)
            intents = await db.run(waiting)
            alone = await burst(replica.url, intents, events)
            tell("alone", *alone, await woken(db), events)
            with beside_hostile(replica.url) as forged:
                beside = await burst(replica.url, intents, events, events)
            tell("beside a hostile sender", *beside, await woken(db) - events, events)
            ratio = statistics.median(beside[1]) / statistics.median(alone[1])
            print(f"hostile: {dict(forged)}; the others' median {ratio:.2f} x")
        finally:
            replica.end()
            db.close()


async def woken(db: Database) -> int:
    """How many events have reached their deployments."""
    total: int = await db.read(lambda tx: tx.execute(select(func.sum(deployments.c.signal_seq))).scalar_one() or 0)
    return total


def tell(name: str, statuses: Counter[int], took: list[float], reached: int, events: int) -> None:
    """A line."""
    ordered = sorted(took)
    p99 = ordered[int(len(ordered) * 0.99)]
    print(
        f"{name}: {events} events in {SECONDS:.0f} s: {dict(statuses)}, {reached} reached their deployments, "
        f"answered in {statistics.median(took) * 1000:.0f} ms p50, {p99 * 1000:.0f} ms p99"
    )


def main() -> None:
    """See the module."""
    if HOSTILE in sys.argv:
        asyncio.run(hostile(sys.argv[-1]))
        return
    events = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 5000
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory), events))


if __name__ == "__main__":
    main()
