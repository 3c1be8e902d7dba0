"""The rows of deployments: created once, moved only under guard, claimed under a lease.

Leases are measured by the database's clock (on SQLite there is one process and its clock); wake times by the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from bot.catalog.model import Kind
from bot.deployments.model import (
    FINAL,
    HOLDS_TARGET,
    Data,
    Deployment,
    NewDeployment,
    Origin,
    State,
)
from bot.errors import Conflict
from bot.store import archive, leases
from bot.store.audit import AuditEntry
from bot.store.database import Tx, UtcDateTime, at_end, insert_into
from bot.store.many import InsertMany, Json
from bot.store.signals import Topic, announce
from bot.store.tables import deployments, outbox, transitions, votes

KINDS = tuple(kind.value for kind in Kind)
ADMISSION = 0x51_19_BA_11
"""Key of the advisory lock under which room is counted."""
FINAL_NAMES = tuple(sorted(state.value for state in FINAL))


class Overtaken(Conflict):
    """The row moved since it was read: somebody was first."""


class TargetBusy(Conflict):
    """Another deployment holds the target."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state."""

    from_state: str
    to_state: str
    actor: str
    note: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's yes or no. decision: "approve" or "reject"; subject: what it is bound to."""

    person: str
    subject: str
    decision: str
    reason: str
    at: datetime


READ = tuple(cast(one, Text).label("data") if one is deployments.c.data else one for one in deployments.c)
"""The columns of a row as `as_deployment` takes it: what is read from JSON in one step costs half of what two do."""

_INSERT = InsertMany(deployments, [deployments.c.idempotency_key], [deployments.c.id, deployments.c.idempotency_key])

# Built once: making a statement costs more than running it.
_SEEN = and_(
    deployments.c.id == bindparam("seen_id"),
    deployments.c.state == bindparam("seen_state"),
    deployments.c.version == bindparam("seen_version"),
)
"""The row is as it was seen."""
_OURS = deployments.c.lease_owner == bindparam("seen_owner")
_MOVED = ("state", "version", "slot", "wake_at", "changed_at", "ended_at", "attempts", "data", "digest")
_LEARNED = ("data", "version", "changed_at")
_MOVE = update(deployments).values({name: bindparam(f"new_{name}", type_=deployments.c[name].type) for name in _MOVED})
_STAY = update(deployments).values(
    wake_at=case(
        (deployments.c.signal_seq != bindparam("seen_signal"), bindparam("the_present", type_=UtcDateTime())),
        else_=bindparam("new_wake_at", type_=UtcDateTime()),
    ),
    attempts=0,
)
_LEARN = _STAY.values({name: bindparam(f"new_{name}", type_=deployments.c[name].type) for name in _LEARNED})
_CHANGES = {
    (made, is_owned): made.where(_SEEN, _OURS if is_owned else true()).returning(
        deployments.c.signal_seq, deployments.c.wake_at
    )
    for made in (_MOVE, _STAY, _LEARN)
    for is_owned in (False, True)
}


def _change(tx: Tx, seen: Deployment, made: Update, owner: str, values: Mapping[str, Any]) -> Row[Any]:
    """Run one of the statements above under its guard. Raises Overtaken: nothing was changed."""
    guard: dict[str, Any] = {"seen_id": seen.id, "seen_state": seen.state.value, "seen_version": seen.version}
    if owner:
        guard["seen_owner"] = owner
    changed = tx.execute(_CHANGES[made, bool(owner)], guard | dict(values)).one_or_none()
    if changed is None:
        raise Overtaken(f"{seen.ref} was changed by somebody else a moment ago.")
    return changed


def create(tx: Tx, new: NewDeployment, at: datetime) -> tuple[Deployment, bool]:
    """Insert, or find the one this idempotency key made before. Returns it and whether it is new."""
    return create_all(tx, [(new, at)])[0]


def create_all(tx: Tx, wanted: Sequence[tuple[NewDeployment, datetime]]) -> list[tuple[Deployment, bool]]:
    """As `create`, for many of different keys at once."""
    given = [_given(new, at) for new, at in wanted]
    stored = [values | _stored(new) for values, (new, _) in zip(given, wanted, strict=True)]
    ids = {row.idempotency_key: row.id for row in _INSERT.run(tx, stored)}
    found: list[tuple[Deployment, bool]] = []
    for (new, at), values in zip(wanted, given, strict=True):
        number = ids.get(new.idempotency_key)
        if number is None:
            found.append((by_key(tx, new.idempotency_key), False))
            continue
        _log(tx, number, 0, "", new.state, new.requested_by, "", at)
        made = Deployment(id=number, kind=new.kind, state=new.state, origin=new.origin, data=new.data, **values)
        found.append((made, True))
    if ids:  # One call makes the others look for all of them; nobody is at any of these yet.
        announce(tx, Topic.DEPLOYMENT, max(ids.values()))
    return found


