"""Who only listens hears how it ended, once, and of nothing else."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from bot.app import App, Outside
from bot.settings import Settings
from tests.fakes import robots
from tests.fakes.robots import FakeRobots
from tests.support.running import POLL, Running
from tests.support.world import make_world

CHANNELS = {"console": "#releases", "dingtalk": "ops", "wecom": "ops", "webhook": "ci"}


async def test_results_reach_everybody_who_listens(tmp_path: Path) -> None:
    """One deployment, typed in the console: one result each in DingTalk, WeCom and at the webhook."""
    world = make_world(tmp_path / "world", channels=CHANNELS)
    async with FakeRobots() as fake:
        settings = Settings(
            config=world.directory,
            console=True,
            console_open=True,
            patience_seconds=2,
            dingtalk_robots=SecretStr(f"ops={robots.DING_TOKEN} {robots.DING_SECRET}"),
            dingtalk_oapi_url=fake.url,
            wecom_robots=SecretStr(f"ops={robots.WECOM_KEY}"),
            wecom_api_url=fake.url,
            webhooks=SecretStr(f"ci={fake.url}/hook {robots.WEBHOOK_SECRET}"),
        )
        app = App(settings, Outside(poll=POLL))
        await app.start()
        try:
            slipway = Running(app)
            await slipway.say("owner", "/deploy app prod")
            await slipway.ends()
            await slipway.quiet()
        finally:
            await app.runs.stop_all()
            await app.stop()
    assert len(fake.groups) == 2
    assert all("已在 prod 运行" in one["markdown"].get("text", one["markdown"].get("content")) for one in fake.groups)
    (event,) = fake.events
    assert event["data"]["state"] == "succeeded"
    assert event["data"]["about"]["service"] == "app"
