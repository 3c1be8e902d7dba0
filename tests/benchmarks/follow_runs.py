"""What it costs to follow many Jenkins runs at once by polling alone, and to read a very long log.

python -m tests.benchmarks.follow_runs [--runs 500] [--seconds 30] [--log-mb 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path

from bot import logs
from bot.pipelines.base import PipelineRun, RunRequest
from bot.pipelines.remote import RemotePipeline
from bot.pipelines.spool import Spool
from tests.contract.remote_worlds import DEFINITION, make_remote, memory, remote_request
from tests.fakes.jenkins import FakeJenkins
from tests.fakes.serving import serving


def serve(address: Connection) -> None:
    """The fake, in a process of its own, so that only the bot's side is measured."""

    async def main() -> None:
        fake = FakeJenkins(DEFINITION)
        fake.queue_looks, fake.age = 0, 600.0
        async with serving(fake.app) as url:
            address.send(url)
            await asyncio.Event().wait()

    asyncio.run(main())


async def follow(pipeline: RemotePipeline, request: RunRequest, run: PipelineRun, until: float) -> int:
    """Look as often as the run asks for; returns how often."""
    looks = 0
    pause = random.uniform(0, 15)
    while time.monotonic() + pause < until:
        await asyncio.sleep(pause)
        run = await pipeline.look(request)
        looks += 1
        pause = run.look_again.total_seconds() if run.look_again else 2
    return looks


async def runs(url: str, count: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as directory, memory(Path(directory)) as notes:
        pipeline, client = make_remote("jenkins", url, notes)
        async with client:
            requests = [remote_request("jenkins", "slow", f"d-{number}") for number in range(count)]
            started = [await pipeline.trigger(request) for request in requests]
            for request in requests:
                await pipeline.look(request)
            cpu, began = time.process_time(), time.monotonic()
            pairs = zip(requests, started, strict=True)
            looks = await asyncio.gather(*(follow(pipeline, one, run, began + seconds) for one, run in pairs))
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
            share = (time.process_time() - cpu) / (time.monotonic() - began)
    print(f"{count} runs followed for {seconds:.0f} s: {sum(looks)} looks, {share:.1%} of a core")


async def log(megabytes: int) -> None:
    """Spool and read a log of that size; the peak of memory before and after."""
    line = b"2026-11-21 INFO compiling one of very many files, nothing to see here\n"
    chunk = line * (1_000_000 // len(line))

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(megabytes):
            yield chunk
        yield b"AssertionError: 2 != 3\n"

    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with Spool() as spool:
        await spool.take(chunks())
        found = await asyncio.to_thread(lambda: logs.error_lines(spool.lines()))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    took = time.monotonic() - began
    print(f"log of {megabytes} MB: {took:.0f} s, memory grew by {grown:.0f} MB, found {found[-1]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--log-mb", type=int, default=1000)
    given = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    asyncio.run(runs(ours.recv(), given.runs, given.seconds))
    server.terminate()
    if given.log_mb:
        asyncio.run(log(given.log_mb))


if __name__ == "__main__":
    main()
