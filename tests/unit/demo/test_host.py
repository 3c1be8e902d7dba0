"""The demo's server, with real processes: what Git says runs, once, whatever is killed and whenever."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bot import artifacts
from bot.demo import host
from bot.demo.workspace import FILES, Workspace
from bot.errors import ProviderUnavailable
from tests.support import free_port

from .conftest import Built, git

PATIENCE = 10.0
"""Seconds a real process may take."""


class Server:
    """The server of one workspace, and what Git says to it."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.state = workspace.state / "host"

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        with self.begin(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start one command in a group of its own."""
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "A_TOKEN": "hidden"}
        return subprocess.Popen(
            [sys.executable, self.workspace.tool, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def write(self, service: str, environment: str, version: str, digest: str) -> str:
        """Commit a version to the configuration repository; returns the commit."""
        text = f'# written by hand\nversion: "{version}"\ndigest: {digest}  # of the content\n'
        stream = (
            "commit refs/heads/main\ncommitter A <a@slipway.example> 1767600000 +0000\ndata 1\nx\n"
            f"from refs/heads/main^0\nM 100644 inline {environment}/{service}.yaml\ndata {len(text)}\n{text}\n"
        )
        git("--git-dir", self.workspace.config_repo, "fast-import", "--quiet", stdin=stream)
        return git("--git-dir", self.workspace.config_repo, "rev-parse", "main")

    def arguments(self, service: str, environment: str, version: str, artifact: Built) -> list[str]:
        """What the catalog's `deploy` becomes, after the version was written."""
        revision = self.write(service, environment, version, artifact.digest)
        options = {
            "version": version,
            "digest": artifact.digest,
            "artifact": str(artifact.place),
            "revision": revision,
        }
        return ["deploy", service, environment, *(f"--{name}={value}" for name, value in options.items())]

    def deploy(self, service: str, environment: str, version: str, artifact: Built) -> str:
        """Write and deploy; returns what was printed."""
        done = self.call(*self.arguments(service, environment, version, artifact))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def running(self, service: str, environment: str) -> dict[str, Any]:
        """What the server says runs."""
        done = self.call("running", service, environment)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout) or {}
        return told

    def processes(self, what: str = "") -> list[int]:
        """The service processes, found without the server's own book-keeping."""
        mark = f"SLIPWAY_DEMO_HOST={self.state}/{what}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (path / "environ").read_bytes():
                    found.append(int(path.name))
        return found

    def pid(self, service: str, environment: str) -> int:
        """The process that is written down."""
        pid: int = json.loads((self.state / environment / service / "current.json").read_text())["pid"]
        return pid


@pytest.fixture
def server(own_workspace: Workspace) -> Server:
    """A server on which nothing runs."""
    return Server(own_workspace)


