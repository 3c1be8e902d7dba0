"""The main job with Argo CD: what Git says is synced, stops at gray, and is called done only when it runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from bot.app import App, Outside
from bot.catalog.load import load_catalog
from bot.deployments.model import State
from bot.doctor import examine, said
from bot.settings import Settings
from bot.store import holds
from tests.fakes.argocd import TOKEN, FakeArgoCD, running_argocd
from tests.fakes.prometheus import running_prometheus
from tests.fakes.repositories import git
from tests.support.running import POLL, Running, settings_for
from tests.support.world import World, make_world

ROOT = Path(__file__).resolve().parents[2]
GRAY: dict[str, object] = {"interval": "50ms"}


def make_argo_world(directory: Path, gray: Mapping[str, object] = GRAY, settle: str = "1ms") -> World:
    """The usual world, whose prod is an application of Argo CD."""
    world = make_world(directory)
    defaults = {
        "repo": "repos/app",
        "gitops": {"repo": "repos/config.git"},
        "pipeline": {"timeout": "1m"},
        "delivery": {"provider": "argocd", "options": {"degraded_for": "1s"}},
        "verify": {"timeout": "3s", "settle": settle, "interval": "20ms"},
        "gray": gray,
    }
    world.write_root(defaults=defaults)
    return world


def rendered(config: Path, revision: str) -> str:
    """The image that the configuration repository names at a commit."""
    text = git(config, "show", f"{revision}:prod/app.yaml")
    lines = dict(line.split(": ") for line in text.splitlines())
    return f"registry.example/app:{lines['version'].strip(chr(34))}@{lines['digest'].strip(chr(34))}"


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeArgoCD]:
    """An Argo CD that renders the image from the configuration repository's commit, as the real one would."""
    config = tmp_path / "world" / "repos" / "config.git"
    async with running_argocd(FakeArgoCD(render=lambda revision: rendered(config, revision))) as fake:
        fake.add("app-prod")
        yield fake


@asynccontextmanager
async def slipway(
    world: World, fake: FakeArgoCD, prometheus: str = "", poll: timedelta = POLL
) -> AsyncIterator[Running]:
    base = settings_for(world)
    more = {"argocd_url": fake.url, "argocd_token": SecretStr(TOKEN), "prometheus_url": prometheus}
    settings = base.model_copy(update=more)
    assert isinstance(settings, Settings)
    app = App(settings, Outside(poll=poll))
    await app.start()
    try:
        yield Running(app)
    finally:
        await app.runs.stop_all()
        await app.stop()


async def test_what_git_says_is_synced_and_seen_running(tmp_path: Path, fake: FakeArgoCD) -> None:
    """One command: built, written, exactly that commit synced, and the live digest is the release's."""
    world = make_argo_world(tmp_path / "world")
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        seen = await bot.ends()
    assert (seen.state, seen.data.failure) == (State.SUCCEEDED, None)
    assert fake.operations == [("app-prod", git(world.config, "rev-parse", "main").strip())]
    assert fake.syncs[0]["infos"][0] == {"name": "slipway/intent", "value": f"{seen.intent}-s1"}


async def test_gray_waits_for_a_person_and_goes_on(tmp_path: Path, fake: FakeArgoCD) -> None:
    """A bystander's press does nothing; an owner's goes on, once."""
    world = make_argo_world(tmp_path / "world", GRAY | {"weights": [20]})
    fake.outcome["app-prod"] = "paused"
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.GRAY)
        (card,) = await bot.cards("owner", "d-1")
        assert [button["id"] for button in card["buttons"]] == ["continue", "abort"]
        assert {"name": "Gray", "state": "running", "detail": "20 %"} in card["steps"]
        answers = [await bot.click(person, card["ref"], "continue") for person in ("outsider", "lead", "owner")]
        seen = await bot.ends()
    assert seen.state is State.SUCCEEDED
    assert fake.actions == [("Rollout/app-prod", "resume")]
    assert "may not" in str(answers[0]) or "not" in str(answers[0])


async def test_weights_that_are_not_the_rollouts_are_told(tmp_path: Path, fake: FakeArgoCD) -> None:
    """The steps lie in Git: what the catalog says must not be shown as what is, and the doctor tells it before."""
    world = make_argo_world(tmp_path / "world", GRAY | {"weights": [10]})
    fake.outcome["app-prod"] = "paused"
    fake.steps = [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "1m"}}]
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.GRAY)
        (card,) = await bot.cards("owner", "d-1")
        await bot.click("owner", card["ref"], "continue")
        await bot.ends()
        lines: list[str] = []
        more = {"argocd_url": fake.url, "argocd_token": SecretStr(TOKEN)}
        settings = settings_for(world).model_copy(update=more)
        await examine(settings, load_catalog(world.directory), lambda finding: lines.append(said(finding)))
    assert {"name": "Gray", "state": "running", "detail": "25 %"} in card["steps"]
    assert "It stands at 25 percent, where the catalog says 10" in card["fields"]["careful"]
    wanted = "FIX argocd: The Rollout of app-prod pauses at 25, 50 percent, `gray.weights` says 10."
    assert any(line.startswith(wanted) for line in lines), lines


