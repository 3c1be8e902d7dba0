"""Runs one deployment again and again, and cuts the power at every boundary of it in turn.

A boundary is before a call to the database, the pipeline, the Git writer, the delivery or the chat; shortly after it
was begun (inside); and after it returned, before anybody could use the answer. For each one: a fresh world, a process
that is killed there with SIGKILL, a second one that finishes, and a look at what the world says was done.

    python -m tests.support.kill_driver DIRECTORY SCENARIO SHARD SHARDS STRIDE [DATABASE_URL_TEMPLATE]

Prints a JSON line per boundary with what is wrong (empty: all is well). The parent process stays without threads, so
that it can fork: starting an interpreter for each of some hundred lives would take most of the time.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from bot.app import App, Outside
from bot.chat.base import IncomingCommand
from bot.deployments.engine import EngineSettings
from bot.logging import set_up_logging
from bot.providers import known_here
from bot.store import audit, outbox
from bot.store import deployments as rows
from bot.store.database import Database, Tx, sqlite_url
from bot.store.migrate import migrate
from bot.store.tables import outbox as outbox_table
from tests.fakes.repositories import git
from tests.support.registry import RealRegistry
from tests.support.running import settings_for
from tests.support.world import World, make_world

LEASE = {"": timedelta(seconds=15)}
"""On SQLite the next life voids the leases of the one before; on PostgreSQL it waits for them."""
SHORT_LEASE = timedelta(seconds=2)

EMPTY = "empty.db"
"""The SQLite database every world starts with: up to date, nothing in it."""
INSIDE = 0.004
"""Seconds after the begin of a call at which it is 'inside'."""
LIFE = 40.0
"""Seconds after which a life that has not ended says what it waits for."""


class Power:
    """Counts boundaries and goes out at one of them. during: only between the first call of one part and of another."""

    def __init__(self, out_at: int | None, during: tuple[str, str] | None = None) -> None:
        self.out_at = out_at
        self.passed = 0
        self._during = during
        self._counts = during is None

    def calls(self, part: str) -> None:
        """A call of that part begins."""
        if self._during is not None and part in self._during:
            self._counts = part == self._during[0]

    def _passes(self) -> bool:
        self.passed += self._counts
        return self._counts and self.passed == self.out_at

    def boundary(self) -> None:
        if self._passes():
            os.kill(os.getpid(), signal.SIGKILL)

    def inside(self) -> threading.Timer | None:
        if not self._passes():
            return None
        timer = threading.Timer(INSIDE, os.kill, (os.getpid(), signal.SIGKILL))
        timer.start()
        return timer


class Cut:
    """A part of the application with a switch before, in and after each call that writes."""

    def __init__(self, name: str, part: Any, power: Power, names: frozenset[str]) -> None:
        self._name = name
        self._part = part
        self._power = power
        self._names = names

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if name not in self._names:
            return value

        async def call(*arguments: Any, **named: Any) -> Any:
            self._power.calls(self._name)
            self._power.boundary()
            timer = self._power.inside()
            result = await value(*arguments, **named)
            if timer is not None:
                timer.join()  # the call was quicker: then it is cut right after
            self._power.boundary()
            return result

        return call


SWITCHES = {
    "db": frozenset({"run", "together"}),
    "pipeline": frozenset({"find", "trigger", "look", "failure", "cancel"}),
    "writer": frozenset({"read", "find", "write", "remove"}),
    "delivery": frozenset({"sync", "look", "running", "failure"}),
    "console": frozenset({"post", "edit"}),
    "images": frozenset({"tag"}),
    "tagger": frozenset({"tag"}),
}
DURING = {"promotes": ("images", "writer")}
"""Scenario -> the part of it that is cut, where the rest is cut in others: here the state `tagging`."""


async def live(world: World, database_url: str, power: Power, commands: list[tuple[str, str]]) -> None:
    """One life of the bot: take the commands (again), and end when everything has ended and was told."""
    outside = Outside(
        poll=timedelta(milliseconds=30),
        engine=_engine(database_url),
        wrap=lambda name, part: Cut(name, pushing(world, name, part), power, SWITCHES.get(name, frozenset())),
    )
    app = App(settings_for(world, database_url), outside)
    await app.start()
    for number, (person, text) in enumerate(commands):
        await app.dispatcher.command(IncomingCommand("console", f"e{number}", person, "#releases", text))
        try:
            async with asyncio.timeout(LIFE):
                while not await _ended(app, number + 1):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise RuntimeError(f"Not ended: {await _left_open(app)}") from None
    await app.stop()


def _engine(database_url: str) -> EngineSettings:
    lease = LEASE.get(database_url, SHORT_LEASE)
    return EngineSettings(lease=lease, poll=timedelta(milliseconds=200), patience=timedelta(seconds=10))


async def _ended(app: App, number: int) -> bool:
    def look(tx: Tx) -> bool:
        # Counted, not asked for by number: on PostgreSQL an insert that was cut off leaves a gap in the numbers.
        seen = rows.history(tx, limit=10)
        return len(seen) >= number and all(one.state.is_final for one in seen) and outbox.lag(tx) == 0

    return await app.db.read(look)


async def _left_open(app: App) -> str:
    """What keeps a life from ending, for whoever reads of it."""

    def look(tx: Tx) -> str:
        seen = [f"{one.ref} {one.state.value}" for one in rows.history(tx, limit=10)]
        behind = tx.execute(select(outbox_table).where(outbox_table.c.wanted > outbox_table.c.sent)).all()
        return f"{seen}; not sent: {[dict(row._mapping) for row in behind]}"

    return await app.db.read(look)


def in_child(work: Callable[[], None], last_words: Path | None = None) -> int:
    """Run in a forked process; its exit code, negative for a signal. What it raised is written to `last_words`."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            words = traceback.format_exc()
            print(words, file=sys.stderr, flush=True)
            if last_words is not None:
                last_words.write_text(words)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


