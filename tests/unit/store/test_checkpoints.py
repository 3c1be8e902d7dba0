"""What SQLite's log holds moves into the file beside the work, not in somebody's commit."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from bot.store import sqlite
from bot.store.database import Database, sqlite_url
from bot.store.migrate import migrate
from bot.store.tables import inbox
from tests.support import FakeClock


def rows_in_the_file_alone(path: Path, elsewhere: Path) -> int:
    """How many intents stand in the file itself, whatever the log holds."""
    elsewhere.write_bytes(path.read_bytes())
    with sqlite3.connect(elsewhere) as alone:
        alone.execute("PRAGMA journal_mode=DELETE")
        return int(alone.execute("SELECT count(*) FROM inbox").fetchone()[0])


def test_the_log_is_emptied_beside_the_work(tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many transactions, once, and by another thread: no commit does it."""
    path = tmp_path / "slipway.db"
    db = Database(sqlite_url(path))
    migrate(db)
    values = {"platform": "slack", "kind": "command", "payload": {}, "received_at": clock()}

    def put(number: int) -> None:
        db.run_sync(lambda tx: tx.execute(inbox.insert().values(event_id=f"e{number}", **values)))

    checkpoints = db._checkpoints
    assert checkpoints is not None
    checkpoints._commits = 0
    monkeypatch.setattr(sqlite, "CHECKPOINT", 5)
    for number in range(4):
        put(number)
    checkpoints._thread.submit(lambda: None).result()  # whatever it was given is done
    before = rows_in_the_file_alone(path, tmp_path / "before.db") if path.stat().st_size > 4096 else 0
    put(4)
    checkpoints._thread.submit(lambda: None).result()
    assert before == 0
    assert rows_in_the_file_alone(path, tmp_path / "after.db") == 5
    db.close()


def test_a_commit_leaves_the_log_alone(tmp_path: Path) -> None:
    """SQLite's own checkpoint, by default after 1,000 pages, is in the commit that fills them."""
    db = Database(sqlite_url(tmp_path / "slipway.db"))
    assert db.run_sync(lambda tx: tx.execute(text("PRAGMA wal_autocheckpoint")).scalar()) == sqlite.LONGEST_LOG
    db.close()


def test_a_checkpoint_that_fails_is_told(tmp_path: Path) -> None:
    """And harms nobody: the next one does it, or a commit."""
    checkpoints = sqlite.Checkpoints(sqlite_url(tmp_path / "absent" / "slipway.db"))
    with capture_logs() as told:
        checkpoints._move()
    checkpoints.close()
    assert [one["event"] for one in told] == ["checkpoint_failed"]
