"""Everything that counts is in the audit log: what was asked and refused, done outside, and configured."""

from __future__ import annotations

import json
from pathlib import Path

from bot.catalog.changes import changes
from bot.catalog.load import load_catalog
from bot.store import audit
from tests.support.running import running
from tests.support.world import World, make_world


async def test_what_was_done_outside_is_in_it(world: World) -> None:
    """The run, the commit and the sync of one deployment, each once, with the names under which others know them."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends()
        found = [(e.action, e.detail) for e in await slipway.audit() if e.action.startswith("effect:")]
    assert [action for action, _ in found] == ["effect:pipeline", "effect:git", "effect:delivery"]
    assert seen.data.run_id in found[0][1]
    assert seen.data.revision in found[1][1]
    assert f"{seen.intent}-s1" in found[2][1]


async def test_what_was_posted_is_in_it(world: World) -> None:
    """Each message once, with the chat's id of it; an answer is in its command's entry, an edit is no new message."""
    async with running(world) as slipway:
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
        await slipway.quiet()
        shown = await slipway.messages("owner")
        found = [e for e in await slipway.audit() if e.action == "message:post"]
        commands = [e for e in await slipway.audit() if e.action == "command"]
        _, broken = await slipway.app.db.read(audit.verify)
    cards = [one for one in shown if one.author == "slipway" and one.card and one.card.get("deployment") == "d-1"]
    assert found
    assert [(e.subject, e.outcome) for e in found] == [("d-1", "posted")] * len(found)
    assert [e.detail.rsplit(" ", 1)[1] for e in found] == [f"m{one.id}" for one in cards if one.edited_at]
    assert len(commands) == 1
    assert broken == ""


async def test_a_change_of_the_catalog_is_in_it_once(world: World) -> None:
    """A start with the catalog of before adds nothing; a change while it slept is noted at the start."""
    async with running(world) as slipway:
        first = [e for e in await slipway.audit() if e.subject == "catalog"]
    async with running(world) as slipway:
        assert [e for e in await slipway.audit() if e.subject == "catalog"] == first
    assert len(first) == 1
    root = json.loads((world.directory / "slipway.yaml").read_text())
    root["people"]["newcomer"] = {"name": "Nina"}
    (world.directory / "slipway.yaml").write_text(json.dumps(root))
    async with running(world) as slipway:
        entries = [e for e in await slipway.audit() if e.subject == "catalog"]
    assert len(entries) == 2
    assert entries[1].action == "catalog:load"


def test_changes_are_named(tmp_path: Path) -> None:
    """Added, removed and changed, by section; names of thousands are cut."""
    old = load_catalog(make_world(tmp_path / "old", ("app", "gone")).directory)
    services = ("app", *(f"new{number}" for number in range(20)))
    window = {"name": "w", "days": ["mon"], "hours": "10:00-12:00"}
    new = load_catalog(make_world(tmp_path / "new", services, windows=[window], admins=["lead"]).directory)
    said = changes(old, new)
    assert "services: +new0" in said
    assert "more" in said
    assert "windows: +w" in said
    assert "admins changed" in said
    assert "+gone" not in said
    back = changes(new, old)
    assert "-new0" in back
    assert changes(old, old) == "nothing that counts"
    assert changes(None, old).startswith("2 services")
