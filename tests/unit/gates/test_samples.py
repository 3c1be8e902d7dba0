"""Reports that others wrote are read as their authors meant them; those meant to do harm are not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.gates.reports import Counted, ReportUnreadable, is_coverage, is_junit, read_coverage, read_junit
from bot.gates.scans import read_scan

SAMPLES = Path(__file__).parent / "samples"


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


JUNIT = {
    "junit-494.xml": Counted(2, 0, ("io.jenkins.example.AnExampleTestClass.testCaseA",)),
    "junit-6700.xml": Counted(0, 0, ("gda.device.detector.XHDetectorTest itself",)),
    "junit-bad-duration.xml": Counted(2, 0, ()),
    "junit-errror-details.xml": Counted(1, 0, ("some.package.somewhere.WhooHoo.testHudsonReporting",)),
    "junit-io.olamy.FlakyTest.xml": Counted(1, 0, ()),
    "junit-nested-testsuites.xml": Counted(2, 0, ("test.3rdlevel itself",)),
    "junit-null.xml": Counted(1, 0, ("X.x",)),
    "junit-skippedTestResult.xml": Counted(1, 1, ()),
}


@pytest.mark.parametrize("name", JUNIT)
def test_odd_test_reports_are_counted(name: str) -> None:
    """Nested suites, a suite that broke before its tests, wrong totals, a flaky test that passed in the end."""
    assert is_junit(sample(name))
    assert read_junit(sample(name)) == JUNIT[name]


@pytest.mark.parametrize("name", ["junit-testXxe-xxe.xml", "junit-testXxe-oob.xml"])
def test_reports_that_would_read_our_files_are_refused(name: str) -> None:
    """An entity may name a file of the bot, or an address."""
    with pytest.raises(ReportUnreadable, match="defines entities"):
        read_junit(sample(name))


COVERAGE = {
    "cobertura-cpp.xml": 100.0,
    "cobertura-empty.xml": 76.8,
    "cobertura-js.xml": 100.0,
    "cobertura-python.xml": 94.5,
    "cobertura-ruby.xml": 100.0,
    "jacoco-merge-a.xml": 30.8,
    "jacoco-pester.xml": 75.0,
    "lcov-large-hit-counts.lcov": 50.0,
    "lcov-report.lcov": 50.0,
}


@pytest.mark.parametrize("name", COVERAGE)
def test_coverage_of_many_tools_is_read(name: str) -> None:
    """C++, JavaScript, Python, Ruby, PowerShell, Java; LCOV without totals is counted by its lines."""
    assert is_coverage(sample(name))
    assert read_coverage(sample(name)) == pytest.approx(COVERAGE[name], abs=0.05)


@pytest.mark.parametrize("data", [sample("jacoco-empty.xml"), b""])
def test_a_report_without_lines_is_no_coverage(data: bytes) -> None:
    """Nothing measured is not 100 %."""
    with pytest.raises(ReportUnreadable):
        read_coverage(data)


def test_real_scans_are_counted() -> None:
    """An image from a file has no digest, so its report proves nothing about one that is deployed."""
    trivy, grype = read_scan(sample("trivy-alpine.json")), read_scan(sample("grype-image.json"))
    assert (trivy.scanner, trivy.digests, sum(trivy.counts.values())) == ("Trivy", frozenset(), 2)
    assert set(trivy.counts) <= {"high", "critical"}
    assert all(one.fix and one.package and one.link.startswith("https://") for one in trivy.findings)
    assert grype.digests == {"sha256:ca738abb87a8d58f112d3400ebb079b61ceae7dc290beb34bda735be4b1941d5"}
    assert grype.counts == {"low": 1, "critical": 1}
    assert grype.findings[0].severity == "critical"
