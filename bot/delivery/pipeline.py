"""Deploying by a pipeline of the CI system: the service's `cd` pipeline is run for the tag that is to go live.

The run is found by its intent as a build's is, so it is started once. What runs afterwards is asked at an address: a
pipeline that ended well is no proof.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
from pydantic import field_validator

from bot import logs
from bot.catalog.model import Service, Target
from bot.catalog.repository import resolve_repo
from bot.delivery.base import DeliveryFailure, GrayStage, Running, SyncProgress, SyncRequest, SyncState
from bot.delivery.shell import ask_address
from bot.errors import ProviderRejected
from bot.options import Duration, Options, read_options
from bot.pipelines.base import Pipeline, PipelineRun, RunRequest, RunState, StageState

_STATES = {
    RunState.QUEUED: SyncState.RUNNING,
    RunState.RUNNING: SyncState.RUNNING,
    RunState.SUCCEEDED: SyncState.SUCCEEDED,
    RunState.FAILED: SyncState.FAILED,
    RunState.CANCELLED: SyncState.FAILED,
    RunState.INTERRUPTED: SyncState.INTERRUPTED,
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_KNOWN = ("service", "environment", "team")


class PipelineDeliveryOptions(Options):
    """`delivery.options` of the catalog.

    running_url: answers what runs, `{"version", "digest", "healthy", "url", "message"}`; may contain {service},
    {environment} and {team}.
    """

    running_url: str
    running_timeout: Duration = timedelta(seconds=5)

    @field_validator("running_url")
    @classmethod
    def _web_address(cls, url: str) -> str:
        if not re.match(r"https?://[^\s/?#]+", url):
            raise ValueError("must begin with http:// or https:// and a host")
        unknown = next((name for name in _PLACEHOLDER.findall(url) if name not in _KNOWN), None)
        if unknown is not None:
            raise ValueError(f"must not use {{{unknown}}}: only {', '.join(_KNOWN)} are known")
        return url


class PipelineDelivery:
    """A `Delivery` by whichever pipelines are set up."""

    name = "pipeline"

    def __init__(self, pipelines: Mapping[str, Pipeline], directory: Path, http: httpx.AsyncClient) -> None:
        """directory: the catalog's; `http` asks what runs."""
        self._pipelines = pipelines
        self._directory = directory
        self._http = http

    async def sync(self, request: SyncRequest) -> SyncProgress:
        """Run the cd pipeline; the same intent again starts nothing and tells how far it is.

        Raises: ProviderRejected, ProviderUnavailable, OutcomeUnknown as a pipeline's trigger.
        """
        self._options(request.service, request.target)
        pipeline, run = self._run_of(request)
        return _progress(await pipeline.find(run) or await pipeline.trigger(run))

    async def look(self, request: SyncRequest) -> SyncProgress | None:
        """How far this intent is, or None if it was surely never started."""
        pipeline, run = self._run_of(request)
        found = await pipeline.find(run)
        return _progress(found) if found is not None else None

    async def running(self, service: Service, target: Target) -> Running | None:
        """What runs now, None if nothing does. Raises ProviderUnavailable when it cannot be told."""
        options = self._options(service, target)
        values = {"service": service.name, "environment": target.environment, "team": service.team}
        url = _PLACEHOLDER.sub(lambda found: quote(values[found[1]], safe=""), options.running_url)
        answer = await ask_address(self._http, url, options.running_timeout.total_seconds())
        if answer is None:
            return None
        message = logs.redact(logs.clean(answer.message))[: logs.LINE_LIMIT]
        return Running(answer.digest, answer.version, answer.healthy, answer.url or target.url, message)

    async def failure(self, request: SyncRequest) -> DeliveryFailure:
        """The failing stage of the run and the lines that matter; nothing if the run itself went well."""
        pipeline, run = self._run_of(request)
        found = await pipeline.find(run)
        if found is None or found.state is RunState.SUCCEEDED:
            return DeliveryFailure("")
        failed = await pipeline.failure(run)
        return DeliveryFailure(failed.message, failed.lines[:20])

    async def cancel(self, request: SyncRequest) -> None:
        """Ask the run to end; a finished one is left as it is."""
        pipeline, run = self._run_of(request)
        await pipeline.cancel(run)

    async def gray_stage(self, request: SyncRequest) -> GrayStage | None:
        """There is no gray stage here."""
        return None

    async def continue_gray(self, request: SyncRequest, *, full: bool = False) -> None:
        """There is no gray stage here. Raises ProviderRejected."""
        raise _no_gray(request)

    async def abort_gray(self, request: SyncRequest) -> None:
        """There is no gray stage here. Raises ProviderRejected."""
        raise _no_gray(request)

    # --- inside

    def _options(self, service: Service, target: Target) -> PipelineDeliveryOptions:
        where = f"delivery.options of {service.name} in {target.environment}"
        return read_options(PipelineDeliveryOptions, dict(target.delivery.options), where)

    def _run_of(self, request: SyncRequest) -> tuple[Pipeline, RunRequest]:
        """The pipeline, and what it is asked. The tag is the release's version, which is also the ref it is run on."""
        target = replace(request.target, pipeline=request.target.cd)
        pipeline = self._pipelines.get(target.pipeline.provider)
        if pipeline is None:
            raise ProviderRejected(
                f"The pipeline provider '{target.pipeline.provider}' is not set up here.",
                hint="Set it up or name another in the catalog.",
            )
        if not request.commit:
            raise ProviderRejected(
                f"The commit of {request.service.name} {request.version} is not known.", hint="Deploy it anew."
            )
        return pipeline, RunRequest(
            intent=request.intent,
            service=request.service,
            target=target,
            repo=resolve_repo(self._directory, request.service.repo),
            commit=request.commit,
            branch=request.version,
            version=request.version,
            parameters={"digest": request.digest, "image": request.artifact, "revision": request.revision},
        )


def _progress(run: PipelineRun) -> SyncProgress:
    at = next((one for one in run.stages if one.state is StageState.RUNNING), None)
    done = sum(one.state is StageState.SUCCEEDED for one in run.stages)
    message = run.message or (f"{at.name}, stage {done + 1} of {len(run.stages)}" if at is not None else "")
    percent = 100 if run.state is RunState.SUCCEEDED else run.percent
    # A run elsewhere is told of by webhooks, and asked about no more often than a build is.
    return SyncProgress(_STATES[run.state], message, percent=percent, told=run.look_again is not None)


def _no_gray(request: SyncRequest) -> ProviderRejected:
    return ProviderRejected(
        f"{request.service.name} in {request.target.environment} is deployed by a pipeline, which has no gray stage.",
        hint="Wait for it, or cancel it.",
    )
