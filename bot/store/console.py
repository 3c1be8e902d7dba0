"""The console's messages, kept in our own database, because the console has no server of its own.

Each message has an `id` for life and a `seq` that grows with every change of any message. Writers take their number
under a lock held until commit, so numbers become visible in order: whoever has read up to a `seq` never misses a lower
one. A sequence would let a reader see 8 before 7 is committed, and miss 7 for ever. On PostgreSQL number and change are
one statement that commits by itself: a process that is slow or stopped in the middle holds up no other replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    column,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql import ColumnElement

from bot.clock import Clock
from bot.store.batches import Batches
from bot.store.database import Database, Tx, UtcDateTime, insert_of, metadata

PAGE = 200
"""Messages given at once."""

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


_GIVEN = ("place", "person", "author", "text", "card", "reply_to", "created_at", "dedupe_key")
_GIVEN_BACK = (console_messages.c.id, console_messages.c.seq, console_messages.c.dedupe_key)
"""What the database says of a new message; the rest is as it was given."""
_NEXT_SEQ = func.console_next_seq(type_=BigInteger)
"""On PostgreSQL; it holds the lock until commit."""
# On SQLite there is one writer at a time, so the highest number is the last one given.
_HIGHEST = select(func.coalesce(func.max(console_messages.c.seq), 0)).scalar_subquery()


@cache
def _insert_all() -> Any:
    """One statement for any number of messages, given as JSON with their order: built once, for building costs more.

    The first of them takes the number under the lock, the others count on from it.
    """
    shapes = [column("nth", Integer), *(column(name, console_messages.c[name].type) for name in _GIVEN)]
    given = func.json_to_recordset(bindparam("messages", type_=JSON)).table_valued(*shapes)
    given = given.render_derived("given", with_types=True)
    first = select(_NEXT_SEQ.label("seq")).cte("first")
    seq = first.c.seq + given.c.nth
    rows = select(seq, seq, *(given.c[name] for name in _GIVEN)).select_from(first.join(given, true()))
    filled = insert_of("postgresql")(console_messages).from_select(
        ["seq", "created_seq", *_GIVEN], rows.order_by(given.c.nth)
    )
    return filled.on_conflict_do_nothing(index_elements=["dedupe_key"]).returning(*_GIVEN_BACK)


@cache
def _insert_one() -> Any:
    """On SQLite."""
    numbered = insert_of("sqlite")(console_messages).values(seq=_HIGHEST + 1, created_seq=_HIGHEST + 1)
    return numbered.on_conflict_do_nothing(index_elements=["dedupe_key"]).returning(*_GIVEN_BACK)


_UPDATES = {
    dialect: update(console_messages).where(console_messages.c.id == bindparam("the_id")).values(seq=number)
    for dialect, number in (("sqlite", _HIGHEST + 1), ("postgresql", _NEXT_SEQ))
}


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


_Dated = tuple[NewConsoleMessage, datetime]


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
        # Apart, so that whoever types waits for no answers, which are larger and come in bursts.
        self._saying: Batches[_Dated, ConsoleMessage] = Batches(self._add_all)
        self._answering: Batches[_Dated, ConsoleMessage] = Batches(self._add_all)
        self._closed = False

    async def add(self, message: NewConsoleMessage) -> ConsoleMessage:
        """Store a message, or return the one that has its dedupe key already."""
        # Always with a key, because the statement may be run again when its answer was lost.
        keyed = message if message.dedupe_key else replace(message, dedupe_key=f"once:{uuid4().hex}")
        at = self._clock()
        if self._db.is_sqlite:
            stored = await self._db.together(lambda tx: add_all(tx, [(keyed, at)])[0])
        else:
            batches = self._answering if keyed.reply_to is not None or keyed.card is not None else self._saying
            stored = await batches.add((keyed, at))
        self._wake()
        return stored

    async def _add_all(self, messages: Sequence[_Dated]) -> list[ConsoleMessage]:
        return await self._db.at_once(lambda tx: add_all(tx, messages))

    async def edit(self, message_id: int, text: str, card: Mapping[str, Any] | None) -> bool:
        """Replace a message's content. False: there is no such message."""
        at = self._clock()
        found = await self._db.at_once(lambda tx: edit(tx, message_id, text, card, at))
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


def add_all(tx: Tx, messages: Sequence[_Dated]) -> list[ConsoleMessage]:
    """Store messages with dedupe keys, or find those that are here already. One statement, if all are new."""
    keys = [message.dedupe_key for message, _ in messages]
    if tx.dialect.name == "sqlite":
        rows = [row for one in messages for row in tx.execute(_insert_one(), _values(*one))]
    else:
        given = [_values(*one) | {"nth": nth, "created_at": one[1].isoformat()} for nth, one in enumerate(messages)]
        rows = list(tx.execute(_insert_all(), {"messages": given}))
    new = {message.dedupe_key: (message, at) for message, at in reversed(messages)}
    stored = {row[2]: _stored(*new[row[2]], number=row[0], seq=row[1]) for row in rows}
    if repeats := [key for key in keys if key not in stored]:
        known = select(console_messages).where(console_messages.c.dedupe_key.in_(repeats))
        stored |= {row.dedupe_key: _row(row) for row in tx.execute(known)}
    return [stored[key] for key in keys]


def _stored(message: NewConsoleMessage, at: datetime, number: int, seq: int) -> ConsoleMessage:
    return ConsoleMessage(
        id=number,
        seq=seq,
        created_seq=seq,
        place=message.place,
        person=message.person,
        author=message.author,
        text=message.text,
        card=message.card,
        reply_to=message.reply_to,
        created_at=at,
        edited_at=None,
    )


def _values(message: NewConsoleMessage, at: datetime) -> dict[str, Any]:
    return {
        "place": message.place,
        "person": message.person,
        "author": message.author,
        "text": message.text,
        "card": dict(message.card) if message.card is not None else None,
        "reply_to": message.reply_to,
        "created_at": at,
        "dedupe_key": message.dedupe_key,
    }


def edit(tx: Tx, message_id: int, text: str, card: Mapping[str, Any] | None, at: datetime) -> bool:
    """Replace a message's content; the same content again is no change. False: there is no such message."""
    known = get(tx, message_id)
    if known is None:
        return False
    new_card = dict(card) if card is not None else None
    if (known.text, known.card) != (text, new_card):
        values = {"the_id": message_id, "text": text, "card": new_card, "edited_at": at}
        tx.execute(_UPDATES[tx.dialect.name], values)
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