def _given(new: NewDeployment, at: datetime) -> dict[str, Any]:
    """What the row and the deployment say alike."""
    return {
        "intent": f"slw-{uuid4().hex}",
        "service": new.service,
        "environment": new.environment,
        "version": 0,
        "requested_by": new.requested_by,
        "reason": new.reason,
        "release_version": new.release_version,
        "commit": new.commit,
        "branch": new.branch,
        "digest": new.digest,
        "created_at": at,
        "changed_at": at,
        "ended_at": at if new.state.is_final else None,
        "wake_at": _first_wake(new, at),
    }


def _stored(new: NewDeployment) -> dict[str, Any]:
    """The rest of the row, as the database takes it."""
    return {
        "idempotency_key": new.idempotency_key,
        "kind": new.kind.value,
        "state": new.state.value,
        "origin": asdict(new.origin),
        "data": Json(new.data.model_dump_json()),
    }


def _first_wake(new: NewDeployment, at: datetime) -> datetime | None:
    return at if new.state in (State.QUEUED, State.AWAITING_APPROVAL) else None


def get(tx: Tx, deployment_id: int) -> Deployment | None:
    """One deployment, from the archive too, or None."""
    row = tx.execute(select(*READ).where(deployments.c.id == deployment_id)).one_or_none()
    if row is None and (kept := archive.find(tx, deployment_id)) is not None:
        row = kept.deployment
    return as_deployment(row) if row is not None else None


def by_key(tx: Tx, idempotency_key: str) -> Deployment:
    """The deployment of an idempotency key. Raises NoResultFound."""
    return as_deployment(tx.execute(select(*READ).where(deployments.c.idempotency_key == idempotency_key)).one())


def find_by_key(tx: Tx, idempotency_key: str) -> Deployment | None:
    """The deployment of an idempotency key, or None."""
    row = tx.execute(select(*READ).where(deployments.c.idempotency_key == idempotency_key)).one_or_none()
    return as_deployment(row) if row is not None else None


_BY_KEYS = select(deployments.c.idempotency_key).where(
    deployments.c.idempotency_key.in_(bindparam("keys", expanding=True))
)
_OPEN_ON = (
    select(*READ)
    .where(
        deployments.c.ended_at.is_(None),
        # An expression, for which there is no index: see `open_for`.
        deployments.c.service.concat("/").concat(deployments.c.environment).in_(bindparam("targets", expanding=True)),
    )
    .order_by(deployments.c.id)
)


def known_keys(tx: Tx, keys: Collection[str]) -> set[str]:
    """Those idempotency keys that have made a deployment before."""
    return set(tx.execute(_BY_KEYS, {"keys": list(keys)}).scalars())


def open_on(tx: Tx, targets: Collection[str]) -> dict[str, list[Deployment]]:
    """Of each target that has some: its deployments that have not ended, oldest first."""
    found: dict[str, list[Deployment]] = {}
    for row in tx.execute(_OPEN_ON, {"targets": list(targets)}):
        one = as_deployment(row)
        found.setdefault(one.target, []).append(one)
    return found


def lock(tx: Tx, deployment_id: int) -> Deployment | None:
    """As `get`, and nobody else may change it before this transaction ends."""
    row = tx.execute(select(*READ).where(deployments.c.id == deployment_id).with_for_update()).one_or_none()
    return as_deployment(row) if row is not None else None


def move(
    tx: Tx,
    seen: Deployment,
    to: State,
    *,
    at: datetime,
    actor: str,
    note: str = "",
    data: Data | None = None,
    digest: str | None = None,
    wake_at: datetime | None = None,
    owner: str = "",
) -> Deployment:
    """Change the state, guarded by the state and version last seen. The only way to change one.

    The lease is left as it is: whoever holds it lets go itself, so that two handlers never run at once.
    owner: who must still hold the lease; empty for people, who need none.

    Raises:
        Overtaken: it moved since, or the lease is another's. Nothing was changed.
        TargetBusy: another deployment holds the target. Nothing was changed.
    """
    after = replace(
        seen,
        state=to,
        version=seen.version + 1,
        wake_at=None if to.is_final else (wake_at or at),
        changed_at=at,
        ended_at=at if to.is_final else None,
        attempts=0,
        data=data or seen.data,
        digest=seen.digest if digest is None else digest,
    )
    try:
        changed = _change(tx, seen, _MOVE, owner, _moved_values(after))
    except IntegrityError as error:
        raise TargetBusy(f"Another deployment of {seen.target} is running.") from error
    _log(tx, seen.id, after.version, seen.state.value, to, actor, note, at)
    if not owner:  # whoever holds the lease may be another replica
        announce(tx, Topic.DEPLOYMENT, seen.id)
    touch_cards(tx, seen.id, at)
    if to.is_final:
        wake_queue(tx, seen.service, seen.environment, at)
    return replace(after, signal_seq=changed.signal_seq)


