"""One database, two kinds: SQLite (embedded, one process) or PostgreSQL (replicas). SQLAlchemy stops in this room.

Work is a plain function `fn(connection) -> value`, run as one transaction in a worker thread: all of it happens or
nothing. A function may be run a second time when the connection broke before its commit, so it must not act on the
outside world.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import structlog
from sqlalchemy import DateTime, Dialect, MetaData, create_engine, make_url
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.types import TypeDecorator

from bot.errors import ProviderUnavailable, SlipwayError
from bot.store.batches import Batches
from bot.store.sqlite import Checkpoints, Kept, make_engine

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.dialects import postgresql

log = structlog.get_logger(__name__)

T = TypeVar("T")
Tx = Connection
"""An open transaction; other rooms pass it on and never look inside."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

POSTGRES_THREADS = 8
GATHER = 0.02
"""Seconds in which glances meet."""

LAST = "slipway_last"
"""Where an open transaction keeps what is done once at its end: rank and function -> what it is given."""

WORDS = "slipway_words"
"""Where an open transaction keeps what is said together with its commit: SQL and its parameters."""

SENDER = "slipway_sender"
"""The execution option that names the sender of signals."""
SIGNALS = "slipway_signals"
"""Where an open transaction keeps the signals to be sent with its commit (see `signals.py`)."""


class DatabaseUnavailable(ProviderUnavailable):
    """The database does not answer, or is full; nothing was changed by this call."""


