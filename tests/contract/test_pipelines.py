"""What every CI system must do for us, whichever it is. A provider joins by adding its world to `WORLDS`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from bot import artifacts
from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from bot.git import Git
from bot.pipelines.base import Pipeline, PipelineRun, RunRequest, RunState, StageState
from bot.pipelines.shell import ShellPipeline
from bot.processes import ProcessRuns
from bot.sources.git import Source
from tests.contract import remote_worlds
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.repositories import Repository


class PipelineWorld(Protocol):
    """A CI system with one service, ready to be asked."""

    pipeline: Pipeline
    stages: tuple[str, ...]
    """Of its pipeline, in order; the first one runs the tests."""

    def request(self, kind: str, intent: str = "dep-1:build") -> RunRequest:
        """kind: `good`, `failing` (one test fails), `slow` (runs until it is ended), `undefined` (no definition)."""
        ...

    def started(self) -> int:
        """How many runs the system really began."""
        ...


GOOD = """
steps:
  - name: test
    run: [sh, -c, "echo x >> {count}; echo tests pass"]
  - name: build
    run: [sh, -c, "mkdir dist && echo $SLIPWAY_SERVICE $SLIPWAY_VERSION > dist/app"]
artifact: dist
"""
FAILING_TEST = """
import unittest
class Total(unittest.TestCase):
    def test_total(self):
        self.assertEqual(2, 3)
"""
FAILING = """
steps:
  - name: test
    run: [sh, -c, "echo x >> {count}; exec '{python}' -m unittest test_total"]
  - name: build
    run: ['true']
artifact: dist
"""
SLOW = """
steps:
  - name: test
    run: [sh, -c, "echo x >> {count}; echo waiting; sleep 600"]
artifact: dist
"""


@dataclass
class ShellWorld:
    """The built-in pipeline on a repository with a branch per kind."""

    pipeline: Pipeline
    repository: Repository
    commits: dict[str, str]
    count: Path
    runs: ProcessRuns
    stages: tuple[str, ...] = ("test", "build")

    def request(self, kind: str, intent: str = "dep-1:build") -> RunRequest:
        target = make_target()
        return RunRequest(
            intent=intent,
            service=make_service(target),
            target=target,
            repo=self.repository.address,
            commit=self.commits[kind],
            branch="main",
            version="1.0 $(id)",
        )

    def started(self) -> int:
        return len(self.count.read_text().splitlines()) if self.count.exists() else 0


def shell_parts(directory: Path) -> tuple[ProcessRuns, ShellPipeline]:
    runs = ProcessRuns(directory / "runs")
    source = Source(directory / "cache", Git())
    return runs, ShellPipeline(runs, source, directory / "artifacts", grace=timedelta(milliseconds=300))


@asynccontextmanager
async def shell_world(directory: Path) -> AsyncIterator[ShellWorld]:
    repository, count = Repository(directory / "hello"), directory / "count"
    commits = {"undefined": repository.commit({"README": "x"})}
    for kind, text in {"good": GOOD, "failing": FAILING, "slow": SLOW}.items():
        files = {
            ".slipway/pipeline.yaml": text.replace("{count}", str(count)).replace("{python}", sys.executable),
            "test_total.py": FAILING_TEST,
        }
        commits[kind] = repository.commit(files, kind)
    runs, pipeline = shell_parts(directory)
    yield ShellWorld(pipeline, repository, commits, count, runs)
    await runs.stop_all()


WORLDS: dict[str, Callable[[Path], AbstractAsyncContextManager[PipelineWorld]]] = {
    "shell": shell_world,
    "jenkins": remote_worlds.jenkins_world,
    "gitlab": remote_worlds.gitlab_world,
    "github": remote_worlds.github_world,
    "tekton": remote_worlds.tekton_world,
    "prow": remote_worlds.prow_world,
    "yunxiao": remote_worlds.yunxiao_world,
}


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PipelineWorld]:
    async with WORLDS[request.param](tmp_path) as world:
        yield world


async def until(pipeline: Pipeline, request: RunRequest, true: Callable[[PipelineRun], bool]) -> PipelineRun:
    async with asyncio.timeout(30):
        while not true(run := await pipeline.look(request)):
            await asyncio.sleep(0.02)
    return run


async def final(pipeline: Pipeline, request: RunRequest) -> PipelineRun:
    return await until(pipeline, request, lambda run: run.state.is_final)


async def test_a_run_succeeds_with_stages_and_a_digest(world: PipelineWorld) -> None:
    """The digest is what is approved, written and compared; the stages are the card's progress."""
    request = world.request("good")
    assert await world.pipeline.find(request) is None
    await world.pipeline.trigger(request)
    run = await final(world.pipeline, request)
    assert (run.state, run.percent, run.provider) == (RunState.SUCCEEDED, 100, world.pipeline.name)
    assert run.artifact is not None
    assert run.artifact.digest.startswith("sha256:")
    assert {stage.state for stage in run.stages} == {StageState.SUCCEEDED}
    assert set(world.stages) <= {stage.name for stage in run.stages}
    assert await world.pipeline.find(request) == run


