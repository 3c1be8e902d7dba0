"""The demo's workspace: the same every time, complete after every interruption, and never in somebody's way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time as waiting
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
import yaml

from bot.artifacts import digest
from bot.catalog.load import load_catalog
from bot.demo.workspace import SERVICES, Workspace, prepare
from bot.errors import BadInput, ProviderUnavailable
from bot.pipelines.definition import read_definition
from bot.policy.decide import decide
from bot.policy.model import Facts, Outcome, Permission, PolicyRequest
from tests.support.clock import MONDAY_MORNING, FakeClock

from .conftest import build, check_out, git, heads, run_python, snapshot

BRANCHES = ("main", "test", "develop")


def test_a_second_start_changes_nothing(own_workspace: Workspace, clock: FakeClock) -> None:
    """Every start of the demo prepares, so preparing twice must be preparing once."""
    before = snapshot(own_workspace)
    times = {path: path.stat().st_mtime_ns for path in own_workspace.directory.rglob("*.yaml")}
    assert prepare(own_workspace.directory, clock) == own_workspace
    assert snapshot(own_workspace) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_commits_have_the_same_names_everywhere(
    workspace: Workspace, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documentation and screenshots name commits; the zone, the mask and a person's Git settings must not matter."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    mask = os.umask(0o077)
    try:
        other = prepare(tmp_path / "other", clock)
    finally:
        os.umask(mask)
    monkeypatch.undo()
    assert heads(other) == heads(workspace)


def test_repositories_are_sound(workspace: Workspace) -> None:
    """They are written without `git init`, so git itself must find nothing to complain about."""
    for name in (*SERVICES, "config"):
        assert git("--git-dir", workspace.repo(name), "fsck", "--strict") == ""
        assert git("--git-dir", workspace.repo(name), "rev-parse", "--is-bare-repository", "HEAD").startswith("true")


@pytest.mark.parametrize("service", SERVICES)
def test_develop_is_ahead_of_test_is_ahead_of_main(workspace: Workspace, service: str) -> None:
    """Promotions and "commits that would ship" need something between the environments."""
    repository = workspace.repo(service)
    for behind, ahead in (("main", "test"), ("test", "develop")):
        assert int(git("--git-dir", repository, "rev-list", "--count", f"{behind}..{ahead}")) >= 1
        assert git("--git-dir", repository, "rev-list", "--count", f"{ahead}..{behind}") == "0"
    authors = git("--git-dir", repository, "log", "--format=%ae", "develop").splitlines()
    assert 4 <= len(authors) <= 6
    assert set(authors) == {f"{person}@slipway.example" for person in ("owner", "lead", "developer")}


def test_hello_in_prod_has_a_version_of_its_own(workspace: Workspace) -> None:
    """The first card of the tour reads v1.2.0, not a hash."""
    assert git("--git-dir", workspace.repo("hello"), "describe", "--exact-match", "main") == "v1.2.0"


# --- interruptions and edits


@pytest.mark.parametrize(
    "lost", ["repos", "repos/pay.git", "repos/config.git", "services", "slipway.yaml", "tools", "README.txt", "state"]
)
def test_what_is_missing_is_made_again(own_workspace: Workspace, clock: FakeClock, lost: str) -> None:
    """A first start may be killed between any two files."""
    before = snapshot(own_workspace)
    path = own_workspace.directory / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (own_workspace.directory / "repos" / ".new-pay.git-x").mkdir(parents=True)
    prepare(own_workspace.directory, clock)
    assert snapshot(own_workspace) == before
    assert not list(own_workspace.repos.glob(".new-*"))


PREPARE = """
import sys
from pathlib import Path
from bot.clock import utc_now
from bot.demo.workspace import prepare
print("ready", flush=True)
sys.stdin.readline()
prepare(Path(sys.argv[1]), utc_now)
"""


@pytest.mark.parametrize("milliseconds", [1, 4, 8, 12, 18])
def test_a_killed_first_start_is_completed(
    workspace: Workspace, tmp_path: Path, clock: FakeClock, milliseconds: int
) -> None:
    """Whoever presses Ctrl-C, or loses power, during the first second only has to start again."""
    place = tmp_path / "new"
    with subprocess.Popen(
        [sys.executable, "-c", PREPARE, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        child.stdin.write(b"\n")
        child.stdin.flush()
        waiting.sleep(milliseconds / 1000)  # a real process in the middle of its work
        os.killpg(child.pid, signal.SIGKILL)
    prepare(place, clock)
    assert snapshot(Workspace(place)) == snapshot(workspace)


def test_an_edited_file_stays(own_workspace: Workspace, clock: FakeClock) -> None:
    """Trying one's own rules is what the demo is for."""
    edited = own_workspace.directory / "windows.yaml"
    text = edited.read_text().replace("10:00-16:00", "00:00-24:00")
    edited.write_text(text)
    clock.advance(timedelta(days=1))
    prepare(own_workspace.directory, clock)
    assert edited.read_text() == text


