"""A command's cost at a million past deployments against one for each target, and a week's report, on both databases.

python -m tests.benchmarks.history [DEPLOYMENTS]
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from bot.app import App, Outside
from bot.chat.base import IncomingCommand
from bot.clock import utc_now
from bot.settings import Settings
from bot.store import inbox
from bot.store.database import Database, Tx
from bot.store.migrate import migrate
from tests.support.postgres import running_postgres
from tests.support.running import settings_for
from tests.support.world import make_world

SERVICES = 500
FEW = SERVICES * 2
"""One for each target, so that a status has something running to look at on both sides."""
ROUNDS = 60
COMMANDS = (
    "/why {service} prod",
    "/status {service}",
    "/history {service} prod",
    "/history {service}",
    "/history",
    "/status",
)

FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
INSERT INTO deployments (intent, idempotency_key, service, environment, kind, state, version, attempts, signal_seq,
                         requested_by, origin, reason, release_version, "commit", branch, digest, data,
                         created_at, changed_at, ended_at)
SELECT 'old-' || i, 'old-' || i, 'service-' || (i % {services}), CASE i % 2 WHEN 0 THEN 'prod' ELSE 'dev' END, 'normal',
       CASE i % 10 WHEN 0 THEN 'failed' ELSE 'succeeded' END, 6, 0, 0, 'owner',
       '{{"platform": "console", "place": "#releases", "personal": false, "thread": "", "message_id": ""}}', '',
       'v' || i, '{commit}', 'main', 'sha256:' || i, '{{"revision": "{commit}"}}', {at}, {at}, {at}
FROM n
"""


def fill(tx: Tx, count: int) -> None:
    """So many deployments that ended well or badly, two thousand a day up to now."""
    at = "datetime('now', '-' || (({count} - i) * 43) || ' seconds')"
    if tx.dialect.name != "sqlite":
        at = "now() - (({count} - i) * 43) * interval '1 second'"
    statement = FILL.format(count=count, services=SERVICES, commit="c" * 40, at=at.format(count=count))
    tx.execute(text(statement.replace("'#releases'", "'#releases'").replace(":", r"\:")))


def prepared(directory: Path, url: str, count: int) -> Settings:
    """A world whose database has that past."""
    world = make_world(directory, tuple(f"service-{number}" for number in range(SERVICES)))
    settings = settings_for(world, url)
    settings.data_directory.mkdir(parents=True, exist_ok=True)
    db = Database(settings.database)
    migrate(db)
    if count:
        db.run_sync(lambda tx: fill(tx, count))
        db.run_sync(lambda tx: tx.execute(text("ANALYZE")))
    db.close()
    return settings


@contextlib.asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[App]:
    """Running until the end of the context."""
    app = App(settings, Outside())
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def answer(app: App, command: str, number: int) -> float:
    """Seconds until the command was answered and recorded."""
    event = f"b{number}"
    began = time.perf_counter()
    await app.dispatcher.command(IncomingCommand("console", event, "owner", "#releases", command))
    while True:
        row = await app.db.read(lambda tx: inbox.by_event(tx, "console", event))
        if row is not None and row.done_at is not None:
            assert row.outcome == "accepted", row.answer
            return time.perf_counter() - began
        await asyncio.sleep(0.0005)


async def compare(name: str, empty: Settings, full: Settings, count: int) -> None:
    """Print a line for each command, side by side."""
    async with started(empty) as without, started(full) as having:
        for number, template in enumerate(COMMANDS):
            took: dict[str, list[float]] = {"empty": [], "full": []}
            for turn in range(ROUNDS):
                command = template.format(service=f"service-{turn * 7 % SERVICES}")
                key = number * ROUNDS + turn
                took["empty"].append(await answer(without, command, key))
                took["full"].append(await answer(having, command, key))
            none, many = (statistics.median(took[one]) * 1000 for one in ("empty", "full"))
            print(f"{name}: {template}: {none:.2f} ms at {FEW:,}, {many:.2f} ms at {count:,} ({many / none:.2f} x)")
        began = time.perf_counter()
        now = utc_now()
        made = await having.reporter.report(now - timedelta(days=7), now)
        print(
            f"{name}: a week's report over {made.whole.deployments:,} deployments: {time.perf_counter() - began:.1f} s"
        )


def main() -> None:
    """See the module."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1_000_000
    with tempfile.TemporaryDirectory() as base:
        top = Path(base)
        asyncio.run(compare("sqlite", prepared(top / "a", "", FEW), prepared(top / "b", "", count), count))
        with running_postgres() as server, server.database() as one, server.database() as two:
            asyncio.run(compare("postgres", prepared(top / "c", one, FEW), prepared(top / "d", two, count), count))


if __name__ == "__main__":
    main()
