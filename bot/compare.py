"""`slipway policy compare`: our windows and freezes beside those of other systems, for every target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from bot.catalog.find import find_environment, find_service
from bot.catalog.model import Catalog, Freeze
from bot.policy.foreign import conflicts
from bot.settings import Settings
from bot.sources.elsewhere import Elsewhere
from bot.times import say_when

AHEAD = timedelta(days=14)


async def compare(
    settings: Settings,
    catalog: Catalog,
    freezes: Sequence[Freeze],
    service: str,
    environment: str,
    now: datetime,
    say: Callable[[str], None],
) -> int:
    """Say every conflict of the next 14 days and everything that could not be read; returns how many."""
    elsewhere = Elsewhere(settings, lambda: now)
    try:
        return await _compared(elsewhere, catalog, freezes, service, environment, now, say)
    finally:
        await elsewhere.close()


async def _compared(
    elsewhere: Elsewhere,
    catalog: Catalog,
    freezes: Sequence[Freeze],
    service: str,
    environment: str,
    now: datetime,
    say: Callable[[str], None],
) -> int:
    services = [find_service(catalog, service)] if service else list(catalog.services.values())
    place = find_environment(catalog, environment).name if environment else ""
    warned = 0
    for one in services:
        for name, target in one.targets.items():
            if place not in ("", name):
                continue
            read = await elsewhere.of(one, target)
            found = conflicts(catalog, freezes, one, name, read.rules, now, now + AHEAD)
            for problem in read.problems:
                say(f"{one.name}/{name}: {problem}")
            for conflict in found:
                start, end = say_when(conflict.start, catalog.zone), say_when(conflict.end, catalog.zone)
                say(f"{one.name}/{name}: {conflict.system} would block from {start} to {end}: {conflict.rule}")
            warned += len(read.problems) + len(found)
    return warned
