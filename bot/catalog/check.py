"""`slipway check DIR`: every mistake of a catalog, as editors and people read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bot.catalog.load import load_catalog
from bot.catalog.model import Catalog
from bot.catalog.problems import CatalogProblems, Problem
from bot.catalog.references import Known


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. problems: by file and line, empty if the catalog is right; catalog: None if it is not."""

    directory: Path
    problems: tuple[Problem, ...]
    catalog: Catalog | None = None


def check(directory: Path, known: Known | None = None) -> Report:
    """Load the directory as the server would. Never raises for a wrong catalog."""
    try:
        return Report(directory, (), load_catalog(directory, known))
    except CatalogProblems as error:
        return Report(directory, error.problems)


def render_report(report: Report) -> str:
    """`file:line: field: message` for each problem and a last line with their number; or what the catalog holds."""
    if report.problems:
        count = len(report.problems)
        lines = [str(problem) for problem in report.problems]
        return "\n".join([*lines, f"{count} {'problem' if count == 1 else 'problems'} in {report.directory}"])
    catalog = report.catalog
    if catalog is None:
        return f"{report.directory} is right"
    parts = [
        _counted(len(catalog.services), "service"),
        _counted(len(catalog.environments), "environment"),
        _counted(len(catalog.teams), "team"),
        "1 person" if len(catalog.people) == 1 else f"{len(catalog.people):,} people",
        _counted(len(catalog.windows), "window"),
        _counted(len(catalog.freezes), "freeze"),
    ]
    return f"{report.directory} is right: {', '.join(parts)}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what if count == 1 else what + 's'}"
