"""Slack: ours against a bare slack-bolt app that only echoes, in one run: answers, CPU, bursts, start, memory.

Ours stores the intent before it acknowledges, decides by the policy and writes the audit entry; the peer none of it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import aiohttp

from tests.benchmarks.catalog_policy import write_catalog
from tests.benchmarks.process import cpu_seconds, resident
from tests.fakes.slack import BOT_TOKEN, SECRET, FakeSlack
from tests.support.network import free_port

PEER = """
import asyncio, os, sys
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient
client = AsyncWebClient(token=os.environ["SLACK_BOT_TOKEN"], base_url=os.environ["SLACK_API_BASE_URL"])
app = AsyncApp(client=client, signing_secret=os.environ["SLACK_SIGNING_SECRET"])
async def echo(ack, say, command):
    await ack()
    await say(command["text"] + " ")
for name in ("/why", "/status"):
    app.command(name)(echo)
app.start(port=int(os.environ["PORT"]))
"""
USER = "U000000"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Figures:
    """Of one program, in seconds unless said."""

    ack: list[float]
    reply: list[float]
    burst_ack: list[float]
    burst_lost: int
    cpu_per_command: float
    calls_per_command: float
    ready: float
    megabytes: float


def main() -> None:
    """Measure both and print them side by side."""
    asyncio.run(compare())


async def compare() -> None:
    """Ours and the peer against one fake Slack each."""
    with tempfile.TemporaryDirectory() as name:
        catalog = Path(name) / "catalog"
        write_catalog(catalog, int(os.environ.get("SERVICES", "500")), files=5)
        ours_command = [sys.executable, "-m", "bot.cli", "serve", "--config", str(catalog), "--data", name + "/data"]
        ours = await measure(ours_command, service_of(catalog))
        peer = await measure([sys.executable, "-c", PEER], "svc")
    show("acknowledged, p99 at 50/s", p99(ours.ack) * 1e3, p99(peer.ack) * 1e3, "ms")
    show("first reply, p99 at 50/s", p99(ours.reply) * 1e3, p99(peer.reply) * 1e3, "ms")
    show("first reply, median", statistics.median(ours.reply) * 1e3, statistics.median(peer.reply) * 1e3, "ms")
    show("commands per CPU second", 1 / ours.cpu_per_command, 1 / peer.cpu_per_command, "")
    show("burst of 500, ack p99", p99(ours.burst_ack) * 1e3, p99(peer.burst_ack) * 1e3, "ms")
    show("burst of 500, lost", ours.burst_lost, peer.burst_lost, "")
    show("API calls per command", ours.calls_per_command, peer.calls_per_command, "")
    show("first command answered after", ours.ready, peer.ready, "s")
    show("resident", ours.megabytes, peer.megabytes, "MB")


def service_of(catalog: Path) -> str:
    """A service of the written catalog."""
    from bot.catalog.load import load_catalog

    return next(iter(load_catalog(catalog).services))


def show(what: str, ours: float, peer: float, unit: str) -> None:
    """One line: ours, the peer's, and how they compare."""
    ratio = f"{ours / peer:.2f} x" if peer else ""
    print(f"{what:32} {ours:9.2f} {peer:9.2f} {unit:3} {ratio}", flush=True)


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[int(len(values) * 0.99)]


async def measure(command: list[str], service: str) -> Figures:
    """Start a program in front of a Slack of its own and put it through everything."""
    async with FakeSlack() as slack, started(command, slack) as process:
        slack.user(USER, email="p0@example.com")
        slack.channel("C1", "releases")
        load = Load(slack, process.port, service)
        async with aiohttp.ClientSession() as session:
            load.session = session
            await load.first()
            ready = time.monotonic() - process.began
            memory = resident(process.pid)
            await load.steady(50, 100)  # warm
            acks, replies = await load.steady(50, 500)
            before, calls = cpu_seconds(process.pid), len(slack.calls)
            await load.busy(3000, 32)
            cpu = cpu_seconds(process.pid) - before
            calls = len(slack.calls) - calls
            burst, lost = await load.burst(500)
    return Figures(acks, replies, burst, lost, cpu / 3000, calls / 3000, ready, memory)


