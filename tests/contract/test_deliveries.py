"""What every CD system must do for us, whichever it is. A provider joins by adding its world to `WORLDS`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bot.catalog.model import PipelineSpec, Target
from bot.delivery.argocd import ArgoCD
from bot.delivery.argocd_api import ArgoApi, ArgoServer
from bot.delivery.base import Delivery, Running, SyncProgress, SyncRequest, SyncState
from bot.delivery.kubernetes import Clusters, Kubernetes
from bot.delivery.pipeline import PipelineDelivery
from bot.delivery.shell import ShellDelivery
from bot.errors import ProviderRejected, ProviderUnavailable
from bot.git import Git
from bot.pipelines.shell import ShellPipeline
from bot.processes import ProcessRuns
from bot.sources.git import Source
from tests.contract.test_kubernetes import kubeconfig
from tests.fakes.argocd import TOKEN, FakeArgoCD, running_argocd
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.kubernetes import FakeKubernetes, running_kubernetes
from tests.fakes.repositories import Repository
from tests.fakes.serving import serving as serving_app
from tests.support import free_port


class DeliveryWorld(Protocol):
    """A CD system with one service, ready to be asked."""

    delivery: Delivery

    def request(self, kind: str, intent: str = "dep-1:sync", version: str = "1.0") -> SyncRequest:
        """kind: `good`, `failing`, `slow` (until it is ended)."""
        ...

    def started(self) -> int:
        """How many operations the system really began."""
        ...


DEPLOY = """
import json, os, sys, time
kind, directory, version, digest = sys.argv[1:5]
open(directory + "/count", "a").write("x\\n")
if kind == "failing":
    print("connecting with password=hunter22")
    sys.exit("deploy.py: error: the cluster said no")
if kind == "slow":
    time.sleep(600)
state = {"version": version, "digest": digest, "healthy": True, "url": "http://127.0.0.1:1/"}
open(directory + "/state.tmp", "w").write(json.dumps(state))
os.replace(directory + "/state.tmp", directory + "/state")
"""
RUNNING = "import os, sys\nif os.path.exists(sys.argv[1] + '/state'): print(open(sys.argv[1] + '/state').read())"


@dataclass
class ShellWorld:
    """The built-in delivery with two small scripts in a catalog's directory."""

    delivery: Delivery
    directory: Path
    runs: ProcessRuns
    options: dict[str, object] = field(default_factory=dict)

    def request(self, kind: str, intent: str = "dep-1:sync", version: str = "1.0") -> SyncRequest:
        words = [sys.executable, "deploy.py", kind, "{directory}", "{version}", "{digest}"]
        running = [sys.executable, "running.py", "{directory}"]
        return self.with_options({"deploy": words, "running": running} | self.options, intent, version)

    def with_options(
        self, options: Mapping[str, object], intent: str = "dep-1:sync", version: str = "1.0"
    ) -> SyncRequest:
        target = make_target(delivery=options)
        return SyncRequest(intent, make_service(target), target, "r" * 40, version, f"sha256:{version}")

    def started(self) -> int:
        count = self.directory / "count"
        return len(count.read_text().splitlines()) if count.exists() else 0


@asynccontextmanager
async def shell_world(directory: Path) -> AsyncIterator[ShellWorld]:
    catalog = directory / "catalog"
    catalog.mkdir()
    (catalog / "deploy.py").write_text(DEPLOY)
    (catalog / "running.py").write_text(RUNNING)
    runs = ProcessRuns(directory / "runs")
    async with httpx.AsyncClient() as http:
        yield ShellWorld(ShellDelivery(runs, catalog, http), catalog, runs)
    await runs.stop_all()


