"""What people do to hold deployments up: lock, unlock, freeze, lift. Each is one transaction with its audit entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bot.catalog.model import Catalog, Kind, Person, Scope
from bot.clock import Clock
from bot.deployments.audience import personal_places
from bot.deployments.facts import WATCH, alert_fact, scope_of_lock
from bot.deployments.model import Deployment, State
from bot.errors import BadInput, Conflict, Refused
from bot.policy.model import Permission, ReasonCode
from bot.policy.permissions import has_permission
from bot.store import alerts, audit, holds, outbox
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.holds import ChatFreeze, Lock
from bot.store.outbox import NewNotice, Notice

OURSELVES = "slipway"
"""Holder of the locks that nobody asked for; nobody passes them."""
AFTER_ROLLBACK = (Kind.ROLLBACK.value, Kind.HOTFIX.value)
"""Kinds that pass the lock after a rollback."""
NAG_AFTER = timedelta(hours=24)
"""How often the holder of a lock without an end hears that it still holds."""


@dataclass(frozen=True, slots=True)
class LockWish:
    """What somebody wants to lock. steal: take it from whoever holds it, who is told."""

    what: str
    reason: str
    expires_at: datetime | None = None
    warning: bool = False
    steal: bool = False


class Holds:
    """The application's verbs on locks and freezes."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        clock: Clock,
        platforms: Sequence[str],
        on_change: Callable[[], None],
    ) -> None:
        """on_change: called after a commit, so that whoever waits looks again."""
        self._db = db
        self._catalog = catalog
        self._clock = clock
        self._platforms = platforms
        self._on_change = on_change

    async def lock(self, person: Person, wish: LockWish) -> tuple[Lock, Lock | None]:
        """Take a lock; returns it and the one it took the place of.

        Raises:
            Refused: no right to lock that.
            Conflict: somebody else holds it, and `steal` was not said.
        """
        may_hold(self._catalog(), person, wish.what)
        at = self._clock()
        new = Lock(wish.what, person.id, wish.reason, at, wish.expires_at, wish.warning)

        def work(tx: Tx) -> Lock | None:
            seen = holds.get_lock(tx, wish.what)
            standing = seen if seen is not None and (seen.expires_at is None or at < seen.expires_at) else None
            if standing is not None and standing.holder != person.id and not wish.steal:
                raise self._held(standing)
            done = holds.replace_lock(tx, seen, new) if seen is not None else holds.take(tx, new)
            if not done:
                raise Conflict(f"Somebody was first with the lock on {wish.what}.", hint="/locks shows who.")
            if standing is not None and standing.holder != person.id:
                self._tell(tx, standing, person, at, "took over", wish.reason)
            action = "lock:steal" if standing is not None and standing.holder != person.id else "lock:take"
            audit.append(tx, AuditEntry(at, person.id, action, wish.what, "accepted", "", wish.reason))
            return standing

        before = await self._db.run(work)
        self._on_change()
        return new, before

    async def unlock(self, person: Person, what: str) -> Lock:
        """Release a lock; its holder, or whoever may lock there, who then tells the holder.

        Where there is none but alerts fire, deployments pass these till they fire anew.

        Raises:
            Refused: no right.
            BadInput: there is no such lock.
            Conflict: it changed hands a moment ago.
        """
        at = self._clock()

        def work(tx: Tx) -> Lock:
            seen = holds.get_lock(tx, what)
            if seen is None:
                return self._lift_alerts(tx, person, what, at)
            if seen.holder != person.id:
                may_hold(self._catalog(), person, what)
                self._tell(tx, seen, person, at, "released", "")
            if not holds.release(tx, seen):
                raise Conflict(f"The lock on {what} changed hands a moment ago.", hint="/locks shows who holds it.")
            rows.wake_waiting(tx, at)
            audit.append(tx, AuditEntry(at, person.id, "lock:release", what, "accepted", "", seen.reason))
            return seen

        seen = await self._db.run(work)
        self._on_change()
        return seen

    def _lift_alerts(self, tx: Tx, person: Person, what: str, at: datetime) -> Lock:
        may_hold(self._catalog(), person, what)
        lifted = alerts.lift(tx, what, person.id, at)
        if not lifted:
            raise BadInput(f"There is no lock on {what}.", hint="/locks lists what is locked.")
        rows.wake_waiting(tx, at)
        names = ", ".join(one.name for one in lifted)
        audit.append(tx, AuditEntry(at, person.id, "alert:lift", what, "accepted", "", names[:1000]))
        return Lock(what, WATCH, names, lifted[0].started_at)

    async def freeze(self, person: Person, new: ChatFreeze) -> ChatFreeze:
        """Store a freeze. Raises Refused: no right to freeze that."""
        _may_freeze(self._catalog(), person)
        at = self._clock()

        def work(tx: Tx) -> ChatFreeze:
            if any(one.name == new.name for one in holds.standing_freezes(tx, at)):
                raise Conflict(
                    f"There is a freeze '{new.name}' already.", hint="Lift it first, or choose another name."
                )
            number = holds.freeze(tx, new)
            entry = AuditEntry(at, person.id, "freeze:set", f"f-{number} {new.name}", "accepted", "", new.reason)
            audit.append(tx, entry)
            return replace(new, id=number)

        stored = await self._db.run(work)
        self._on_change()
        return stored

    async def unfreeze(self, person: Person, name: str) -> ChatFreeze:
        """Lift a freeze that was set from a chat.

        Raises:
            Refused: no right, or it is one of the catalog.
            BadInput: there is no such freeze.
            Conflict: somebody was first.
        """
        _may_freeze(self._catalog(), person)
        at = self._clock()

        def work(tx: Tx) -> ChatFreeze:
            standing = holds.standing_freezes(tx, at)
            seen = next((one for one in standing if name in (one.name, f"f-{one.id}")), None)
            if seen is None:
                raise self._no_freeze(name, standing)
            if not holds.lift(tx, seen.id, at):
                raise Conflict(f"Somebody was first in lifting {name}.")
            rows.wake_waiting(tx, at)
            entry = AuditEntry(at, person.id, "freeze:lift", f"f-{seen.id} {seen.name}", "accepted", "", seen.reason)
            audit.append(tx, entry)
            return seen

        seen = await self._db.run(work)
        self._on_change()
        return seen

    async def locks(self) -> list[Lock]:
        """Locks that hold now, and what firing alerts hold."""
        at = self._clock()
        found, firing = await self._db.read(lambda tx: (holds.all_locks(tx), alerts.firing(tx, at)))
        held = [one for one in found if one.expires_at is None or at < one.expires_at]
        return held + [Lock(one.what, WATCH, alert_fact(one).reason, one.started_at) for one in firing]

    async def nag(self) -> None:
        """Remind the holders of locks without an end; housekeeping calls it now and then."""
        at = self._clock()

        def work(tx: Tx) -> None:
            for lock in holds.all_locks(tx):
                since = lock.nagged_at or lock.since_at
                if lock.expires_at is None and lock.holder != OURSELVES and at - since >= NAG_AFTER:
                    text = (
                        f"You still hold the lock on {lock.what}. Type /unlock {lock.what.replace('/', ' ')} when done."
                    )
                    self._message(tx, lock, f"nag:{at.isoformat()}", text, at)
                    holds.nagged(tx, lock, at)

        await self._db.run(work)
        self._on_change()

    # -----------------------------------------------------------------------------------------------------------------

    def _held(self, lock: Lock) -> Conflict:
        why = f": {lock.reason}" if lock.reason else ""
        text = f"{self._name(lock.holder)} holds the lock on {lock.what}{why}."
        return Conflict(text, hint="Add --steal to take it over; they will be told.")

    def _no_freeze(self, name: str, standing: list[ChatFreeze]) -> Refused | BadInput:
        if any(one.name == name for one in self._catalog().freezes):
            where = next(one.source for one in self._catalog().freezes if one.name == name)
            return Refused(f"The freeze {name} is part of the catalog.", hint=f"Change it in {where}.", code="catalog")
        names = ", ".join(one.name for one in standing) or "none"
        return BadInput(f"There is no freeze '{name[:60]}' from a chat.", hint=f"There are: {names}.")

    def _tell(self, tx: Tx, lock: Lock, person: Person, at: datetime, did: str, why: str) -> None:
        because = f": {why}" if why else ""
        self._message(tx, lock, f"{did}:{lock.version}", f"{person.name} {did} your lock on {lock.what}{because}.", at)

    def _message(self, tx: Tx, lock: Lock, key: str, text: str, at: datetime) -> None:
        content = {"text": text, "card": None}
        for platform, place in personal_places(self._catalog(), lock.holder, self._platforms)[:1]:
            unique = f"lock:{lock.what}:{lock.since_at.isoformat()}:{key}"[:255]
            outbox.put(tx, NewNotice(unique, platform, place, Notice.MESSAGE, content=content, priority=1), at)

    def _name(self, person: str) -> str:
        known = self._catalog().people.get(person)
        return known.name if known is not None else person


