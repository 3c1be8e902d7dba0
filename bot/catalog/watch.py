"""Keeps the catalog in force: swapped whole for a good change of the files, kept for a bad one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bot.catalog.commit import commit_of
from bot.catalog.files import SERVICES, UNSURE, Listing, Stamp, list_files, stamp_file
from bot.catalog.kept import KeptCatalog
from bot.catalog.model import Catalog
from bot.catalog.problems import CatalogProblems

if TYPE_CHECKING:
    from bot.catalog.load import Loader
    from bot.catalog.references import Known

INTERVAL = timedelta(seconds=2)
SETTLE = timedelta(milliseconds=300)
"""Files that change together (a checkout, a copy) are taken together: nothing may have changed for so long."""
MOST_SETTLING = timedelta(seconds=10)
SLICE = 400
"""Files under `services/` that are looked at per tick: 5,000 are through in 25 seconds, for about 1 ms each tick."""
RACY_NS = 1_000_000_000

Changed = Callable[[Catalog], Awaitable[None]]
Broken = Callable[[CatalogProblems], Awaitable[None]]


class CatalogHolder:
    """The catalog in force, and how it changes.

    current: the last good one. problem: what is wrong with the files as they are now, None if nothing.
    """

    def __init__(
        self, directory: Path, known: Callable[[], Known] | None = None, kept: KeptCatalog | None = None
    ) -> None:
        """Read the directory, or what was kept of it. known: asked when something is read.

        Raises:
            CatalogProblems: it is wrong, and there is no earlier one to keep.
        """
        self._directory = directory
        self._known = known
        self._kept = kept
        self._listing = self._look()
        self._next = 0
        found = kept.read(directory, self._listing) if kept is not None else None
        self._in_file = found.digest if found is not None else ""
        self.current = (
            self._loader.load(self._listing) if found is None else replace(found, commit=commit_of(directory))
        )
        self.problem: CatalogProblems | None = None
        self._seen = self.current.digest

    @cached_property
    def _loader(self) -> Loader:
        """Made when something has to be read: what checks the files is a tenth of a start."""
        from bot.catalog.load import Loader

        return Loader(self._directory, self._known() if self._known is not None else None)

    def keep(self) -> None:
        """Write down the catalog in force for the next start, if it is not written down."""
        current = self.current
        if self._kept is not None and self._in_file != current.digest:
            self._kept.write(current)
            self._in_file = current.digest

    def reload(self) -> bool:
        """Look at every file; True if another catalog is in force now. A wrong one is kept out, and in `problem`."""
        return self._take(self._look())

    def may_have_changed(self) -> bool:
        """A cheap look: folders and root files each time, files under `services/` a slice at a time.

        A file that is added, removed or replaced shows at once, one written in place when its turn comes.
        """
        old = self._listing
        if any(stamp_file(self._directory, name) != stamp for name, stamp in old.folders.items()):
            return True
        return any(stamp_file(self._directory, name) != old.files[name] for name in self._due(old))

    async def watch(self, on_change: Changed, on_problem: Broken, interval: timedelta = INTERVAL) -> None:
        """Look again and again, and tell: each new catalog once, each new state of wrong files once. Runs for ever."""
        while True:
            await asyncio.sleep(interval.total_seconds())
            if self._kept is not None and self._in_file != self.current.digest:
                await asyncio.to_thread(self.keep)
            if self.may_have_changed():
                await self._settled()
                await self._refresh(on_change, on_problem)

    async def _refresh(self, on_change: Changed, on_problem: Broken) -> None:
        before = self.problem
        changed = await asyncio.to_thread(self.reload)
        if changed:
            await on_change(self.current)
        elif self.problem is not None and self.problem is not before:
            await on_problem(self.problem)

    async def _settled(self) -> None:
        """Wait until nothing changes any more, within reason."""
        seen = list_files(self._directory)
        for _ in range(int(MOST_SETTLING / SETTLE)):
            await asyncio.sleep(SETTLE.total_seconds())
            now = await asyncio.to_thread(list_files, self._directory)
            if now == seen:
                return
            seen = now

    def _take(self, listing: Listing) -> bool:
        self._listing = listing
        digest = self._loader.digest(listing)
        if digest == self._seen:
            return False
        self._seen = digest
        try:
            new = self._loader.load(listing)
        except CatalogProblems as error:
            self.problem = error
            return False
        self.problem = None
        changed = new.digest != self.current.digest
        self.current = new
        return changed

    def _look(self) -> Listing:
        """What is there; what was written a moment ago counts as unseen: it may change again within one tick."""
        found = list_files(self._directory)
        now = time.time_ns()
        return Listing(_doubted(found.files, now), _doubted(found.folders, now), found.problems)

    def _due(self, listing: Listing) -> list[str]:
        """The root files, and the next slice of the others."""
        root = [name for name in listing.files if not name.startswith(f"{SERVICES}/")]
        others = list(islice((name for name in listing.files if name not in root), self._next, self._next + SLICE))
        self._next = self._next + SLICE if len(others) == SLICE else 0
        return root + others


def _doubted(stamps: dict[str, Stamp], now: int) -> dict[str, Stamp]:
    """Stamps of the last second made unlike any other. Those from the future are the file's own and stay."""
    return {
        name: (stamp[0], stamp[1], UNSURE) if now - RACY_NS < stamp[0] <= now else stamp
        for name, stamp in stamps.items()
    }
