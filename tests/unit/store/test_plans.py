"""How SQLite finds things: by an index that stays small however long the past is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from bot.store import deployments as rows
from bot.store.database import Database, Tx, sqlite_url
from tests.support.databases import migrated


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with migrated(sqlite_url(tmp_path / "slipway.db")) as made:
        yield made


OF_WHAT = pytest.mark.parametrize(
    ("service", "environment"),
    [("", ""), ("pay", ""), ("", "prod"), ("pay", "prod")],
    ids=["all", "service", "environment", "target"],
)


@OF_WHAT
def test_what_is_open_is_found_among_what_is_open(db: Database, service: str, environment: str) -> None:
    """Not among all that ever was of the target, of which there may be thousands."""
    assert plan(db, lambda tx: rows.open_for(tx, service, environment)) == ["ix_deployments_open"]


@OF_WHAT
def test_the_newest_are_read_in_their_order(db: Database, service: str, environment: str) -> None:
    """Ten of them, and ten of the archive where these are not enough: neither is sorted out of a whole past."""
    found = steps(db, lambda tx: rows.history(tx, service, environment))
    assert not [
        step for step in found if "TEMP B-TREE" in step or (step.startswith("SCAN") and (service or environment))
    ]


def plan(db: Database, ask: Any) -> list[str]:
    """The indexes that the statements of a question use."""
    return [step.rpartition("INDEX ")[2].partition(" ")[0] for step in steps(db, ask)]


def steps(db: Database, ask: Any) -> list[str]:
    """How SQLite goes about the statements of a question, a line for each step."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        asked.append((statement, parameters))

    def work(tx: Tx) -> list[str]:
        event.listen(db.engine, "before_cursor_execute", note)
        ask(tx)
        event.remove(db.engine, "before_cursor_execute", note)
        found = [tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters) for statement, parameters in asked]
        return [str(row[3]) for answer in found for row in answer]

    return db.run_sync(work)
