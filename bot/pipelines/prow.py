"""Prow: a job is started by name through Gangway, and followed as the ProwJob it becomes.

Source: kubernetes-sigs/prow `pkg/gangway/gangway.go`, `pkg/gangway/gangway.proto`, `pkg/apis/prowjobs/v1/types.go`,
`cmd/deck/main.go`. Gangway lists executions without their labels, so a run is found again in the cluster alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Literal

import httpx
from pydantic import Field

from bot.clock import Clock
from bot.errors import OutcomeUnknown, ProviderRejected
from bot.options import Options, read_options
from bot.pipelines.base import INTENT_MARK, PipelineRun, RunRequest, RunResults, RunState, Stage, StageState
from bot.pipelines.http import Http, said_in
from bot.pipelines.memory import RunNote
from bot.pipelines.remote import FASTEST, PARAMETERS, Found, fill, look_again

STATES: Mapping[str, RunState] = {
    "scheduling": RunState.QUEUED,
    "triggered": RunState.QUEUED,
    "pending": RunState.RUNNING,
    "success": RunState.SUCCEEDED,
    "failure": RunState.FAILED,
    "aborted": RunState.CANCELLED,
    "error": RunState.FAILED,
}
"""A word that is not here is a newer Prow's: still running, as far as we know."""

STAGES: Mapping[RunState, StageState] = {
    RunState.QUEUED: StageState.PENDING,
    RunState.RUNNING: StageState.RUNNING,
    RunState.SUCCEEDED: StageState.SUCCEEDED,
    RunState.FAILED: StageState.FAILED,
    RunState.CANCELLED: StageState.CANCELLED,
}
_JOB = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,198}[A-Za-z0-9])?")
_REPOSITORY = re.compile(r"(?:^|[/:])([\w.-]+)/([\w.-]+?)(?:\.git)?/?$")


class ProwOptions(Options):
    """`pipeline.options` of the catalog; `pipeline.name` is the job's name.

    type: what kind of job it is in Prow's configuration. repository: `org/name` as Prow knows it, else from the
    service's `repo`. envs: name -> pattern, set in the job's containers. container: whose log is read.
    """

    type: Literal["postsubmit", "periodic"] = "postsubmit"
    repository: str = Field(default="", pattern=r"^([\w.-]+/[\w.-]+)?$")
    envs: dict[str, str] = Field(default_factory=lambda: dict(PARAMETERS))
    container: str = "test"


