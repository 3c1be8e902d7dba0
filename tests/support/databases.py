"""Databases for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bot.store.database import Database
from bot.store.migrate import migrate


@contextmanager
def migrated(url: str) -> Iterator[Database]:
    """The database there, brought up to date, and closed in the end."""
    database = Database(url)
    try:
        migrate(database)
        yield database
    finally:
        database.close()
