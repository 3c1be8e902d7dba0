"""A year that nobody published is told of before it begins, and only once."""

from __future__ import annotations

from datetime import timedelta

from bot.catalog.model import Calendar
from bot.policy.calendars import is_published
from bot.schedule.calendars import CalendarWatch
from bot.store.database import Database
from tests.support.clock import FakeClock
from tests.support.rules import a_catalog, utc


async def test_a_missing_year_is_told_thirty_days_ahead(db: Database) -> None:
    """Later would be on New Year's Day, when everything is closed and nobody is there."""
    china = Calendar("china", "CN")
    year = next(year for year in range(2026, 2100) if not is_published(china, year))
    catalog = a_catalog(calendars={"china": china}, channels={"console": "#releases", "slack": "C1"})
    clock, pokes = FakeClock(utc(year - 1, 12, 1)), []
    watch = CalendarWatch(db, lambda: catalog, ("console",), clock, lambda: pokes.append(clock()))
    await watch.look()
    assert (pokes, db.run_sync(_messages)) == ([], 0)
    for _ in range(3):
        clock.advance(timedelta(days=1))
        await watch.look()
    assert (len(pokes), db.run_sync(_messages)) == (3, 1)


def _messages(tx: object) -> int:
    from sqlalchemy import func, select

    from bot.store.tables import outbox

    return int(tx.execute(select(func.count()).select_from(outbox)).scalar_one())  # type: ignore[attr-defined]
