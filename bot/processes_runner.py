"""Executes the steps of one run directory, detached from the bot. Started by `processes.py`, by path.

Imports nothing but small parts of the standard library, so that it starts in a few milliseconds and so that no change
of the bot's code can break a run in flight. The run directory is the whole interface; its files are described in
`processes.py`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_FULL = "The disk is full where the run's log is kept; free some space and start it again."
WISHES = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
RESERVE = 16384
"""Bytes set aside at the start, so that the result can be written when the disk is full."""


class RunEnded(Exception):
    """The run ends now, with this state and sentence."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(message)
        self.state = state
        self.message = message


class Log:
    """Head and tail of everything the steps wrote: `log.<offset>` files, at most `limit` bytes together.

    Offsets count every byte ever written, so a reader knows what was dropped between two files.
    """

    def __init__(self, directory: str, limit: int) -> None:
        self.offset = 0
        self._directory = directory
        self._head = max(limit // 2, 1)
        self._segment = max(limit // 4, 1)
        self._tails: list[str] = []
        self._start = 0
        self._room = self._head
        self._file = self._open()

    def write(self, data: bytes) -> None:
        """Append; the oldest piece of the tail goes when there is too much."""
        while data:
            if self._room == 0:
                self._roll()
            count = os.write(self._file, data[: self._room])
            self.offset += count
            self._room -= count
            data = data[count:]

    def _open(self) -> int:
        path = os.path.join(self._directory, f"log.{self._start:015d}")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _roll(self) -> None:
        os.close(self._file)
        self._start = self.offset
        self._file = self._open()
        self._room = self._segment
        self._tails.append(os.path.join(self._directory, f"log.{self._start:015d}"))
        if len(self._tails) > 2:
            os.unlink(self._tails.pop(0))


class Runner:
    """One run, from the first step to the result."""

    def __init__(self, directory: str, spec: dict[str, Any]) -> None:
        self._directory = directory
        self._spec = spec
        self._log = Log(directory, spec["log_limit"])
        self._selector = selectors.DefaultSelector()
        self._process: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._pipe: int | None = None
        self._asked_to_end = False
        self._deadline = time.monotonic() + spec["timeout"]
        self._status: dict[str, Any] = {
            "state": "running",
            "message": "",
            "pid": os.getpid(),
            "started_at": time.time(),
            "ended_at": None,
            "steps": [{"name": step["name"], "state": "pending"} for step in spec["steps"]],
        }

    def run(self) -> None:
        """All steps, then the result, whatever happens."""
        self._listen()
        try:
            self._write_status()
            for index, step in enumerate(self._spec["steps"]):
                self._step(self._status["steps"][index], step)
            self._finish("succeeded", "")
        except RunEnded as end:
            self._finish(end.state, end.message)
        except OSError as error:
            self._end_processes()
            self._finish("failed", DISK_FULL if error.errno in FULL else f"The run could not go on: {error.strerror}.")
        self._discard()

    # --- one step

    def _step(self, status: dict[str, Any], step: dict[str, Any]) -> None:
        status.update(state="running", started_at=time.time(), offset=self._log.offset)
        try:
            self._check_asked()
            self._start(status, step)
            self._write_status()
            self._wait(step)
        except RunEnded as end:
            self._close(status, end.state)
            raise
        except OSError:
            self._close(status, "failed")
            raise
        self._close(status, "succeeded")

    def _close(self, status: dict[str, Any], state: str) -> None:
        self._end_processes()
        status.update(state=state, ended_at=time.time(), code=self._code, end=self._log.offset)
        self._process, self._code = None, None

    def _start(self, status: dict[str, Any], step: dict[str, Any]) -> None:
        read, write = os.pipe()
        os.set_blocking(read, False)
        try:
            self._process = subprocess.Popen(
                step["argv"],
                cwd=step["cwd"],
                env=step["env"],
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o022,
            )
        except OSError as error:
            os.close(read)
            message = (
                f"Step {step['name']} could not be started: {error.strerror}: {error.filename or step['argv'][0]}."
            )
            self._log.write(f"slipway: {message}\n".encode())
            raise RunEnded("failed", message) from None
        finally:
            os.close(write)
        status["pid"] = self._process.pid
        self._pipe = read
        self._selector.register(read, selectors.EVENT_READ, self._read)

    def _wait(self, step: dict[str, Any]) -> None:
        limit = time.monotonic() + step["timeout"]
        while self._code is None:
            now = time.monotonic()
            if now >= min(limit, self._deadline):
                raise self._too_long(step, whole=limit > self._deadline)
            self._turn(min(limit, self._deadline) - now)
            self._check_asked()
        self._read()
        if self._code != 0:
            raise RunEnded("failed", f"Step {step['name']} {_how(self._code)}.")

    def _too_long(self, step: dict[str, Any], *, whole: bool) -> RunEnded:
        seconds = self._spec["timeout"] if whole else step["timeout"]
        what = "The run" if whole else f"Step {step['name']}"
        message = f"{what} took longer than {seconds:g} s and was ended."
        self._end_processes()
        self._log.write(f"slipway: {message}\n".encode())
        return RunEnded("failed", message)

    # --- events

    def _listen(self) -> None:
        """Signals arrive as bytes in a pipe, next to the steps' output."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for sign in (signal.SIGCHLD, *WISHES):
            signal.signal(sign, self._signalled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WISHES)
        self._selector.register(read, selectors.EVENT_READ, lambda: _drain(read))

    def _signalled(self, number: int, frame: object) -> None:
        del frame
        if number != signal.SIGCHLD:
            self._asked_to_end = True

    def _turn(self, patience: float) -> None:
        """Wait for output, the end of a process or a wish; at most half a second, in which marker files are seen."""
        for key, _ in self._selector.select(max(0.0, min(patience, 0.5))):
            handler: Callable[[], object] = key.data
            handler()
        self._reap()

    def _reap(self) -> None:
        """Collect ended processes: the step's own, and orphans handed to us."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self._process is not None and pid == self._process.pid:
                    self._code = os.waitstatus_to_exitcode(status)
                    self._process.returncode = self._code

    def _read(self) -> None:
        """Move what is there from the pipe to the log."""
        while self._pipe is not None:
            try:
                data = os.read(self._pipe, 65536)
            except BlockingIOError:
                return
            if not data:
                self._close_pipe()
                return
            self._log.write(data)
            if self._code is None:
                return  # Limits and wishes are looked at between two pieces.

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._selector.unregister(self._pipe)
            os.close(self._pipe)
            self._pipe = None

    def _check_asked(self) -> None:
        if os.path.exists(os.path.join(self._directory, "cancel")):
            raise RunEnded("cancelled", "It was cancelled.")
        if self._asked_to_end or os.path.exists(os.path.join(self._directory, "stop")):
            raise RunEnded("interrupted", "It was ended from outside before it had a result.")

    # --- ending

    def _end_processes(self) -> None:
        """End whatever the step left: TERM, a grace, KILL; grandchildren in sessions of their own too."""
        process = self._process
        if process is None:
            return
        # A finished deployment may leave its service running; a build may leave nothing.
        if not (self._spec["leave_daemons"] and self._code is not None):
            for sign, patience in ((signal.SIGTERM, self._spec["grace"]), (signal.SIGKILL, 5.0)):
                self._signal_all(process.pid, sign)
                self._until_gone(process.pid, patience)
        with suppress(OSError):
            self._read()
        self._close_pipe()

    def _until_gone(self, group: int, patience: float) -> None:
        end = time.monotonic() + patience
        while self._left(group) and time.monotonic() < end:
            with suppress(OSError):  # A full disk must not keep processes alive.
                self._turn(0.02)
            self._reap()

    def _signal_all(self, group: int, sign: int) -> None:
        for pid in self._left(group):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, sign)

    def _left(self, group: int) -> list[int]:
        """Living processes of the step: its group and, unless it may leave daemons, every descendant of ours."""
        table = _processes()
        if not table:  # No /proc on this system: the group is all we know.
            return [] if not _group_lives(group) else [-group]
        family = {os.getpid()}
        if not self._spec["leave_daemons"]:
            grown = True
            while grown:
                new = {pid for pid, (parent, _) in table.items() if parent in family} - family
                family |= new
                grown = bool(new)
        return [pid for pid, (_, its) in table.items() if pid != os.getpid() and (its == group or pid in family)]

    # --- files

    def _finish(self, state: str, message: str) -> None:
        for step in self._status["steps"]:
            if step["state"] == "pending" and state != "succeeded":
                step["state"] = "skipped"
        self._status.update(state=state, message=message, ended_at=time.time())
        with suppress(OSError):
            os.unlink(os.path.join(self._directory, "reserve"))
        self._write_status(final=True)

    def _write_status(self, *, final: bool = False) -> None:
        write_json(os.path.join(self._directory, "status.json"), self._status, sync=final)

    def _discard(self) -> None:
        for name in self._spec["discard"]:
            shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)


