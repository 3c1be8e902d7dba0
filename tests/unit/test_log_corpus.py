"""What a person who must fix a build would mark, in logs that real tools wrote, against what `error_lines` shows.

`python -m tests.unit.test_log_corpus` prints the figure, by tool, and every marked line that is not shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.logs import LINE_LIMIT, clean, error_lines, redact

CORPUS = Path(__file__).parents[1] / "corpus"
LIMIT = 20
LOGS = sorted(CORPUS.glob("*.log"))


@dataclass(frozen=True, slots=True)
class Found:
    """One log: how many lines are marked in it, and which of them are not shown."""

    name: str
    wanted: int
    missed: tuple[str, ...]

    @property
    def tool(self) -> str:
        return self.name.partition("-")[0]


def _same(line: str) -> str:
    """A line as it is compared: cleaned, redacted, and no more of it than is shown."""
    return redact(clean(line))[: LINE_LIMIT - 1]


def _found(path: Path) -> Found:
    wanted = [_same(line) for line in path.with_suffix(".wanted").read_text(encoding="utf-8").splitlines()]
    shown = {_same(line) for line in error_lines(path.read_text(encoding="utf-8"), LIMIT)}
    return Found(path.stem, len(wanted), tuple(line for line in wanted if line not in shown))


def _recall(found: list[Found]) -> float:
    wanted = sum(one.wanted for one in found)
    return 1 - sum(len(one.missed) for one in found) / wanted


def report() -> str:
    """Recall over all marked lines, by tool, with every line that was missed."""
    found = [_found(path) for path in LOGS]
    lines = [f"recall {_recall(found):.3f}: {len(LOGS)} logs, {sum(one.wanted for one in found)} marked lines"]
    for tool in sorted({one.tool for one in found}):
        of_tool = [one for one in found if one.tool == tool]
        lines.append(f"  {tool:10} {_recall(of_tool):.3f}")
        lines += [f"    {one.name}: {line[:150]}" for one in of_tool for line in one.missed]
    return "\n".join(lines)


def test_at_least_nineteen_of_twenty_marked_lines_are_shown() -> None:
    """A person who reads the card must not have to open the log to know what to fix."""
    assert _recall([_found(path) for path in LOGS]) >= 0.95, report()


def test_the_corpus_is_wide_enough_to_mean_something() -> None:
    """A high figure over few tools, or over unmarked logs, would say nothing."""
    found = [_found(path) for path in LOGS]
    assert len(found) >= 20
    assert len({one.tool for one in found}) >= 8
    assert all(one.wanted for one in found)
    assert {path.stem for path in LOGS} == {path.stem for path in CORPUS.glob("*.wanted")}


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_every_marked_line_stands_in_its_log_and_no_more_than_twenty_are_shown(path: Path) -> None:
    """Marks that are not in the log cannot be found; a card with more lines is not read; two runs show the same."""
    log = path.read_text(encoding="utf-8")
    there = {_same(line) for line in log.splitlines()}
    assert {_same(line) for line in path.with_suffix(".wanted").read_text(encoding="utf-8").splitlines()} <= there
    shown = error_lines(log, LIMIT)
    assert len(shown) <= LIMIT
    assert shown == error_lines(iter(log.splitlines()), LIMIT)


if __name__ == "__main__":
    print(report())
