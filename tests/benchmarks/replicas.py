"""Two replicas on one PostgreSQL: what idling costs, what a thousand waiting deployments cost, how fast one takes over.

python -m tests.benchmarks.replicas [SECONDS]
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import aiohttp

from bot.clock import utc_now
from bot.deployments.model import Data, Emergency, State
from bot.store import deployments as rows
from bot.store.database import Database, Tx
from tests.support.chaos import Replica, database, ready
from tests.support.rows import new_deployment
from tests.support.world import make_world

WAITING = 1000
LEASE = timedelta(seconds=10)
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(replica: Replica) -> float:
    """User and system time of the process so far."""
    assert replica.process is not None
    fields = Path(f"/proc/{replica.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(replica: Replica) -> float:
    """Resident memory."""
    assert replica.process is not None
    lines = Path(f"/proc/{replica.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


async def load(replicas: list[Replica], seconds: float) -> list[float]:
    """Percent of a core that each uses."""
    before = [cpu_seconds(one) for one in replicas]
    await asyncio.sleep(seconds)
    return [100 * (cpu_seconds(one) - was) / seconds for one, was in zip(replicas, before, strict=True)]


def wait_for_approval(tx: Tx) -> None:
    """A thousand deployments that wait for a click that never comes."""
    at = utc_now()
    question = Emergency(
        rule="r", needed=1, subject="s", asked_at=at, expires_at=at + timedelta(hours=8), pass_minutes=60
    )
    for number in range(WAITING):
        data = Data(emergency=question)
        rows.create(tx, new_deployment(f"w{number}", State.AWAITING_APPROVAL, f"s{number}", data), at)


async def take_over(db: Database) -> float:
    """Seconds from the death of the holder, right after it renewed its lease, to the first step of another."""
    at = utc_now()

    def die(tx: Tx) -> int:
        made, _ = rows.create(tx, new_deployment(f"t{time.time()}", service="gone"), at)
        rows.claim(tx, "dead", [State.QUEUED], at, LEASE, 1)
        return made.id

    number = await db.run(die)
    began = time.monotonic()
    while True:
        seen = await db.read(lambda tx: rows.get(tx, number))
        if seen is not None and (seen.version or seen.state is not State.QUEUED or seen.data.waiting_for):
            return time.monotonic() - began
        await asyncio.sleep(0.02)


async def measure(directory: Path, seconds: float) -> None:
    """Print the figures."""
    world = make_world(directory / "world")
    with database() as server:
        url = server.server.url("chaos")
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = kept | {"SLIPWAY_CONFIG": str(world.directory), "SLIPWAY_DATABASE_URL": url}
        replicas = [Replica(number, directory, environment) for number in range(2)]
        db = Database(url)
        try:
            async with aiohttp.ClientSession() as session:
                for one in replicas:
                    one.start()
                    await ready(session, one)
            await asyncio.sleep(3)
            idle, memory = await load(replicas, seconds), memory_mb(replicas[0])
            print(f"idle: {idle[0]:.2f} and {idle[1]:.2f} % of a core, {memory:.0f} MB each")
            await db.run(wait_for_approval)
            await asyncio.sleep(3)
            busy, more = await load(replicas, seconds), memory_mb(replicas[0])
            print(f"{WAITING} waiting: {busy[0]:.2f} and {busy[1]:.2f} % of a core, {more - memory:+.0f} MB")
            took = [await take_over(db) for _ in range(2)]
            print(f"taken over from a dead replica after {min(took):.1f} to {max(took):.1f} s")
        finally:
            for one in replicas:
                one.end()
            db.close()


def main() -> None:
    """See the module."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory), seconds))


if __name__ == "__main__":
    main()
