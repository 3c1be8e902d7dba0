"""Gates between the build and Git: what stops a release, who may let it on all the same, and what is kept of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.app import Outside
from bot.clock import utc_now
from bot.deployments.model import Deployment, State
from bot.pipelines import jenkins, remote
from bot.server_pass import PassWish, break_glass
from bot.times import say_when
from tests.acceptance.conftest import closed_window, emergency
from tests.fakes.jenkins import FakeJenkins
from tests.fakes.quality import FakeQuality
from tests.fakes.serving import serving
from tests.support import FakeClock
from tests.support.running import POLL, Running, running
from tests.support.world import PIPELINE, World, make_world

GOOD = "<testsuite><testcase name='pays'/></testsuite>"
BAD = "<testsuite><testcase classname='Pay' name='pays'><failure/></testcase></testsuite>"


def gated_world(directory: Path, report: str, **gates: object) -> World:
    """A service whose build keeps a test report, and gates that read it."""
    world = make_world(directory / "world", emergency=[emergency()])
    wanted = {"tests": {}, **gates}
    (world.directory / "services" / "all.yaml").write_text(
        f"app: {{team: shop, owners: [owner], gates: {str(wanted).replace(chr(39), chr(34))}}}\n"
    )
    pipeline = world.source / ".slipway" / "pipeline.yaml"
    pipeline.write_text(PIPELINE.replace("{effects}", str(world.effects)) + "reports: ['reports/**/*.xml']\n")
    world.push("gated", f'mkdir -p reports/unit && echo "{report}" > reports/unit/junit.xml')
    return world


async def stopped(slipway: Running) -> tuple[Deployment, str]:
    """Deploy until the gates say no; returns the deployment and its card's message."""
    await slipway.say("owner", "/deploy app prod")
    seen = await slipway.ends()
    (card,) = [one for one in await slipway.cards("owner", "d-1") if one["place"] == "#releases"]
    return seen, str(card["ref"])


async def test_reports_that_the_build_kept_let_it_on(tmp_path: Path) -> None:
    """No server of reports is needed; what the gates said stands on the card and in the record."""
    world = gated_world(tmp_path, GOOD)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        assert (await slipway.ends()).state is State.SUCCEEDED
        (card,) = [one for one in await slipway.cards("owner", "d-1") if one["place"] == "#releases"]
        assert card["fields"]["gates"] == "tests pass"
        assert "gates: tests pass" in [entry.detail for entry in await slipway.audit()]


async def test_a_closed_gate_stops_before_git_and_names_the_tests(tmp_path: Path) -> None:
    """The requester hears what failed, and that there is a lane; nothing is written."""
    world = gated_world(tmp_path, BAD)
    async with running(world) as slipway:
        seen, _ = await stopped(slipway)
        assert (seen.state, world.config_log(), world.count("deploys")) == (State.FAILED, [], 0)
        (told,) = [one for one in await slipway.cards("owner", "d-1") if one["place"] == "@slipway"]
        assert "1 of 1 tests failed." in told["text"]
        assert "press the button to ask for emergency approval" in told["text"]
        assert (told["excerpt"], [one["id"] for one in told["buttons"]]) == ("Pay.pays", ["emergency", "retry"])


async def test_only_the_emergency_lane_overrides_and_it_is_on_record(tmp_path: Path) -> None:
    """Approvers see what they override; the build is not run again; Git, the card and the audit log say who."""
    world = gated_world(tmp_path, BAD)
    async with running(world) as slipway:
        _, ref = await stopped(slipway)
        assert not (await slipway.click("lead", ref, "emergency", reason="not mine")).accepted
        assert (await slipway.click("owner", ref, "emergency", reason="customers cannot pay")).accepted
        await slipway.reaches(State.AWAITING_APPROVAL)
        (question,) = [one for one in await slipway.cards("lead", "d-1") if one["place"] == "@slipway"]
        assert "A yes overrides tests. 1 of 1 tests failed." in question["text"]
        assert not (await slipway.click("owner", ref, "approve")).accepted
        assert (await slipway.click("lead", ref, "approve")).accepted
        seen = await slipway.ends()
        assert (seen.state, world.count("builds"), world.count("deploys")) == (State.SUCCEEDED, 1, 1)
        assert "Gate-overridden: tests" in world.config_log()[0]
        assert "Approved-by: Lead <lead@slipway.example>" in world.config_log()[0]
        (card,) = [one for one in await slipway.cards("owner", "d-1") if one["place"] == "#releases"]
        assert card["fields"]["overridden"] == "tests by Lead"
        details = [entry.detail for entry in await slipway.audit()]
        assert "asked to override tests: customers cannot pay" in details
        assert "gates: tests fail; tests overridden by Lead" in details