def _how(code: int) -> str:
    if code >= 0:
        return f"failed with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _drain(pipe: int) -> None:
    with suppress(BlockingIOError):
        os.read(pipe, 4096)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def _processes() -> dict[int, tuple[int, int]]:
    """Process id -> (parent, process group) of all living processes; empty without /proc."""
    table: dict[int, tuple[int, int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return table
    for name in names:
        if name.isdigit():
            # Processes vanish while we look; zombies count as gone.
            with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if fields[0] not in (b"Z", b"X"):
                    table[int(name)] = (int(fields[1]), int(fields[2]))
    return table


def write_json(path: str, value: object, *, sync: bool) -> None:
    """Replace the file as a whole, so that a reader never sees half of it."""
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    os.replace(temporary, path)


def _adopt_orphans() -> None:
    """Make processes that lose their parent ours (Linux), so that none escapes by starting its own session."""
    with suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _take_lock(directory: str) -> bool:
    """Hold the run for life; False if another runner has it. The descriptor stays open on purpose."""
    descriptor = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.ftruncate(descriptor, 0)
    os.write(descriptor, b"%d\n" % os.getpid())
    return True


def _mark_started(directory: str) -> bool:
    """At most once, whatever happened before: the marker is made under the lock and never taken away."""
    try:
        descriptor = os.open(os.path.join(directory, "started"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    os.fsync(descriptor)
    os.close(descriptor)
    return True


def main(directory: str) -> int:
    """Run it, unless somebody did. Closes its standard output once the run is surely ours."""
    directory = os.path.abspath(directory)
    os.umask(0o077)
    # From the lock on the bot knows our number: a wish that comes before we can listen must wait, not kill.
    signal.pthread_sigmask(signal.SIG_BLOCK, WISHES)
    try:
        if not (_take_lock(directory) and _mark_started(directory)):
            return 0
        with open(os.path.join(directory, "reserve"), "wb") as file:
            file.write(bytes(RESERVE))
        with open(os.path.join(directory, "spec.json"), encoding="utf-8") as spec_file:
            spec = json.load(spec_file)
        runner = Runner(directory, spec)
    except OSError as error:
        print(error.errno or 0, flush=True)
        return 1
    print("ok", flush=True)
    _let_go()
    if not spec["leave_daemons"]:
        _adopt_orphans()
    runner.run()
    return 0


def _let_go() -> None:
    """Give the bot's pipe back: from here on the directory is the only tie."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
