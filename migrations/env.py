"""How migrations run: one at a time, with short lock time-outs, so that a running replica is never held up for long.

A step must work with the code before and after it: add, backfill, switch, then drop, in separate steps.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, text

import bot.store.alerts
import bot.store.console
import bot.store.firings
import bot.store.holds
import bot.store.indexes
import bot.store.log_links
import bot.store.tables
import bot.store.trains  # noqa: F401
from bot.store.database import metadata

MIGRATION_LOCK = 0x511B_0A11
"""The advisory lock that lets one replica migrate at a time."""


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Only our own tables are compared: others in the same database are none of our business."""
    return kind != "table" or name in metadata.tables


def run(connection: Connection) -> None:
    """Migrate over one connection, under a lock."""
    sqlite = connection.dialect.name == "sqlite"
    if not sqlite:
        connection.execute(text("SET lock_timeout = '5s'"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=include_name,
        render_as_batch=sqlite,
        compare_type=True,
        transaction_per_migration=not sqlite,
    )
    try:
        with context.begin_transaction():
            context.run_migrations()
    finally:
        if not sqlite:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = context.config.get_main_option("sqlalchemy.url") or context.get_x_argument(as_dictionary=True).get("url")
    if not url:
        raise SystemExit("Say which database: alembic -x url=postgresql+psycopg://...")
    with create_engine(url).connect() as connection:
        run(connection)
        connection.commit()
