"""Who goes first while there is more to do than can be done at once: whatever is not in Git yet.

People wait for the commit; what comes after it waits for Argo CD anyway. So while many are on their way to Git, those
whose commit is pushed let them by before they ask for their sync, for a few seconds at most. Nobody else waits here:
not what is followed already, stands at gray or goes back. The Git writer asks for the number too, to wait for company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from bot.deployments.model import Deployment, State

CROWD = 32
"""So few on their way at once are through in a moment, and nobody has to wait for them."""
GRACE = timedelta(seconds=5)
"""After so long since its push a deployment goes on whoever else is on the way."""
LOOK = timedelta(seconds=1)
"""Between two looks whether there is room."""


class Precedence:
    """Counts who is on the way to Git in this process, and says who has to wait for them."""

    def __init__(self) -> None:
        """Nobody is on the way yet."""
        self._turns = 0
        self._behind: Callable[[], int] = lambda: 0

    def also(self, behind: Callable[[], int]) -> None:
        """Count those, too, that come behind: commands that are being read, and may become deployments."""
        self._behind = behind

    def on_the_way(self) -> int:
        """How many are at work on what comes before the push, or wait in the writer's queue."""
        return self._turns + self._behind()

    @contextmanager
    def turn(self, seen: Deployment) -> Iterator[None]:
        """Around one turn of a deployment, which is counted if it is on the way.

        A build or a gate takes its own time; what is queued goes on to Git at once if nothing stands in its way.
        """
        counts = seen.state in (State.QUEUED, State.WRITING)
        self._turns += counts
        try:
            yield
        finally:
            self._turns -= counts

    def lets_by(self, seen: Deployment, at: datetime) -> bool:
        """Whether it has to wait: pushed a moment ago, its sync not asked for yet, and many others on the way."""
        is_next = seen.state is State.SYNCING and not seen.data.sync_intent
        return is_next and at - seen.changed_at < GRACE and self.on_the_way() > CROWD
