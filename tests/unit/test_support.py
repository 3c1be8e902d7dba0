"""The tests' own tools: if these lie, so does every test."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
from playwright.async_api import Browser, Page
from sqlalchemy import create_engine, inspect, text

from tests.support.clock import FakeClock
from tests.support.network import OutsideConnection, free_port, is_local
from tests.support.postgres import PostgresServer


def test_the_clock_moves_only_when_told() -> None:
    """Instants are aware UTC, whatever zone they were set in."""
    clock = FakeClock(datetime(2026, 3, 1, 12, tzinfo=ZoneInfo("Asia/Shanghai")))
    assert clock() == clock() == datetime(2026, 3, 1, 4, tzinfo=UTC)
    assert clock.advance(timedelta(minutes=90)) == clock() == datetime(2026, 3, 1, 5, 30, tzinfo=UTC)
    clock.set(datetime(2026, 1, 1, tzinfo=UTC))
    assert clock().tzinfo is UTC
    with pytest.raises(ValueError, match="no zone"):
        clock.set(datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("pay.localhost", True),
        ("0.0.0.0", True),
        (b"localhost", True),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("jenkins.example", False),
        ("localhost.example", False),
        ("2001:db8::1", False),
    ],
)
def test_only_this_machine_is_local(host: str | bytes, local: bool) -> None:
    """Near misses are outside."""
    assert is_local(host) is local


def test_a_socket_cannot_leave() -> None:
    """Both ways to connect are closed, and so are name look-ups."""
    with socket.socket() as sock:
        with pytest.raises(OutsideConnection):
            sock.connect(("192.0.2.1", 80))
        with pytest.raises(OutsideConnection):
            sock.connect_ex(("192.0.2.1", 80))
    with pytest.raises(OutsideConnection):
        socket.create_connection(("jenkins.example", 80))


async def test_an_async_client_cannot_leave() -> None:
    """The refusal is not taken for a network error."""
    async with httpx.AsyncClient() as client:
        for host in ("192.0.2.1", "jenkins.example"):
            with pytest.RaisesGroup(OutsideConnection, allow_unwrapped=True, flatten_subgroups=True):
                await client.get(f"http://{host}/")


async def test_loopback_stays_open(tmp_path: Path) -> None:
    """A server on 127.0.0.1 and on a Unix socket can be reached."""
    port = free_port()
    for server, connection in (
        (await asyncio.start_server(_hang_up, "127.0.0.1", port), asyncio.open_connection("127.0.0.1", port)),
        (
            await asyncio.start_unix_server(_hang_up, tmp_path / "s"),
            asyncio.open_unix_connection(tmp_path / "s"),
        ),
    ):
        reader, writer = await connection
        assert await reader.read() == b""
        writer.close()
        server.close()


async def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize("time", [1, 2])
def test_each_test_gets_an_empty_database(database_url: str, time: int) -> None:
    """What one test leaves, the next does not find."""
    engine = create_engine(database_url)
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE leftover (id integer)"))
    engine.dispose()


def test_postgres_speaks_of_news(postgres_url: str) -> None:
    """LISTEN and NOTIFY work: it is a real server."""
    dsn = postgres_url.replace("+psycopg", "")
    with psycopg.connect(dsn, autocommit=True) as listener, psycopg.connect(dsn, autocommit=True) as speaker:
        listener.execute("LISTEN wake")
        speaker.execute("NOTIFY wake, 'now'")
        assert [news.payload for news in listener.notifies(timeout=5, stop_after=1)] == ["now"]


def test_an_open_connection_does_not_keep_a_database(postgres_server: PostgresServer) -> None:
    """A test that fails half-way leaves connections; the databases go all the same."""
    with postgres_server.database() as url:
        connection = psycopg.connect(url.replace("+psycopg", ""))
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


async def test_the_browser_runs_scripts(page: Page) -> None:
    """It is a real browser."""
    await page.set_content("<button onclick=\"this.textContent = [1, 2].at(-1) + ' 好'\">press</button>")
    await page.get_by_role("button").click()
    assert await page.get_by_role("button").text_content() == "2 好"


async def test_page_errors_are_seen(browser: Browser) -> None:
    """The `page` fixture fails a test by this list."""
    from tests.support.chromium import collect_errors

    page = await browser.new_page()
    errors = collect_errors(page)
    await page.set_content("<script>console.error('bad'); setTimeout(() => { throw new Error('worse') })</script>")
    await page.wait_for_timeout(100)
    assert errors == ["console: bad", "uncaught: worse"]


def test_git_knows_nobody(tmp_path: Path) -> None:
    """A commit must name its author itself, as on a machine that was never set up."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    result = subprocess.run(["git", "-C", tmp_path, "config", "user.name"], capture_output=True, check=False)
    assert result.stdout == b""