@dataclass
class ArgoWorld:
    """An Argo CD with one application a kind, and the commit that each version was written by."""

    delivery: Delivery
    fake: FakeArgoCD

    def request(self, kind: str, intent: str = "dep-1:sync", version: str = "1.0") -> SyncRequest:
        revision = hashlib.sha1(version.encode()).hexdigest()
        digest = f"sha256:{hashlib.sha256(version.encode()).hexdigest()}"
        self.fake.images[revision] = f"registry.example/hello:{version}@{digest}"
        self.fake.outcome["hello"] = kind
        target = make_target(delivery={"application": "{service}"})
        return SyncRequest(intent, make_service(target), target, revision, version, digest)

    def started(self) -> int:
        return len(self.fake.operations)


@asynccontextmanager
async def argo_world(directory: Path) -> AsyncIterator[ArgoWorld]:
    async def contains(target: Target, wanted: str, revision: str) -> bool:
        return False

    async with running_argocd() as fake:
        fake.add("hello")
        api = ArgoApi("default", ArgoServer(fake.url, SecretStr(TOKEN)))
        delivery = ArgoCD({"default": api}, contains)
        yield ArgoWorld(delivery, fake)
        await delivery.close()


@dataclass
class KubernetesWorld:
    """A plain cluster with one Deployment."""

    delivery: Delivery
    fake: FakeKubernetes

    def request(self, kind: str, intent: str = "dep-1:sync", version: str = "1.0") -> SyncRequest:
        self.fake.outcome = {"failing": "crashing"}.get(kind, kind)
        self.fake.logs = ["connecting with password=hunter22", "deploy.py: error: the cluster said no"]
        digest = f"sha256:{hashlib.sha256(version.encode()).hexdigest()}"
        target = make_target(delivery={"image": "registry.example/{service}"})
        return SyncRequest(intent, make_service(target), target, "r" * 40, version, digest)

    def started(self) -> int:
        return len(self.fake.rollouts)


@asynccontextmanager
async def kubernetes_world(directory: Path) -> AsyncIterator[KubernetesWorld]:
    async with running_kubernetes() as fake:
        fake.add("hello", "hello")
        delivery = Kubernetes(Clusters(kubeconfig(directory, fake.url)))
        yield KubernetesWorld(delivery, fake)
        await delivery.close()


CD = """
steps:
  - name: deploy
    run: ['{python}', deploy.py, {kind}, '{directory}']
artifact: null
"""
DEPLOY_TAG = DEPLOY.replace(
    "kind, directory, version, digest = sys.argv[1:5]",
    "kind, directory = sys.argv[1:3]; version, digest = os.environ['SLIPWAY_VERSION'], os.environ['SLIPWAY_DIGEST']",
)


@dataclass
class PipelineWorld:
    """Deploying by a cd pipeline; what runs answers at an address, once something does."""

    delivery: Delivery
    directory: Path
    repository: Repository
    url: str

    def request(self, kind: str, intent: str = "dep-1:sync", version: str = "1.0") -> SyncRequest:
        text = (
            CD.replace("{kind}", kind).replace("{python}", sys.executable).replace("{directory}", str(self.directory))
        )
        commit = self.repository.commit({".slipway/cd.yaml": text, "deploy.py": DEPLOY_TAG}, kind)
        cd = PipelineSpec("shell", "hello-cd", timedelta(minutes=1), {"file": ".slipway/cd.yaml"})
        target = replace(make_target(delivery={"running_url": self.url}), cd=cd)
        service = replace(make_service(target), repo=self.repository.address)
        digest = f"sha256:{hashlib.sha256(version.encode()).hexdigest()}"
        return SyncRequest(intent, service, target, "r" * 40, version, digest, commit=commit)

    def started(self) -> int:
        count = self.directory / "count"
        return len(count.read_text().splitlines()) if count.exists() else 0


