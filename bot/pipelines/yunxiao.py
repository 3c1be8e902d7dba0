"""Yunxiao (云效) Flow, by its new OpenAPI with a personal access token.

Source: `alibabacloud-devops-mcp-server` 0.3.64, `dist/operations/flow/*.js`. Mind the two spellings of its paths:
`runs` and `pipelineRuns`, `job` and `jobs`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import Field

from bot.clock import Clock
from bot.errors import OutcomeUnknown, ProviderRejected
from bot.options import Options, read_options
from bot.pipelines.base import PipelineRun, RunQuestion, RunRequest, RunResults, RunState, Stage, StageState
from bot.pipelines.http import Http
from bot.pipelines.memory import RunNote
from bot.pipelines.remote import PARAMETERS, Carried, Found, fill, look_again, percent_of

RUNS: Mapping[str, RunState] = {
    "INIT": RunState.QUEUED,
    "WAITING": RunState.QUEUED,
    "RUNNING": RunState.RUNNING,
    "SUCCESS": RunState.SUCCEEDED,
    "FINISH": RunState.SUCCEEDED,
    "FAIL": RunState.FAILED,
    "CANCELED": RunState.CANCELLED,
}
"""A word that is not here (`UNKOWN` is one of theirs) is unknown, never failed."""

STAGES: Mapping[str, StageState] = {
    "SUCCESS": StageState.SUCCEEDED,
    "FINISH": StageState.SUCCEEDED,
    "FAIL": StageState.FAILED,
    "RUNNING": StageState.RUNNING,
    "CANCELLING": StageState.RUNNING,
    "CANCELED": StageState.CANCELLED,
    "SKIP": StageState.SKIPPED,
}


PAGE = 30
"""More runs than this Yunxiao does not show at once."""


class YunxiaoOptions(Options):
    """`pipeline.options` of the catalog; `pipeline.name` is the pipeline's number.

    envs: name -> pattern. findable: you have seen that SLIPWAY_INTENT is among a run's parameters; unless it is set, a
    run that is not found after a lost answer is a person's to look for, because Yunxiao does not promise it.
    """

    envs: dict[str, str] = Field(default_factory=lambda: dict(PARAMETERS))
    findable: bool = False


class Yunxiao:
    """One organization's Flow."""

    name = "yunxiao"
    said = "Yunxiao"
    settle = timedelta(minutes=1)

    def __init__(self, client: httpx.AsyncClient, clock: Clock) -> None:
        """The client brings the address that ends with `/oapi/v1/flow/organizations/ORG/`, and the token."""
        self._http = Http(self.said, client, clock)
        self._clock = clock
        self._carried = Carried()

    def definition(self, request: RunRequest) -> str:
        """The pipeline's number."""
        return request.target.pipeline.name.strip("/")

    def can_tell(self, request: RunRequest) -> bool:
        """Only where somebody has seen that runs show the intent."""
        return self._options(request).findable

    async def check(self, request: RunRequest) -> None:
        """The pipeline is there."""
        self._options(request)
        if await self._http.get_json(self._pipeline(request)) is None:
            raise ProviderRejected(
                f"Yunxiao has no pipeline {self.definition(request)}, or Slipway's account may not see it.",
                hint="Write the pipeline's number as `pipeline.name`.",
            )

    async def send(self, request: RunRequest) -> Found:
        """Run the pipeline. The parameters are JSON in a string; the answer is a bare number."""
        envs = {name: fill(pattern, request) for name, pattern in self._options(request).envs.items()}
        envs["SLIPWAY_INTENT"] = request.intent
        params = {"branchModeBranchs": [request.branch], "envs": envs, "comment": request.intent}
        response = await self._http.start(f"{self._pipeline(request)}/runs", json={"params": json.dumps(params)})
        text = response.text.strip().strip('"')
        if not (text.isascii() and text.isdigit()):
            raise OutcomeUnknown("Yunxiao was asked to start a run and did not answer with its number.")
        return Found(run_id=text)

    async def search(self, request: RunRequest, since: datetime | None) -> Found | None:
        """Among the newest runs, by the parameters of each."""
        begin = since or self._clock() - timedelta(minutes=10)
        params = {"perPage": PAGE, "startTime": int((begin - timedelta(minutes=2)).timestamp() * 1000)}
        async for one in self._http.items(f"{self._pipeline(request)}/runs", params, size=PAGE):
            number = str(one.get("pipelineRunId", ""))
            path = f"{self._pipeline(request)}/runs/{number}"
            if await self._carried.intent(path, partial(self._intent, path)) == request.intent:
                return Found(run_id=number)
        return None

    async def resolve(self, request: RunRequest, note: RunNote) -> Found | PipelineRun | None:
        """There are no handles here."""
        return await self.search(request, note.sent_at)

    async def read(self, request: RunRequest, note: RunNote) -> PipelineRun | None:
        """The run and its stages."""
        run = await self._http.get_json(f"{self._pipeline(request)}/runs/{note.run_id}")
        if run is None:
            return None
        state = RUNS.get(str(run.get("status", "")).upper(), RunState.RUNNING)
        stages = tuple(_stage(one, over=state.is_final) for one in run.get("stages", ()))
        asks = _question(run) if not state.is_final else None
        return PipelineRun(
            provider=self.name,
            id=note.run_id,
            state=state,
            stages=stages,
            percent=100 if state is RunState.SUCCEEDED else percent_of(stages),
            message="The Yunxiao run waits for a person to pass or refuse it." if asks is not None else "",
            look_again=look_again(_time(run.get("createTime")), self._clock()),
            asks=asks,
        )

    @asynccontextmanager
    async def log(
        self, request: RunRequest, note: RunNote, stage: str, tail: int | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The logs of the stage's jobs, or of all."""
        path = f"{self._pipeline(request)}/runs/{note.run_id}"
        run = await self._http.get_json(path) or {}
        jobs = [job for name, job in _jobs(run) if not stage or name == stage]

        async def texts() -> AsyncIterator[bytes]:
            for job in jobs:
                answer = await self._http.get_json(f"{path}/job/{job['id']}/log") or {}
                yield str(answer.get("content", "")).encode() + b"\n"

        yield texts()

    def of_stage(self, lines: Iterable[str], stage: str) -> Iterable[str]:
        """`log` has chosen already."""
        return lines

    async def failed_tests(self, request: RunRequest, note: RunNote) -> tuple[str, ...]:
        """The API tells of no tests; their names come from the log."""
        return ()

    async def results(self, request: RunRequest, note: RunNote) -> RunResults | None:
        """Yunxiao has no place for reports."""
        return None

    async def cancel(self, request: RunRequest, note: RunNote, force: int = 0) -> None:
        """Stop every job that has not ended: the new API documents no way to stop a whole run."""
        path = f"{self._pipeline(request)}/pipelineRuns/{note.run_id}/jobs"
        run = await self._http.get_json(f"{self._pipeline(request)}/runs/{note.run_id}") or {}
        for _, job in _jobs(run):
            if job.get("status") in ("RUNNING", "WAITING", "INIT"):
                await self._http.tell(f"{path}/{job['id']}/stop", "PUT")

    async def decide(self, request: RunRequest, note: RunNote, question: str, *, go_on: bool, by: str) -> bool:
        """Pass or refuse a manual checkpoint; False if it waits no more."""
        run = await self._http.get_json(f"{self._pipeline(request)}/runs/{note.run_id}") or {}
        asked = _question(run)
        if asked is None or asked.id != question:
            return False
        path = f"{self._pipeline(request)}/pipelineRuns/{note.run_id}/jobs/{question}"
        return (await self._http.tell(f"{path}/{'pass' if go_on else 'refuse'}")).status_code < 400

    # --- inside

    def _options(self, request: RunRequest) -> YunxiaoOptions:
        where = f"pipeline.options of {request.service.name}"
        return read_options(YunxiaoOptions, dict(request.target.pipeline.options), where)

    async def _intent(self, path: str) -> str | None:
        """What a run shows as its intent; None if it shows nothing (yet)."""
        run = await self._http.get_json(path) or {}
        return _parameter(run.get("globalParams"), "SLIPWAY_INTENT")

    def _pipeline(self, request: RunRequest) -> str:
        return f"pipelines/{quote(self.definition(request), safe='')}"


def _jobs(run: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Every job with its stage's name."""
    stages: Sequence[Mapping[str, Any]] = run.get("stages", ())
    return [
        (str(stage.get("name", "")), job) for stage in stages for job in (stage.get("stageInfo") or {}).get("jobs", ())
    ]


def _question(run: Mapping[str, Any]) -> RunQuestion | None:
    """The first checkpoint that waits; Yunxiao means a second pair of eyes by it."""
    stage, job = next(((stage, job) for stage, job in _jobs(run) if _waits(job)), ("", None))
    if job is None:
        return None
    return RunQuestion(str(job["id"]), f"pass {job.get('name') or stage}", approval=True)


def _waits(job: Mapping[str, Any]) -> bool:
    """A manual checkpoint offers actions while it waits."""
    return job.get("status") == "WAITING" and bool(job.get("actions"))


def _stage(raw: Mapping[str, Any], *, over: bool) -> Stage:
    info = raw.get("stageInfo") or {}
    state = STAGES.get(str(info.get("status", "")).upper(), StageState.SKIPPED if over else StageState.PENDING)
    began, ended = info.get("startTime"), info.get("endTime")
    return Stage(str(raw.get("name", "")), state, (ended - began) / 1000 if began and ended else None)


def _parameter(params: object, name: str) -> str | None:
    """A list of pairs in some versions, a map in others."""
    if isinstance(params, Mapping):
        return str(params[name]) if name in params else None
    pairs = params if isinstance(params, list) else ()
    return next((str(one.get("value")) for one in pairs if one.get("key") == name), None)


def _time(millis: object) -> datetime | None:
    return datetime.fromtimestamp(millis / 1000, UTC) if isinstance(millis, int) else None
