"""Slack: ours beside a bare slack-bolt app that only echoes, in one run: answers, CPU, bursts, limits, start, memory.

Ours stores the intent before it acknowledges, decides by the policy and writes the audit entry; the peer none of it.
Both are measured by turns, so that a busy machine is as busy for the one as for the other. The last column says what
each is asked to be. `make bench ARGS=slack`; the environment chooses: PARTS=yardsticks,beside,tls,limits,scale,
ROUNDS=5, SERVICES=500, PAST=1000000, and DATA, the directory ours keeps its data in: one in memory (/dev/shm) shows
what is left when no disk is waited for.

What is asked in milliseconds and seconds was asked of one machine; `yardsticks` tells how this one compares with it.
A 99th percentile is that of a round, and of the rounds the one in the middle: an answer waits for the disk, and one
commit that a shared disk takes a tenth of a second for is a hundredth of a round. The worst round stands beneath.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import sqlite3
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import aiohttp

from tests.benchmarks.catalog_policy import write_catalog
from tests.benchmarks.past import write_past
from tests.benchmarks.process import cpu_seconds, resident, undisturbed
from tests.fakes.slack import BOT_TOKEN, SECRET, FakeSlack
from tests.support.network import free_port

PEER = """
import asyncio, logging, os, sys
logging.disable(logging.CRITICAL)
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
WHERE = os.environ.get("DATA")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
RATE, STEADY, BUSY, BURST = 50, 250, 1500, 500
SLOW = 0.15
"""Seconds that a slow Slack takes for each call."""
SETTLED = 0.5
"""Seconds after which who sends is through with what it did before: to close five hundred connections, for one."""
FEW = 5_000
"""Past deployments where there are not many."""
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""An environment in which our own modules are compiled once, as an installed program's are."""
LATEST = 45.0
"""Seconds after which a program that does not answer is given up."""


@dataclass
class Figures:
    """Of one program, a figure for each round or start; in seconds unless said."""

    ready: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    ack: list[float] = field(default_factory=list)
    """The 99th percentile of a round, as in `reply` and `burst`."""
    slow: list[float] = field(default_factory=list)
    """The same while Slack is slow."""
    reply: list[float] = field(default_factory=list)
    usual: list[float] = field(default_factory=list)
    """The median reply of a round."""
    per_second: list[float] = field(default_factory=list)
    """Commands per CPU second."""
    burst: list[float] = field(default_factory=list)
    lost: int = 0
    calls: list[float] = field(default_factory=list)
    """API calls per command."""

    def started_as(self, other: Figures) -> None:
        """Add how another start went."""
        self.ready += other.ready
        self.megabytes += other.megabytes


def main() -> None:
    """Measure what was chosen and print it."""
    parts = {"yardsticks": yardsticks, "beside": beside, "tls": over_tls, "limits": limits, "scale": scale}
    chosen = os.environ.get("PARTS", ",".join(parts)).split(",")
    if chosen[0] != "yardsticks":
        print(f"{'':44} {'slipway':>9} {'bolt':>9}")
    for name in chosen:
        asyncio.run(parts[name]())


async def yardsticks() -> None:
    """What this machine takes for two things that every answer and every start are made of.

    The second column is what they took where the figures were set.
    """
    print(f"{'':44} {'here':>9} {'there':>9}")
    with tempfile.TemporaryDirectory(dir=WHERE) as name:
        commits = commit_times(Path(name) / "yard.db", 400)
    show("one SQLite insert and commit to disk, median", middle(commits) * 1e3, 0.13, "ms", "an answer waits for one")
    show("the same, p99", p99(commits) * 1e3, 0, "ms")
    took = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import slack_bolt.async_app"], check=True)
        took.append(time.monotonic() - began)
    show("Python with slack-bolt loaded", min(took), 0.19, "s", "a start waits for as much and more")
    print(f"{'':44} {'slipway':>9} {'bolt':>9}")


