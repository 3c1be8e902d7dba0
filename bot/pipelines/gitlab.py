"""GitLab CI: a pipeline made by the API, followed by its jobs and those of its child pipelines.

Source: GitLab REST API v4, as typed by `@gitbeaker/core` 43.8.0; inputs since 17.11, variables may be forbidden since
18.0.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

import httpx
from pydantic import Field

from bot.clock import Clock
from bot.errors import ProviderRejected
from bot.options import Options, read_options
from bot.pipelines.base import PipelineRun, RunQuestion, RunRequest, RunResults, RunState, Stage, StageState
from bot.pipelines.http import Http
from bot.pipelines.memory import RunNote
from bot.pipelines.remote import PARAMETERS, Carried, Found, fill, look_again, percent_of

STATES: Mapping[str, RunState] = {
    "created": RunState.QUEUED,
    "waiting_for_resource": RunState.QUEUED,
    "waiting_for_callback": RunState.RUNNING,
    "preparing": RunState.QUEUED,
    "pending": RunState.QUEUED,
    "scheduled": RunState.QUEUED,
    "running": RunState.RUNNING,
    "canceling": RunState.RUNNING,
    "manual": RunState.RUNNING,
    "success": RunState.SUCCEEDED,
    "failed": RunState.FAILED,
    "canceled": RunState.CANCELLED,
    "skipped": RunState.FAILED,
}
"""A word that is not here is a newer GitLab's: still running, as far as we know; never failed."""

JOBS: Mapping[str, StageState] = {
    "success": StageState.SUCCEEDED,
    "failed": StageState.FAILED,
    "canceled": StageState.CANCELLED,
    "canceling": StageState.RUNNING,
    "skipped": StageState.SKIPPED,
    "running": StageState.RUNNING,
    "waiting_for_callback": StageState.RUNNING,
}
DEPTH = 3
"""How far child pipelines of child pipelines are followed; GitLab itself ends after two."""
WEIGHT = (
    StageState.RUNNING,
    StageState.FAILED,
    StageState.CANCELLED,
    StageState.PENDING,
    StageState.SUCCEEDED,
    StageState.SKIPPED,
)
"""The state of a stage is the first of these that one of its jobs has."""


class GitLabOptions(Options):
    """`pipeline.options` of the catalog; the project's path or number is `pipeline.name`.

    variables and inputs: name -> pattern. intent: how runs are found again: `variable` sends SLIPWAY_INTENT; `name`
    sends it as the input `slipway_intent`, which the project's `workflow: name:` must contain as a word.
    """

    ref: str = "{branch}"
    variables: dict[str, str] | None = None
    inputs: dict[str, str] = Field(default_factory=dict)
    intent: Literal["variable", "name"] = "variable"


