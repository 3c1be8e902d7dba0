"""The built-in pipeline: the steps of the service's own repository as local commands.

A run is a durable process run named by the intent: checkout, the repository's steps, and storing the artifact. Once
`trigger` has returned, no end of the bot changes what happens.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path, PurePosixPath

from pydantic import field_validator

from bot import artifacts, logs
from bot.errors import ProviderRejected, ProviderUnavailable
from bot.options import Options, read_options
from bot.pipelines import checkout, keep_reports
from bot.pipelines.base import Artifact, PipelineRun, RunFailure, RunRequest, RunState, Stage, StageState
from bot.pipelines.definition import (
    ARTIFACT,
    CHECKOUT,
    REPORTS,
    PipelineDefinition,
    StepDefinition,
    by_convention,
    read_definition,
)
from bot.processes import ProcessRun, ProcessRuns, RunOptions, Step
from bot.sources.git import Source

_COMMIT = re.compile(r"[0-9a-f]{40}")
_RESULT = "artifact.json"
_REPORTS = "reports"


class ShellPipelineOptions(Options):
    """`pipeline.options` of the catalog. file: the definition's path in the service's repository."""

    file: str = ".slipway/pipeline.yaml"

    @field_validator("file")
    @classmethod
    def _inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or not path.parts or ".." in path.parts or not file.isprintable():
            raise ValueError("must be a path inside the service's repository")
        return str(path)


class ShellPipeline:
    """Runs pipelines as sub-processes of this machine."""

    name = "shell"

    def __init__(
        self,
        runs: ProcessRuns,
        source: Source,
        store: Path,
        *,
        grace: timedelta = timedelta(seconds=5),
        log_limit: int = 10_000_000,
    ) -> None:
        """Runs live in `runs`, commits come from `source`, artifacts go to `store`. log_limit: bytes per run."""
        self._runs = runs
        self._source = source
        self._store = store.absolute()
        self._grace = grace
        self._log_limit = log_limit

    async def find(self, request: RunRequest) -> PipelineRun | None:
        """The run that carries this intent; one that was accepted and not begun is begun."""
        run = await self._looked(request)
        return None if run is None else self._as_run(run)

    async def trigger(self, request: RunRequest) -> PipelineRun:
        """Start one run for this intent; a second call with the same intent starts nothing.

        Raises:
            ProviderRejected: repository, commit or pipeline file is missing or wrong; nothing runs.
            ProviderUnavailable: the disk is full, or the repository was not reached; safe to retry.
        """
        known = await self.find(request)
        if known is not None:
            return known
        definition = await self._definition(request)
        options = RunOptions(
            timeout=request.target.pipeline.timeout,
            grace=self._grace,
            log_limit=self._log_limit,
            discard=("workspace", "home", "tmp"),
        )
        return self._as_run(await self._runs.start(request.intent, self._steps(request, definition), options))

    async def look(self, request: RunRequest) -> PipelineRun:
        """The run as it is now. Raises ProviderRejected if it is gone."""
        run = await self._looked(request)
        if run is None:
            raise ProviderRejected("This pipeline run is gone from the disk.", hint="Deploy again.")
        return self._as_run(run)

    async def failure(self, request: RunRequest) -> RunFailure:
        """The failing stage, the lines that matter and the tests that failed."""
        run = self._existing(request)
        stage = next((step.name for step in run.steps if step.state is StageState.FAILED), "")
        found = await asyncio.to_thread(lambda: logs.error_lines(self._runs.log_lines(request.intent, stage)))
        lines = tuple(self._as_in_repository(line, request) for line in found)
        tests = await asyncio.to_thread(lambda: logs.failed_tests(self._runs.log_lines(request.intent, stage)))
        return RunFailure(stage, run.message or "The run did not fail.", lines, tests)

    async def cancel(self, request: RunRequest) -> None:
        """Ask the run to end with everything it started; a finished run is left as it is."""
        await self._runs.cancel(request.intent)

    async def decide(self, request: RunRequest, question: str, *, go_on: bool, by: str) -> bool:
        """Steps on this machine ask nobody."""
        return False

    async def holds(self, location: str) -> bool:
        """Whether an artifact it made is still in the store."""
        place = Path(location)
        return place.parent == self._store / "sha256" and await asyncio.to_thread(place.is_dir)

    async def log_tail(self, request: RunRequest, stage: str = "", lines: int = 200) -> tuple[str, ...]:
        """The last lines of its log, redacted; of one stage if named."""
        found = await asyncio.to_thread(self._runs.log_tail, request.intent, stage, lines)
        return tuple(self._as_in_repository(line, request) for line in found)

    async def whole_log(self, request: RunRequest, stage: str = "") -> AsyncIterator[bytes]:
        """All of its log that is left, or of one stage."""
        readable, where = logs.Readable(), f"{self._runs.workspace(request.intent)}/".encode()
        pieces = self._runs.log_pieces(request.intent, stage)
        while data := await asyncio.to_thread(next, pieces, b""):
            yield (await asyncio.to_thread(readable.feed, data)).replace(where, b"")
        yield readable.end().replace(where, b"")

    async def reports(self, run_id: str) -> list[tuple[str, bytes]] | None:
        """Name and content of each report that a run kept; None if it kept none, or is gone."""
        if not run_id or self._runs.look(run_id) is None:
            return None
        return await asyncio.to_thread(_kept, self._runs.directory(run_id) / _REPORTS)

    # --- inside

    def _as_in_repository(self, line: str, request: RunRequest) -> str:
        """Paths as the service's own people know them, without where this machine checked them out."""
        return line.replace(f"{self._runs.workspace(request.intent)}/", "")

    async def _looked(self, request: RunRequest) -> ProcessRun | None:
        run = self._runs.look(request.intent)
        if run is not None and run.state is RunState.QUEUED:
            # The bot died between accepting the run and starting it.
            return await self._runs.resume(request.intent)
        return run

    def _existing(self, request: RunRequest) -> ProcessRun:
        run = self._runs.look(request.intent)
        if run is None:
            raise ProviderRejected("This pipeline run is gone from the disk.", hint="Deploy again.")
        return run

    async def _definition(self, request: RunRequest) -> PipelineDefinition:
        where = f"pipeline.options of {request.service.name}"
        options = read_options(ShellPipelineOptions, dict(request.target.pipeline.options), where)
        if not _COMMIT.fullmatch(request.commit):
            raise ProviderRejected("A pipeline builds a full commit of 40 digits.", hint="Deploy again.")
        text = await self._source.read(request.repo, request.commit, options.file)
        if text is None and request.service.build.steps:
            return by_convention(request.service)
        if text is None:
            raise ProviderRejected(
                f"{request.service.name} has no `{options.file}` at {request.commit[:12]}.",
                hint="Add one with `steps` and `artifact` to its repository.",
            )
        return read_definition(text, f"`{options.file}` of {request.service.name} at {request.commit[:12]}")

    def _steps(self, request: RunRequest, definition: PipelineDefinition) -> list[Step]:
        workspace = self._runs.workspace(request.intent)
        mirror = self._source.mirror(request.repo).directory
        return [
            _own(CHECKOUT, workspace.parent, checkout.__file__, str(mirror), request.commit, str(workspace)),
            *(_step(step, workspace, request) for step in definition.steps),
            *(_keeping(workspace, definition.reports) if definition.reports else ()),
            *(self._storing(workspace, definition.artifact) if definition.artifact is not None else ()),
        ]

    def _storing(self, workspace: Path, artifact: str) -> tuple[Step, ...]:
        result = workspace.with_name(_RESULT)
        words = (str(workspace), artifact, str(self._store), str(result))
        return (_own(ARTIFACT, workspace.parent, artifacts.__file__, *words),)

    def _as_run(self, run: ProcessRun) -> PipelineRun:
        return PipelineRun(
            provider=self.name,
            id=run.key,
            state=run.state,
            stages=tuple(Stage(step.name, step.state, step.seconds) for step in run.steps),
            percent=run.percent,
            artifact=_artifact(run) if run.state is RunState.SUCCEEDED and _leaves_one(run) else None,
            message=run.message,
        )


