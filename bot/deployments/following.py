"""What events of repositories have in common: whose they are, what they touch, and a no that is put on record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

import structlog

from bot.catalog.model import Catalog
from bot.clock import Clock
from bot.deployments.audience import personal_places
from bot.deployments.moves import Moves
from bot.sources.git import Revision
from bot.store import audit, outbox
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.outbox import NewNotice, Notice

log = structlog.get_logger(__name__)


class Resolver(Protocol):
    """Finds revisions."""

    async def resolve(self, repo: str, ref: str | None, branch: str, naming: str = "") -> Revision:
        """The commit a name stands for, read anew from the repository."""
        ...

    async def contains(self, repo: str, branch: str, commit: str) -> bool:
        """Whether a commit that `resolve` found is on the branch."""
        ...

    async def brought(self, repo: str, branch: str, commit: str) -> list[str]:
        """Files that a commit found by `resolve` changes beside the branch; empty if that is not known."""
        ...


def is_repo(address: str, name: str) -> bool:
    """Whether an address (URL, `git@host:group/name.git`, path) is that of `group/name`."""
    tail = address.removesuffix("/").removesuffix(".git").replace(":", "/")
    return bool(name) and f"/{tail}".casefold().endswith(f"/{name}".casefold())


def touches(patterns: Sequence[str], files: Sequence[str]) -> bool:
    """Whether a file fits. Without patterns, or where the files are not known, everything counts."""
    return not patterns or not files or any(fnmatchcase(file, pattern) for file in files for pattern in patterns)


class Refusals:
    """Puts a no to an event on record, and tells the person: nobody else would ever know why nothing happened."""

    def __init__(self, db: Database, catalog: Callable[[], Catalog], moves: Moves, clock: Clock) -> None:
        """Take where it is written."""
        self._db = db
        self._catalog = catalog
        self._moves = moves
        self._clock = clock

    async def note(self, action: str, name: str, who: str, code: str, text: str, told: str = "", key: str = "") -> str:
        """Returns the line for the sender. told: what the person is told before the reason, once for each key."""
        at = self._clock()
        entry = AuditEntry(at, who[:128], action, name[:255], "refused", code[:64], text[:1000])

        def work(tx: Tx) -> None:
            audit.append(tx, entry)
            for platform, place in personal_places(self._catalog(), who, self._moves.platforms)[:1] if key else ():
                content = {"text": f"{told} {text}"[:3000], "card": None}
                sent = NewNotice(
                    f"{key}:{platform}"[:255], platform, place, Notice.MESSAGE, content=content, priority=1
                )
                outbox.put(tx, sent, at)

        await self._db.run(work)
        self._moves.announce_changed(0)
        log.info("event_refused", action=action, target=name, code=code)
        return f"{name}: refused ({code})"
