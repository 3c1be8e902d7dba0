"""Feishu: ours against a bare lark-oapi app that only echoes, and a bare handler that only acknowledges, in one run.

Ours checks signature, age and repeat, stores the intent before it acknowledges, decides by the policy and writes the
audit entry; the peers none of it. Everybody types in a personal chat, so that Feishu's five posts a second of a chat
are no limit; its thousand a minute is, so each part runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.benchmarks.catalog_policy import write_catalog
from tests.benchmarks.process import cpu_seconds, resident, undisturbed
from tests.benchmarks.slack import COMPILED, p99, run_once, service_of, show
from tests.fakes.feishu import APP_ID, APP_SECRET, ENCRYPT_KEY, TOKEN, FakeFeishu, sealed
from tests.support.network import free_port

LARK = """
import asyncio, json, os, sys
import lark_oapi as lark, uvicorn
from lark_oapi.api.im.v1 import ReplyMessageRequest, ReplyMessageRequestBody
client = lark.Client.builder().app_id(os.environ["FEISHU_APP_ID"]).app_secret(os.environ["FEISHU_APP_SECRET"])
client = client.domain(os.environ["FEISHU_DOMAIN"]).build()
running = set()
async def echo(message):
    text = json.dumps({"text": json.loads(message.content)["text"] + " "})
    body = ReplyMessageRequestBody.builder().content(text).msg_type("text").build()
    request = ReplyMessageRequest.builder().message_id(message.message_id).request_body(body).build()
    await client.im.v1.message.areply(request)
def said(data):
    task = asyncio.get_running_loop().create_task(echo(data.event.message))
    running.add(task)
    task.add_done_callback(running.discard)
builder = lark.EventDispatcherHandler.builder(os.environ["FEISHU_ENCRYPT_KEY"], os.environ["FEISHU_VERIFICATION_TOKEN"])
handler = builder.register_p2_im_message_receive_v1(said).build()
async def app(scope, receive, send):
    request = lark.RawRequest()
    request.uri = scope["path"]
    request.headers = {name.decode().title(): value.decode() for name, value in scope["headers"]}
    request.body = (await receive())["body"]
    answer = handler.do(request)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": []})
    await send({"type": "http.response.body", "body": answer.content})
uvicorn.run(app, port=int(os.environ["PORT"]), lifespan="off", log_level="error")
"""
BARE = """
import os
import uvicorn
async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})
uvicorn.run(app, port=int(os.environ["PORT"]), lifespan="off", log_level="error")
"""
PEOPLE = 200
RATE = 40
"""Commands a second. At fifty, which is all that Feishu takes, every answer waits for the one before."""


@dataclass
class Figures:
    """Of one program, in seconds unless said."""

    ack: list[float]
    reply: list[float]
    burst_ack: list[float]
    burst_lost: int
    cpu_per_command: float
    ready: float
    megabytes: float


def main() -> None:
    """Measure all and print them side by side."""
    asyncio.run(compare())


async def compare() -> None:
    """Ours and the peers against a fake Feishu each."""
    with tempfile.TemporaryDirectory() as name:
        catalog = Path(name) / "catalog"
        write_catalog(catalog, int(os.environ.get("SERVICES", "500")), files=5)
        starts = itertools.count()

        def slipway() -> list[str]:
            # Each with a state of its own: every fake counts its messages from one, and a repeat is not answered.
            # It has run before, as nearly every start.
            data = f"{name}/data-{next(starts)}"
            command = [sys.executable, "-m", "bot.cli", "serve", "--config", str(catalog), "--data", data]
            run_once(command)
            return command

        ours = await measure(slipway, service_of(catalog))
        lark = await measure(lambda: [sys.executable, "-W", "ignore", "-c", LARK], "svc")
        bare = await acknowledged([sys.executable, "-c", BARE])
    show("acknowledged, p99 at 40/s", p99(ours.ack) * 1e3, p99(lark.ack) * 1e3, "ms")
    print(f"  the same of a bare handler that does nothing: {p99(bare) * 1e3:.2f} ms")
    show("first reply, p99 at 40/s", p99(ours.reply) * 1e3, p99(lark.reply) * 1e3, "ms")
    show("first reply, median", statistics.median(ours.reply) * 1e3, statistics.median(lark.reply) * 1e3, "ms")
    show("commands per CPU second", 1 / ours.cpu_per_command, 1 / lark.cpu_per_command, "")
    show("burst of 500, ack p99", p99(ours.burst_ack) * 1e3, p99(lark.burst_ack) * 1e3, "ms")
    show("burst of 500, lost", ours.burst_lost, lark.burst_lost, "")
    show("first command answered after", ours.ready, lark.ready, "s")
    show("resident", ours.megabytes, lark.megabytes, "MB")


async def measure(command: Callable[[], list[str]], service: str) -> Figures:
    """Start a program three times, each in front of a Feishu of its own, and put it through everything."""
    async with started(command(), service) as load:
        ready = time.monotonic() - load.began
        await load.steady(RATE, 100)  # warm
        acks, replies = await load.steady(RATE, 500)
        memory = resident(load.pid)
    async with started(command(), service) as load:
        await load.steady(RATE, 50)
        before = cpu_seconds(load.pid)
        await load.busy(900, 32)
        cpu = cpu_seconds(load.pid) - before
    async with started(command(), service) as load:
        burst, lost = await load.burst(500)
    return Figures(acks, replies, burst, lost, cpu / 900, ready, memory)


async def acknowledged(command: list[str]) -> list[float]:
    """How long a program that answers nobody takes to acknowledge."""
    async with started(command, "svc", answers=False) as load:
        sent = await load.sent(RATE, 100)
        with undisturbed():
            sent = await load.sent(RATE, 500)
    return [took for _, took in sent]


@asynccontextmanager
async def started(command: list[str], service: str, answers: bool = True) -> AsyncIterator[Load]:
    """Run a program with the Feishu's settings, until it answers."""
    async with FakeFeishu() as feishu, aiohttp.ClientSession() as session:
        for number in range(PEOPLE):
            feishu.user(f"ou_{number}", email=f"p{number}@example.com")
        port = free_port()
        environment = COMPILED | {
            "FEISHU_APP_ID": APP_ID,
            "FEISHU_APP_SECRET": APP_SECRET,
            "FEISHU_ENCRYPT_KEY": ENCRYPT_KEY,
            "FEISHU_VERIFICATION_TOKEN": TOKEN,
            "FEISHU_DOMAIN": feishu.url,
            "PORT": str(port),
            "SLIPWAY_LOG_LEVEL": "warning",
        }
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            # A peer that loses messages says so in many lines; what it lost is counted.
            *command,
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL if "-c" in command else None,
        )
        load = Load(feishu, session, port, service, process.pid, began)
        try:
            await load.first(answers)
            yield load
        finally:
            process.terminate()
            await process.wait()