def _moved_values(after: Deployment) -> dict[str, Any]:
    """What `_MOVE` writes."""
    return {
        "new_state": after.state.value,
        "new_version": after.version,
        "new_slot": _slot(after.target, after.state),
        "new_wake_at": after.wake_at,
        "new_changed_at": after.changed_at,
        "new_ended_at": after.ended_at,
        "new_attempts": after.attempts,
        "new_data": after.data.model_dump(mode="json"),
        "new_digest": after.digest,
    }


def _slot(target: str, state: State) -> str | None:
    """The target while a state holds it; None: it is free for another one."""
    return target if state in HOLDS_TARGET else None


def stay(tx: Tx, seen: Deployment, data: Data, wake_at: datetime, at: datetime, owner: str = "") -> Deployment:
    """Keep the state, write what was learned and when to look again; a signal that arrived meanwhile wakes it at once.

    owner: as in `move`.

    Raises:
        Overtaken: it moved since, or the lease is another's. Nothing was changed.
    """
    after, made = replace(seen, data=data, attempts=0), _STAY
    values: dict[str, Any] = {"seen_signal": seen.signal_seq, "the_present": at, "new_wake_at": wake_at}
    if data != seen.data:
        after, made = replace(after, version=seen.version + 1, changed_at=at), _LEARN
        values |= {"new_data": data.model_dump(mode="json"), "new_version": after.version, "new_changed_at": at}
    changed = _change(tx, seen, made, owner, values)
    if made is _LEARN:
        touch_cards(tx, seen.id, at)
    return replace(after, signal_seq=changed.signal_seq, wake_at=changed.wake_at)


@dataclass(frozen=True, slots=True)
class Change:
    """One of many that whoever holds the leases records at once: a move to another open state, or a stay. As `move`.

    after: what led from the row as it is on record to `seen`, in order; it is recorded with this one.
    """

    seen: Deployment
    to: State
    data: Data
    at: datetime
    wake_at: datetime
    actor: str = ""
    note: str = ""
    digest: str | None = None
    after: tuple[Change, ...] = ()

    @property
    def is_move(self) -> bool:
        """Whether the state changes."""
        return self.to is not self.seen.state

    @property
    def steps(self) -> tuple[Change, ...]:
        """Every single change, in order."""
        return (*self.after, self)

    @property
    def on_record(self) -> Deployment:
        """The row that all of it starts from."""
        return self.steps[0].seen

    @property
    def foreseen(self) -> Deployment:
        """The deployment as it will be, if nobody was first."""
        return replace(
            self.seen,
            state=self.to,
            version=self.seen.version + 1,
            data=self.data,
            digest=self.seen.digest if self.digest is None else self.digest,
            changed_at=self.at,
            attempts=0,
            wake_at=self.wake_at,
        )


_CHANGE_ALL = text(
    """
    UPDATE deployments AS d SET
        state = v.state, version = v.version, slot = v.slot, changed_at = v.at, attempts = 0, digest = v.digest,
        data = v.data,
        wake_at = CASE
            WHEN v.stays AND d.signal_seq <> v.signal THEN v.at
            -- Due is due: what no index has to learn costs half.
            WHEN v.wake_at <= v.at AND d.wake_at <= v.wake_at THEN d.wake_at
            ELSE v.wake_at
        END,
        lease_until = clock_timestamp() + make_interval(secs => :lease)
    FROM json_to_recordset(CAST(:changes AS json)) AS v(
        id bigint, seen text, was integer, state text, version integer, slot text, at timestamptz, digest text,
        data json, stays boolean, signal integer, wake_at timestamptz
    )
    WHERE d.id = v.id AND d.state = v.seen AND d.version = v.was AND d.lease_owner = :owner
    RETURNING d.id, d.signal_seq, d.wake_at
    """
).columns(deployments.c.id, deployments.c.signal_seq, deployments.c.wake_at)
"""Every update of a burst in one statement: a tenth of what they cost one by one."""


