"""A whole Slipway in front of a fake Slack, over real HTTP or a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from pydantic import SecretStr

from bot.app import App, Outside
from bot.chat.slack_manifest import SCOPES
from bot.settings import Settings
from bot.web.server import listen
from tests.fakes.slack import APP_TOKEN, BOT_TOKEN, SECRET, FakeSlack
from tests.support.running import POLL, Running
from tests.support.world import PEOPLE, World

USERS = {name: f"U{name.upper()}" for name in PEOPLE}


@dataclass
class SlackRunning(Running):
    """Hands on both: the App, and the people in its Slack."""

    slack: FakeSlack = None  # type: ignore[assignment]

    async def answered(self, count: int) -> None:
        """Wait until so many intents are done and every message has arrived."""
        from bot.store import audit

        async def done() -> bool:
            entries = await self.app.db.read(lambda tx: audit.newest(tx, 1000))
            return sum(one.entry.action in ("command", "click") for one in entries) >= count

        await self.until(done, f"{count} intents to be done")
        await self.quiet()


def company(slack: FakeSlack) -> None:
    """The people of the test world, and one channel; the app has the scopes of our manifest, and no others."""
    slack.scopes = set(SCOPES)
    for name, user in USERS.items():
        slack.user(user, email=f"{name}@slipway.example")
    slack.channel("C1", "releases")


def slack_settings(
    world: World, slack: FakeSlack, *, socket: bool = False, database_url: str = "", more_tokens: str = ""
) -> Settings:
    """Settings of a Slipway with Slack alone. more_tokens: of further workspaces."""
    return Settings(
        slack_more_tokens=SecretStr(more_tokens) if more_tokens else None,
        config=world.directory,
        patience_seconds=2,
        database_url=SecretStr(database_url) if database_url else None,
        slack_bot_token=SecretStr(BOT_TOKEN),
        slack_app_token=SecretStr(APP_TOKEN) if socket else None,
        slack_signing_secret=None if socket else SecretStr(SECRET),
        slack_api_base_url=slack.base_url,
    )


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[str]:
    """The App's web routes on a free port; yields the address."""
    bound = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app.asgi, lifespan="off", log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[bound])
    ticking = asyncio.create_task(server.main_loop())
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await ticking
        await server.shutdown(sockets=[bound])


@asynccontextmanager
async def running_on_slack(
    world: World,
    slack: FakeSlack,
    *,
    socket: bool = False,
    database_url: str = "",
    outside: Outside | None = None,
    more_tokens: str = "",
    **more: object,
) -> AsyncIterator[SlackRunning]:
    """Start a Slipway on the world and the Slack, and stop it in order. more: further settings."""
    settings = slack_settings(world, slack, socket=socket, database_url=database_url, more_tokens=more_tokens)
    settings = settings.model_copy(update=more)
    app = App(settings, outside or Outside(poll=POLL))
    await app.start()
    try:
        async with serving(app) as url:
            slack.app_url = url
            made = SlackRunning(app, slack=slack)
            if socket:
                await made.until(lambda: _open(slack), "the socket")
            yield made
    finally:
        await app.runs.stop_all()
        await app.stop()


async def _open(slack: FakeSlack) -> bool:
    return bool(slack.sockets)
