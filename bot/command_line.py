"""Runs one short command: own process group, time limit, size limit, never a shell.

For work that must outlive the bot see `processes.py`.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

OUTPUT_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended by itself. code: its exit code, negative for a signal."""

    code: int
    out: bytes
    err: bytes


class CommandTimedOut(Exception):
    """It did not end within its time and was ended, with everything it started in its group."""


class OutputTooLarge(Exception):
    """It wrote more than the limit and was ended."""


async def run_command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float,
    cwd: Path | None = None,
    stdin: bytes = b"",
    limit: int = OUTPUT_LIMIT,
) -> Finished:
    """Run and wait. timeout: seconds; limit: bytes of output and of error output each.

    Raises:
        CommandTimedOut, OutputTooLarge: it was ended.
        OSError: the program or the directory is missing.
    """
    ended_early = threading.Event()
    run = partial(_run, argv, env=dict(env), cwd=cwd, stdin=stdin, limit=limit, timeout=timeout, given_up=ended_early)
    future = asyncio.get_running_loop().run_in_executor(_THREADS, run)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        ended_early.set()
        with suppress(Exception):
            await future
        raise


_THREADS = ThreadPoolExecutor(1024, "command")
"""One waits for each command, so that no command waits for another; an idle one is used again."""
_LOOK = 0.1
"""Seconds between two looks whether nobody waits for the command any more."""


class _GivenUp(Exception):
    """Whoever waited for it was cancelled."""


def _run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    stdin: bytes,
    limit: int,
    timeout: float,
    given_up: threading.Event,
) -> Finished:
    """In a thread of its own, and by the standard library, which lends the child our memory until it is a program.

    uvloop copies our page tables for it: eight times as long for a process of our size, and everything halts meanwhile.
    """
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    is_over = False
    try:
        pipes = _Pipes(process, stdin, limit)
        until = time.monotonic() + timeout
        while pipes.are_open or process.poll() is None:
            if given_up.is_set():
                raise _GivenUp
            if (left := until - time.monotonic()) <= 0:
                raise CommandTimedOut
            pipes.work(min(left, _LOOK))
        is_over = True
        return Finished(process.returncode, bytes(pipes.out), bytes(pipes.err))
    finally:
        if not is_over:
            _end(process)
        for file in (process.stdin, process.stdout, process.stderr):
            if file is not None:
                file.close()


class _Pipes:
    """Feeds a command and reads what it says, whatever comes first."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, limit: int) -> None:
        self.out, self.err = bytearray(), bytearray()
        self._left, self._limit = memoryview(stdin), limit
        self._selector = selectors.PollSelector()
        for file, kept in ((process.stdout, self.out), (process.stderr, self.err)):
            assert file is not None
            self._selector.register(file, selectors.EVENT_READ, kept)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            self._selector.register(process.stdin, selectors.EVENT_WRITE)

    @property
    def are_open(self) -> bool:
        return bool(self._selector.get_map())

    def work(self, seconds: float) -> None:
        """Move what can be moved, waiting that long at most. Raises OutputTooLarge."""
        if not self.are_open:  # It closed its pipes and goes on.
            time.sleep(min(seconds, 0.005))
        for key, _ in self._selector.select(seconds) if self.are_open else ():
            if key.data is None:
                self._feed(key)
            elif chunk := os.read(key.fd, 65536):
                key.data.extend(chunk)
                if len(key.data) > self._limit:
                    raise OutputTooLarge
            else:
                self._selector.unregister(key.fileobj)

    def _feed(self, key: selectors.SelectorKey) -> None:
        # A command that ended without reading everything says why by its exit code.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._left = self._left[os.write(key.fd, self._left[:65536]) :]
            if self._left:
                return
        self._selector.unregister(key.fileobj)
        assert not isinstance(key.fileobj, int)
        key.fileobj.close()  # type: ignore[attr-defined]


def _end(process: subprocess.Popen[bytes], grace: float = 2.0) -> None:
    """TERM lets the command take its lock files away; KILL follows for the whole group.

    The command itself may have ended long ago, with a child of it that holds the pipes.
    """
    for sign, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
