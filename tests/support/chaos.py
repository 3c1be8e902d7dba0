"""Several real replicas on one real PostgreSQL, in front of fakes that keep count, while everything breaks at random.

    python -m tests.support.chaos [--deployments 300] [--replicas 3] [--seed 1]

Processes are killed, stopped longer than their lease and continued; database connections are cut, the database is
restarted; answers of the outside systems are lost. In the end every deployment has to be in the right state, every
outside effect and every message there once, and the audit chain whole. Prints one JSON line; exit code 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import select

from bot.deployments.model import Deployment
from bot.store import audit, outbox
from bot.store import deployments as rows
from bot.store.database import Database
from bot.store.tables import inbox as intents
from tests.fakes import builds
from tests.fakes.argocd import TOKEN, FakeArgoCD, Json, running_argocd
from tests.fakes.jenkins import FakeJenkins
from tests.fakes.repositories import git
from tests.fakes.serving import serving
from tests.fakes.slack import BOT_TOKEN, SECRET, FakeSlack
from tests.support import postgres
from tests.support.network import free_port
from tests.support.slack import USERS, company
from tests.support.world import World, make_world

ALLOWED = {"good": {"succeeded"}, "bad": {"failed"}, "sick": {"failed", "rolled_back"}}
"""What a deployment may end as, by the kind of its service."""
KINDS = ("good", "good", "good", "bad", "sick")
STOPPED = (2.0, 12.0)
"""Seconds a process is stopped: shorter and longer than a lease."""
PATIENCE = 60.0
"""Seconds after the last fault in which something must move: the slower the machine, the longer all of it takes."""


@dataclass
class Verdict:
    """What is wrong (nothing: all is well), and what was done."""

    problems: list[str] = field(default_factory=list)
    deployments: int = 0
    seconds: float = 0.0
    states: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)


class ChaosArgo(FakeArgoCD):
    """Remembers whose operation really began, and renders each application's image from the repository."""

    config: Path = Path()
    begun: collections.Counter[str]

    def begin(self, name: str, *, revision: str, info: list[Json] | None = None, automated: bool = False) -> None:
        super().begin(name, revision=revision, info=info, automated=automated)
        self.begun[next((one["value"] for one in info or [] if one["name"] == "slipway/intent"), "nobody")] += 1

    def _compare(self, app: Json, revision: str, health: str) -> None:
        service = app["metadata"]["name"].removesuffix("-prod")
        with contextlib.suppress(subprocess.CalledProcessError):
            text = git(self.config, "show", f"{revision}:prod/{service}.yaml")
            lines = dict(line.split(": ") for line in text.splitlines() if ": " in line)
            self.images[revision] = f"registry.example/hello@{lines['digest'].strip(chr(34))}"
        super()._compare(app, revision, health)


