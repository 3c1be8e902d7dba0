"""Replicas go one after the other, as long as that is better than not to go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bot.store import turns
from bot.store.database import Database
from bot.store.migrate import migrate
from bot.store.turns import Turns


@pytest.fixture
def replicas(postgres_url: str) -> Iterator[tuple[Turns, Turns]]:
    here, there = Database(postgres_url), Database(postgres_url)
    migrate(here)
    yield Turns(here), Turns(there)
    here.close()
    there.close()


async def test_one_replica_at_a_time_is_at_a_thing(replicas: tuple[Turns, Turns]) -> None:
    """The second one goes when the first has ended, also badly; what is about another thing does not wait."""
    first, second = replicas
    order: list[str] = []
    begun, waits = asyncio.Event(), asyncio.Event()

    async def one() -> None:
        async with first.turn("config main"):
            begun.set()
            await waits.wait()
            order.append("first")
            raise ValueError("a push that failed")

    async def other() -> None:
        await begun.wait()
        async with second.turn("config release"):
            waits.set()
        async with second.turn("config main"):
            order.append("second")

    ended = await asyncio.wait_for(asyncio.gather(one(), other(), return_exceptions=True), 20)
    assert isinstance(ended[0], ValueError)
    assert ended[1] is None
    assert order == ["first", "second"]


async def test_nobody_waits_for_ever(replicas: tuple[Turns, Turns], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a courtesy: Git itself refuses who is too late, and a replica may hang in its turn."""
    monkeypatch.setattr(turns, "PATIENCE", 0.0)
    first, second = replicas
    async with first.turn("config main"), asyncio.timeout(20), second.turn("config main"):
        pass
    async with asyncio.timeout(20), second.turn("config main"):  # The first one's was not taken from it, and it left.
        pass


async def test_a_database_that_is_away_keeps_nobody(tmp_path: object) -> None:
    """Then the push goes ahead."""
    db = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    async with asyncio.timeout(20), Turns(db).turn("config main"):
        pass
    db.close()
