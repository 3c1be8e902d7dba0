"""A firing alert of a service holds its deployments, wherever they stand, and lets go at once when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from bot.app import App, Outside
from bot.deployments.model import State
from bot.store import holds
from tests.acceptance.test_argocd import GRAY, fake, make_argo_world
from tests.fakes.argocd import TOKEN, FakeArgoCD
from tests.support.running import POLL, Running, settings_for
from tests.support.world import World

__all__ = ["fake"]
HOOK = "alertmanager-token"


@asynccontextmanager
async def alerted(world: World, **settings: object) -> AsyncIterator[tuple[Running, Alertmanager]]:
    """A Slipway that Alertmanager can reach."""
    more = {"alertmanager_hook_secret": SecretStr(HOOK), **settings}
    app = App(settings_for(world).model_copy(update=more), Outside(poll=POLL))
    await app.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app.asgi), base_url="http://slipway") as client:
            yield Running(app), Alertmanager(client)
    finally:
        await app.stop()


class Alertmanager:
    """Posts what the real one posts (webhook version 4)."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def tell(self, status: str, token: str = HOOK, **labels: str) -> httpx.Response:
        """One alert of `app`, firing or resolved; the same labels are the same alert."""
        names = {"alertname": "HighErrorRate", "service": "app", "severity": "critical", **labels}
        alert = {
            "status": status,
            "labels": names,
            "annotations": {"summary": "7 % of requests fail"},
            "startsAt": "2026-11-25T20:00:00.000Z",
            "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-11-25T20:10:00.000Z",
            "generatorURL": "http://prometheus/graph",
            "fingerprint": f"{hash(tuple(names.items())) & 0xFFFFFFFFFFFFFFFF:016x}",
        }
        body: dict[str, Any] = {"version": "4", "status": status, "receiver": "slipway", "truncatedAlerts": 0}
        body |= {"groupKey": "{}:{}", "groupLabels": {}, "commonLabels": names, "alerts": [alert]}
        headers = {"Authorization": f"Bearer {token}"}
        return await self._client.post("/hooks/alertmanager", json=body, headers=headers)


async def test_a_firing_alert_refuses_what_is_new_and_lets_a_rollback_pass(world: World) -> None:
    """Nobody ships into a fire, but the way out of it stays open; what is not ours or not genuine changes nothing."""
    async with alerted(world) as (bot, alertmanager):
        await bot.say("owner", "/deploy app prod")
        await bot.ends(1)
        world.push("second")
        await bot.say("owner", "/deploy app prod")
        await bot.ends(2)
        assert (await alertmanager.tell("firing", token="wrong")).status_code == 401
        assert (await alertmanager.tell("firing", service="other")).status_code == 200
        assert (await alertmanager.tell("firing", environment="prod")).status_code == 202
        said = (await bot.say("owner", "/deploy app prod"))[-1].text
        assert "Alertmanager holds the lock on app/prod" in said
        assert "the alert HighErrorRate is firing (7 % of requests fail)" in said
        assert "HighErrorRate" in str((await bot.say("owner", "/locks"))[-1].card)
        await bot.say("owner", "/deploy app dev")  # The alert is about prod.
        assert (await bot.ends(3)).state is State.SUCCEEDED
        await bot.say("owner", "/rollback app prod")
        assert (await bot.ends(4)).state is State.SUCCEEDED
    actions = [entry.action for entry in await _entries(world)]
    assert actions.count("alert:fire") == 1


async def _entries(world: World) -> list[Any]:
    async with alerted(world) as (bot, _):
        return list(await bot.audit())


async def test_an_alert_holds_what_is_on_its_way_and_lets_go_when_it_ends(world: World) -> None:
    """It waits before Git is written, says why on its card, and goes on by itself."""
    async with alerted(world) as (bot, alertmanager):
        world.push("slow", test="while [ ! -e go ]; do sleep 0.02; done")
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.BUILDING)
        await alertmanager.tell("firing")
        for place in await _workspaces(bot):
            (place / "go").touch()
        await bot.until(lambda: _waits(bot), "the deployment to wait for the alert")
        assert world.config_log() == []
        await alertmanager.tell("resolved")
        assert (await bot.ends()).state is State.SUCCEEDED


async def _workspaces(bot: Running) -> list[Path]:
    found: list[Path] = []

    async def there() -> bool:
        found[:] = [path.parent for path in bot.app.settings.data_directory.rglob("test.sh")]
        return bool(found)

    await bot.until(there, "the checkout")
    return found


async def _waits(bot: Running, words: str = "HighErrorRate is firing") -> bool:
    seen = await bot.get(1)
    return seen is not None and words in seen.data.waiting_for


async def test_whoever_may_lock_lets_pass_what_is_a_false_alarm(world: World) -> None:
    """An alert that nobody can end must not stop a company; a repeat of the same firing changes nothing."""
    async with alerted(world) as (bot, alertmanager):
        await alertmanager.tell("firing")
        refused = (await bot.say("outsider", "/unlock app *"))[-1].text
        assert "may not lock app/*" in refused
        assert "released" in (await bot.say("owner", "/unlock app *"))[-1].text
        await alertmanager.tell("firing")
        await bot.say("owner", "/deploy app prod")
        assert (await bot.ends()).state is State.SUCCEEDED


@pytest.mark.parametrize("wish", ["continue", "abort"])
async def test_an_alert_holds_a_gray_release(tmp_path: Path, fake: FakeArgoCD, wish: str) -> None:
    """Told to go on, it stays at gray while the alert fires; abort is not held by anything."""
    world = make_argo_world(tmp_path / "world", GRAY)
    fake.outcome["app-prod"] = "paused"
    async with alerted(world, argocd_url=fake.url, argocd_token=SecretStr(TOKEN)) as (bot, alertmanager):
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.GRAY)
        await alertmanager.tell("firing")
        await bot.say("owner", "/continue d-1")
        await bot.until(lambda: _waits(bot), "gray to be held")
        assert fake.actions == []
        if wish == "abort":
            await bot.say("owner", "/abort d-1")
        else:
            await alertmanager.tell("resolved")
        seen = await bot.ends()
    ends = {"continue": (State.SUCCEEDED, "resume"), "abort": (State.FAILED, "abort")}
    assert (seen.state, fake.actions[-1][1]) == ends[wish]


async def test_an_alert_after_full_keeps_it_from_being_done(tmp_path: Path, world: World) -> None:
    """What fires within the settling time and does not stop is a failure of the release, here the first: it locks."""
    world.write_root(defaults=_patient(world))
    async with alerted(world) as (bot, alertmanager):
        await bot.say("owner", "/deploy app prod")
        await bot.reaches(State.VERIFYING)
        await alertmanager.tell("firing")
        seen = await bot.ends()
        (lock,) = await bot.app.db.read(holds.all_locks)
    assert seen.state is State.FAILED
    assert seen.data.failure is not None
    assert "It runs, but the alert HighErrorRate is firing" in seen.data.failure.message
    assert (lock.what, lock.holder) == ("app/prod", "slipway")
    assert "nothing ran there before: It runs, but the alert HighErrorRate" in lock.reason


def _patient(world: World) -> dict[str, object]:
    import json

    root = json.loads((world.directory / "slipway.yaml").read_text())
    defaults: dict[str, object] = root["defaults"]
    return defaults | {"verify": {"timeout": "1s", "settle": "1s", "interval": "20ms"}}