class Prow:
    """One Prow. Without its cluster it is followed by Gangway, and then a lost answer is a person's to look after."""

    name = "prow"
    said = "Prow"
    settle = timedelta(seconds=30)

    def __init__(
        self,
        gangway: httpx.AsyncClient,
        clock: Clock,
        cluster: httpx.AsyncClient | None = None,
        deck: httpx.AsyncClient | None = None,
        namespace: str = "default",
    ) -> None:
        """cluster: the Kubernetes API with the ProwJobs of `namespace`; deck: for logs of pods in other clusters."""
        self._http = Http(self.said, gangway, clock)
        self._cluster = Http("Prow's cluster", cluster, clock) if cluster is not None else None
        self._deck = Http("Prow's Deck", deck, clock) if deck is not None else None
        self._jobs = f"apis/prow.k8s.io/v1/namespaces/{namespace}/prowjobs"
        self._clock = clock

    def definition(self, request: RunRequest) -> str:
        """The job's name."""
        return request.target.pipeline.name.strip("/")

    def can_tell(self, request: RunRequest) -> bool:
        """Only by the labels of ProwJobs, which Gangway does not show."""
        return self._cluster is not None

    async def check(self, request: RunRequest) -> None:
        """The catalog's part is right; only starting it tells whether Prow knows the job."""
        options = self._options(request)
        if not _JOB.fullmatch(self.definition(request)):
            raise ProviderRejected(
                f"`pipeline.name` of {request.service.name} must be the name of a Prow job.", hint="Correct it."
            )
        if options.type != "periodic":
            self._repository(request)

    async def send(self, request: RunRequest) -> Found:
        """Start the job by name. A postsubmit builds exactly our commit."""
        options = self._options(request)
        envs = {name: fill(pattern, request) for name, pattern in options.envs.items()}
        body: dict[str, Any] = {
            "job_name": self.definition(request),
            "job_execution_type": options.type.upper(),
            "pod_spec_options": {
                "envs": {name: value for name, value in envs.items() if value} | {"SLIPWAY_INTENT": request.intent},
                "labels": {INTENT_MARK: label_of(request.intent)},
                "annotations": {INTENT_MARK: request.intent},
            },
        }
        if options.type != "periodic":
            org, repo = self._repository(request)
            body["refs"] = {"org": org, "repo": repo, "base_ref": request.branch, "base_sha": request.commit}
        try:
            response = await self._http.start("v1/executions", json=body, refusals=_refusal)
        except ProviderRejected as error:
            error.hint = error.hint or "Correct `pipeline` in the catalog, or allow Slipway to run the job."
            raise
        number = str(self._http.read_json(response).get("id") or "")
        if not number:
            raise OutcomeUnknown("Prow was asked to start a job and did not answer with its id.")
        return Found(run_id=number)

    async def search(self, request: RunRequest, since: datetime | None) -> Found | None:
        """By the label, whose annotation says whose it is in full."""
        if self._cluster is None:
            return None
        answer = await self._cluster.get_json(
            self._jobs, {"labelSelector": f"{INTENT_MARK}={label_of(request.intent)}"}
        )
        for job in (answer or {}).get("items", ()):
            if job["metadata"].get("annotations", {}).get(INTENT_MARK) == request.intent:
                return Found(run_id=str(job["metadata"]["name"]))
        return None

    async def resolve(self, request: RunRequest, note: RunNote) -> Found | PipelineRun | None:
        """There are no handles here: the id is known at once."""
        return await self.search(request, note.sent_at)

    async def read(self, request: RunRequest, note: RunNote) -> PipelineRun | None:
        """The job as it is now; it is one stage of its own."""
        job = await self._job(note)
        if job is None:
            return None
        state = STATES.get(job["state"], RunState.RUNNING)
        if state.is_final and not job["ended"]:
            state = RunState.RUNNING  # The word comes first, the end is when Prow has written it all down.
        began = _time(job["began"])
        seconds = (ended - began).total_seconds() if began and (ended := _time(job["ended"])) else None
        return PipelineRun(
            provider=self.name,
            id=note.run_id,
            state=state,
            url=job["url"],
            stages=(Stage(self.definition(request), STAGES[state], seconds),),
            percent=100 if state is RunState.SUCCEEDED else 0,
            message=_message(job),
            look_again=look_again(began, self._clock()) if state is not RunState.QUEUED else FASTEST,
        )

    @asynccontextmanager
    async def log(
        self, request: RunRequest, note: RunNote, stage: str, tail: int | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The test container's log: from Deck if it is set up, else from the job's pod; nothing if neither has it."""
        place = await self._log_place(request, note, tail) if stage in ("", self.definition(request)) else None
        if place is None:
            yield _nothing()
            return
        http, path, params = place
        async with http.stream(path, params) as response:
            yield response.aiter_bytes() if response is not None else _nothing()

    def of_stage(self, lines: Iterable[str], stage: str) -> Iterable[str]:
        """`log` has chosen already."""
        return lines

    async def failed_tests(self, request: RunRequest, note: RunNote) -> tuple[str, ...]:
        """Prow itself knows of no tests; their names come from the log."""
        return ()

    async def results(self, request: RunRequest, note: RunNote) -> RunResults | None:
        """Prow has no place for reports."""
        return None

    async def cancel(self, request: RunRequest, note: RunNote, force: int = 0) -> None:
        """Mark it aborted, as Deck does; the controller ends its pod."""
        if self._cluster is None:
            raise ProviderRejected(
                f"Prow can end {note.definition} only through its cluster, which is not set up here.",
                hint="Abort it in Deck, or set SLIPWAY_PROW_CLUSTER_URL.",
            )
        await self._cluster.tell(
            f"{self._jobs}/{note.run_id}",
            "PATCH",
            json={"status": {"state": "aborted", "description": "Cancelled in Slipway."}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def decide(self, request: RunRequest, note: RunNote, question: str, *, go_on: bool, by: str) -> bool:
        """Prow asks nobody."""
        return False

    # --- inside

    def _options(self, request: RunRequest) -> ProwOptions:
        where = f"pipeline.options of {request.service.name}"
        return read_options(ProwOptions, dict(request.target.pipeline.options), where)

    def _repository(self, request: RunRequest) -> tuple[str, str]:
        found = _REPOSITORY.search(self._options(request).repository or request.repo)
        if found is None:
            raise ProviderRejected(
                f"Prow needs the repository of {request.service.name} as org/name.",
                hint="Set `repository` in pipeline.options.",
            )
        return found[1], found[2]

    async def _job(self, note: RunNote) -> dict[str, str] | None:
        """The ProwJob in few words, from the cluster or from Gangway."""
        if self._cluster is not None:
            job = await self._cluster.get_json(f"{self._jobs}/{note.run_id}")
            return _of_cluster(job) if job is not None else None
        execution = await self._http.get_json(f"v1/executions/{note.run_id}")
        return _of_gangway(execution) if execution is not None else None

    async def _log_place(
        self, request: RunRequest, note: RunNote, tail: int | None
    ) -> tuple[Http, str, Mapping[str, Any]] | None:
        job = await self._job(note)
        if job is None:
            return None
        if self._deck is not None and job["build"]:
            return self._deck, "log", {"job": note.definition, "id": job["build"]}
        if self._cluster is None or not job["pod"]:
            return None
        path = f"api/v1/namespaces/{job['namespace']}/pods/{job['pod']}/log"
        params: dict[str, Any] = {"container": self._options(request).container}
        # Lines, because `limitBytes` would keep the beginning.
        return self._cluster, path, params | ({"tailLines": max(1, tail // 100)} if tail is not None else {})


def label_of(intent: str) -> str:
    """The intent as a label's value: at most 63 letters and digits."""
    return hashlib.sha256(intent.encode()).hexdigest()[:40]


def _refusal(response: httpx.Response) -> str:
    """Gangway says "no such job" as an internal error; it says so before it creates anything."""
    said = said_in(response)
    return said if "failed to find associated" in said or "failed getting prowjob spec" in said else ""


def _of_cluster(job: Mapping[str, Any]) -> dict[str, str]:
    status, spec = job.get("status") or {}, job.get("spec") or {}
    return {
        "state": str(status.get("state", "")),
        "url": str(status.get("url") or ""),
        "began": str(status.get("startTime") or ""),
        "ended": str(status.get("completionTime") or ""),
        "said": str(status.get("description") or ""),
        "pod": str(status.get("pod_name") or ""),
        "build": str(status.get("build_id") or ""),
        "namespace": str(spec.get("namespace") or "default"),
    }


def _of_gangway(execution: Mapping[str, Any]) -> dict[str, str]:
    url = str(execution.get("job_url") or "")
    return {
        "state": str(execution.get("job_status", "")).lower(),
        "url": url,
        "began": str(execution.get("create_time") or ""),
        "ended": str(execution.get("completion_time") or ""),
        "said": "",
        "pod": "",
        # `https://DECK/view/gs/BUCKET/logs/JOB/BUILD` ends with the build's number.
        "build": (last if (last := url.rstrip("/").rpartition("/")[2]).isdigit() else ""),
        "namespace": "",
    }


def _message(job: Mapping[str, str]) -> str:
    if job["state"] == "error":
        said = job["said"].rstrip(".") or "no reason given"
        return f"Prow could not run the job: {said[:300]}."
    return ""


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
