"""What was asked of an outside pipeline, kept so that a run is never asked for twice.

A note is written before the request leaves. So no note means: surely nothing was sent; a note without a run means: it
may have been sent, look for it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunNote:
    """One intent. definition: the pipeline's name there; handle: the first answer where it is not yet the run.

    sends: how often the request was begun to be sent; sent_at: the last time (aware UTC).
    """

    intent: str
    provider: str
    definition: str
    sent_at: datetime
    run_id: str = ""
    handle: str = ""
    sends: int = 1


class RunMemory(Protocol):
    """Where notes are kept; it outlives the process."""

    async def recall(self, intent: str) -> RunNote | None:
        """The note of an intent. Raises ProviderUnavailable if it cannot be read."""
        ...

    async def sending(self, intent: str, provider: str, definition: str, at: datetime) -> RunNote:
        """Note that the request is about to be sent, and count it; what was known of its run is kept."""
        ...

    async def started(self, intent: str, *, run_id: str = "", handle: str = "") -> None:
        """Note which run, or which first answer, the request became. Nothing that is known is emptied."""
        ...

    async def unsent(self, intent: str) -> None:
        """The system surely started nothing: drop the note, unless a run is known."""
        ...

    async def by_run(self, provider: str, definition: str, run_id: str) -> RunNote | None:
        """The note of a run, for events that name only the run; an empty definition fits any."""
        ...
