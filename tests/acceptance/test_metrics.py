"""`/metrics` and `/reports` of a running Slipway."""

from __future__ import annotations

from pathlib import Path

import httpx
from pydantic import SecretStr

from bot.app import App, Outside
from tests.support.running import POLL, Running, settings_for
from tests.support.world import make_world


async def ask(app: App, path: str, token: str = "") -> httpx.Response:
    transport = httpx.ASGITransport(app.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://slipway") as client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return await client.get(path, headers=headers)


async def scrape(app: App, token: str = "") -> httpx.Response:
    return await ask(app, "/metrics", token)


async def test_what_happened_is_told_to_whoever_has_the_token(tmp_path: Path) -> None:
    """One deployment, one refusal; nothing in it names a service or a person; without the token nothing is told."""
    world = make_world(tmp_path / "world")
    settings = settings_for(world).model_copy(update={"metrics_token": SecretStr("a-long-metrics-token")})
    app = App(settings, Outside(poll=POLL))
    await app.start()
    try:
        slipway = Running(app)
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
        await slipway.say("outsider", "/deploy app prod")
        refused, wrong = await scrape(app), await scrape(app, "another")
        answer = await scrape(app, "a-long-metrics-token")
    finally:
        await app.stop()
    assert (refused.status_code, wrong.status_code, answer.status_code) == (401, 401, 200)
    lines = answer.text.splitlines()
    assert 'slipway_deployments_ended_total{state="succeeded"} 1.0' in lines
    assert 'slipway_intents_total{kind="command",name="deploy",outcome="accepted"} 1.0' in lines
    assert 'slipway_intents_total{kind="command",name="deploy",outcome="refused"} 1.0' in lines
    assert any(line.startswith('slipway_refusals_total{code="not_permitted"}') for line in lines)
    assert 'slipway_provider_calls_total{answer="ok",operation="trigger",provider="shell"} 1.0' in lines
    assert "slipway_outbox_behind 0.0" in lines
    assert not any("outsider" in line or '"app"' in line for line in lines)


async def test_the_report_is_told_to_whoever_has_the_token(tmp_path: Path) -> None:
    """The same figures as JSON; a wrong question gets a sentence, a wrong token nothing."""
    token = "a-long-metrics-token"
    settings = settings_for(make_world(tmp_path / "world"))
    app = App(settings.model_copy(update={"metrics_token": SecretStr(token)}), Outside(poll=POLL))
    await app.start()
    try:
        slipway = Running(app)
        await slipway.say("owner", "/deploy app prod")
        await slipway.ends()
        told = await ask(app, "/reports?days=7", token)
        wrong = [await ask(app, f"/reports?{query}", token) for query in ("days=x", "team=nobody")]
        refused = [(await ask(app, "/reports", one)).status_code for one in ("", "another")]
    finally:
        await app.stop()
    figures = told.json()
    assert told.status_code == 200
    assert (figures["whole"]["deployments"], figures["whole"]["by_state"]) == (1, {"succeeded": 1})
    assert figures["whole"]["change_failure_rate"] == 0
    assert len(figures["whole"]["days"]) >= 7
    assert [one.status_code for one in wrong] == [400, 400]
    assert "from 1 to 92" in wrong[0].json()["error"]
    assert refused == [401, 401]


async def test_without_a_token_there_are_no_reports(tmp_path: Path) -> None:
    """Names of teams and services are nobody's who merely reaches the port."""
    app = App(settings_for(make_world(tmp_path / "world")), Outside(poll=POLL))
    await app.start()
    try:
        answer = await ask(app, "/reports", "a-long-metrics-token")
    finally:
        await app.stop()
    assert answer.status_code == 404
