"""The main job: a command is typed, and something really runs, or everybody knows why not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bot.deployments.model import State
from tests.fakes.repositories import git
from tests.support.running import running
from tests.support.world import World, make_world


async def test_a_deployment_runs_to_its_end(world: World, database_url: str) -> None:
    """Build, Git, deploy, verify, one card; on both databases."""
    commit = world.push("second")
    async with running(world, database_url) as slipway:
        await slipway.say("owner", "/deploy app prod --reason the new greeting")
        seen = await slipway.ends()
        (card,) = await slipway.cards("lead", "d-1")
        actions = [(entry.actor, entry.action, entry.outcome) for entry in await slipway.audit()]
    assert seen.state is State.SUCCEEDED
    assert (card["state"], card["progress"], card["place"]) == ("succeeded", 100, "#releases")
    assert card["fields"]["url"] == "http://127.0.0.1:1"
    assert card["fields"]["digest"] == seen.digest
    assert seen.digest.startswith("sha256:")
    assert [step["state"] for step in card["steps"]] == ["succeeded"] * len(card["steps"])
    assert (world.count("builds"), world.count("deploys")) == (1, 1)
    (message,) = world.config_log()
    for trailer in (
        "Slipway-Deployment: d-1",
        "Requested-by: Owner <owner@slipway.example>",
        f"Source-commit: {commit}",
        f"Argocd-reference-commit-sha: {commit}",
        f"Slipway-Intent: {seen.intent}",
    ):
        assert trailer in message
    assert ("owner", "command", "accepted") in actions
    assert ("slipway", "deployment:move", "succeeded") in actions


async def test_what_git_says_is_what_runs(world: World) -> None:
    """The configuration repository is the truth, by digest."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends()
    text = git(world.config, "show", "main:prod/app.yaml")
    assert seen.digest in text
    assert seen.digest in (world.effects / "running-app-prod.json").read_text()


async def test_a_failing_build_changes_nothing_and_tells_its_requester(world: World) -> None:
    """The lines that matter go to the person who must act; the channel sees the card."""
    world.push("second", test="echo 'password=hunter2-secret'; echo 'AssertionError: 2 != 3' >&2; exit 1")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends()
        cards = await slipway.cards("owner", "d-1")
        others = await slipway.cards("lead", "d-1")
    assert seen.state is State.FAILED
    (personal,) = [card for card in cards if card["place"] == "@slipway"]
    assert "AssertionError: 2 != 3" in personal["excerpt"]
    assert "hunter2" not in str(cards)
    assert "Push a fix" in personal["text"]
    assert [card["place"] for card in others] == ["#releases"]
    assert world.config_log() == []
    assert world.count("deploys") == 0