class DatabaseInUse(SlipwayError):
    """Another process has this SQLite file."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware UTC in Python, `timestamptz` in PostgreSQL, text without zone (UTC) in SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive values: they have no meaning here."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        """For SQLite all in one step: every command stores several instants."""
        return _utc_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _utc_text(value: datetime | None) -> str | None:
    """`2026-11-24 02:00:00.000000`, as SQLAlchemy writes an instant into SQLite, but in UTC."""
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError("a naive datetime cannot be stored")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def insert_of(database: str) -> Any:
    """The INSERT of `sqlite` or `postgresql`, which knows ON CONFLICT; only that dialect is loaded."""
    return importlib.import_module(f"sqlalchemy.dialects.{database}").insert


def insert_into(tx: Tx, table: Table) -> postgresql.Insert:
    """An INSERT that knows ON CONFLICT, which both databases understand alike."""
    statement: postgresql.Insert = insert_of(tx.dialect.name)(table)
    return statement


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path}"


class Database:
    """Transactions as functions, run in worker threads.

    SQLite has one writing connection in one thread, so that writers queue here and never meet `database is locked`,
    and two that read: one in a thread, and one in the event loop for what takes microseconds. PostgreSQL has a pool.
    """

    def __init__(self, url: str) -> None:
        """Take a SQLAlchemy URL; nothing is opened yet."""
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._lock_file: int | None = None
        self._together: Batches[Callable[[Tx], Any], Any] = Batches(self._run_all)
        self._gathering: asyncio.Future[None] | None = None
        self._glances: Batches[Callable[[Tx], Any], Any] = Batches(self._read_all)
        self.sender = uuid4().hex[:16]
        if self.is_sqlite:
            self._engine = make_engine(url, "BEGIN IMMEDIATE")
            self._writer: Engine | Kept = Kept(self._engine)
            self._reader: Engine | Kept = Kept(make_engine(url, "BEGIN"))
            self._peeker: Engine | Kept = Kept(make_engine(url, "BEGIN"))
            self._checkpoints: Checkpoints | None = Checkpoints(url)
            self._write_threads = ThreadPoolExecutor(1, "db-write")
            self._read_threads = ThreadPoolExecutor(1, "db-read")
        else:
            self._checkpoints = None
            self._engine = self._writer = self._reader = self._peeker = create_engine(
                url,
                pool_size=POSTGRES_THREADS,
                max_overflow=0,
                pool_recycle=1800,
                execution_options={SENDER: self.sender},
                connect_args={"connect_timeout": 5, "options": "-c timezone=UTC -c lock_timeout=5s"},
            )
            self._write_threads = self._read_threads = ThreadPoolExecutor(POSTGRES_THREADS, "db")
        self._at_once = self._writer if self.is_sqlite else self._engine.execution_options(isolation_level="AUTOCOMMIT")
        if not self.is_sqlite:
            self._reader = self._at_once

    def claim_file(self) -> None:
        """Make this process the only one on an SQLite file (an advisory lock beside it, held for life).

        Raises:
            DatabaseInUse: another process has it.
        """
        if not self.is_sqlite or not self.url.database or self._lock_file is not None:
            return
        Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.url.database + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise DatabaseInUse(
                f"Another Slipway already runs on {self.url.database}.",
                hint="Stop it first, or choose another directory; several replicas need PostgreSQL.",
            ) from error
        self._lock_file = handle

    async def run(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in one writing transaction.

        Raises:
            DatabaseUnavailable: not reached, cut off or full; nothing was changed, unless cut off in the commit itself.
        """
        return await asyncio.get_running_loop().run_in_executor(self._write_threads, self.run_sync, fn)

    async def at_once(self, fn: Callable[[Tx], T]) -> T:
        """As `run`, with each statement committed by itself on PostgreSQL; it may be run again although it was done.

        So a lock that a statement takes is held while the server is at it, never while this process is held up.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._write_threads, _transact, self._at_once, fn, False
        )

    async def together(self, fn: Callable[[Tx], T]) -> T:
        """As `run`, in one transaction with whatever else waits for it now: one commit for a burst of small works.

        If one of them fails, each is run by itself, so that none suffers for another.
        """
        value: T = await self._together.add(fn)
        return value

    async def _run_all(self, works: Sequence[Callable[[Tx], Any]]) -> list[Any]:
        return await self.run(lambda tx: [work(tx) for work in works])

    async def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn`, which only reads. Raises DatabaseUnavailable.

        On SQLite in one transaction. On PostgreSQL without: there each statement sees what is committed by then anyhow,
        and to begin and to end one costs as much as what is asked in it.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._read_threads, _transact, self._reader, fn, self.is_sqlite
        )

    async def glance(self, fn: Callable[[Tx], T]) -> T:
        """As `read`, for who looks now and then: whatever looks within a moment does it on one way to the database.

        If one of them fails, each is run by itself.
        """
        if self.is_sqlite:
            return await self.read(fn)
        if self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.create_future()
            loop.call_later(GATHER, self._gathered)
        await asyncio.shield(self._gathering)
        value: T = await self._glances.add(fn)
        return value

    def _gathered(self) -> None:
        gathering, self._gathering = self._gathering, None
        if gathering is not None and not gathering.done():
            gathering.set_result(None)

    async def _read_all(self, works: Sequence[Callable[[Tx], Any]]) -> list[Any]:
        return await self.read(lambda tx: [work(tx) for work in works])

    async def peek(self, fn: Callable[[Tx], T]) -> T:
        """As `read`, for a look at a few rows by an index: on SQLite that takes less than to hand it to a thread."""
        if not self.is_sqlite:
            return await self.read(fn)
        return _transact(self._peeker, fn, True)

    def run_sync(self, fn: Callable[[Tx], T]) -> T:
        """As `run`, in the calling thread."""
        value = _transact(self._writer, fn, False)
        if self._checkpoints is not None:
            self._checkpoints.committed()
        return value

    @property
    def engine(self) -> Engine:
        """The writing engine, for migrations."""
        return self._engine

    def close(self) -> None:
        """Finish what runs and close every connection."""
        self._write_threads.shutdown(wait=True)
        self._read_threads.shutdown(wait=True)
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._writer.dispose()
        self._reader.dispose()
        self._peeker.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def _transact(engine: Engine | Kept, fn: Callable[[Tx], T], read_only: bool) -> T:
    try:
        try:
            return _once(engine, fn, read_only)
        except DBAPIError as error:
            if not error.connection_invalidated or getattr(error, "in_commit", False):
                raise
            return _once(engine, fn, read_only)
    except OperationalError as error:
        raise DatabaseUnavailable(_sentence(error), hint="Nothing was changed; try again in a moment.") from error


def _once(engine: Engine | Kept, fn: Callable[[Tx], T], read_only: bool) -> T:
    with engine.connect() as connection:
        for kept in (LAST, SIGNALS, WORDS):
            connection.info.pop(kept, None)
        try:
            value = fn(connection)
            _do_last(connection)
            _add_signals(connection)
            if read_only:
                connection.rollback()
            else:
                _commit(connection)
        except BaseException:
            connection.rollback()
            raise
        return value


def _commit(connection: Connection) -> None:
    words = connection.info.pop(WORDS, None)
    if words and connection.connection.driver_connection.closed:  # type: ignore[union-attr]
        connection.invalidate()
        raise OperationalError("COMMIT", None, EOFError("no connection"), connection_invalidated=True)
    try:
        if words:
            _say_and_commit(connection, words)
        connection.commit()
    except DBAPIError as error:
        # The server may have committed before the answer was lost, so this must not be run again blindly.
        error.in_commit = True  # type: ignore[attr-defined]
        raise


def _say_and_commit(connection: Connection, words: Sequence[tuple[str, Sequence[str]]]) -> None:
    """All in one message, for which the driver has to write the parameters into the text. PostgreSQL alone.

    Source: postgresql.org, "Frontend/Backend Protocol", Simple Query: several statements, until one of them fails.
    """
    driver: Any = connection.connection.driver_connection
    dbapi: Any = connection.dialect.loaded_dbapi
    statements = [sql for sql, _ in words] + ([] if driver.autocommit else ["COMMIT"])
    try:
        with dbapi.ClientCursor(driver) as cursor:
            cursor.execute("; ".join(statements), [value for _, values in words for value in values])
    except dbapi.Error as error:
        is_lost = connection.dialect.is_disconnect(error, driver, None)
        if is_lost:
            connection.invalidate()
        raise DBAPIError.instance(
            "COMMIT", None, error, dbapi.Error, connection_invalidated=is_lost, dialect=connection.dialect
        ) from error


def with_commit(tx: Tx, sql: str, parameters: Sequence[str]) -> None:
    """Have PostgreSQL told this together with the commit, in one message; `%s` stands for a parameter.

    For what locks something that all transactions need: so the others wait for the server alone, never for this
    process, which may be held up, or stopped, at any time.
    """
    tx.info.setdefault(WORDS, []).append((sql, parameters))


def at_end(tx: Tx, work: Callable[[Tx, list[Any]], None], item: object, rank: int = 0) -> None:
    """Have `work(tx, items)` done once at the end of the transaction, with everything that was put there for it.

    rank: what locks something that all transactions need has a high one, and comes last.
    """
    tx.info.setdefault(LAST, {}).setdefault((rank, work), []).append(item)


def _do_last(connection: Connection) -> None:
    """What asked to be done once at the end, however many works the transaction holds."""
    waiting = connection.info.pop(LAST, None)
    for rank, work in sorted(waiting or (), key=itemgetter(0)):
        work(connection, waiting[rank, work])


def _add_signals(connection: Connection) -> None:
    """As the last thing before the commit; PostgreSQL delivers them if it commits."""
    for channel, payload in connection.info.pop(SIGNALS, None) or ():
        with_commit(connection, "SELECT pg_notify(%s, %s)", (channel, payload))


def _sentence(error: OperationalError) -> str:
    text = str(error.orig)
    if "disk is full" in text or "No space left" in text:
        return "The disk of the database is full."
    if "readonly database" in text or "read-only" in text:
        return "The database is read-only."
    return "The database does not answer."
