"""Slack and Feishu at once, the long connection included: time to ready, memory; Feishu's acknowledgement over HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bot.web.server import listen
from tests.benchmarks.process import resident
from tests.fakes import slack as fake_slack
from tests.fakes.feishu import APP_ID, APP_SECRET, FakeFeishu, sealed
from tests.fakes.slack import FakeSlack
from tests.support import free_port
from tests.support.feishu import GROUP, running_on_feishu
from tests.support.feishu import company as feishu_company
from tests.support.slack import company as slack_company
from tests.support.world import make_world

COMMANDS = 300


async def main() -> None:
    """Print the figures: median of five starts."""
    with tempfile.TemporaryDirectory() as base:
        async with FakeFeishu() as feishu, FakeSlack() as slack:
            feishu_company(feishu)
            slack_company(slack)
            world = make_world(Path(base) / "world", channels={"slack": "C1", "feishu": "oc_releases"})
            environment = {
                "SLACK_BOT_TOKEN": fake_slack.BOT_TOKEN,
                "SLACK_SIGNING_SECRET": fake_slack.SECRET,
                "SLACK_API_BASE_URL": slack.base_url,
                "FEISHU_APP_ID": APP_ID,
                "FEISHU_APP_SECRET": APP_SECRET,
                "FEISHU_LONG_CONNECTION": "1",
                "FEISHU_DOMAIN": feishu.url,
            }
            found = [await _start(world.directory, environment, feishu) for _ in range(5)]
    ready, open_after, megabytes = (sorted(values)[2] for values in zip(*found, strict=True))
    print(f"ready {ready:.2f} s, long connection open {open_after:.2f} s, {megabytes:.0f} MB resident")
    await _acknowledgements()


async def _start(directory: Path, environment: dict[str, str], feishu: FakeFeishu) -> tuple[float, float, float]:
    argv = ["-m", "bot.cli", "serve", "--config", str(directory), "--port", str(free_port())]
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *argv, stdout=asyncio.subprocess.PIPE, env=os.environ | environment
    )
    assert process.stdout is not None
    while not (line := await process.stdout.readline()).startswith(b"ready"):
        if not line:
            raise SystemExit("it ended before it was ready")
    ready = time.monotonic() - began
    while not feishu.sockets:
        await asyncio.sleep(0.01)
    opened = time.monotonic() - began
    await feishu.send_frame(feishu.message("ou_owner", "/status", ""))
    await asyncio.sleep(2)
    megabytes = resident(process.pid)
    process.send_signal(signal.SIGINT)
    await process.wait()
    return ready, opened, megabytes


async def _acknowledgements() -> None:
    """A command by webhook until its 200, back to back, beside a handler that does nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as base:
        async with FakeFeishu() as feishu:
            feishu_company(feishu)
            world = make_world(Path(base) / "world", channels={"feishu": GROUP})
            async with running_on_feishu(world, feishu):
                print("acknowledged", await _timed(f"{feishu.app_url}/feishu/events", feishu))
            bound = listen("127.0.0.1", 0)
            app = Starlette(routes=[Route("/", _nothing, methods=["POST"])])
            server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
            serving = asyncio.create_task(server.serve(sockets=[bound]))
            print("bare handler", await _timed(f"http://127.0.0.1:{bound.getsockname()[1]}/", feishu))
            server.should_exit = True
            await serving


async def _nothing(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse({})


async def _timed(url: str, feishu: FakeFeishu) -> str:
    found = []
    async with httpx.AsyncClient() as http:
        for _ in range(COMMANDS):
            body, headers = sealed(feishu.message("ou_developer", "/whoami"), at=time.time())
            began = time.perf_counter()
            (await http.post(url, content=body, headers=headers)).raise_for_status()
            found.append((time.perf_counter() - began) * 1e3)
    return f"p50 {statistics.median(found):.1f} ms, p99 {statistics.quantiles(found, n=100)[98]:.1f} ms ({COMMANDS})"


if __name__ == "__main__":
    asyncio.run(main())