def change_all(tx: Tx, changes: Sequence[Change], owner: str, lease: timedelta) -> list[Deployment | None]:
    """Record many changes under `owner`'s leases; None for each that somebody else changed, or took, meanwhile.

    lease: how long the leases last from now on, because the rows are written anyway; on SQLite they are as they were.

    Raises:
        TargetBusy: one of them needs a target that another deployment holds. Nothing was changed.
    """
    if tx.dialect.name == "sqlite":
        return [_changed_alone(tx, one, owner) for one in changes]
    body = "[" + ",".join(map(_as_json, changes)) + "]"
    values = {"changes": body, "owner": owner, "lease": lease.total_seconds()}
    try:
        found = {row.id: row for row in tx.execute(_CHANGE_ALL, values)}
    except IntegrityError as error:
        raise TargetBusy("Another deployment holds the target.") from error
    return [_after(tx, one, found[one.seen.id]) if one.seen.id in found else None for one in changes]


def _as_json(change: Change) -> str:
    seen, known = change.seen, change.on_record
    values = {
        "id": seen.id,
        "seen": known.state.value,
        "was": known.version,
        "state": change.to.value,
        "version": seen.version + 1,
        "slot": _slot(seen.target, change.to),
        "at": change.at.isoformat(),
        "digest": seen.digest if change.digest is None else change.digest,
        "stays": change.to is known.state,
        "signal": known.signal_seq,
        "wake_at": change.wake_at.isoformat(),
    }
    return f'{json.dumps(values)[:-1]}, "data": {change.data.model_dump_json()}}}'


def _after(tx: Tx, change: Change, row: Row[Any]) -> Deployment:
    for one in change.steps:
        if one.is_move:
            _log(tx, one.seen.id, one.seen.version + 1, one.seen.state.value, one.to, one.actor, one.note, one.at)
    touch_cards(tx, change.seen.id, change.at)
    return replace(change.foreseen, wake_at=row.wake_at, signal_seq=row.signal_seq)


def _changed_alone(tx: Tx, change: Change, owner: str) -> Deployment | None:
    after = None
    try:
        for one in change.steps:
            after = _step(tx, one, owner)
    except Overtaken:  # by the first: from then on this transaction has the row
        return None
    return after


def _step(tx: Tx, one: Change, owner: str) -> Deployment:
    if not one.is_move:
        return stay(tx, one.seen, one.data, one.wake_at, one.at, owner)
    return move(
        tx,
        one.seen,
        one.to,
        at=one.at,
        actor=one.actor,
        note=one.note,
        data=one.data,
        digest=one.digest,
        wake_at=one.wake_at,
        owner=owner,
    )


def stumble(tx: Tx, seen: Deployment, wake_at: datetime) -> int:
    """Count one more failed attempt of this state and look again at `wake_at`. Returns the count; 0: it moved."""
    guard = and_(deployments.c.id == seen.id, deployments.c.version == seen.version)
    statement = update(deployments).where(guard).values(attempts=deployments.c.attempts + 1, wake_at=wake_at)
    return tx.execute(statement.returning(deployments.c.attempts)).scalar_one_or_none() or 0


def wake(tx: Tx, deployment_id: int, at: datetime) -> None:
    """Send a signal: it is looked at now, and a handler that runs meanwhile cannot lose it."""
    tx.execute(
        update(deployments)
        .where(deployments.c.id == deployment_id, deployments.c.ended_at.is_(None))
        .values(signal_seq=deployments.c.signal_seq + 1, wake_at=at)
    )
    announce(tx, Topic.DEPLOYMENT, deployment_id)


def wake_waiting(tx: Tx, at: datetime) -> None:
    """Wake everything that is open: the rules have changed, so whoever waits for them asks again."""
    tx.execute(
        update(deployments)
        .where(deployments.c.ended_at.is_(None), deployments.c.state != State.AWAITING_APPROVAL.value)
        .values(signal_seq=deployments.c.signal_seq + 1, wake_at=at)
    )
    announce(tx, Topic.DEPLOYMENT)


def wake_queue(tx: Tx, service: str, environment: str, at: datetime) -> None:
    """Wake whoever waits for this target."""
    woken = tx.execute(
        update(deployments)
        .where(
            deployments.c.service == service,
            deployments.c.environment == environment,
            deployments.c.state == State.QUEUED.value,
        )
        .values(signal_seq=deployments.c.signal_seq + 1, wake_at=at)
        .returning(deployments.c.id)
    )
    for number in woken.scalars():
        announce(tx, Topic.DEPLOYMENT, number)


