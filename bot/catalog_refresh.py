"""Keeps a catalog that is a Git checkout up to date: fetched and moved forward on this replica, never rewritten.

The watch of the directory takes over what changed, and keeps the last good catalog if it is wrong. Local changes, or a
history that was rewritten, are left alone and told.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from bot.errors import ProviderRejected
from bot.git import Git, split_credentials

log = structlog.get_logger(__name__)

ABOUT = "the catalog's repository"


class CatalogRefresh:
    """Moves a checkout to what its branch follows."""

    def __init__(self, directory: Path, git: Git) -> None:
        """directory: the catalog's, anywhere in a checkout."""
        self._directory = directory
        self._here = ("-C", str(directory))
        self._git = git

    async def look(self) -> bool:
        """Fetch, and go forward if there is something new. Returns whether it moved.

        Raises:
            ProviderRejected: it is no checkout that follows a branch, or cannot go forward without losing something.
            ProviderUnavailable: the server was not reached.
        """
        branch = await self._said("rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}")
        if not branch:
            raise ProviderRejected(
                "The catalog is no Git checkout that follows a branch, so it cannot be refreshed.",
                hint="Clone it, or set SLIPWAY_CATALOG_REFRESH_MINUTES to 0.",
            )
        remote = branch.partition("/")[0]
        address = await self._said("remote", "get-url", remote)
        signed_in = self._git.settings_for(split_credentials(address))
        await self._git.run(*self._here, "fetch", "--quiet", "--no-tags", remote, about=ABOUT, settings=signed_in)
        before = await self._said("rev-parse", "HEAD")
        if before == await self._said("rev-parse", "@{upstream}"):
            return False
        forward = ("merge", "--ff-only", "--quiet", "@{upstream}")
        moved = await self._git.run(*self._here, *forward, about=ABOUT, check=False)
        if moved.code != 0:
            raise ProviderRejected(
                "The catalog's checkout cannot go forward: it has changes of its own, or its branch was rewritten.",
                hint="Look at it with git status.",
            )
        log.info("catalog_refreshed", before=before[:12], now=(await self._said("rev-parse", "HEAD"))[:12])
        return True

    async def _said(self, *arguments: str) -> str:
        finished = await self._git.run(*self._here, *arguments, about=ABOUT, check=False)
        return finished.out.decode(errors="replace").strip() if finished.code == 0 else ""
