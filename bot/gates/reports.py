"""What report files say: JUnit XML, and coverage as JaCoCo, Cobertura or LCOV. Pure: bytes in, numbers out.

A file that cannot be understood is an error and never a pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

_ROOT = re.compile(rb"<([A-Za-z][\w.-]*)")
LIMIT = 50_000_000
"""Bytes of one report."""


class ReportUnreadable(ValueError):
    """It is not the report it should be; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Totals of a JUnit report. failed: names, in their order; errors count as failures."""

    total: int = 0
    skipped: int = 0
    failed: tuple[str, ...] = field(default=())

    def __add__(self, other: Counted) -> Counted:
        """Of several reports together."""
        return Counted(self.total + other.total, self.skipped + other.skipped, self.failed + other.failed)


def read_junit(data: bytes) -> Counted:
    """Count the test cases themselves: the totals in the attributes are often wrong or missing.

    Raises ReportUnreadable.
    """
    root = _parse(data, ("testsuites", "testsuite"))
    total, skipped, failed = 0, 0, []
    for case in root.iter("testcase"):
        total += 1
        if case.find("skipped") is not None:
            skipped += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(".".join(part for part in (case.get("classname"), case.get("name")) if part))
    # A suite that broke before its first test has an error and no case.
    failed += [f"{suite.get('name', 'a suite')} itself" for suite in root.iter("testsuite") if _broke(suite)]
    return Counted(total, skipped, tuple(failed))


def _broke(suite: ElementTree.Element) -> bool:
    return suite.find("error") is not None or suite.find("failure") is not None


def read_coverage(data: bytes) -> float:
    """Covered lines in percent, of whichever format it is.

    Raises ReportUnreadable: no known format, or no lines at all (nothing measured is not 100 %).
    """
    covered, total = read_lines(data)
    if total <= 0:
        raise ReportUnreadable("it counts no lines")
    return 100 * covered / total


def read_lines(data: bytes) -> tuple[float, float]:
    """Covered lines and all lines of one report. Raises ReportUnreadable."""
    start = data.lstrip()[:1]
    return _xml_lines(data) if start == b"<" else _lcov_lines(data)


def is_junit(data: bytes) -> bool:
    """Whether a file calls itself a test report; whether it is a good one is found when it is read."""
    return _root_of(data) in (b"testsuite", b"testsuites")


def is_coverage(data: bytes) -> bool:
    """Whether a file calls itself a coverage report."""
    return _root_of(data) in (b"report", b"coverage") or data.lstrip()[:3] in (b"TN:", b"SF:")


def _root_of(data: bytes) -> bytes:
    found = _ROOT.search(data[:4096])
    return found[1] if found else b""


def _xml_lines(data: bytes) -> tuple[float, float]:
    root = _parse(data, ("report", "coverage"))
    if root.tag == "report":
        # JaCoCo: the counters of the whole report are children of its root.
        counter = next((one for one in root.findall("counter") if one.get("type") == "LINE"), None)
        if counter is None:
            return 0, 0
        covered = _number(counter.get("covered"))
        return covered, covered + _number(counter.get("missed"))
    if root.get("lines-valid") is not None:
        return _number(root.get("lines-covered")), _number(root.get("lines-valid"))
    # The lines of a class; those of its methods are among them once more.
    lines = [line for one in root.iter("class") for line in one.findall("lines/line")] or list(root.iter("line"))
    hits = [_number(line.get("hits")) for line in lines]
    return sum(1 for hit in hits if hit > 0), len(hits)


def _lcov_lines(data: bytes) -> tuple[float, float]:
    """By the totals of each file (LF, LH), or by its lines (DA) where it has none."""
    covered = total = 0.0
    told: dict[str, float] = {}
    lines: dict[str, float] = {}
    for line in [*data.decode("utf-8", "replace").splitlines(), "end_of_record"]:
        kind, _, value = line.partition(":")
        if kind in ("LF", "LH"):
            told[kind] = _number(value)
        elif kind == "DA":
            number, _, count = value.partition(",")
            lines[number] = lines.get(number, 0) + _number(count.partition(",")[0])
        elif kind.strip() == "end_of_record":
            covered += told.get("LH", sum(1 for count in lines.values() if count > 0))
            total += told.get("LF", len(lines))
            told, lines = {}, {}
    return covered, total


def _parse(data: bytes, roots: tuple[str, ...]) -> ElementTree.Element:
    if len(data) > LIMIT:
        raise ReportUnreadable(f"it is larger than {LIMIT // 1_000_000} MB")
    # The parser loads nothing from elsewhere; entities of its own are the only way left to do harm.
    if b"<!ENTITY" in data or b"<\x00!\x00E\x00N" in data:
        raise ReportUnreadable("it defines entities, which no report needs")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ReportUnreadable("it is not valid XML") from error
    if root.tag not in roots:
        raise ReportUnreadable(f"it begins with <{root.tag[:40]}> and not with {' or '.join(roots)}")
    return root


def _number(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError as error:
        raise ReportUnreadable(f"'{(text or '')[:20]}' is no number") from error
    if not 0 <= number < 1e12:
        raise ReportUnreadable(f"'{(text or '')[:20]}' is no count")
    return number