async def test_abort_gives_the_traffic_back_and_undoes_git(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Traffic first, at once; then Git, so that the truth agrees with what runs."""
    world = make_argo_world(tmp_path / "world")
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        first = await bot.ends()
        world.push("second")
        fake.outcome["app-prod"] = "paused"
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.GRAY, 2)
        await bot.say("lead", "/abort d-2")
        fake.outcome["app-prod"] = "good"
        seen = await bot.ends(2)
    assert seen.state is State.ROLLED_BACK
    assert seen.data.failure is not None
    assert seen.data.failure.message == "Aborted at gray by Lead."
    assert fake.actions == [("Rollout/app-prod", "abort")]
    assert first.digest in git(world.config, "show", "main:prod/app.yaml")
    assert len(fake.operations) == 3


async def test_continue_in_full_by_command(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Past every further pause at once; an outsider is refused, and a second word comes too late."""
    world = make_argo_world(tmp_path / "world")
    fake.outcome["app-prod"] = "paused"
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.GRAY)
        refused = (await bot.say("outsider", "/continue d-1"))[-1].text
        assert (await bot.get(1)).state is State.GRAY  # type: ignore[union-attr]
        await bot.say("owner", "/continue d-1 --full")
        seen = await bot.ends()
        late = (await bot.say("owner", "/continue d-1"))[-1].text
    assert seen.state is State.SUCCEEDED
    assert fake.actions == [("Rollout/app-prod", "promote-full")]
    assert "Outsider" in refused or "not" in refused
    assert "gray" in late


async def test_gray_goes_on_by_itself_after_its_time(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Nobody has to stay awake for it."""
    world = make_argo_world(tmp_path / "world", GRAY | {"pauses": ["100ms"]})
    fake.outcome["app-prod"] = "paused"
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        seen = await bot.ends()
    assert seen.state is State.SUCCEEDED
    assert fake.actions == [("Rollout/app-prod", "resume")]


async def test_gray_that_nobody_decides_is_given_up(tmp_path: Path, fake: FakeArgoCD) -> None:
    """A forgotten pause must not stand for ever, half old and half new."""
    world = make_argo_world(tmp_path / "world", GRAY | {"timeout": "100ms"})
    fake.outcome["app-prod"] = "paused"
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        seen = await bot.ends()
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert seen.data.failure.message == "Nobody decided at gray in time."
    assert fake.actions == [("Rollout/app-prod", "abort")]


METRICS: dict[str, object] = {"metrics": [{"name": "success", "query": "success_of_{service}", "min": 0.99}]}


async def test_bad_metrics_at_gray_go_back_without_anybody(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Good numbers keep it there, bad ones take the traffic away and undo Git, and the card says which number."""
    world = make_argo_world(tmp_path / "world", GRAY | METRICS)
    async with running_prometheus() as prometheus, slipway(world, fake, prometheus.url) as bot:
        await bot.say("owner", "/deploy app prod")
        await bot.ends()
        world.push("second")
        fake.outcome["app-prod"] = "paused"
        prometheus.answers["success_of_app"] = "1"
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.GRAY, 2)
        fake.outcome["app-prod"] = "good"
        prometheus.answers["success_of_app"] = "0.4"
        seen = await bot.ends(2)
    assert seen.state is State.ROLLED_BACK
    assert seen.data.failure is not None
    assert seen.data.failure.message == "The metrics are bad at gray: success is 0.4, at least 0.99 is good"
    assert fake.actions == [("Rollout/app-prod", "abort")]