class Load:
    """Commands, and when each was acknowledged and answered."""

    def __init__(
        self, feishu: FakeFeishu, session: aiohttp.ClientSession, port: int, service: str, pid: int, began: float
    ) -> None:
        self.feishu = feishu
        self.session = session
        self.url = f"http://127.0.0.1:{port}/feishu/events"
        self.service = service
        self.pid = pid
        self.began = began
        self.number = 0

    async def first(self, answers: bool) -> None:
        """Wait until a command is acknowledged, and answered if it ever is."""
        while True:
            try:
                await self.one()
            except (aiohttp.ClientError, RuntimeError):
                await asyncio.sleep(0.01)
            else:
                break
        while answers and not self.feishu.messages:
            await asyncio.sleep(0.002)

    async def one(self) -> tuple[float, float]:
        """Send one command; returns when it was sent and how long the acknowledgement took."""
        self.number += 1
        event = self.feishu.message(f"ou_{self.number % PEOPLE}", f"/why {self.service} prod")
        body, headers = sealed(event, at=self.feishu.now())
        began = time.monotonic()
        async with self.session.post(self.url, data=body, headers=headers) as answer:
            await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"answered {answer.status}")
        return began, time.monotonic() - began

    async def sent(self, rate: int, count: int) -> list[tuple[float, float]]:
        """Commands at an even rate: when each was sent and how long its acknowledgement took."""
        tasks = []
        start = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(self.one()))
        return await asyncio.gather(*tasks)

    async def steady(self, rate: int, count: int) -> tuple[list[float], list[float]]:
        """Commands at an even rate: how long each acknowledgement and each reply took."""
        posts = len(self.feishu.messages)
        with undisturbed():
            sent = await self.sent(rate, count)
            await self._answered(posts + count)
        # In order: at this rate each is answered long before the next comes.
        numbers = list(self.feishu.messages)[posts:]
        replied = [self.feishu.history[number][0][0] for number in numbers]
        return [took for _, took in sent], [at - began for (began, _), at in zip(sent, replied, strict=False)]

    async def busy(self, count: int, together: int) -> None:
        """As many commands as it takes, so many at once."""
        posts = len(self.feishu.messages)
        left = iter(range(count))

        async def worker() -> None:
            for _ in left:
                await self.one()

        await asyncio.gather(*(worker() for _ in range(together)))
        await self._answered(posts + count)

    async def burst(self, count: int) -> tuple[list[float], int]:
        """Everything at one instant: acknowledgements, and how many were never answered."""
        posts = len(self.feishu.messages)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            kept, self.session = self.session, session
            sent = await asyncio.gather(*(self.one() for _ in range(count)))
            self.session = kept
        await self._answered(posts + count, patience=30)
        return [took for _, took in sent], posts + count - len(self.feishu.messages)

    async def _answered(self, count: int, patience: float = 60) -> None:
        until = time.monotonic() + patience
        while len(self.feishu.messages) < count and time.monotonic() < until:
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    main()
