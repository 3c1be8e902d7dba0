"""The main job on a plain cluster: patched by digest, seen running, and taken back when its pods crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bot.app import App, Outside
from bot.deployments.model import State
from tests.contract.test_kubernetes import kubeconfig
from tests.fakes.kubernetes import FakeKubernetes, running_kubernetes
from tests.support.running import POLL, Running, settings_for
from tests.support.world import World, make_world


def make_cluster_world(directory: Path) -> World:
    """The usual world, whose prod is a namespace."""
    world = make_world(directory)
    defaults = {
        "repo": "repos/app",
        "gitops": {"repo": "repos/config.git"},
        "pipeline": {"timeout": "1m"},
        "delivery": {"provider": "kubernetes", "options": {"image": "registry.example/{service}"}},
        "verify": {"timeout": "3s", "settle": "1ms", "interval": "20ms"},
    }
    world.write_root(defaults=defaults)
    return world


@asynccontextmanager
async def slipway(world: World, fake: FakeKubernetes) -> AsyncIterator[Running]:
    settings = settings_for(world).model_copy(update={"kubeconfig": kubeconfig(world.directory.parent, fake.url)})
    app = App(settings, Outside(poll=POLL))
    await app.start()
    try:
        yield Running(app)
    finally:
        await app.runs.stop_all()
        await app.stop()


async def test_deployed_by_digest_and_taken_back_when_it_crashes(tmp_path: Path) -> None:
    """Two deployments: the first runs; the second crash-loops, and the first runs again, by Git and by digest."""
    world = make_cluster_world(tmp_path / "world")
    async with running_kubernetes() as fake:
        fake.add("app", "app")
        async with slipway(world, fake) as bot:
            await bot.say("owner", "/deploy app prod")
            first = await bot.ends(1)
            world.push("second")
            fake.outcome = "crashing"
            await bot.say("owner", "/deploy app prod")
            await bot.reaches(State.ROLLING_BACK, 2)
            fake.outcome = "good"
            second = await bot.ends(2)
    assert (first.state, second.state) == (State.SUCCEEDED, State.ROLLED_BACK)
    assert second.data.failure is not None
    assert "CrashLoopBackOff" in second.data.failure.message
    images = [image.rpartition("@")[2] for image in fake.rollouts]
    assert images == [first.digest, second.digest, first.digest]
    assert len(world.config_log()) == 3
