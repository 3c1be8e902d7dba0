"""Past deployments as the rules judged them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from bot.catalog.model import Kind
from bot.deployments.derivations import ASKED, facts_in
from bot.deployments.model import Deployment
from bot.policy.model import Facts, Outcome, ReasonCode
from bot.policy.replay import Past
from bot.store import deployments as rows
from bot.store.database import Tx

LOCKS = frozenset({ReasonCode.LOCKED.value, ReasonCode.LOCK_UNREADABLE.value})
PAGE = 500


def since(tx: Tx, start: datetime) -> Iterator[Past]:
    """Every deployment asked for since then, newest first."""
    before: int | None = None
    while True:
        page = rows.history(tx, limit=PAGE, before=before)
        for seen in page:
            if seen.created_at < start:
                return
            if seen.kind is not Kind.BUILD:  # No rule of releases was asked about it.
                yield judged(seen)
        if len(page) < PAGE:
            return
        before = page[-1].id


def judged(seen: Deployment) -> Past:
    """What was asked, and what came of it; a request without any way through was never stored."""
    asked = next((one for one in seen.data.derivations if one.step == ASKED), None)
    blocking = [note for note in seen.data.reasons if note.blocking]
    outcome = Outcome.NEEDS_APPROVAL if blocking else Outcome.ALLOWED
    from_chat = any(note.code in LOCKS or note.where.startswith("freeze f-") for note in blocking)
    return Past(
        ref=seen.ref,
        person=seen.requested_by,
        service=seen.service,
        environment=seen.environment,
        kind=seen.kind,
        subject=seen.subject,
        author=seen.data.author,
        at=seen.created_at,
        outcome=outcome,
        from_chat=from_chat,
        facts=facts_in(asked) if asked is not None else Facts(),
        size=seen.data.size,
    )