def commit_times(path: Path, count: int) -> list[float]:
    """Seconds of each of so many commits, with the disk waited for."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE t (id INTEGER, x TEXT)"):
        connection.execute(statement)
    took = []
    for number in range(count):
        began = time.monotonic()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 300))
        connection.execute("COMMIT")
        took.append(time.monotonic() - began)
        time.sleep(0.005)
    connection.close()
    return took


async def beside() -> None:
    """Everything of a working day, in the clear."""
    async with pair() as (ours, peer):
        await measure(ours, peer)
        for _ in range(ROUNDS):
            for one in (ours, peer):
                one.figures.slow.append(p99(await one.slowly()))
        mine, theirs = ours.figures, peer.figures
        show_rounds("acknowledged at 50/s, p99", mine.ack, theirs.ack, "<= 5 ms, <= 0.4 x")
        show_rounds("the same, Slack taking 150 ms a call", mine.slow, theirs.slow, "no slower")
        show_rounds("first reply at 50/s, p99", mine.reply, theirs.reply, "<= 8 ms")
        show("first reply at 50/s, median", middle(mine.usual) * 1e3, middle(theirs.usual) * 1e3, "ms")
        show("commands per CPU second", middle(mine.per_second), middle(theirs.per_second), "", ">= 0.9 x")
        show("500 at one instant, ack p99", middle(mine.burst) * 1e3, middle(theirs.burst) * 1e3, "ms", "<= 0.6 x")
        show("500 at one instant, lost", mine.lost, theirs.lost, "", "0")
        show("API calls per command", middle(mine.calls), middle(theirs.calls), "", "<= 1.1")
    for _ in range(ROUNDS - 1):
        async with pair() as (ours, peer):
            mine.started_as(ours.figures)
            theirs.started_as(peer.figures)
    show("first command answered after", min(mine.ready), min(theirs.ready), "s", "<= 0.6 s")
    show("resident then", middle(mine.megabytes), middle(theirs.megabytes), "MB", "<= 85 MB")


async def over_tls() -> None:
    """The same calls with Slack behind TLS, as it really is."""
    async with pair(tls=True) as (ours, peer):
        await measure(ours, peer)
        mine, theirs = ours.figures, peer.figures
        show_rounds("TLS: first reply at 50/s, p99", mine.reply, theirs.reply, "<= 1 x")
        show("TLS: first reply at 50/s, median", middle(mine.usual) * 1e3, middle(theirs.usual) * 1e3, "ms")
        show("TLS: commands per CPU second", middle(mine.per_second), middle(theirs.per_second), "", ">= 1.8 x")


async def limits() -> None:
    """Twenty commands at once where Slack takes one post per second and channel."""
    async with pair(speed=1.0) as (ours, peer):
        found = [await one.limited(20) for one in (ours, peer)]
    (answered, refused, took), (theirs, refused_theirs, took_theirs) = found
    show("1 post/s: 20 commands, answered", answered, theirs, "", "20")
    show("1 post/s: refusals", refused, refused_theirs, "", "<= 3")
    show("1 post/s: all answered after", took, took_theirs, "s")


async def scale() -> None:
    """What size costs: services in the catalog, and deployments in the past. Ours against ours."""
    past = int(os.environ.get("PAST", "1000000"))
    text = "/history {service}"
    async with AsyncExitStack() as stack:
        # A few everywhere, so that all answers list the same number of deployments.
        small = await stack.enter_async_context(ours_with(500, text, FEW))
        many = await stack.enter_async_context(ours_with(5000, text, FEW))
        old = await stack.enter_async_context(ours_with(500, text, past))
        for _ in range(ROUNDS):
            for one in (small, many, old):
                await one.round()
    print(f"{'':44} {'more':>9} {'few':>9}")
    for name, one, most in ((f"{5000} services", many, "1.05 x"), (f"{past:,} past deployments", old, "1.1 x")):
        cost, before = (1e3 / middle(each.figures.per_second) for each in (one, small))
        show(f"{name}: CPU per command", cost, before, "ms", f"<= {most}")
        reply, usual = middle(one.figures.usual) * 1e3, middle(small.figures.usual) * 1e3
        show(f"{name}: first reply, median", reply, usual, "ms", f"<= {most}")


def show(what: str, ours: float, peer: float, unit: str, asked: str = "") -> None:
    """One line: ours, the other's, how they compare, and what is asked."""
    ratio = f"{ours / peer:.2f} x" if peer else ""
    print(f"{what:44} {ours:9.2f} {peer:9.2f} {unit:3} {ratio:9} {asked}", flush=True)


