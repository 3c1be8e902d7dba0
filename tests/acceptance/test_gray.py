"""Gray then full in a whole Slipway, on a cluster without Argo: a canary Deployment beside the stable one."""

from __future__ import annotations

from pathlib import Path

from bot.app import App, Outside
from bot.deployments.model import State
from bot.store import holds
from tests.contract.test_kubernetes import kubeconfig
from tests.fakes.kubernetes import FakeKubernetes, running_kubernetes
from tests.fakes.prometheus import running_prometheus
from tests.support.running import POLL, Running, settings_for
from tests.support.world import World, make_world


def make_gray_world(directory: Path, channels: dict[str, str] | None = None, **gray: object) -> World:
    """The usual world, whose prod is a pair of Deployments."""
    world = make_world(directory, channels=channels) if channels else make_world(directory)
    world.change_environment(
        "prod",
        delivery={"provider": "canary", "options": {"image": "registry.example/{service}"}},
        gray={"interval": "50ms", "weights": [20], **gray},
    )
    return world


def ready_for_canary(fake: FakeKubernetes) -> None:
    """The pair of Deployments of the usual service, as a cluster has them between two releases."""
    fake.replicas = 4
    fake.add("app", "app")
    fake.add("app-canary", "app")
    fake.deployments["app-canary"]["spec"]["replicas"] = 0


def start(world: World, fake: FakeKubernetes, **more: object) -> App:
    ready_for_canary(fake)
    settings = settings_for(world).model_copy(
        update={"kubeconfig": kubeconfig(world.directory.parent, fake.url), **more}
    )
    return App(settings, Outside(poll=POLL))


async def test_bad_numbers_take_the_canary_away_undo_git_lock_and_tell(tmp_path: Path) -> None:
    """Two deployments: one goes through gray by its button, the next breaks the success rate and is taken back.

    The numbers are compared with those of the version that was there; the target is locked with the reason, and the
    requester hears it.
    """
    rule = {"name": "success", "query": 'ok{v="{version}"}', "baseline": 'ok{v="{stable}"}', "min_factor": 0.95}
    world = make_gray_world(tmp_path / "world", metrics=[rule])
    async with running_kubernetes() as fake, running_prometheus() as prometheus:
        app = start(world, fake, prometheus_url=prometheus.url)
        bot = Running(app)
        await app.start()
        try:
            first = world.push("first")[:12]
            prometheus.answers[f'ok{{v="{first}"}}'] = "0.9"
            prometheus.answers['ok{v=""}'] = "0.9"
            await bot.say("owner", "/deploy app prod")
            await bot.reaches(State.GRAY)
            (card,) = await bot.cards("owner", "d-1")
            (gray,) = [step for step in card["steps"] if step["name"] == "Gray"]
            assert gray["state"] == "running"
            assert (await bot.click("owner", card["ref"], "continue")).accepted
            assert (await bot.ends(1)).state is State.SUCCEEDED
            second = world.push("second")[:12]
            prometheus.answers[f'ok{{v="{second}"}}'] = "0.7"
            await bot.say("owner", "/deploy app prod")
            seen = await bot.ends(2)
            locks = await app.db.read(holds.all_locks)
            told = [one.text for one in await bot.messages("owner") if one.place == "@slipway"]
        finally:
            await app.runs.stop_all()
            await app.stop()
    assert seen.state is State.ROLLED_BACK
    assert seen.data.failure is not None
    said = "The metrics are bad at gray: success is 0.7, at least 0.855 is good (stable: 0.9)"
    assert seen.data.failure.message == said
    assert fake.deployments["app-canary"]["spec"]["replicas"] == 0
    assert [lock.what for lock in locks] == ["app/prod"]
    assert said in locks[0].reason
    assert any("was rolled back" in text and said in text for text in told)
    assert len(world.config_log()) == 3


async def test_a_first_release_with_bad_numbers_is_locked_too(tmp_path: Path) -> None:
    """Nothing ran there to go back to, so it is left as it is: locked, and the requester reads how to let a fix go."""
    world = make_gray_world(tmp_path / "world", metrics=[{"name": "success", "query": "ok", "min": 0.99}])
    async with running_kubernetes() as fake, running_prometheus() as prometheus:
        app = start(world, fake, prometheus_url=prometheus.url)
        bot = Running(app)
        await app.start()
        try:
            prometheus.answers["ok"] = "0.5"
            await bot.say("owner", "/deploy app prod")
            seen = await bot.ends(1)
            (lock,) = await app.db.read(holds.all_locks)
            told = [one.text for one in await bot.messages("owner") if one.place == "@slipway"]
            again = (await bot.say("owner", "/deploy app prod"))[-1].text
        finally:
            await app.runs.stop_all()
            await app.stop()
    assert (seen.state, fake.deployments["app-canary"]["spec"]["replicas"]) == (State.FAILED, 0)
    assert (lock.what, lock.holder) == ("app/prod", "slipway")
    assert "nothing ran there before: The metrics are bad at gray: success is 0.5" in lock.reason
    assert any("/unlock app prod lets a fix through" in text for text in told), told
    assert "slipway holds the lock on app/prod" in again