@pytest.fixture
def hello(built: Mapping[tuple[str, str], Built]) -> Built:
    """What prod runs in the tour."""
    return built["hello", "main"]


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    """The program as a module, for its functions."""
    spec = importlib.util.spec_from_file_location("demo_host", FILES / "host.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_host"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["demo_host"]


def get(url: str) -> str:
    """GET, past any proxy."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


def until(condition: Callable[[], bool]) -> None:
    """Wait for another process, which keeps its own time."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def artifact_of(script: str, top: Path) -> Built:
    """A stored artifact with this app.py."""
    source = top / "source"
    source.mkdir()
    (source / "app.py").write_text(script)
    return Built(*artifacts.store(source, top / "store"))


# --- deploying


def test_a_deployed_service_says_what_it_is(server: Server, hello: Built) -> None:
    """`url` is where `/version` answers with the version and the digest that Git says."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    told = server.running("hello", "prod")
    assert (told["version"], told["digest"], told["healthy"]) == ("v1.2.0", hello.digest, True)
    assert json.loads(get(told["url"] + "/version")) == {"version": "v1.2.0", "digest": hello.digest}
    assert get(told["url"] + "/healthz") == "ok\n"
    assert "<h1>Hello, Ada!</h1>" in get(told["url"] + "/?name=Ada")
    assert told["log"][0] == f"INFO hello: v1.2.0 listens on {told['url']}"


def test_the_same_again_leaves_it_alone(server: Server, hello: Built) -> None:
    """A repeated deployment must not interrupt the service."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    pid = server.pid("hello", "prod")
    assert "already" in server.deploy("hello", "prod", "v1.2.0", hello)
    assert server.pid("hello", "prod") == pid
    assert server.processes() == [pid]


def test_a_new_release_takes_the_old_ones_place(
    server: Server, hello: Built, built: Mapping[tuple[str, str], Built]
) -> None:
    """Same address, new process, and the old one is gone; back is as easy, even if the artifact is not there."""
    newer = built["hello", "develop"]
    server.deploy("hello", "prod", "v1.2.0", hello)
    before = server.running("hello", "prod")
    server.deploy("hello", "prod", "v1.3.0", newer)
    after = server.running("hello", "prod")
    assert (after["version"], after["digest"], after["url"]) == ("v1.3.0", newer.digest, before["url"])
    assert len(server.processes()) == 1
    server.deploy("hello", "prod", "v1.2.0", hello._replace(place=Path("/gone")))
    assert server.running("hello", "prod")["digest"] == hello.digest


def test_the_same_content_under_another_version_is_restarted(server: Server, hello: Built) -> None:
    """Otherwise `/version` would name the old version for ever."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    server.deploy("hello", "prod", "v1.2.1", hello)
    assert server.running("hello", "prod")["version"] == "v1.2.1"


def test_environments_do_not_know_each_other(server: Server, hello: Built) -> None:
    """The same service runs in each environment, each with its own port."""
    for environment in ("dev", "test", "prod"):
        server.deploy("hello", environment, "v1.2.0", hello)
    assert len({server.running("hello", environment)["url"] for environment in ("dev", "test", "prod")}) == 3
    server.call("stop", "hello", "dev")
    assert len(server.processes()) == 2
    assert server.running("hello", "dev") == {}


def test_nothing_deployed_is_null(server: Server) -> None:
    """The bot must tell "nothing" from "unhealthy"."""
    assert server.call("running", "hello", "prod").stdout == "null\n"


def test_nothing_of_the_bots_environment_reaches_a_service(server: Server, hello: Built) -> None:
    """A token in an environment is a token in every page of a careless service."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    assert b"hidden" not in Path(f"/proc/{server.pid('hello', 'prod')}/environ").read_bytes()


def test_an_empty_version_ends_the_service(server: Server, hello: Built) -> None:
    """So a first deployment is undone: Git has no version any more, and nothing runs."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    git_says = server.write("hello", "prod", "", "")
    options = ("--version=", "--digest=", "--artifact=", f"--revision={git_says}")
    assert server.call("deploy", "hello", "prod", *options).returncode == 0
    assert server.running("hello", "prod") == {}
    assert server.processes() == []


# --- refusals


def test_what_git_does_not_say_is_refused(server: Server, hello: Built) -> None:
    """Git is the truth: nobody deploys around it."""
    arguments = server.arguments("hello", "prod", "v1.2.0", hello)
    done = server.call(*(argument.replace("v1.2.0", "v6.6.6") for argument in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: hello in prod is to run version v6.6.6, but the configuration repository says"
    )
    assert done.stderr.count("\n") == 1
    assert server.processes() == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("--revision=--help", "is no commit"),
        ("--revision=0123456789abcdef", "the configuration repository could not be read"),
        ("--artifact=/nowhere", "is gone from `/nowhere`; build it again"),
    ],
)
def test_bad_facts_are_one_sentence(server: Server, hello: Built, given: str, sentence: str) -> None:
    """This sentence is the evidence on the card."""
    done = server.call(*server.arguments("hello", "prod", "v1.2.0", hello), given)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("service", ["../x", "a/b", "", "-x", ".hidden"])
def test_a_name_is_no_path(server: Server, service: str) -> None:
    """Names become folders."""
    assert server.call("running", "--", service, "prod").returncode == 2


def test_a_damaged_artifact_is_refused(server: Server, hello: Built, tmp_path: Path) -> None:
    """The digest was approved, not the folder."""
    copy = tmp_path / "copy"
    shutil.copytree(hello.place, copy)
    (copy / "extra.py").touch()
    done = server.call(*server.arguments("hello", "prod", "v1.2.0", hello._replace(place=copy)))
    assert done.returncode == 1
    assert "build it again" in done.stderr
    assert server.processes() == []


def test_the_digest_is_slipways(tool: ModuleType, tmp_path: Path) -> None:
    """Two implementations of one rule must not part."""
    tree = tmp_path / "tree"
    (tree / "a" / "empty").mkdir(parents=True)
    (tree / "a.txt").write_bytes(b"\0\n")
    (tree / "a" / "run").write_text("#!/bin/sh\n")
    (tree / "a" / "run").chmod(0o755)
    (tree / "ü").symlink_to("a/run")
    (tree / "link").symlink_to("a")
    assert tool.content_digest(tree) == artifacts.digest(tree)


# --- services that are not well


def test_gate_is_never_healthy_and_says_why(server: Server, built: Mapping[tuple[str, str], Built]) -> None:
    """The tour's evidence: the service's own words, from `/healthz` and from its log."""
    server.deploy("gate", "dev", "v1.0.0", built["gate", "main"])
    told = server.running("gate", "dev")
    assert told["healthy"] is False
    reason = "waiting for upstream ledger at 127.0.0.1:9: connection refused"
    assert told["message"] == f"gate in dev answers /healthz with 503: {reason}"
    assert any(line.startswith("ERROR gate:") and reason in line for line in told["log"])
    assert told["digest"] == built["gate", "main"].digest


def test_a_service_that_ends_at_once_fails_with_its_last_words(server: Server, tmp_path: Path) -> None:
    """The traceback is what the requester has to see."""
    done = server.call(
        *server.arguments("hello", "dev", "v1", artifact_of("raise SystemExit('no database: set DSN')", tmp_path))
    )
    assert done.returncode == 1
    assert "no database: set DSN" in done.stderr
    assert "ended before it listened" in done.stderr
    assert server.running("hello", "dev") == {}


def test_a_service_that_died_later_is_told(server: Server, hello: Built) -> None:
    """What runs is asked of the process, not read from a file."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    os.kill(server.pid("hello", "prod"), signal.SIGKILL)
    until(lambda: not server.processes())
    told = server.running("hello", "prod")
    assert told["healthy"] is False
    assert "is gone" in told["message"]
    server.deploy("hello", "prod", "v1.2.0", hello)
    assert server.running("hello", "prod")["healthy"] is True


NOISY = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
for number in range(20000):
    print("line", number, "x" * 60)
sys.stdout.flush()
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), BaseHTTPRequestHandler).serve_forever()
"""


def test_a_noisy_service_does_not_fill_the_disk(server: Server, tmp_path: Path, tool: ModuleType, hello: Built) -> None:
    """Its newest lines stay, the oldest go."""
    server.deploy("hello", "dev", "v1", artifact_of(NOISY, tmp_path))
    logs = server.state / "dev" / "hello"
    until(lambda: "line 19999 " in (logs / "service.log").read_text())
    assert sum(path.stat().st_size for path in logs.glob("*log*")) <= 2 * tool.LOG_LIMIT
    assert any(line.startswith("line 19999 ") for line in server.running("hello", "dev")["log"])
    server.deploy("hello", "dev", "v2", hello)
    assert "line 19999 " in (logs / "previous.log").read_text()


def test_a_port_taken_by_somebody_else_is_left_to_them(server: Server, hello: Built) -> None:
    """Ports are a person's too: the service moves, and its address with it."""
    taken = free_port()
    place = server.state / "prod" / "hello"
    place.mkdir(parents=True)
    (place / "port").write_text(f"{taken}\n")
    script = f"import socket,time\ns=socket.create_server(('127.0.0.1',{taken}))\nprint(flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as foreign:
        assert foreign.stdout is not None
        foreign.stdout.readline()
        server.deploy("hello", "prod", "v1.2.0", hello)
        assert foreign.poll() is None
        foreign.kill()
    assert str(taken) not in server.running("hello", "prod")["url"]


