"""Which commit of its repository a catalog directory stands at, so that one can say which rule decided."""

from __future__ import annotations

import os
import subprocess
from io import BytesIO
from pathlib import Path

CHANGED = "+"
"""At the end of a commit: with changes that were not committed."""
_LIMIT = 10.0


def commit_of(directory: Path) -> str:
    """The newest commit that touched the directory, with `CHANGED` if it was changed since; empty: it is in no Git."""
    newest = _git(directory, "log", "-1", "--format=%H", "--", ".")
    if not newest:
        return ""
    return newest.decode().strip() + (CHANGED if _git(directory, "status", "--porcelain", "--", ".") else "")


def restore(directory: Path, commit: str, into: Path) -> bool:
    """Write the directory as it was at a commit into another one; False: its repository has no such commit."""
    import tarfile

    prefix = _git(directory, "rev-parse", "--show-prefix").decode().strip().rstrip("/")
    top = _git(directory, "rev-parse", "--show-toplevel").decode().strip()
    if not top:
        return False
    content = _git(Path(top), "archive", "--format=tar", f"{commit.rstrip(CHANGED)}:{prefix}")
    if not content:
        return False
    with tarfile.open(fileobj=BytesIO(content)) as archive:
        archive.extractall(into, filter="data")
    return True


def _git(directory: Path, *arguments: str) -> bytes:
    """What git prints; nothing if it cannot tell."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    argv = ["git", "-c", "safe.directory=*", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            env=environment | {"GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            timeout=_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""