@pytest.mark.parametrize("content", [b"", b"windows: []\n", b"\xff\xfe not text\n", b"\n\n"])
def test_any_other_content_counts_as_edited(own_workspace: Workspace, clock: FakeClock, content: bytes) -> None:
    """Also a file without our first line, and one that is no text."""
    edited = own_workspace.directory / "windows.yaml"
    edited.write_bytes(content)
    prepare(own_workspace.directory, clock)
    assert edited.read_bytes() == content


def test_commits_of_a_person_stay(own_workspace: Workspace, clock: FakeClock, tmp_path: Path) -> None:
    """README.txt invites to push; the next start must not take it back."""
    copy = check_out(own_workspace, "hello", "main", tmp_path / "hello")
    (copy / "greeting.py").write_text('def greet(name=""):\n    return "Hi!"\n')
    identity = ("-c", "user.name=A", "-c", "user.email=a@slipway.example")
    git("-C", copy, *identity, "commit", "--quiet", "--all", "--message", "Say hi")
    git("-C", copy, "push", "--quiet")
    prepare(own_workspace.directory, clock)
    assert git("--git-dir", own_workspace.repo("hello"), "log", "-1", "--format=%s", "main") == "Say hi"


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    """`--dir ~` must not fill a home directory."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BadInput, match=r"thesis\.tex") as refused:
        prepare(tmp_path, clock)
    assert "--dir" in refused.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path, clock: FakeClock) -> None:
    """One sentence instead of a traceback, and what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written: Not a directory"):
        prepare(tmp_path / "file" / "below", clock)