@dataclass
class Replica:
    """One process, started anew under the same address whenever it was killed."""

    number: int
    directory: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    stopped_until: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it; its log goes on."""
        data = self.directory / f"replica-{self.number}"
        argv = [sys.executable, "-m", "bot.cli", "serve", "--port", str(self.port)]
        with (self.directory / f"replica-{self.number}.log").open("ab") as output:
            self.process = subprocess.Popen(
                argv,
                env=self.environment | {"SLIPWAY_DATA": str(data)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Signal this one process, if it lives."""
        if self.is_up and self.process is not None:
            self.process.send_signal(number)

    def end(self) -> None:
        """In order, then by force."""
        if self.process is None:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Server:
    """A PostgreSQL that can be restarted under its users."""

    def __init__(self, top: Path) -> None:
        self._user = "nobody" if os.geteuid() == 0 else None
        self.data, self._log = top / "data", top / "log"
        self.data.mkdir(mode=0o700)
        if self._user:
            shutil.chown(self.data, self._user)
        self._binaries = postgres._executable_by(self._user, postgres._binaries(), top)
        postgres._initialise(self._binaries, self.data, self._user)
        self._running: contextlib.AbstractContextManager[None] | None = None
        self.server = postgres.PostgresServer(self.data)

    def start(self) -> None:
        """Returns when it takes connections."""
        self._running = postgres._running(self._binaries, self.data, self._user, self._log, postgres.DURABLE)
        self._running.__enter__()

    def stop(self) -> None:
        """As `pg_ctl stop -m immediate`: in the middle of everything."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None


@contextmanager
def database() -> Iterator[Server]:
    """A server in a directory of its own, with an empty database called chaos."""
    top = Path(tempfile.mkdtemp(prefix="slipway-chaos-"))
    top.chmod(0o755)
    server = Server(top)
    server.start()
    try:
        execute(server, "CREATE DATABASE chaos", "postgres")
        yield server
    finally:
        server.stop()
        shutil.rmtree(top, ignore_errors=True)


def execute(server: Server, statement: str, where: str = "chaos") -> None:
    """One statement, outside a transaction."""
    import psycopg

    with psycopg.connect(host=str(server.data), user="postgres", dbname=where, autocommit=True) as connection:
        connection.execute(statement.encode())


class Chaos:
    """The company, its outside systems, and the hand that breaks things."""

    def __init__(self, directory: Path, deployments: int, replicas: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = deployments
        self.directory = directory
        kinds = [KINDS[number % len(KINDS)] for number in range(deployments)]
        self.services = {f"{kind}{number}": kind for number, kind in enumerate(kinds, 1)}
        self.world = make_chaos_world(directory / "world", tuple(self.services))
        self.slack = FakeSlack()
        self.jenkins = FakeJenkins(*self.services)
        self.argo = ChaosArgo(pace=0.05)
        self.argo.begun = collections.Counter()
        self.argo.config = self.world.config
        self.wanted_replicas = replicas
        self.replicas: list[Replica] = []
        self.verdict = Verdict(deployments=deployments)
        self.done: collections.Counter[str] = collections.Counter()

    @asynccontextmanager
    async def running(self, server: Server) -> AsyncIterator[Database]:
        """Everything up: the fakes, the replicas, and our own eyes on the database."""
        company(self.slack)
        builds.KINDS[git(self.world.source, "rev-parse", "bad")] = "failing"
        for name, kind in self.services.items():
            self.argo.add(f"{name}-prod")
            self.argo.outcome[f"{name}-prod"] = "degraded" if kind == "sick" else "good"
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.slack)
            jenkins = await stack.enter_async_context(serving(self.jenkins.app))
            await stack.enter_async_context(running_argocd(self.argo))
            url = server.server.url("chaos")
            environment = self._environment(url, jenkins)
            for number in range(self.wanted_replicas):
                replica = Replica(number, self.directory, environment)
                self.replicas.append(replica)
                stack.callback(replica.end)
                replica.start()
            session = await stack.enter_async_context(aiohttp.ClientSession())
            for replica in self.replicas:
                await ready(session, replica)
            db = Database(url)
            stack.callback(db.close)
            yield db

    def _environment(self, url: str, jenkins: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {
            "SLIPWAY_CONFIG": str(self.world.directory),
            "SLIPWAY_DATABASE_URL": url,
            "SLIPWAY_LOG_LEVEL": "warning",
            "SLIPWAY_JENKINS_URL": jenkins,
            "SLIPWAY_JENKINS_USER": "bot",
            "SLIPWAY_JENKINS_TOKEN": "t0ken",
            "SLIPWAY_ARGOCD_URL": self.argo.url,
            "SLIPWAY_ARGOCD_TOKEN": TOKEN,
            "SLACK_BOT_TOKEN": BOT_TOKEN,
            "SLACK_SIGNING_SECRET": SECRET,
            "SLACK_API_BASE_URL": self.slack.base_url,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    # -- what people do ----------------------------------------------------------------------------------------------

    async def ask(self, number: int, service: str, kind: str) -> None:
        """As Slack does it: the same event again, to whichever replica the balancer picks, until one says 200."""
        ts = f"{1_700_000_000 + number}.000100"
        words = f"<@UBOT> deploy {service} prod {'bad' if kind == 'bad' else 'fine'}"
        event = {"type": "app_mention", "user": USERS["owner"], "text": words, "ts": ts, "channel": "C1"}
        async with asyncio.timeout(PATIENCE * 2):
            while True:
                replica = self.random.choice(self.replicas)
                self.slack.app_url = replica.url
                try:
                    async with asyncio.timeout(3):
                        status, _ = await self.slack.event(event | {"event_ts": ts}, event_id=f"Ev-{service}")
                except (TimeoutError, aiohttp.ClientError, OSError):
                    status = 0
                if status == 200:
                    return
                await asyncio.sleep(0.1)

    async def ask_all(self, pace: float) -> None:
        """All of them, a few at a time, so that faults meet them in every state."""
        async with asyncio.TaskGroup() as group:
            for number, (service, kind) in enumerate(self.services.items(), 1):
                group.create_task(self.ask(number, service, kind))
                await asyncio.sleep(pace)

    # -- what breaks -------------------------------------------------------------------------------------------------

    async def break_things(self, server: Server, stop: asyncio.Event) -> None:
        """One thing after the other until told to stop; then everything is mended."""
        deeds = [self.kill, self.kill, self.freeze, self.cut, self.lose, self.lose]
        since_restart = 0
        while not stop.is_set():
            since_restart += 1
            if since_restart >= 12:
                since_restart = 0
                await self.restart(server)
            else:
                await self.random.choice(deeds)(server)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.random.uniform(0.2, 1.5)):
                    await stop.wait()
            self.mend()
        self.mend(at_once=True)

    def mend(self, at_once: bool = False) -> None:
        """Continue what was stopped long enough, and start what is dead."""
        for replica in self.replicas:
            if replica.stopped_until and (at_once or time.monotonic() > replica.stopped_until):
                replica.stopped_until = 0.0
                self._note("go on", replica)
                replica.send(signal.SIGCONT)
            if not replica.is_up:
                replica.start()

    def _note(self, fault: str, whom: Replica | None = None) -> None:
        """Count it, and write down when it was, as the logs of the replicas and Slack's numbers are dated."""
        self.done[fault] += 1
        with (self.directory / "faults.log").open("a") as file:
            file.write(f"{time.time():.3f} {fault} {whom.number if whom is not None else ''}\n")

    async def kill(self, _server: Server) -> None:
        """As the kernel does it when memory is short."""
        chosen = self.random.choice(self.replicas)
        self._note("kill", chosen)
        chosen.send(signal.SIGKILL)

    async def freeze(self, _server: Server) -> None:
        """A long pause: a swapping machine, a live migration. One replica always goes on."""
        awake = [replica for replica in self.replicas if not replica.stopped_until]
        if len(awake) > 1:
            chosen = self.random.choice(awake)
            self._note("freeze", chosen)
            chosen.stopped_until = time.monotonic() + self.random.uniform(*STOPPED)
            chosen.send(signal.SIGSTOP)

    async def cut(self, server: Server) -> None:
        """Half of the connections to the database, at any moment of their transactions."""
        self._note("cut")
        whose = "datname = 'chaos' AND pid <> pg_backend_pid() AND random() < 0.5"
        await asyncio.to_thread(
            execute, server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {whose}"
        )

    async def restart(self, server: Server) -> None:
        """The database is away for a moment."""
        self._note("restart")
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(self.random.uniform(0.1, 1.0))
        await asyncio.to_thread(server.start)

    async def lose(self, _server: Server) -> None:
        """Something is done outside and its answer is lost."""
        self._note("lose")
        self.jenkins.app.fail("POST .*buildWithParameters", "lost")
        self.argo.faults.append(("POST", "/sync", "drop"))
        self.slack.fail("chat.postMessage", lost=True)

    # -- what came of it ---------------------------------------------------------------------------------------------

    async def settled(self, db: Database) -> None:
        """Wait until every deployment has ended and every message has arrived, or nothing has moved for too long."""

        def look(tx: Any) -> tuple[tuple[int, int, int, int], bool]:
            found = rows.history(tx, limit=self.count + 10)
            behind, ended = outbox.lag(tx), sum(1 for one in found if one.state.is_final)
            over = len(found) >= self.count and ended == len(found) and behind == 0
            return (len(found), ended, behind, sum(one.version for one in found)), over

        seen, moved_at = None, time.monotonic()
        while time.monotonic() - moved_at < PATIENCE:
            with contextlib.suppress(Exception):
                now, over = await db.read(look)
                if over:
                    return
                if now != seen:
                    seen, moved_at = now, time.monotonic()
            await asyncio.sleep(0.1)

    async def judge(self, db: Database) -> Verdict:
        """Look at the database, at Git and at what the outside systems remember."""
        found = await db.read(lambda tx: rows.history(tx, limit=self.count + 100))
        self.verdict.states = dict(collections.Counter(one.state.value for one in found))
        self.verdict.faults = dict(self.done)
        self._judge_deployments(found, await db.read(stored_commands))
        for one in found:
            path = await db.read(lambda tx, number=one.id: rows.path(tx, number))  # type: ignore[misc]
            if any(a.to_state != b.from_state for a, b in itertools.pairwise(path)):
                self._say(f"{one.ref}: a gap in {[step.to_state for step in path]}")
        refused = await db.read(lambda tx: [one.entry for one in audit.newest(tx, 100_000)])
        for entry in refused:
            if entry.action == "command" and entry.outcome != "accepted":
                self._say(f"{entry.subject}: {entry.outcome} {entry.detail}")
        _, broken = await db.read(audit.verify)
        if broken:
            self._say(f"audit: {broken}")
        self._judge_effects({one.intent for one in found})
        self._judge_messages(len([one for one in found if one.state.value != "succeeded"]))
        return self.verdict

    def _say(self, problem: str) -> None:
        self.verdict.problems.append(problem)

    def _say_lost(self, commands: Mapping[str, str], there: set[str]) -> None:
        """What became of the commands that have no deployment."""
        for service in set(self.services) - there:
            self._say(f"{service}: {commands.get(service, 'its command was answered with 200 and is not stored')}")

    def _judge_deployments(self, found: list[Deployment], commands: Mapping[str, str]) -> None:
        if len(found) != self.count:
            self._say(f"{len(found)} deployments instead of {self.count}")
            self._say_lost(commands, {one.service for one in found})
        for one in found:
            if one.state.value not in ALLOWED[self.services[one.service]]:
                self._say(f"{one.ref} of {one.service}: {one.state.value} {one.data.failure} {one.data.waiting_for}")

    def _judge_effects(self, intents: set[str]) -> None:
        began = collections.Counter(parameters["SLIPWAY_INTENT"] for parameters in self.jenkins.built)
        self._once("pipeline", began)
        self._once("sync", self.argo.begun)
        log = git(self.world.config, "log", "--format=%B", "main")
        self._once("commit", collections.Counter(re.findall(r"^Slipway-Intent: (\S+)$", log, re.MULTILINE)))
        for effect in [*began, *self.argo.begun]:
            if not any(effect.startswith(intent) for intent in intents):
                self._say(f"an effect of nobody: {effect}")

    def _judge_messages(self, bad: int) -> None:
        posted: dict[str, list[str]] = collections.defaultdict(list)
        for place in self.slack.messages.values():
            for ts, message in place.items():
                if message.get("files"):  # a log beside its card: Slack posts it itself, without our key
                    continue
                payload = (message.get("metadata") or {}).get("event_payload") or {}
                posted[str(payload.get("key") or f"without a key: {message.get('text')}")].append(str(ts))
        self.verdict.problems += [f"message {key}: at {', '.join(at)}" for key, at in posted.items() if len(at) != 1]
        cards = len([key for key in posted if key.startswith(("card:", "deployment:"))])
        self.verdict.states["messages"] = sum(map(len, posted.values()))
        self.verdict.states["cards"] = cards
        personal = self.slack.direct(USERS["owner"])
        if len(personal) != bad:
            self._say(f"{len(personal)} personal messages for {bad} failures")

    def _once(self, what: str, seen: collections.Counter[str]) -> None:
        self.verdict.problems += [f"{what} {key}: {count} times" for key, count in seen.items() if count != 1]


