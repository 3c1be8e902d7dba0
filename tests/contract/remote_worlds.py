"""The CI systems elsewhere, as worlds of the contract: a fake behind real HTTP, and notes in a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from bot.catalog.model import PipelineSpec
from bot.clock import Clock, utc_now
from bot.pipelines.base import Pipeline, RunRequest
from bot.pipelines.github import GitHub
from bot.pipelines.gitlab import GitLab
from bot.pipelines.http import make_client
from bot.pipelines.jenkins import Jenkins
from bot.pipelines.prow import Prow
from bot.pipelines.remote import RemotePipeline, RemoteSystem
from bot.pipelines.tekton import Tekton
from bot.pipelines.yunxiao import Yunxiao
from bot.store.database import Database
from bot.store.migrate import migrate
from bot.store.runs import StoredRuns
from tests.fakes.builds import STAGES, commit_of
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.github import TOKEN as GITHUB
from tests.fakes.github import FakeGitHub
from tests.fakes.gitlab import TOKEN as GITLAB
from tests.fakes.gitlab import FakeGitLab
from tests.fakes.jenkins import FakeJenkins
from tests.fakes.prow import TOKEN as PROW
from tests.fakes.prow import FakeProw
from tests.fakes.serving import serving
from tests.fakes.tekton import TOKEN as TEKTON
from tests.fakes.tekton import FakeTekton
from tests.fakes.yunxiao import BASE as FLOW
from tests.fakes.yunxiao import TOKEN as YUNXIAO
from tests.fakes.yunxiao import FakeYunxiao

DEFINITION = "team/hello"


def remote_request(
    provider: str, kind: str, intent: str, definition: str = DEFINITION, options: Mapping[str, object] | None = None
) -> RunRequest:
    """What the workflow asks for: a commit that builds as `kind` says; `undefined` names a pipeline that is missing."""
    name = f"{definition}-missing" if kind == "undefined" else definition
    target = replace(make_target(), pipeline=PipelineSpec(provider=provider, name=name, options=options or {}))
    return RunRequest(
        intent=intent,
        service=make_service(target),
        target=target,
        repo="https://git.example/team/hello.git",
        commit=commit_of(kind),
        branch="main",
        version="1.0 $(id)",
    )


@contextmanager
def memory(directory: Path) -> Iterator[StoredRuns]:
    """Notes in an SQLite file; it stays when the process goes."""
    db = Database(f"sqlite:///{directory / 'notes.db'}")
    migrate(db)
    try:
        yield StoredRuns(db)
    finally:
        db.close()


@dataclass
class RemoteWorld:
    """A system elsewhere with one pipeline."""

    pipeline: Pipeline
    began: Callable[[], int]
    definition: str = DEFINITION
    options: Mapping[str, object] | None = None
    stages: tuple[str, ...] = STAGES

    def request(self, kind: str, intent: str = "dep-1:build") -> RunRequest:
        return remote_request(self.pipeline.name, kind, intent, self.definition, self.options)

    def started(self) -> int:
        return self.began()


WORKFLOW = "team/hello/release.yml"


def plain(url: str, headers: Mapping[str, str] | None = None, **more: Any) -> httpx.AsyncClient:
    """A client for loopback: without certificates to read it is made at once."""
    return make_client(url, headers, verify=False, **more)


MAKERS: Mapping[str, Callable[[str, Clock], tuple[RemoteSystem, httpx.AsyncClient]]] = {
    "jenkins": lambda url, clock: _with(Jenkins, plain(f"{url}/", auth=("bot", "t0ken")), clock),
    "gitlab": lambda url, clock: _with(GitLab, plain(f"{url}/api/v4/", {"PRIVATE-TOKEN": GITLAB}), clock),
    "github": lambda url, clock: _with(GitHub, plain(f"{url}/", {"Authorization": f"Bearer {GITHUB}"}), clock),
    "tekton": lambda url, clock: _with(Tekton, plain(f"{url}/", {"Authorization": f"Bearer {TEKTON}"}), clock),
    "prow": lambda url, clock: _prow(url, clock),
    "yunxiao": lambda url, clock: _with(Yunxiao, plain(f"{url}{FLOW}/", {"x-yunxiao-token": YUNXIAO}), clock),
}


def _with(
    system: Callable[[httpx.AsyncClient, Clock], RemoteSystem], client: httpx.AsyncClient, clock: Clock
) -> tuple[RemoteSystem, httpx.AsyncClient]:
    return system(client, clock), client


def _prow(url: str, clock: Clock) -> tuple[RemoteSystem, httpx.AsyncClient]:
    client = plain(f"{url}/", {"Authorization": f"Bearer {PROW}"})
    return Prow(client, clock, cluster=client), client


def make_remote(
    name: str, url: str, notes: StoredRuns, clock: Clock = utc_now
) -> tuple[RemotePipeline, httpx.AsyncClient]:
    """The provider of that name at that address, and its client, which the caller closes."""
    system, client = MAKERS[name](url, clock)
    return RemotePipeline(system, notes, clock), client


@dataclass
class GitLabWorld(RemoteWorld):
    """GitLab and its knobs."""

    fake: FakeGitLab = None  # type: ignore[assignment]


@dataclass
class GitHubWorld(RemoteWorld):
    """GitHub and its knobs."""

    fake: FakeGitHub = None  # type: ignore[assignment]


@dataclass
class JenkinsWorld(RemoteWorld):
    """Jenkins and its knobs."""

    fake: FakeJenkins = None  # type: ignore[assignment]


@dataclass
class TektonWorld(RemoteWorld):
    """Tekton and its knobs."""

    fake: FakeTekton = None  # type: ignore[assignment]


@dataclass
class ProwWorld(RemoteWorld):
    """Prow and its knobs."""

    fake: FakeProw = None  # type: ignore[assignment]


@dataclass
class YunxiaoWorld(RemoteWorld):
    """Yunxiao and its knobs."""

    fake: FakeYunxiao = None  # type: ignore[assignment]


@asynccontextmanager
async def remote(name: str, app: ASGIApp, directory: Path, clock: Clock) -> AsyncIterator[RemotePipeline]:
    """A provider in front of a served fake, with its notes in the directory."""
    with memory(directory) as notes:
        async with serving(app) as url:
            pipeline, client = make_remote(name, url, notes, clock)
            async with client:
                yield pipeline


@asynccontextmanager
async def jenkins_world(directory: Path, clock: Clock = utc_now) -> AsyncIterator[JenkinsWorld]:
    fake = FakeJenkins(DEFINITION)
    async with remote("jenkins", fake.app, directory, clock) as pipeline:
        yield JenkinsWorld(pipeline, lambda: len(fake.built), fake=fake)


@asynccontextmanager
async def gitlab_world(directory: Path, clock: Clock = utc_now) -> AsyncIterator[GitLabWorld]:
    fake = FakeGitLab(DEFINITION)
    async with remote("gitlab", fake.app, directory, clock) as pipeline:
        yield GitLabWorld(pipeline, lambda: len(fake.built), fake=fake)


@asynccontextmanager
async def github_world(directory: Path, clock: Clock = utc_now) -> AsyncIterator[GitHubWorld]:
    fake = FakeGitHub(WORKFLOW)
    async with remote("github", fake.app, directory, clock) as pipeline:
        yield GitHubWorld(pipeline, lambda: len(fake.runs), WORKFLOW, fake=fake)


@asynccontextmanager
async def tekton_world(directory: Path, clock: Clock = utc_now) -> AsyncIterator[TektonWorld]:
    fake = FakeTekton(DEFINITION)
    async with remote("tekton", fake.app, directory, clock) as pipeline:
        yield TektonWorld(pipeline, lambda: len(fake.runs), fake=fake)


@asynccontextmanager
async def prow_world(directory: Path, clock: Clock = utc_now) -> AsyncIterator[ProwWorld]:
    fake = FakeProw("hello-ci")
    async with remote("prow", fake.app, directory, clock) as pipeline:
        yield ProwWorld(pipeline, lambda: len(fake.jobs), "hello-ci", stages=("hello-ci",), fake=fake)


@asynccontextmanager
async def yunxiao_world(directory: Path, clock: Clock = utc_now) -> AsyncIterator[YunxiaoWorld]:
    fake = FakeYunxiao("183")
    async with remote("yunxiao", fake.app, directory, clock) as pipeline:
        yield YunxiaoWorld(pipeline, lambda: len(fake.runs), "183", fake=fake)