class GitLab:
    """One GitLab instance."""

    name = "gitlab"
    said = "GitLab"
    settle = timedelta(seconds=30)

    def __init__(self, client: httpx.AsyncClient, clock: Clock) -> None:
        """The client brings the address that ends with `/api/v4/`, and the token."""
        self._http = Http(self.said, client, clock)
        self._clock = clock
        self._carried = Carried()

    def definition(self, request: RunRequest) -> str:
        """The project."""
        return request.target.pipeline.name.strip("/")

    def can_tell(self, request: RunRequest) -> bool:
        """Always: a pipeline is listed from the moment it exists."""
        return True

    async def check(self, request: RunRequest) -> None:
        """The project is there and may be seen."""
        self._options(request)
        if await self._http.get_json(self._project(request)) is None:
            raise ProviderRejected(
                f"GitLab has no project {self.definition(request)}, or Slipway's account may not see it.",
                hint="Name the project in `pipeline.name` of the catalog.",
            )

    async def send(self, request: RunRequest) -> Found:
        """Make one pipeline; its id is in the answer."""
        options = self._options(request)
        body: dict[str, Any] = {"ref": fill(options.ref, request)}
        variables = _filled(options.variables if options.variables is not None else _defaults(options), request)
        inputs = _filled(options.inputs, request)
        if options.intent == "variable":
            variables["SLIPWAY_INTENT"] = request.intent
        else:
            inputs["slipway_intent"] = request.intent
        if variables:
            body["variables"] = [{"key": key, "value": value} for key, value in variables.items()]
        if inputs:
            body["inputs"] = inputs
        try:
            response = await self._http.start(f"{self._project(request)}/pipeline", json=body)
        except ProviderRejected as error:
            if "variables" in error.message:
                error.hint = (
                    "Set `intent: name` and `inputs` in pipeline.options, or let the token's role set variables."
                )
            raise
        return Found(run_id=str(self._http.read_json(response)["id"]))

    async def search(self, request: RunRequest, since: datetime | None) -> Found | None:
        """Among the newest pipelines that the API made on this branch."""
        options = self._options(request)
        path = f"{self._project(request)}/pipelines"
        params: dict[str, Any] = {"source": "api", "order_by": "id", "sort": "desc"}
        params["ref"] = fill(options.ref, request)
        if since is not None:
            params["updated_after"] = (since - timedelta(minutes=2)).isoformat()
            async for one in self._http.items(path, params):
                if await self._carries(request, options, one):
                    return Found(run_id=str(one["id"]))
            return None
        for one in await self._http.get_json(path, params | {"per_page": 5}) or ():
            if await self._carries(request, options, one):
                return Found(run_id=str(one["id"]))
        return None

    async def resolve(self, request: RunRequest, note: RunNote) -> Found | PipelineRun | None:
        """There are no handles here: the id is known at once."""
        return await self.search(request, note.sent_at)

    async def read(self, request: RunRequest, note: RunNote) -> PipelineRun | None:
        """The pipeline and its jobs, with those of its child pipelines."""
        path = f"{self._project(request)}/pipelines/{note.run_id}"
        pipeline = await self._http.get_json(path)
        if pipeline is None:
            return None
        jobs = await self._jobs(request, note)
        stages = _stages(jobs)
        state = STATES.get(pipeline.get("status", ""), RunState.RUNNING)
        message = _message(pipeline, jobs)
        if pipeline.get("sha") not in (None, "", request.commit):
            # The branch moved between our look and theirs: what is built is not what was asked for and approved.
            await self.cancel(request, note)
            state, message = RunState.FAILED, _moved(self.said, pipeline["sha"], request)
        return PipelineRun(
            provider=self.name,
            id=note.run_id,
            state=state,
            url=str(pipeline.get("web_url", "")),
            stages=stages,
            percent=100 if state is RunState.SUCCEEDED else _percent(jobs, stages),
            message=message,
            look_again=look_again(_time(pipeline.get("started_at") or pipeline.get("created_at")), self._clock()),
            asks=_question(jobs) if pipeline.get("status") == "manual" and not state.is_final else None,
        )

    @asynccontextmanager
    async def log(
        self, request: RunRequest, note: RunNote, stage: str, tail: int | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The traces of the stage's jobs, one after the other."""
        jobs = [job for job in await self._jobs(request, note) if not stage or job.get("stage") == stage]
        # A server that does not honour the range sends everything, which is right too.
        headers = {"Range": f"bytes=-{tail}"} if tail is not None else {}

        async def traces() -> AsyncIterator[bytes]:
            for job in jobs:
                async with self._http.stream(f"{job['project']}/jobs/{job['id']}/trace", headers=headers) as response:
                    if response is not None:
                        async for chunk in response.aiter_bytes():
                            yield chunk

        yield traces()

    def of_stage(self, lines: Iterable[str], stage: str) -> Iterable[str]:
        """`log` has chosen already."""
        return lines

    async def failed_tests(self, request: RunRequest, note: RunNote) -> tuple[str, ...]:
        """From the JUnit reports that the jobs handed in."""
        report = await self._http.get_json(f"{self._project(request)}/pipelines/{note.run_id}/test_report")
        cases = [case for suite in (report or {}).get("test_suites", ()) for case in suite.get("test_cases", ())]
        failed = [case for case in cases if case.get("status") in ("failed", "error")]
        return tuple(f"{case.get('classname', '')}.{case.get('name', '')}".strip(".") for case in failed[:50])

    async def results(self, request: RunRequest, note: RunNote) -> RunResults | None:
        """The totals of its JUnit reports, and the coverage that its jobs printed."""
        path = f"{self._project(request)}/pipelines/{note.run_id}"
        total = ((await self._http.get_json(f"{path}/test_report_summary")) or {}).get("total") or {}
        said = ((await self._http.get_json(path)) or {}).get("coverage")
        covered = float(said) if said not in (None, "") else None
        if not total.get("count"):
            return RunResults(coverage=covered) if covered is not None else None
        failed = int(total.get("failed") or 0) + int(total.get("error") or 0)
        return RunResults(int(total["count"]), failed, int(total.get("skipped") or 0), covered)

    async def cancel(self, request: RunRequest, note: RunNote, force: int = 0) -> None:
        """Cancel the pipeline; one that is over stays as it is."""
        await self._http.tell(f"{self._project(request)}/pipelines/{note.run_id}/cancel")

    async def decide(self, request: RunRequest, note: RunNote, question: str, *, go_on: bool, by: str) -> bool:
        """Start the job that waits for a person, or cancel its pipeline; False if it waits no more."""
        jobs = await self._jobs(request, note)
        job = next((job for job in jobs if str(job["id"]) == question and _waits(job)), None)
        if job is None:
            return False
        if not go_on:
            await self.cancel(request, note)
            return True
        return (await self._http.tell(f"{job['project']}/jobs/{job['id']}/play")).status_code < 400

    # --- inside

    def _options(self, request: RunRequest) -> GitLabOptions:
        where = f"pipeline.options of {request.service.name}"
        return read_options(GitLabOptions, dict(request.target.pipeline.options), where)

    def _project(self, request: RunRequest) -> str:
        return f"projects/{quote(self.definition(request), safe='')}"

    async def _carries(self, request: RunRequest, options: GitLabOptions, pipeline: Mapping[str, Any]) -> bool:
        if options.intent == "name":
            return request.intent in str(pipeline.get("name", "")).split()
        path = f"{self._project(request)}/pipelines/{pipeline['id']}/variables"

        async def ask() -> str:
            variables = await self._http.get_json(path) or ()
            return next((str(one.get("value")) for one in variables if one.get("key") == "SLIPWAY_INTENT"), "")

        return await self._carried.intent(path, ask) == request.intent

    async def _jobs(self, request: RunRequest, note: RunNote) -> list[dict[str, Any]]:
        """Jobs in their order, each once, with the jobs of child pipelines behind them."""
        return await self._jobs_below(self._project(request), note.run_id, DEPTH)

    async def _jobs_below(self, project: str, pipeline: str, depth: int) -> list[dict[str, Any]]:
        path = f"{project}/pipelines/{pipeline}"
        jobs = [{**job, "project": project} async for job in self._http.items(f"{path}/jobs", {})]
        jobs.sort(key=lambda job: job["id"])
        async for bridge in self._http.items(f"{path}/bridges", {}):
            child = bridge.get("downstream_pipeline")
            if not child or not depth:
                jobs.append({**bridge, "project": project})
                continue
            below = f"projects/{child['project_id']}" if child.get("project_id") else project
            jobs += await self._jobs_below(below, str(child["id"]), depth - 1)
        return jobs


def _defaults(options: GitLabOptions) -> Mapping[str, str]:
    """With inputs nothing is sent as a variable that was not asked for: variables may be forbidden."""
    return PARAMETERS if options.intent == "variable" else {}


def _filled(patterns: Mapping[str, str], request: RunRequest) -> dict[str, str]:
    return {name: fill(pattern, request) for name, pattern in patterns.items()}


def _job_state(job: Mapping[str, Any]) -> StageState:
    state = JOBS.get(str(job.get("status", "")), StageState.PENDING)
    if job.get("allow_failure") and (state is StageState.FAILED or job.get("status") == "manual"):
        return StageState.SKIPPED
    return state


def _stages(jobs: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
    """Stages in the order of their jobs."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for job in jobs:
        grouped.setdefault(str(job.get("stage", "")), []).append(job)
    return tuple(Stage(name, _stage_state(group), _seconds(group)) for name, group in grouped.items())


def _stage_state(jobs: Sequence[Mapping[str, Any]]) -> StageState:
    states = {_job_state(job) for job in jobs}
    return next(state for state in WEIGHT if state in states)


def _seconds(jobs: Sequence[Mapping[str, Any]]) -> float | None:
    """Jobs of a stage run side by side: the longest one is the stage's time."""
    return max((float(job["duration"]) for job in jobs if job.get("duration")), default=None)


def _percent(jobs: Sequence[Mapping[str, Any]], stages: Sequence[Stage]) -> int:
    over = (StageState.PENDING, StageState.RUNNING)
    done = sum(1 for job in jobs if _job_state(job) not in over)
    return min(99, 100 * done // len(jobs)) if jobs else percent_of(stages)


def _question(jobs: Sequence[Mapping[str, Any]]) -> RunQuestion | None:
    job = next((job for job in jobs if _waits(job)), None)
    return RunQuestion(str(job["id"]), f"start {job.get('name')}") if job is not None else None


def _waits(job: Mapping[str, Any]) -> bool:
    return job.get("status") == "manual" and not job.get("allow_failure")


def _message(pipeline: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> str:
    status = pipeline.get("status")
    if status == "manual":
        names = ", ".join(str(job.get("name")) for job in jobs if _waits(job)) or "a job"
        return f"The GitLab pipeline waits for a person to start {names}."
    if status == "skipped":
        return "GitLab skipped this pipeline; its rules let no job run."
    if status == "waiting_for_resource":
        return "The GitLab pipeline waits for a resource that another one holds."
    reasons = (job.get("failure_reason") for job in jobs if _job_state(job) is StageState.FAILED)
    reason = next((reason for reason in reasons if reason and reason != "script_failure"), "")
    return f"GitLab says: {reason.replace('_', ' ')}." if reason else ""


def _moved(said: str, sha: str, request: RunRequest) -> str:
    return f"{said} built {sha[:12]} instead of {request.commit[:12]}, because {request.branch} moved on; deploy again."


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
