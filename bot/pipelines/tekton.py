"""Tekton: a PipelineRun whose name is made of the intent, so a second one cannot exist.

Source: tektoncd/pipeline v1.15.0, `docs/pipelineruns.md`, `docs/taskruns.md`, `pkg/apis/pipeline/v1`. Everything is the
Kubernetes API, spoken directly with a service account's token.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
from pydantic import Field

from bot.clock import Clock
from bot.errors import ProviderRejected
from bot.options import Options, read_options
from bot.pipelines.base import INTENT_MARK, Artifact, PipelineRun, RunRequest, RunResults, RunState, Stage, StageState
from bot.pipelines.http import Http
from bot.pipelines.memory import RunNote
from bot.pipelines.remote import Found, fill, look_again, percent_of

PARAMS = {"commit": "{commit}", "branch": "{branch}", "version": "{version}", "intent": "{intent}"}
SET_UP = frozenset(
    {"CouldntGetPipeline", "CouldntGetTask", "ParameterMissing", "InvalidWorkspaceBindings", "PipelineValidationFailed"}
)
"""Reasons of runs that never really ran."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


class TektonOptions(Options):
    """`pipeline.options` of the catalog; `pipeline.name` is `namespace/pipeline`.

    params: name -> pattern; a pipeline may leave them undeclared. workspaces: as in a PipelineRun. digest_result and
    image_result: results that say what was built, as Tekton Chains reads them.
    """

    params: dict[str, str] = Field(default_factory=lambda: dict(PARAMS))
    service_account: str = ""
    workspaces: list[dict[str, Any]] = Field(default_factory=list)
    digest_result: str = "IMAGE_DIGEST"
    image_result: str = "IMAGE_URL"


