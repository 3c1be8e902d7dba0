"""Deployments long over, by the million, written straight into the file: for benchmarks that ask what a past costs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bot.deployments.model import Data
from bot.store.database import Database
from bot.store.migrate import migrate
from bot.store.tables import deployments

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
DATA = json.dumps(Data().model_dump(mode="json", exclude_defaults=True))
ENVIRONMENTS = ("dev", "test", "staging", "canary", "prod")


def write_past(data: Path, count: int, services: Sequence[str]) -> None:
    """A database in the data directory with so many ended deployments of these services."""
    data.mkdir(parents=True, mode=0o700)
    path = data / "slipway.db"
    db = Database(f"sqlite:///{path}")
    migrate(db)
    db.close()
    columns = list(_row(0, services))
    assert set(columns) <= {column.name for column in deployments.columns}
    names, marks = ", ".join(f'"{one}"' for one in columns), ", ".join("?" * len(columns))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        rows = (tuple(_row(number, services).values()) for number in range(count))
        connection.executemany(f"INSERT INTO deployments ({names}) VALUES ({marks})", rows)
    connection.close()


def _row(number: int, services: Sequence[str]) -> dict[str, Any]:
    service, environment = services[number % len(services)], ENVIRONMENTS[number // len(services) % len(ENVIRONMENTS)]
    at = (FIRST + timedelta(minutes=number)).strftime("%Y-%m-%d %H:%M:%S.%f")
    return {
        "intent": f"past-{number}",
        "idempotency_key": f"past:{number}",
        "service": service,
        "environment": environment,
        "kind": "normal",
        "state": "succeeded" if number % 9 else "failed",
        "requested_by": "p0",
        "origin": json.dumps({"platform": "slack", "place": "C1"}),
        "release_version": f"{number:012x}",
        "commit": f"{number:040x}",
        "digest": f"sha256:{number:064x}",
        "data": DATA,
        "created_at": at,
        "changed_at": at,
        "ended_at": at,
    }