SCENARIOS: dict[str, list[tuple[str, str]]] = {
    "succeeds": [("owner", "/deploy app prod")],
    "fails": [("owner", "/deploy app prod")],
    "goes_back": [("owner", "/deploy app prod first"), ("owner", "/deploy app prod")],
    "promotes": [("owner", "/deploy app dev"), ("owner", "/promote app prod")],
}
EXPECTED: dict[str, dict[str, Any]] = {
    "succeeds": {"states": ["succeeded"], "builds": 1, "deploys": 1, "commits": 1, "personal": 0},
    "fails": {"states": ["failed"], "builds": 0, "deploys": 0, "commits": 0, "personal": 1},
    "goes_back": {"states": ["succeeded", "rolled_back"], "builds": 2, "deploys": 3, "commits": 3, "personal": 1},
    "promotes": {"states": ["succeeded", "succeeded"], "builds": 1, "deploys": 2, "commits": 2, "personal": 0},
}
REGISTRY = "KILL_REGISTRY"
"""Environment variable with the address of a registry that outlives all lives; `promotes` needs it."""
IMAGE = "image.txt"
"""File of a world: repository and digest of what its pipeline pushes."""


def prepare(directory: Path, scenario: str) -> World:
    """The world before the first command."""
    world = make_world(directory, verify={"timeout": "300ms", "settle": "1ms", "interval": "60ms"})
    if scenario == "fails":
        world.push("hello", test="echo 'AssertionError: 2 != 3' >&2; exit 1")
    if scenario == "goes_back":
        world.tag("first")
        world.push("broken")
    if scenario == "promotes":
        push_image(world)
    return world


def push_image(world: World) -> None:
    """What the pipeline of this world will say it pushed, and the names that a promotion gives it."""
    registry = RealRegistry(os.environ[REGISTRY])
    repository = f"shop/{world.directory.name}"

    def work() -> None:
        digest = asyncio.run(registry.push(repository, "hello"))
        (world.directory / IMAGE).write_text(f"{repository} {digest}")

    if in_child(work) != 0:
        raise SystemExit("no image")
    rule = {"image": f"{registry.host}/{repository}", "tags": ["{version}", "{environment}"]}
    world.change_environment("prod", promote=rule | {"git_tag": "{service}/{version}"})


def pushing(world: World, name: str, part: Any) -> Any:
    """The built-in pipeline, or one whose artifact is the image of this world."""
    image = world.directory / IMAGE
    return Pushing(part, image.read_text().split()[1]) if name == "pipeline" and image.exists() else part


class Pushing:
    """A pipeline whose artifact is an image of that digest."""

    def __init__(self, inner: Any, digest: str) -> None:
        self._inner = inner
        self._digest = digest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def find(self, request: Any) -> Any:
        run = await self._inner.find(request)
        if run is None or run.artifact is None:
            return run
        return replace(run, artifact=replace(run.artifact, digest=self._digest))


async def names_given(world: World, version: str) -> list[str]:
    """What is wrong with the names of the promoted release: in the registry and in Git, each there once."""
    repository, digest = (world.directory / IMAGE).read_text().split()
    registry = RealRegistry(os.environ[REGISTRY])
    meant = {tag: await registry.digest_of(repository, tag) for tag in (version, "prod")}
    tags = git(world.source, "for-each-ref", "--format=%(refname:short)", "refs/tags").split()
    problems = [f"{tag} is {found or 'nothing'}" for tag, found in meant.items() if found != digest]
    return problems + ([f"tags in Git: {tags}"] if tags != [f"app/{version}"] else [])


