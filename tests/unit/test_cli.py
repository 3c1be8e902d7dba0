"""The command line beside a Slipway that ran."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.core import TyperGroup as Group
from typer.main import get_command
from typer.testing import CliRunner

from bot.cli import FLAGS, VALUES, plain_serve
from bot.deployments.model import State
from bot.store import deployments as rows
from bot.store.archive import KEPT
from bot.store.database import Database, Tx, sqlite_url
from bot.store.migrate import migrate
from bot.terminal import app
from tests.support.rows import new_deployment
from tests.support.world import make_world


@pytest.mark.parametrize("command", [["why", "app", "prod"], ["audit", "verify"]])
def test_tables_of_another_version_are_named(tmp_path: Path, command: list[str]) -> None:
    """Not 'the database does not answer': somebody upgraded the programs and not yet the tables."""
    world = make_world(tmp_path / "world")
    data = world.directory / ".slipway"
    data.mkdir()
    db = Database(sqlite_url(data / "slipway.db"))
    migrate(db)
    runner = CliRunner()
    assert runner.invoke(app, [*command, "--config", str(world.directory)]).exit_code == 0
    db.run_sync(lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = '0001'")))
    db.close()
    answer = runner.invoke(app, [*command, "--config", str(world.directory)])
    assert answer.exit_code == 1
    assert "slipway migrate" in answer.output


def test_the_archive_is_made_from_the_command_line(tmp_path: Path) -> None:
    """With the owner's account; never what reports may still be asked about."""
    world = make_world(tmp_path / "world")
    data = world.directory / ".slipway"
    data.mkdir()
    db = Database(sqlite_url(data / "slipway.db"))
    migrate(db)
    at = datetime.now(UTC) - timedelta(days=200)

    def long_ago(tx: Tx) -> None:
        for number in range(KEPT + 1):
            made, _ = rows.create(tx, new_deployment(f"k{number}"), at)
            rows.move(tx, made, State.SUCCEEDED, at=at, actor="owner")

    db.run_sync(long_ago)
    db.close()
    runner, where = CliRunner(), ["--config", str(world.directory)]
    assert runner.invoke(app, ["archive", "--days", "30", *where]).exit_code == 2
    assert "archived 0 deployments" in runner.invoke(app, ["archive", *where]).output
    assert "archived 1 deployments" in runner.invoke(app, ["archive", "--days", "100", *where]).output


@pytest.mark.parametrize(
    "line",
    [
        "serve",
        "serve --config here --data there --host 0.0.0.0 --port 80 --console",
        "serve --no-console --console",
        "serve --port 0 --port 1",
        "serve --data --port",
    ],
)
def test_the_short_way_to_serve_reads_as_the_long_one(line: str) -> None:
    """The server begins without what reads command lines, and must understand the same."""
    words = line.split()
    command = get_command(app)
    assert isinstance(command, Group)
    context = command.commands["serve"].make_context("serve", words[1:])
    assert plain_serve(words) == {name: value for name, value in context.params.items() if value is not None}


def test_the_short_way_knows_every_option() -> None:
    """One that is added to `serve` alone would make every start with it a slow one."""
    command = get_command(app)
    assert isinstance(command, Group)
    options = {name for one in command.commands["serve"].params for name in (*one.opts, *one.secondary_opts)}
    assert options == {*VALUES, *FLAGS}


@pytest.mark.parametrize("line", ["", "demo", "serve --help", "serve --port many", "serve --port", "serve now"])
def test_all_else_goes_the_long_way(line: str) -> None:
    """Which helps, or says what is wrong."""
    assert plain_serve(line.split()) is None
