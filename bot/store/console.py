"""The console's messages, kept in our own database, because the console has no server of its own.

Each message has an `id` for life and a `seq` that grows with every change of any message. Writers take their number
under a lock held until commit, so numbers become visible in order: whoever has read up to a `seq` never misses a lower
one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Table, Text, func, insert, or_, select, update
from sqlalchemy.sql import ColumnElement

from bot.clock import Clock
from bot.store.database import Database, Tx, UtcDateTime, metadata

PAGE = 200
"""Messages given at once."""

SEQ_LOCK = 0x736C_6970_636F_6E73
"""PostgreSQL's advisory lock of the change numbers."""

REPLICA_POLL = 1.0
"""Seconds after which another replica's changes are looked for."""

console_messages = Table(
    "console_messages",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("seq", BigInteger, nullable=False, unique=True),
    # The number it was created with: "after m17" means changes after this one.
    Column("created_seq", BigInteger, nullable=False),
    Column("place", String(255), nullable=False),
    # Whose personal chat it is in; NULL in channels, which everybody sees.
    Column("person", String(128)),
    Column("author", String(128), nullable=False),
    Column("text", Text, nullable=False),
    Column("card", JSON(none_as_null=True)),
    Column("reply_to", BigInteger),
    Column("created_at", UtcDateTime, nullable=False),
    Column("edited_at", UtcDateTime),
    Column("dedupe_key", String(400), unique=True),
    Index("ix_console_messages_place", "place", "person", "id"),
)


@dataclass(frozen=True, slots=True)
class NewConsoleMessage:
    """A message to be added. dedupe_key: the same one again adds nothing; empty: always adds."""

    place: str
    author: str
    text: str
    person: str | None = None
    card: Mapping[str, Any] | None = None
    reply_to: int | None = None
    dedupe_key: str = ""


@dataclass(frozen=True, slots=True)
class ConsoleMessage:
    """A message as it stands. person: whose personal chat it is in, None in channels."""

    id: int
    seq: int
    created_seq: int
    place: str
    person: str | None
    author: str
    text: str
    card: Mapping[str, Any] | None
    reply_to: int | None
    created_at: datetime
    edited_at: datetime | None


class ConsoleStore:
    """Reads and writes console messages, and wakes whoever waits for changes in this process."""

    def __init__(self, db: Database, clock: Clock) -> None:
        """Take the database and the clock that dates the messages."""
        self._db = db
        self._clock = clock
        self._waiting: set[asyncio.Event] = set()
        self._closed = False

    async def add(self, message: NewConsoleMessage) -> ConsoleMessage:
        """Store a message, or return the one that has its dedupe key already."""
        at = self._clock()
        stored = await self._db.run(lambda tx: add(tx, message, at))
        self._wake()
        return stored

    async def edit(self, message_id: int, text: str, card: Mapping[str, Any] | None) -> bool:
        """Replace a message's content. False: there is no such message."""
        at = self._clock()
        found = await self._db.run(lambda tx: edit(tx, message_id, text, card, at))
        self._wake()
        return found

    async def get(self, message_id: int) -> ConsoleMessage | None:
        """One message, or None."""
        return await self._db.read(lambda tx: get(tx, message_id))

    async def newest(self, person: str, place: str = "", before: int | None = None) -> list[ConsoleMessage]:
        """The newest messages this person sees (older than `before`), oldest first."""
        return await self._db.read(lambda tx: newest(tx, person, place, before))

    async def changes(self, person: str, place: str, after: int) -> list[ConsoleMessage]:
        """Messages this person sees that were created or edited since that change, in order of change."""
        return await self._db.read(lambda tx: changes(tx, person, place, after))

    async def elsewhere(self, person: str, after: int) -> list[tuple[int, str]]:
        """(seq, person) of changes since then in the personal chats of others."""
        return await self._db.read(lambda tx: elsewhere(tx, person, after))

    async def last_seq(self) -> int:
        """The number of the newest change, 0 before the first."""
        return await self._db.read(last_seq)

    async def channels(self) -> list[str]:
        """Channels that have messages."""
        return await self._db.read(channels)

    async def unread(self, seen: Mapping[str, int]) -> dict[str, int]:
        """How many messages others wrote in each person's personal chat after the one they saw last (person -> id)."""
        return await self._db.read(lambda tx: unread(tx, seen))

    async def ticks(self, heartbeat: float) -> AsyncIterator[bool]:
        """Yield True at once and when something may have changed, False after `heartbeat` seconds of silence.

        Ends on `close`.
        """
        loop = asyncio.get_running_loop()
        silent_since = loop.time()
        with self._subscribed() as event:
            # At once, because a change may have come before anybody listened.
            yield True
            while not self._closed:
                step = heartbeat if self._db.is_sqlite else min(heartbeat, REPLICA_POLL)
                woken = await _wait(event, step)
                event.clear()
                silent = not woken and loop.time() - silent_since >= heartbeat
                if woken or silent:
                    silent_since = loop.time()
                if not self._closed:
                    yield not silent

    def close(self) -> None:
        """End every stream, so that a server can stop."""
        self._closed = True
        self._wake()

    @contextmanager
    def _subscribed(self) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            yield event
        finally:
            self._waiting.discard(event)

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def add(tx: Tx, message: NewConsoleMessage, at: datetime) -> ConsoleMessage:
    """Store a message, or return the one that has its dedupe key already."""
    seq = _next_seq(tx)  # also the lock under which the look-up below stays true
    if message.dedupe_key and (known := _one(tx, console_messages.c.dedupe_key == message.dedupe_key)):
        return known
    statement = insert(console_messages).values(
        seq=seq,
        created_seq=seq,
        place=message.place,
        person=message.person,
        author=message.author,
        text=message.text,
        card=dict(message.card) if message.card is not None else None,
        reply_to=message.reply_to,
        created_at=at,
        dedupe_key=message.dedupe_key or None,
    )
    return _row(tx.execute(statement.returning(console_messages)).one())


