"""What it costs to follow many Jenkins runs at once, how soon a webhook is heard meanwhile, and to read a long log.

The whole bot is measured: engine, database, messages. The fake Jenkins is in a process of its own.

python -m tests.benchmarks.follow_runs [--runs 500] [--seconds 30] [--age 600] [--hooks 20] [--log-mb 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bot import logs
from bot.app import App, Outside
from bot.catalog.model import Kind
from bot.deployments.model import Origin, State
from bot.deployments.service import Wish
from bot.pipelines.spool import Spool
from bot.store import deployments as rows
from tests.fakes.builds import commit_of
from tests.fakes.jenkins import FakeJenkins, notification
from tests.fakes.serving import serving
from tests.support.running import settings_for
from tests.support.world import World, make_world

JOB = "team/app"


def serve(address: Connection, age: float) -> None:
    """The fake, in a process of its own: only the bot is measured. GET /end/N ends build N, /looks counts.

    age: seconds since when the builds run.
    """

    async def main() -> None:
        fake = FakeJenkins(JOB)
        fake.queue_looks, fake.age = 0, age

        async def end(request: Request) -> Response:
            _, build = fake.jobs[JOB].builds[int(request.path_params["number"])]
            build.kind, build.looks = "good", 10
            return Response()

        async def looks(_request: Request) -> Response:
            return Response(str(fake.app.count(r"GET /job/team/job/app/\d+/wfapi")))

        fake.app.app.routes.insert(0, Route("/looks", looks))  # type: ignore[attr-defined]
        fake.app.app.routes.insert(0, Route("/end/{number}", end))  # type: ignore[attr-defined]
        async with serving(fake.app) as url:
            address.send(url)
            await asyncio.Event().wait()

    asyncio.run(main())


def company(directory: Path, count: int) -> World:
    """So many services, all built by one job of Jenkins."""
    world = make_world(directory)
    path = world.directory / "slipway.yaml"
    root = json.loads(path.read_text())
    root["defaults"]["pipeline"] = {"provider": "jenkins", "name": JOB, "timeout": "2h"}
    path.write_text(json.dumps(root))
    services = "".join(f"app{number}: {{team: shop, owners: [owner]}}\n" for number in range(count))
    (world.directory / "services" / "all.yaml").write_text(services)
    return world


async def start(app: App, number: int) -> None:
    """Have one service deployed; its build runs until it is ended."""
    catalog = app.catalog()
    service = catalog.services[f"app{number}"]
    wish = Wish(
        person=catalog.people["owner"],
        service=service,
        target=service.targets["prod"],
        kind=Kind.NORMAL,
        commit=commit_of("slow"),
        version=f"1.{number}",
        branch="main",
        reason="",
        origin=Origin("", ""),
        key=f"k{number}",
    )
    await app.deployments.start(wish)


async def built(app: App, count: int) -> None:
    """Wait until all run and are known to."""
    while True:
        moving = await app.db.read(lambda tx: rows.open_for(tx))
        if sum(bool(one.data.stages) for one in moving) >= min(count, 500):
            return
        await asyncio.sleep(0.5)


async def looked(url: str) -> int:
    """How often runs were looked at so far."""
    async with httpx.AsyncClient() as jenkins:
        return int((await jenkins.get(f"{url}/looks")).text)


async def heard(app: App, client: httpx.AsyncClient, url: str, number: int) -> float:
    """End a build and tell so by webhook; seconds until the deployment has gone on."""
    seen = await app.db.read(lambda tx: rows.get(tx, number))
    assert seen is not None
    run = int(seen.data.run_id)
    async with httpx.AsyncClient() as jenkins:
        await jenkins.get(f"{url}/end/{run}")
    began = time.monotonic()
    body = notification(JOB, run, f"{seen.intent}-r1")
    await client.post("/hooks/jenkins?token=hook", content=body)
    while True:
        now = await app.db.read(lambda tx: rows.get(tx, number))
        if now is not None and now.state is not State.BUILDING:
            return time.monotonic() - began
        await asyncio.sleep(0.005)


async def runs(url: str, count: int, seconds: float, hooks: int) -> None:
    """Follow them, first undisturbed and then with webhooks."""
    with tempfile.TemporaryDirectory() as directory:
        world = company(Path(directory), count)
        secrets = {"jenkins_token": SecretStr("t0ken"), "jenkins_hook_secret": SecretStr("hook")}
        settings = settings_for(world).model_copy(update={"jenkins_url": url, "jenkins_user": "bot", **secrets})
        app = App(settings, Outside(clock=lambda: datetime.now(UTC)))
        await app.start()
        try:
            for number in range(count):
                await start(app, number)
            await built(app, count)
            await asyncio.sleep(40)  # All have found their pace.
            before, cpu, began = await looked(url), time.process_time(), time.monotonic()
            await asyncio.sleep(seconds)
            used, took_s = time.process_time() - cpu, time.monotonic() - began
            looks = await looked(url) - before
            print(
                f"{count} runs followed for {took_s:.0f} s by polling alone: {looks} looks, "
                f"{used / max(1, looks) * 1000:.1f} ms each, {used / took_s:.1%} of a core"
            )
            transport = httpx.ASGITransport(app.asgi)
            async with httpx.AsyncClient(transport=transport, base_url="http://slipway") as client:
                took = [await heard(app, client, url, 1 + number) for number in range(hooks)]
            print(
                f"known by webhook meanwhile: {statistics.median(took):.3f} s p50, {max(took):.3f} s at most ({hooks})"
            )
        finally:
            await app.stop()


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
    parser.add_argument("--age", type=float, default=600)
    parser.add_argument("--hooks", type=int, default=20)
    parser.add_argument("--log-mb", type=int, default=1000)
    given = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, given.age), daemon=True)
    server.start()
    asyncio.run(runs(ours.recv(), given.runs, given.seconds, given.hooks))
    server.terminate()
    if given.log_mb:
        asyncio.run(log(given.log_mb))


if __name__ == "__main__":
    main()
