"""A report as a card with a chart, and as JSON."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from bot.reports.measures import Measures, Report, SlowStage
from bot.times import say_for, zone_of
from notifiers.card import Card, Chart, Series

GOOD, BAD = "succeeded", "failed"


def card_of(report: Report, team: str = "") -> Card:
    """The figures of all, or of one team, as people read them. team: its id."""
    figures = report.teams.get(team, Measures()) if team else report.whole
    about = f"Releases of {team}" if team else "Releases"
    title = f"{about}, {_day(report.start, report.zone)} to {_day(report.end - timedelta(seconds=1), report.zone)}"
    fields = fields_of(figures, report)
    if not team and len(report.teams) > 1:
        fields |= {f"team {name}": _line(each) for name, each in report.teams.items()}
    chart = chart_of(figures, report.days, title)
    if chart is not None:
        fields["picture"] = "green: succeeded, red: failed, by day"
    return Card(title, fields=fields, chart=chart)


def fields_of(figures: Measures, report: Report) -> dict[str, str]:
    """Label -> value; what could not be measured says so."""
    per_day = figures.changes / max(1, len(report.days))
    fields = {
        "deployments": _states(figures),
        "to production": f"{figures.changes} ({per_day:.1f} a day) to {', '.join(report.production)}",
        "lead time for changes": _lead(figures),
        "change failure rate": _rate(figures),
        "time to restore": _restore(figures),
        "emergency passes": _refs(figures.emergency),
        "reviews owed": _refs(figures.owed),
    }
    if figures.slowest:
        fields["slowest stages"] = "; ".join(_stage(one) for one in figures.slowest)
    return fields


def chart_of(figures: Measures, days: tuple[date, ...], title: str) -> Chart | None:
    """Bars by day; none where there is nothing to see."""
    if not any(good or bad for good, bad in figures.days):
        return None
    labels = tuple(f"{day:%m-%d}" for day in days)
    good, bad = (tuple(values) for values in zip(*figures.days, strict=True))
    return Chart(title, labels, (Series("succeeded", good, GOOD), Series("failed", bad, BAD)))


def json_of(report: Report) -> dict[str, Any]:
    """The same for programs; lengths of time in seconds, null where there was nothing to measure."""
    return {
        "start": report.start.isoformat(),
        "end": report.end.isoformat(),
        "zone": report.zone,
        "production": list(report.production),
        "whole": _json(report.whole, report.days),
        "teams": {name: _json(each, report.days) for name, each in report.teams.items()},
    }


def _json(figures: Measures, days: tuple[date, ...]) -> dict[str, Any]:
    return {
        "deployments": figures.deployments,
        "by_state": dict(figures.by_state),
        "days": [
            {"day": day.isoformat(), "succeeded": good, "failed": bad}
            for day, (good, bad) in zip(days, figures.days, strict=False)
        ],
        "changes": figures.changes,
        "deployment_frequency_per_day": figures.changes / max(1, len(days)),
        "lead_time_seconds": _seconds(figures.lead_time),
        "lead_time_commits": figures.lead_commits,
        "change_failure_rate": figures.failure_rate,
        "failed_changes": list(figures.failures),
        "time_to_restore_seconds": _seconds(figures.time_to_restore),
        "not_restored": list(figures.broken),
        "emergency_passes": list(figures.emergency),
        "reviews_owed": list(figures.owed),
        "slowest_stages": [
            {"stage": one.name, "median_seconds": one.median, "longest_seconds": one.longest, "deployment": one.ref}
            for one in figures.slowest
        ],
    }


def _seconds(length: timedelta | None) -> float | None:
    return length.total_seconds() if length is not None else None


def _states(figures: Measures) -> str:
    said = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in figures.by_state.items())
    return f"{figures.deployments}: {said}" if said else "none"


def _lead(figures: Measures) -> str:
    if figures.lead_time is None:
        return "not known"
    return f"{say_for(figures.lead_time)} from commit to production (median of {figures.lead_commits} commits)"


def _rate(figures: Measures) -> str:
    if figures.failure_rate is None:
        return "nothing changed"
    return f"{figures.failure_rate:.0%} ({len(figures.failures)} of {figures.changes})"


def _restore(figures: Measures) -> str:
    said = [f"{say_for(figures.time_to_restore)} (median)"] if figures.time_to_restore is not None else []
    if figures.broken:
        said.append(f"not yet good again: {', '.join(figures.broken[:10])}")
    return "; ".join(said) or "nothing to restore"


def _refs(refs: tuple[str, ...]) -> str:
    return f"{len(refs)}: {', '.join(refs[:20])}" if refs else "none"


def _stage(one: SlowStage) -> str:
    median, longest = (say_for(timedelta(seconds=seconds)) for seconds in (one.median, one.longest))
    return f"{one.name} {median} (median), {longest} in {one.ref}"


def _line(figures: Measures) -> str:
    """A team in a line of the whole."""
    rate = f", {figures.failure_rate:.0%} of changes failed" if figures.failure_rate is not None else ""
    lead = f", lead time {say_for(figures.lead_time)}" if figures.lead_time is not None else ""
    passes = f", {len(figures.emergency)} emergency passes" if figures.emergency else ""
    return f"{figures.deployments} deployments{rate}{lead}{passes}"


def _day(at: datetime, zone: str) -> str:
    return f"{at.astimezone(zone_of(zone)):%Y-%m-%d}"
