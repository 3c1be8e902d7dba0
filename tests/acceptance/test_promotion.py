"""One image moves on: what was seen running in front is what comes next, to the byte."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.app import Outside
from bot.catalog.model import Kind
from bot.deployments.model import State
from tests.fakes.repositories import git
from tests.support.registry import PROGRAM, running_registry
from tests.support.running import POLL, running
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


@pytest.mark.skipif(not PROGRAM, reason="needs docker-registry (Debian: apt-get install docker-registry)")
async def test_a_promotion_names_the_image_and_the_commit(tmp_path: Path) -> None:
    """In a real registry the same digest gets the version's tag and the environment's; Git gets a tag; no build."""
    world = make_world(tmp_path / "world")
    async with running_registry(tmp_path / "registry") as registry:
        rule = {"image": f"{registry.host}/shop/app", "tags": ["{version}", "{environment}"]}
        world.change_environment("prod", promote=rule | {"git_tag": "{service}/{version}"})
        async with running(world, outside=Outside(poll=POLL, wrap=_image_digests)) as slipway:
            pushed = await registry.push("shop/app", "hello", "build-1")
            _PUSHED.append(pushed)
            await slipway.say("owner", "/deploy app dev")
            first = await slipway.ends(1)
            await slipway.say("owner", "/promote app to prod")
            second = await slipway.ends(2)
            assert second.data.failure is None
            (card,) = await slipway.cards("owner", "d-2")
            taken = f"app/{first.release_version}"
        assert (first.digest, second.digest, second.state) == (pushed, pushed, State.SUCCEEDED)
        assert await registry.digest_of("shop/app", first.release_version) == pushed
        assert await registry.digest_of("shop/app", "prod") == pushed
        tags = git(world.source, "for-each-ref", "--format=%(refname:short) %(objecttype) %(*objectname)", "refs/tags")
        assert tags.split() == [taken, "tag", first.commit]
        assert {"name": "Tag", "state": "succeeded"}.items() <= next(
            s for s in card["steps"] if s["name"] == "Tag"
        ).items()
        assert world.count("builds") == 1


@pytest.mark.skipif(not PROGRAM, reason="needs docker-registry (Debian: apt-get install docker-registry)")
async def test_a_name_that_is_taken_stops_a_promotion_before_git(tmp_path: Path) -> None:
    """A version means one image for ever; the person is told which name, and nothing is half-done."""
    world = make_world(tmp_path / "world")
    async with running_registry(tmp_path / "registry") as registry:
        world.change_environment("prod", promote={"image": f"{registry.host}/shop/app"})
        async with running(world, outside=Outside(poll=POLL, wrap=_image_digests)) as slipway:
            _PUSHED.append(await registry.push("shop/app", "hello"))
            await slipway.say("owner", "/deploy app dev")
            first = await slipway.ends(1)
            await registry.push("shop/app", "another", first.release_version)
            await slipway.say("owner", "/promote app prod")
            seen = await slipway.ends(2)
        assert seen.state is State.FAILED
        assert seen.data.failure is not None
        assert seen.data.failure.step == "tag"
        assert f"app:{first.release_version} is another image already" in seen.data.failure.message
        assert len(world.config_log()) == 1


_PUSHED: list[str] = []
"""What the pipeline of these tests has pushed."""


def _image_digests(name: str, part: Any) -> Any:
    """The built-in pipeline stores directories; here it is one that pushes images."""
    return _Pushing(part) if name == "pipeline" else part


class _Pushing:
    """A pipeline whose artifact is the image that was pushed last."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def find(self, request: Any) -> Any:
        run = await self._inner.find(request)
        if run is None or run.artifact is None:
            return run
        return replace(run, artifact=replace(run.artifact, digest=_PUSHED[-1]))


async def test_a_release_branch_names_its_versions(tmp_path: Path) -> None:
    """`/deploy app prod` takes the newest release branch; its name is known wherever a version is typed."""
    world = make_world(tmp_path / "world")
    root = json.loads((world.directory / "slipway.yaml").read_text())
    root["environments"]["prod"]["branch"] = "release/*"
    root["defaults"]["versions"] = "{release}-{date}.{count}"
    (world.directory / "slipway.yaml").write_text(json.dumps(root))
    world.push("june", branch="release/202406")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        first = await slipway.ends(1)
        await slipway.say("owner", f"/deploy app dev {first.release_version}")
        second = await slipway.ends(2)
        world.push("july", branch="release/202407")
        await slipway.say("owner", "/deploy app prod")
        third = await slipway.ends(3)
        await slipway.say("owner", f"/rollback app prod {first.release_version}")
        back = await slipway.ends(4)
    assert re.fullmatch(r"202406-\d{8}\.2", first.release_version)
    assert (second.release_version, second.digest) == (first.release_version, first.digest)
    assert re.fullmatch(r"202407-\d{8}\.\d+", third.release_version)
    assert (back.release_version, back.digest) == (first.release_version, first.digest)
    assert world.count("builds") == 2


async def test_a_promotion_passes_the_gates_of_where_it_goes(tmp_path: Path) -> None:
    """The same image, but production asks more of it than dev did; nothing is written to Git."""
    world = make_world(tmp_path / "world")
    world.change_environment("prod", gates={"tests": {"report": "{service}/{commit}.xml"}})
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app dev")
        assert (await slipway.ends(1)).state is State.SUCCEEDED
        await slipway.say("owner", "/promote app to prod")
        seen = await slipway.ends(2)
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert (seen.data.failure.step, len(world.config_log())) == ("gate", 1)
