"""A workspace with everything built, made once; each test works on a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from bot import artifacts
from bot.demo.workspace import SERVICES, Workspace, prepare
from tests.support.clock import FakeClock


class Built(NamedTuple):
    """A stored artifact."""

    digest: str
    place: Path


def git(*arguments: str | Path, stdin: str = "") -> str:
    """Run git, and return what it prints."""
    done = subprocess.run(["git", *map(str, arguments)], input=stdin, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def check_out(workspace: Workspace, service: str, branch: str, place: Path) -> Path:
    """A working copy of a branch."""
    git("clone", "--quiet", "--branch", branch, workspace.repo(service), place)
    return place


def run_python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python of the steps' environment: nothing of ours but PATH."""
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def build(source: Path, store: Path) -> Built:
    """What the pipeline does after the tests."""
    done = run_python("build.py", cwd=source)
    assert done.returncode == 0, done.stderr
    return Built(*artifacts.store(source / "dist", store))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace that no test changes."""
    return prepare(tmp_path_factory.mktemp("demo") / "workspace", FakeClock())


@pytest.fixture(scope="session")
def built(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Built]:
    """(service, branch) -> artifact."""
    top = tmp_path_factory.mktemp("built")
    return {
        (service, branch): build(check_out(workspace, service, branch, top / f"{service}-{branch}"), top / "store")
        for service, branch in [("hello", "main"), ("hello", "develop"), ("gate", "main")]
    }


@pytest.fixture
def own_workspace(workspace: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace of this test alone; whatever it started is ended."""
    copy = Workspace(tmp_path / "workspace")
    shutil.copytree(workspace.directory, copy.directory)
    yield copy
    subprocess.run([sys.executable, copy.tool, "stop-all"], check=True, capture_output=True)


def heads(workspace: Workspace) -> dict[str, str]:
    """Every ref of every repository with its commit."""
    return {name: git("--git-dir", workspace.repo(name), "show-ref") for name in (*SERVICES, "config")}


def snapshot(workspace: Workspace) -> dict[str, bytes]:
    """Every file of the workspace outside the repositories, and the refs of these."""
    files = {
        path.relative_to(workspace.directory).as_posix(): path.read_bytes()
        for path in sorted(workspace.directory.rglob("*"))
        if path.is_file() and not path.is_relative_to(workspace.repos)
    }
    return files | {f"repos/{name}": refs.encode() for name, refs in heads(workspace).items()}
