"""Durable runs of local commands: they outlive the bot, run at most once, and are found again by their key.

A run is a directory:

    spec.json      what to do; the directory appears with it, whole, by one rename
    lock           held (flock) by the runner for its life: free and started means the runner is dead
    started        made once, under the lock: a run that has it is never started again
    status.json    state, steps with times and log offsets; replaced as a whole
    log.<offset>   what the steps wrote; with too much of it the middle is missing
    cancel, stop   a wish of the bot: end it, as cancelled or as interrupted
    workspace, home, tmp   for the steps
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bot import logs
from bot.clock import Clock, utc_now
from bot.errors import ProviderUnavailable
from bot.pipelines.base import RunState, StageState

_RUNNER = Path(__file__).with_name("processes_runner.py")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STEP_STATES = {
    "pending": StageState.PENDING,
    "running": StageState.RUNNING,
    "succeeded": StageState.SUCCEEDED,
    "failed": StageState.FAILED,
    "skipped": StageState.SKIPPED,
    "cancelled": StageState.CANCELLED,
    "interrupted": StageState.CANCELLED,
}
# Runners of this process that have to be collected. Not an instance's: a runner outlives any object of ours.
_RUNNERS: list[subprocess.Popen[bytes]] = []
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Step:
    """One command. argv: never a shell string; cwd: absolute; env: `SLIPWAY_*` names only."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    timeout: timedelta = timedelta(minutes=10)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run. timeout: of the whole run; grace: between TERM and KILL; log_limit: bytes.

    discard: directories of the run that are removed after its end. leave_daemons: what a successful step started in the
    background goes on (a deployed service); otherwise every process of the run ends with its step.
    """

    timeout: timedelta = timedelta(minutes=30)
    grace: timedelta = timedelta(seconds=5)
    log_limit: int = 10_000_000
    discard: tuple[str, ...] = ()
    leave_daemons: bool = False


@dataclass(frozen=True, slots=True)
class StepStatus:
    """One step as last seen. seconds: elapsed, None before it started; code: exit code, None before it ended."""

    name: str
    state: StageState
    seconds: float | None = None
    code: int | None = None
    offset: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class ProcessRun:
    """A run as last seen. QUEUED: it was accepted and its runner has not begun; `resume` begins it."""

    key: str
    directory: Path
    state: RunState
    steps: tuple[StepStatus, ...]
    message: str = ""

    @property
    def percent(self) -> int:
        """Finished steps of all, 0-100."""
        done = sum(step.state is StageState.SUCCEEDED for step in self.steps)
        return 100 * done // len(self.steps) if self.steps else 100


class ProcessRuns:
    """All runs under one directory. Only one bot process uses a directory at a time."""

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock = utc_now,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Remember the place; nothing is started. environment: further variables for all steps, `SLIPWAY_*` only."""
        self._root = root.absolute()
        self._clock = clock
        self._python = python
        self._environment = dict(environment or {})

    def directory(self, key: str) -> Path:
        """Where the run of this key lives, whether it exists or not."""
        if _PLAIN_KEY.fullmatch(key):
            return self._root / key
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", key).strip(".-")[:60]
        return self._root / f"{slug or 'run'}-{hashlib.sha256(key.encode()).hexdigest()[:20]}"

    def workspace(self, key: str) -> Path:
        """The directory in which the run's steps may work."""
        return self.directory(key) / "workspace"

    async def start(self, key: str, steps: Sequence[Step], options: RunOptions = RunOptions()) -> ProcessRun:
        """Start the run of this key, or tell about it if it was started before.

        Raises:
            ProviderUnavailable: the disk is full or the directory cannot be written; nothing runs, safe to retry.
        """
        if self.look(key) is None:
            spec = self._spec(key, steps, options)
            await _in_thread(self._create, self.directory(key), spec)
        return await self.resume(key)

    async def resume(self, key: str) -> ProcessRun:
        """Start the runner of a run whose bot died before it could.

        Raises ProviderUnavailable, or KeyError if there is no such run.
        """
        run = self.look(key)
        if run is None:
            raise KeyError(key)
        if run.state is not RunState.QUEUED:
            return run
        await _in_thread(self._spawn, run.directory)
        return self.look(key) or run

    def look(self, key: str) -> ProcessRun | None:
        """The run as it is now, None if it was surely never accepted. Costs two small files.

        Raises ProviderUnavailable when that cannot be told: no run is called dead because the disk is.
        """
        directory = self.directory(key)
        try:
            spec = _read_json(directory / "spec.json")
            return None if spec is None else self._judge(key, directory, spec)
        except OSError as error:
            message = f"The state of a run cannot be read: {error.strerror}."
            raise ProviderUnavailable(message, hint="It is tried again by itself.") from error

    def _judge(self, key: str, directory: Path, spec: Mapping[str, Any]) -> ProcessRun:
        if not (directory / "started").exists():
            state = RunState.CANCELLED if (directory / "cancel").exists() else RunState.QUEUED
            return ProcessRun(
                key, directory, state, tuple(StepStatus(s["name"], StageState.PENDING) for s in spec["steps"])
            )
        status = _read_json(directory / "status.json")
        if (status is None or status["state"] == "running") and not _is_held(directory):
            # The runner may have ended between the two looks.
            status = _read_json(directory / "status.json")
            if status is None or status["state"] == "running":
                return _interrupted(key, directory, spec, status or _blank(spec))
        return _as_run(key, directory, status or _blank(spec), self._clock())

    async def cancel(self, key: str) -> ProcessRun | None:
        """Ask the run to end as cancelled; returns once asked. A finished run is left as it is."""
        return await self._ask(key, "cancel")

    async def stop(self, key: str) -> ProcessRun | None:
        """Ask the run to end as interrupted, so that it may be run again under another key."""
        return await self._ask(key, "stop")

    async def stop_all(self, *, patience: timedelta = timedelta(seconds=15)) -> int:
        """End every run in flight, for a graceful end of the bot; they read as INTERRUPTED. Returns how many."""
        running = [directory for directory in self._directories() if _in_flight(directory)]
        for directory in running:
            await _in_thread(_wish, directory, "stop")
        end = time.monotonic() + patience.total_seconds()
        while any(_in_flight(directory) for directory in running) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        _reap()
        return len(running)

    async def wait(self, key: str, *, patience: timedelta) -> ProcessRun:
        """The run once it is final, or as it is when patience ends. Raises KeyError (no such run)."""
        end = time.monotonic() + patience.total_seconds()
        while (run := self.look(key)) is not None:
            if run.state.is_final or time.monotonic() >= end:
                return run
            await asyncio.sleep(0.02)
        raise KeyError(key)

    def log_tail(self, key: str, step: str = "", lines: int = 200) -> tuple[str, ...]:
        """The last lines of the log, redacted; of one step if named."""
        log = _StoredLog(self.directory(key))
        start, end = self._span(key, step, log)
        return logs.tail(lambda offset, count: log.read(start + offset, count), max(0, end - start), lines)

    def log_lines(self, key: str, step: str = "") -> Iterator[str]:
        """All lines that are left of the log, not redacted, one at a time; of one step if named."""
        rest = b""
        for piece in self.log_pieces(key, step):
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
            rest = rest[-65536:]
        if rest:
            yield rest.decode(errors="replace")

    def log_pieces(self, key: str, step: str = "") -> Iterator[bytes]:
        """All bytes that are left of the log, not redacted, a little at a time; of one step if named."""
        log = _StoredLog(self.directory(key))
        start, end = self._span(key, step, log)
        for offset in range(start, end, 65536):
            yield log.read(offset, min(65536, end - offset))

    async def prune(self, older_than: timedelta, keep: int = 50) -> int:
        """Remove finished runs that ended before now - older_than, but never the newest `keep`. Returns how many."""
        return await asyncio.to_thread(self._prune, older_than, keep)

    # --- inside

    def _span(self, key: str, step: str, log: _StoredLog) -> tuple[int, int]:
        if not step:
            return 0, log.size
        run = self.look(key)
        found = next((s for s in run.steps if s.name == step), None) if run else None
        if found is None or found.offset is None:
            return 0, 0
        return found.offset, log.size if found.end is None else found.end

    async def _ask(self, key: str, wish: str) -> ProcessRun | None:
        run = self.look(key)
        if run is None or run.state.is_final:
            return run
        await _in_thread(_wish, run.directory, wish)
        return self.look(key)

    def _spec(self, key: str, steps: Sequence[Step], options: RunOptions) -> dict[str, Any]:
        base = self._base_environment(self.directory(key))
        return {
            "key": key,
            "timeout": options.timeout.total_seconds(),
            "grace": options.grace.total_seconds(),
            "log_limit": options.log_limit,
            "discard": list(options.discard),
            "leave_daemons": options.leave_daemons,
            "steps": [_step_spec(step, base) for step in steps],
        }

    def _base_environment(self, directory: Path) -> dict[str, str]:
        """All that a step sees: nothing of the bot's own environment but the search path."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(directory / "home"),
            "TMPDIR": str(directory / "tmp"),
            "LANG": "C.UTF-8",
            **_only_ours(self._environment),
        }

    def _create(self, directory: Path, spec: Mapping[str, Any]) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self._root))
        try:
            for name in ("workspace", "home", "tmp"):
                (fresh / name).mkdir()
            with open(fresh / "spec.json", "w", encoding="utf-8") as file:
                json.dump(spec, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(directory)
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # Another call for this key was first.
                raise

    def _spawn(self, directory: Path) -> None:
        """Start the runner and wait until it surely has the run, or surely not."""
        child = subprocess.Popen(
            [self._python, "-I", "-S", str(_RUNNER), str(directory)],
            cwd=directory,
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _reap()
        _RUNNERS.append(child)
        assert child.stdout is not None
        with child.stdout as pipe:
            answer = pipe.readline().strip()
        if answer not in (b"ok", b""):
            raise OSError(int(answer), os.strerror(int(answer)), str(directory))
        if not answer and not (directory / "started").exists() and child.wait() != 0:
            raise OSError(errno.ECHILD, "the runner ended at once", str(directory))

    def _directories(self) -> list[Path]:
        with suppress(OSError):
            return [path for path in self._root.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return []

    def _prune(self, older_than: timedelta, keep: int) -> int:
        before = (self._clock() - older_than).timestamp()
        ended = sorted(((_ended_at(path), path) for path in self._directories() if not _in_flight(path)), reverse=True)
        old = [path for at, path in ended[keep:] if at < before]
        for path in old:
            # Renamed first: a directory half removed must not look like a run.
            gone = path.with_name(f".gone-{path.name}")
            with suppress(OSError):
                path.rename(gone)
        for leftover in self._root.glob(".gone-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        return len(old)


def _reap() -> None:
    """Take ended runners' entries out of the system's process table."""
    _RUNNERS[:] = [runner for runner in _RUNNERS if runner.poll() is None]


async def _in_thread(function: Callable[..., None], *arguments: object) -> None:
    """Off the event loop, with a disk's refusal as one sentence."""
    try:
        await asyncio.to_thread(function, *arguments)
    except OSError as error:
        if error.errno in _FULL:
            message, hint = "The disk is full where runs are kept.", "Free some space; it is tried again by itself."
        else:
            message = f"A run could not be started: {error.strerror or error}."
            hint = "Check the rights and the mount of Slipway's data directory."
        raise ProviderUnavailable(message, hint=hint) from error