def test_without_git_it_says_so(tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git is the one thing the demo needs besides Python."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProviderUnavailable, match="`git` is not installed") as told:
        prepare(tmp_path / "demo", clock)
    assert told.value.hint == "Install git and start again."


# --- the release window


@pytest.mark.parametrize("days", range(7))
@pytest.mark.parametrize("hour", [0, 9, 10, 15, 16, 23])
def test_the_window_is_open_for_hello_and_closed_for_the_others(
    own_workspace: Workspace, clock: FakeClock, days: int, hour: int
) -> None:
    """The emergency lane must be there to try whenever one starts the demo, and for the coming day."""
    started_at = clock.set(MONDAY_MORNING.replace(hour=hour) + timedelta(days=days))
    prepare(own_workspace.directory, clock)
    windows = yaml.safe_load((own_workspace.directory / "windows.yaml").read_text())["windows"]
    always, closed = windows
    assert (always["services"], always["days"], always["hours"]) == (["hello"], "daily", "00:00-24:00")
    assert (closed["services"], closed["environments"]) == (["pay", "gate"], ["prod"])
    instants = [started_at + timedelta(minutes=minutes) for minutes in range(0, 25 * 60, 7)]
    assert not any(_is_open(closed, at) for at in instants)
    week = [started_at + timedelta(hours=hours) for hours in range(24 * 7)]
    assert sum(_is_open(closed, at) for at in week) == 6


def _is_open(window: dict[str, object], at: datetime) -> bool:
    """An oracle of the test's own: one day of the week, from ten to four, UTC."""
    assert window["zone"] == "UTC"
    assert window["hours"] == "10:00-16:00"
    at = at.astimezone(UTC)
    return [at.strftime("%a").lower()] == window["days"] and time(10) <= at.time() < time(16)


def test_the_policy_agrees(own_workspace: Workspace, clock: FakeClock) -> None:
    """The real loader and the real policy see what the tour promises."""
    catalog = load_catalog(own_workspace.directory)

    def ask(person: str, service: str, environment: str) -> Outcome:
        request = PolicyRequest(person, Permission.RELEASE_DEPLOY, service, environment, subject="commit:1")
        return decide(catalog, request, Facts(), clock()).outcome

    assert ask("owner", "hello", "prod") is Outcome.ALLOWED
    assert ask("developer", "hello", "prod") is Outcome.REFUSED
    assert ask("developer", "hello", "dev") is Outcome.ALLOWED
    assert ask("outsider", "hello", "dev") is Outcome.REFUSED
    for service in ("pay", "gate"):
        assert ask("owner", service, "prod") is Outcome.NEEDS_APPROVAL
        assert ask("owner", service, "test") is Outcome.ALLOWED


def test_the_catalog_is_what_the_tour_says(workspace: Workspace) -> None:
    """People, teams, environments and rules as the README shows them."""
    catalog = load_catalog(workspace.directory)
    assert {person.id: person.email for person in catalog.people.values()} == {
        person: f"{person}@slipway.example" for person in ("owner", "lead", "releaser", "developer", "outsider")
    }
    assert [(e.name, e.branch, e.protected) for e in catalog.environments.values()] == [
        ("dev", "develop", False),
        ("test", "test", False),
        ("prod", "main", True),
    ]
    assert {service.name: service.owners for service in catalog.services.values()} == dict.fromkeys(
        SERVICES, ("owner",)
    )
    target = catalog.services["hello"].targets["prod"]
    assert (target.gitops.repo, target.gitops.path) == ("repos/config.git", "prod/hello.yaml")
    assert target.verify.settle == timedelta(seconds=1)
    assert target.pipeline.timeout == timedelta(minutes=2)
    (rule,) = catalog.emergency
    assert (rule.count, rule.roles, rule.pass_for) == (1, ("team_lead", "release_manager"), timedelta(hours=1))


# --- the services


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("service", SERVICES)
def test_each_service_builds_the_same_bytes_twice(
    workspace: Workspace, tmp_path: Path, service: str, branch: str
) -> None:
    """The digest is a release's identity, so a second build of a commit must not look like another release."""
    one = build(check_out(workspace, service, branch, tmp_path / "one"), tmp_path / "store")
    two = build(check_out(workspace, service, branch, tmp_path / "deeper" / "two"), tmp_path / "other")
    assert one.digest == two.digest == digest(two.place)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("service", SERVICES)
def test_the_services_own_tests_pass_except_pays_on_main(
    workspace: Workspace, tmp_path: Path, service: str, branch: str
) -> None:
    """One failing test, for one reason that a person can read; everything else is well."""
    source = check_out(workspace, service, branch, tmp_path / "source")
    definition = read_definition((source / ".slipway" / "pipeline.yaml").read_bytes(), "The pipeline")
    assert ([step.name for step in definition.steps], definition.artifact) == (["test", "build"], "dist")
    done = run_python(*definition.steps[0].run[1:], cwd=source)
    if (service, branch) != ("pay", "main"):
        assert done.returncode == 0, done.stderr
        return
    assert "FAILED (failures=1)" in done.stderr
    assert "AssertionError: '2.67' != '2.68'" in done.stderr
    assert "the contract rounds half a cent up" in done.stderr


def test_pays_release_before_the_bug_is_well(workspace: Workspace, tmp_path: Path) -> None:
    """There must be something to go back to."""
    repository = workspace.repo("pay")
    assert git("--git-dir", repository, "describe", "--exact-match", "main~1") == "v2.1.0"
    source = check_out(workspace, "pay", "v2.1.0", tmp_path / "source")
    assert run_python("-m", "unittest", "discover", cwd=source).returncode == 0
