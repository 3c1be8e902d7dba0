"""`/logs` gives the end in the chat and a link to all of it: for an hour, to who may read it, without secrets."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx

from bot.app import Outside
from tests.support import FakeClock
from tests.support.running import POLL, Running, running
from tests.support.world import World, make_world

NOISY = (
    "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo token=abc123def456; echo $PWD/test.sh; exit 1"
)


async def asked(slipway: Running, typed: str = "/logs d-1 test") -> dict[str, object]:
    """The answer's card."""
    await slipway.say("developer", typed)
    return (await slipway.cards("developer"))[-1]


async def fetched(slipway: Running, url: object) -> httpx.Response:
    """As a browser fetches it."""
    transport = httpx.ASGITransport(slipway.app.asgi)
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.get(str(url))


async def test_all_of_the_log_is_behind_the_link(world: World) -> None:
    """Of one stage or of all; as text that no browser runs; secrets are gone here too."""
    world.push("noisy", NOISY)
    async with running(world) as slipway:
        await slipway.say("developer", "/deploy app dev main")
        await slipway.ends()
        card = await asked(slipway)
        assert "line 2999" in str(card["excerpt"])
        assert "line 100\n" not in str(card["excerpt"])
        answer = await fetched(slipway, card["fields"]["whole log"])  # type: ignore[index]
        lines = answer.text.splitlines()
        assert lines[:3000] == [f"line {number}" for number in range(3000)]
        assert lines[3000:] == ["token=[redacted]", "test.sh"]
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"] == 'inline; filename="d-1-test.log"'
        card = await asked(slipway, "/logs d-1")
        answer = await fetched(slipway, card["fields"]["whole log"])  # type: ignore[index]
        assert answer.text.startswith("checked out ")
        assert "line 1500\n" in answer.text


async def test_a_link_is_over_after_an_hour_and_for_who_left(tmp_path: Path) -> None:
    """The right to read is checked each time; a link that was guessed or is old says what to do."""
    world, clock = make_world(tmp_path / "world"), FakeClock()
    async with running(world, outside=Outside(clock=clock, poll=POLL)) as slipway:
        await slipway.say("developer", "/build app")
        await slipway.ends()
        url = (await asked(slipway, "/logs d-1"))["fields"]["whole log"]  # type: ignore[index]
        assert (await fetched(slipway, url)).status_code == 200
        assert (await fetched(slipway, f"{url}x")).status_code == 404
        world.write_root(teams={"shop": {"name": "Shop", "leads": ["lead"], "members": ["owner"]}})
        assert slipway.app.catalogs.reload()
        assert (await fetched(slipway, url)).text == "This link is over. Type /logs again.\n"
        world.write_root()
        assert slipway.app.catalogs.reload()
        assert (await fetched(slipway, url)).status_code == 200
        clock.advance(timedelta(minutes=61))
        assert (await fetched(slipway, url)).status_code == 404
        said = await slipway.say("outsider", "/logs d-1")
        assert any("Only the team of app" in one.text for one in said)
