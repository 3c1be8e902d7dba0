"""What `slipway doctor` looks at in the database: reach, version, schema, room, and who may rewrite the audit log."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from bot.catalog.model import Catalog
from bot.doctor import Finding
from bot.errors import SlipwayError
from bot.store.database import Database, Tx
from bot.store.migrate import HEAD, current

if TYPE_CHECKING:
    from bot.settings import Settings

SYSTEM = "database"
OLDEST = 130_000
ROOM = 1_000_000_000
"""Bytes that should be free where SQLite writes."""


async def check(settings: Settings, _catalog: Catalog) -> AsyncIterator[Finding]:
    """Every finding; nothing is written."""
    db = Database(settings.database)
    try:
        found = await db.read(lambda tx: list(_look(tx)))
    except (SlipwayError, SQLAlchemyError) as error:
        said = error.message if isinstance(error, SlipwayError) else "The database refuses us."
        fix = "Check the host, the account and the network of SLIPWAY_DATABASE_URL."
        found = [Finding(SYSTEM, said, fix)]
    finally:
        await asyncio.to_thread(db.close)
    for one in found:
        yield one
    if settings.database_url is None:
        yield _room(settings)


def _look(tx: Tx) -> Iterator[Finding]:
    if tx.dialect.name == "sqlite":
        said = str(tx.execute(text("PRAGMA quick_check")).scalar_one())
        yield Finding(
            SYSTEM, "the file is whole" if said == "ok" else said, "" if said == "ok" else "Restore a backup."
        )
    else:
        yield _version(tx)
    yield _schema(current(tx))
    if tx.dialect.name != "sqlite" and current(tx) is not None:
        yield _rights(tx)


def _version(tx: Tx) -> Finding:
    number = int(tx.execute(text("SHOW server_version_num")).scalar_one())
    fix = "" if number >= OLDEST else "Slipway needs PostgreSQL 13 or newer."
    return Finding(SYSTEM, f"PostgreSQL {number // 10_000} answers", fix)


def _schema(revision: str | None) -> Finding:
    if revision == HEAD:
        return Finding(SYSTEM, f"the tables are those of this version ({HEAD})")
    if revision is None:
        return Finding(SYSTEM, "there are no tables yet; the first start makes them")
    fix = "Run `slipway migrate` with the owner's account." if revision < HEAD else "Run the newer Slipway."
    return Finding(SYSTEM, f"the tables are at {revision}, this version is at {HEAD}", fix)


def _rights(tx: Tx) -> Finding:
    may = tx.execute(text("SELECT has_table_privilege(current_user, 'audit', 'UPDATE')")).scalar_one()
    if may:
        return Finding(
            SYSTEM, "this account may rewrite the audit log; deploy/postgres/roles.sql makes one that cannot"
        )
    return Finding(SYSTEM, "this account may only add to the audit log")


def _room(settings: Settings) -> Finding:
    free = shutil.disk_usage(settings.data_directory).free
    fix = "" if free >= ROOM else f"Make room in {settings.data_directory}."
    return Finding(SYSTEM, f"{free / 1e9:.0f} GB are free", fix)
