"""Durable runs: they outlive the bot, run at most once, and leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.errors import ProviderUnavailable
from bot.pipelines.base import RunState, StageState
from bot.processes import ProcessRun, ProcessRuns, RunOptions, Step
from tests.support import FakeClock
from tests.support.disk import fill, mounted

PATIENCE = timedelta(seconds=20)
QUICK = RunOptions(grace=timedelta(milliseconds=300))


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[ProcessRuns]:
    runs = ProcessRuns(tmp_path / "runs")
    yield runs
    await runs.stop_all()


def python(code: str, name: str = "step", *, timeout: timedelta = timedelta(minutes=1)) -> Step:
    return Step(name, (sys.executable, "-I", "-S", "-c", code), Path("/"), timeout)


def shell(code: str, name: str = "step", *, timeout: timedelta = timedelta(minutes=1)) -> Step:
    return Step(name, ("/bin/sh", "-c", code), Path("/"), timeout)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def finished(runs: ProcessRuns, key: str) -> ProcessRun:
    return await runs.wait(key, patience=PATIENCE)


async def test_steps_run_one_after_another_and_stop_at_the_first_failure(runs: ProcessRuns) -> None:
    """A card shows each step's own end, and what never ran is not shown as failed."""
    await runs.start("a", [shell("echo one", "one"), shell("echo two; exit 3", "two"), shell("echo no", "three")])
    run = await finished(runs, "a")
    assert run.state is RunState.FAILED
    assert run.message == "Step two failed with exit code 3."
    assert [step.state for step in run.steps] == [StageState.SUCCEEDED, StageState.FAILED, StageState.SKIPPED]
    assert [step.code for step in run.steps] == [0, 3, None]
    assert runs.log_tail("a") == ("one", "two")
    assert runs.log_tail("a", "two") == ("two",)
    assert runs.log_tail("a", "three") == ()


async def test_the_same_key_runs_once_even_when_started_at_the_same_time(runs: ProcessRuns, tmp_path: Path) -> None:
    """A repeated step of the engine must not build twice."""
    count = tmp_path / "count"
    step = shell(f"echo x >> {count}")
    await asyncio.gather(*(runs.start("a", [step]) for _ in range(8)))
    await finished(runs, "a")
    await runs.start("a", [step])
    await finished(runs, "a")
    assert count.read_text() == "x\n"


