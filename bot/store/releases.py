"""Releases: which digest a commit of a service became. Written once, when a pipeline has built it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from bot.store.database import Tx, insert_into
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


def by_commit(tx: Tx, service: str, commit: str) -> Release | None:
    """The release built from a commit, or None."""
    query = select(releases).where(releases.c.service == service, releases.c.commit == commit)
    row = tx.execute(query).one_or_none()
    return _release(row) if row is not None else None


def by_name(tx: Tx, service: str, name: str) -> Release | None:
    """The newest release with that version or digest, or None."""
    query = select(releases).where(
        releases.c.service == service, or_(releases.c.version == name, releases.c.digest == name)
    )
    row = tx.execute(query.order_by(releases.c.id.desc()).limit(1)).one_or_none()
    return _release(row) if row is not None else None


def forget(tx: Tx, service: str, commit: str) -> None:
    """Drop a release whose artifact is gone, so that it is built anew."""
    tx.execute(releases.delete().where(releases.c.service == service, releases.c.commit == commit))


def _release(row: Any) -> Release:
    return Release(**{name: getattr(row, name) for name in Release.__dataclass_fields__})
