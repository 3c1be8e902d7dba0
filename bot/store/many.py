"""Rows of a burst in one statement: PostgreSQL takes any number of them as one JSON text, SQLite one after another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Integer, Row, Table, Text, bindparam, cast, column, func, insert, select

from bot.store.database import Tx, insert_of
from bot.store.prepared import Prepared


class InsertMany:
    """An INSERT of any number of rows, which all give the same columns."""

    def __init__(self, table: Table, once: Column[Any] | None = None, returning: Sequence[Column[Any]] = ()) -> None:
        """once: where a row with the same value of it is here already, nothing is added.

        returning: what is told of each row that was added; only where there is a `once`.
        """
        self._table = table
        self._once = once
        self._returning = tuple(returning)
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
        given = json.dumps([row | {"nth": nth} for nth, row in enumerate(map(dict, rows))], default=_instant)
        done = tx.execute(self._statements[names], {"rows": given})
        return list(done.all()) if self._returning else []

    def _one_by_one(self, tx: Tx, names: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> list[Row[Any]]:
        key = ("sqlite", *names)
        if self._once is None:
            if key not in self._statements:
                self._statements[key] = Prepared(insert(self._table))
            self._statements[key].run_many(tx, rows)
            return []
        if key not in self._statements:
            made = insert_of("sqlite")(self._table).on_conflict_do_nothing(index_elements=[self._once])
            self._statements[key] = made.returning(*self._returning) if self._returning else made
        added = [tx.execute(self._statements[key], dict(row)) for row in rows]
        return [row for one in added for row in one] if self._returning else []

    def _statement(self, names: tuple[str, ...]) -> Any:
        shapes = [column("nth", Integer), *(column(name, self._table.c[name].type) for name in names)]
        given = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON)).table_valued(*shapes)
        given = given.render_derived("given", with_types=True)
        chosen = select(*(given.c[name] for name in names)).order_by(given.c.nth)
        made = insert_of("postgresql")(self._table).from_select(list(names), chosen, include_defaults=False)
        if self._once is not None:
            made = made.on_conflict_do_nothing(index_elements=[self._once])
        return made.returning(*self._returning) if self._returning else made


def _instant(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no value of a row")
