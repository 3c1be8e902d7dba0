"""500 services x 5 environments deployed by 2,500 commands at one instant, two replicas on one PostgreSQL.

And 1,000 commands of 200 services offered evenly, 100 a second, whether or not the ones before are through.

From the press of Enter to the pushed commit, through the whole application: console, inbox, rules, engine, Git writer.
The releases are built already, as for a promotion; Argo CD takes the syncs and begins none of them. Prints how long
each part took, so that it can be seen which of them is the limit. `gitops` measures the writer alone.

python -m tests.benchmarks.commanded [SERVICES]
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import func, select

from bot.store import releases
from bot.store.database import Database, Tx
from bot.store.releases import Release
from bot.store.tables import deployments, inbox, transitions
from tests.benchmarks.replicas import TICKS, TOKEN
from tests.fakes.argocd import TOKEN as ARGO_TOKEN
from tests.fakes.argocd import FakeArgoCD, running_argocd
from tests.fakes.git_http import GitServer, running_git_server
from tests.fakes.repositories import BareRepository, Repository, git
from tests.support.chaos import Replica, Server, database, ready
from tests.support.world import World, make_world

ENVIRONMENTS = ("dev", "test", "staging", "gray", "prod")
PATIENCE = 200.0
EVEN_SERVICES, EVEN_PACE = 200, 100.0
VERSION = "2.0"


def names(services: int) -> tuple[str, ...]:
    """Of the services."""
    return tuple(f"svc-{number:04}" for number in range(services))


def prepared(directory: Path, services: int) -> World:
    """A company whose every service runs 1.0 everywhere, and has 2.0 built."""
    world = make_world(directory, names(services))
    work = Repository(directory / "work")
    old = f'version: "1.0"\ndigest: "sha256:{0:064x}"\ncommit: "{0:040x}"\n'
    files = [f"{environment}/{name}.yaml" for name in names(services) for environment in ENVIRONMENTS]
    work.commit(dict.fromkeys(files, old), "first")
    work.git("push", "--quiet", str(world.config), "HEAD:refs/heads/main")
    return world


def configured(world: World, address: str) -> None:
    """One configuration repository for all of it."""
    environments = {name: {"branch": "main", "order": at} for at, name in enumerate(ENVIRONMENTS, 1)}
    defaults = {"repo": "repos/app", "gitops": {"repo": address}, "delivery": {"provider": "argocd"}}
    world.write_root(environments=environments, defaults=defaults)


async def serve_argo(services: int) -> None:
    """Argo CD in a process of its own: it takes what is asked, and is slow to begin."""
    fake = FakeArgoCD(pace=3600.0)
    for name in names(services):
        for environment in ENVIRONMENTS:
            fake.add(f"{name}-{environment}")
    async with running_argocd(fake):
        print(fake.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in fake._tasks:
            task.cancel()


def built(commit: str, services: int) -> Any:
    """Every service's release 2.0."""

    def work(tx: Tx) -> None:
        for name in names(services):
            digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
            releases.put(tx, Release(name, commit, VERSION, "main", digest, "", "", datetime.now(UTC)))

    return work


async def type_all(urls: list[str], services: int, pace: float) -> None:
    """Everybody presses Enter at once; or so many a second do, however long the answers take."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(limit=128)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def one(number: int, text: str) -> None:
            body = {"person": "owner", "place": "#releases", "text": text}
            key = {"Idempotency-Key": f"bench-{number}"}
            if pace:
                await asyncio.sleep(began + number / pace - loop.time())
            async with session.post(
                f"{urls[number % len(urls)]}/console/api/messages", json=body, headers=key
            ) as answer:
                assert answer.status == 202, await answer.text()

        texts = [f"/deploy {name} {place} {VERSION}" for name in names(services) for place in ENVIRONMENTS]
        timeout = asyncio.timeout(PATIENCE)
        async with timeout:
            await asyncio.gather(*(one(number, text) for number, text in enumerate(texts)))


def times(tx: Tx) -> tuple[list[Any], dict[int, dict[str, datetime]], dict[int, int]]:
    """Of the commands: received and done. Of each deployment: state -> when it was entered, and which command it is."""
    asked = tx.execute(select(inbox.c.received_at, inbox.c.done_at)).all()
    moved: dict[int, dict[str, datetime]] = {}
    commands: dict[int, int] = {}
    c = deployments.c
    for number, at, service, environment in tx.execute(select(c.id, c.created_at, c.service, c.environment)):
        moved[number] = {"queued": at}
        commands[number] = int(service[-4:]) * len(ENVIRONMENTS) + ENVIRONMENTS.index(environment)
    for row in tx.execute(select(transitions.c.deployment_id, transitions.c.to_state, transitions.c.at)):
        moved.setdefault(row.deployment_id, {})[row.to_state] = row.at
    return list(asked), moved, commands


def pushed(tx: Tx) -> int:
    """How many are past Git; little to ask, because it is asked while all of it runs."""
    query = select(func.count()).select_from(transitions).where(transitions.c.to_state == "syncing")
    return tx.execute(query).scalar_one()


def spread(values: list[float]) -> str:
    """Median and 99th percentile."""
    values.sort()
    return f"p50 {values[len(values) // 2]:.2f} s, p99 {values[int(len(values) * 0.99)]:.2f} s"


async def measure(directory: Path, services: int, pace: float = 0.0) -> None:
    """Print the figures. pace: commands a second; 0: all at one instant."""
    world = prepared(directory / "world", services)
    commit = git(world.source, "rev-parse", "main").strip()
    me = [sys.executable, "-m", "tests.benchmarks.commanded", "argo", str(services)]
    with database() as server, subprocess.Popen(me, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as argo:
        assert argo.stdout is not None
        async with running_git_server(world.config.parent) as remote:
            configured(world, f"{remote.url}/config.git")
            db = Database(server.server.url("chaos"))
            started = replicas(directory, world, server, argo.stdout.readline().strip())
            try:
                watched = Processes(started, server, argo.pid)
                await burst(db, started, remote, world, services, commit, watched, pace)
            finally:
                for replica in started:
                    if replica.process is not None:
                        replica.process.kill()
                        replica.process.wait()
                db.close()
                argo.kill()


@dataclass(frozen=True)
class Processes:
    """Whose processor time is counted, in seconds so far; two cores are shared by all of them."""

    started: list[Replica]
    server: Server
    argo: int

    def used(self) -> dict[str, float]:
        """By part. Git is the programs on both sides; this process is who types, and Git's web server."""
        replicas = [one.process.pid for one in self.started if one.process is not None]
        ours, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        postmaster = int((self.server.data / "postmaster.pid").read_text().split()[0])
        return {
            "both replicas": sum(_own(pid) for pid in replicas),
            "PostgreSQL": _with_children(postmaster),
            "Git": sum(_with_children(pid) - _own(pid) for pid in replicas) + ended.ru_utime + ended.ru_stime,
            "Argo CD": _own(self.argo),
            "who types, and the web server before Git": ours.ru_utime + ours.ru_stime,
        }


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["?", *["0"] * 20]  # It has ended; whoever waited for it has its time.