# --- killed, and at the same time


@pytest.mark.parametrize("milliseconds", [20, 35, 45, 55, 65, 75, 90, 120])
def test_killed_at_any_moment_and_given_again_is_right(
    server: Server, hello: Built, built: Mapping[tuple[str, str], Built], milliseconds: int
) -> None:
    """The bot repeats what it does not know to be done; there must be one process in the end, the right one."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    newer = built["hello", "develop"]
    arguments = server.arguments("hello", "prod", "v1.3.0", newer)
    with server.begin(*arguments) as process:
        time.sleep(milliseconds / 1000)  # a real process in the middle of its work
        os.killpg(process.pid, signal.SIGKILL)
    assert server.call(*arguments).returncode == 0
    told = server.running("hello", "prod")
    assert (told["version"], told["digest"], told["healthy"]) == ("v1.3.0", newer.digest, True)
    assert server.processes() == [server.pid("hello", "prod")]


def test_a_process_nobody_wrote_down_is_replaced(server: Server, hello: Built) -> None:
    """What a killed deployment leaves between starting and noting it."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    orphan = server.pid("hello", "prod")
    (server.state / "prod" / "hello" / "current.json").unlink()
    server.deploy("hello", "prod", "v1.2.0", hello)
    assert server.processes() == [server.pid("hello", "prod")] != [orphan]