async def test_a_yes_is_good_for_the_gates_that_were_asked_about(tmp_path: Path) -> None:
    """Another gate that says no meanwhile stops it again, and the next question needs new votes."""
    world = gated_world(tmp_path, BAD)
    async with running(world) as slipway:
        _, ref = await stopped(slipway)
        assert (await slipway.click("owner", ref, "emergency")).accepted
        await slipway.reaches(State.AWAITING_APPROVAL)
        first = await slipway.get(1)
        world.write_root(emergency=[{**emergency(), "approvers": {"count": 1, "people": ["releaser"]}}])
        assert slipway.app.catalogs.reload()
        assert not (await slipway.click("lead", ref, "approve")).accepted
        assert (await slipway.click("releaser", ref, "approve")).accepted
        assert (await slipway.ends()).state is State.SUCCEEDED
    assert first is not None
    assert first.data.emergency is not None
    assert first.data.emergency.subject.startswith(f"{first.digest}!")


async def test_outside_the_window_each_question_is_asked_anew(tmp_path: Path) -> None:
    """A yes to the closed window overrides no gate; the yes to the gate is given by votes of its own."""
    world = gated_world(tmp_path, BAD)
    world.write_root(windows=[closed_window()], emergency=[emergency()])
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        (card,) = await slipway.cards("owner", "d-1")
        for wanted in (State.FAILED, State.SUCCEEDED):
            assert (await slipway.click("owner", card["ref"], "emergency")).accepted
            await slipway.reaches(State.AWAITING_APPROVAL)
            assert (await slipway.click("lead", card["ref"], "approve")).accepted
            assert (await slipway.ends()).state is wanted
        seen = await slipway.ends()
        assert [note.overridden_by for note in seen.data.gates] == [("lead",)]
        assert (world.count("builds"), world.count("deploys")) == (1, 1)


async def test_coverage_may_not_fall_below_what_was_deployed(tmp_path: Path) -> None:
    """The measure is what the build before kept; a first deployment has none."""

    def covers(percent: int) -> str:
        report = f"<coverage lines-valid='100' lines-covered='{percent}'/>"
        return f'mkdir -p reports && echo "{GOOD}" > reports/j.xml && echo "{report}" > reports/c.xml'

    world = gated_world(tmp_path, GOOD, coverage={"drop": 5})
    async with running(world) as slipway:
        for number, (percent, state) in enumerate(
            [(80, State.SUCCEEDED), (76, State.SUCCEEDED), (70, State.FAILED)], 1
        ):
            world.push(f"covers {percent}", covers(percent))
            await slipway.say("owner", "/deploy app prod")
            assert (await slipway.ends(number)).state is state
        seen = await slipway.ends(3)
        assert seen.data.failure is not None
        assert seen.data.failure.message == "Coverage fell from 76.0 % to 70.0 %; it may fall by 5 points."


async def test_what_a_gate_waits_for_is_told(tmp_path: Path) -> None:
    """On the card and by /status; when it comes, the deployment goes on by itself."""
    fake = FakeQuality()
    world = gated_world(tmp_path, GOOD, coverage={"report": "{service}/cov.info"})
    async with serving(fake.app) as url, running(world, settings={"reports_url": url}) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.until(lambda: _waits(slipway), "the gate to wait")
        await slipway.say("owner", "/status")
        said = (await slipway.cards("owner"))[-1]["text"]
        assert "The report of gate coverage for" in said
        seen = await slipway.get(1)
        assert seen is not None
        assert seen.data.gating_since_at is not None
        assert f"waiting since {say_when(seen.data.gating_since_at, 'UTC')}" in said
        assert seen.data.waiting_since_at is None  # from which patience with systems that are away is counted
        assert world.config_log() == []
        fake.files["app/cov.info"] = b"LF:10\nLH:9\n"
        assert (await slipway.ends()).state is State.SUCCEEDED


async def _waits(slipway: Running) -> bool:
    seen = await slipway.get(1)
    return seen is not None and "is not there yet" in seen.data.waiting_for