def _step(step: StepDefinition, workspace: Path, request: RunRequest) -> Step:
    env = {
        "SLIPWAY_SERVICE": request.service.name,
        "SLIPWAY_ENVIRONMENT": request.target.environment,
        "SLIPWAY_VERSION": request.version,
        "SLIPWAY_COMMIT": request.commit,
        "SLIPWAY_BRANCH": request.branch,
        "SLIPWAY_INTENT": request.intent,
        **{f"SLIPWAY_{name.upper()}": value for name, value in request.parameters.items()},
    }
    return Step(step.name, tuple(step.run), workspace, step.timeout, env)


def _own(name: str, cwd: Path, script: str, *arguments: str) -> Step:
    """A step of ours: a script that needs nothing but the standard library."""
    return Step(name, (sys.executable, "-I", "-S", script, *arguments), cwd, timedelta(minutes=10))


def _keeping(workspace: Path, patterns: list[str]) -> tuple[Step, ...]:
    place = workspace.with_name(_REPORTS)
    return (_own(REPORTS, workspace.parent, keep_reports.__file__, str(workspace), str(place), *patterns),)


def _kept(directory: Path) -> list[tuple[str, bytes]] | None:
    try:
        return [(path.name, path.read_bytes()) for path in sorted(directory.iterdir())]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProviderUnavailable("The reports of this run cannot be read from the disk.") from error


def _leaves_one(run: ProcessRun) -> bool:
    """Whether its pipeline builds something at all."""
    return any(step.name == ARTIFACT for step in run.steps)


def _artifact(run: ProcessRun) -> Artifact:
    """What the last step wrote. Written before the run could succeed, so its absence is damage."""
    try:
        result = json.loads((run.directory / _RESULT).read_bytes())
        return Artifact(result["digest"], result["location"])
    except (OSError, ValueError, KeyError) as error:
        raise ProviderUnavailable(
            "The result of this run cannot be read from the disk.", hint="Deploy again."
        ) from error