def _due(tx: Tx, states: Collection[State], at: datetime) -> ColumnElement[bool]:
    return _due_by(literal(at, UtcDateTime()), leases.now(tx, at), states)


def _due_by(
    at: ColumnElement[datetime], now: ColumnElement[datetime], states: Collection[State]
) -> ColumnElement[bool]:
    return and_(
        deployments.c.wake_at <= at,
        or_(deployments.c.lease_until.is_(None), deployments.c.lease_until < now),
        deployments.c.state.in_([state.value for state in states]),
        deployments.c.kind.in_(KINDS),
    )


@cache
def _is_due(database: str, states: tuple[State, ...]) -> Any:
    at = bindparam("at", type_=UtcDateTime())
    due = select(deployments.c.id).where(_due_by(at, leases.now_of(database, at), states)).exists()
    return select(due, _next_wake(states).scalar_subquery())


def is_due(tx: Tx, states: tuple[State, ...], at: datetime) -> tuple[bool, datetime | None]:
    """Whether there is something to claim, and `next_wake`: one question, because it is what idling costs."""
    row = tx.execute(_is_due(tx.dialect.name, states), {"at": at}).one()
    return row[0], row[1]


def claim(
    tx: Tx, owner: str, states: Collection[State], at: datetime, lease: timedelta, limit: int
) -> list[Deployment]:
    """Take the lease of due rows in the given states, the longest waiting first."""
    picked = select(deployments.c.id).where(_due(tx, states, at)).order_by(deployments.c.wake_at).limit(limit)
    if tx.dialect.name != "sqlite":
        picked = picked.with_for_update(skip_locked=True)
    taken = {"lease_owner": owner, "lease_until": leases.lease_end(tx, at, lease)}
    # Once, however the rest is done: a limit in a question within a statement might be asked anew for every row.
    chosen = picked.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")
    claimed = update(deployments).where(deployments.c.id.in_(select(chosen.c.id))).values(taken)
    return [as_deployment(row) for row in tx.execute(claimed.returning(*READ))]


def renew(tx: Tx, owner: str, ids: Collection[int], at: datetime, lease: timedelta) -> set[int]:
    """Lengthen the leases; returns those that are still ours."""
    statement = (
        update(deployments)
        .where(deployments.c.id.in_(list(ids)), deployments.c.lease_owner == owner)
        .values(lease_until=leases.lease_end(tx, at, lease))
        .returning(deployments.c.id)
    )
    return set(tx.execute(statement).scalars())


def mine(tx: Tx, deployment_id: int, owner: str) -> Deployment | None:
    """As `get`, if the lease is held by `owner`; else None."""
    query = select(*READ).where(deployments.c.id == deployment_id, deployments.c.lease_owner == owner)
    row = tx.execute(query).one_or_none()
    return as_deployment(row) if row is not None else None


@dataclass(frozen=True, slots=True)
class Leaving:
    """A row whose lease is given back. until: look again then, unless it moved or was signalled since it was seen."""

    id: int
    owner: str
    version: int = -1
    signal_seq: int = -1
    until: datetime | None = None


_UNTOUCHED = and_(
    deployments.c.version == bindparam("seen_version"), deployments.c.signal_seq == bindparam("seen_signal")
)
_LEAVE = (
    update(deployments)
    .where(deployments.c.id == bindparam("seen_id"), deployments.c.lease_owner == bindparam("seen_owner"))
    .values(
        lease_owner=None,
        lease_until=None,
        wake_at=case(
            (_UNTOUCHED, bindparam("seen_until", type_=deployments.c.wake_at.type)), else_=deployments.c.wake_at
        ),
        attempts=case((_UNTOUCHED, 0), else_=deployments.c.attempts),
    )
)


_LEAVE_ALL = text(
    """
    UPDATE deployments AS d SET
        lease_owner = NULL, lease_until = NULL,
        wake_at = CASE WHEN d.version = v.version AND d.signal_seq = v.signal THEN v.until ELSE d.wake_at END,
        attempts = CASE WHEN d.version = v.version AND d.signal_seq = v.signal THEN 0 ELSE d.attempts END
    FROM json_to_recordset(CAST(:rows AS json)) AS v(
        id bigint, owner text, version integer, signal integer, until timestamptz
    )
    WHERE d.id = v.id AND d.lease_owner = v.owner
    """
)
"""As `_LEAVE`, all in one statement."""


