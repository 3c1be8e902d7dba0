"""A collector hears of a deployment as one trace, and harms nobody when it does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.app import App, Outside
from bot.deployments.model import State
from tests.fakes.serving import serving
from tests.support.network import free_port
from tests.support.running import POLL, Running, settings_for
from tests.support.world import make_world


class Collector:
    """Takes spans from whoever has the token."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.refused = 0

    async def take(self, request: Request) -> Response:
        if request.headers.get("authorization") != "Bearer collector-token":
            self.refused += 1
            return JSONResponse({}, 401)
        for resource in (await request.json())["resourceSpans"]:
            assert {"key": "service.name", "value": {"stringValue": "slipway"}} in resource["resource"]["attributes"]
            self.spans += [span for scope in resource["scopeSpans"] for span in scope["spans"]]
        return JSONResponse({})


async def deploy(tmp_path: Path, url: str) -> str:
    """One deployment from start to stop; returns its intent."""
    world = make_world(tmp_path / "world")
    more = {"otlp_url": url, "otlp_token": SecretStr("collector-token")}
    app = App(settings_for(world).model_copy(update=more), Outside(poll=POLL))
    await app.start()
    slipway = Running(app)
    try:
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.ends()
        assert seen.state is State.SUCCEEDED
    finally:
        await app.stop()
    return seen.intent


async def test_a_deployment_is_one_trace(tmp_path: Path) -> None:
    """Its id is in the intent, each state is a span below it, and the command is a span of its own."""
    collector = Collector()
    async with serving(Starlette(routes=[Route("/v1/traces", collector.take, methods=["POST"])])) as url:
        intent = await deploy(tmp_path, url)
    trace = intent.removeprefix("slw-")
    mine = [span for span in collector.spans if span["traceId"] == trace]
    (root,) = [span for span in mine if "parentSpanId" not in span]
    below = [span for span in mine if span.get("parentSpanId") == root["spanId"]]
    assert root["name"] == "deploy app/prod"
    assert [span["name"] for span in below] == ["queued", "building", "gating", "writing", "syncing", "verifying"]
    assert all(int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) for span in mine)
    assert len({span["spanId"] for span in mine}) == len(mine)
    assert root["status"]["code"] == 1
    assert [span["name"] for span in collector.spans if span["traceId"] != trace] == ["command deploy"]


async def test_a_collector_that_is_away_harms_nobody(tmp_path: Path) -> None:
    """The deployment and the stop go on as ever."""
    await deploy(tmp_path, f"http://127.0.0.1:{free_port()}")
