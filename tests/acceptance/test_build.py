"""`/build`: the pipeline alone. Nothing is deployed, and what was built once is deployed without building again."""

from __future__ import annotations

from pathlib import Path

from bot.deployments.model import State
from tests.acceptance.conftest import closed_window
from tests.support.running import running
from tests.support.world import PIPELINE, World, make_world


async def test_a_branch_is_built_and_nothing_is_deployed(closed: World) -> None:
    """Closed windows are about releases; the same commit is later deployed from the build that exists."""
    closed.push("refunds", branch="feature/refunds")
    async with running(closed) as slipway:
        await slipway.say("developer", "/build app feature/refunds")
        seen = await slipway.ends()
        assert (seen.state, seen.environment, seen.branch) == (State.SUCCEEDED, "@feature/refunds", "feature/refunds")
        assert seen.digest.startswith("sha256:")
        assert (closed.count("builds"), closed.count("deploys"), closed.config_log()) == (1, 0, [])
        (card,) = [one for one in await slipway.cards("developer", "d-1") if one["place"] == "#releases"]
        assert card["title"] == f"app {seen.release_version} is built from feature/refunds"
        assert next(step["name"] for step in card["steps"]) == "Build"
        assert not [step for step in card["steps"] if step["name"] in ("Deploy", "Verify", "Write to Git")]
        assert card["buttons"] == []
        await slipway.say("owner", "/deploy app dev feature/refunds")
        assert (await slipway.ends(2)).state is State.SUCCEEDED
        assert closed.count("builds") == 1


async def test_a_build_that_fails_tells_who_asked(world: World) -> None:
    """The lines that matter and the log are as those of a deployment; the button builds the same commit again."""
    world.push("bad", "echo 'total_test.go:9: got 3, want 4'; exit 1", branch="broken")
    async with running(world) as slipway:
        await slipway.say("developer", "/build app broken")
        seen = await slipway.ends()
        assert seen.state is State.FAILED
        (told,) = [one for one in await slipway.cards("developer", "d-1") if one["place"] == "@slipway"]
        assert "Push a fix and type /build app broken, or see /logs d-1." in told["text"]
        assert "total_test.go:9: got 3, want 4" in told["excerpt"]
        await slipway.say("developer", "/logs d-1 test")
        assert "got 3, want 4" in (await slipway.cards("developer"))[-1]["excerpt"]
        (card,) = [one for one in await slipway.cards("developer", "d-1") if one["place"] == "#releases"]
        assert (await slipway.click("developer", card["ref"], "retry")).accepted
        assert (await slipway.ends(2)).environment == seen.environment


async def test_only_the_team_may_build_and_the_same_commit_once(world: World) -> None:
    """A stranger is refused; two people who ask for the same build get one."""
    world.push("slow", "sleep 600", branch="slow")
    async with running(world) as slipway:
        said = await slipway.say("outsider", "/build app slow")
        assert any("Only the team and the owners of app" in one.text for one in said)
        await slipway.say("developer", "/build app slow")
        await slipway.reaches(State.BUILDING)
        said = await slipway.say("owner", "/build app slow")
        assert any("is being built already: d-1 is building. Nothing new was started." in one.text for one in said)
        await slipway.say("outsider", "/cancel d-1")
        assert (await slipway.reaches(State.BUILDING)).data.cancelled_by == ""
        await slipway.say("owner", "/cancel d-1")
        assert (await slipway.ends()).state is State.CANCELLED
    assert world.count("builds") == 0


async def test_a_build_stands_in_nobodys_way(world: World) -> None:
    """A deployment of the same service goes on while a branch is built; reports of deployments do not count it."""
    world.push("slow", "sleep 600", branch="slow")
    async with running(world) as slipway:
        await slipway.say("developer", "/build app slow")
        await slipway.reaches(State.BUILDING)
        await slipway.say("owner", "/deploy app prod main")
        assert (await slipway.ends(2)).state is State.SUCCEEDED
        await slipway.say("developer", "/cancel d-1")
        await slipway.ends(1)


CHECK = "steps:\n  - {name: lint, run: [sh, -c, 'echo linted >> {effects}/checks.log']}\nartifact: message.txt\n"


async def test_a_check_is_run_by_its_own_pipeline_and_leaves_no_release(tmp_path: Path) -> None:
    """What looks at a merge request; the build of the same commit is still to be made."""
    world = make_world(tmp_path / "world", windows=[closed_window()])
    (world.directory / "services" / "all.yaml").write_text(
        "app: {team: shop, owners: [owner], check: {options: {file: .slipway/check.yaml}}}\n"
    )
    (world.source / ".slipway" / "check.yaml").write_text(CHECK.replace("{effects}", str(world.effects)))
    world.push("checked")
    async with running(world) as slipway:
        await slipway.say("developer", "/build app main --check")
        seen = await slipway.ends()
        assert (seen.state, seen.digest) == (State.SUCCEEDED, "")
        assert (world.count("checks"), world.count("builds")) == (1, 0)
        await slipway.say("developer", "/build app main")
        assert (await slipway.ends(2)).digest != ""
        assert world.count("builds") == 1


async def test_a_repository_without_a_pipeline_file_is_built_by_its_language(tmp_path: Path) -> None:
    """The convention has the steps, the artifact and the reports; the service changed one field of it."""
    steps = [{"name": "all", "run": ["sh", "test.sh"]}]
    convention = {"steps": steps, "artifact": "out", "tests": ["junit.xml"]}
    world = make_world(tmp_path / "world", languages={"shell": convention})
    assert "build.sh" in PIPELINE
    (world.source / ".slipway" / "pipeline.yaml").unlink()
    report = "<testsuite><testcase name='a'/></testsuite>"
    world.push("conventional", f'mkdir -p dist && cp message.txt dist && echo "{report}" > junit.xml')
    (world.directory / "services" / "all.yaml").write_text(
        "app: {team: shop, owners: [owner], language: shell, build: {artifact: dist}, gates: {tests: {}}}\n"
    )
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends()
        assert (seen.state, [note.verdict for note in seen.data.gates]) == (State.SUCCEEDED, ["pass"])
        assert [stage.name for stage in seen.data.stages] == ["checkout", "all", "reports", "artifact"]