def leave(tx: Tx, leaving: Leaving, hand_over: bool = False) -> None:
    """Let go of a lease that is ours, at the end of the transaction with all others that are let go in it.

    hand_over: other replicas shall look at once.
    """
    if hand_over:
        announce(tx, Topic.DEPLOYMENT)
    at_end(tx, _leave_all, leaving)


def _leave_all(tx: Tx, leaving: list[Leaving]) -> None:
    ordered = sorted(leaving, key=lambda one: one.id)
    if tx.dialect.name == "sqlite":
        values = [
            {
                "seen_id": one.id,
                "seen_owner": one.owner,
                "seen_version": one.version,
                "seen_signal": one.signal_seq,
                "seen_until": one.until,
            }
            for one in ordered
        ]
        tx.execute(_LEAVE, values)
        return
    rows = [
        {
            "id": one.id,
            "owner": one.owner,
            "version": one.version,
            "signal": one.signal_seq,
            "until": one.until.isoformat() if one.until is not None else None,
        }
        for one in ordered
    ]
    tx.execute(_LEAVE_ALL, {"rows": json.dumps(rows)})


def forget_leases(tx: Tx) -> None:
    """Free every lease. Only for SQLite at start: the one process that could hold them is gone."""
    tx.execute(
        update(deployments).where(deployments.c.lease_owner.is_not(None)).values(lease_owner=None, lease_until=None)
    )


def next_wake(tx: Tx, states: Collection[State]) -> datetime | None:
    """When the earliest row in these states wants to be looked at and nobody holds it."""
    return tx.execute(_next_wake(states)).scalar_one_or_none()


def _next_wake(states: Collection[State]) -> Select[Any]:
    return select(func.min(deployments.c.wake_at)).where(
        deployments.c.wake_at.is_not(None),
        deployments.c.lease_owner.is_(None),
        deployments.c.state.in_([state.value for state in states]),
        deployments.c.kind.in_(KINDS),
    )


_PEEK = select(deployments.c.id, deployments.c.state, deployments.c.version, deployments.c.signal_seq).where(
    deployments.c.id.in_(bindparam("ids", expanding=True))
)


def peek(tx: Tx, ids: Sequence[int]) -> list[tuple[str, int, int] | None]:
    """State, version and signal count of each, cheaply; None: it is gone."""
    found = {row.id: (row.state, row.version, row.signal_seq) for row in tx.execute(_PEEK, {"ids": list(set(ids))})}
    return [found.get(number) for number in ids]


@dataclass(frozen=True, slots=True)
class AtWork:
    """A deployment that holds its target, as far as limits ask."""

    id: int
    service: str
    environment: str
    kind: Kind


def at_work(tx: Tx) -> list[AtWork]:
    """Everything that holds a target now."""
    columns = (deployments.c.id, deployments.c.service, deployments.c.environment, deployments.c.kind)
    found = tx.execute(select(*columns).where(deployments.c.slot.is_not(None)).order_by(deployments.c.id))
    return [AtWork(row.id, row.service, row.environment, _kind(row.kind)) for row in found]


def hold_admission(tx: Tx) -> None:
    """Let nobody else begin work before this transaction ends, so that a counted place is really free."""
    if tx.dialect.name != "sqlite":  # SQLite has one writer anyway
        tx.execute(select(func.pg_advisory_xact_lock(ADMISSION)))


def wake_queued(tx: Tx, at: datetime) -> None:
    """Wake everything that waits in any queue: there may be room now."""
    woken = tx.execute(
        update(deployments)
        .where(deployments.c.state == State.QUEUED.value)
        .values(signal_seq=deployments.c.signal_seq + 1, wake_at=at)
        .returning(deployments.c.id)
    )
    if woken.first() is not None:
        announce(tx, Topic.DEPLOYMENT)


def ids_in(tx: Tx, state: State) -> list[int]:
    """Ids of all deployments in a state that is not final."""
    query = select(deployments.c.id).where(deployments.c.ended_at.is_(None), deployments.c.state == state.value)
    return list(tx.execute(query).scalars())


def holder(tx: Tx, service: str, environment: str) -> Deployment | None:
    """The deployment that holds the target now, or None."""
    return _first(tx, deployments.c.slot == f"{service}/{environment}")


_HOLDERS = select(deployments.c.slot).where(deployments.c.slot.in_(bindparam("targets", expanding=True)))
_IN_QUEUES = select(deployments.c.id, deployments.c.service, deployments.c.environment).where(
    deployments.c.state == State.QUEUED.value,
    tuple_(deployments.c.service, deployments.c.environment).in_(bindparam("targets", expanding=True)),
)


