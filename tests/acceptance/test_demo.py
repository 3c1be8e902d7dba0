"""`slipway demo`, as a new user meets it: one command, a page, real services; reached only by its public JSON API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.repositories import git
from tests.support import free_port

PATIENCE = 60.0


class Demo:
    """A demo in its own process."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start it and return its last start-up line."""
        argv = [sys.executable, "-m", "bot.cli", "demo", "--dir", str(self.directory), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*argv, "--no-browser"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ready "):
                return line.strip()
        raise AssertionError("it ended before it was ready")

    def end(self, number: int) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def say(self, person: str, text: str, place: str = "#releases") -> str:
        """Type something; returns the message's id."""
        answer = self.http.post("/console/api/messages", json={"person": person, "place": place, "text": text})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def press(self, person: str, message: str, button: str, **inputs: str) -> httpx.Response:
        """Press a button."""
        body = {"person": person, "message": message, "button": button, "inputs": inputs}
        return self.http.post("/console/api/actions", json=body)

    def messages(self, person: str, place: str = "#releases", after: str = "") -> list[dict[str, Any]]:
        """What the person sees there."""
        parameters = {"person": person, "place": place} | ({"after": after} if after else {})
        found: list[dict[str, Any]] = self.http.get("/console/api/messages", params=parameters).json()["messages"]
        return found

    def until(
        self, person: str, wanted: Callable[[dict[str, Any]], bool], place: str = "#releases", after: str = ""
    ) -> dict[str, Any]:
        """Wait for a message like that."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for message in self.messages(person, place, after):
                if wanted(message):
                    return message
            time.sleep(0.05)
        raise AssertionError(f"waited in vain; {person} sees {self.messages(person, place, after)}")

    def children(self) -> list[str]:
        """Processes that belong to this workspace."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.directory) in line:
                found.append(line)
        return found


def in_state(*states: str) -> Callable[[dict[str, Any]], bool]:
    """A card in one of these states."""
    return lambda message: bool(message["card"]) and message["card"]["state"] in states


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo that has started."""
    one = Demo(tmp_path / "workspace", free_port())
    assert one.start() == f"ready http://127.0.0.1:{one.port}"
    yield one
    if one.process is not None and one.process.poll() is None:
        one.end(signal.SIGINT)
    one.http.close()
    assert one.children() == []


def test_hello_goes_live_and_answers(demo: Demo) -> None:
    """The first thing to try really runs: the service answers with the card's version and digest."""
    typed = demo.say("owner", "/deploy hello prod")
    card = demo.until("owner", in_state("succeeded"), after=typed)["card"]
    answer = httpx.get(card["fields"]["url"] + "/version").json()
    assert answer == {"version": card["fields"]["version"], "digest": card["fields"]["digest"]}
    assert card["progress"] == 100
    log = git(demo.directory / "repos" / "config.git", "log", "--format=%B", "main")
    assert log.count("Slipway-Intent:") == 1
    people = demo.http.get("/console/api/people").json()["people"]
    assert [person["id"] for person in people] == ["owner", "lead", "releaser", "developer", "outsider"]


def test_pay_needs_an_emergency_approval_and_then_fails_its_test(demo: Demo) -> None:
    """Refused, asked, approved by another person, failed, and the requester is told personally."""
    typed = demo.say("owner", "/deploy pay prod --reason customers cannot pay")
    refused = demo.until("owner", in_state("refused"), after=typed)
    assert "closed until" in refused["card"]["text"]
    assert demo.press("outsider", refused["id"], "emergency").status_code == 403
    assert demo.press("owner", refused["id"], "emergency").status_code == 202
    demo.until("owner", in_state("awaiting_approval"))
    question = demo.until("lead", in_state("awaiting_approval"), place="@slipway")
    assert demo.messages("developer", "@slipway") == []
    own = demo.press("owner", refused["id"], "approve")
    assert own.status_code == 403
    assert "somebody else" in own.json()["error"]
    assert demo.press("lead", question["id"], "approve").status_code == 202
    personal = demo.until("owner", in_state("failed"), place="@slipway")
    assert "test_half_a_cent_rounds_up" in personal["card"]["excerpt"]
    assert demo.press("releaser", refused["id"], "approve").status_code == 409
    assert demo.until("owner", in_state("failed"))["card"]["fields"]["failed step"] == "build"


def test_gate_never_becomes_healthy(demo: Demo) -> None:
    """It builds and starts, and the card shows what the service itself says."""
    demo.say("owner", "/deploy gate dev")
    card = demo.until("owner", in_state("failed", "rolled_back"))["card"]
    assert "503" in card["text"]
    assert "connection refused" in card["excerpt"]


def test_killed_in_the_middle_it_goes_on(demo: Demo) -> None:
    """kill -9 while it builds; the same directory started again finishes, once."""
    typed = demo.say("owner", "/deploy hello prod")
    demo.until("owner", in_state("building", "gating", "writing", "syncing", "verifying", "succeeded"), after=typed)
    demo.end(signal.SIGKILL)
    demo.start()
    card = demo.until("owner", in_state("succeeded"))["card"]
    assert httpx.get(card["fields"]["url"] + "/version").json()["digest"] == card["fields"]["digest"]
    log = git(demo.directory / "repos" / "config.git", "log", "--format=%B", "main")
    assert log.count("Slipway-Intent:") == 1
    assert len([m for m in demo.messages("owner") if m["card"]]) == 1


def test_ctrl_c_ends_every_child_and_a_second_start_goes_on(demo: Demo) -> None:
    """Nothing is left behind, and what was deployed runs again."""
    demo.say("owner", "/deploy hello prod")
    url = demo.until("owner", in_state("succeeded"))["card"]["fields"]["url"]
    assert demo.end(signal.SIGINT) == 0
    assert demo.children() == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url + "/version")
    demo.start()
    assert httpx.get(url + "/version").json()["version"]
    assert len(demo.messages("owner")) == 2


