"""Whether anything holds deployments up or lets them pass: on most days nothing does, and one question is enough."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import or_, select

from bot.store.alerts import FIRING
from bot.store.database import Tx
from bot.store.emergencies import GOOD_PASSES, OWED
from bot.store.holds import ALL_LOCKS, STANDING
from bot.store.prepared import Prepared

_ALL = (ALL_LOCKS, STANDING, FIRING, OWED, GOOD_PASSES)
_ANYTHING = Prepared(select(or_(*(one.order_by(None).exists() for one in _ALL))))


def is_anything(tx: Tx, at: datetime) -> bool:
    """Whether there is a lock, a standing freeze from a chat, a firing alert, an owed review or a pass."""
    return bool(_ANYTHING.run(tx, {"at": at}).scalar_one())
