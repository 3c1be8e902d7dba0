"""500 services x 5 environments changed at one instant by two replicas, through a real Git server over HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bot.catalog.model import GitopsSpec
from bot.delivery.base import Change
from bot.delivery.gitops import GitWriter
from bot.git import Git
from tests.fakes.git_http import running_git_server
from tests.fakes.repositories import BareRepository, Repository, git

SERVICES, ENVIRONMENTS, REPLICAS = 500, ("dev", "test", "staging", "gray", "prod"), 2
ALONE = 20


def change(number: int) -> Change:
    """One of the 2,500, by its number."""
    service, environment = f"svc-{number // len(ENVIRONMENTS):04}", ENVIRONMENTS[number % len(ENVIRONMENTS)]
    return Change(
        intent=f"bench-{number}",
        service=service,
        environment=environment,
        gitops=GitopsSpec(path="{environment}/{service}.yaml"),
        repo="",
        version="1.1",
        digest=f"sha256:{number:064x}",
        commit=f"{number:040x}",
        subject=f"Deploy {service} 1.1 to {environment}",
        trailers=(("Slipway-Deployment", f"d-{number}"),),
        expected_digest=f"sha256:{0:064x}",
    )


def with_repo(one: Change, address: str) -> Change:
    """The change, for that repository."""
    from dataclasses import replace

    return replace(one, repo=address)


async def replica(cache: Path, number: int) -> None:
    """Half of the changes, all asked for at once when it is told the address; prints the seconds each one took."""
    writer = GitWriter(cache, Git())
    address = sys.stdin.readline().strip()

    async def one(which: int) -> float:
        began = time.monotonic()
        await writer.write(with_repo(change(which), address))
        return time.monotonic() - began

    total = SERVICES * len(ENVIRONMENTS)
    took = await asyncio.gather(*(one(which) for which in range(number, total, REPLICAS)))
    print(json.dumps(took), flush=True)


def prepared(root: Path) -> BareRepository:
    """A repository in which every service has version 1.0 everywhere."""
    bare = BareRepository(root / "config.git")
    work = Repository(root / "work")
    old = f'version: "1.0"\ndigest: "sha256:{0:064x}"\ncommit: "{0:040x}"\n'
    names = [f"{environment}/svc-{n:04}.yaml" for n in range(SERVICES) for environment in ENVIRONMENTS]
    work.commit(dict.fromkeys(names, old), "first")
    work.git("push", "--quiet", bare.address, "HEAD:refs/heads/main")
    return bare


async def together(root: Path) -> None:
    """All at one instant, by two processes."""
    bare = prepared(root)
    total = SERVICES * len(ENVIRONMENTS)
    async with running_git_server(root, user="bot", password="bench-password") as server:
        address = server.url.replace("http://", "http://bot:bench-password@") + "/config.git"
        argv = [sys.executable, "-m", "tests.benchmarks.gitops"]
        replicas = [
            await asyncio.create_subprocess_exec(
                *argv, str(root / f"cache-{n}"), str(n), stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 24
            )
            for n in range(REPLICAS)
        ]
        await asyncio.sleep(2)  # Both have started; the instant begins with the line they wait for.
        began = time.monotonic()
        outs = await asyncio.gather(*(process.communicate(f"{address}\n".encode()) for process in replicas))
        seconds = time.monotonic() - began
    took = sorted(value for out, _ in outs for value in json.loads(out))
    commits = bare.commits()
    intents = bare.git("log", "--format=%(trailers:key=Slipway-Intent,valueonly)", "main").split()
    right = len(commits) == total + 1 and len(set(intents)) == len(intents) == total
    print(f"{total} changes, {REPLICAS} replicas: {seconds:.1f} s, {total / seconds:.0f} changes/s", end="; ")
    print(
        f"p50 {took[len(took) // 2]:.2f} s, p99 {took[int(len(took) * 0.99)]:.2f} s; {server.pushes} pushes", end="; "
    )
    print(f"{'every change is one commit' if right else 'WRONG: commits are missing or double'}", flush=True)


async def alone(root: Path) -> None:
    """One commit, one push, one after the other: what it costs without folding."""
    bare = prepared(root)
    async with running_git_server(root) as server:
        writer = GitWriter(root / "cache", Git())
        began = time.monotonic()
        for number in range(ALONE):
            await writer.write(with_repo(change(number), f"{server.url}/config.git"))
        seconds = time.monotonic() - began
    assert len(git(bare.directory, "rev-list", "main").split()) == ALONE + 1
    print(f"one commit, one push: {ALONE / seconds:.1f} changes/s ({ALONE} measured)", flush=True)


def main() -> None:
    """Both ways, side by side."""
    for way in (together, alone):
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(way(Path(directory)))


if __name__ == "__main__":
    asyncio.run(replica(Path(sys.argv[1]), int(sys.argv[2])))
