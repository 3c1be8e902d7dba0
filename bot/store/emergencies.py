"""What an emergency leaves behind: a review that is owed, and passes that were given on the server itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    bindparam,
    insert,
    select,
    text,
    update,
)

from bot.store.database import Tx, UtcDateTime, insert_into, metadata
from bot.store.tables import BigId

reviews = Table(
    "reviews",
    metadata,
    Column("deployment_id", BigId, ForeignKey("deployments.id"), primary_key=True, autoincrement=False),
    Column("service", String(128), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("rule", String(100), nullable=False),
    Column("requester", String(128), nullable=False),
    Column("owed_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    # "no", "overdue" or "always": whether it holds up the next ordinary deployment.
    Column("block", String(16), nullable=False, server_default="no"),
    Column("reminders", Integer, nullable=False, server_default=text("0")),
    Column("done_at", UtcDateTime),
    Column("done_by", String(128), nullable=False, server_default=""),
    Column("note", Text, nullable=False, server_default=""),
    Index("ix_reviews_owed", "done_at", "owed_at"),
)

passes = Table(
    "passes",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("person", String(128), nullable=False),
    Column("service", String(128), nullable=False),
    Column("environment", String(64), nullable=False),
    # Empty: whatever the person deploys first.
    Column("version", String(255), nullable=False, server_default=""),
    Column("from_at", UtcDateTime, nullable=False),
    Column("until_at", UtcDateTime, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("given_by", String(128), nullable=False),
    # The one deployment that it let through.
    Column("used_by", BigId),
    Index("ix_passes_target", "service", "environment", "person"),
)


@dataclass(frozen=True, slots=True)
class Review:
    """A review of one deployment that came through the emergency lane. done_at None: it is owed."""

    deployment_id: int
    service: str
    environment: str
    rule: str
    requester: str
    owed_at: datetime
    due_at: datetime
    block: str = "no"
    reminders: int = 0
    done_at: datetime | None = None
    done_by: str = ""
    note: str = ""

    @property
    def ref(self) -> str:
        """`d-12`."""
        return f"d-{self.deployment_id}"


@dataclass(frozen=True, slots=True)
class ServerPass:
    """A pass given on the server, for when chat is down: good for one deployment of one person."""

    person: str
    service: str
    environment: str
    version: str
    from_at: datetime
    until_at: datetime
    reason: str
    given_by: str
    id: int = 0


def owe(tx: Tx, new: Review) -> bool:
    """Note that a review is owed; False: it is noted already."""
    values = {name: getattr(new, name) for name in Review.__slots__}
    statement = insert_into(tx, reviews).values(values).on_conflict_do_nothing().returning(reviews.c.deployment_id)
    return tx.execute(statement).scalar_one_or_none() is not None


def get_review(tx: Tx, deployment_id: int) -> Review | None:
    """The review of a deployment, done or owed; None: none was ever owed."""
    row = tx.execute(select(reviews).where(reviews.c.deployment_id == deployment_id)).one_or_none()
    return _review(row) if row is not None else None


OWED = select(reviews).where(reviews.c.done_at.is_(None)).order_by(reviews.c.owed_at)
"""Built once: every command asks."""


def owed(tx: Tx) -> list[Review]:
    """Every review that is owed, the oldest first."""
    return [_review(row) for row in tx.execute(OWED)]


def since(tx: Tx, start: datetime) -> list[Review]:
    """Every review that was owed since then, done or not, the oldest first."""
    query = select(reviews).where(reviews.c.owed_at >= start).order_by(reviews.c.owed_at)
    return [_review(row) for row in tx.execute(query)]


def finish_review(tx: Tx, seen: Review, at: datetime, by: str, note: str) -> bool:
    """Note that it was done; False: somebody was first."""
    guard = (reviews.c.deployment_id == seen.deployment_id) & reviews.c.done_at.is_(None)
    return tx.execute(update(reviews).where(guard).values(done_at=at, done_by=by, note=note)).rowcount == 1


def reminded(tx: Tx, seen: Review, count: int) -> None:
    """Note how often it was reminded of."""
    tx.execute(update(reviews).where(reviews.c.deployment_id == seen.deployment_id).values(reminders=count))


def give_pass(tx: Tx, new: ServerPass) -> int:
    """Store a pass; returns its number."""
    values = {name: getattr(new, name) for name in ServerPass.__slots__ if name != "id"}
    key = tx.execute(insert(passes).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


GOOD_PASSES = (
    select(passes)
    .where(
        passes.c.used_by.is_(None),
        passes.c.from_at <= bindparam("at", type_=passes.c.from_at.type),
        passes.c.until_at > bindparam("at", type_=passes.c.from_at.type),
    )
    .order_by(passes.c.id)
)
"""Built once: every command asks."""


def good_passes(tx: Tx, at: datetime) -> list[ServerPass]:
    """Every unused pass that is good now."""
    return [_pass(row) for row in tx.execute(GOOD_PASSES, {"at": at})]


def use_pass(tx: Tx, pass_id: int, deployment_id: int) -> bool:
    """Have a deployment use it up; False: another one was first."""
    guard = (passes.c.id == pass_id) & passes.c.used_by.is_(None)
    return tx.execute(update(passes).where(guard).values(used_by=deployment_id)).rowcount == 1


def _review(row: Row[tuple[object, ...]]) -> Review:
    return Review(**{name: getattr(row, name) for name in Review.__slots__})


def _pass(row: Row[tuple[object, ...]]) -> ServerPass:
    return ServerPass(**{name: getattr(row, name) for name in ServerPass.__slots__})
