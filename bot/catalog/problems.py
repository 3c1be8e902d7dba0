"""What is wrong with a catalog, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bot.catalog import messages
from bot.errors import CatalogInvalid

Path = tuple[str | int, ...]
"""Where a value is in a file: keys and list positions (0-based) from the top."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake.

    file: relative to the catalog directory. line: 1-based, 0 for the file as a whole. field: for instance
    `windows[0].hours`, empty for the whole file. message: one sentence with what to write instead.
    """

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        """`file:line: field: message`, as editors understand it."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.field, self.message) if part)


class CatalogProblems(CatalogInvalid):
    """The catalog directory is wrong; `problems` has every mistake, by file and line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep all problems; the message tells the first few."""
        self.problems = tuple(sorted(problems))
        lines = [str(problem) for problem in self.problems]
        super().__init__(messages.summary(lines), hint="Correct it; `slipway check` lists everything.")


def field_of(path: Path) -> str:
    """`windows[0].hours`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
