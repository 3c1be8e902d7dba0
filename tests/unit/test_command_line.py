"""Commands as sub-processes: whatever they leave behind, the caller goes on and nothing stays open."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from bot.command_line import CommandTimedOut, OutputTooLarge, run_command

CHILD = """
import os, sys, time
child = os.fork()
if child == 0:
    if sys.argv[1] == "leave":
        os.setsid()
    time.sleep(300)
with open("child", "w") as file:
    file.write(str(child))
while sys.argv[1] == "talk":
    print("x" * 1000)
if sys.argv[1] == "stay":
    time.sleep(300)
"""
"""`leave`: ends and leaves a child in a group of its own, with its pipes; `talk` and `stay`: never end."""


async def test_what_is_said_on_both_streams_comes_back(tmp_path: Path) -> None:
    """With the exit code, and the input handed over."""
    program = "import sys; sys.stderr.write('e'); print(sys.stdin.read()); sys.exit(3)"
    done = await run_command([sys.executable, "-c", program], env={}, timeout=30, cwd=tmp_path, stdin=b"in")
    assert (done.code, done.out, done.err) == (3, b"in\n", b"e")


async def test_a_child_that_left_with_the_pipes_is_not_waited_for(tmp_path: Path) -> None:
    """The command ended, its pipes did not: the time limit holds, and no pipe stays open on our side."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CommandTimedOut):
        await run_command([sys.executable, "-I", "-S", "-c", CHILD, "leave"], env={}, timeout=2, cwd=tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    os.kill(child_in(tmp_path), signal.SIGKILL)


async def test_too_much_output_ends_the_whole_group(tmp_path: Path) -> None:
    """Memory is bounded, and the child of the command goes with it."""
    argv = [sys.executable, "-I", "-S", "-c", CHILD, "talk"]
    with pytest.raises(OutputTooLarge):
        await run_command(argv, env={}, timeout=30, cwd=tmp_path, limit=100_000)
    await gone(child_in(tmp_path))


async def test_who_waits_no_longer_ends_the_whole_group(tmp_path: Path) -> None:
    """A cancelled caller leaves nothing behind, and hears of its cancelling only when that is so."""
    waiting = asyncio.create_task(
        run_command([sys.executable, "-I", "-S", "-c", CHILD, "stay"], env={}, timeout=60, cwd=tmp_path)
    )
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await gone(child_in(tmp_path))


def child_in(directory: Path) -> int:
    return int((directory / "child").read_text())


async def gone(pid: int) -> None:
    """Wait for its end: it was sent KILL, which the kernel carries out when it next gives it a processor."""
    async with asyncio.timeout(10):
        while is_running(pid):
            await asyncio.sleep(0.001)


def is_running(pid: int) -> bool:
    """A process that was killed and waits to be reaped by init no longer is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
