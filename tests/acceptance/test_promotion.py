"""One image moves on: what was seen running in front is what comes next, to the byte."""

from __future__ import annotations

import json
from pathlib import Path

from bot.catalog.model import Kind
from bot.deployments.model import State
from tests.support.running import running
from tests.support.world import World, make_world


async def test_the_same_digest_moves_on_without_a_build(world: World) -> None:
    """What was tested is what ships: one build, two deployments."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app dev")
        first = await slipway.ends(1)
        await slipway.say("owner", "/promote app prod")
        second = await slipway.ends(2)
        await slipway.say("owner", "/where app")
        (card,) = [card for card in await slipway.cards("owner") if card["title"] == "Where app is"]
    assert (first.state, second.state, second.kind) == (State.SUCCEEDED, State.SUCCEEDED, Kind.PROMOTION)
    assert first.digest == second.digest
    assert second.reason == "promoted from dev (d-1)"
    assert (world.count("builds"), world.count("deploys")) == (1, 2)
    assert "by Owner (d-2)" in card["fields"]["prod"]
    assert "drift" not in card["fields"]["prod"]


async def test_what_is_not_proven_is_refused_with_a_reason(world: World) -> None:
    """Nothing in front, not healthy, changed by hand, or the first environment: a sentence each, and nothing starts."""
    state = world.effects / "running-app-dev.json"
    async with running(world) as slipway:

        async def said(text: str) -> str:
            return (await slipway.say("owner", text))[-1].text

        assert "Nothing of app runs in dev" in await said("/promote app prod")
        assert "dev is the first environment of app" in await said("/promote app dev")
        await slipway.say("owner", "/deploy app dev")
        await slipway.ends(1)
        body = json.loads(state.read_text())
        state.write_text(json.dumps(body | {"healthy": False, "message": "it answers 503"}))
        assert "app is not healthy in dev: it answers 503" in await said("/promote app prod")
        state.write_text(json.dumps(body | {"digest": "sha256:by-hand", "version": "9"}))
        assert "app in dev runs 9, but Slipway put" in await said("/promote app prod")
        await slipway.say("owner", "/where app")
        (card,) = [card for card in await slipway.cards("owner") if card["title"] == "Where app is"]
        assert "drift: Git wants" in card["fields"]["dev"]
        assert await slipway.get(2) is None


async def test_a_release_must_soak_first(tmp_path: Path) -> None:
    """Production asks for hours in front; the answer says when."""
    world = make_world(tmp_path / "world")
    root = json.loads((world.directory / "slipway.yaml").read_text())
    root["environments"]["prod"]["defaults"] = {"soak": "2h"}
    (world.directory / "slipway.yaml").write_text(json.dumps(root))
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app dev")
        await slipway.ends(1)
        text = (await slipway.say("owner", "/promote app prod"))[-1].text
        assert await slipway.get(2) is None
    assert "2 h are asked for. Promote it after" in text


async def test_the_commits_in_between_are_listed(world: World) -> None:
    """Who is affected by a promotion, before it is done."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends(1)
        world.push("fix the total", branch="develop")
        await slipway.say("owner", "/deploy app dev")
        await slipway.ends(2)
        await slipway.say("owner", "/diff app prod")
        (card,) = [card for card in await slipway.cards("owner") if card["title"] == "app: dev before prod"]
    assert "say fix the total (Ada)" in card["excerpt"]
    assert card["fields"]["authors"] == "Ada"
