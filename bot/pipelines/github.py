"""GitHub Actions, on github.com and Enterprise Server: a workflow is dispatched with an input that carries the intent.

Source: `@octokit/openapi` 23.0.2; run details in the answer since 2026-02 on github.com, never on Enterprise Server up
to 3.19. Where the id is not in the answer, the run is found by its name, so the workflow needs
`run-name: "... ${{ inputs.slipway_intent }}"`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from pydantic import Field

from bot.clock import Clock
from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from bot.options import Options, read_options
from bot.pipelines.base import PipelineRun, RunQuestion, RunRequest, RunResults, RunState, Stage, StageState
from bot.pipelines.http import TIMEOUT, Http
from bot.pipelines.memory import RunNote
from bot.pipelines.remote import Found, fill, look_again

HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}

CONCLUSIONS: Mapping[str, RunState] = {
    "success": RunState.SUCCEEDED,
    "neutral": RunState.SUCCEEDED,
    "failure": RunState.FAILED,
    "timed_out": RunState.FAILED,
    "startup_failure": RunState.FAILED,
    "skipped": RunState.FAILED,
    "cancelled": RunState.CANCELLED,
    "stale": RunState.INTERRUPTED,
}
JOBS: Mapping[str, StageState] = {
    "success": StageState.SUCCEEDED,
    "neutral": StageState.SUCCEEDED,
    "skipped": StageState.SKIPPED,
    "cancelled": StageState.CANCELLED,
    "failure": StageState.FAILED,
    "timed_out": StageState.FAILED,
}
INPUTS = {"version": "{version}", "commit": "{commit}", "environment": "{environment}"}


class GitHubOptions(Options):
    """`pipeline.options` of the catalog; `pipeline.name` is `owner/repository/workflow.yml`.

    inputs: name -> pattern, at most 24. run_name: the workflow's `run-name` contains the input `slipway_intent`.
    """

    ref: str = "{branch}"
    inputs: dict[str, str] = Field(default_factory=lambda: dict(INPUTS), max_length=24)
    run_name: bool = True


class GitHub:
    """GitHub, by token or as an App."""

    name = "github"
    said = "GitHub"
    settle = timedelta(minutes=2)
    """Runs appear in the list some seconds late."""

    def __init__(self, client: httpx.AsyncClient, clock: Clock) -> None:
        """The client brings the address of the API and the credentials."""
        client.headers.update(HEADERS)
        self._http = Http(self.said, client, clock)
        self._clock = clock

    def definition(self, request: RunRequest) -> str:
        """`owner/repository/workflow.yml`."""
        return request.target.pipeline.name.strip("/")

    def can_tell(self, request: RunRequest) -> bool:
        """Only if the workflow names its runs by the intent; otherwise two runs look alike."""
        return self._options(request).run_name

    async def check(self, request: RunRequest) -> None:
        """The workflow is there and active."""
        workflow = await self._http.get_json(self._workflow(request))
        if workflow is None:
            raise ProviderRejected(
                f"GitHub has no workflow {self.definition(request)}, or Slipway's account may not see it.",
                hint="Write `pipeline.name` as owner/repository/workflow.yml.",
            )
        if workflow.get("state", "active") != "active":
            raise ProviderRejected(
                f"The GitHub workflow {self.definition(request)} is disabled.", hint="Enable it there."
            )

    async def send(self, request: RunRequest) -> Found:
        """Dispatch the workflow once. An older server does not know `return_run_details`, or refuses it."""
        options = self._options(request)
        inputs = {name: fill(pattern, request) for name, pattern in options.inputs.items()}
        if options.run_name:
            inputs["slipway_intent"] = request.intent
        body: dict[str, Any] = {"ref": fill(options.ref, request), "inputs": inputs, "return_run_details": True}
        path = f"{self._workflow(request)}/dispatches"
        try:
            response = await self._http.start(path, json=body)
        except ProviderRejected as error:
            if "return_run_details" not in error.message:
                raise
            body.pop("return_run_details")
            response = await self._http.start(path, json=body)
        if response.status_code == 200 and response.content:
            return Found(run_id=str(self._http.read_json(response)["workflow_run_id"]))
        return await self._appearing(request)

    async def _appearing(self, request: RunRequest) -> Found:
        """The run behind a 204, which says no id; it is looked up later if it is not there yet."""
        found = await self.search(request, self._clock()) if self._options(request).run_name else None
        if found is None:
            raise OutcomeUnknown(f"GitHub started {self.definition(request)} and does not show the run yet.")
        return found

    async def search(self, request: RunRequest, since: datetime | None) -> Found | None:
        """By the run's name, among those that were dispatched since."""
        if not self._options(request).run_name:
            return None
        path, params = f"{self._workflow(request)}/runs", {"event": "workflow_dispatch"}
        if since is None:
            answer = await self._http.get_json(path, params | {"per_page": "10"}) or {}
            return next((Found(run_id=str(run["id"])) for run in _runs(answer) if _is_named(run, request)), None)
        params["created"] = f">={since - timedelta(minutes=2):%Y-%m-%dT%H:%M:%SZ}"
        async for run in self._http.items(path, params, _runs):
            if _is_named(run, request):
                return Found(run_id=str(run["id"]))
        return None

    async def resolve(self, request: RunRequest, note: RunNote) -> Found | PipelineRun | None:
        """There are no handles here."""
        return await self.search(request, note.sent_at)

    async def read(self, request: RunRequest, note: RunNote) -> PipelineRun | None:
        """The run and the jobs of its latest attempt."""
        run = await self._http.get_json(f"{self._repository(request)}/actions/runs/{note.run_id}")
        if run is None:
            return None
        jobs = await self._jobs(request, note)
        state, message = _state(run), _message(run)
        asks = await self._question(request, note) if run.get("status") == "waiting" else None
        if run.get("head_sha") not in (None, "", request.commit):
            await self.cancel(request, note)
            state, message = RunState.FAILED, _moved(run["head_sha"], request)
        return PipelineRun(
            provider=self.name,
            id=note.run_id,
            state=state,
            url=str(run.get("html_url", "")),
            stages=tuple(_stage(job) for job in jobs),
            percent=100 if state is RunState.SUCCEEDED else _percent(jobs),
            message=message,
            look_again=look_again(_time(run.get("run_started_at")), self._clock()),
            asks=asks if not state.is_final else None,
        )

    @asynccontextmanager
    async def log(
        self, request: RunRequest, note: RunNote, stage: str, tail: int | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The logs of the stage's job or of all, one after the other."""
        jobs = [job for job in await self._jobs(request, note) if not stage or job.get("name") == stage]

        async def texts() -> AsyncIterator[bytes]:
            for job in jobs:
                async for chunk in self._job_log(request, job["id"], tail):
                    yield chunk

        yield texts()

    def of_stage(self, lines: Iterable[str], stage: str) -> Iterable[str]:
        """`log` has chosen already."""
        return lines

    async def failed_tests(self, request: RunRequest, note: RunNote) -> tuple[str, ...]:
        """GitHub knows of no tests; their names come from the log."""
        return ()

    async def results(self, request: RunRequest, note: RunNote) -> RunResults | None:
        """GitHub has no place for reports."""
        return None

    async def cancel(self, request: RunRequest, note: RunNote, force: int = 0) -> None:
        """Cancel the run, at last by force, past its `always()` steps; 409 says that it is over already."""
        word = "force-cancel" if force else "cancel"
        await self._http.tell(f"{self._repository(request)}/actions/runs/{note.run_id}/{word}")

    async def decide(self, request: RunRequest, note: RunNote, question: str, *, go_on: bool, by: str) -> bool:
        """Approve or reject what waits for an environment's reviewer; False if it waits no more."""
        waiting = await self._pending(request, note)
        ids = [one["environment"]["id"] for one in waiting]
        if not ids or _number(waiting) != question:
            return False
        body = {"environment_ids": ids, "state": "approved" if go_on else "rejected", "comment": f"{by} in Slipway"}
        return (await self._http.tell(self._pending_path(request, note), json=body)).status_code < 400

    # --- inside

    def _options(self, request: RunRequest) -> GitHubOptions:
        where = f"pipeline.options of {request.service.name}"
        return read_options(GitHubOptions, dict(request.target.pipeline.options), where)

    def _repository(self, request: RunRequest) -> str:
        owner, repository, _ = self._parts(request)
        return f"repos/{owner}/{repository}"

    def _workflow(self, request: RunRequest) -> str:
        return f"{self._repository(request)}/actions/workflows/{self._parts(request)[2]}"

    def _parts(self, request: RunRequest) -> tuple[str, str, str]:
        parts = [quote(part, safe="") for part in self.definition(request).split("/")]
        if len(parts) != 3 or not all(parts):
            raise ProviderRejected(
                f"`pipeline.name` of {request.service.name} must be owner/repository/workflow.yml.", hint="Correct it."
            )
        return parts[0], parts[1], parts[2]

    async def _question(self, request: RunRequest, note: RunNote) -> RunQuestion | None:
        """What waits for a reviewer. One whom our account may not stand for is answered in GitHub."""
        waiting = [one for one in await self._pending(request, note) if one.get("current_user_can_approve", True)]
        if not waiting:
            return None
        names = ", ".join(str(one["environment"].get("name", "")) for one in waiting)
        return RunQuestion(_number(waiting), f"let it into the GitHub environment {names}", approval=True)

    async def _pending(self, request: RunRequest, note: RunNote) -> list[Mapping[str, Any]]:
        answer = await self._http.get_json(self._pending_path(request, note)) or []
        return [one for one in answer if one.get("environment")]

    def _pending_path(self, request: RunRequest, note: RunNote) -> str:
        return f"{self._repository(request)}/actions/runs/{note.run_id}/pending_deployments"

    async def _jobs(self, request: RunRequest, note: RunNote) -> list[dict[str, Any]]:
        path = f"{self._repository(request)}/actions/runs/{note.run_id}/jobs"
        jobs = self._http.items(path, {"filter": "latest"}, lambda body: body.get("jobs", ()))
        return [job async for job in jobs]

    async def _job_log(self, request: RunRequest, job: int, tail: int | None) -> AsyncIterator[bytes]:
        """GitHub answers with a link that is good for a minute; our token does not go there."""
        path = f"{self._repository(request)}/actions/jobs/{job}/logs"
        response = await self._http.tell(path, "GET")
        link = response.headers.get("Location", "")
        if response.status_code != 302 or urlsplit(link).scheme not in ("http", "https"):
            return  # Not there yet, or removed by the retention rule.
        headers = {"Range": f"bytes=-{tail}"} if tail is not None else {}
        try:
            async with (
                httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as bare,
                bare.stream("GET", link, headers=headers) as text,
            ):
                if text.status_code < 300:
                    async for line in text.aiter_lines():
                        yield _without_time(line).encode() + b"\n"
        except httpx.HTTPError as error:
            raise ProviderUnavailable("GitHub's log storage stopped answering.") from error


def _runs(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return body.get("workflow_runs") or ()


def _number(waiting: Sequence[Mapping[str, Any]]) -> str:
    return ",".join(sorted(str(one["environment"]["id"]) for one in waiting))


def _is_named(run: Mapping[str, Any], request: RunRequest) -> bool:
    return request.intent in str(run.get("display_title", "")).split()


def _without_time(line: str) -> str:
    """Every line of a log starts with its instant: `2026-11-21T07:00:00.0000000Z `."""
    stamp, blank, rest = line.partition(" ")
    return rest if blank and len(stamp) >= 20 and stamp.endswith("Z") and stamp[4:5] == "-" else line


def _state(run: Mapping[str, Any]) -> RunState:
    if run.get("status") == "completed":
        # action_required waits for a person; a word of a newer GitHub is no failure.
        return CONCLUSIONS.get(str(run.get("conclusion")), RunState.RUNNING)
    return RunState.QUEUED if run.get("status") in ("queued", "requested", "pending") else RunState.RUNNING


def _message(run: Mapping[str, Any]) -> str:
    if run.get("status") == "waiting" or run.get("conclusion") == "action_required":
        return "The GitHub run waits for a reviewer of its environment."
    if run.get("conclusion") == "timed_out":
        return "The GitHub run took longer than its time limit."
    return ""


def _stage(job: Mapping[str, Any]) -> Stage:
    state = StageState.RUNNING if job.get("status") == "in_progress" else StageState.PENDING
    if job.get("status") == "completed":
        state = JOBS.get(str(job.get("conclusion")), StageState.FAILED)
    began, ended = _time(job.get("started_at")), _time(job.get("completed_at"))
    return Stage(str(job.get("name", "")), state, (ended - began).total_seconds() if began and ended else None)


def _percent(jobs: Sequence[Mapping[str, Any]]) -> int:
    """Finished steps of all steps; a job that has not begun shows none and counts as one."""
    steps = [step for job in jobs for step in (job.get("steps") or [{"status": job.get("status")}])]
    done = sum(1 for step in steps if step.get("status") == "completed")
    return min(99, 100 * done // len(steps)) if steps else 0


def _moved(sha: str, request: RunRequest) -> str:
    return f"GitHub built {sha[:12]} instead of {request.commit[:12]}, because {request.branch} moved on; deploy again."


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