@asynccontextmanager
async def pipeline_world(directory: Path) -> AsyncIterator[PipelineWorld]:
    state = directory / "place"
    state.mkdir()
    repository = Repository(directory / "hello")
    runs = ProcessRuns(directory / "runs")
    pipeline = ShellPipeline(runs, Source(directory / "cache", Git()), directory / "artifacts")

    async def version(_request: Request) -> Response:
        return Response((state / "state").read_bytes() if (state / "state").exists() else b"null")

    async with serving_app(Starlette(routes=[Route("/version", version)])) as url, httpx.AsyncClient() as http:
        delivery = PipelineDelivery({"shell": pipeline}, directory, http)
        yield PipelineWorld(delivery, state, repository, f"{url}/version")
    await runs.stop_all()


async def test_pipeline_is_told_the_image_and_says_its_stage(tmp_path: Path) -> None:
    """The tag, the digest and the commit go to the cd pipeline; without its commit nothing is started."""
    async with pipeline_world(tmp_path) as world:
        request = world.request("slow", version="1.4.2")
        await world.delivery.sync(request)
        async with asyncio.timeout(30):
            while (progress := await world.delivery.look(request)) is None or not progress.message:
                await asyncio.sleep(0.02)
        assert progress.message in ("checkout, stage 1 of 2", "deploy, stage 2 of 2")
        await world.delivery.cancel(request)
        with pytest.raises(ProviderRejected, match=r"The commit of hello 1\.4\.2 is not known"):
            await world.delivery.sync(replace(request, intent="dep-2:sync", commit=""))
        wrong = replace(request, target=replace(request.target, cd=PipelineSpec("jenkins", "hello-cd")))
        with pytest.raises(ProviderRejected, match="The pipeline provider 'jenkins' is not set up here"):
            await world.delivery.look(wrong)


WORLDS: dict[str, Callable[[Path], AbstractAsyncContextManager[DeliveryWorld]]] = {
    "argocd": argo_world,
    "kubernetes": kubernetes_world,
    "pipeline": pipeline_world,
    "shell": shell_world,
}


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DeliveryWorld]:
    async with WORLDS[request.param](tmp_path) as world:
        yield world


async def settled(delivery: Delivery, request: SyncRequest) -> SyncProgress:
    async with asyncio.timeout(30):
        while True:
            progress = await delivery.look(request)
            if progress is not None and progress.state not in (SyncState.PENDING, SyncState.RUNNING):
                return progress
            await asyncio.sleep(0.02)


async def test_what_was_synced_is_what_runs(world: DeliveryWorld) -> None:
    """Done means seen running, with the digest that was approved."""
    request = world.request("good")
    assert await world.delivery.look(request) is None
    assert await world.delivery.running(request.service, request.target) is None
    await world.delivery.sync(request)
    progress = await settled(world.delivery, request)
    assert (progress.state, progress.percent) == (SyncState.SUCCEEDED, 100)
    running = await world.delivery.running(request.service, request.target)
    assert running is not None
    assert (running.version, running.digest, running.healthy) == ("1.0", request.digest, True)


async def test_the_same_intent_is_one_operation(world: DeliveryWorld) -> None:
    """A handler may run twice, also at the same time."""
    request = world.request("good")
    await asyncio.gather(*(world.delivery.sync(request) for _ in range(4)))
    await settled(world.delivery, request)
    await world.delivery.sync(request)
    assert world.started() == 1


async def test_a_failure_comes_with_evidence_and_without_secrets(world: DeliveryWorld) -> None:
    """The person who asked reads why, and no password of the system's log."""
    request = world.request("failing")
    await world.delivery.sync(request)
    assert (await settled(world.delivery, request)).state is SyncState.FAILED
    failure = await world.delivery.failure(request)
    assert failure.message != ""
    assert "error: the cluster said no" in " ".join(failure.lines)
    assert "hunter22" not in " ".join(failure.lines)


async def test_cancel_ends_the_operation(world: DeliveryWorld) -> None:
    """A cancelled deployment does not go on behind one's back."""
    request = world.request("slow")
    await world.delivery.sync(request)
    await world.delivery.cancel(request)
    assert (await settled(world.delivery, request)).state is SyncState.FAILED
    await world.delivery.cancel(request)


