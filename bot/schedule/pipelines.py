"""A pipeline that the clock starts: found by its key before it is started, so once, and followed to its end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from bot.catalog.model import Catalog, Periodic, PipelineJob, Service
from bot.catalog.repository import resolve_repo
from bot.clock import Clock
from bot.errors import BadInput, ProviderRejected, Refused
from bot.pipelines.base import Pipeline, RunRequest, RunState
from bot.policy.decide import decide
from bot.policy.model import Facts, Permission, PolicyRequest, ReasonCode
from bot.schedule.works import Result
from bot.sources.git import Source
from bot.store.firings import RUNNING, Firing

NOT_THEIRS = frozenset({ReasonCode.NOT_PERMITTED, ReasonCode.UNKNOWN_CALLER})
LOOK_AGAIN = timedelta(seconds=2)


class PipelineWork:
    """The work of jobs that run a pipeline."""

    def __init__(
        self,
        pipelines: Callable[[], Mapping[str, Pipeline]],
        source: Source,
        catalog: Callable[[], Catalog],
        directory: Path,
        clock: Clock,
    ) -> None:
        """directory: the catalog's, against which relative repositories are resolved."""
        self._pipelines = pipelines
        self._source = source
        self._catalog = catalog
        self._directory = directory
        self._clock = clock

    async def __call__(self, job: Periodic, firing: Firing) -> Result:
        """Find or start the run, and say how it stands. Raises Refused: the person may not."""
        wanted = job.pipeline
        if wanted is None:
            raise BadInput(f"{job.name} names no pipeline.")
        service = self._service(wanted)
        self._may(job, wanted)
        pipeline = self._pipelines().get(service.targets[wanted.environment].pipeline.provider)
        if pipeline is None:
            raise ProviderRejected(f"The pipeline provider of {service.name} is not set up here.")
        request = await self._request(wanted, service, firing)
        run = await pipeline.find(request) or await pipeline.trigger(request)
        if not run.state.is_final:
            return Result(RUNNING, run.url, run.look_again or LOOK_AGAIN)
        if run.state is RunState.SUCCEEDED:
            return Result(detail=f"{job.what} succeeded. {run.url}".strip())
        failure = await pipeline.failure(request)
        lines = "\n".join(failure.lines[:10])
        return Result("failed", f"{job.what} failed: {failure.message} {run.url}\n{lines}".strip())

    def _service(self, wanted: PipelineJob) -> Service:
        service = self._catalog().services.get(wanted.service)
        if service is None or wanted.environment not in service.targets:
            raise BadInput(f"There is no {wanted.service} in {wanted.environment}.", hint="Correct the job's pipeline.")
        return service

    def _may(self, job: Periodic, wanted: PipelineJob) -> None:
        """Whoever it runs as could start this pipeline by deploying; windows are about releases, and this is none."""
        request = PolicyRequest(job.run_as, Permission.RELEASE_DEPLOY, wanted.service, wanted.environment)
        verdict = decide(self._catalog(), request, Facts(), self._clock())
        blocking = tuple(reason for reason in verdict.blocking if reason.code in NOT_THEIRS)
        if blocking:
            raise Refused(blocking[0].text, reasons=blocking)

    async def _request(self, wanted: PipelineJob, service: Service, firing: Firing) -> RunRequest:
        target = service.targets[wanted.environment]
        if wanted.name:
            target = replace(target, pipeline=replace(target.pipeline, name=wanted.name))
        repo = resolve_repo(self._directory, service.repo)
        branch = wanted.branch or target.branch
        revision = await self._source.resolve(repo, None, branch)
        key = hashlib.sha256(firing.event_id.encode()).hexdigest()[:32]
        return RunRequest(
            intent=f"slw-{key}-r1",
            service=service,
            target=target,
            repo=repo,
            commit=revision.commit,
            branch=branch,
            version=revision.version,
            parameters=wanted.parameters,
        )