@dataclass
class Process:
    """A program under measurement."""

    pid: int
    port: int
    began: float


@asynccontextmanager
async def started(command: list[str], slack: FakeSlack) -> AsyncIterator[Process]:
    """Run a program with the Slack's settings."""
    port = free_port()
    environment = os.environ | {
        "SLACK_BOT_TOKEN": BOT_TOKEN,
        "SLACK_SIGNING_SECRET": SECRET,
        "SLACK_API_BASE_URL": slack.base_url,
        "PORT": str(port),
        "SLIPWAY_LOG_LEVEL": "warning",
    }
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=None
    )
    slack.app_url = f"http://127.0.0.1:{port}"
    try:
        yield Process(process.pid, port, began)
    finally:
        process.terminate()
        await process.wait()


class Load:
    """Commands, and when each was acknowledged and answered."""

    def __init__(self, slack: FakeSlack, port: int, service: str) -> None:
        self.slack = slack
        self.url = f"http://127.0.0.1:{port}/slack/events"
        self.service = service
        self.session: aiohttp.ClientSession = None  # type: ignore[assignment]
        self.number = 0

    def signed(self, text: str) -> tuple[bytes, dict[str, str]]:
        """A slash command as Slack sends it."""
        import hashlib
        import hmac

        body = urlencode(self.slack.command_body(USER, text)).encode()
        stamp = str(int(time.time()))
        digest = hmac.new(SECRET.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest}", "Content-Type": FORM}
        return body, headers

    async def first(self) -> None:
        """Wait until a command is answered."""
        while True:
            try:
                await self.one()
            except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError):
                await asyncio.sleep(0.01)
            else:
                break
        while not self.slack.messages["C1"]:
            await asyncio.sleep(0.002)

    async def one(self) -> tuple[float, float]:
        """Send one command; returns when it was sent and how long the acknowledgement took."""
        body, headers = self.signed(f"/why {self.service} prod")
        began = time.monotonic()
        async with self.session.post(self.url, data=body, headers=headers) as answer:
            await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"answered {answer.status}")
        return began, time.monotonic() - began

    async def steady(self, rate: int, count: int) -> tuple[list[float], list[float]]:
        """Commands at an even rate: how long each acknowledgement and each first reply took."""
        posts = self._posts()
        tasks = []
        start = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(self.one()))
        sent = await asyncio.gather(*tasks)
        await self._answered(posts + count)
        # In order: at this rate each is answered long before the next comes.
        replied = [call.at for call in self.slack.calls if call.method == "chat.postMessage"][posts:]
        return [took for _, took in sent], [at - began for (began, _), at in zip(sent, replied, strict=False)]

    async def busy(self, count: int, together: int) -> None:
        """As many commands as it takes, so many at once."""
        posts = self._posts()
        left = iter(range(count))

        async def worker() -> None:
            for _ in left:
                await self.one()

        await asyncio.gather(*(worker() for _ in range(together)))
        await self._answered(posts + count)

    async def burst(self, count: int) -> tuple[list[float], int]:
        """Everything at one instant: acknowledgements, and how many were never answered."""
        posts = self._posts()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            kept, self.session = self.session, session
            sent = await asyncio.gather(*(self.one() for _ in range(count)))
            self.session = kept
        await self._answered(posts + count, patience=30)
        return [took for _, took in sent], posts + count - self._posts()

    def _posts(self) -> int:
        return sum(1 for call in self.slack.calls if call.method == "chat.postMessage")

    async def _answered(self, count: int, patience: float = 60) -> None:
        until = time.monotonic() + patience
        while self._posts() < count and time.monotonic() < until:
            await asyncio.sleep(0.01)
