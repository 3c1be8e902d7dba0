"""Two replicas on one PostgreSQL: idling, a thousand that wait, taking over, and commands carried by one and by two.

python -m tests.benchmarks.replicas [SECONDS]

What two replicas carry is measured with each held to a share of a core, as a container with a limit is: on a machine of
two cores PostgreSQL and whoever types would otherwise be what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import aiohttp
from sqlalchemy import func, select, update

from bot.clock import utc_now
from bot.deployments.model import Data, Emergency, State, release_subject
from bot.store import deployments as rows
from bot.store import outbox
from bot.store.database import Database, Tx
from bot.store.outbox import Notice
from bot.store.tables import deployments, inbox
from bot.store.tables import outbox as messages
from tests.support.chaos import Replica, database, ready
from tests.support.rows import new_deployment
from tests.support.world import PEOPLE, make_world

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


RULE = {"name": "four-eyes", "environments": ["prod"], "seats": [{"roles": "team_lead"}], "remind_after": "1h"}


def wait_for_approval(tx: Tx) -> None:
    """A thousand deployments that wait for a lead whom they ask, as `/deploy` makes them."""
    at, subject = utc_now(), release_subject("", "c" * 40)
    question = Emergency(
        rule="four-eyes",
        approvals=("four-eyes",),
        needed=1,
        subject=subject,
        asked_at=at,
        expires_at=at + timedelta(hours=8),
        pass_minutes=60,
    )
    for number in range(WAITING):
        data = Data(emergency=question)
        rows.create(tx, new_deployment(f"w{number}", State.AWAITING_APPROVAL, f"s{number}", data), at)


async def asked(db: Database) -> None:
    """Until the lead has got every question."""
    query = select(func.count()).select_from(messages).where(messages.c.kind == Notice.APPROVAL.value)

    def got(tx: Tx) -> int:
        return int(tx.execute(query).scalar_one()) - outbox.lag(tx)

    while await db.read(got) < WAITING:
        await asyncio.sleep(0.5)


CLIENTS = 64
"""How many people type for each replica, each in the personal chat: a channel is one queue, whoever sends to it."""
TOKEN = "0123456789abcdef-owner"
TOKENS = {f"person{number}": f"{TOKEN}{number}" for number in range(2 * CLIENTS)}
NUMBERS = itertools.count()


async def ask(session: aiohttp.ClientSession, url: str, person: str) -> float:
    """Seconds until a command was taken by the console."""
    body = {"person": person, "place": "@slipway", "text": "/why app prod"}
    headers = {"Authorization": f"Bearer {TOKENS[person]}", "Idempotency-Key": f"{next(NUMBERS)}"}
    began = time.perf_counter()
    async with session.post(f"{url}/console/api/messages", json=body, headers=headers) as answer:
        assert answer.status == 202, await answer.text()
    return time.perf_counter() - began


async def acknowledged(url: str, count: int = 300) -> float:
    """The 99th percentile of so many acknowledgements, one after the other, in milliseconds."""
    async with aiohttp.ClientSession() as session:
        found = sorted([await ask(session, url, "person0") for _ in range(count)])
    return found[int(count * 0.99)] * 1000


def answered(tx: Tx) -> int:
    """How many commands have their answer."""
    query = select(func.count()).select_from(inbox).where(inbox.c.done_at.is_not(None))
    return int(tx.execute(query).scalar_one())


def unanswered(tx: Tx) -> int:
    """How many commands wait for their answer."""
    query = select(func.count()).select_from(inbox).where(inbox.c.done_at.is_(None))
    return int(tx.execute(query).scalar_one())


class Line(asyncio.Protocol):
    """One connection of a person who types: as little work as can be, for it shares the cores with what is measured."""

    def __init__(self, url: str, person: str) -> None:
        self.address = url.removeprefix("http://")
        body = json.dumps({"person": person, "place": "@slipway", "text": "/why app prod"})
        self._head = (
            f"POST /console/api/messages HTTP/1.1\r\nHost: {self.address}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {TOKENS[person]}\r\nContent-Length: {len(body)}\r\nIdempotency-Key: "
        ).encode()
        self._body = f"\r\n\r\n{body}".encode()
        self._got = b""
        self._taken: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Connect."""
        host, port = self.address.split(":")
        self._transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, host, int(port))

    async def ask(self) -> None:
        """Type the command; until it was taken."""
        self._taken = asyncio.get_running_loop().create_future()
        self._transport.write(self._head + str(next(NUMBERS)).encode() + self._body)
        await self._taken

    def data_received(self, data: bytes) -> None:
        """A part of the answer, which says how long it is."""
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end or self._taken is None:
            return
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) >= int(length.split(b":")[1]):
            self._got = b""
            status = head.split(b" ", 2)[1]
            self._taken.set_result(None) if status == b"202" else self._taken.set_exception(ValueError(head + body))

    def connection_lost(self, error: Exception | None) -> None:
        """The replica hung up."""
        if self._taken is not None and not self._taken.done():
            self._taken.set_exception(error or ConnectionResetError())

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