async def test_gray_is_refused_where_there_is_none(world: DeliveryWorld) -> None:
    """A button that cannot work says so."""
    for ask in (world.delivery.continue_gray, world.delivery.abort_gray):
        with pytest.raises(ProviderRejected, match="no gray stage"):
            await ask(world.request("good"))


# --- the built-in delivery alone


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[ShellWorld]:
    async with shell_world(tmp_path) as world:
        yield world


async def test_shell_values_are_words_and_never_filled_twice(shell: ShellWorld) -> None:
    """A version is outside text: neither a shell nor our own placeholders may see more in it."""
    version = "$(touch pwned) {directory}; `id`"
    request = shell.request("good", version=version)
    await shell.delivery.sync(request)
    await settled(shell.delivery, request)
    running = await shell.delivery.running(request.service, request.target)
    assert running is not None
    assert running.version == version
    assert not (shell.directory / "pwned").exists()


async def test_shell_a_deployed_service_outlives_the_command_and_the_bot(shell: ShellWorld) -> None:
    """The service is what was asked for; the run that started it is not its master."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True, stdout=-3).pid)"
    request = shell.with_options({"deploy": [sys.executable, "-c", code], "running": ["true"]})
    await shell.delivery.sync(request)
    assert (await settled(shell.delivery, request)).state is SyncState.SUCCEEDED
    pid = int(shell.runs.log_tail(request.intent)[-1])
    await shell.runs.stop_all()
    os.kill(pid, signal.SIGKILL)  # Raises if it is gone.


BAD_OPTIONS: list[tuple[dict[str, object], str]] = [
    ({"running": ["x"]}, "`deploy` is missing"),
    ({"deploy": "make deploy", "running": ["x"]}, "`deploy` must be a list such as"),
    ({"deploy": [], "running": ["x"]}, "`deploy`"),
    ({"deploy": ["x"]}, "exactly one of `running` and `running_url` must be given"),
    ({"deploy": ["x"], "running": ["x"], "running_url": "http://h/"}, "exactly one of"),
    ({"deploy": ["x"], "running_url": "file:///etc/passwd"}, "`running_url` must begin with http"),
    ({"deploy": ["x"], "running": ["{version}"]}, "`running` must not use {version}"),
    ({"deploy": ["x"], "running": ["x"], "retries": 3}, "`retries` is not a known field"),
    ({"deploy": ["x"], "running": ["x"], "timeout": "soon"}, "`timeout` must be a time such as 90s"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD_OPTIONS)
async def test_shell_wrong_options_name_the_field(shell: ShellWorld, options: dict[str, object], sentence: str) -> None:
    """A mistake in the catalog is told as one, before anything runs."""
    with pytest.raises(ProviderRejected) as caught:
        await shell.delivery.sync(shell.with_options(options))
    assert caught.value.message.startswith("delivery.options of hello in prod: ")
    assert sentence in caught.value.message


UNTOLD = [
    ("import sys; sys.exit('boom')", "failed with exit code 1: boom"),
    ("print('not json')", "does not answer with JSON"),
    ("print('{}')", "answers without a right `version`"),
    ("import time; time.sleep(60)", "did not end within 1 s"),
    ("while True: print('x' * 99999)", "prints too much"),
]


@pytest.mark.parametrize(("code", "sentence"), UNTOLD)
async def test_shell_what_cannot_be_told_is_not_nothing(shell: ShellWorld, code: str, sentence: str) -> None:
    """A broken probe must not look like an empty environment, nor hang the bot."""
    options = {"deploy": ["x"], "running": [sys.executable, "-c", code], "running_timeout": "1s"}
    request = shell.with_options(options)
    with pytest.raises(ProviderUnavailable) as caught:
        await shell.delivery.running(request.service, request.target)
    assert sentence in caught.value.message


@asynccontextmanager
async def serving(answer: bytes) -> AsyncIterator[str]:
    """A server that gives one answer, whatever is asked; empty: none at all, with the connection open."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if not answer:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/version"


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


