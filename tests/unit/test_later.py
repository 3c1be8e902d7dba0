"""What is made later is made once, looks like itself, and can be made: a broken import must show here, not at night."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import bot.app
import bot.gates.outside
import bot.later
from bot.app import LOADED_SOON, App
from bot.catalog.kept import KeptCatalog
from bot.catalog.load import load_catalog
from bot.deployments.model import State
from bot.later import is_made, later, load_rest, make_now, named
from bot.providers import EVERYWHERE
from bot.settings import Settings
from bot.store import deployments as rows
from bot.store.database import Database, sqlite_url
from bot.store.migrate import migrate
from tests.support.rows import new_deployment
from tests.support.world import make_world


class Counter:
    """Something that is made."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.value = 1

    async def twice(self) -> int:
        return self.value * 2


async def test_a_part_is_made_once_and_when_it_is_used() -> None:
    """Whoever holds it sees no difference."""
    Counter.made = 0
    part = later(Counter)
    assert not is_made(part)
    assert Counter.made == 0
    part.value = 4
    assert await part.twice() == 8
    assert is_made(part)
    assert is_made(Counter())
    assert make_now(part) is make_now(part)
    assert Counter.made == 2
    assert later(lambda: len)("four") == 4


async def test_every_part_of_an_application_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each imports what it needs only when it is made."""
    parts: list[Any] = []

    def noted(make: Any) -> Any:
        parts.append(later(make))
        return parts[-1]

    monkeypatch.setattr(bot.app, "later", noted)
    monkeypatch.setattr(bot.gates.outside, "later", noted)
    world = make_world(tmp_path / "world")
    app = App(Settings(config=world.directory, console=True, console_open=True))
    try:
        assert len(parts) > 15
        assert all(make_now(part) is not None for part in parts)
        assert set(app._handlers) == {state for state in State if not state.is_final}
        assert app.asgi is not None
        assert await app.scrape()
        assert await app.report("", "7")
    finally:
        await app.stop()


async def test_nothing_is_loaded_while_people_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading takes turns with answering, so it waits for a quiet moment."""
    monkeypatch.setattr(bot.later, "LOOK", 0.0)
    monkeypatch.setattr(bot.later, "PAUSE", 0.0)
    told: list[str] = []
    looks = iter([False, False, True, True])

    def is_quiet() -> bool:
        quiet = next(looks)
        told.append("quiet" if quiet else "busy")
        return quiet

    monkeypatch.setattr(importlib, "import_module", told.append)
    await load_rest(["one", "two"], 0.0, is_quiet)
    assert told == ["busy", "busy", "quiet", "one", "quiet", "two"]


@pytest.mark.parametrize("place", sorted(EVERYWHERE.values()))
def test_every_model_of_options_is_where_it_is_said_to_be(place: str) -> None:
    """They are named in a table."""
    assert isinstance(named(place), type)


@pytest.mark.parametrize("module", LOADED_SOON)
def test_what_is_loaded_soon_is_there(module: str) -> None:
    """A wrong name would end in the log of a server."""
    assert importlib.import_module(module).__name__ == module


START = """
import asyncio, os, sys
from bot.cli import plain_serve
from bot.serving import starting
with starting():
    from bot.app import App
    from bot.logging import set_up_logging
    from bot.settings import read_settings
    from bot.startup import refuse_if_half
    from bot.web.server import serve

    async def main():
        settings = read_settings(os.environ)
        set_up_logging("error")
        app = App(settings)
        refuse_if_half(settings, app.catalog(), set(app.providers.pipelines), set(app.providers.deliveries))
        await app.start()
        app.asgi
        import json
        print(json.dumps(sorted(name for name, module in sys.modules.items() if module is not None)))
        sys.stdout.flush()
        os._exit(0)

    asyncio.run(main())
"""
FOR_LATER = {
    "aiohttp", "alembic", "apscheduler", "babel", "holidays", "httpcore", "httpx", "kubernetes", "lark_oapi", "PIL",
    "psycopg", "pygments", "rich", "slack_bolt", "slack_sdk", "sqlalchemy.dialects.postgresql", "typer", "yaml",
    "bot.catalog.load", "bot.catalog.schema", "bot.chat.console", "bot.delivery.gitops", "bot.delivery.shell",
    "bot.deployments.hooked", "bot.deployments.workflow", "bot.git", "bot.logs", "bot.pipelines.http",
    "bot.pipelines.shell", "bot.processes", "bot.reports.gather", "bot.sources.git", "bot.store.indexes",
    "bot.telemetry", "bot.terminal", "bot.web.console", "notifiers.guarded", "notifiers.webhook",
}  # fmt: skip
MOST_OF_OURS, MOST = 176, 780
"""Modules at the start, ours and all, with a few to spare: whoever needs more asks first whether at the start."""


def loaded_at_start(directory: Path, before: Callable[[Database], object] = lambda _db: None) -> set[str]:
    """The modules of a started Slipway with Slack on and a catalog that was read before, as nearly every start is.

    before: done to its database in the life before.
    """
    world = make_world(directory / "world")
    data = directory / "data"
    data.mkdir()
    KeptCatalog(data / "catalog.kept").write(load_catalog(world.directory))
    db = Database(sqlite_url(data / "slipway.db"))
    migrate(db)
    before(db)
    db.close()
    environment = {
        "PATH": os.environ["PATH"],
        "SLIPWAY_CONFIG": str(world.directory),
        "SLIPWAY_DATA": str(data),
        "SLACK_BOT_TOKEN": "xoxb-1",
        "SLACK_SIGNING_SECRET": "s",
        "SLACK_API_BASE_URL": "http://127.0.0.1:9/api/",
    }
    done = subprocess.run(
        [sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_a_start_loads_what_the_first_answer_needs(tmp_path: Path) -> None:
    """And leaves what no first answer needs for later."""
    loaded = loaded_at_start(tmp_path)
    assert loaded & FOR_LATER == set()
    ours = [name for name in loaded if name.partition(".")[0] in ("bot", "commands", "notifiers")]
    assert len(ours) <= MOST_OF_OURS, ours
    assert len(loaded) <= MOST


def test_a_start_with_work_loads_what_it_needs(tmp_path: Path) -> None:
    """A thousand deployments that go on after a start must not wait for imports one by one."""

    def left_open(db: Database) -> None:
        waiting = new_deployment("k", State.AWAITING_APPROVAL)
        db.run_sync(lambda tx: rows.create(tx, waiting, datetime.now(UTC)))

    assert set(LOADED_SOON) <= loaded_at_start(tmp_path, left_open)
