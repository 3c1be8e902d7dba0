"""Rows of a burst in one statement: PostgreSQL takes any number of them as one JSON text, SQLite one after another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Integer,
    Row,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    insert,
    select,
)

from bot.store.database import Tx, insert_of
from bot.store.prepared import Prepared


class Json(str):
    """A value that is JSON text already."""

    __slots__ = ()


class InsertMany:
    """An INSERT of any number of rows, which all give the same columns."""

    def __init__(
        self,
        table: Table,
        once: Sequence[Column[Any]] = (),
        returning: Sequence[Column[Any]] = (),
        fixed: Mapping[str, ColumnElement[Any]] | None = None,
    ) -> None:
        """once: where a row with the same values of these is here already, nothing is added.

        returning: what is told of each row that was added; only where there is a `once`.

        fixed: what the database itself says of each row; on PostgreSQL alone.
        """
        self._table = table
        self._once = list(once)
        self._returning = tuple(returning)
        self._fixed = dict(fixed or {})
        self._statements: dict[tuple[str, ...], Any] = {}

    def run(self, tx: Tx, rows: Sequence[Mapping[str, Any]]) -> list[Row[Any]]:
        """Add them in their order."""
        if not rows:
            return []
        names = tuple(rows[0])
        if tx.dialect.name == "sqlite":
            return self._one_by_one(tx, names, rows)
        if names not in self._statements:
            self._statements[names] = self._statement(names)
        given = ",".join(_text(row, nth) for nth, row in enumerate(rows))
        done = tx.execute(self._statements[names], {"rows": f"[{given}]"})
        return list(done.all()) if self._returning else []

    def _one_by_one(self, tx: Tx, names: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> list[Row[Any]]:
        key = ("sqlite", *names)
        if not self._once:
            if key not in self._statements:
                self._statements[key] = Prepared(insert(self._table))
            self._statements[key].run_many(tx, rows)
            return []
        if key not in self._statements:
            made = insert_of("sqlite")(self._table).on_conflict_do_nothing(index_elements=self._once)
            self._statements[key] = made.returning(*self._returning) if self._returning else made
        added = [tx.execute(self._statements[key], _plain(row)) for row in rows]
        return [row for one in added for row in one] if self._returning else []

    def _statement(self, names: tuple[str, ...]) -> Any:
        shapes = [column("nth", Integer), *(column(name, self._table.c[name].type) for name in names)]
        given = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON)).table_valued(*shapes)
        given = given.render_derived("given", with_types=True)
        chosen = select(*(given.c[name] for name in names), *self._fixed.values()).order_by(given.c.nth)
        made = insert_of("postgresql")(self._table).from_select([*names, *self._fixed], chosen, include_defaults=False)
        if self._once:
            made = made.on_conflict_do_nothing(index_elements=self._once)
        return made.returning(*self._returning) if self._returning else made


def _text(row: Mapping[str, Any], nth: int) -> str:
    """One row as JSON."""
    plain = {name: value for name, value in row.items() if not isinstance(value, Json)}
    ready = "".join(f", {json.dumps(name)}: {value}" for name, value in row.items() if isinstance(value, Json))
    return f"{json.dumps(plain | {'nth': nth}, default=_instant)[:-1]}{ready}}}"


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: json.loads(value) if isinstance(value, Json) else value for name, value in row.items()}


def _instant(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no value of a row")
