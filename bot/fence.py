"""The last look before something outside is changed: a process that was paused finds out here that its time is over.

A lease is looked at when a turn begins, and a turn asks outside systems what is there before it changes anything. Who
is stopped in between, and for longer than a lease, would go on where it was, after another replica has done the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bot.errors import ProviderUnavailable

_still_ours: ContextVar[Callable[[], bool] | None] = ContextVar("still_ours", default=None)


@contextmanager
def holding(still_ours: Callable[[], bool]) -> Iterator[None]:
    """What is done meanwhile, and in tasks begun meanwhile, is done under a lease. still_ours: whether it surely is."""
    token = _still_ours.set(still_ours)
    try:
        yield
    finally:
        _still_ours.reset(token)


def check() -> None:
    """Call it right before a request that changes something. Raises ProviderUnavailable: nothing may be sent now."""
    still_ours = _still_ours.get()
    if still_ours is not None and not still_ours():
        raise ProviderUnavailable("This replica was paused, so it looks first whether another one went on.")