async def test_nothing_of_the_bots_environment_reaches_a_step(
    runs: ProcessRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build script is other people's code: it must not see the bot's tokens."""
    monkeypatch.setenv("SLACK_TOKEN", "xoxb-secret")
    monkeypatch.setenv("SLIPWAY_DATABASE", "postgres://u:p@h/d")
    step = Step("env", (sys.executable, "-I", "-S", "-c", "import os; print(sorted(os.environ))"), Path("/"))
    await runs.start("a", [step])
    await finished(runs, "a")
    assert runs.log_tail("a") == ("['HOME', 'LANG', 'LC_CTYPE', 'PATH', 'TMPDIR']",) or runs.log_tail("a") == (
        "['HOME', 'LANG', 'PATH', 'TMPDIR']",
    )
    with pytest.raises(ValueError, match="only SLIPWAY_ variables"):
        await runs.start("b", [Step("env", ("true",), Path("/"), env={"AWS_SECRET": "x"})])


async def test_arguments_never_meet_a_shell(runs: ProcessRuns, tmp_path: Path) -> None:
    """A version named `$(touch x)` is a word, not a command."""
    step = Step("echo", ("/bin/echo", f"$(touch {tmp_path}/pwned)", ";", "`id`"), Path("/"))
    await runs.start("a", [step])
    await finished(runs, "a")
    assert runs.log_tail("a") == (f"$(touch {tmp_path}/pwned) ; `id`",)
    assert not (tmp_path / "pwned").exists()


async def test_a_step_that_takes_too_long_is_ended_and_says_so(runs: ProcessRuns) -> None:
    """A hanging build ends by itself, with the limit in the sentence."""
    await runs.start("a", [shell("echo begun; sleep 60", timeout=timedelta(seconds=0.3))], QUICK)
    run = await finished(runs, "a")
    assert (run.state, run.message) == (RunState.FAILED, "Step step took longer than 0.3 s and was ended.")
    assert runs.log_tail("a")[0] == "begun"


async def test_the_whole_run_has_a_limit_too(runs: ProcessRuns) -> None:
    """Many steps that are each in time must not add up to hours."""
    options = RunOptions(timeout=timedelta(seconds=0.5), grace=timedelta(milliseconds=200))
    await runs.start("a", [shell("sleep 0.3", "one"), shell("sleep 30", "two")], options)
    run = await finished(runs, "a")
    assert run.message == "The run took longer than 0.5 s and was ended."


async def test_a_missing_program_is_one_sentence(runs: ProcessRuns) -> None:
    """A typo in the pipeline file must be readable on the card."""
    await runs.start("a", [Step("build", ("no-such-program",), Path("/"))])
    run = await finished(runs, "a")
    assert run.message == "Step build could not be started: No such file or directory: no-such-program."


ESCAPE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
time.sleep(600)
"""


async def test_cancel_ends_grandchildren_that_left_the_session_and_ignore_term(
    runs: ProcessRuns, tmp_path: Path
) -> None:
    """A cancelled build may leave nothing running, whatever it did to hide."""
    pid_file = tmp_path / "pid"
    step = Step("build", (sys.executable, "-I", "-S", "-c", ESCAPE, str(pid_file)), Path("/"))
    await runs.start("a", [step], QUICK)
    await until(lambda: pid_file.exists() and pid_file.read_text() != "")
    grandchild = int(pid_file.read_text())
    assert is_alive(grandchild)
    await runs.cancel("a")
    run = await finished(runs, "a")
    assert (run.state, run.steps[0].state) == (RunState.CANCELLED, StageState.CANCELLED)
    assert not is_alive(grandchild)


async def test_a_successful_step_leaves_nothing_running_unless_it_may(runs: ProcessRuns, tmp_path: Path) -> None:
    """A build's stray server would hold ports for ever; a deployed service must go on."""
    for key, leave in (("build", False), ("deploy", True)):
        pid_file = tmp_path / key
        code = f"setsid sleep 600 >/dev/null 2>&1 & echo $! > {pid_file}"
        await runs.start(key, [shell(code)], RunOptions(grace=timedelta(milliseconds=300), leave_daemons=leave))
        assert (await finished(runs, key)).state is RunState.SUCCEEDED
        pid = int(pid_file.read_text())
        assert is_alive(pid) is leave
        if leave:
            os.kill(pid, signal.SIGKILL)


async def test_a_cancel_at_the_first_moment_is_a_cancel(runs: ProcessRuns) -> None:
    """A wish that meets the runner before it can listen must not kill it into `interrupted`."""
    for n in range(20):
        await runs.start(f"a{n}", [shell("sleep 600")], QUICK)
        await runs.cancel(f"a{n}")
    states = {(await finished(runs, f"a{n}")).state for n in range(20)}
    assert states == {RunState.CANCELLED}


async def test_a_cancelled_run_that_finished_first_stays_as_it_is(runs: ProcessRuns) -> None:
    """A late click on cancel must not turn a success into something else."""
    await runs.start("a", [shell("true")])
    await finished(runs, "a")
    await runs.cancel("a")
    run = runs.look("a")
    assert run is not None
    assert run.state is RunState.SUCCEEDED


BOT = """
import asyncio, os, signal, sys
from pathlib import Path
from bot.processes import ProcessRuns, Step
runs = ProcessRuns(Path(sys.argv[1]))
moment = sys.argv[2]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if moment == "before_rename":
    Path.rename = die
if moment == "before_spawn":
    runs._spawn = die
step = Step("work", ("/bin/sh", "-c", f"echo x >> {sys.argv[3]}; sleep 0.5; echo done"), Path("/"))
asyncio.run(runs.start("a", [step]))
if moment == "in_step":
    while not Path(sys.argv[3]).exists():
        pass
die()
"""


@pytest.mark.parametrize("moment", ["before_rename", "before_spawn", "after_start", "in_step"])
async def test_a_killed_bot_loses_no_run_and_repeats_none(tmp_path: Path, moment: str) -> None:
    """kill -9 at any moment: the next bot asks for the same key and the work is done exactly once."""
    count = tmp_path / "count"
    argv = [sys.executable, "-c", BOT, str(tmp_path / "runs"), moment, str(count)]
    process = await asyncio.to_thread(subprocess.run, argv, check=False)
    assert process.returncode == -signal.SIGKILL
    runs = ProcessRuns(tmp_path / "runs")
    if moment == "before_spawn":
        queued = runs.look("a")
        assert queued is not None
        assert queued.state is RunState.QUEUED
    step = shell(f"echo x >> {count}; sleep 0.1; echo done", "work")
    await runs.start("a", [step])
    run = await finished(runs, "a")
    assert run.state is RunState.SUCCEEDED
    assert count.read_text() == "x\n"
    assert runs.log_tail("a") == ("done",)


def _runner_pid(runs: ProcessRuns, key: str) -> int:
    return int((runs.directory(key) / "lock").read_text())


async def test_a_killed_runner_reads_as_interrupted_and_leaves_no_orphan(runs: ProcessRuns, tmp_path: Path) -> None:
    """After a machine crash or an OOM kill nobody waits for ever, and a rebuild meets no older twin."""
    pid_file = tmp_path / "pid"
    await runs.start("a", [shell(f"echo $$ > {pid_file}; exec sleep 600")])
    await until(lambda: pid_file.exists() and pid_file.read_text() != "")
    # Until the runner has written down what it began: killed before that, the step was never known to run.
    await until(lambda: (run := runs.look("a")) is not None and run.steps[0].state is StageState.RUNNING)
    os.kill(_runner_pid(runs, "a"), signal.SIGKILL)
    await until(lambda: (run := runs.look("a")) is not None and run.state.is_final)
    run = runs.look("a")
    assert run is not None
    assert (run.state, run.steps[0].state) == (RunState.INTERRUPTED, StageState.CANCELLED)
    await until(lambda: not is_alive(int(pid_file.read_text())))
    again = await runs.start("a", [shell("true")])
    assert again.state is RunState.INTERRUPTED


async def test_a_graceful_end_interrupts_and_does_not_fail(runs: ProcessRuns, tmp_path: Path) -> None:
    """Ctrl-C of the bot must not look like a broken build to a service's owners."""
    pid_file = tmp_path / "pid"
    await runs.start("a", [shell(f"echo $$ > {pid_file}; exec sleep 600")], QUICK)
    await runs.start("b", [shell("true")])
    await finished(runs, "b")
    await until(lambda: pid_file.exists() and pid_file.read_text() != "")
    assert await runs.stop_all() == 1
    run, other = runs.look("a"), runs.look("b")
    assert run is not None
    assert other is not None
    assert (run.state, other.state) == (RunState.INTERRUPTED, RunState.SUCCEEDED)
    assert not is_alive(int(pid_file.read_text()))


async def test_a_huge_log_keeps_head_and_tail_within_its_limit(runs: ProcessRuns) -> None:
    """A build that prints without end must fill neither disk nor memory, and its last words must be there."""
    code = "import sys\nfor i in range(200000): sys.stdout.write(f'line {i}\\n')"
    await runs.start("a", [python(code), shell("echo the end", "last")], RunOptions(log_limit=100_000))
    await finished(runs, "a")
    kept = sum(path.stat().st_size for path in runs.directory("a").glob("log.*"))
    assert kept <= 100_000
    lines = list(runs.log_lines("a"))
    assert (lines[0], lines[-1]) == ("line 0", "the end")
    assert "line 199999" in lines
    assert any("bytes of the log were dropped" in line for line in lines)
    assert runs.log_tail("a", "step", lines=2) == ("line 199998", "line 199999")
    assert runs.log_tail("a", "last") == ("the end",)


async def test_the_runners_memory_does_not_grow_with_the_log(runs: ProcessRuns) -> None:
    """A hundred megabytes of output must not become a hundred megabytes of memory."""
    code = "import sys\nfor i in range(1000): sys.stdout.write('x' * 99999 + '\\n')\nsys.stdout.flush()"
    await runs.start("a", [python(code), shell("sleep 600", "last")], RunOptions(log_limit=100_000))
    await until(lambda: (run := runs.look("a")) is not None and run.steps[1].state is StageState.RUNNING)
    status = Path(f"/proc/{_runner_pid(runs, 'a')}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 40_000
    await runs.cancel("a")
    await finished(runs, "a")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KB."""
    with mounted(tmp_path / "disk", kilobytes=256) as place:
        yield place


async def test_a_disk_that_fills_while_running_is_one_sentence(small_disk: Path) -> None:
    """The result is written although the disk is full, and says what to do."""
    runs = ProcessRuns(small_disk / "runs")
    await runs.start("a", [shell("while :; do echo 0123456789012345678901234567890123456789; done")], QUICK)
    run = await finished(runs, "a")
    assert run.state is RunState.FAILED
    assert run.message == "The disk is full where the run's log is kept; free some space and start it again."


async def test_a_disk_that_is_full_before_the_start_is_one_sentence(small_disk: Path) -> None:
    """Nothing half-made is left, so that the same start works once there is space."""
    filler = fill(small_disk)
    runs = ProcessRuns(small_disk / "runs")
    with pytest.raises(ProviderUnavailable) as caught:
        await runs.start("a", [shell("true")])
    assert caught.value.sentence() == (
        "The disk is full where runs are kept. Free some space; it is tried again by itself."
    )
    assert runs.look("a") is None
    filler.unlink()
    await runs.start("a", [shell("true")])
    assert (await finished(runs, "a")).state is RunState.SUCCEEDED


async def test_old_runs_are_pruned_and_the_newest_stay(tmp_path: Path) -> None:
    """The disk does not fill with history, and a run in flight is never touched."""
    clock = FakeClock(datetime.now(UTC) + timedelta(days=10))
    runs = ProcessRuns(tmp_path / "runs", clock=clock)
    for key in ("a", "b", "c"):
        await runs.start(key, [shell("true")])
        await finished(runs, key)
    await runs.start("running", [shell("sleep 600")], QUICK)
    assert await runs.prune(timedelta(days=20), keep=0) == 0
    assert await runs.prune(timedelta(days=7), keep=1) == 2
    assert [runs.look(key) is not None for key in ("a", "b", "c", "running")] == [False, False, True, True]
    await runs.stop_all()


@pytest.mark.parametrize("key", ["../../etc", "a/b", "-rf", ".hidden", "dep 1:build", "ü", "x" * 300])
async def test_odd_keys_stay_inside_the_directory(tmp_path: Path, key: str) -> None:
    """A key comes from a row of ours, yet a path must never follow from it."""
    runs = ProcessRuns(tmp_path / "runs")
    directory = runs.directory(key)
    assert directory.parent == tmp_path / "runs"
    assert not directory.name.startswith((".", "-"))


async def test_logs_are_for_the_bot_alone_and_are_told_redacted(runs: ProcessRuns) -> None:
    """What a build prints may hold secrets: other users cannot read it, and people see it cleaned."""
    await runs.start("a", [shell("echo password=hunter22; printf '\\033[31mred\\033[0m\\n'")])
    await finished(runs, "a")
    assert runs.log_tail("a") == ("password=[redacted]", "red")
    assert (runs.directory("a").stat().st_mode & 0o077) == 0


async def test_a_bot_without_file_descriptors_calls_no_run_dead(runs: ProcessRuns) -> None:
    """What cannot be read is unknown: a wrong `interrupted` would end a healthy build and start it twice."""
    await runs.start("a", [shell("sleep 600")], QUICK)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with suppress(OSError):
            while True:
                descriptors.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(ProviderUnavailable, match="cannot be read: Too many open files"):
            runs.look("a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in descriptors:
            os.close(descriptor)
    run = runs.look("a")
    assert run is not None
    assert run.state is RunState.RUNNING


async def test_the_directory_is_the_whole_interface(runs: ProcessRuns) -> None:
    """A bot of the next version adopts runs by these names."""
    await runs.start("a", [shell("true")])
    await finished(runs, "a")
    status = json.loads((runs.directory("a") / "status.json").read_text())
    assert status["state"] == "succeeded"
    assert status["steps"][0]["code"] == 0