def _own(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def _with_children(pid: int) -> float:
    fields, living = _stat(pid), [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]
    children = [one for one in living if _stat(one)[1] == str(pid)]
    return sum(map(int, fields[11:15])) / TICKS + sum(_with_children(one) for one in children)


def replicas(directory: Path, world: World, server: Server, argo: str) -> list[Replica]:
    """Two processes as they are started in production."""
    tokens = directory / "tokens"
    tokens.write_text(f"owner: {TOKEN}\n")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "SLIPWAY_CONFIG": str(world.directory),
        "SLIPWAY_DATABASE_URL": server.server.url("chaos"),
        "SLIPWAY_LOG_LEVEL": "error",
        "SLIPWAY_CONSOLE": "1",
        "SLIPWAY_CONSOLE_TOKENS_FILE": str(tokens),
        "SLIPWAY_ARGOCD_URL": argo,
        "SLIPWAY_ARGOCD_TOKEN": ARGO_TOKEN,
    }
    return [Replica(number, directory, environment) for number in range(2)]


async def burst(
    db: Database,
    started: list[Replica],
    remote: GitServer,
    world: World,
    services: int,
    commit: str,
    processes: Processes,
    pace: float,
) -> None:
    """The measurement itself, and what it says."""
    async with aiohttp.ClientSession() as session:
        for replica in started:
            replica.start()
            await ready(session, replica)
    await db.run(built(commit, services))
    total, pushed_before = services * len(ENVIRONMENTS), remote.pushes
    cpu = processes.used()
    instant, began = datetime.now(UTC), time.monotonic()
    await type_all([one.url for one in started], services, pace)
    acknowledged = time.monotonic() - began
    while await db.read(pushed) < total and time.monotonic() - began < PATIENCE:
        await asyncio.sleep(0.5)
    used = {part: seconds - cpu[part] for part, seconds in processes.used().items()}
    asked, moved, commands = await db.read(times)
    written = [
        (states["syncing"] - instant).total_seconds() - (commands[number] / pace if pace else 0.0)
        for number, states in moved.items()
        if "syncing" in states
    ]
    log = BareRepository.__new__(BareRepository)
    log.directory = world.config
    intents = log.git("log", "--format=%(trailers:key=Slipway-Intent,valueonly)", "main").split()
    right = len(set(intents)) == len(intents) and len(written) <= len(intents) <= total
    how = f"offered evenly, {pace:.0f} a second" if pace else "at one instant"
    rate = "" if pace else f", {len(written) / max(written):.0f} changes/s"
    print(f"{total} commands {how}, 2 replicas: all acknowledged after {acknowledged:.1f} s", end="; ")
    print(f"{len(written)} pushed{rate}", end="; ")
    print(f"from Enter to the pushed commit {spread(written)}", end="; ")
    print(f"{remote.pushes - pushed_before} pushes; {'every change is one commit' if right else 'WRONG'}")
    at_once = {"from Enter to stored": [(row.received_at - instant).total_seconds() for row in asked]}
    parts: dict[str, list[float]] = ({} if pace else at_once) | {
        "from stored to answered": [(row.done_at - row.received_at).total_seconds() for row in asked if row.done_at],
        "from asked for to the writing step": _between(moved, "queued", "writing"),
        "from the writing step to pushed": _between(moved, "writing", "syncing"),
    }
    for name, values in parts.items():
        print(f"  {name}: {spread(values)}")
    each = ", ".join(f"{1000 * seconds / total:.1f} ms {part}" for part, seconds in used.items())
    print(f"  processor time per change: {1000 * sum(used.values()) / total:.1f} ms: {each}", flush=True)


def _between(moved: dict[int, dict[str, datetime]], start: str, end: str) -> list[float]:
    return [(one[end] - one[start]).total_seconds() for one in moved.values() if start in one and end in one]


def main() -> None:
    """See the module. Ended from outside it still ends its replicas, which have sessions of their own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    services = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 500
    for some, pace in ((services, 0.0), (min(services, EVEN_SERVICES), EVEN_PACE)):
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(measure(Path(directory), some, pace))


if __name__ == "__main__":
    if sys.argv[1:2] == ["argo"]:
        asyncio.run(serve_argo(int(sys.argv[2])))
    else:
        main()
