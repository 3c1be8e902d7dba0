"""Gates ask real servers, and only a clear yes lets a release on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.deployments.gating import ask_gates, is_open
from bot.deployments.model import GateNote
from bot.gates.base import GateRequest
from bot.gates.outside import OutsideGates, outside_gates
from bot.settings import Settings
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.quality import FakeQuality
from tests.fakes.serving import serving
from tests.support import FakeClock

COMMIT, DIGEST = "c0ffee" + "0" * 34, "sha256:" + "a" * 64
GOOD = b"<testsuite><testcase name='a'/><testcase name='b'/></testsuite>"
clock = FakeClock()


class Quality:
    """A company's systems, and the gates that ask them."""

    def __init__(self, fake: FakeQuality, made: OutsideGates) -> None:
        self.fake, self.made, self.since_at = fake, made, clock()

    async def ask(self, gates: Mapping[str, Mapping[str, object]], image: str = "") -> tuple[GateNote, ...]:
        """As a deployment asks."""
        target = replace(make_target(service="pay"), gates=gates)
        request = GateRequest(make_service(target), target, COMMIT, DIGEST, self.since_at, image=image)
        return await ask_gates(self.made.gates, request, ())

    async def one(self, name: str, image: str = "", **options: object) -> GateNote:
        """What a single gate says."""
        (note,) = await self.ask({name: options}, image)
        return note


@pytest.fixture
async def quality() -> AsyncIterator[Quality]:
    fake = FakeQuality()
    async with serving(fake.app) as url:
        made = outside_gates(
            Settings(config=Path("/nowhere"), reports_url=url, sonar_url=url, testing_url=url), clock, {}
        )
        yield Quality(fake, made)
        for close in made.closing:
            await close()


async def test_no_gate_is_asked_that_the_catalog_does_not_name(quality: Quality) -> None:
    """Gates are per environment: dev may go without."""
    assert await quality.ask({}) == ()
    assert quality.fake.app.requests == []


async def test_every_gate_is_asked_and_told(quality: Quality) -> None:
    """A person who must fix two things hears of both; an answer that is final is not asked for again."""
    quality.fake.files |= {
        "t.xml": b"<testsuite><testcase name='a'><error/></testcase></testsuite>",
        "c": b"LF:9\nLH:3",
    }
    gates: dict[str, dict[str, object]] = {
        "coverage": {"report": "c", "minimum": 70},
        "tests": {"report": "t.xml"},
        "sonarqube": {},
    }
    notes = await quality.ask(gates)
    assert [(note.gate, note.verdict, note.waiting) for note in notes] == [
        ("tests", "fail", False),
        ("coverage", "fail", False),
        ("sonarqube", "unknown", True),
    ]
    target = replace(make_target(service="pay"), gates=gates)
    asked = len(quality.fake.app.requests)
    request = GateRequest(make_service(target), target, COMMIT, DIGEST, quality.since_at)
    assert await ask_gates(quality.made.gates, request, notes) == notes
    assert [line.split("?")[0] for line in quality.fake.app.requests[asked:]] == ["GET /api/project_analyses/search"]


async def test_tests_decide_by_their_report(quality: Quality) -> None:
    """Failed names are the evidence; too few tests are no proof; a report that is not there yet is waited for."""
    options: dict[str, Any] = {"report": "pay/{commit}/junit.xml", "at_least": 2}
    note = await quality.one("tests", **options)
    assert (note.verdict, note.waiting) == ("unknown", True)
    assert note.message == "The report of gate tests for c0ffee000000 is not there yet."
    path = f"pay/{COMMIT}/junit.xml"
    quality.fake.files[path] = GOOD
    note = await quality.one("tests", **options)
    assert (note.verdict, note.message) == ("pass", "2 tests passed.")
    quality.fake.files[path] = b"<testsuite><testcase name='a'/></testsuite>"
    note = await quality.one("tests", **options)
    assert (note.verdict, note.message) == ("fail", "Only 1 tests ran; at least 2 must.")
    quality.fake.files[path] = b"<testsuite><testcase name='a'><skipped/></testcase></testsuite>"
    assert (await quality.one("tests", **options)).verdict == "unknown"
    quality.fake.files[path] = b"<testsuite><testcase classname='T' name='pays'><failure/></testcase></testsuite>"
    note = await quality.one("tests", **options)
    assert (note.verdict, note.message, note.lines) == ("fail", "1 of 1 tests failed.", ("T.pays",))
    quality.fake.files[path] = b"<html>Sign in</html>"
    note = await quality.one("tests", **options)
    assert (note.verdict, note.waiting) == ("unknown", False)
    assert "cannot be read" in note.message


