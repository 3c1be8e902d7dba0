"""Gates ask real servers, and only a clear yes lets a release on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bot.clock import utc_now
from bot.errors import ProviderRejected, ProviderUnavailable
from bot.gates.base import GateResult
from bot.gates.outside import OutsideGates, outside_gates
from bot.settings import Settings
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.quality import FakeQuality
from tests.fakes.serving import serving

COMMIT, DIGEST = "c0ffee" + "0" * 34, "sha256:" + "a" * 64
GOOD = b"<testsuite><testcase name='a'/><testcase name='b'/></testsuite>"


@pytest.fixture
async def world() -> AsyncIterator[tuple[FakeQuality, OutsideGates]]:
    fake = FakeQuality()
    async with serving(fake.app) as url:
        settings = Settings(config=Path("/nowhere"), reports_url=url, sonar_url=url, testing_url=url)
        made = outside_gates(settings, utc_now)
        yield fake, made
        for close in made.closing:
            await close()


async def ask(made: OutsideGates, gates: Mapping[str, Mapping[str, object]]) -> GateResult:
    """As the workflow asks: all of them, until one does not pass."""
    target = replace(make_target(service="pay"), gates=gates)
    result = GateResult("none", True, "")
    for gate in made.gates:
        result = await gate.check(make_service(target), target, COMMIT, DIGEST)
        if not result.passed:
            return result
    return result


async def test_no_gate_is_asked_that_the_catalog_does_not_name(world: tuple[FakeQuality, OutsideGates]) -> None:
    """Gates are per environment: dev may go without."""
    fake, made = world
    assert (await ask(made, {})).passed
    assert fake.app.requests == []


async def test_tests_decide_by_their_report(world: tuple[FakeQuality, OutsideGates]) -> None:
    """Failed names are the evidence; too few tests are no proof; a report that is not there yet is waited for."""
    fake, made = world
    gates = {"tests": {"report": "pay/{commit}/junit.xml", "at_least": 2}}
    with pytest.raises(ProviderUnavailable, match="is not there yet"):
        await ask(made, gates)
    path = f"pay/{COMMIT}/junit.xml"
    fake.files[path] = GOOD
    assert (await ask(made, gates)).passed
    fake.files[path] = b"<testsuite><testcase name='a'/></testsuite>"
    assert (await ask(made, gates)).message == "Only 1 tests ran; at least 2 must."
    fake.files[path] = b"<testsuite><testcase classname='T' name='pays'><failure/></testcase></testsuite>"
    result = await ask(made, gates)
    assert (result.passed, result.message, result.lines) == (False, "1 of 1 tests failed.", ("T.pays",))
    fake.files[path] = b"<html>Sign in</html>"
    result = await ask(made, gates)
    assert not result.passed
    assert "cannot be read" in result.message


async def test_coverage_has_a_floor_and_a_drop(world: tuple[FakeQuality, OutsideGates]) -> None:
    """A service may not lose what it had, whatever the floor is."""
    fake, made = world
    fake.files |= {"now.info": b"LF:100\nLH:70\n", "before.info": b"LF:100\nLH:75\n"}
    assert (await ask(made, {"coverage": {"report": "now.info", "minimum": 70}})).passed
    result = await ask(made, {"coverage": {"report": "now.info", "minimum": 70.5}})
    assert result.message == "Coverage is 70.0 %; at least 70.5 % is wanted."
    fall = {"report": "now.info", "baseline": "before.info", "drop": 4}
    assert (await ask(made, {"coverage": fall})).message == (
        "Coverage fell from 75.0 % to 70.0 %; it may fall by 4 points."
    )
    assert (await ask(made, {"coverage": fall | {"drop": 5}})).passed


async def test_sonarqube_answers_for_this_commit_alone(world: tuple[FakeQuality, OutsideGates]) -> None:
    """The live gate of a project belongs to whichever commit came last; ours waits for its own analysis."""
    fake, made = world
    fake.analyses["another"] = "OK"
    with pytest.raises(ProviderUnavailable, match="has no analysis of pay at c0ffee000000 yet"):
        await ask(made, {"sonarqube": {}})
    for status, passed in (("OK", True), ("ERROR", False), ("NONE", False), ("NEW_WORD", False)):
        fake.analyses[COMMIT] = status
        assert (await ask(made, {"sonarqube": {}})).passed is passed
    fake.analyses[COMMIT] = "ERROR"
    assert (await ask(made, {"sonarqube": {}})).lines == ("new_coverage is 71.4, wanted 80",)
    with pytest.raises(ProviderRejected, match="SonarQube has no project shop"):
        await ask(made, {"sonarqube": {"project": "shop"}})


async def test_a_test_job_is_started_once_and_followed(world: tuple[FakeQuality, OutsideGates]) -> None:
    """Asked again and again, also after a lost answer: one job, by its key."""
    fake, made = world
    gates = {"test_job": {"suite": "{service}-integration", "parameters": {"tags": "smoke"}}}
    fake.app.fail("POST /v1/jobs", "lost")
    with pytest.raises(ProviderUnavailable):
        await ask(made, gates)
    waiting = await ask(made, gates)
    assert (waiting.waiting, waiting.message) == (True, "The test job pay-integration is running (41 of 120 done).")
    assert (await ask(made, gates)).passed
    assert list(fake.jobs) == [f"pay:prod:pay-integration:{DIGEST}"]


@pytest.mark.parametrize("state", ["failed", "errored", "aborted", "confused"])
async def test_a_job_that_did_not_pass_did_not_pass(world: tuple[FakeQuality, OutsideGates], state: str) -> None:
    """Tests that said no, a machine that broke, a word we do not know: nothing is proven; evidence has no secrets."""
    fake, made = world
    fake.ends = [state]
    result = await ask(made, {"test_job": {}})
    assert (result.passed, result.waiting) == (False, False)
    if state == "failed":
        assert result.lines == ("pays twice: token=[redacted]",)


async def test_a_gate_that_is_not_set_up_stops_the_release(world: tuple[FakeQuality, OutsideGates]) -> None:
    """A misspelt gate, or a system without an address, must not make anything more permissive."""
    _, made = world
    assert (await ask(made, {"tetss": {}})).message == (
        "The gate tetss is not set up here; set its address, or correct its name."
    )
    bare = outside_gates(Settings(config=Path("/nowhere")), utc_now)
    assert not (await ask(bare, {"tests": {"report": "x"}})).passed
    assert (await ask(bare, {})).passed
    with pytest.raises(ProviderRejected, match=r"gates\.tests of pay in prod: `reprot`"):
        await ask(made, {"tests": {"report": "x", "reprot": "y"}})
