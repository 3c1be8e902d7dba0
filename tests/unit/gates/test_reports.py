"""Report files decide releases: odd ones, broken ones and hostile ones must not pass for good ones."""

from __future__ import annotations

import pytest

from bot.gates.reports import Counted, ReportUnreadable, read_coverage, read_junit

JACOCO = b"""<?xml version="1.0"?><!DOCTYPE report PUBLIC "-//JACOCO//DTD Report 1.1//EN" "report.dtd">
<report name="pay"><package name="p"><counter type="LINE" missed="90" covered="10"/></package>
<counter type="INSTRUCTION" missed="1" covered="99"/><counter type="LINE" missed="20" covered="80"/></report>"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<testsuite/>", Counted(0, 0, ())),
        ("<testsuites><testsuite><testcase name='a'/></testsuite></testsuites>", Counted(1, 0, ())),
        (
            "<testsuite tests='99' failures='0'><testcase classname='p.T' name='a'><failure/></testcase>"
            "<testcase name='b'><error/></testcase><testcase name='c'><skipped/></testcase></testsuite>",
            Counted(3, 1, ("p.T.a", "b")),
        ),
        ("<testsuite name='setup'><error>boom</error></testsuite>", Counted(0, 0, ("setup itself",))),
        (
            "<testsuite><testcase name='\u6d4b\u8bd5'><failure/></testcase></testsuite>",
            Counted(1, 0, ("\u6d4b\u8bd5",)),
        ),
    ],
)
def test_junit_is_counted_by_its_cases(text: str, wanted: Counted) -> None:
    """Totals in attributes are often wrong; the cases are not."""
    assert read_junit(text.encode()) == wanted


@pytest.mark.parametrize(
    ("data", "percent"),
    [
        (JACOCO, 80),
        (b'<coverage lines-valid="200" lines-covered="150" line-rate="0.1"/>', 75),
        (b'<coverage line-rate="0.9"><packages><line hits="1"/><line hits="0"/></packages></coverage>', 50),
        (b"TN:\nSF:a.js\nLF:10\nLH:9\nend_of_record\nSF:b.js\nLF:10\nLH:1\nend_of_record\n", 50),
    ],
)
def test_coverage_of_every_format(data: bytes, percent: float) -> None:
    """The whole report's lines, not those of its first package, and never a rate that was rounded."""
    assert read_coverage(data) == percent


BAD = [
    b"",
    b"not a report",
    b"<html/>",
    b"<testsuite",
    b"<!DOCTYPE x [<!ENTITY a 'b'>]><testsuite><testcase name='&a;'/></testsuite>",
    b"<coverage/>",
    b'<coverage lines-valid="0" lines-covered="0"/>',
    b'<coverage lines-valid="many" lines-covered="1"/>',
    b'<coverage lines-valid="nan" lines-covered="1"/>',
    b'<coverage lines-valid="-1" lines-covered="-1"/>',
    b"<report><counter type='LINE' covered='1e999' missed='0'/></report>",
]


@pytest.mark.parametrize("data", BAD)
def test_what_cannot_be_understood_is_no_pass(data: bytes) -> None:
    """An empty file, a login page, an entity bomb, nothing measured: none of them is 100 %."""
    with pytest.raises(ReportUnreadable):
        read_coverage(data)
    if not data.startswith((b"<coverage", b"<report")):
        with pytest.raises(ReportUnreadable):
            read_junit(data)