async def test_what_never_becomes_healthy_goes_back_to_what_ran(world: World) -> None:
    """After Git was written the way back is a commit too, and the requester hears of it."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        good = await slipway.ends(1)
        world.push("broken")
        await slipway.say("owner", "/deploy app prod")
        bad = await slipway.ends(2)
        (card,) = await slipway.cards("lead", "d-2")
        personal = [card for card in await slipway.cards("owner", "d-2") if card["place"] == "@slipway"]
    assert bad.state is State.ROLLED_BACK
    assert good.digest in (world.effects / "running-app-prod.json").read_text()
    assert good.digest in git(world.config, "show", "main:prod/app.yaml")
    assert f'commit: "{good.commit}"' in git(world.config, "show", "main:prod/app.yaml")
    assert len(world.config_log()) == 3
    assert card["steps"][-1] == {"name": "Roll back", "state": "succeeded", "detail": ""}
    assert len(personal) == 1
    assert "503" in personal[0]["text"]


async def test_a_first_deployment_that_fails_is_left_with_its_evidence(world: World) -> None:
    """There is nothing to go back to, and that is said."""
    world.push("broken")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends()
        personal = [card for card in await slipway.cards("owner") if card["place"] == "@slipway"]
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert seen.data.failure.step == "verify"
    assert "nothing ran there before" in personal[0]["text"]


async def test_the_same_message_twice_does_one_thing(world: World) -> None:
    """Platforms deliver again when they are in doubt; so do scripts."""
    async with running(world) as slipway:
        await asyncio.gather(*(slipway.say("owner", "/deploy app prod", event_id="same") for _ in range(5)))
        await slipway.ends()
        await slipway.say("owner", "/deploy app prod", event_id="same")
        assert await slipway.get(2) is None
        assert len(await slipway.cards("lead")) == 1
    assert world.count("builds") == 1


async def test_a_release_on_its_way_is_joined_not_started_again(world: World) -> None:
    """Two people who want the same thing get it once."""
    world.push("second", test=world.held)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        messages = await slipway.say("lead", "/deploy app prod")
        assert "d-1" in messages[-1].text
        assert "Nothing new was started" in messages[-1].text
        world.let_go()
        await slipway.ends()
        assert await slipway.get(2) is None


async def test_one_at_a_time_per_service_and_environment(world: World) -> None:
    """The next one waits in the queue, says behind whom, and goes when it is its turn."""
    world.push("second", test=world.held)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING, 1)
        world.push("third")
        await slipway.say("owner", "/deploy app prod")
        waiting = await slipway.reaches(State.QUEUED, 2)
        await slipway.until(lambda: _waits(slipway, 2), "the queue to say behind whom")
        assert waiting.ended_at is None
        world.let_go()
        first, second = await slipway.ends(1), await slipway.ends(2)
    assert (first.state, second.state) == (State.SUCCEEDED, State.SUCCEEDED)
    assert first.ended_at is not None
    assert second.ended_at is not None
    assert first.ended_at < second.ended_at
    assert second.digest in (world.effects / "running-app-prod.json").read_text()


async def _waits(slipway: object, number: int) -> bool:
    seen = await slipway.get(number)  # type: ignore[attr-defined]
    return "d-1" in seen.data.waiting_for


async def test_a_built_commit_is_not_built_again(world: World) -> None:
    """One image per commit, in every environment: promotion without a rebuild."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app dev")
        await slipway.ends(1)
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends(2)
    assert seen.state is State.SUCCEEDED
    assert world.count("builds") == 1


async def test_rollback_goes_to_the_release_before(world: World) -> None:
    """By Git, without a build, also from the button of the card."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        first = await slipway.ends(1)
        world.push("second")
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends(2)
        await slipway.say("owner", "/rollback app prod")
        back = await slipway.ends(3)
        (card,) = await slipway.cards("lead", "d-3")
    assert (back.state, back.digest, back.kind) == (State.SUCCEEDED, first.digest, "rollback")
    assert world.count("builds") == 2
    assert world.config_log()[0].startswith("Roll back app")
    assert card["state"] == "succeeded"


async def test_the_rollback_button_is_only_on_what_runs(world: World) -> None:
    """An old card must not take production back by surprise."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends(1)
        world.push("second")
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends(2)
        (first,), (second,) = await slipway.cards("owner", "d-1"), await slipway.cards("owner", "d-2")
        assert [button["id"] for button in second["buttons"]] == ["rollback"]
        assert first["buttons"] == []
        old = await slipway.click("owner", first["ref"], "rollback")
        assert (old.accepted, old.status) == (False, 409)
        denied = await slipway.click("developer", second["ref"], "rollback")
        assert (denied.accepted, denied.status) == (False, 403)
        assert (await slipway.click("owner", second["ref"], "rollback")).accepted
        assert (await slipway.ends(3)).state is State.SUCCEEDED


async def test_nothing_to_roll_back_to(world: World) -> None:
    """One clear sentence instead of a guess."""
    async with running(world) as slipway:
        messages = await slipway.say("owner", "/rollback app prod")
        assert "no earlier release" in messages[-1].text
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends(1)
        messages = await slipway.say("owner", "/rollback app prod v9")
        assert "v9 never ran well" in messages[-1].text
        assert await slipway.get(2) is None


async def test_cancel_ends_a_build_and_all_it_started(world: World) -> None:
    """Nothing is written, nothing is left running."""
    marker = world.effects / "late"
    world.push("second", test=f"(sleep 1; touch {marker}) & sleep 60")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING)
        messages = await slipway.say("owner", "/cancel d-1")
        assert "d-1" in messages[-1].text
        seen = await slipway.ends()
        await asyncio.sleep(1.2)
    assert seen.state is State.CANCELLED
    assert not marker.exists()
    assert world.config_log() == []


