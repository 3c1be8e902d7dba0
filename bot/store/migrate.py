"""Brings the database to the schema this code needs."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, text
from sqlalchemy.exc import InternalError, ProgrammingError

from bot.errors import SlipwayError
from bot.store.database import Database, Tx

HEAD = "0015"
"""The newest revision in migrations/versions; a test keeps it true, so that a start need not load Alembic to know."""


class SchemaTooNew(SlipwayError):
    """The database was migrated by a newer Slipway."""


def current(tx: Tx) -> str | None:
    """The revision the database is at, None for an empty one."""
    if not inspect(tx).has_table("alembic_version"):
        return None
    return tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def migrate(db: Database) -> bool:
    """Migrate if needed; True if anything was done.

    Raises:
        SchemaTooNew: a newer Slipway was here; going back is refused.
        DatabaseUnavailable: not reached.
    """
    if db.run_sync(current) == HEAD:
        return False
    # Only now: Alembic is a quarter of a second that an ordinary start does not need.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).resolve().parents[2] / "migrations"))
    with db.engine.connect() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except (ProgrammingError, InternalError) as error:
            raise SlipwayError(
                "This database account may not change the tables, and they are not those of this version.",
                hint="Run `slipway migrate` with the owner's SLIPWAY_DATABASE_URL first.",
            ) from error
        except CommandError as error:
            raise SchemaTooNew(
                "The database belongs to a newer Slipway than this one.",
                hint="Start the newer version again, or restore the backup made before the upgrade.",
            ) from error
        connection.commit()
    return True