def test_two_deployments_at_once_do_not_mix(
    server: Server, hello: Built, built: Mapping[tuple[str, str], Built]
) -> None:
    """One of them is last, whole."""
    one = server.begin(*server.arguments("hello", "prod", "v1.2.0", hello))
    two = server.begin(*server.arguments("hello", "prod", "v1.3.0", built["hello", "develop"]))
    for process in (one, two):
        with process:
            assert process.wait(timeout=30) == 0
    told = server.running("hello", "prod")
    expected = {"v1.2.0": hello.digest, "v1.3.0": built["hello", "develop"].digest}
    assert expected[told["version"]] == told["digest"]
    assert len(server.processes()) == 1


# --- the whole demo


async def test_a_second_start_of_the_demo_brings_everything_back(
    server: Server, hello: Built, built: Mapping[tuple[str, str], Built]
) -> None:
    """Ctrl-C ends every service; the next start continues where it was, at the same addresses."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    server.deploy("hello", "dev", "v1.3.0", built["hello", "develop"])
    server.deploy("gate", "dev", "v1.0.0", built["gate", "main"])
    before = {place: server.running(*place)["url"] for place in [("hello", "prod"), ("hello", "dev"), ("gate", "dev")]}
    await host.stop_all(server.workspace)
    assert server.processes() == []
    await host.start_all(server.workspace)
    await host.start_all(server.workspace)
    assert len(server.processes()) == 3
    assert {place: server.running(*place)["url"] for place in before} == before
    assert server.running("hello", "prod")["version"] == "v1.2.0"


async def test_stopping_needs_no_notes(server: Server, hello: Built) -> None:
    """Ctrl-C must leave nothing behind, even if the notes are wrong or gone."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    server.deploy("hello", "dev", "v1.2.0", hello)
    (server.state / "dev" / "hello" / "current.json").write_text("{")
    shutil.rmtree(server.state / "prod")
    await host.stop_all(server.workspace)
    assert server.processes() == []


async def test_stopping_leaves_other_demos_alone(server: Server, hello: Built, own_workspace: Workspace) -> None:
    """Two demos in two directories, the name of one beginning with the other's."""
    other = Workspace(own_workspace.directory.with_name("workspace-2"))
    shutil.copytree(own_workspace.directory, other.directory)
    server.deploy("hello", "prod", "v1.2.0", hello)
    await host.stop_all(other)
    assert len(server.processes()) == 1


async def test_what_cannot_be_started_again_is_told_and_the_rest_runs(server: Server, hello: Built) -> None:
    """One broken service must not keep the demo down."""
    server.deploy("hello", "prod", "v1.2.0", hello)
    server.deploy("hello", "dev", "v1.2.0", hello)
    await host.stop_all(server.workspace)
    shutil.rmtree(server.state / "dev" / "hello" / "releases")
    with pytest.raises(ProviderUnavailable, match=r"hello in dev.*deploy it again"):
        await host.start_all(server.workspace)
    assert server.running("hello", "prod")["healthy"] is True


async def test_with_nothing_deployed_there_is_nothing_to_do(server: Server) -> None:
    """The very first start."""
    await host.start_all(server.workspace)
    await host.stop_all(server.workspace)


async def test_a_missing_tool_is_one_sentence(server: Server) -> None:
    """Somebody tidied up; the next start of the demo makes it again."""
    tool_file = server.workspace.tool
    kept = tool_file.read_bytes()
    tool_file.write_text("import sys\nsys.exit('error: broken')\n")
    with pytest.raises(ProviderUnavailable, match=r"A service could not be ended: broken\."):
        await host.stop_all(server.workspace)
    tool_file.write_bytes(kept)
