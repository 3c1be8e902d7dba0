"""SQLite beneath SQLAlchemy: its engines of one connection each, its log, and the short way to its driver."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import structlog
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import StaticPool

log = structlog.get_logger(__name__)

CHECKPOINT = 300
"""Transactions after which what they wrote is moved from the log into the file itself."""
LONGEST_LOG = 10_000
"""Pages of the log after which a commit moves them itself, should nobody else have."""


def make_engine(url: str, begin: str) -> Engine:
    """An engine of one connection for life, used by one thread at a time. begin: how its transactions do."""
    engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        assert isinstance(connection, sqlite3.Connection)
        connection.isolation_level = None  # we say BEGIN ourselves; the driver's own is deferred and late
        cursor = connection.cursor()
        pragmas = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON")
        for pragma in (*pragmas, f"wal_autocheckpoint={LONGEST_LOG}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        _driven(connection, begin)

    return engine


def on_sqlite(tx: Connection, sql: str, parameters: Any = (), many: bool = False) -> sqlite3.Cursor:
    """A statement straight to SQLite's driver, for what every command runs: by SQLAlchemy it costs thrice as much.

    many: `parameters` are those of as many runs. Raises as SQLAlchemy does, without the parameters in the error.
    """
    if not tx.in_transaction():
        tx.begin()
    return _driven(tx, sql, parameters, many)


def _driven(tx: Connection, sql: str, parameters: Any = (), many: bool = False) -> sqlite3.Cursor:
    cursor = cast(sqlite3.Cursor, tx.connection.cursor())
    try:
        return cursor.executemany(sql, parameters) if many else cursor.execute(sql, parameters)
    except sqlite3.IntegrityError as error:
        raise IntegrityError(sql, None, error) from error
    except sqlite3.OperationalError as error:
        raise OperationalError(sql, None, error) from error
    except sqlite3.Error as error:
        raise DBAPIError(sql, None, error) from error


class Kept:
    """The one connection of an SQLite engine, kept between transactions: to ask for it takes as long as a statement."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._connection: Connection | None = None

    def connect(self) -> Kept:
        """As an engine's."""
        return self

    def __enter__(self) -> Connection:
        if self._connection is None:
            self._connection = self.engine.connect()
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After an error it is given back, and what a commit that failed left open in SQLite is ended."""
        if kind is None or self._connection is None:
            return
        # SQLAlchemy takes such a transaction for over, and SQLite could begin no other.
        self._connection.connection.rollback()
        self._connection.close()
        self._connection = None

    def dispose(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()
        self.engine.dispose()


class Checkpoints:
    """Moves what was committed from SQLite's log into its file, beside the work: a commit that did it would be slow.

    Source: sqlite.org "Write-Ahead Logging", 3.2 and 6: a passive checkpoint waits for nobody and holds nobody up.
    """

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url, "BEGIN")
        self._thread = ThreadPoolExecutor(1, "db-checkpoint")
        self._commits = 0

    def committed(self) -> None:
        """One more transaction was."""
        self._commits += 1
        if self._commits >= CHECKPOINT:
            self._commits = 0
            self._thread.submit(self._move)

    def _move(self) -> None:
        try:
            connection = self._engine.raw_connection()
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            finally:
                connection.close()
        except (sqlite3.Error, DBAPIError) as error:  # the next one does it, or a commit
            log.warning("checkpoint_failed", error=str(error))

    def close(self) -> None:
        """Finish what runs."""
        self._thread.shutdown(wait=True)
        self._engine.dispose()