def _step_spec(step: Step, base: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": step.name,
        "argv": list(step.argv),
        "cwd": str(step.cwd),
        "timeout": step.timeout.total_seconds(),
        "env": {**base, **_only_ours(step.env)},
    }


def _only_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Refuse what is not ours, so that no token can be handed on by mistake."""
    strange = [name for name in environment if not name.startswith("SLIPWAY_")]
    if strange:
        raise ValueError(f"only SLIPWAY_ variables are handed to steps, not {', '.join(strange)}")
    return dict(environment)


def _read_json(path: Path) -> dict[str, Any] | None:
    """None if there is no such file, or none of ours in it. Raises OSError."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _is_held(directory: Path) -> bool:
    """True while a runner lives. Only asked of started runs, so that it never stands in a runner's way.

    Raises OSError: it cannot be told.
    """
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _in_flight(directory: Path) -> bool:
    try:
        if not (directory / "started").exists():
            return False
        status = _read_json(directory / "status.json")
        return (status is None or status["state"] == "running") and _is_held(directory)
    except OSError:
        return True  # It cannot be told, so it is not touched.


def _ended_at(directory: Path) -> float:
    with suppress(OSError):
        status = _read_json(directory / "status.json") or {}
        return float(status.get("ended_at") or directory.stat().st_mtime)
    return 0.0