def edit(tx: Tx, message_id: int, text: str, card: Mapping[str, Any] | None, at: datetime) -> bool:
    """Replace a message's content; the same content again is no change. False: there is no such message."""
    seq = _next_seq(tx)
    known = get(tx, message_id)
    if known is None:
        return False
    new_card = dict(card) if card is not None else None
    if (known.text, known.card) != (text, new_card):
        statement = update(console_messages).where(console_messages.c.id == message_id)
        tx.execute(statement.values(seq=seq, text=text, card=new_card, edited_at=at))
    return True


def get(tx: Tx, message_id: int) -> ConsoleMessage | None:
    """One message, or None."""
    return _one(tx, console_messages.c.id == message_id)


def newest(tx: Tx, person: str, place: str = "", before: int | None = None) -> list[ConsoleMessage]:
    """The newest messages this person sees (older than `before`), oldest first."""
    query = select(console_messages).where(*_visible(person, place))
    if before is not None:
        query = query.where(console_messages.c.id < before)
    rows = tx.execute(query.order_by(console_messages.c.id.desc()).limit(PAGE)).all()
    return [_row(row) for row in reversed(rows)]


def changes(tx: Tx, person: str, place: str, after: int) -> list[ConsoleMessage]:
    """Messages this person sees that were created or edited since that change, in order of change."""
    query = select(console_messages).where(console_messages.c.seq > after, *_visible(person, place))
    return [_row(row) for row in tx.execute(query.order_by(console_messages.c.seq).limit(PAGE))]


def elsewhere(tx: Tx, person: str, after: int) -> list[tuple[int, str]]:
    """(seq, person) of changes since then in the personal chats of others."""
    c = console_messages.c
    query = select(c.seq, c.person).where(c.seq > after, c.person.is_not(None), c.person != person)
    return [(row.seq, row.person) for row in tx.execute(query.order_by(c.seq).limit(PAGE))]


def last_seq(tx: Tx) -> int:
    """The number of the newest change, 0 before the first."""
    newest_seq: int = tx.execute(select(func.coalesce(func.max(console_messages.c.seq), 0))).scalar_one()
    return newest_seq


def channels(tx: Tx) -> list[str]:
    """Channels that have messages."""
    query = select(console_messages.c.place).where(console_messages.c.person.is_(None)).distinct()
    return sorted(tx.execute(query).scalars())


def unread(tx: Tx, seen: Mapping[str, int]) -> dict[str, int]:
    """How many messages others wrote in each person's personal chat after the one they saw last (person -> id)."""
    c = console_messages.c
    if not seen:
        return {}
    newest_id: int = tx.execute(select(func.coalesce(func.max(c.id), 0))).scalar_one()
    # A number higher than any there is comes from another database: then nothing was seen.
    known = {person: last if last <= newest_id else 0 for person, last in seen.items()}
    newer: Sequence[ColumnElement[bool]] = [(c.person == person) & (c.id > last) for person, last in known.items()]
    query = select(c.person, func.count()).where(or_(*newer), c.author != c.person).group_by(c.person)
    counts = {row[0]: row[1] for row in tx.execute(query)}
    return {person: counts.get(person, 0) for person in seen}


def _next_seq(tx: Tx) -> int:
    if tx.dialect.name == "postgresql":
        # Held until commit: a sequence would let a reader see 8 before 7 is committed, and miss 7 for ever.
        tx.execute(select(func.pg_advisory_xact_lock(SEQ_LOCK)))
    return last_seq(tx) + 1


def _visible(person: str, place: str) -> list[ColumnElement[bool]]:
    c = console_messages.c
    mine = or_(c.person.is_(None), c.person == person)
    return [mine, c.place == place] if place else [mine]


def _one(tx: Tx, condition: ColumnElement[bool]) -> ConsoleMessage | None:
    row = tx.execute(select(console_messages).where(condition)).one_or_none()
    return _row(row) if row is not None else None


def _row(row: Any) -> ConsoleMessage:
    return ConsoleMessage(
        id=row.id,
        seq=row.seq,
        created_seq=row.created_seq,
        place=row.place,
        person=row.person,
        author=row.author,
        text=row.text,
        card=row.card,
        reply_to=row.reply_to,
        created_at=row.created_at,
        edited_at=row.edited_at,
    )