async def carried(db: Database, urls: list[str], seconds: float) -> float:
    """Commands answered in a second while many people type as fast as they can, as many for each of these replicas.

    Until the last answer has arrived: what is only taken is not carried, and must not count for who comes next.
    """

    async def types(number: int, lines: list[Line]) -> None:
        for line in lines:
            await line.open()
        for line in itertools.islice(itertools.cycle(lines), number, None):
            if time.monotonic() >= stop:
                break
            await line.ask()
        for line in lines:
            line.close()

    before = await db.read(answered)
    began = time.monotonic()
    stop = began + seconds
    people = list(TOKENS)[: CLIENTS * len(urls)]
    await asyncio.gather(*(types(n, [Line(url, person) for url in urls]) for n, person in enumerate(people)))
    while await db.read(unanswered) or await db.read(outbox.lag):
        await asyncio.sleep(0.05)
    return (await db.read(answered) - before) / (time.monotonic() - began)


SHARE, SLICE = 0.35, 0.02
"""Of a core, and the seconds in which it may be used."""


def ran(replica: Replica) -> float:
    """Seconds its threads have run, finely: the clock behind `cpu_seconds` ticks a hundred times a second."""
    assert replica.process is not None
    total = 0
    for task in Path(f"/proc/{replica.process.pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


@contextlib.contextmanager
def held_to(share: float, replicas: Sequence[Replica]) -> Iterator[None]:
    """Each replica may use that much of a core, until the end of the context."""
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            began, used = time.monotonic(), {one.number: ran(one) for one in replicas}
            stopped: list[Replica] = []
            while time.monotonic() - began < SLICE:
                time.sleep(SLICE / 10)
                for one in replicas:
                    if one not in stopped and ran(one) - used[one.number] >= share * SLICE:
                        one.send(signal.SIGSTOP)
                        stopped.append(one)
            for one in stopped:
                one.send(signal.SIGCONT)

    holding = threading.Thread(target=hold)
    holding.start()
    try:
        yield
    finally:
        over.set()
        holding.join()


async def resumed(db: Database, replica: Replica) -> float:
    """Seconds from ready to the first look of the last of a thousand that were due when a replica started."""
    replica.end()
    at = utc_now()
    wake = (
        update(deployments)
        .where(deployments.c.ended_at.is_(None))
        .values(wake_at=at, lease_owner=None, lease_until=None)
    )
    await db.run(lambda tx: tx.execute(wake))
    due = select(func.count()).select_from(deployments).where(deployments.c.wake_at <= at)
    async with aiohttp.ClientSession() as session:
        replica.start()
        await ready(session, replica)
        began = time.monotonic()
        while await db.read(lambda tx: tx.execute(due).scalar_one()):
            await asyncio.sleep(0.01)
    return time.monotonic() - began


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


TURNS = 3


async def compared(db: Database, urls: list[str], seconds: float) -> tuple[float, float]:
    """Commands a second by the first replica alone and by all, in turns: a shared machine is not always as quick."""
    rates = [[await carried(db, some, seconds / TURNS) for some in (urls[:1], urls)] for _ in range(TURNS)]
    single, both = (sum(each) / TURNS for each in zip(*rates, strict=True))
    return single, both


async def measure(directory: Path, seconds: float) -> None:
    """Print the figures."""
    people = {name: {"name": name.title()} for name in (*PEOPLE, *TOKENS)}
    services = ("app", *(f"s{number}" for number in range(WAITING)))
    world = make_world(directory / "world", services, people=people, approvals=[RULE])
    with database() as server:
        url = server.server.url("chaos")
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        tokens = directory / "tokens"
        tokens.write_text("".join(f"{person}: {token}\n" for person, token in TOKENS.items()))
        environment = kept | {
            "SLIPWAY_CONFIG": str(world.directory),
            "SLIPWAY_DATABASE_URL": url,
            "SLIPWAY_LOG_LEVEL": "error",
            "SLIPWAY_CONSOLE": "1",
            "SLIPWAY_CONSOLE_TOKENS_FILE": str(tokens),
        }
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
            quick = await acknowledged(replicas[0].url)
            await db.run(wait_for_approval)
            await asked(db)
            await asyncio.sleep(3)
            busy, more = await load(replicas, seconds), memory_mb(replicas[0])
            print(f"{WAITING} waiting: {busy[0]:.2f} and {busy[1]:.2f} % of a core, {more - memory:+.0f} MB")
            slow = await acknowledged(replicas[0].url)
            print(f"acknowledged p99: {quick:.1f} ms before, {slow:.1f} ms beside them ({slow / quick:.2f} x)")
            replicas[1].end()
            print(f"all {WAITING} looked at again {await resumed(db, replicas[0]):.2f} s after the start")
            replicas[1].start()
            async with aiohttp.ClientSession() as session:
                await ready(session, replicas[1])
            took = [await take_over(db) for _ in range(2)]
            print(f"taken over from a dead replica after {min(took):.1f} to {max(took):.1f} s")
            urls = [one.url for one in replicas]
            with held_to(SHARE, replicas):
                single, both = await compared(db, urls, seconds)
            limit = f"each held to {SHARE:.0%} of a core"
            print(f"commands: {single:.0f} a second by one replica, {both:.0f} by two ({both / single:.2f} x), {limit}")
            single, both = await compared(db, urls, seconds)
            print(
                f"without one, on {os.cpu_count()} cores for all: {single:.0f} and {both:.0f} ({both / single:.2f} x)"
            )
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