def _wish(directory: Path, wish: str) -> None:
    """Leave the marker, then wake the runner."""
    (directory / wish).touch()
    if (directory / "started").exists() and _is_held(directory):
        with suppress(OSError, ValueError):
            os.kill(int((directory / "lock").read_text()), signal.SIGTERM)


def _blank(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a run whose runner has not written one yet."""
    return {
        "state": "running",
        "message": "",
        "steps": [{"name": s["name"], "state": "pending"} for s in spec["steps"]],
    }


def _interrupted(key: str, directory: Path, spec: Mapping[str, Any], status: Mapping[str, Any]) -> ProcessRun:
    _end_leftovers(directory, spec, status)
    steps = [dict(step, state="interrupted") if step["state"] == "running" else step for step in status["steps"]]
    message = "It was ended from outside before it had a result."
    return _as_run(key, directory, {**status, "state": "interrupted", "message": message, "steps": steps}, None)


def _end_leftovers(directory: Path, spec: Mapping[str, Any], status: Mapping[str, Any]) -> None:
    """End what a killed runner left behind, known by its home directory; a service it deployed stays."""
    groups = {step.get("pid") for step in status["steps"] if step["state"] == "running"}
    mark = b"HOME=" + os.fsencode(directory / "home")
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if mark not in (path / "environ").read_bytes().split(b"\0"):
                continue
            pid = int(path.name)
            if not spec["leave_daemons"] or os.getpgid(pid) in groups:
                os.kill(pid, signal.SIGKILL)


def _as_run(key: str, directory: Path, status: Mapping[str, Any], now: datetime | None) -> ProcessRun:
    steps = tuple(_as_step(step, now) for step in status["steps"])
    return ProcessRun(key, directory, RunState(status["state"]), steps, status["message"])


def _as_step(step: Mapping[str, Any], now: datetime | None) -> StepStatus:
    started, ended = step.get("started_at"), step.get("ended_at")
    if ended is None and now is not None:
        ended = now.timestamp()
    seconds = max(0.0, ended - started) if started is not None and ended is not None else None
    return StepStatus(
        step["name"], _STEP_STATES[step["state"]], seconds, step.get("code"), step.get("offset"), step.get("end")
    )


class _StoredLog:
    """Reads the `log.<offset>` files as one, with a note where the middle is missing."""

    def __init__(self, directory: Path) -> None:
        self._pieces: list[tuple[int, int, Path]] = []
        for path in sorted(directory.glob("log.*")):
            with suppress(OSError, ValueError):  # A piece may be dropped while we look.
                start = int(path.suffix[1:])
                self._pieces.append((start, start + path.stat().st_size, path))
        self.size = self._pieces[-1][1] if self._pieces else 0

    def read(self, offset: int, count: int) -> bytes:
        """The bytes of [offset, offset + count), without those that were dropped."""
        end, data, known = offset + count, b"", 0
        for start, stop, path in self._pieces:
            if start > known and offset <= start < end:
                data += f"\n[{start - known} bytes of the log were dropped here]\n".encode()
            if start < end and stop > offset:
                data += _read_piece(path, max(0, offset - start), min(end, stop) - max(offset, start))
            known = stop
        return data


def _read_piece(path: Path, offset: int, count: int) -> bytes:
    with suppress(OSError), open(path, "rb") as file:
        file.seek(offset)
        return file.read(count)
    return b""