async def test_the_same_intent_starts_one_run(world: PipelineWorld) -> None:
    """A handler may run twice, also at the same time, and after a lost answer."""
    request = world.request("good")
    await asyncio.gather(*(world.pipeline.trigger(request) for _ in range(4)))
    await final(world.pipeline, request)
    await world.pipeline.trigger(request)
    assert (await final(world.pipeline, request)).state is RunState.SUCCEEDED
    assert world.started() == 1


async def test_the_same_commit_gives_the_same_digest(world: PipelineWorld) -> None:
    """Content is identity: a rebuild without a change is the same release."""
    first, second = world.request("good"), world.request("good", "dep-2:build")
    await asyncio.gather(world.pipeline.trigger(first), world.pipeline.trigger(second))
    runs = [await final(world.pipeline, request) for request in (first, second)]
    assert runs[0].artifact == runs[1].artifact
    assert world.started() == 2


async def test_a_failure_names_stage_lines_and_tests(world: PipelineWorld) -> None:
    """The person who asked reads why without opening the CI system."""
    request = world.request("failing")
    await world.pipeline.trigger(request)
    run = await final(world.pipeline, request)
    assert (run.state, run.artifact) == (RunState.FAILED, None)
    states = {stage.name: stage.state for stage in run.stages}
    first, *later = world.stages
    assert (states[first], {states[name] for name in later} - {StageState.SKIPPED}) == (StageState.FAILED, set())
    failure = await world.pipeline.failure(request)
    assert failure.stage == first
    assert "AssertionError: 2 != 3" in failure.lines
    assert len(failure.lines) <= 20
    assert len(failure.tests) == 1
    assert "test_total" in failure.tests[0]


