"""The audit of the pinned packages fails for a weakness, and for nothing else."""

from __future__ import annotations

import sys

from tests.tools.audit import asked, verdict

CLEAN = {"name": "starlette", "version": "1.0", "vulns": []}
WEAK = {"name": "pyyaml", "version": "5.1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["6.0"]}]}
SILENT = {"name": "uvloop", "skip_reason": "not found"}


def test_a_weakness_fails_and_says_what_to_do() -> None:
    """Whoever reads it knows the package, the advisory and the version without it."""
    passed, said = verdict("lock", {"dependencies": [CLEAN, WEAK]})
    assert not passed
    assert "pyyaml 5.1: PYSEC-1 (fixed in 6.0)" in said
    assert "make lock" in said


def test_what_does_not_touch_us_is_passed_over_by_name() -> None:
    """By the advisory's own name or another one of it."""
    assert verdict("lock", {"dependencies": [CLEAN, WEAK]}, {"CVE-1": "we parse safely"})[0]


def test_silence_is_said_and_passes() -> None:
    """A build on an island, or behind an index without advisories."""
    for report in (None, {}, {"dependencies": [SILENT]}):
        passed, said = verdict("lock", report)
        assert passed
        assert "could not be asked" in said
    assert "1 could not be asked about" in verdict("lock", {"dependencies": [CLEAN, SILENT]})[1]


def test_a_program_that_breaks_is_silence() -> None:
    """Not a verdict."""
    assert asked(sys.executable, "no such file") is None
