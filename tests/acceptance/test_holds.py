"""Locks, freezes from a chat and ordinary approvals, typed into the running bot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from bot.app import Outside
from bot.catalog.load import load_catalog
from bot.deployments.model import State
from bot.deployments.past import since
from bot.policy.replay import replay
from tests.fakes.repositories import git
from tests.support import FakeClock
from tests.support.running import POLL, running
from tests.support.world import ROOT, World, make_world


async def test_a_lock_keeps_others_out_and_unlocking_lets_them_in(world: World) -> None:
    """The second developer hears who holds it and why, and what to do."""
    async with running(world) as slipway:
        said = (await slipway.say("lead", "/lock app prod --reason load test --until +2h"))[-1].text
        assert "You hold the lock on app/prod until" in said
        refused = (await slipway.say("owner", "/deploy app prod"))[-1].text
        assert "Lead holds the lock on app/prod until" in refused
        assert "load test" in refused
        assert "app/prod: Lead holds it" in str((await slipway.say("owner", "/locks"))[-1].card)
        await slipway.say("lead", "/unlock app prod")
        await slipway.say("owner", "/deploy app prod")
        assert (await slipway.ends()).state is State.SUCCEEDED
        actions = [entry.action for entry in await slipway.audit()]
        assert ("lock:take" in actions, "lock:release" in actions) == (True, True)


async def test_a_stolen_lock_is_told_to_whoever_lost_it(world: World) -> None:
    """Taking over is possible and never silent."""
    async with running(world) as slipway:
        await slipway.say("owner", "/lock app prod --reason mine")
        held = (await slipway.say("lead", "/lock app prod"))[-1].text
        assert "Owner holds the lock on app/prod: mine. Add --steal" in held
        await slipway.say("lead", "/lock app prod --steal --reason incident")
        await slipway.quiet()
        assert any(
            "Lead took over your lock on app/prod: incident" in one.text for one in await slipway.messages("owner")
        )


async def test_who_may_not_deploy_may_not_lock(world: World) -> None:
    """A lock is power over other people's releases."""
    async with running(world) as slipway:
        for what in ("app prod", "team:shop", "*"):
            said = (await slipway.say("outsider", f"/lock {what}"))[-1].text
            assert "You may not lock" in said
        assert "You may not lock */*" in (await slipway.say("owner", "/lock *"))[-1].text


async def test_a_deployment_that_waits_goes_on_when_the_lock_is_released(world: World) -> None:
    """A lock that comes while it is on its way holds it before Git is written, and nothing is lost."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.say("lead", "/lock app prod --reason wait")
        await slipway.say("lead", "/unlock app prod")
        assert (await slipway.ends()).state is State.SUCCEEDED
        assert len(world.config_log()) == 1


async def test_a_freeze_from_a_chat_stops_and_is_lifted(world: World) -> None:
    """Release managers freeze in an incident, with a name, an end and a reason; the list shows it."""
    async with running(world) as slipway:
        nobody = (await slipway.say("owner", "/freeze incident-7"))[-1].text
        assert "Only release managers and administrators may freeze" in nobody
        text = "/freeze incident-7 --environment prod --until +4h --reason payments are down"
        assert "/unfreeze incident-7 lifts it" in (await slipway.say("releaser", text))[-1].text
        refused = (await slipway.say("owner", "/deploy app prod"))[-1].text
        assert "The freeze incident-7 holds until" in refused
        assert "payments are down" in refused
        why = (await slipway.say("owner", "/why app prod +5h as lead"))[-1]
        assert "allowed" in str(why.card)
        assert "as Lead" in str(why.card)
        assert "incident-7 (freeze f-1)" in str((await slipway.say("owner", "/windows app prod"))[-1].card)
        assert "is lifted" in (await slipway.say("releaser", "/unfreeze f-1"))[-1].text
        await slipway.say("owner", "/deploy app prod")
        assert (await slipway.ends()).state is State.SUCCEEDED


async def test_a_freeze_has_any_scope_a_rule_has(tmp_path: Path) -> None:
    """A label, a cluster, a kind: it stops those and nothing beside them, and one about nothing is refused."""
    world = make_world(tmp_path / "world", services=("gold", "plain"))
    world.change_environment("prod", cluster="eu-1")
    services = "gold: {team: shop, owners: [owner], labels: {tier: gold}}\nplain: {team: shop, owners: [owner]}\n"
    (world.directory / "services" / "all.yaml").write_text(services)
    async with running(world) as slipway:

        async def stops(*words: str) -> list[str]:
            """Which of these may not go while it holds."""
            await slipway.say("releaser", f"/freeze now {' '.join(words)}")
            asked = ("gold prod", "plain prod", "plain dev", "plain dev --kind hotfix")
            cards = [str((await slipway.say("owner", f"/why {one}"))[-1].card) for one in asked]
            await slipway.say("releaser", "/unfreeze now")
            return [one for one, card in zip(asked, cards, strict=True) if "freeze_active" in card]

        assert await stops("--label tier=gold") == ["gold prod"]
        assert await stops("--cluster eu-*") == ["gold prod", "plain prod"]
        assert await stops("--kind hotfix") == ["plain dev --kind hotfix"]
        for wrong, said in {
            "--label tier=lead": "No service has the label 'tier=lead'",
            "--cluster mars": "There is no cluster 'mars'. There are eu-1",
            "--kind slow": "'slow' is no kind of deployment",
        }.items():
            assert said in (await slipway.say("releaser", f"/freeze now {wrong}"))[-1].text


async def test_two_groups_approve_an_ordinary_deployment(tmp_path: Path) -> None:
    """It waits for both, tells them, and then goes; the requester and the same person twice do not count."""
    rule = {
        "name": "two-keys",
        "environments": ["prod"],
        "seats": [{"roles": ["team_lead"]}, {"roles": ["release_manager"]}],
    }
    async with running(make_world(tmp_path / "world", approvals=[rule])) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.AWAITING_APPROVAL)
        await slipway.quiet()
        assert any("to prod waits for approval" in card["title"] for card in await slipway.cards("releaser"))
        assert "somebody else has to decide" in (await slipway.say("owner", "/approve d-1"))[-1].text
        assert "more approvals are needed" in (await slipway.say("lead", "/approve d-1"))[-1].text
        assert "You have voted" in (await slipway.say("lead", "/approve d-1"))[-1].text
        assert "it is queued now" in (await slipway.say("releaser", "/approve d-1"))[-1].text
        seen = await slipway.ends()
        assert seen.state is State.SUCCEEDED
        assert seen.data.emergency is not None
        assert seen.data.emergency.approvers == ("lead", "releaser")


async def test_after_a_rollback_the_target_is_locked(world: World) -> None:
    """The bad release must not come again by itself; whoever unlocks knows why it was locked."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
        world.push("broken")
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends(2)
        assert seen.state is State.ROLLED_BACK
        refused = (await slipway.say("owner", "/deploy app prod"))[-1].text
        assert "holds the lock on app/prod: d-2 rolled" in refused
        assert "is released" in (await slipway.say("owner", "/unlock app prod"))[-1].text


