"""Runs one short command: own process group, time limit, size limit, never a shell.

For work that must outlive the bot see `processes.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=dict(env),
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    finished = None
    try:
        async with asyncio.timeout(timeout):
            out, err, _ = await asyncio.gather(
                _read(process.stdout, limit), _read(process.stderr, limit), _feed(process.stdin, stdin)
            )
            finished = Finished(await process.wait(), out, err)
            return finished
    except TimeoutError:
        raise CommandTimedOut from None
    finally:
        if finished is None:
            await _end(process)


async def _read(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    data = bytearray()
    while stream is not None and (chunk := await stream.read(65536)):
        data += chunk
        if len(data) > limit:
            raise OutputTooLarge
    return bytes(data)


async def _feed(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    # A command that ended without reading everything says why by its exit code.
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(data)
        await stream.drain()
    stream.close()


async def _end(process: asyncio.subprocess.Process, grace: float = 2.0) -> None:
    """TERM lets the command take its lock files away; KILL follows for the whole group, and the pipes are closed.

    The command itself may have ended long ago, with a child of it that holds the pipes.
    """
    for sign, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # asyncio waits for the pipes' end, which a child that left the group can put off for ever.
    process._transport.close()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
