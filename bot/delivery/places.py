"""One deployment in several clusters: what the whole is when its parts differ; pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.delivery.base import Place, SyncProgress, SyncState

# What still runs is waited for, so that the end is told of all; then failure beats everything.
_ORDER = (
    SyncState.RUNNING,
    SyncState.FAILED,
    SyncState.INTERRUPTED,
    SyncState.SUSPENDED,
    SyncState.PENDING,
    SyncState.SUCCEEDED,
)
_WAITS = "It begins when the clusters before it are healthy."
_NOT_BEGUN = "It was not begun."


def summed(seen: Sequence[tuple[str, SyncProgress]], waiting: Sequence[str], not_begun: SyncState) -> SyncProgress:
    """As far as the least, as bad as the worst, each cluster named. waiting: those of later waves, not begun yet.

    A single cluster is its own whole.
    """
    if len(seen) == 1 and not waiting:
        return seen[0][1]
    states = [progress.state for _, progress in seen]
    if waiting and all(state is SyncState.SUCCEEDED for state in states):
        states.append(not_begun)
    state = next(one for one in _ORDER if one in states)
    applied, healthy, total, percent = (
        sum(getattr(progress, name) for _, progress in seen) for name in ("applied", "healthy", "total", "percent")
    )
    over = state in (SyncState.FAILED, SyncState.INTERRUPTED)
    later = [Place(name, SyncState.PENDING, _NOT_BEGUN if over else _WAITS) for name in waiting]
    return SyncProgress(
        state,
        message=_sentence(seen, state),
        applied=applied,
        healthy=healthy,
        total=total,
        percent=round(percent / (len(seen) + len(waiting))),
        told=all(progress.told for _, progress in seen),
        places=(*(_place(name, progress) for name, progress in seen), *later),
    )


def _place(name: str, progress: SyncProgress) -> Place:
    return Place(name, progress.state, progress.message, progress.applied, progress.healthy, progress.total)


def _sentence(seen: Sequence[tuple[str, SyncProgress]], state: SyncState) -> str:
    """How many are well, and what those say that decide."""
    good = sum(progress.state is SyncState.SUCCEEDED for _, progress in seen)
    telling = [f"{name}: {progress.message}" for name, progress in seen if progress.state is state and progress.message]
    if state in (SyncState.FAILED, SyncState.INTERRUPTED):
        return " ".join([f"{good} of {len(seen)} clusters are well.", *telling])
    return " ".join(telling)
