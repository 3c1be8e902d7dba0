"""Looking commands, the watchdog, and the catalog changing under a running bot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from bot.app import Outside
from bot.deployments.model import State
from bot.store import deployments as rows
from tests.acceptance.conftest import closed_window, emergency
from tests.support import FakeClock
from tests.support.rows import new_deployment
from tests.support.running import POLL, Running, running
from tests.support.world import World


async def answer(slipway: Running, person: str, text: str) -> dict[str, Any]:
    """The card that answers a command."""
    messages = await slipway.say(person, text)
    assert messages[-1].card is not None, messages[-1].text
    return dict(messages[-1].card)


async def test_status_says_what_runs_where(world: World) -> None:
    """By what Git and the machine say, not by what was once asked."""
    async with running(world) as slipway:
        before = await answer(slipway, "outsider", "/status app")
        assert "nothing deployed" in before["fields"]["prod"]
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends()
        after = await answer(slipway, "outsider", "/status app prod")
        assert seen.release_version in after["fields"]["prod"]
        assert "healthy" in after["fields"]["prod"]
        (world.effects / "running-app-prod.json").write_text(
            '{"version":"v0","digest":"sha256:0","healthy":true,"message":"","url":""}'
        )
        drifted = await answer(slipway, "owner", "/status app prod")
        assert "running now: v0" in drifted["fields"]["prod"]


async def test_status_shows_what_is_on_its_way(world: World) -> None:
    """Who asked, in which state, since when."""
    world.push("second", test=world.held)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING)
        card = await answer(slipway, "lead", "/status")
        assert "d-1 app/prod" in card["text"]
        assert "asked by Owner" in card["text"]
        world.let_go()
        await slipway.ends()


async def test_history_is_newest_first(world: World) -> None:
    """With who asked and how it ended."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends(1)
        world.push("second", test="exit 1")
        await slipway.say("lead", "/deploy app prod")
        await slipway.ends(2)
        card = await answer(slipway, "outsider", "/history app prod")
    assert list(card["fields"]) == ["d-2", "d-1"]
    assert "failed" in card["fields"]["d-2"]
    assert "succeeded" in card["fields"]["d-1"]


async def test_why_answers_for_another_time(closed: World, clock: FakeClock) -> None:
    """Every reason with its rule and line, and when the answer changes; nothing is done."""
    closed.write_root(windows=[closed_window(clock())], emergency=[emergency()])
    async with running(closed, outside=Outside(clock=clock, poll=POLL)) as slipway:
        now = await answer(slipway, "owner", "/why app prod")
        assert now["fields"]["verdict"] == "needs emergency approval"
        assert "release-day" in now["text"]
        assert "slipway.yaml:" in now["text"]
        assert "10:00" in now["fields"]["changes"]
        then = await answer(slipway, "owner", "/why app prod thu 11:00")
        assert then["fields"]["verdict"] == "allowed"
        other = await answer(slipway, "outsider", "/why app prod")
        assert other["fields"]["verdict"] == "refused"
        assert await slipway.get(1) is None


async def test_help_shows_only_what_one_may_run(world: World) -> None:
    """Made from the definitions."""
    async with running(world) as slipway:
        owner = await answer(slipway, "owner", "/help")
        outsider = await answer(slipway, "outsider", "/help")
        one = await answer(slipway, "owner", "/help deploy")
    assert any(usage.startswith("/deploy <service>") for usage in owner["fields"])
    assert not any(usage.startswith("/deploy") for usage in outsider["fields"])
    assert any(usage.startswith("/status") for usage in outsider["fields"])
    assert one["fields"]["type"].startswith("/deploy <service> <environment>")


async def test_whoami(world: World) -> None:
    """Who Slipway takes one for."""
    async with running(world) as slipway:
        card = await answer(slipway, "lead", "/whoami")
        assert card["fields"]["team lead"] == "app"
        card = await answer(slipway, "outsider", "/whoami")
        assert "no role" in card["text"]


async def test_logs_are_for_the_team(world: World) -> None:
    """They may hold what outsiders should not read; secrets are hidden from everybody."""
    world.push("second", test="echo 'token=abcdef0123456789abcdef'; echo testing")
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
        card = await answer(slipway, "developer", "/logs d-1 test")
        assert "testing" in card["excerpt"]
        assert "abcdef0123456789abcdef" not in card["excerpt"]
        refused = await answer(slipway, "outsider", "/logs d-1")
        assert refused["state"] == "refused"


async def test_a_bad_catalog_never_replaces_a_good_one(world: World) -> None:
    """The channel is told what is wrong and where, once; work goes on with the last good one."""
    async with running(world) as slipway:
        good = slipway.app.catalog().digest
        (world.directory / "services" / "more.yaml").write_text("pay: {team: shpo}\n")

        async def told() -> bool:
            await slipway.quiet()
            return any("did you mean shop" in message.text.casefold() for message in await slipway.messages("lead"))

        await slipway.until(told, "the channel to be told")
        assert slipway.app.catalog().digest == good
        messages = [message for message in await slipway.messages("lead") if "more.yaml:1" in message.text]
        assert len(messages) == 1
        (world.directory / "services" / "more.yaml").write_text("pay: {team: shop}\n")

        async def swapped() -> bool:
            return "pay" in slipway.app.catalog().services

        await slipway.until(swapped, "the good one to be taken over")


async def test_the_watchdog_tells_of_what_is_stuck(world: World, clock: FakeClock) -> None:
    """A deployment nobody works on is told to its requester once, and stands in the audit log."""
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.app.engine.stop()
        await slipway.app.db.run(lambda tx: slipway.app.moves.create(tx, new_deployment("stuck"), clock()))
        clock.advance(timedelta(minutes=11))
        assert await slipway.app.watchdog.look() == 1
        assert await slipway.app.watchdog.look() == 1
        await slipway.quiet()
        told = [message for message in await slipway.messages("owner") if "without a sign of life" in message.text]
        assert len(told) == 1
        assert told[0].person == "owner"
        assert [entry.action for entry in await slipway.audit()].count("deployment:stuck") == 1
        assert await slipway.app.db.read(lambda tx: rows.get(tx, 1)) is not None


async def test_a_command_stored_before_a_crash_is_done_after_it(world: World) -> None:
    """The answer to the platform promised it."""
    from bot.store import inbox

    async with running(world) as slipway:
        payload = {
            "platform": "console",
            "event_id": "e",
            "user_id": "owner",
            "place": "#releases",
            "text": "/deploy app prod",
            "personal": False,
            "thread": "",
            "message_id": "",
        }
        at = slipway.app.tools.clock()
        await slipway.app.db.run(lambda tx: inbox.put(tx, "console", "e", "command", payload, at))
    async with running(world) as slipway:
        assert (await slipway.ends()).state is State.SUCCEEDED
