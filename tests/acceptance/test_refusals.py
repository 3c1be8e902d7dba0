"""Bad input and bad luck: one clear sentence that says what to do, an audit entry, nothing half-done."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.deployments.model import State
from tests.support.disk import fill, mounted
from tests.support.running import Running, running
from tests.support.world import World


@pytest.mark.parametrize(
    ("person", "text", "words", "code"),
    [
        ("outsider", "/deploy app dev", "owners (Owner), leads of Shop (Lead)", "not_permitted"),
        ("developer", "/deploy app prod", "You may not deploy app in prod", "not_permitted"),
        ("stranger", "/deploy app dev", "I do not know you", "unknown_caller"),
        ("owner", "/deploy ap prod", "There is no service 'ap'. Did you mean app?", "bad_input"),
        ("owner", "/deploy app production", "There is no environment 'production'. Did you mean prod?", "bad_input"),
        ("owner", "/deploy app prod v9.9", "app has no version, branch or commit `v9.9`", "bad_input"),
        ("owner", "/deploy app prod --upload-pack=evil", "There is no option --upload-pack", "bad_input"),
        ("owner", "/deploy app prod $(reboot)", "$(reboot)", "bad_input"),
        ("owner", "/deploy app", "Which environment? Type /deploy <service> <environment>", "bad_input"),
        ("owner", "/deplyo app prod", "There is no command /deplyo. Did you mean /deploy?", "bad_input"),
        ("owner", "/deploy app prod v1 more", "'more' is one word too many", "bad_input"),
        ("owner", '/deploy app "prod', "A quotation mark is not closed", "bad_input"),
        ("owner", "/cancel d-99", "There is no deployment d-99", "bad_input"),
        ("owner", "/cancel nonsense", "'nonsense' is no deployment", "bad_input"),
        ("owner", "/approve", "Nothing waits for approval now", "bad_input"),
        ("owner", "/logs d-7", "There is no deployment d-7", "bad_input"),
        ("owner", "/why app prod someday", "'someday' is no time I understand", "bad_input"),
    ],
)
async def test_one_sentence_one_entry_and_nothing_done(
    world: World, person: str, text: str, words: str, code: str
) -> None:
    """Whoever typed it knows what to do next, and the log knows that it was tried."""
    async with running(world) as slipway:
        messages = await slipway.say(person, text)
        assert words in messages[-1].text
        assert await slipway.get(1) is None
        entry = (await slipway.audit())[-1]
        assert (entry.outcome, entry.code) == ("refused", code)
        assert person in entry.actor
    assert world.config_log() == []
    assert world.count("builds") == 0


async def _fails(slipway: Running, step: str, words: str) -> None:
    await slipway.say("owner", "/deploy app prod")
    seen = await slipway.ends()
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert seen.data.failure.step == step
    assert words in seen.data.failure.message
    personal = [card for card in await slipway.cards("owner") if card["place"] == "@slipway"]
    assert len(personal) == 1


async def test_a_missing_source_repository(world: World) -> None:
    """Nothing is created when it cannot even be told what to build."""
    shutil.rmtree(world.source)
    async with running(world) as slipway:
        messages = await slipway.say("owner", "/deploy app prod")
        assert "repository" in messages[-1].text
        assert await slipway.get(1) is None
        assert (await slipway.audit())[-1].outcome == "failed"


async def test_a_missing_configuration_repository(world: World) -> None:
    """Built, but not written: it fails at that step and nothing runs."""
    shutil.rmtree(world.config)
    async with running(world) as slipway:
        await _fails(slipway, "write", "repository")
    assert world.count("deploys") == 0


async def test_a_read_only_configuration_repository(world: World) -> None:
    """A server that says no is believed, and not asked again."""
    hook = world.config / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'this repository is read-only' >&2\nexit 1\n")
    hook.chmod(0o755)
    async with running(world) as slipway:
        await _fails(slipway, "write", "read-only")
    assert world.config_log() == []
    assert world.count("deploys") == 0


async def test_a_pipeline_file_that_is_wrong(world: World) -> None:
    """The file and the field are named."""
    path = world.source / ".slipway" / "pipeline.yaml"
    path.write_text(path.read_text().replace("run: [sh, test.sh]", "run: sh test.sh"))
    world.push("second")
    async with running(world) as slipway:
        await _fails(slipway, "build", "run")


async def test_no_pipeline_file(world: World) -> None:
    """A repository that was never set up says what is missing."""
    (world.source / ".slipway" / "pipeline.yaml").unlink()
    world.push("second")
    async with running(world) as slipway:
        await _fails(slipway, "build", ".slipway/pipeline.yaml")


async def test_a_freeze_that_begins_in_flight_holds_before_git(world: World) -> None:
    """What is built waits, says for what, and goes on when the freeze is lifted."""
    world.push("second", test=world.held)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING)
        start = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        world.write_root(freezes=[{"name": "double-eleven", "from": start, "reason": "sales day"}])
        assert slipway.app.catalogs.reload()
        world.let_go()
        await slipway.until(lambda: _waits_for(slipway, "double-eleven"), "the freeze to hold it")
        (card,) = await slipway.cards("owner", "d-1")
        assert "double-eleven holds" in card["text"]
        assert world.config_log() == []
        world.write_root()
        assert slipway.app.catalogs.reload()
        await slipway.app.wake_all()
        assert (await slipway.ends()).state is State.SUCCEEDED


async def _waits_for(slipway: Running, words: str) -> bool:
    seen = await slipway.get(1)
    await slipway.quiet()
    return seen is not None and words in seen.data.waiting_for


async def test_an_owner_who_lost_the_right_in_flight_is_stopped(world: World) -> None:
    """Before the irreversible step the rules are asked again."""
    world.push("second", test=world.held)
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.reaches(State.BUILDING)
        (world.directory / "services" / "all.yaml").write_text("app: {team: shop, owners: [lead]}\n")
        assert slipway.app.catalogs.reload()
        world.let_go()
        seen = await slipway.ends()
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert "You may not deploy" in seen.data.failure.message
    assert world.config_log() == []


async def test_a_full_disk_is_said_and_gone_on_from(world: World, tmp_path: Path) -> None:
    """Nothing is lost: when there is room again, it goes on by itself."""
    with mounted(tmp_path / "disk", kilobytes=4096) as disk:
        async with running(world) as slipway:
            runs = slipway.app.settings.data_directory / "runs"
            shutil.rmtree(runs, ignore_errors=True)
            runs.symlink_to(disk, target_is_directory=True)
            filler = fill(disk)
            await slipway.say("owner", "/deploy app prod")
            await slipway.until(lambda: _waits_for(slipway, "disk"), "the full disk to be told")
            assert world.count("builds") == 0
            filler.unlink()
            assert (await slipway.ends()).state is State.SUCCEEDED
            assert world.count("builds") == 1
            await slipway.app.runs.stop_all()
            runs.unlink()


async def test_a_gate_whose_system_is_not_set_up_never_passes(world: World) -> None:
    """Configured and unreachable is not the same as good: nothing is written to Git."""
    (world.directory / "services" / "all.yaml").write_text(
        "app: {team: shop, owners: [owner], gates: {tests: {report: '{service}/{commit}/junit.xml', at_least: 1}}}\n"
    )
    async with running(world) as slipway:
        await _fails(slipway, "gate", "is not set up here")
    assert world.config_log() == []
    assert world.count("builds") == 1
