"""A backup is the database and the Git repositories: a restored copy goes on and says nothing twice."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from pathlib import Path

from bot.deployments.model import State
from tests.support import postgres
from tests.support.postgres import PostgresServer
from tests.support.running import running
from tests.support.world import World, make_world


def back_up(data: Path, to: Path) -> None:
    """As docs/operations.md says: SQLite's own online backup, while Slipway runs."""
    to.mkdir(parents=True)
    with sqlite3.connect(data / "slipway.db") as source, sqlite3.connect(to / "slipway.db") as target:
        source.backup(target)
    source.close()
    target.close()


def restore(backup: Path, data: Path) -> None:
    """An empty data directory with nothing but the database: mirrors and caches are made anew."""
    shutil.rmtree(data)
    data.mkdir()
    shutil.copy(backup / "slipway.db", data / "slipway.db")


async def test_a_restored_copy_goes_on_and_says_nothing_twice(tmp_path: Path) -> None:
    """The machine is lost; what had ended stays ended, its messages are not repeated, and the next one works."""
    world: World = make_world(tmp_path / "world")
    data = world.directory / ".slipway"
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
        before = [(one.id, one.text) for one in await slipway.messages("owner")]
        back_up(data, tmp_path / "backup")
    restore(tmp_path / "backup", data)
    async with running(world) as slipway:
        await slipway.quiet()
        assert [(one.id, one.text) for one in await slipway.messages("owner")] == before
        assert (world.count("builds"), world.count("deploys"), len(world.config_log())) == (1, 1, 1)
        world.push("second")
        await slipway.say("owner", "/deploy app prod", event_id="second")
        assert (await slipway.ends(2)).state is State.SUCCEEDED
        await slipway.audit()


async def test_a_copy_from_the_middle_finds_what_was_done_since(tmp_path: Path) -> None:
    """The backup is older than the Git commit it leads to: the commit is found by its intent, not made again."""
    world = make_world(tmp_path / "world")
    data = world.directory / ".slipway"
    taken = False
    async with running(world) as slipway:
        write = slipway.app.providers.writer.write

        async def copying_first(*arguments: object, **named: object) -> object:
            nonlocal taken
            if not taken:
                back_up(data, tmp_path / "backup")
                taken = True
            return await write(*arguments, **named)  # type: ignore[arg-type]

        slipway.app.providers.writer.write = copying_first  # type: ignore[method-assign, assignment]
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
    assert taken
    artifacts = tmp_path / "artifacts"
    shutil.copytree(data / "artifacts", artifacts)
    restore(tmp_path / "backup", data)
    shutil.copytree(artifacts, data / "artifacts")
    async with running(world) as slipway:
        seen = await slipway.ends()
        assert seen.state is State.SUCCEEDED
        assert len(world.config_log()) == 1
        cards = [card for card in await slipway.cards("owner", "d-1") if card["place"] == "#releases"]
        assert [card["state"] for card in cards] == ["succeeded"]


async def test_postgresql_is_backed_up_and_restored(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """`pg_dump -Fc` while it runs and `pg_restore` into an empty database: the copy goes on and says nothing twice."""
    world = make_world(tmp_path / "world")
    binaries, dump = postgres._binaries(), tmp_path / "slipway.dump"
    connection = ["-h", str(postgres_server.directory), "-U", "postgres"]
    with postgres_server.database() as old, postgres_server.database() as new:
        names = [url.partition("?")[0].rpartition("/")[2] for url in (old, new)]
        async with running(world, old) as slipway:
            await slipway.say("owner", "/deploy app prod")
            await slipway.ends()
            before = [(one.id, one.text) for one in await slipway.messages("owner")]
            subprocess.run([binaries / "pg_dump", *connection, "-Fc", "-f", dump, names[0]], check=True)
        subprocess.run([binaries / "pg_restore", *connection, "-d", names[1], dump], check=True)
        async with running(world, new) as slipway:
            await slipway.quiet()
            assert [(one.id, one.text) for one in await slipway.messages("owner")] == before
            assert (world.count("builds"), world.count("deploys"), len(world.config_log())) == (1, 1, 1)
            world.push("second")
            await slipway.say("owner", "/deploy app prod", event_id="second")
            assert (await slipway.ends(2)).state is State.SUCCEEDED
            await slipway.audit()
