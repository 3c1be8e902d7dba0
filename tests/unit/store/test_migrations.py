"""Migrations and models agree, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import bot.store.alerts
import bot.store.archive
import bot.store.console
import bot.store.emergencies
import bot.store.holds
import bot.store.indexes
import bot.store.log_links
import bot.store.tables
import bot.store.trains  # noqa: F401
from bot.store.database import Database, metadata
from bot.store.migrate import HEAD, SchemaTooNew, migrate

MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def test_migrated_schema_is_what_the_models_say(db: Database) -> None:
    """A column added to a table and forgotten in a migration would break the first start after an upgrade."""
    assert migrate(db)
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})
        assert compare_metadata(context, metadata) == []


def test_a_second_start_has_nothing_to_do(db: Database) -> None:
    """An ordinary start must not pay for Alembic."""
    assert migrate(db)
    assert not migrate(db)


def test_the_constant_is_the_newest_revision() -> None:
    """A start trusts the constant instead of loading Alembic."""
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_a_newer_schema_is_refused(db: Database) -> None:
    """Old code on a new schema could lose data; it is told to step back."""
    migrate(db)
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="newer Slipway"):
        migrate(db)


def test_the_way_down_leaves_nothing(db: Database) -> None:
    """A downgrade that fails half-way is worse than none."""
    from alembic import command
    from alembic.config import Config

    migrate(db)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with db.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
    assert migrate(db)