async def verdict(world: World, database_url: str, scenario: str) -> list[str]:
    """What is wrong now."""
    app = App(settings_for(world, database_url))
    wanted = EXPECTED[scenario]
    problems = []
    try:
        found = await app.db.read(lambda tx: rows.history(tx, limit=10))
        seen = {
            "states": [one.state.value for one in reversed(found)],
            "builds": world.count("builds"),
            "deploys": world.count("deploys"),
            "commits": len(world.config_log()),
            "personal": len([m for m in await app.console_store.newest("owner") if m.person == "owner"]),
        }
        problems += [f"{key}: {seen[key]} instead of {wanted[key]}" for key in wanted if seen[key] != wanted[key]]
        cards = [m.card for m in await app.console_store.newest("lead") if m.card]
        told = [card["state"] for card in cards]
        if told != wanted["states"]:
            problems.append(f"cards say {told}")
        if scenario in DURING:
            problems += await names_given(world, found[0].release_version)
        _, broken = await app.db.read(audit.verify)
        problems += [f"audit: {broken}"] if broken else []
        for one in found:
            path = await app.db.read(lambda tx, number=one.id: rows.path(tx, number))  # type: ignore[misc]
            if any(a.to_state != b.from_state for a, b in itertools.pairwise(path)):
                problems.append(f"{one.ref}: gap in {[step.to_state for step in path]}")
    finally:
        await app.http.aclose()
        app.db.close()
    return problems


def one_boundary(directory: Path, scenario: str, number: int | None, url: str) -> tuple[int, list[str]]:
    """Cut at the boundary, start again, look. Returns how many boundaries the first life passed (0 if it was cut)."""
    world = prepare(directory, scenario)
    if not url:
        (world.directory / ".slipway").mkdir()
        shutil.copy(directory.parent / EMPTY, world.directory / ".slipway" / "slipway.db")
    commands = SCENARIOS[scenario]
    counter = directory / "passed"
    last_words = directory / "last_words"

    def first() -> None:
        power = Power(number, DURING.get(scenario))
        asyncio.run(live(world, url, power, commands))
        counter.write_text(str(power.passed))

    code = in_child(first, last_words)
    passed = int(counter.read_text()) if counter.exists() else 0
    problems = []
    if code == -signal.SIGKILL:
        code = in_child(lambda: asyncio.run(live(world, url, Power(None), commands)), last_words)
    if code != 0:
        said = last_words.read_text() if last_words.exists() else ""
        problems.append(f"the last life ended with {code}: {said}")
    report = directory / "verdict.json"

    def look() -> None:
        report.write_text(json.dumps(asyncio.run(verdict(world, url, scenario))))

    in_child(look)
    problems += json.loads(report.read_text()) if report.exists() else ["no verdict"]
    shutil.rmtree(directory, ignore_errors=True)
    return passed, problems


def main() -> None:
    """See the module."""
    set_up_logging("error")  # to standard error: standard output is the report
    for name in ("anyio._backends._asyncio", "httpcore"):
        importlib.import_module(name)  # once here, not in every life
    known_here()
    base, scenario, shard, shards, stride = Path(sys.argv[1]), sys.argv[2], *(int(word) for word in sys.argv[3:6])
    template_url = sys.argv[6] if len(sys.argv) > 6 else ""
    numbers = itertools.count(1)
    like = f"kill_{scenario}_{shard}_empty"
    if template_url:
        create_database(template_url, like)
    migrated(template_url.replace("DATABASE", like) or sqlite_url(base / EMPTY))

    def run(number: int | None) -> tuple[int, list[str]]:
        name = f"kill_{scenario}_{shard}_{next(numbers)}"
        url = template_url.replace("DATABASE", name)
        if template_url:
            create_database(template_url, name, like)
        return one_boundary(base / f"world-{scenario}-{shard}-{number or 0}", scenario, number, url)

    boundaries, problems = run(None)
    print(json.dumps({"boundary": 0, "passed": boundaries, "problems": problems}), flush=True)
    for number in range(1 + shard * stride, boundaries + 1, shards * stride):
        _, problems = run(number)
        print(json.dumps({"boundary": number, "problems": problems}), flush=True)


def create_database(template_url: str, name: str, like: str = "template1") -> None:
    """A database of that name beside the others. In a child: this process must stay without connections."""

    def work() -> None:
        import psycopg

        address = template_url.replace("postgresql+psycopg", "postgresql").replace("DATABASE", "postgres")
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like}" STRATEGY FILE_COPY')

    if in_child(work) != 0:
        raise SystemExit("no database")


def migrated(url: str) -> None:
    """Bring an empty database up to date, once for all lives: each of them gets a copy."""

    def work() -> None:
        db = Database(url)
        migrate(db)
        db.close()

    if in_child(work) != 0:
        raise SystemExit("no schema")


if __name__ == "__main__":
    main()