async def test_no_data_at_gray_waits_although_its_time_is_over(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Going on by itself needs good numbers, not the absence of bad ones."""
    world = make_argo_world(tmp_path / "world", GRAY | METRICS | {"pauses": ["10ms"]})
    fake.outcome["app-prod"] = "paused"
    async with running_prometheus() as prometheus, slipway(world, fake, prometheus.url) as bot:
        prometheus.answers["success_of_app"] = None
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.GRAY)
        asked = len(prometheus.asked)
        await bot.until(lambda: _true(len(prometheus.asked) >= asked + 4), "more looks at the metrics")
        assert fake.actions == []
        prometheus.answers["success_of_app"] = "1"
        seen = await bot.ends()
    assert seen.state is State.SUCCEEDED
    assert fake.actions == [("Rollout/app-prod", "resume")]


async def test_metrics_that_go_bad_after_full_fail_a_first_release_and_lock(tmp_path: Path, fake: FakeArgoCD) -> None:
    """The settling time is there for what shows only under all of the traffic; nothing ran before to go back to."""
    world = make_argo_world(tmp_path / "world", GRAY | METRICS | {"settle": "60s"})
    async with running_prometheus() as prometheus, slipway(world, fake, prometheus.url) as bot:
        prometheus.answers["success_of_app"] = "1"
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.VERIFYING)
        prometheus.answers["success_of_app"] = "0.2"
        seen = await bot.ends()
        (lock,) = await bot.app.db.read(holds.all_locks)
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert "the metrics are bad: success is 0.2" in seen.data.failure.message
    assert (lock.what, lock.holder) == ("app/prod", "slipway")
    assert "nothing ran there before: It runs, but the metrics are bad" in lock.reason


async def test_a_crash_loop_under_a_healthy_application_goes_back(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Argo CD calls it healthy; the pods do not, and the requester reads why."""
    world = make_argo_world(tmp_path / "world")
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        await bot.ends()
        world.push("second")
        fake.outcome["app-prod"] = "crashing"
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.ROLLING_BACK, 2)
        fake.outcome["app-prod"] = "good"
        seen = await bot.ends(2)
    assert seen.state is State.ROLLED_BACK
    assert seen.data.failure is not None
    assert "CrashLoopBackOff after 7 restarts" in seen.data.failure.message