def in_front(tx: Tx, waiting: Sequence[Deployment], at: datetime) -> list[Deployment | None]:
    """Of each that waits in a queue: who holds its target, or is directly in front of it, or None."""
    slots = {one.target for one in waiting}
    held = set(tx.execute(_HOLDERS, {"targets": sorted(slots)}).scalars())
    first: dict[str, int] = {}
    for row in tx.execute(_IN_QUEUES, {"targets": sorted({(one.service, one.environment) for one in waiting})}):
        target = f"{row.service}/{row.environment}"
        first[target] = min(row.id, first.get(target, row.id))
    return [
        holder(tx, one.service, one.environment) or queued_before(tx, one, at)
        if one.target in held or first.get(one.target, one.id) < one.id
        else None
        for one in waiting
    ]


def queued_before(tx: Tx, seen: Deployment, at: datetime) -> Deployment | None:
    """The one directly in front in the queue of the same target, or None; one that waits for its hour is not."""
    query = select(*READ).where(
        deployments.c.service == seen.service,
        deployments.c.environment == seen.environment,
        deployments.c.state == State.QUEUED.value,
        deployments.c.id < seen.id,
    )
    waiting = (as_deployment(row) for row in tx.execute(query.order_by(deployments.c.id.desc())))
    return next((one for one in waiting if one.data.not_before is None or one.data.not_before <= at), None)


def is_any_open(tx: Tx) -> bool:
    """Whether there is a deployment that has not ended."""
    return bool(
        tx.execute(select(select(deployments.c.id).where(deployments.c.ended_at.is_(None)).exists())).scalar_one()
    )


def open_for(tx: Tx, service: str = "", environment: str = "") -> list[Deployment]:
    """Deployments not ended, oldest first; of one service or environment if named."""
    query = select(*READ).where(deployments.c.ended_at.is_(None)).order_by(deployments.c.id)
    # Expressions, for which there is no index: SQLite would go through all that ever was of the target, not through
    # the few that are open, because that index names more of the columns.
    if service:
        query = query.where(deployments.c.service.concat("") == service)
    if environment:
        query = query.where(deployments.c.environment.concat("") == environment)
    return [as_deployment(row) for row in tx.execute(query.limit(500))]


def last_good(
    tx: Tx, service: str, environment: str, before: int | None = None, not_digest: str = ""
) -> Deployment | None:
    """The newest succeeded (or rolled back to) deployment of a target; older than `before`, of another digest."""
    conditions: list[ColumnElement[bool]] = [
        deployments.c.service == service,
        deployments.c.environment == environment,
        deployments.c.state == State.SUCCEEDED.value,
    ]
    if before is not None:
        conditions.append(deployments.c.id < before)
    if not_digest:
        conditions.append(deployments.c.digest != not_digest)
    return _first(tx, *conditions)


def good_with(tx: Tx, service: str, environment: str, version: str) -> Deployment | None:
    """The newest succeeded deployment of that version or digest on the target."""
    return _first(
        tx,
        deployments.c.service == service,
        deployments.c.environment == environment,
        deployments.c.state == State.SUCCEEDED.value,
        or_(deployments.c.release_version == version, deployments.c.digest == version),
    )


def good_versions(tx: Tx, service: str, environment: str, limit: int = 10) -> list[str]:
    """Versions that ran on the target, newest first, each once."""
    query = (
        select(deployments.c.release_version)
        .where(
            deployments.c.service == service,
            deployments.c.environment == environment,
            deployments.c.state == State.SUCCEEDED.value,
        )
        .order_by(deployments.c.id.desc())
        .limit(limit * 4)
    )
    return list(dict.fromkeys(tx.execute(query).scalars()))[:limit]


