"""Statements that every command runs: put into words once per kind of database, not at every call."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

from sqlalchemy import Column, Dialect, Table
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from bot.store.database import Tx, insert_of
from bot.store.sqlite import on_sqlite

_ToDriver = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """sql as the driver takes it; fixed: what the statement itself holds; to_driver: what converts a value, by name."""

    sql: str
    order: tuple[str, ...] | None
    fixed: Mapping[str, Any]
    to_driver: tuple[tuple[str, _ToDriver], ...]

    def parameters(self, values: Mapping[str, Any]) -> Any:
        """As the driver takes them: by position or by name."""
        given = {**self.fixed, **values}
        for name, convert in self.to_driver:
            given[name] = convert(given[name])
        return tuple([given[name] for name in self.order]) if self.order is not None else given


class Done(Protocol):
    """As much of SQLAlchemy's result as is used of these statements."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        ...

    @property
    def lastrowid(self) -> Any:
        """The id of the row that was inserted last, on SQLite."""
        ...

    def all(self) -> Sequence[Any]:
        """Every row."""
        ...

    def one(self) -> Any:
        """The one row. Raises if there are none or more."""
        ...

    def scalar(self) -> Any:
        """The first value of the first row; None: no row."""
        ...

    def scalar_one(self) -> Any:
        """The first value of the one row. Raises as `one`."""
        ...

    def scalar_one_or_none(self) -> Any:
        """The first value of the one row; None: no row. Raises if there are more."""
        ...


class _OnSqlite:
    """What SQLite's driver gave; rows are tuples."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.rowcount = cursor.rowcount
        self.lastrowid = cursor.lastrowid
        self._cursor = cursor

    def all(self) -> Sequence[Any]:
        return self._cursor.fetchall()

    def one(self) -> Any:
        rows = self.all()
        if not rows:
            raise NoResultFound("no row")
        if len(rows) > 1:
            raise MultipleResultsFound("more than one row")
        return rows[0]

    def scalar(self) -> Any:
        rows = self.all()
        return rows[0][0] if rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:
        try:
            return self.scalar_one()
        except NoResultFound:
            return None


class Prepared:
    """A statement of SQLAlchemy Core whose text and conversions are kept.

    Core looks the text up again at each call, for which it walks the statement, and that costs as much as SQLite's own
    work. What it does beyond that is not done here: no defaults of Python, no lists as parameters, and what comes back
    is what the driver gives (numbers and text; no instants, no JSON).
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def run(self, tx: Tx, values: Mapping[str, Any]) -> Done:
        """Run it with these values: of columns for an INSERT or SET, else of the statement's own parameters."""
        compiled = self._for(tx.dialect, values)
        if tx.dialect.name == "sqlite":
            return _OnSqlite(on_sqlite(tx, compiled.sql, compiled.parameters(values)))
        return tx.exec_driver_sql(compiled.sql, compiled.parameters(values))

    def run_many(self, tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each of the rows, which have the same names in the same order."""
        compiled = self._for(tx.dialect, rows[0])
        parameters = [compiled.parameters(row) for row in rows]
        if tx.dialect.name == "sqlite":
            on_sqlite(tx, compiled.sql, parameters, many=True)
        else:
            tx.exec_driver_sql(compiled.sql, parameters)

    def _for(self, dialect: Dialect, values: Mapping[str, Any]) -> _Compiled:
        key = (dialect.name, *values)
        known = self._compiled.get(key)
        if known is None:
            known = self._compiled[key] = self._compile(dialect, list(values))
        return known

    def _compile(self, dialect: Dialect, names: list[str]) -> _Compiled:
        made = cast(SQLCompiler, self._statement.compile(dialect=dialect, column_keys=names))
        conversions = {
            name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in made.binds.items()
        }
        return _Compiled(
            sql=str(made),
            order=tuple(made.positiontup) if made.positiontup is not None else None,
            fixed={name: value for name, value in made.params.items() if name not in names},
            to_driver=tuple((name, convert) for name, convert in conversions.items() if convert is not None),
        )


class InsertOnce:
    """An INSERT that does nothing where that key is there already."""

    def __init__(self, table: Table, key: Sequence[Column[Any]]) -> None:
        """table: with an `id` that the database counts; key: the columns that are unique together."""
        self._table = table
        self._key = list(key)

    @cached_property
    def _sqlite(self) -> Prepared:
        return Prepared(insert_of("sqlite")(self._table).on_conflict_do_nothing(index_elements=self._key))

    @cached_property
    def _postgresql(self) -> Prepared:
        insert = insert_of("postgresql")(self._table).on_conflict_do_nothing(index_elements=self._key)
        return Prepared(insert.returning(self._table.c.id))

    def run(self, tx: Tx, values: Mapping[str, Any]) -> int | None:
        """Insert these values by column. Returns the new id, or None: it is there already."""
        if tx.dialect.name == "sqlite":
            done = self._sqlite.run(tx, values)
            return done.lastrowid if done.rowcount else None
        number: int | None = self._postgresql.run(tx, values).scalar_one_or_none()
        return number
