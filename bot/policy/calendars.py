"""Which days are worked: the company's days, else the region's holidays and make-up workdays, else the weekend.

China's yearly notice (holidays and shifted weekends) is `chinesecalendar`'s; other regions are `holidays`' data. A year
that the data does not reach is unknown, and every rule that asks about it fails closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from bot.catalog.model import Calendar, DayKind

if TYPE_CHECKING:
    from holidays import HolidayBase

CHINA = "CN"
WARN_AHEAD = timedelta(days=30)
"""How long before an unpublished year its absence is told."""


@dataclass(frozen=True, slots=True)
class Day:
    """kind: WORKDAYS or HOLIDAYS (weekends too); name: of the holiday, or why it is worked; may be empty."""

    kind: DayKind
    name: str = ""


@lru_cache(maxsize=65536)
def day_of(calendar: Calendar, day: date) -> Day | None:
    """What a day is; None: the year is not published, nobody knows."""
    for kind, days in ((DayKind.WORKDAYS, calendar.work), (DayKind.HOLIDAYS, calendar.rest)):
        for known, name in days:
            if known == day:
                return Day(kind, name)
    weekend = Day(DayKind.HOLIDAYS if day.weekday() in calendar.weekend else DayKind.WORKDAYS)
    if not calendar.region:
        return weekend
    if not is_published(calendar, day.year):
        return None
    return _in_china(day) if calendar.region == CHINA else _elsewhere(calendar.region, day) or weekend


def is_published(calendar: Calendar, year: int) -> bool:
    """Whether the region's days of that year are known."""
    if not calendar.region:
        return True
    if calendar.region == CHINA:
        import chinese_calendar.constants as published

        years = {day.year for day in published.holidays}
        return year in years
    try:
        made = _region(calendar.region, year)
    except (NotImplementedError, ValueError):
        return False
    return made.start_year <= year <= made.end_year and bool(made)


def is_region(region: str) -> bool:
    """Whether there is data for that code."""
    return region == CHINA or region in regions()


@lru_cache(maxsize=1)
def regions() -> frozenset[str]:
    """Every code with data: countries, and countries with subdivisions."""
    from holidays import list_supported_countries

    known = list_supported_countries(include_aliases=False)
    subdivisions = {f"{country}-{part}" for country, parts in known.items() for part in parts}
    return frozenset({CHINA, *known, *subdivisions})


def missing_year(calendar: Calendar, today: date) -> int | None:
    """The unpublished year that a rule of this calendar meets within `WARN_AHEAD`, None if there is none."""
    return next(
        (year for year in sorted({today.year, (today + WARN_AHEAD).year}) if not is_published(calendar, year)), None
    )


def _in_china(day: date) -> Day:
    import chinese_calendar

    worked = bool(chinese_calendar.is_workday(day))
    _, name = chinese_calendar.get_holiday_detail(day)
    if worked:
        return Day(DayKind.WORKDAYS, f"make-up workday for {name}" if name and day.weekday() >= 5 else "")
    return Day(DayKind.HOLIDAYS, str(name or ""))


def _elsewhere(region: str, day: date) -> Day | None:
    name = _region(region, day.year).get(day)
    return Day(DayKind.HOLIDAYS, str(name)) if name else None


@lru_cache(maxsize=256)
def _region(region: str, year: int) -> HolidayBase:
    from holidays import country_holidays

    country, _, subdivision = region.partition("-")
    return country_holidays(country, subdiv=subdivision or None, years=year)