def history(
    tx: Tx, service: str = "", environment: str = "", limit: int = 10, before: int | None = None
) -> list[Deployment]:
    """The newest deployments, newest first; those with a number below `before`, if given."""
    query = _of(select(*READ), service, environment).order_by(deployments.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(deployments.c.id < before)
    found = [as_deployment(row) for row in tx.execute(query)]
    if len(found) < limit:
        oldest = min((one.id for one in found), default=before)
        older = archive.older(tx, service, environment, oldest, limit - len(found))
        found += [as_deployment(row) for row in older]
    return found


def stuck(tx: Tx, quiet_since: datetime) -> list[Deployment]:
    """Open deployments due before that instant and untouched since: the watchdog's list."""
    query = select(*READ).where(
        deployments.c.ended_at.is_(None), deployments.c.wake_at < quiet_since, deployments.c.changed_at < quiet_since
    )
    return [as_deployment(row) for row in tx.execute(query.limit(100))]


def path(tx: Tx, deployment_id: int) -> list[Transition]:
    """Every change of state, in order."""
    query = select(transitions).where(transitions.c.deployment_id == deployment_id).order_by(transitions.c.version)
    found: Sequence[Any] = tx.execute(query).all()
    if not found and (kept := archive.find(tx, deployment_id)) is not None:
        found = kept.transitions
    return [Transition(row.from_state, row.to_state, row.actor, row.note, row.at) for row in found]


def add_vote(tx: Tx, deployment_id: int, vote: Vote, platform: str) -> bool:
    """Record a vote; False: this person has voted on this subject already."""
    statement = (
        insert_into(tx, votes)
        .values(deployment_id=deployment_id, platform=platform, **asdict(vote))
        .on_conflict_do_nothing()
        .returning(votes.c.id)
    )
    return tx.execute(statement).scalar_one_or_none() is not None


def votes_of(tx: Tx, deployment_id: int) -> list[Vote]:
    """Votes in the order they were given."""
    query = select(votes).where(votes.c.deployment_id == deployment_id).order_by(votes.c.id)
    found: Sequence[Any] = tx.execute(query).all()
    if not found and (kept := archive.find(tx, deployment_id)) is not None:
        found = kept.votes
    return [Vote(row.person, row.subject, row.decision, row.reason, row.at) for row in found]


def touch_cards(tx: Tx, deployment_id: int, at: datetime) -> None:
    """Every message about this deployment wants to be rendered again."""
    at_end(tx, _touch_all, deployment_id)


def _touch_all(tx: Tx, ids: list[int]) -> None:
    # In one order, so that two replicas which touch the same ones do not wait for each other.
    theirs = select(outbox.c.id).where(outbox.c.deployment_id.in_(sorted(set(ids))), outbox.c.dead.is_(False))
    if tx.dialect.name != "sqlite":
        theirs = theirs.order_by(outbox.c.id).with_for_update()
    tx.execute(update(outbox).where(outbox.c.id.in_(theirs)).values(wanted=outbox.c.wanted + 1))


def moved_entry(seen: Deployment, to: State, actor: str, note: str, at: datetime) -> AuditEntry:
    """The audit entry of a change of state."""
    return AuditEntry(at, actor, f"deployment:{to.value}", seen.ref, to.value, "", note or seen.target)


def _log(tx: Tx, deployment_id: int, version: int, old: str, to: State, actor: str, note: str, at: datetime) -> None:
    values = {
        "deployment_id": deployment_id,
        "version": version,
        "from_state": old,
        "to_state": to.value,
        "actor": actor,
        "note": note,
        "at": at,
    }
    at_end(tx, _log_all, values)


_LOG = InsertMany(transitions)


def _log_all(tx: Tx, values: list[dict[str, Any]]) -> None:
    _LOG.run(tx, values)


def _of(query: Any, service: str, environment: str) -> Any:
    if service:
        query = query.where(deployments.c.service == service)
    return query.where(deployments.c.environment == environment) if environment else query


def _first(tx: Tx, *conditions: ColumnElement[bool]) -> Deployment | None:
    query = select(*READ).where(*conditions).order_by(deployments.c.id.desc()).limit(1)
    row = tx.execute(query).one_or_none()
    return as_deployment(row) if row is not None else None


def latest_per_target(tx: Tx, targets: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Deployment]:
    """The newest succeeded deployment of each target named."""
    found = {}
    for service, environment in targets:
        good = last_good(tx, service, environment)
        if good is not None:
            found[service, environment] = good
    return found


def _kind(word: str) -> Kind:
    """A word of a newer Slipway is shown and judged as the strictest we know, and never worked on here."""
    return Kind(word) if word in KINDS else Kind.NORMAL


def as_deployment(row: Any) -> Deployment:
    """Of the columns above, or of an archived record."""
    data = row.data
    return Deployment(
        id=row.id,
        intent=row.intent,
        service=row.service,
        environment=row.environment,
        kind=_kind(row.kind),
        state=State(row.state),
        version=row.version,
        requested_by=row.requested_by,
        origin=Origin(**row.origin),
        reason=row.reason,
        release_version=row.release_version,
        commit=row.commit,
        branch=row.branch,
        digest=row.digest,
        data=Data.model_validate_json(data) if isinstance(data, str) else Data.model_validate(data),
        created_at=row.created_at,
        changed_at=row.changed_at,
        ended_at=row.ended_at,
        wake_at=row.wake_at,
        attempts=row.attempts,
        signal_seq=row.signal_seq,
    )