def stored_commands(tx: Any) -> dict[str, str]:
    """Service -> how the command to deploy it stands."""
    found = tx.execute(select(intents.c.payload, intents.c.outcome, intents.c.attempts, intents.c.answer))
    return {
        str(row.payload.get("text", "")).split()[-3]: f"{row.outcome}, {row.attempts} tries, {row.answer}"
        for row in found
        if len(str(row.payload.get("text", "")).split()) >= 3
    }


def make_chaos_world(directory: Path, services: tuple[str, ...]) -> World:
    """Built by Jenkins, delivered by Argo CD, told in Slack; one good commit and one whose build fails."""
    world = make_world(directory, services, channels={"slack": "C1"})
    git(world.source, "tag", "fine")
    world.push("worse")
    git(world.source, "tag", "bad")
    git(world.source, "checkout", "--quiet", "-B", "main", "fine")
    defaults = {
        "repo": "repos/app",
        "gitops": {"repo": "repos/config.git"},
        "pipeline": {"provider": "jenkins", "timeout": "5m"},
        "delivery": {"provider": "argocd", "options": {"degraded_for": "1s", "timeout": "2m"}},
        "verify": {"timeout": "30s", "settle": "1ms", "interval": "50ms"},
    }
    world.write_root(channels={"slack": "C1"}, defaults=defaults)
    return world


