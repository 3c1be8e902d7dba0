"""Fixtures every test folder may use: databases, a browser, a clock; and no way out of this machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.clock import FakeClock
from tests.support.network import close_outside

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from bot.store.database import Database
    from tests.support.postgres import PostgresServer


def pytest_configure() -> None:
    """Make the run independent of who runs it: no Git identity, no settings of a bot, no proxy."""
    for name in list(os.environ):
        ours = name.startswith("SLIPWAY_") and name != "SLIPWAY_CHROMIUM"
        if ours or name.startswith("GIT_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            del os.environ[name]
    os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}


LONG = ("test_power_cut.py", "test_killed.py", "test_argocd.py")
"""Files that take minutes: they begin first, so that no worker is left with one while the others have nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by fixture, so that `-m "not postgres"` and `-m "not browser"` need no care; the longest files first."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        callspec = getattr(item, "callspec", None)
        if "postgres_url" in fixtures or (callspec and "postgres" in callspec.params.values()):
            item.add_marker(pytest.mark.postgres)
        if fixtures & {"browser", "page"}:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    close_outside(monkeypatch)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands at a Monday, 09:00 UTC."""
    return FakeClock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One real server for the whole run."""
    from tests.support.postgres import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty PostgreSQL database of this test alone."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database; the test runs on SQLite and again on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'slipway.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A database of each kind, up to date and empty."""
    from tests.support.databases import migrated

    with migrated(database_url) as database:
        yield database


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Where Chromium is."""
    from tests.support.chromium import find_chromium

    return find_chromium()


@pytest.fixture
async def browser(chromium_path: str) -> AsyncIterator[Browser]:
    """A headless browser of this test alone."""
    from tests.support.chromium import running_browser

    async with running_browser(chromium_path) as browser:
        yield browser


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty page; an uncaught exception or an error in its console fails the test."""
    from tests.support.chromium import collect_errors

    page = await browser.new_page()
    errors = collect_errors(page)
    yield page
    assert errors == []
