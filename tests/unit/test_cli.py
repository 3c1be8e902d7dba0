"""The command line beside a Slipway that ran."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from bot.cli import app
from bot.store.database import Database, sqlite_url
from bot.store.migrate import migrate
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
