"""Busy addresses past the router: they answer as they do behind it, and nothing else goes that way."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bot.web.front import Front
from bot.web.limits import LARGEST_BODY


async def endpoint(request: Request) -> PlainTextResponse:
    """Tells whether the application was gone through, which leaves itself in the scope."""
    size = len(await request.body())
    return PlainTextResponse(f"{request.method} {size} {'application' if 'app' in request.scope else 'straight'}")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    busy = Route("/slack/events", endpoint, methods=["POST"])
    web = Starlette(routes=[busy, Route("/healthz", endpoint, methods=["GET", "POST"])])
    transport = httpx.ASGITransport(Front(web, [busy]))
    async with httpx.AsyncClient(transport=transport, base_url="http://slipway") as made:
        yield made


async def test_what_goes_straight(client: httpx.AsyncClient) -> None:
    """A POST to the very address; another method there, and everything elsewhere, is the application's."""
    assert (await client.post("/slack/events", content=b"four")).text == "POST 4 straight"
    assert (await client.get("/slack/events")).status_code == 405
    assert (await client.post("/healthz", content=b"x")).text == "POST 1 application"
    assert (await client.get("/healthz")).text == "GET 0 application"
    assert (await client.post("/nowhere")).status_code == 404


async def test_bodies_are_limited_there_too(client: httpx.AsyncClient) -> None:
    """It is the first thing a stranger reaches."""
    answer = await client.post("/slack/events", content=b"x" * (LARGEST_BODY + 1))
    assert answer.status_code == 413
