"""The notes of `bot.pipelines.memory`, in the database."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from bot.pipelines.memory import RunNote
from bot.store.database import Database, Tx, insert_into
from bot.store.tables import deployments, pipeline_runs

ATTEMPT = re.compile(r"-[rsu]\d+$")
"""What an intent outside has behind its deployment's."""


class StoredRuns:
    """A `RunMemory` that every replica shares."""

    def __init__(self, db: Database) -> None:
        """Keep the notes in this database."""
        self._db = db

    async def recall(self, intent: str) -> RunNote | None:
        """The note of an intent. Raises DatabaseUnavailable."""
        return await self._db.read(lambda tx: by_intent(tx, intent))

    async def sending(self, intent: str, provider: str, definition: str, at: datetime) -> RunNote:
        """Note that the request is about to be sent, and count it. Raises DatabaseUnavailable: do not send."""
        return await self._db.run(lambda tx: sending(tx, RunNote(intent, provider, definition, at)))

    async def started(self, intent: str, *, run_id: str = "", handle: str = "") -> None:
        """Note which run it became. Raises DatabaseUnavailable."""
        await self._db.run(lambda tx: started(tx, intent, run_id, handle))

    async def unsent(self, intent: str) -> None:
        """Drop the note of what surely did not start. Raises DatabaseUnavailable."""
        await self._db.run(lambda tx: unsent(tx, intent))

    async def by_run(self, provider: str, definition: str, run_id: str) -> RunNote | None:
        """The newest note of a run. Raises DatabaseUnavailable."""
        return await self._db.read(lambda tx: by_run(tx, provider, definition, run_id))


def by_intent(tx: Tx, intent: str) -> RunNote | None:
    """The note of an intent, or None."""
    row = tx.execute(select(pipeline_runs).where(pipeline_runs.c.intent == intent)).one_or_none()
    return _note(row) if row is not None else None


def sending(tx: Tx, note: RunNote) -> RunNote:
    """Insert the note, or count one more sending of it."""
    statement = insert_into(tx, pipeline_runs).values(
        intent=note.intent, provider=note.provider, definition=note.definition, sends=1, sent_at=note.sent_at
    )
    again = {"sends": pipeline_runs.c.sends + 1, "sent_at": note.sent_at}
    statement = statement.on_conflict_do_update(index_elements=["intent"], set_=again)
    return _note(tx.execute(statement.returning(*pipeline_runs.c)).one())


def started(tx: Tx, intent: str, run_id: str, handle: str) -> None:
    """Add what became known."""
    values = {name: value for name, value in (("run_id", run_id), ("handle", handle)) if value}
    if values:
        tx.execute(update(pipeline_runs).where(pipeline_runs.c.intent == intent).values(**values))


def unsent(tx: Tx, intent: str) -> None:
    """Drop a note that knows of no run."""
    nothing = (pipeline_runs.c.run_id == "", pipeline_runs.c.handle == "")
    tx.execute(pipeline_runs.delete().where(pipeline_runs.c.intent == intent, *nothing))


def by_run(tx: Tx, provider: str, definition: str, run_id: str) -> RunNote | None:
    """The newest note of a run, or None."""
    query = select(pipeline_runs).where(pipeline_runs.c.provider == provider, pipeline_runs.c.run_id == run_id)
    if definition:
        query = query.where(pipeline_runs.c.definition == definition)
    row = tx.execute(query.order_by(pipeline_runs.c.sent_at.desc()).limit(1)).one_or_none()
    return _note(row) if row is not None else None


def built_by(tx: Tx, provider: str, run_id: str, service: str, commit: str) -> tuple[RunNote, str] | None:
    """The note of the run that built a commit of a service, and the branch it was built from; None if not known."""
    if not run_id:
        return None
    query = select(pipeline_runs).where(pipeline_runs.c.provider == provider, pipeline_runs.c.run_id == run_id)
    for row in tx.execute(query.order_by(pipeline_runs.c.sent_at.desc())):
        note = _note(row)
        asked = select(deployments.c.branch).where(
            deployments.c.intent == ATTEMPT.sub("", note.intent),
            deployments.c.service == service,
            deployments.c.commit == commit,
        )
        branch = tx.execute(asked).scalar_one_or_none()
        if branch is not None:
            return note, str(branch)
    return None


def _note(row: Any) -> RunNote:
    return RunNote(**{name: getattr(row, name) for name in RunNote.__dataclass_fields__})


def deployment_of(tx: Tx, intent: str) -> int | None:
    """The id of the deployment with this intent, or None."""
    found = tx.execute(select(deployments.c.id).where(deployments.c.intent == intent)).scalar_one_or_none()
    return int(found) if found is not None else None
