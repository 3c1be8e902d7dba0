"""What it costs to verify a long audit log, and to add to it: is the millionth entry as cheap as the first?

python -m tests.benchmarks.audit_log [ENTRIES]
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import update

from bot.store import audit
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx, sqlite_url
from bot.store.migrate import migrate
from bot.store.tables import audit as table
from tests.support.postgres import running_postgres

AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
BATCH = 5000


def entry(number: int) -> AuditEntry:
    """One as commands leave it."""
    text = f"deploy of 1.{number} to service-{number % 5000}/prod"
    return AuditEntry(AT + timedelta(seconds=number), "owner", "command", f"/deploy {number}", "accepted", "", text)


def fill(db: Database, count: int) -> None:
    """A chain of so many entries."""
    for start in range(0, count, BATCH):
        batch = [entry(number) for number in range(start, min(count, start + BATCH))]
        db.run_sync(lambda tx, batch=batch: audit.append(tx, *batch))  # type: ignore[misc]


def append_ms(db: Database) -> float:
    """Milliseconds for one entry in a transaction of its own, the median of 200."""
    took = []
    for number in range(200):
        began = time.perf_counter()
        db.run_sync(lambda tx, number=number: audit.append(tx, entry(number)))  # type: ignore[misc]
        took.append(time.perf_counter() - began)
    return sorted(took)[100] * 1000


def measure(name: str, url: str, count: int) -> None:
    """Print a line of figures."""
    db = Database(url)
    migrate(db)
    first = append_ms(db)
    fill(db, count)
    last = append_ms(db)
    began = time.perf_counter()
    whole, problem = db.run_sync(audit.verify)
    seconds = time.perf_counter() - began
    assert problem == "", problem
    forged = whole - 7

    def forge(tx: Tx) -> None:
        tx.execute(update(table).where(table.c.seq == forged).values(detail="nothing happened"))

    db.run_sync(forge)
    assert db.run_sync(audit.verify) == (forged - 1, f"entry {forged} was changed")
    db.close()
    print(
        f"{name}: {whole} entries verified in {seconds:.1f} s ({whole / seconds:,.0f}/s); "
        f"append {first:.2f} ms empty, {last:.2f} ms full ({last / first:.2f} x); a forged one is named"
    )


def main() -> None:
    """See the module."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        measure("sqlite", sqlite_url(Path(directory) / "audit.db"), count)
    with running_postgres() as server, server.database() as url:
        measure("postgres", url, count)


if __name__ == "__main__":
    main()