class Tekton:
    """The Tekton of one cluster."""

    name = "tekton"
    said = "Tekton"
    settle = timedelta(seconds=30)

    def __init__(self, client: httpx.AsyncClient, clock: Clock) -> None:
        """The client brings the API server's address and the token."""
        self._http = Http(self.said, client, clock)
        self._clock = clock

    def definition(self, request: RunRequest) -> str:
        """`namespace/pipeline`."""
        return request.target.pipeline.name.strip("/")

    def can_tell(self, request: RunRequest) -> bool:
        """Always: the name is ours."""
        return True

    async def check(self, request: RunRequest) -> None:
        """The pipeline is there; Tekton itself would only say so in a run that failed."""
        self._options(request)
        namespace, pipeline = self._parts(request)
        if await self._http.get_json(f"apis/tekton.dev/v1/namespaces/{namespace}/pipelines/{pipeline}") is None:
            raise ProviderRejected(
                f"Tekton has no pipeline {pipeline} in {namespace}.",
                hint="Write `pipeline.name` as namespace/pipeline.",
            )

    async def send(self, request: RunRequest) -> Found:
        """Create the run. That it exists already is the answer to an earlier request of ours."""
        try:
            await self._http.start(self._runs(request), json=self._manifest(request))
        except ProviderRejected:
            found = await self.search(request, None)
            if found is None:
                raise
            return found
        return Found(run_id=run_name(request.intent))

    async def search(self, request: RunRequest, since: datetime | None) -> Found | None:
        """By its name; the annotation says whose it is."""
        name = run_name(request.intent)
        run = await self._http.get_json(f"{self._runs(request)}/{name}")
        if run is None or run["metadata"].get("annotations", {}).get(INTENT_MARK) != request.intent:
            return None
        return Found(run_id=name)

    async def resolve(self, request: RunRequest, note: RunNote) -> Found | PipelineRun | None:
        """There are no handles here."""
        return await self.search(request, note.sent_at)

    async def read(self, request: RunRequest, note: RunNote) -> PipelineRun | None:
        """The run and its tasks."""
        run = await self._http.get_json(f"{self._runs(request)}/{note.run_id}")
        if run is None:
            return None
        status = run.get("status") or {}
        condition = _condition(status)
        state = _state(condition)
        stages = _stages(status, await self._tasks(request, note), state)
        return PipelineRun(
            provider=self.name,
            id=note.run_id,
            state=state,
            stages=stages,
            percent=100 if state is RunState.SUCCEEDED else percent_of(stages),
            artifact=self._built(request, status) if state is RunState.SUCCEEDED else None,
            message=_message(state, condition),
            look_again=look_again(_time(status.get("startTime")), self._clock()),
        )

    @asynccontextmanager
    async def log(
        self, request: RunRequest, note: RunNote, stage: str, tail: int | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The logs of all steps of the task, or of all tasks, from their pods; those that were deleted are left out."""
        tasks = [one for one in await self._tasks(request, note) if not stage or _task_of(one) == stage]
        namespace = self._parts(request)[0]

        async def texts() -> AsyncIterator[bytes]:
            for task in tasks:
                status = task.get("status") or {}
                for step in status.get("steps", ()):
                    path = f"api/v1/namespaces/{namespace}/pods/{status.get('podName')}/log"
                    async with self._http.stream(path, {"container": step.get("container", "")}) as response:
                        if response is not None:
                            async for chunk in response.aiter_bytes():
                                yield chunk

        yield texts()

    def of_stage(self, lines: Iterable[str], stage: str) -> Iterable[str]:
        """`log` has chosen already."""
        return lines

    async def failed_tests(self, request: RunRequest, note: RunNote) -> tuple[str, ...]:
        """Tekton knows of no tests; their names come from the log."""
        return ()

    async def results(self, request: RunRequest, note: RunNote) -> RunResults | None:
        """Tekton has no place for reports."""
        return None

    async def cancel(self, request: RunRequest, note: RunNote, force: int = 0) -> None:
        """End the tasks and run the `finally` ones, at last not even those; a run that is over stays as it is."""
        await self._http.tell(
            f"{self._runs(request)}/{note.run_id}",
            "PATCH",
            json={"spec": {"status": "Cancelled" if force else "CancelledRunFinally"}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def decide(self, request: RunRequest, note: RunNote, question: str, *, go_on: bool, by: str) -> bool:
        """Tekton asks nobody."""
        return False

    # --- inside

    def _options(self, request: RunRequest) -> TektonOptions:
        where = f"pipeline.options of {request.service.name}"
        return read_options(TektonOptions, dict(request.target.pipeline.options), where)

    def _parts(self, request: RunRequest) -> tuple[str, str]:
        namespace, _, pipeline = self.definition(request).partition("/")
        if not _NAME.fullmatch(namespace) or not _NAME.fullmatch(pipeline):
            raise ProviderRejected(
                f"`pipeline.name` of {request.service.name} must be namespace/pipeline.", hint="Correct it."
            )
        return namespace, pipeline

    def _runs(self, request: RunRequest) -> str:
        return f"apis/tekton.dev/v1/namespaces/{self._parts(request)[0]}/pipelineruns"

    def _manifest(self, request: RunRequest) -> dict[str, Any]:
        options, timeout = self._options(request), int(request.target.pipeline.timeout.total_seconds())
        spec: dict[str, Any] = {
            "pipelineRef": {"name": self._parts(request)[1]},
            "params": [{"name": name, "value": fill(value, request)} for name, value in options.params.items()],
            "timeouts": {"pipeline": f"{timeout}s"},
        }
        if options.workspaces:
            spec["workspaces"] = options.workspaces
        if options.service_account:
            spec["taskRunTemplate"] = {"serviceAccountName": options.service_account}
        metadata = {
            "name": run_name(request.intent),
            "labels": {"app.kubernetes.io/managed-by": "slipway"},
            "annotations": {INTENT_MARK: request.intent},
        }
        return {"apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": metadata, "spec": spec}

    async def _tasks(self, request: RunRequest, note: RunNote) -> list[dict[str, Any]]:
        path = f"apis/tekton.dev/v1/namespaces/{self._parts(request)[0]}/taskruns"
        answer = await self._http.get_json(path, {"labelSelector": f"tekton.dev/pipelineRun={note.run_id}"}) or {}
        return list(answer.get("items", ()))

    def _built(self, request: RunRequest, status: Mapping[str, Any]) -> Artifact | None:
        """From the run's results; None leaves it to the line in the log."""
        options = self._options(request)
        results = {one.get("name"): str(one.get("value", "")).strip() for one in status.get("results", ())}
        digest, image = results.get(options.digest_result, ""), results.get(options.image_result, "")
        if not _DIGEST.fullmatch(digest) or not image:
            return None
        return Artifact(digest, f"{image.partition('@')[0]}@{digest}")


def run_name(intent: str) -> str:
    """A name that Kubernetes takes, the same for the same intent and for no other."""
    return f"slipway-{hashlib.sha256(intent.encode()).hexdigest()[:40]}"


def _condition(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions", ()) if one.get("type") == "Succeeded"), {})


def _state(condition: Mapping[str, Any]) -> RunState:
    """By the status; the reason only tells ways of failing apart."""
    match condition.get("status"):
        case "True":
            return RunState.SUCCEEDED
        case "False":
            cancelled = condition.get("reason") in ("Cancelled", "CancelledRunFinally")
            return RunState.CANCELLED if cancelled else RunState.FAILED
    waiting = condition.get("reason") in (None, "Started", "ResolvingPipelineRef", "PipelineRunPending")
    return RunState.QUEUED if waiting else RunState.RUNNING


def _message(state: RunState, condition: Mapping[str, Any]) -> str:
    reason = str(condition.get("reason", ""))
    if state is RunState.FAILED and reason in SET_UP:
        return f"Tekton could not begin the run ({reason}); correct the pipeline or its parameters."
    if state is RunState.FAILED and reason == "PipelineRunTimeout":
        return "The Tekton run took longer than its time limit."
    return ""


def _task_of(task: Mapping[str, Any]) -> str:
    return str(task.get("metadata", {}).get("labels", {}).get("tekton.dev/pipelineTask", ""))


def _stages(status: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], run: RunState) -> tuple[Stage, ...]:
    """All tasks of the pipeline, in its order, also those that have not begun.

    Of custom tasks and pipelines in the pipeline only the reference is there: they began, and ended with the run.
    """
    spec = status.get("pipelineSpec") or {}
    names = [str(one.get("name", "")) for one in (*spec.get("tasks", ()), *spec.get("finally", ()))]
    skipped = {one.get("name") for one in status.get("skippedTasks", ())}
    runs = {_task_of(one): one.get("status") or {} for one in tasks}
    begun = {str(one.get("pipelineTaskName", "")) for one in status.get("childReferences", ())} - set(runs)
    names = names or [*runs, *sorted(begun)]
    return tuple(
        Stage(name, _CHILDREN.get(run, StageState.RUNNING))
        if name in begun
        else _stage(name, runs.get(name), skipped=name in skipped or run.is_final)
        for name in names
    )


_CHILDREN = {
    RunState.SUCCEEDED: StageState.SUCCEEDED,
    RunState.CANCELLED: StageState.CANCELLED,
    RunState.FAILED: StageState.FAILED,
}


def _stage(name: str, status: Mapping[str, Any] | None, *, skipped: bool) -> Stage:
    if status is None:
        return Stage(name, StageState.SKIPPED if skipped else StageState.PENDING)
    began, ended = _time(status.get("startTime")), _time(status.get("completionTime"))
    seconds = (ended - began).total_seconds() if began and ended else None
    condition = _condition(status)
    match condition.get("status"):
        case "True":
            return Stage(name, StageState.SUCCEEDED, seconds)
        case "False" if ended is not None:
            cancelled = condition.get("reason") == "TaskRunCancelled"
            return Stage(name, StageState.CANCELLED if cancelled else StageState.FAILED, seconds)
    # False without an end is an error that passes.
    return Stage(name, StageState.RUNNING if began else StageState.PENDING, seconds)


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
