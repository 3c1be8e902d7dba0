"""`move()`: state, transition row, audit entry and messages in one transaction. No state changes elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from bot.catalog.model import Catalog
from bot.deployments import audience
from bot.deployments.holds import lock_after
from bot.deployments.model import Data, Deployment, NewDeployment, State
from bot.deployments.reviews import review_after
from bot.store import audit, outbox
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.database import Tx
from bot.store.deployments import Change


class Moves:
    """Creates and moves deployments, and leaves the messages and the audit entry of each move beside it."""

    def __init__(self, catalog: Callable[[], Catalog], platforms: Sequence[str]) -> None:
        """Take the current catalog as a function, and the chat platforms that are switched on."""
        self._catalog = catalog
        self._platforms = platforms
        self._listeners: list[Callable[[int], None]] = []
        self._at_end: list[Callable[[Deployment], None]] = []

    @property
    def platforms(self) -> Sequence[str]:
        """The chat platforms that are switched on."""
        return self._platforms

    def listen(self, listener: Callable[[int], None]) -> None:
        """Have `listener(deployment id)` called after each change, in the event loop's thread."""
        self._listeners.append(listener)

    def on_end(self, listener: Callable[[Deployment], None]) -> None:
        """Have `listener(deployment)` called after the commit of each end that happened in this process."""
        self._at_end.append(listener)

    def announce_changed(self, deployment_id: int, after: Deployment | None = None) -> None:
        """Tell the listeners; call it after the commit. after: the deployment, if it was moved."""
        if after is not None and after.state.is_final:
            for at_end in self._at_end:
                at_end(after)
        for listener in self._listeners:
            listener(deployment_id)

    def create(self, tx: Tx, new: NewDeployment, at: datetime, code: str = "") -> tuple[Deployment, bool]:
        """Create one, or find the one its key made before; returns it and whether it is new."""
        return self.create_all(tx, [(new, at, code)])[0]

    def create_all(
        self, tx: Tx, wanted: Sequence[tuple[NewDeployment, datetime, str]]
    ) -> list[tuple[Deployment, bool]]:
        """As `create`, for many of different keys at once."""
        made = rows.create_all(tx, [(new, at) for new, at, _ in wanted])
        for (deployment, is_new), (new, at, code) in zip(made, wanted, strict=True):
            if is_new:
                self._tell(tx, deployment, at)
                detail = f"{new.kind.value} of {new.release_version} to {deployment.target}"
                audit.append_at_end(
                    tx,
                    AuditEntry(
                        at, new.requested_by, "deployment:create", deployment.ref, new.state.value, code, detail
                    ),
                )
        return made

    def move(
        self,
        tx: Tx,
        seen: Deployment,
        to: State,
        *,
        at: datetime,
        actor: str,
        note: str = "",
        data: Data | None = None,
        digest: str | None = None,
        code: str = "",
        owner: str = "",
    ) -> Deployment:
        """Change the state under guard. Raises Overtaken or TargetBusy; then nothing was changed.

        owner: the engine that must still hold the lease; empty for people.
        """
        data = arrived(data or seen.data)
        after = rows.move(
            tx, seen, to, at=at, actor=actor, note=note, data=data, digest=digest, wake_at=at, owner=owner
        )
        if to is State.SUCCEEDED:
            older = rows.last_good(tx, seen.service, seen.environment, before=seen.id)
            if older is not None:  # its card loses the button that rolls back what runs
                rows.touch_cards(tx, older.id, at)
        if after.state.is_final and self._catalog().limits:
            rows.wake_queued(tx, at)
        lock_after(tx, after, at)
        review_after(tx, self._catalog(), after, self._platforms, at)
        self._witness(tx, after, at, actor, note, code)
        return after

    def change_all(self, tx: Tx, changes: Sequence[Change], owner: str, lease: timedelta) -> list[Deployment | None]:
        """As `move` and `rows.stay`, for many of a moment at once, none of them an end. Raises as `rows.change_all`."""
        found = rows.change_all(tx, changes, owner, lease)
        for change, after in zip(changes, found, strict=True):
            if after is None:
                continue
            moves = [one for one in change.steps if one.is_move]
            for one in moves:
                self._audit(tx, one.foreseen, one.at, one.actor, one.note)
            if moves:
                self._tell(tx, after, change.at)
        return found

    def _witness(self, tx: Tx, after: Deployment, at: datetime, actor: str, note: str, code: str = "") -> None:
        self._tell(tx, after, at)
        self._audit(tx, after, at, actor, note, code)

    def _audit(self, tx: Tx, after: Deployment, at: datetime, actor: str, note: str, code: str = "") -> None:
        detail = note or f"{after.target} {after.release_version}"
        audit.append_at_end(tx, AuditEntry(at, actor, "deployment:move", after.ref, after.state.value, code, detail))

    def _tell(self, tx: Tx, deployment: Deployment, at: datetime) -> None:
        catalog = self._catalog()
        cards = audience.cards(catalog, deployment, self._platforms)
        outbox.put_all(tx, [*cards, *audience.personal(catalog, deployment, self._platforms)], at)


def arrived(data: Data) -> Data:
    """What is known in a new state: nothing is waited for any more."""
    return data.model_copy(update={"waiting_for": "", "waiting_since_at": None})
