"""The demo's files and the built-in providers, together: what the tour promises, without chat and database."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from bot.catalog.model import DeliverySpec, GitopsSpec, PipelineSpec, Service, Target, VerifyRule
from bot.delivery.base import Change, SyncRequest, SyncState
from bot.delivery.gitops import GitWriter
from bot.delivery.shell import ShellDelivery
from bot.demo import host
from bot.demo.workspace import Workspace
from bot.git import Git
from bot.pipelines.base import PipelineRun, RunRequest, RunState
from bot.pipelines.shell import ShellPipeline
from bot.processes import ProcessRuns
from bot.sources.git import Source


class Providers:
    """The real providers on one workspace."""

    def __init__(self, workspace: Workspace, http: httpx.AsyncClient) -> None:
        top = workspace.state
        git = Git()
        self.workspace = workspace
        self.runs = ProcessRuns(top / "runs")
        self.source = Source(top / "sources", git)
        self.pipeline = ShellPipeline(self.runs, self.source, top / "artifacts")
        self.writer = GitWriter(top / "config", git)
        self.delivery = ShellDelivery(self.runs, workspace.directory, http)

    def target(self, service: str, environment: str, branch: str) -> tuple[Service, Target]:
        """As the catalog loader makes it of slipway.yaml."""
        written = yaml.safe_load((self.workspace.directory / "slipway.yaml").read_text())["defaults"]
        target = Target(
            service=service,
            environment=environment,
            branch=branch,
            pipeline=PipelineSpec(timeout=timedelta(minutes=2)),
            gitops=GitopsSpec(repo=written["gitops"]["repo"], path=written["gitops"]["path"]),
            delivery=DeliverySpec(options=written["delivery"]["options"]),
            verify=VerifyRule(),
        )
        repo = str(self.workspace.directory / written["repo"].format(service=service))
        return Service(service, "shop", repo, targets={environment: target}), target

    async def build(self, service: str, environment: str, branch: str) -> tuple[RunRequest, PipelineRun]:
        """Resolve the branch and run its pipeline to the end."""
        made, target = self.target(service, environment, branch)
        revision = await self.source.resolve(made.repo, None, branch)
        request = RunRequest(
            f"run-{service}", made, target, made.repo, revision.commit, revision.branch, revision.version
        )
        run = await self.pipeline.trigger(request)
        while not run.state.is_final:
            await asyncio.sleep(0.02)
            run = await self.pipeline.look(request)
        return request, run

    async def ship(self, request: RunRequest, run: PipelineRun) -> SyncRequest:
        """Write what was built to Git and bring it to run."""
        assert run.artifact is not None
        target = request.target
        change = Change(
            intent=f"{request.intent}-write",
            service=request.service.name,
            environment=target.environment,
            gitops=target.gitops,
            repo=str(self.workspace.config_repo),
            version=request.version,
            digest=run.artifact.digest,
            commit=request.commit,
            subject="Deploy",
        )
        written = await self.writer.write(change)
        sync = SyncRequest(
            intent=f"{request.intent}-sync",
            service=request.service,
            target=target,
            revision=written.revision,
            version=request.version,
            digest=run.artifact.digest,
            artifact=run.artifact.location,
        )
        progress = await self.delivery.sync(sync)
        while progress.state in (SyncState.PENDING, SyncState.RUNNING):
            await asyncio.sleep(0.02)
            progress = await self.delivery.look(sync) or progress
        assert progress.state is SyncState.SUCCEEDED, await self.delivery.failure(sync)
        return sync


@pytest.fixture
async def providers(own_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Providers]:
    """Ready to work; every run and service is ended afterwards."""
    # Steps say `python3`: the tests' own, whatever else this machine has.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    async with httpx.AsyncClient(trust_env=False) as http:
        made = Providers(own_workspace, http)
        yield made
        await made.runs.stop_all()
        await host.stop_all(own_workspace)


async def test_hello_goes_live(providers: Providers) -> None:
    """From the branch to an address that answers with the version and the digest."""
    request, run = await providers.build("hello", "prod", "main")
    assert run.state is RunState.SUCCEEDED, await providers.pipeline.failure(request)
    assert [stage.name for stage in run.stages] == ["checkout", "test", "build", "artifact"]
    sync = await providers.ship(request, run)
    running = await providers.delivery.running(sync.service, sync.target)
    assert running is not None
    assert (running.version, running.digest, running.healthy) == ("v1.2.0", sync.digest, True)
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{running.url}/version")
    assert answer.json() == {"version": "v1.2.0", "digest": sync.digest}


async def test_the_service_outlives_its_deployment(providers: Providers) -> None:
    """Looking at, cleaning up and ending runs must not end what they deployed."""
    sync = await providers.ship(*await providers.build("hello", "dev", "develop"))
    await providers.runs.stop_all()
    await providers.delivery.cancel(sync)
    await providers.runs.prune(timedelta(0), keep=0)
    running = await providers.delivery.running(sync.service, sync.target)
    assert running is not None
    assert running.healthy


async def test_pays_failure_names_the_test_and_the_reason(providers: Providers) -> None:
    """This is the personal message of the tour."""
    request, run = await providers.build("pay", "prod", "main")
    assert run.state is RunState.FAILED
    failure = await providers.pipeline.failure(request)
    assert failure.stage == "test"
    assert failure.tests == ("test_half_a_cent_rounds_up (tests.test_fees.FeesTest.test_half_a_cent_rounds_up)",)
    assert "AssertionError: '2.67' != '2.68'" in failure.lines


@pytest.mark.parametrize(("environment", "branch"), [("dev", "develop"), ("test", "test"), ("prod", "main")])
async def test_gates_evidence_is_its_own_words(providers: Providers, environment: str, branch: str) -> None:
    """It starts, and then what it says is what the card shows, wherever it is deployed."""
    sync = await providers.ship(*await providers.build("gate", environment, branch))
    running = await providers.delivery.running(sync.service, sync.target)
    assert running is not None
    assert not running.healthy
    reason = "waiting for upstream ledger at 127.0.0.1:9: connection refused"
    failure = await providers.delivery.failure(sync)
    assert failure.message == f"gate in {environment} answers /healthz with 503: {reason}"
    assert any(reason in line for line in failure.lines)


async def test_what_would_ship_is_told_by_commits(providers: Providers) -> None:
    """`--plan` from v1.2.0 to develop shows three commits by name and author."""
    made, _ = providers.target("hello", "dev", "develop")
    old = await providers.source.resolve(made.repo, "v1.2.0", "develop")
    new = await providers.source.resolve(made.repo, None, "develop")
    commits = await providers.source.commits(made.repo, old.commit, new.commit)
    assert len(commits) == 3
