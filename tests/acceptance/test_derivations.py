"""Why a deployment was let through or stopped: kept with it, shown in chat, and made again on the server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from typer.testing import CliRunner

from bot.deployments.derivations import again
from bot.deployments.model import State
from bot.terminal import app
from tests.fakes.repositories import git
from tests.support.running import running
from tests.support.world import World, make_world


def in_git(world: World) -> str:
    """The catalog as a repository; returns its commit."""
    (world.directory / ".gitignore").write_text("repos/\neffects/\n.slipway/\n")
    git(world.directory, "init", "--quiet")
    git(world.directory, "add", "--all")
    git(world.directory, "commit", "--quiet", "-m", "catalog")
    return git(world.directory, "rev-parse", "HEAD")


async def test_the_derivation_is_kept_shown_and_made_again(tmp_path: Path) -> None:
    """A month later one sees which rule of which commit decided, and that it would decide the same."""
    world = make_world(tmp_path / "world")
    commit = in_git(world)
    async with running(world) as slipway:
        await slipway.say("lead", "/lock app prod --warn --reason the cache is cold")
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends()
        steps = [one.step for one in seen.data.derivations]
        assert steps == ["asked", "started", "written"]
        for one in seen.data.derivations:
            verdict = again(slipway.app.catalog(), one)
            assert (verdict.outcome.value, [reason.text for reason in verdict.reasons]) == (
                one.outcome,
                [note.text for note in one.reasons],
            )
        card = (await slipway.say("outsider", "/why d-1"))[-1].card
        assert card is not None
        assert "✓ permitted: Owner may, as owner. [owners, services/all.yaml:1]" in card["text"]
        assert "lock_warning: Lead asks for care with app/prod: the cache is cold" in card["text"]
        assert card["fields"]["catalog"].startswith(f"commit {commit[:12]}, files ")
        assert card["fields"]["written"].startswith("allowed, ")
        assert f"commit {commit[:12]}" in str((await slipway.say("owner", "/why app prod"))[-1].card)
    ran = await asyncio.to_thread(explain, world)
    assert ran.exit_code == 0, ran.output
    assert f"by commit {commit[:12]}, files " in ran.output
    assert ran.output.count("judged again by the same catalog: allowed") == 3
    world.write_root(freezes=[{"name": "always", "from": "2000-01-01"}])
    git(world.directory, "commit", "--quiet", "--all", "-m", "freeze")
    then = await asyncio.to_thread(explain, world)
    assert then.output.count("judged again by the same catalog, from Git: allowed") == 3
    other = await asyncio.to_thread(explain, world, "--with", str(world.directory))
    assert other.exit_code == 1
    assert "refused, another answer" in other.output
    assert "freeze_active: The freeze always holds" in other.output


def explain(world: World, *more: str):  # type: ignore[no-untyped-def]
    """What the command says."""
    arguments = ["policy", "explain", "d-1", "--config", str(world.directory), *more]
    return CliRunner().invoke(app, arguments)


async def test_a_deployment_stopped_by_the_rules_says_which(world: World) -> None:
    """What it failed by is kept as well as what it started by."""
    async with running(world) as slipway:
        world.push("slow", test="sleep 1")
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING)
        world.write_root(people={"lead": {"name": "Lead"}}, teams={"shop": {"leads": ["lead"]}}, release_managers=[])
        (world.directory / "services" / "all.yaml").write_text("app: {team: shop, owners: [lead]}\n")
        assert slipway.app.catalogs.reload(), slipway.app.catalogs.problem
        seen = await slipway.ends()
    assert seen.state is State.FAILED
    assert [(one.step, one.outcome) for one in seen.data.derivations][-1] == ("written", "refused")