def lock_after(tx: Tx, after: Deployment, at: datetime) -> None:
    """After a rollback, keep the bad release from coming again by itself; a lock that is there already stays.

    So too after a first release that metrics or alerts spoke against: nothing ran there to go back to.
    """
    if after.state is State.ROLLED_BACK and not after.data.cancelled_by:
        why = after.data.failure.message if after.data.failure is not None else "it failed"
        reason = f"{after.ref} rolled {after.release_version} back: {why}"
    elif after.state is State.SUCCEEDED and after.kind is Kind.ROLLBACK:
        reason = f"{after.ref} rolled back to {after.release_version}"
    elif after.state is State.FAILED and after.data.breached and not after.data.undo:
        why = after.data.failure.message if after.data.failure is not None else "it failed"
        reason = f"{after.ref} brought {after.release_version}, and nothing ran there before: {why}"
    else:
        return
    holder = after.requested_by if after.state is State.SUCCEEDED else OURSELVES
    if holds.take(tx, Lock(after.target, holder, reason[:500], at, exempt=AFTER_ROLLBACK)):
        audit.append(tx, AuditEntry(at, OURSELVES, "lock:take", after.target, "accepted", "", reason[:1000]))


def may_hold(catalog: Catalog, person: Person, what: str) -> None:
    """Whoever may deploy there may lock there; a team's leads a team; release managers everything. Raises Refused."""
    scope = scope_of_lock(what)
    if person.id in (*catalog.admins, *catalog.release_managers):
        return
    if scope is not None and scope.teams:
        team = catalog.teams.get(scope.teams[0])
        if team is not None and person.id in team.leads:
            return
    if scope is not None and scope.services and _may_all(catalog, person, scope):
        return
    raise Refused(
        f"You may not lock {what}.",
        hint="Owners lock a service, team leads a team, release managers everything.",
        code=ReasonCode.NOT_PERMITTED,
    )


def _may_all(catalog: Catalog, person: Person, scope: Scope) -> bool:
    service = catalog.services.get(scope.services[0])
    places = scope.environments or (tuple(service.targets) if service is not None else ())
    return bool(places) and all(
        has_permission(catalog, person.id, Permission.LOCK_WRITE, scope.services[0], place) for place in places
    )


def _may_freeze(catalog: Catalog, person: Person) -> None:
    if person.id not in (*catalog.admins, *catalog.release_managers):
        raise Refused(
            "Only release managers and administrators may freeze and lift.",
            hint="Ask one of them, or lock your own service with /lock.",
            code=ReasonCode.NOT_PERMITTED,
        )
