"""Slack and Feishu at once, the long connection included: time to ready, and memory after a command."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.process import resident
from tests.benchmarks.slack import COMPILED
from tests.fakes import slack as fake_slack
from tests.fakes.feishu import APP_ID, APP_SECRET, FakeFeishu
from tests.fakes.slack import FakeSlack
from tests.support import free_port
from tests.support.feishu import GROUP
from tests.support.feishu import company as feishu_company
from tests.support.slack import company as slack_company
from tests.support.world import make_world

STARTS = 5


def main() -> None:
    """Print the medians."""
    asyncio.run(_measure())


async def _measure() -> None:
    with tempfile.TemporaryDirectory() as base:
        async with FakeFeishu() as feishu, FakeSlack() as slack:
            feishu_company(feishu)
            slack_company(slack)
            world = make_world(Path(base) / "world", channels={"slack": "C1", "feishu": GROUP})
            environment = {
                "SLACK_BOT_TOKEN": fake_slack.BOT_TOKEN,
                "SLACK_SIGNING_SECRET": fake_slack.SECRET,
                "SLACK_API_BASE_URL": slack.base_url,
                "FEISHU_APP_ID": APP_ID,
                "FEISHU_APP_SECRET": APP_SECRET,
                "FEISHU_LONG_CONNECTION": "1",
                "FEISHU_DOMAIN": feishu.url,
            }
            found = [await _start(world.directory, environment, feishu) for _ in range(STARTS)]
    ready, opened, answered, megabytes = (sorted(values)[STARTS // 2] for values in zip(*found, strict=True))
    print(f"ready {ready:.2f} s, long connection open after {opened:.2f} s", end=", ")
    print(f"first command answered after {answered:.2f} s, {megabytes:.0f} MB resident")


async def _start(directory: Path, environment: dict[str, str], feishu: FakeFeishu) -> tuple[float, ...]:
    argv = ["-m", "bot.cli", "serve", "--config", str(directory), "--port", str(free_port())]
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *argv, stdout=asyncio.subprocess.PIPE, env=COMPILED | environment
    )
    assert process.stdout is not None
    while not (line := await process.stdout.readline()).startswith(b"ready"):
        if not line:
            raise SystemExit("it ended before it was ready")
    ready = time.monotonic() - began
    while not feishu.sockets:
        await asyncio.sleep(0.01)
    opened = time.monotonic() - began
    before = len(feishu.messages)
    await feishu.send_frame(feishu.message("ou_owner", "/status", ""))
    while len(feishu.messages) == before:
        await asyncio.sleep(0.002)
    answered = time.monotonic() - began
    await asyncio.sleep(2)
    megabytes = resident(process.pid)
    process.send_signal(signal.SIGINT)
    await process.wait()
    return ready, opened, answered, megabytes


if __name__ == "__main__":
    main()
