"""Notes about outside runs: the reason why none is asked for twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from bot.store.database import Database
from bot.store.migrate import migrate
from bot.store.runs import StoredRuns
from tests.support.clock import FakeClock


@pytest.fixture
def runs(database_url: str) -> Iterator[StoredRuns]:
    db = Database(database_url)
    migrate(db)
    yield StoredRuns(db)
    db.close()


async def test_a_note_survives_every_step(runs: StoredRuns, clock: FakeClock) -> None:
    """What was learned once is never emptied by a later sending or a later answer."""
    assert await runs.recall("d-1:build") is None
    first = await runs.sending("d-1:build", "jenkins", "team/pay", clock())
    assert (first.sends, first.run_id, first.handle) == (1, "", "")
    await runs.started("d-1:build", handle="82")
    again = await runs.sending("d-1:build", "jenkins", "team/pay", clock() + timedelta(minutes=1))
    assert (again.sends, again.handle, again.sent_at) == (2, "82", clock() + timedelta(minutes=1))
    await runs.started("d-1:build", run_id="17")
    note = await runs.recall("d-1:build")
    assert note is not None
    assert (note.run_id, note.handle) == ("17", "82")


async def test_only_a_note_without_a_run_is_dropped(runs: StoredRuns, clock: FakeClock) -> None:
    """A refusal clears the way for another try; a late refusal of a run that exists does not."""
    for intent in ("a", "b"):
        await runs.sending(intent, "jenkins", "pay", clock())
    await runs.started("b", run_id="17")
    for intent in ("a", "b"):
        await runs.unsent(intent)
    assert await runs.recall("a") is None
    assert await runs.recall("b") is not None


async def test_a_run_leads_to_its_intent(runs: StoredRuns, clock: FakeClock) -> None:
    """An event that names only the run wakes the right deployment: numbers repeat between jobs and systems."""
    for intent, provider, job in (("a", "jenkins", "pay"), ("b", "jenkins", "gate"), ("c", "gitlab", "pay")):
        await runs.sending(intent, provider, job, clock())
        await runs.started(intent, run_id="17")
    found = [await runs.by_run("jenkins", "pay", "17"), await runs.by_run("gitlab", "", "17")]
    assert [note.intent if note else "" for note in found] == ["a", "c"]
    assert await runs.by_run("jenkins", "pay", "18") is None