async def test_cancel_ends_a_run_and_leaves_a_finished_one(world: PipelineWorld) -> None:
    """A cancelled deployment stops building at once; a late click changes nothing."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    first = world.stages[0]
    await until(
        world.pipeline, request, lambda run: any(s.name == first and s.state is StageState.RUNNING for s in run.stages)
    )
    await world.pipeline.cancel(request)
    assert (await final(world.pipeline, request)).state is RunState.CANCELLED
    await world.pipeline.cancel(request)
    assert (await final(world.pipeline, request)).state is RunState.CANCELLED


async def test_a_missing_definition_starts_nothing(world: PipelineWorld) -> None:
    """A service without a pipeline is told so at once, not by a run that fails."""
    with pytest.raises(ProviderRejected):
        await world.pipeline.trigger(world.request("undefined"))
    assert await world.pipeline.find(world.request("undefined")) is None
    with pytest.raises(ProviderRejected):
        await world.pipeline.look(world.request("undefined"))


async def test_the_log_can_be_read_while_it_runs(world: PipelineWorld) -> None:
    """`/logs` answers during the build, not only after it."""
    request = world.request("slow")
    await world.pipeline.trigger(request)
    async with asyncio.timeout(30):
        while "waiting" not in await world.pipeline.log_tail(request, world.stages[0]):
            await asyncio.sleep(0.02)
    assert await world.pipeline.log_tail(request, "no such stage") == ()
    await world.pipeline.cancel(request)
    await final(world.pipeline, request)


async def test_all_of_the_log_can_be_read(world: PipelineWorld) -> None:
    """Every line that the end shows is in the whole, of all stages and of one."""
    request = world.request("failing")
    await world.pipeline.trigger(request)
    await final(world.pipeline, request)
    failure = await world.pipeline.failure(request)
    whole = b"".join([piece async for piece in world.pipeline.whole_log(request)]).decode()
    end = await world.pipeline.log_tail(request)
    assert end
    assert set(end) <= set(whole.splitlines())
    of_stage = b"".join([piece async for piece in world.pipeline.whole_log(request, failure.stage)]).decode()
    assert set(await world.pipeline.log_tail(request, failure.stage)) == set(of_stage.splitlines())


@pytest.mark.parametrize("name", sorted(set(WORLDS) - {"shell"}))
async def test_a_run_is_found_behind_those_of_others(tmp_path: Path, name: str) -> None:
    """After a long outage of ours a busy pipeline has had hundreds of runs; ours is among them and is not repeated."""
    async with WORLDS[name](tmp_path) as world:
        fake: Any = world.fake  # type: ignore[attr-defined]
        request = world.request("good")
        fake.app.fail("POST ", "lost")
        with pytest.raises(OutcomeUnknown):
            await world.pipeline.trigger(request)
        if name == "jenkins":  # It has left the queue meanwhile, and the queue has forgotten it.
            fake.start_waiting()
            fake.forget_left_items()
        fake.others(120)
        assert await world.pipeline.find(request) is not None
        await world.pipeline.trigger(request)
        assert fake.posts == 1


LOGS = {
    "jenkins": "logText",
    "gitlab": "/trace",
    "github": "GET /storage",
    "tekton": "/pods/.*/log",
    "prow": "/pods/.*/log",
    "yunxiao": "/job/.*/log",
}


@pytest.mark.parametrize("name", sorted(LOGS))
async def test_a_log_that_is_cut_off_is_no_log(tmp_path: Path, name: str) -> None:
    """Half a log may lack the artifact's line, or the error: it is read again, and never believed."""
    async with WORLDS[name](tmp_path) as world:
        fake: Any = world.fake  # type: ignore[attr-defined]
        good, failing = world.request("good"), world.request("failing", "dep-2:build")
        await world.pipeline.trigger(failing)
        await final(world.pipeline, failing)
        fake.app.fail(LOGS[name], "cut")
        with pytest.raises(ProviderUnavailable):
            await world.pipeline.failure(failing)
        assert "AssertionError: 2 != 3" in (await world.pipeline.failure(failing)).lines
        # Of Jenkins' log only a header is read first, which says how long it is.
        fake.app.fail(LOGS[name], "cut", times=2 if name == "jenkins" else 1)
        run, cuts = await world.pipeline.trigger(good), 0
        for _ in range(20):
            try:
                run = run if run.state.is_final else await world.pipeline.look(good)
            except ProviderUnavailable:
                cuts += 1
        assert run.artifact is not None
        assert cuts == (0 if name == "tekton" else 1)  # Its image is among the run's results.


# --- the built-in pipeline alone


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[ShellWorld]:
    async with shell_world(tmp_path) as world:
        yield world


async def test_shell_artifact_is_stored_by_its_content(shell: ShellWorld) -> None:
    """The delivery finds at the location exactly what the digest names."""
    request = shell.request("good")
    await shell.pipeline.trigger(request)
    run = await final(shell.pipeline, request)
    assert run.artifact is not None
    place = Path(run.artifact.location)
    assert artifacts.digest(place) == run.artifact.digest
    assert (place / "app").read_text() == "hello 1.0 $(id)\n"
    assert await shell.pipeline.holds(run.artifact.location)
    assert not await shell.pipeline.holds(run.artifact.location + "0")
    assert not await shell.pipeline.holds("/etc")
    async with asyncio.timeout(30):  # The workspace goes after the result is there.
        while shell.runs.workspace(request.intent).exists():
            await asyncio.sleep(0.02)


