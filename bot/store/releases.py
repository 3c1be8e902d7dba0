"""Releases: which digest a commit of a service became. Written once, when a pipeline has built it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, or_, select, tuple_

from bot.store.batches import Batches
from bot.store.database import Database, Tx, insert_into
from bot.store.tables import releases


@dataclass(frozen=True, slots=True)
class Release:
    """One immutable version of a service. digest: `sha256:<hex>`; location: where delivery finds the artifact."""

    service: str
    commit: str
    version: str
    branch: str
    digest: str
    location: str
    run_id: str
    created_at: datetime


def put(tx: Tx, release: Release) -> Release:
    """Record a release; if its commit has one already, that one stays and is returned."""
    values = {name: getattr(release, name) for name in Release.__dataclass_fields__}
    tx.execute(insert_into(tx, releases).values(values).on_conflict_do_nothing())
    return by_commit(tx, release.service, release.commit) or release


_BY_COMMITS = select(releases).where(
    tuple_(releases.c.service, releases.c.commit).in_(bindparam("wanted", expanding=True))
)
_BY_NAMES = (
    select(releases)
    .where(
        or_(
            tuple_(releases.c.service, releases.c.version).in_(bindparam("wanted", expanding=True)),
            tuple_(releases.c.service, releases.c.digest).in_(bindparam("wanted", expanding=True)),
        )
    )
    .order_by(releases.c.id)
)


def by_commit(tx: Tx, service: str, commit: str) -> Release | None:
    """The release built from a commit, or None."""
    return by_commits(tx, [(service, commit)])[0]


def by_commits(tx: Tx, wanted: Sequence[tuple[str, str]]) -> list[Release | None]:
    """Of each service and commit: the release built from it, or None."""
    rows = tx.execute(_BY_COMMITS, {"wanted": list(dict.fromkeys(wanted))})
    found = {(row.service, row.commit): _release(row) for row in rows}
    return [found.get(one) for one in wanted]


def by_name(tx: Tx, service: str, name: str) -> Release | None:
    """The newest release with that version or digest, or None."""
    return by_names(tx, [(service, name)])[0]


def by_names(tx: Tx, wanted: Sequence[tuple[str, str]]) -> list[Release | None]:
    """Of each service and version or digest: the newest release, or None."""
    found: dict[tuple[str, str], Release] = {}
    for row in tx.execute(_BY_NAMES, {"wanted": list(dict.fromkeys(wanted))}):
        release = _release(row)
        found |= {(release.service, release.version): release, (release.service, release.digest): release}
    return [found.get(one) for one in wanted]


class Releases:
    """Looks up what was built, for all who ask at the same time in one question."""

    def __init__(self, db: Database) -> None:
        """Nothing is read yet."""
        self._db = db
        self._by_commit = Batches(self._commits)
        self._by_name = Batches(self._names)

    async def by_commit(self, service: str, commit: str) -> Release | None:
        """The release built from a commit, or None."""
        return await self._by_commit.add((service, commit))

    async def by_name(self, service: str, name: str) -> Release | None:
        """The newest release with that version or digest, or None."""
        return await self._by_name.add((service, name))

    async def _commits(self, wanted: Sequence[tuple[str, str]]) -> list[Release | None]:
        return await self._db.read(lambda tx: by_commits(tx, wanted))

    async def _names(self, wanted: Sequence[tuple[str, str]]) -> list[Release | None]:
        return await self._db.read(lambda tx: by_names(tx, wanted))


def forget(tx: Tx, service: str, commit: str) -> None:
    """Drop a release whose artifact is gone, so that it is built anew."""
    tx.execute(releases.delete().where(releases.c.service == service, releases.c.commit == commit))


def _release(row: Any) -> Release:
    return Release(**{name: getattr(row, name) for name in Release.__dataclass_fields__})