async def test_a_changed_rule_is_tried_on_what_was_deployed(tmp_path: Path) -> None:
    """Before a rule is merged one sees which of the last deployments it would have stopped."""
    world = make_world(tmp_path / "world")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
        past = await slipway.app.db.read(lambda tx: list(since(tx, datetime(2000, 1, 1, tzinfo=UTC))))
    assert list(replay(load_catalog(world.directory), past)) == []
    world.write_root(freezes=[{"name": "always", "from": "2000-01-01", "reason": "quiet"}])
    (found,) = replay(load_catalog(world.directory), past)
    assert "was allowed, would be refused: The freeze always holds, without a known end: quiet." in found.sentence()


async def test_owners_are_shown_with_where_they_are_named(world: World) -> None:
    """Nobody asks an SRE who may: the catalog's line, the roles, and the repository's own file."""
    async with running(world) as slipway:
        card = str((await slipway.say("outsider", "/owners app prod"))[-1].card)
    assert "owners (services/all.yaml:1)" in card
    assert "'Owner'" in card
    assert "'OWNERS of the repository': 'not asked (owners_file is not set)'" in card


async def test_the_author_approves_neither_the_first_nor_the_second_try(tmp_path: Path) -> None:
    """Pressing Retry must not forget who wrote the commit."""
    rule = {"name": "second-pair", "environments": ["prod"], "seats": [{"roles": ["team_lead"]}], "not_author": True}
    teams = {"shop": {"name": "Shop", "leads": ["lead", "releaser"], "members": ["owner"]}}
    world = make_world(tmp_path / "world", approvals=[rule], teams=teams)
    author = git(world.source, "log", "-1", "--format=%ae")
    people = {**ROOT["people"], "lead": {"name": "Lead", "email": author.strip()}}  # type: ignore[dict-item]
    world.write_root(approvals=[rule], teams=teams, people=people)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.AWAITING_APPROVAL)
        assert "You may not decide this one; Releaser may." in (await slipway.say("lead", "/approve d-1"))[-1].text
        await slipway.say("releaser", "/reject d-1")
        card = next(one for one in await slipway.cards("owner", "d-1"))
        assert card["state"] == "rejected"
        assert (await slipway.get(1)).data.author == "lead"  # type: ignore[union-attr]


async def test_owners_of_the_repository_may_deploy_and_are_shown_with_their_line(
    tmp_path: Path, clock: FakeClock
) -> None:
    """The team that owns a directory needs no entry in the catalog; who is taken out may no more, at once."""
    world = make_world(tmp_path / "world", verify={"timeout": "3s", "settle": "0s", "interval": "20ms"})
    (world.directory / "services" / "all.yaml").write_text("app: {team: shop, owners: [owner], owners_file: true}\n")
    (world.source / "OWNERS").write_text("approvers:\n- Outsider\n- stranger\nreviewers: [developer]\n")
    commit = world.push("with owners")
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        card = str((await slipway.say("lead", "/owners app prod"))[-1].card)
        assert (
            f"Outsider (OWNERS:2), stranger (OWNERS:3, not known); reviewers Developer (OWNERS:4) at {commit[:12]}"
            in card
        )
        why = str((await slipway.say("outsider", "/why app prod"))[-1].card)
        assert f"Outsider may, as owner. [owners, OWNERS:2 at {commit[:12]}]" in why
        await slipway.say("outsider", "/deploy app prod")
        assert (await slipway.ends()).state is State.SUCCEEDED
        (world.source / "OWNERS").write_text("approvers: [")
        world.push("broken owners")
        clock.advance(timedelta(minutes=1))
        said = (await slipway.say("outsider", "/deploy app prod"))[-1].text
        assert "You may not deploy app in prod" in said
        assert "nobody: OWNERS at" in str((await slipway.say("lead", "/owners app prod"))[-1].card)
