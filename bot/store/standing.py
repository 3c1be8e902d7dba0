"""Whether anything at all holds deployments up: on most days nothing does, and then one question is enough."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import or_, select

from bot.store.alerts import FIRING
from bot.store.database import Tx
from bot.store.emergencies import OWED
from bot.store.holds import ALL_LOCKS, STANDING
from bot.store.prepared import Prepared

_ANYTHING = Prepared(select(or_(*(one.order_by(None).exists() for one in (ALL_LOCKS, STANDING, FIRING, OWED)))))


def is_anything(tx: Tx, at: datetime) -> bool:
    """Whether there is a lock, a standing freeze from a chat, a firing alert or an owed review."""
    return bool(_ANYTHING.run(tx, {"at": at}).scalar_one())