async def test_cancel_after_git_was_written_goes_back(world: World) -> None:
    """Half-way is no place to stop: Git and the machine say the old version again."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        good = await slipway.ends(1)
        world.push("broken")
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.VERIFYING, 2)
        (card,) = await slipway.cards("owner", "d-2")
        assert (await slipway.click("lead", card["ref"], "cancel")).accepted
        seen = await slipway.ends(2)
    assert seen.state is State.ROLLED_BACK
    assert seen.data.cancelled_by == "lead"
    assert good.digest in (world.effects / "running-app-prod.json").read_text()


async def test_a_bystander_cannot_cancel(world: World) -> None:
    """The right is checked at the press."""
    world.push("second", test=world.held)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING)
        (card,) = await slipway.cards("outsider", "d-1")
        answer = await slipway.click("outsider", card["ref"], "cancel")
        assert (answer.accepted, answer.status) == (False, 403)
        world.let_go()
        assert (await slipway.ends()).state is State.SUCCEEDED
        late = await slipway.say("owner", "/cancel d-1")
        assert "has ended already" in late[-1].text


async def test_plan_shows_everything_and_does_nothing(world: World) -> None:
    """Verdict, version, commits, pipeline and the change in Git."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends(1)
        world.push("second")
        world.push("third")
        messages = await slipway.say("owner", "/deploy app prod --plan")
        card = messages[-1].card
        assert card is not None
        assert card["fields"]["verdict"] == "allowed"
        assert "say second" in card["excerpt"]
        assert "say third" in card["excerpt"]
        assert "prod/app.yaml" in card["fields"]["git change"]
        assert await slipway.get(2) is None
    assert len(world.config_log()) == 1
    assert world.count("builds") == 1


async def test_stopped_in_order_and_started_again_it_goes_on(world: World) -> None:
    """A stop ends the build; the next start runs it again and finishes."""
    world.push("second", test=world.held)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING)
    world.let_go()
    async with running(world) as slipway:
        seen = await slipway.ends()
        assert len(await slipway.cards("lead", "d-1")) == 1
    assert seen.state is State.SUCCEEDED
    assert world.count("builds") == 1
    assert len(world.config_log()) == 1


async def test_a_reload_changes_nothing_in_flight(world: World) -> None:
    """A deployment ends as it was asked for, even when its service was removed meanwhile."""
    world.push("second", test=world.held)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING)
        (world.directory / "services" / "all.yaml").write_text("app: {team: shop, owners: [owner], repo: gone}\n")
        assert slipway.app.catalogs.reload()
        world.let_go()
        assert (await slipway.ends()).state is State.SUCCEEDED


async def test_services_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """The queue is per service and environment."""
    world = make_world(tmp_path / "world", services=("app", "other"))
    world.push("second", test=f"until [ -e {world.effects}/go ]; do sleep 0.1; done")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.say("owner", "/deploy other prod")
        await slipway.reaches(State.BUILDING, 1)
        await slipway.reaches(State.BUILDING, 2)
        (world.effects / "go").touch()
        assert {(await slipway.ends(1)).state, (await slipway.ends(2)).state} == {State.SUCCEEDED}


async def test_a_tag_a_branch_and_a_commit_are_versions(world: World) -> None:
    """What people call a version resolves to one commit, and the tag is its name."""
    git(world.source, "tag", "v1.0.0")
    first = git(world.source, "rev-parse", "HEAD")
    fix = world.push("fix", branch="hotfix")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app dev v1.0.0")
        assert ((await slipway.ends(1)).commit, (await slipway.ends(1)).release_version) == (first, "v1.0.0")
        await slipway.say("owner", "/deploy app dev hotfix")
        assert (await slipway.ends(2)).commit == fix
        await slipway.say("owner", f"/deploy app dev {first[:9]}")
        assert (await slipway.ends(3)).commit == first
    assert world.count("builds") == 2


async def test_asked_in_private_it_is_shown_in_the_channel_too(world: World) -> None:
    """A deployment is everybody's business; the person who asked sees it where they asked."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod", place="@slipway")
        await slipway.ends()
        places = sorted(card["place"] for card in await slipway.cards("owner", "d-1"))
        others = [card["place"] for card in await slipway.cards("lead", "d-1")]
    assert places == ["#releases", "@slipway"]
    assert others == ["#releases"]
