"""What one replica tells the others at once: LISTEN/NOTIFY of PostgreSQL, sent with the commit that it is about.

A signal only says "look now" and may be lost (the listener reconnects), so behind it everybody looks at the tables
every few seconds. On SQLite there is one process and nothing to send.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import structlog

from bot.store.database import SENDER, SIGNALS, Database, Tx

log = structlog.get_logger(__name__)

CHANNEL = "slipway"
LONGEST_PAUSE = 5.0
"""Seconds between two tries to listen again."""


class Topic(StrEnum):
    """What to look at. A topic of a newer replica is passed over by an older one."""

    DEPLOYMENT = "deployment"
    OUTBOX = "outbox"
    JOB = "job"


_TOPICS = {topic.value: topic for topic in Topic}

Listener = Callable[[Topic, int], None]
"""Called in the event loop with a topic and the row's number, 0 for all."""


def announce(tx: Tx, topic: Topic, number: int = 0) -> None:
    """Tell the other replicas when this transaction commits; said twice, sent once."""
    if tx.dialect.name != "sqlite":
        tx.info.setdefault(SIGNALS, {})[CHANNEL, f"{tx.get_execution_options()[SENDER]} {topic.value} {number}"] = None


class Signals:
    """Listens to the other replicas and calls back; what was missed while not listening is made up by one call."""

    def __init__(self, db: Database, listener: Listener) -> None:
        """Take whom to call; nothing is opened yet."""
        self._db = db
        self._listener = listener
        self._task: asyncio.Task[None] | None = None
        self.listening = asyncio.Event()

    def start(self) -> None:
        """Begin to listen; nothing on SQLite."""
        if not self._db.is_sqlite:
            self._task = asyncio.create_task(self._for_ever())

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _for_ever(self) -> None:
        import psycopg

        pause = 0.1
        while True:
            try:
                await self._listen(psycopg)
            except (psycopg.Error, OSError) as error:
                log.warning("signals_interrupted", error=type(error).__name__)
            pause = 0.1 if self.listening.is_set() else min(LONGEST_PAUSE, pause * 2)
            self.listening.clear()
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311

    async def _listen(self, psycopg: Any) -> None:
        address = self._db.url.set(drivername="postgresql").render_as_string(hide_password=False)
        # A connection that died silently is noticed within about fifteen seconds.
        keep = {"keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3, "connect_timeout": 5}
        async with await psycopg.AsyncConnection.connect(address, autocommit=True, **keep) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self.listening.set()
            for topic in Topic:
                self._listener(topic, 0)
            while True:
                async for heard in connection.notifies(timeout=0):
                    self._heard(heard.payload)
                # psycopg's own wait for the next one wakes ten times a second, which is half of what idling costs.
                await _readable(connection.fileno())

    def _heard(self, payload: str) -> None:
        sender, _, rest = payload.partition(" ")
        word, _, number = rest.partition(" ")
        topic = _TOPICS.get(word)
        if topic is not None and sender != self._db.sender and number.isdigit():
            self._listener(topic, int(number))


async def _readable(number: int) -> None:
    """Wait until there is something to read, be it the end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(number, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(number)
