"""What the catalog means by a repository."""

from __future__ import annotations

from pathlib import Path


def resolve_repo(directory: Path, repo: str) -> str:
    """A repository as git takes it: an address as it is, a path below the catalog directory, there or not.

    A relative path is never left as it is: git would look for it where the bot happens to run.
    """
    is_address = "://" in repo or (":" in repo and not (directory / repo).exists())
    return repo if not repo or is_address else str(directory / repo)