async def test_flapping_health_begins_the_settling_time_anew(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Healthy for a moment is not stable: every break starts the clock again, and the card says what is seen."""
    world = make_argo_world(tmp_path / "world", settle="2s")
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        await bot.until(lambda: _settles(bot, True), "it to be healthy")
        app = fake.apps["app-prod"]
        app["status"]["health"] = {"status": "Progressing"}
        fake.changed(app)
        await bot.until(lambda: _settles(bot, False), "the break to be seen")
        broken = await bot.get(1)
        app["status"]["health"] = {"status": "Healthy"}
        fake.changed(app)
        seen = await bot.ends()
    assert broken is not None
    assert (broken.state, broken.data.running_message) == (State.VERIFYING, "Health: Progressing.")
    assert seen.state is State.SUCCEEDED
    assert seen.data.healthy_since_at is not None
    assert seen.ended_at is not None
    assert seen.data.healthy_since_at > broken.changed_at
    assert seen.ended_at - seen.data.healthy_since_at >= timedelta(seconds=2)
    assert len(fake.operations) == 1


async def _settles(bot: Running, healthy: bool) -> bool:
    seen = await bot.get(1)
    return seen is not None and seen.state is State.VERIFYING and (seen.data.healthy_since_at is not None) is healthy


@pytest.mark.timeout(300)
async def test_restarted_anywhere_between_git_and_healthy(tmp_path: Path, fake: FakeArgoCD) -> None:
    """One commit, one operation, the right end, wherever the process ended; answers are lost on the way too."""
    world = make_argo_world(tmp_path / "world")
    fake.pace = 0.05
    for number in range(1, 11):
        world.push(f"change {number}")
        if number % 3 == 0:
            fake.faults.append(("POST", "/sync", "drop"))
        async with slipway(world, fake) as bot:
            await bot.say("owner", "/deploy app prod", event_id=f"typed-{number}")
            await bot.until(lambda: _past_writing(bot, number), "Git to be written")  # noqa: B023
            await bot.until(lambda: _moment(timedelta(milliseconds=25 * number)), "a moment")  # noqa: B023
        async with slipway(world, fake) as bot:
            seen = await bot.ends(number)
        assert seen.state is State.SUCCEEDED, seen.data
        assert len(world.config_log()) == number
        assert len(fake.operations) == number


async def test_the_doctor_says_what_is_missing(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Before the first release day: token, applications, rights, each with what to do."""
    world = make_argo_world(tmp_path / "world")
    more = {"argocd_url": fake.url, "argocd_token": SecretStr(TOKEN)}
    settings = settings_for(world).model_copy(update=more)
    fake.forbidden.add("app-prod")

    async def findings() -> list[str]:
        said_here: list[str] = []
        await examine(settings, load_catalog(world.directory), lambda finding: said_here.append(said(finding)))
        return said_here

    lines = await findings()
    assert lines[0] == "ok  argocd: Argo CD 'default' v3.5.1+109ca7c knows Slipway as slipway."
    assert "FIX argocd: There is no application app-dev in project default. Create it." in lines
    assert any(line.startswith("FIX argocd: Slipway may not sync default/app-prod.") for line in lines)
    fake.forbidden.clear()
    fake.add("app-dev")
    assert (await findings())[1] == "ok  argocd: All 2 applications of the catalog are there and may be synced."
    fake.token = "another.token.now"
    (line,) = await findings()
    assert line.startswith("FIX argocd: Argo CD 'default' does not know the token.")
    assert TOKEN not in line


async def test_where_tells_each_cluster_and_a_rollback_what_does_not_go_back(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Drift in one of two clusters is named; migrations and hooks are warned of on the card and in the answer."""
    world = make_argo_world(tmp_path / "world")
    fake.add("app-west")
    fake.hooks = ["migrate"]
    several = [{"application": "app-prod"}, {"application": "app-west"}]
    world.change_environment("prod", delivery={"provider": "argocd", "options": {"applications": several}})
    async with slipway(world, fake) as bot:
        await bot.say("owner", "/deploy app prod")
        first = await bot.ends(1)
        world.write({"db/migrate/2.sql": "alter table x;", "message.txt": "second"}, "migrate")
        await bot.say("owner", "/deploy app prod")
        second = await bot.ends(2)
        fake.apps["app-west"]["status"]["summary"]["images"] = [f"registry.example/app:0@sha256:{'9' * 64}"]
        await bot.say("owner", "/where app")
        (where,) = [card for card in await bot.cards("owner") if card["title"] == "Where app is"]
        fake.apps["app-west"]["status"]["summary"]["images"] = []
        said = [one.text for one in await bot.say("owner", "/rollback app prod")]
        assert await bot.get(3) is not None, said
        (card,) = await bot.cards("owner", "d-3")
    assert second.digest[:19] in where["fields"]["prod: app-prod"]
    assert where["fields"]["prod: app-west"].startswith("drift: Git wants")
    warned = card["fields"]["careful"]
    assert f"between {first.release_version} and {second.release_version} (db/migrate/2.sql)" in warned
    assert f"The sync runs hooks (PreSync Job/migrate), now those of {first.release_version}." in warned
    assert warned in said


KILLS = int(os.environ.get("ARGO_KILLS", "6"))
SEED = int(os.environ.get("ARGO_SEED", "7"))
"""How often it is killed, and by which dice; more by `ARGO_KILLS=200 pytest -k killed`."""


async def _life(world: World, fake: FakeArgoCD, number: int) -> asyncio.subprocess.Process:
    argv = [sys.executable, "-m", "tests.support.argo_life", str(world.directory), fake.url, str(number)]
    return await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, cwd=ROOT)


@pytest.mark.timeout(60 * KILLS)
async def test_killed_at_random_between_git_and_healthy(tmp_path: Path, fake: FakeArgoCD) -> None:
    """kill -9 of a real process at a random moment after the push; answers are lost, streams are cut and Argo CD
    restarts on the way too: one commit, one sync, the right end."""
    world = make_argo_world(tmp_path / "world")
    dice = random.Random(SEED)
    fake.pace = 0.1
    for number in range(1, KILLS + 1):
        world.push(f"change {number}")
        fault = dice.choice(["drop", "cut", "refuse", ""])
        fake.faults = [("POST", "/sync", fault)] if fault else []
        first = await _life(world, fake, number)
        while len(world.config_log()) < number:
            await asyncio.sleep(0.02)
        await asyncio.sleep(dice.uniform(0, 0.8))
        chance = dice.random()
        if chance < 0.3:
            fake.cut_streams()
        with contextlib.suppress(ProcessLookupError):  # It may have come to its end before.
            first.kill()
        await first.wait()
        second = await _life(world, fake, number)
        if chance > 0.7:
            await asyncio.sleep(dice.uniform(0.2, 1.2))
            await fake.restart()
        out, _ = await second.communicate()
        assert (second.returncode, out.decode().splitlines()[-1:]) == (0, ["succeeded"]), out.decode()[-3000:]
        assert len(world.config_log()) == number
        assert len(fake.operations) == number


async def _past_writing(bot: Running, number: int) -> bool:
    seen = await bot.get(number)
    return seen is not None and bool(seen.data.revision)


async def _true(value: bool) -> bool:
    return value


async def _moment(length: timedelta) -> bool:
    await asyncio.sleep(length.total_seconds())
    return True


async def test_argo_cds_own_windows_are_shown_beside_ours(tmp_path: Path, fake: FakeArgoCD) -> None:
    """Before somebody deploys in our open time and waits there for a window that is shut."""
    fake.sync_windows["default"] = [
        {"kind": "deny", "schedule": "0 2 * * *", "duration": "1h", "applications": ["app-*"]}
    ]
    async with slipway(make_argo_world(tmp_path / "world"), fake) as bot:
        text = str((await bot.say("owner", "/windows app prod"))[-1].card)
    assert "! prod: Argo CD app-prod (project default) would block from" in text
    assert "02:00 (UTC)" in text
    assert "prod: Argo CD app-prod (project default): deny 0 2 * * * for 60m (UTC)" in text
