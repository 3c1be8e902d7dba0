"""Each change of the configuration is in the audit log once, whichever replica saw it first, or at the next start."""

from __future__ import annotations

from datetime import datetime

from bot.catalog.changes import changes
from bot.catalog.model import Catalog
from bot.store import audit
from bot.store.audit import AuditEntry
from bot.store.database import Tx

SUBJECT = "catalog"


def note_catalog(tx: Tx, catalog: Catalog, at: datetime, before: Catalog | None = None) -> bool:
    """Note the catalog in force, unless it is the one noted last. before: the one it replaced, if that is known."""
    digest = catalog.digest[:16]
    if any(digest in one.entry.detail for one in audit.newest_of(tx, SUBJECT, 1)):
        return False
    detail = f"{digest}: {changes(before, catalog)}"
    audit.append(tx, AuditEntry(at, "slipway", "catalog:load", SUBJECT, "accepted", "", detail[:1000]))
    return True