BAD_FILES = [
    ("steps: [{name: t, run: make test}]\nartifact: d", "`steps[0].run` must be a list such as [python3, build.py]"),
    ("steps: [{name: t, run: []}]\nartifact: d", "`steps[0].run`"),
    ("steps: [{name: t, run: [1]}]\nartifact: d", "`steps[0].run[0]` should be a valid string"),
    ("steps: []\nartifact: d", "`steps`"),
    ("artifact: d", "`steps` is missing"),
    ("steps: [{name: t, run: [x]}]", "`artifact` is missing"),
    ("steps: [{name: t, run: [x], shell: yes}]\nartifact: d", "`steps[0].shell` is not a known field"),
    ("step: 1\nsteps: [{name: t, run: [x]}]\nartifact: d", "`step` is not a known field (known: steps, artifact"),
    ("steps: [{name: t, run: [x]}]\nartifact: d\nreports: [../x]", "`reports` must be patterns inside the repository"),
    ("steps: [{name: reports, run: [x]}]\nartifact: d", "`steps[0].name` must not be `reports`"),
    ("steps: [{name: t, run: [x], timeout: 5}]\nartifact: d", "`steps[0].timeout` must be a time such as"),
    ("steps: [{name: t, run: [x], timeout: 99h}]\nartifact: d", "`steps[0].timeout` must be a time between"),
    ("steps: [{name: t, run: [x]}, {name: t, run: [y]}]\nartifact: d", "`steps` has two steps named `t`"),
    ("steps: [{name: checkout, run: [x]}]\nartifact: d", "`steps[0].name` must not be `checkout`"),
    ("steps: [{name: '../x', run: [x]}]\nartifact: d", "`steps[0].name` must be 1 to 40"),
    ("steps: [{name: t, run: [x]}]\nartifact: ../d", "`artifact` must be a file or directory inside"),
    ("steps: [{name: t, run: [x]}]\nartifact: .", "`artifact` must be a file or directory inside"),
    ("steps: [\n  - x", "is not valid YAML in line"),
    ("- a", "must hold `steps` and `artifact`"),
    ("!!python/object/apply:os.system [id]", "is not valid YAML"),
    ("\x00", "is not valid YAML"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD_FILES)
async def test_shell_bad_pipeline_file_names_file_commit_and_field(shell: ShellWorld, text: str, sentence: str) -> None:
    """Whoever wrote the file can correct it from the chat message alone."""
    commit = shell.repository.commit({".slipway/pipeline.yaml": text}, "bad")
    with pytest.raises(ProviderRejected) as caught:
        await shell.pipeline.trigger(replace(shell.request("good"), commit=commit))
    assert caught.value.message.startswith(f"`.slipway/pipeline.yaml` of hello at {commit[:12]}")
    assert sentence in caught.value.message
    assert "\n" not in caught.value.sentence()


async def test_shell_wrong_options_name_the_field(shell: ShellWorld) -> None:
    """A mistake in the catalog is told as one."""
    target = make_target(pipeline={"fiel": "x"})
    with pytest.raises(
        ProviderRejected, match=r"pipeline\.options of hello: `fiel` is not a known field \(known: file\)"
    ):
        await shell.pipeline.trigger(replace(shell.request("good"), target=target))


REPORTING = """
steps:
  - name: test
    run: [sh, -c, "mkdir -p out/a dist && echo good > out/a/x.xml && ln -s /etc/passwd out/a/leak.xml"]
artifact: dist
reports: ["out/**/*.xml", "none/*.xml"]
"""


async def test_shell_keeps_the_reports_that_the_file_names(shell: ShellWorld) -> None:
    """For the gates; what a link leads to outside of the workspace is not read."""
    commit = shell.repository.commit({".slipway/pipeline.yaml": REPORTING}, "reporting")
    assert isinstance(shell.pipeline, ShellPipeline)
    request = replace(shell.request("good"), commit=commit)
    await shell.pipeline.trigger(request)
    run = await final(shell.pipeline, request)
    assert [stage.name for stage in run.stages] == ["checkout", "test", "reports", "artifact"]
    assert await shell.pipeline.reports(run.id) == [("out__a__x.xml", b"good\n")]
    assert await shell.pipeline.reports("never") is None


async def test_shell_missing_artifact_fails_in_its_own_stage(shell: ShellWorld) -> None:
    """A build that forgot its output is not a release."""
    text = "steps: [{name: t, run: ['true']}]\nartifact: dist"
    commit = shell.repository.commit({".slipway/pipeline.yaml": text}, "bad")
    request = replace(shell.request("good"), commit=commit)
    await shell.pipeline.trigger(request)
    assert (await final(shell.pipeline, request)).state is RunState.FAILED
    failure = await shell.pipeline.failure(request)
    assert failure.stage == "artifact"
    assert failure.lines == ("slipway: the artifact `dist` was not built; a step must make it.",)


async def test_shell_runs_no_hook_and_no_filter_of_the_repository(shell: ShellWorld, tmp_path: Path) -> None:
    """Checking out other people's code must not run it before its steps do."""
    evil = f"#!/bin/sh\ntouch {tmp_path}/pwned\n"
    pipeline = GOOD.replace("{count}", str(shell.count))
    files = {"hooks/post-checkout": evil, ".gitattributes": "* filter=evil\n", ".slipway/pipeline.yaml": pipeline}
    commit = shell.repository.commit(files, "evil")
    shell.repository.git("config", "filter.evil.smudge", f"touch {tmp_path}/pwned; cat")
    hook = shell.repository.directory / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(evil)
    hook.chmod(0o755)
    request = replace(shell.request("good"), commit=commit)
    await shell.pipeline.trigger(request)
    assert (await final(shell.pipeline, request)).state is RunState.SUCCEEDED
    assert not (tmp_path / "pwned").exists()


BOT = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.contract import test_pipelines as contract
from bot.processes import ProcessRuns
from bot.git import Mirror
directory, commit, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
runs, pipeline = contract.shell_parts(directory)
if moment == "fetching":
    Mirror._fetch_once = die
if moment == "creating":
    ProcessRuns._create = die
if moment == "spawning":
    ProcessRuns._spawn = die
target = contract.make_target()
service = contract.make_service(target)
request = contract.RunRequest("dep-1:build", service, target, str(directory / "hello"), commit, "main", "1.0")
async def main():
    await pipeline.trigger(request)
    if moment.startswith("in:"):
        begun = lambda run: any(s.name == moment[3:] and s.seconds is not None for s in run.stages)
        await contract.until(pipeline, request, begun)
asyncio.run(main())
die()
"""


@pytest.mark.parametrize(
    "moment", ["fetching", "creating", "spawning", "started", "in:checkout", "in:build", "in:artifact"]
)
async def test_shell_a_killed_bot_changes_nothing(tmp_path: Path, moment: str) -> None:
    """kill -9 at any moment, then a new bot: one run, to its end, with its artifact."""
    async with shell_world(tmp_path) as world:
        argv = [sys.executable, "-c", BOT, str(tmp_path), world.commits["good"], moment]
        process = await asyncio.to_thread(subprocess.run, argv, check=False, env=os.environ | {"PYTHONPATH": "."})
        assert process.returncode == -signal.SIGKILL
        request = world.request("good")
        run = await world.pipeline.find(request) or await world.pipeline.trigger(request)
        run = await final(world.pipeline, request)
        assert run.state is RunState.SUCCEEDED
        assert run.artifact is not None
        assert Path(run.artifact.location).is_dir()
        assert world.started() == 1
