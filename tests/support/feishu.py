"""A whole Slipway in front of a fake Feishu, over real HTTP or a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from bot.app import App, Outside
from bot.settings import Settings
from bot.store import audit
from tests.fakes.feishu import APP_ID, APP_SECRET, ENCRYPT_KEY, TOKEN, FakeFeishu, Posted
from tests.support.running import POLL, Running
from tests.support.slack import serving
from tests.support.world import PEOPLE, World

USERS = {name: f"ou_{name}" for name in PEOPLE}
GROUP = "oc_releases"


@dataclass
class FeishuRunning(Running):
    """Hands on both: the App, and the people in its Feishu."""

    feishu: FakeFeishu = None  # type: ignore[assignment]

    async def type(self, person: str, text: str, chat: str = GROUP) -> None:
        """Type a command and wait until it is answered."""
        before = await self.done()
        assert await self.feishu.deliver(self.feishu.message(USERS[person], text, chat)) == (200, {})
        await self.answered(before + 1)

    async def press(self, person: str, posted: Posted, button: str, **inputs: str) -> dict[str, Any]:
        """Press a button; returns the toast."""
        status, said = await self.feishu.deliver(self.feishu.press(USERS[person], posted, button, **inputs))
        assert status == 200
        toast: dict[str, Any] = said.get("toast") or {}
        return toast

    def card(self, place: str = GROUP) -> Posted:
        """The only deployment's card of a place."""
        (found,) = [one for one in self.feishu.in_place(place) if "d-1" in one.words]
        return found

    async def done(self) -> int:
        """How many intents are done."""
        entries = await self.app.db.read(lambda tx: audit.newest(tx, 1000))
        return sum(one.entry.action in ("command", "click") for one in entries)

    async def answered(self, count: int) -> None:
        """Wait until so many intents are done and every message has arrived."""

        async def enough() -> bool:
            return await self.done() >= count

        await self.until(enough, f"{count} intents to be done")
        await self.quiet()


def company(feishu: FakeFeishu) -> None:
    """The people of the test world, and one group."""
    for name, user in USERS.items():
        feishu.user(user, email=f"{name}@slipway.example")
    feishu.groups.add(GROUP)


def feishu_settings(world: World, feishu: FakeFeishu, *, socket: bool = False, **more: Any) -> Settings:
    """Settings of a Slipway with Feishu and the console."""
    webhook: dict[str, Any] = {
        "feishu_encrypt_key": SecretStr(ENCRYPT_KEY),
        "feishu_verification_token": SecretStr(TOKEN),
    }
    values: dict[str, Any] = {
        "config": world.directory,
        "console": True,
        "console_open": True,
        "patience_seconds": 2,
        "feishu_app_id": APP_ID,
        "feishu_app_secret": SecretStr(APP_SECRET),
        "feishu_long_connection": socket,
        "feishu_domain": feishu.url,
        **({} if socket else webhook),
    }
    return Settings(**(values | more))


@asynccontextmanager
async def running_on_feishu(
    world: World, feishu: FakeFeishu, *, socket: bool = False, outside: Outside | None = None, **more: Any
) -> AsyncIterator[FeishuRunning]:
    """Start a Slipway on the world and the Feishu, and stop it in order."""
    app = App(feishu_settings(world, feishu, socket=socket, **more), outside or Outside(poll=POLL))
    await app.start()
    try:
        async with serving(app) as url:
            feishu.app_url = url
            made = FeishuRunning(app, feishu=feishu)
            if socket:
                await made.until(lambda: _open(feishu), "the socket")
            yield made
    finally:
        await app.runs.stop_all()
        await app.stop()


async def _open(feishu: FakeFeishu) -> bool:
    return bool(feishu.sockets)