async def ready(session: aiohttp.ClientSession, replica: Replica) -> None:
    """Wait until a replica answers."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with session.get(f"{replica.url}/readyz") as answer:
                    if answer.status == 200:
                        return
            if not replica.is_up:
                raise RuntimeError(f"replica {replica.number} ended: see {replica.directory}")
            await asyncio.sleep(0.05)


async def run(directory: Path, deployments: int, replicas: int, seed: int, pace: float = 0.3) -> Verdict:
    """One run from an empty database to the verdict. pace: seconds between two commands."""
    chaos = Chaos(directory, deployments, replicas, seed)
    began = time.monotonic()
    with database() as server:
        async with chaos.running(server) as db:
            stop = asyncio.Event()
            breaking = asyncio.create_task(chaos.break_things(server, stop))
            try:
                await chaos.ask_all(pace)
            finally:
                stop.set()
                await breaking
            await chaos.settled(db)
            verdict = await chaos.judge(db)
    verdict.seconds = round(time.monotonic() - began, 1)
    return verdict


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--deployments", type=int, default=300)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--pace", type=float, default=0.3)
    parser.add_argument("--keep", type=Path, help="where the replicas' logs stay")
    given = parser.parse_args()
    directory = given.keep or Path(tempfile.mkdtemp(prefix="slipway-chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    verdict = asyncio.run(run(directory, given.deployments, given.replicas, given.seed, given.pace))
    print(json.dumps({"seed": given.seed, "logs": str(directory), **asdict(verdict)}))
    sys.exit(1 if verdict.problems else 0)


if __name__ == "__main__":
    main()
