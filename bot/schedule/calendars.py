"""Tells, once, that a calendar's next year is not published: rules that ask about it will keep everything closed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bot.catalog import messages
from bot.catalog.model import Catalog
from bot.clock import Clock
from bot.policy.calendars import missing_year
from bot.store import outbox
from bot.store.database import Database, Tx
from bot.store.outbox import NewNotice, Notice


class CalendarWatch:
    """Looks at every calendar of the catalog; housekeeping calls it."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        platforms: Sequence[str],
        clock: Clock,
        poke: Callable[[], None],
    ) -> None:
        """poke: called when there is something to send."""
        self._db = db
        self._catalog = catalog
        self._platforms = platforms
        self._clock = clock
        self._poke = poke

    async def look(self) -> None:
        """Tell the company's channels of each year that is missing within 30 days; each once, by the message's key."""
        catalog, at = self._catalog(), self._clock()
        missing = {
            calendar.name: (calendar.region, year)
            for calendar in catalog.calendars.values()
            if (year := missing_year(calendar, at.date())) is not None
        }

        def work(tx: Tx) -> None:
            for name, (region, year) in missing.items():
                why = messages.unpublished(year, region)
                text = f"Calendar {name}: {why} Upgrade Slipway, or write the days yourself."
                for platform, place in catalog.channels.items():
                    if platform in self._platforms:
                        content = {"text": text, "card": None}
                        key = f"calendar:{name}:{year}:{platform}"[:255]
                        outbox.put(tx, NewNotice(key, platform, place, Notice.MESSAGE, content=content), at)

        if missing:
            await self._db.run(work)
            self._poke()
