"""A pipeline that waits for a person: asked in chat, answered once, handed on, and never by who must not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from bot.app import App, Outside
from bot.deployments.model import State
from bot.errors import Conflict, Refused
from tests.fakes.github import TOKEN, FakeGitHub
from tests.fakes.jenkins import FakeJenkins
from tests.fakes.serving import serving
from tests.support.running import POLL, Running, settings_for
from tests.support.world import World


def builds_with(world: World, provider: str, name: str, **options: object) -> None:
    """Have the catalog's services built there."""
    path = world.directory / "slipway.yaml"
    root = json.loads(path.read_text())
    root["defaults"]["pipeline"] = {"provider": provider, "name": name, "options": options}
    path.write_text(json.dumps(root))


@asynccontextmanager
async def slipway(world: World, **settings: object) -> AsyncIterator[Running]:
    app = App(settings_for(world).model_copy(update=settings), Outside(poll=POLL))
    await app.start()
    try:
        yield Running(app)
    finally:
        await app.stop()


async def asked(running: Running) -> str:
    """Wait until the card offers the question's buttons; returns the card's text."""

    async def offered() -> bool:
        (card,) = await running.cards("owner", "d-1")
        return "continue" in [button["id"] for button in card["buttons"]]

    await running.until(offered, "the question")
    (card,) = await running.cards("owner", "d-1")
    return str(card["text"])


async def test_an_input_step_is_answered_in_chat(world: World) -> None:
    """The card shows what Jenkins asks; a bystander is refused, the second click is told who was first."""
    world.push("second")
    builds_with(world, "jenkins", "team/app")
    fake = FakeJenkins("team/app")
    fake.queue_looks, fake.asks = 0, True
    async with serving(fake.app) as url:
        jenkins = {"jenkins_url": url, "jenkins_user": "bot", "jenkins_token": SecretStr("t0ken")}
        async with slipway(world, **jenkins) as running:
            await running.say("owner", "/deploy app prod")
            assert await asked(running) == "Waiting: The Jenkins build waits for a person: Ship it?"
            with pytest.raises(Refused):
                await running.app.deployments.decide(1, running.app.catalog().people["outsider"], "continue")
            assert fake.decided == []
            await running.say("owner", "/continue")
            with pytest.raises(Conflict, match=r"Somebody was first|asks for nothing any more|stands at no gray"):
                await running.app.deployments.decide(1, running.app.catalog().people["lead"], "abort")
            seen = await running.ends()
    assert (seen.state, fake.decided) == (State.SUCCEEDED, ["proceedEmpty"])


async def test_who_asked_for_it_does_not_review_it(world: World) -> None:
    """An environment of GitHub wants a second person, and hears itself what is deployed where, each state once."""
    world.push("second")
    inputs = {"version": "{version}", "commit": "{commit}"}
    builds_with(world, "github", "team/app/release.yml", inputs=inputs)
    fake = FakeGitHub("team/app/release.yml")
    fake.waiting = True
    token: dict[str, Any] = {"github_token": SecretStr(TOKEN), "github_deployments": True}
    async with serving(fake.app) as url, slipway(world, github_url=url, **token) as running:
        await running.say("owner", "/deploy app prod")
        await asked(running)
        people = running.app.catalog().people
        with pytest.raises(Refused, match="somebody else must let its pipeline go on"):
            await running.app.deployments.decide(1, people["owner"], "continue")
        assert fake.reviews == []
        await running.app.deployments.decide(1, people["lead"], "continue")
        seen = await running.ends()
        await running.quiet()
    assert seen.state is State.SUCCEEDED
    assert [(one["ref"], one["environment"]) for one in fake.deployments] == [(seen.commit, "prod")]
    assert fake.statuses[-1] == "success"
    assert fake.statuses == list(dict.fromkeys(fake.statuses))
    assert fake.reviews == [{"environment_ids": [7], "state": "approved", "comment": "Lead in Slipway"}]