VERSION = json.dumps({"version": "1.0", "digest": "sha256:1"})
ANSWERS = [
    (http("200 OK", VERSION), Running("sha256:1", "1.0", True)),
    (http("503 No", VERSION), Running("sha256:1", "1.0", False, message="It answers with HTTP status 503.")),
    (http("500 No", "oops"), Running("", "", False, message="It answers with HTTP status 500.")),
    (http("302 Go", ""), Running("", "", False, message="It answers with HTTP status 302.")),
    (http("200 OK", "oops"), "does not answer with JSON"),
    (http("200 OK", "x" * 300_000), "answers too much"),
    (b"nonsense\r\n\r\n", "gave no answer"),
    (b"", "did not answer within 1 s"),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
async def test_shell_asks_an_address(shell: ShellWorld, answer: bytes, expected: Running | str) -> None:
    """Healthy is 200 with version and digest; everything else is told as what it is."""
    async with serving(answer) as url:
        limit = "20s" if answer else "1s"  # only the server that says nothing is waited out
        request = shell.with_options({"deploy": ["x"], "running_url": url, "running_timeout": limit})
        if isinstance(expected, str):
            with pytest.raises(ProviderUnavailable, match=expected):
                await shell.delivery.running(request.service, request.target)
        else:
            assert await shell.delivery.running(request.service, request.target) == expected


async def test_shell_nothing_listening_means_nothing_runs(shell: ShellWorld) -> None:
    """Before the first deployment the address refuses, and that is no error."""
    request = shell.with_options({"deploy": ["x"], "running_url": f"http://127.0.0.1:{free_port()}/version"})
    assert await shell.delivery.running(request.service, request.target) is None


async def test_shell_an_unhealthy_service_shows_its_own_log(shell: ShellWorld) -> None:
    """Deployed and not healthy: the reason is in the service's log, not in the command's."""
    log = shell.directory / "service.log"
    log.write_text("starting\nERROR: token=abc123 config key PORT is missing\n")
    state = {"version": "1", "digest": "d", "healthy": False, "message": "not ready", "log": "service.log"}
    (shell.directory / "state").write_text(json.dumps(state))
    request = shell.with_options({"deploy": ["true"], "running": ["cat", "state"]})
    await shell.delivery.sync(request)
    await settled(shell.delivery, request)
    failure = await shell.delivery.failure(request)
    assert failure.message == "not ready"
    assert "ERROR: token=[redacted] config key PORT is missing" in failure.lines
    for odd in ("/dev/zero", "no such file", "\0"):
        (shell.directory / "state").write_text(json.dumps(state | {"log": odd}))
        assert (await shell.delivery.failure(request)).lines == ()


async def test_shell_an_unbegun_run_is_begun_by_the_next_look(
    shell: ShellWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bot died between accepting and starting: the next one's look goes on."""
    request = shell.request("good")
    with monkeypatch.context() as patched:
        patched.setattr(ProcessRuns, "_spawn", lambda *_: None)
        assert (await shell.delivery.sync(request)).state is SyncState.PENDING
    assert (await settled(shell.delivery, request)).state is SyncState.SUCCEEDED
    assert shell.started() == 1


async def test_shell_a_relative_directory_for_the_commands(shell: ShellWorld) -> None:
    """Scripts may live in a folder of the catalog."""
    (shell.directory / "scripts").mkdir()
    request = shell.with_options({"deploy": ["pwd"], "running": ["true"], "cwd": "scripts"})
    await shell.delivery.sync(replace(request))
    await settled(shell.delivery, request)
    assert shell.runs.log_tail(request.intent) == (str(shell.directory / "scripts"),)