def test_a_second_one_on_the_same_directory_is_refused(demo: Demo) -> None:
    """Two bots on one SQLite file would both act; it is one sentence, not a traceback."""
    argv = [sys.executable, "-m", "bot.cli", "demo", "--dir", str(demo.directory), "--port", "0", "--no-browser"]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert "Another Slipway" in second.stderr or "already" in second.stderr
    assert "Traceback" not in second.stderr


def test_serve_runs_the_demos_directory_with_a_login(demo: Demo, tmp_path: Path) -> None:
    """Any catalog directory can be served; there the console wants a token per person."""
    demo.end(signal.SIGINT)
    tokens = tmp_path / "tokens"
    tokens.write_text("owner: 0123456789abcdef-owner\n")
    environment = os.environ | {"SLIPWAY_CONSOLE": "1", "SLIPWAY_CONSOLE_TOKENS_FILE": str(tokens)}
    argv = [sys.executable, "-m", "bot.cli", "serve", "--config", str(demo.directory), "--port", str(demo.port)]
    demo.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
    assert demo.process.stdout is not None
    assert demo.process.stdout.readline().startswith("ready ")
    body = {"person": "owner", "place": "#releases", "text": "/whoami"}
    assert demo.http.post("/console/api/messages", json=body).status_code == 401
    headers = {"Authorization": "Bearer 0123456789abcdef-owner"}
    assert demo.http.post("/console/api/messages", json=body, headers=headers).status_code == 202
    other = body | {"person": "lead"}
    assert demo.http.post("/console/api/messages", json=other, headers=headers).status_code == 403


def test_serve_without_a_console_has_none(demo: Demo) -> None:
    """Off unless enabled."""
    demo.end(signal.SIGINT)
    argv = [sys.executable, "-m", "bot.cli", "serve", "--config", str(demo.directory), "--port", str(demo.port)]
    demo.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert demo.process.stdout is not None
    assert demo.process.stdout.readline().startswith("ready ")
    assert demo.http.get("/console").status_code == 404
    assert demo.http.get("/healthz").json() == {"status": "alive"}
    assert demo.http.get("/readyz").json()["status"] == "ready"