def show_rounds(what: str, ours: list[float], peer: list[float], asked: str) -> None:
    """The round in the middle, and beneath it the worst one."""
    show(what, middle(ours) * 1e3, middle(peer) * 1e3, "ms", asked)
    show("  in the worst round", max(ours) * 1e3, max(peer) * 1e3, "ms")


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[int(len(values) * 0.99)]


def middle(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


# -- programs ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def pair(*, tls: bool = False, speed: float = 0.0) -> AsyncIterator[tuple[Load, Load]]:
    """Ours and the peer, each in front of a Slack of its own."""
    services = int(os.environ.get("SERVICES", "500"))
    async with ours_with(services, "/why {service} prod", tls=tls, speed=speed) as ours:
        command = [sys.executable, "-c", PEER]
        async with running(command, "/why svc prod", tls=tls, speed=speed) as peer:
            yield ours, peer


@asynccontextmanager
async def ours_with(
    services: int, text: str, past: int = 0, *, tls: bool = False, speed: float = 0.0
) -> AsyncIterator[Load]:
    """A Slipway with so many services, and so many deployments long over. It has run before, as nearly every start."""
    with tempfile.TemporaryDirectory(dir=WHERE) as name:
        catalog, data = Path(name) / "catalog", Path(name) / "data"
        write_catalog(catalog, services, files=5)
        service = service_of(catalog)
        if past:
            write_past(data, past, services=[service, *(f"svc-{number}" for number in range(499))])
        command = [sys.executable, "-m", "bot.cli", "serve", "--config", str(catalog), "--data", str(data)]
        run_once(command)
        async with running(command, text.format(service=service), tls=tls, speed=speed) as load:
            yield load


def run_once(command: list[str]) -> None:
    """Start it and end it: the tables are made, and the catalog is read."""
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, env=COMPILED) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()


def service_of(catalog: Path) -> str:
    """A service of the written catalog."""
    from bot.catalog.load import load_catalog

    return next(iter(load_catalog(catalog).services))


@asynccontextmanager
async def running(command: list[str], text: str, *, tls: bool, speed: float) -> AsyncIterator[Load]:
    """A program that was answered its first command; what it took is noted."""
    with tempfile.TemporaryDirectory() as name:
        certificate = make_certificate(Path(name)) if tls else None
        fake = FakeSlack()
        fake.strict, fake.ssl = False, context_of(certificate) if certificate else None
        async with fake as slack, aiohttp.ClientSession() as session:
            slack.user(USER, email="p0@example.com")
            slack.channel("C1", "releases")
            process, port, began = await started(command, slack, certificate)
            try:
                load = Load(slack, process.pid, port, text, session)
                async with asyncio.timeout(LATEST):
                    await load.first(process)
                load.figures.ready.append(time.monotonic() - began)
                load.figures.megabytes.append(resident(process.pid))
                slack.speed = speed
                yield load
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()


async def started(
    command: list[str], slack: FakeSlack, certificate: Path | None
) -> tuple[asyncio.subprocess.Process, int, float]:
    """Run a program with the Slack's settings: the process, its port, and when it was started."""
    port = free_port()
    environment = COMPILED | {
        "SLACK_BOT_TOKEN": BOT_TOKEN,
        "SLACK_SIGNING_SECRET": SECRET,
        "SLACK_API_BASE_URL": slack.base_url,
        "PORT": str(port),
        "SLIPWAY_LOG_LEVEL": "warning",
    }
    if certificate is not None:
        environment["SSL_CERT_FILE"] = str(certificate)
    slack.app_url = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    out = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=out, stderr=None)
    return process, port, began


def make_certificate(directory: Path) -> Path:
    """A key and a certificate of this machine, in one file, which whoever is told of it trusts."""
    path = directory / "slack.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    where = ["-keyout", str(path), "-out", str(path) + ".crt", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *request.split(), *where], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(str(path) + ".crt").read_text())
    return path


