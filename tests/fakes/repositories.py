"""Real Git repositories in a test's own directory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@slipway.example", "-c", "init.defaultBranch=main")


def git(directory: Path, *arguments: str) -> str:
    """Run git there as Ada, and return what it prints."""
    argv = ["git", *_IDENTITY, *arguments]
    return subprocess.run(argv, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


class Repository:
    """A working copy that commits what it is given."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        git(directory, "init", "--quiet")

    @property
    def address(self) -> str:
        return str(self.directory)

    def commit(self, files: Mapping[str, str], subject: str = "change") -> str:
        """Write the files and commit them; returns the commit."""
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(self.directory, "add", "--all")
        git(self.directory, "commit", "--quiet", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        return git(self.directory, *arguments)


class BareRepository:
    """What a server holds: a bare repository, empty at first."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        git(directory, "init", "--quiet", "--bare")

    @property
    def address(self) -> str:
        return str(self.directory)

    def commits(self, branch: str = "main") -> list[str]:
        """All commits of the branch, newest first."""
        return self.git("rev-list", branch).split()

    def show(self, path: str, branch: str = "main") -> str:
        """A file at the branch's head."""
        return self.git("show", f"{branch}:{path}")

    def message(self, commit: str = "main") -> str:
        return self.git("log", "-1", "--format=%B", commit)

    def hook(self, name: str, script: str) -> None:
        """Install a server-side hook."""
        path = self.directory / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        os.chmod(path, 0o755)

    def git(self, *arguments: str) -> str:
        return git(self.directory, *arguments)
