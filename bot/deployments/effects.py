"""What a deployment has done outside since it was last seen: for the audit log, in the transaction that records it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from bot.deployments.model import Data, Deployment, Gray
from bot.store.audit import AuditEntry


def effects(seen: Deployment, now: Data, at: datetime) -> list[AuditEntry]:
    """One entry for each outside effect that `now` knows of and `seen` did not."""
    return [
        AuditEntry(at, "slipway", f"effect:{kind}", seen.ref, "accepted", "", f"{seen.target}: {what}"[:1000])
        for kind, what in _new(seen.data, now)
    ]


def _new(before: Data, now: Data) -> Iterator[tuple[str, str]]:
    if now.run_id and now.run_id != before.run_id:
        yield "pipeline", f"run {now.run_id} {now.run_url}".strip()
    if now.revision and now.revision != before.revision:
        done = "commit" if now.git_changed else "nothing to change at"
        yield "git", f"{done} {now.revision}"
    if now.undo_revision and now.undo_revision != before.undo_revision:
        yield "git", f"undone by commit {now.undo_revision}"
    if now.sync_intent and now.sync_intent != before.sync_intent:
        yield "delivery", f"sync of {now.revision[:12]} asked as {now.sync_intent}"
    asked, was = now.gray or Gray(), before.gray or Gray()
    if asked.asked_at is not None and asked.asked_at != was.asked_at:
        yield "delivery", f"told to {asked.wish or 'go on'} from its gray pause"