def context_of(certificate: Path) -> ssl.SSLContext:
    """For the side that shows it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def measure(ours: Load, peer: Load) -> None:
    """By turns, after both are warm: what is loaded after the first answer is loaded."""
    for one in (ours, peer):
        await one.steady(RATE, 200)
    for _ in range(ROUNDS):
        for one in (ours, peer):
            await one.round()


# -- load -------------------------------------------------------------------------------------------------------------


class Load:
    """Commands to one program, and when each was acknowledged and answered."""

    def __init__(self, slack: FakeSlack, pid: int, port: int, text: str, session: aiohttp.ClientSession) -> None:
        self.slack = slack
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}/slack/events"
        self.text = text
        self.session = session
        self.figures = Figures()

    async def first(self, process: asyncio.subprocess.Process) -> None:
        """Wait until a command is answered."""
        while True:
            try:
                await self.one()
            except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError):
                if process.returncode is not None:
                    raise SystemExit("a program under measurement did not start") from None
                await asyncio.sleep(0.01)
            else:
                break
        while not self._posts():
            await asyncio.sleep(0.002)

    async def round(self) -> None:
        """One of each: evenly, as fast as it goes, and all at once."""
        found = self.figures
        acks, replies = await self.steady(RATE, STEADY)
        found.ack.append(p99(acks))
        found.reply.append(p99(replies))
        found.usual.append(middle(replies))
        before, calls = cpu_seconds(self.pid), len(self.slack.calls)
        await self.busy(BUSY, 32)
        found.per_second.append(BUSY / (cpu_seconds(self.pid) - before))
        found.calls.append((len(self.slack.calls) - calls) / BUSY)
        burst, lost = await self.burst(BURST)
        found.burst.append(p99(burst))
        found.lost += lost

    async def slowly(self) -> list[float]:
        """How long acknowledgements take while Slack is slow."""
        posts = self._posts()
        self.slack.slow = SLOW
        with undisturbed():
            acks = await self._sent(RATE, 100)
        self.slack.slow = 0.0
        await self._answered(posts + 100)
        return [took for _, took in acks]

    async def limited(self, count: int) -> tuple[int, int, float]:
        """So many at once under Slack's limits: answered, refused by Slack, and after how many seconds."""
        await asyncio.sleep(1.1)
        posts, calls, began = self._posts(), len(self.slack.calls), time.monotonic()
        await asyncio.gather(*(self.one() for _ in range(count)))
        await self._answered(posts + count, patience=count * 1.5)
        refused = sum(1 for call in self.slack.calls[calls:] if call.answer == "ratelimited")
        return self._posts() - posts, refused, time.monotonic() - began

    def signed(self) -> tuple[bytes, dict[str, str]]:
        """A slash command as Slack sends it."""
        body = urlencode(self.slack.command_body(USER, self.text)).encode()
        stamp = str(int(time.time()))
        digest = hmac.new(SECRET.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        return body, {
            "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": f"v0={digest}",
            "Content-Type": FORM,
        }

    async def one(self) -> tuple[float, float]:
        """Send one command; returns when it was sent and how long the acknowledgement took."""
        body, headers = self.signed()
        began = time.monotonic()
        async with self.session.post(self.url, data=body, headers=headers) as answer:
            await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"answered {answer.status}")
        return began, time.monotonic() - began

    async def _sent(self, rate: int, count: int) -> list[tuple[float, float]]:
        tasks = []
        start = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(self.one()))
        return await asyncio.gather(*tasks)

    async def steady(self, rate: int, count: int) -> tuple[list[float], list[float]]:
        """Commands at an even rate: how long each acknowledgement and each first reply took."""
        posts = self._posts()
        await asyncio.sleep(SETTLED)
        with undisturbed():
            sent = await self._sent(rate, count)
            await self._answered(posts + count)
        # In order: at this rate each is answered long before the next comes.
        replied = self.slack.posted_at[posts:]
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
        """Everything at one instant: acknowledgements, and how many were never answered.

        On open connections: to open them takes who sends longer than the answers, and then it is no instant.
        """
        posts = self._posts()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(self._opened(session) for _ in range(count)))
            kept, self.session = self.session, session
            with undisturbed():
                sent = await asyncio.gather(*(self.one() for _ in range(count)))
            self.session = kept
        await self._answered(posts + count, patience=30)
        return [took for _, took in sent], posts + count - self._posts()

    async def _opened(self, session: aiohttp.ClientSession) -> None:
        async with session.get(self.url) as answer:  # which is no way to call it
            await answer.read()

    def _posts(self) -> int:
        return len(self.slack.posted_at)

    async def _answered(self, count: int, patience: float = 60) -> None:
        until = time.monotonic() + patience
        while self._posts() < count and time.monotonic() < until:
            await asyncio.sleep(0.01)