async def test_coverage_has_a_floor_and_a_drop(quality: Quality) -> None:
    """A service may not lose what it had, whatever the floor is."""
    quality.fake.files |= {"now.info": b"LF:100\nLH:70\n", "before.info": b"LF:100\nLH:75\n"}
    assert (await quality.one("coverage", report="now.info", minimum=70)).verdict == "pass"
    note = await quality.one("coverage", report="now.info", minimum=70.5)
    assert (note.verdict, note.message) == ("fail", "Coverage is 70.0 %; at least 70.5 % is wanted.")
    fall: dict[str, Any] = {"report": "now.info", "baseline": "before.info"}
    note = await quality.one("coverage", **fall, drop=4)
    assert note.message == "Coverage fell from 75.0 % to 70.0 %; it may fall by 4 points."
    assert (await quality.one("coverage", **fall, drop=5)).verdict == "pass"


async def test_an_advisory_gate_warns_but_never_guesses(quality: Quality) -> None:
    """A no is a warning then; what cannot be told stays unknown, because nobody knows whether it would be a no."""
    quality.fake.files["now.info"] = b"LF:100\nLH:70\n"
    note = await quality.one("coverage", report="now.info", minimum=90, advisory=True)
    assert (note.verdict, is_open(note)) == ("warn", True)
    quality.fake.files["now.info"] = b"nothing"
    note = await quality.one("coverage", report="now.info", minimum=90, advisory=True)
    assert (note.verdict, is_open(note)) == ("unknown", False)


async def test_patience_ends_in_unknown(quality: Quality) -> None:
    """A report that never comes, or a system that is down for good, must not hold a deployment for ever."""
    waiting = await quality.one("tests", report="never.xml", timeout="10m")
    quality.since_at = clock() - timedelta(minutes=10)
    note = await quality.one("tests", report="never.xml", timeout="10m")
    assert (waiting.waiting, note.waiting, note.verdict) == (True, False, "unknown")
    quality.fake.app.fail("GET /never.xml", "503")
    note = await quality.one("tests", report="never.xml", timeout="11m")
    assert (note.waiting, note.verdict) == (True, "unknown")


async def test_sonarqube_answers_for_this_commit_alone(quality: Quality) -> None:
    """The live gate of a project belongs to whichever commit came last; ours waits for its own analysis."""
    quality.fake.analyses["another"] = "OK"
    note = await quality.one("sonarqube")
    assert (note.waiting, note.message) == (True, "SonarQube has no analysis of pay at c0ffee000000 yet.")
    verdicts = {"OK": "pass", "WARN": "warn", "ERROR": "fail", "NONE": "unknown", "NEW_WORD": "unknown"}
    for status, verdict in verdicts.items():
        quality.fake.analyses[COMMIT] = status
        assert (await quality.one("sonarqube")).verdict == verdict
    quality.fake.analyses[COMMIT] = "ERROR"
    note = await quality.one("sonarqube")
    assert note.lines == ("new_coverage is 71.4, wanted 80",)
    assert note.link.endswith("/dashboard?id=pay")
    note = await quality.one("sonarqube", project="shop")
    assert (note.verdict, note.waiting) == ("unknown", False)
    assert note.message.startswith("SonarQube has no project shop.")


async def test_a_test_job_is_started_once_and_followed(quality: Quality) -> None:
    """Asked again and again, also after a lost answer: one job, by its key."""
    options: dict[str, Any] = {"suite": "{service}-integration", "parameters": {"tags": "smoke"}}
    quality.fake.app.fail("POST /v1/jobs", "lost")
    assert (await quality.one("test_job", **options)).waiting
    note = await quality.one("test_job", **options)
    assert (note.waiting, note.message) == (True, "The test job pay-integration is running (41 of 120 done).")
    note = await quality.one("test_job", **options)
    assert (note.verdict, note.link) == ("pass", "https://tests.example/j-1")
    assert list(quality.fake.jobs) == [f"pay:prod:pay-integration:{DIGEST}"]


@pytest.mark.parametrize("state", ["failed", "errored", "aborted", "confused"])
async def test_a_job_that_did_not_pass_did_not_pass(quality: Quality, state: str) -> None:
    """Tests that said no, a machine that broke, a word we do not know: nothing is proven; evidence has no secrets."""
    quality.fake.ends = [state]
    note = await quality.one("test_job")
    assert (note.verdict, note.waiting) == ("fail" if state == "failed" else "unknown", False)
    if state == "failed":
        assert note.lines == ("pays twice: token=[redacted]",)


async def test_a_gate_that_is_not_set_up_stops_the_release(quality: Quality) -> None:
    """A misspelt gate, or a system without an address, must not make anything more permissive."""
    note = await quality.one("tetss")
    assert (note.verdict, note.waiting, is_open(note)) == ("unknown", False, False)
    assert note.message == "The gate tetss is not set up here; set its address, or correct its name."
    quality.made = outside_gates(Settings(config=Path("/nowhere")), clock, {})
    note = await quality.one("tests", report="x")
    assert (note.verdict, note.message) == ("unknown", "The gate tests is not set up here. Set SLIPWAY_REPORTS_URL.")
    note = await quality.one("tests")
    assert note.message.startswith("The build of c0ffee000000 left no reports for gate tests.")
    note = await quality.one("tests", report="x", reprot="y")
    assert note.message.startswith("gates.tests of pay in prod: `reprot` is not a known field")