async def test_what_jenkins_counted_is_as_good_as_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing need be named: tests and coverage of the very run that built it; the failed tests are named."""
    monkeypatch.setattr(jenkins, "FASTEST", timedelta(milliseconds=5))
    monkeypatch.setattr(remote, "FASTEST", timedelta(milliseconds=5))
    world = make_world(tmp_path / "world")
    gates = "{tests: {at_least: 100}, coverage: {minimum: 80, drop: 1}}"
    pipeline = f"pipeline: {{provider: jenkins, name: team/app}}, gates: {gates}"
    (world.directory / "services" / "all.yaml").write_text(f"app: {{team: shop, owners: [owner], {pipeline}}}\n")
    fake = FakeJenkins("team/app")
    fake.queue_looks, fake.coverage, fake.failed, fake.age = 0, "coverage", 0, 0.0
    async with serving(fake.app) as url:
        known: dict[str, object] = {"jenkins_url": url, "jenkins_user": "bot", "jenkins_token": SecretStr("t0ken")}
        async with running(world, settings=known) as slipway:
            await slipway.say("owner", "/deploy app prod")
            good = await slipway.ends()
            assert good.state is State.SUCCEEDED
            world.push("worse")
            fake.failed, fake.covered = 1, "81.00%"
            await slipway.say("owner", "/deploy app prod")
            seen = await slipway.ends(2)
    assert [one.message for one in good.data.gates] == ["119 tests passed, 1 were skipped.", "Coverage is 82.1 %."]
    assert [one.message for one in seen.data.gates] == [
        "1 of 120 tests failed.",
        "Coverage fell from 82.1 % to 81.0 %; it may fall by 1 points.",
    ]
    assert seen.data.failure is not None
    assert seen.data.failure.lines == ("test_total.Total.test_total",)


async def test_a_pass_from_the_server_opens_no_gate(tmp_path: Path) -> None:
    """It is one person's word about a window; what a gate says no to needs the votes of the emergency lane."""
    world = gated_world(tmp_path, BAD)
    world.write_root(windows=[closed_window()], emergency=[emergency()])
    async with running(world) as slipway:
        wish = PassWish("app", "prod", "", "owner", timedelta(minutes=10), "chat is down")
        assert await break_glass(slipway.app.db, slipway.app.catalog(), wish, utc_now(), print)
        seen, _ = await stopped(slipway)
        assert seen.data.emergency is not None
        assert seen.data.emergency.given_by
        assert (seen.state, seen.data.can_ask, world.config_log()) == (State.FAILED, True, [])
        assert [note.overridden_by for note in seen.data.gates] == [()]


async def test_a_rollback_is_not_asked(tmp_path: Path) -> None:
    """What it brings back ran here before; a scan that knows more by now must not stand in its way."""
    world = gated_world(tmp_path, GOOD)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends(1)
        world.push("newer", f'mkdir -p reports/unit && echo "{GOOD}" > reports/unit/junit.xml')
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends(2)
        (world.directory / "services" / "all.yaml").write_text(
            "app: {team: shop, owners: [owner], gates: {sonarqube: {}}}\n"
        )
        assert slipway.app.catalogs.reload()
        await slipway.say("owner", "/rollback app prod")
        assert (await slipway.ends(3)).state is State.SUCCEEDED


async def test_a_pass_that_ran_out_overrides_nothing(tmp_path: Path) -> None:
    """The yes lasts an hour; a deployment that waited longer in the queue is stopped again."""
    world, clock = gated_world(tmp_path, BAD), FakeClock()
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        _, ref = await stopped(slipway)
        await slipway.say("owner", "/lock app prod --for 3h waits")
        assert (await slipway.click("owner", ref, "emergency")).accepted
        await slipway.reaches(State.AWAITING_APPROVAL)
        seen = await slipway.get(1)
        assert seen is not None
        assert seen.data.emergency is not None
        clock.advance(timedelta(minutes=31))
        assert not (await slipway.click("lead", ref, "approve")).accepted


@pytest.mark.parametrize("typed", ["tetss: {}", "tests: {reprot: x}", "scan: {maximum: {hihg: 1}}"])
def test_a_gate_written_wrongly_is_found_by_the_check(tmp_path: Path, typed: str) -> None:
    """Before anything runs: file, line, field, and the nearest choice."""
    from bot.catalog.check import check
    from bot.providers import known_here

    world = make_world(tmp_path / "world")
    (world.directory / "services" / "all.yaml").write_text(f"app:\n  team: shop\n  gates:\n    {typed}\n")
    report = check(world.directory, known_here())
    assert {(one.file, one.line) for one in report.problems} == {("services/all.yaml", 4)}
