"""What comes in is small and soon, and one sender cannot take the room of the others."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.clock import utc_now
from bot.deployments.hooked import GateHint, Push, RunHint
from bot.deployments.merge_checks import MergeRequest
from bot.web.limits import BodyLimits, Lane, Strangers
from bot.web.webhooks import webhook_routes


class Now:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


async def echo(request: Request) -> Response:
    return JSONResponse({"length": len(await request.body())})


def app(largest: int = 1000, slowest: float = 5.0) -> httpx.ASGITransport:
    limits = Middleware(BodyLimits, largest=largest, slowest=slowest)
    return httpx.ASGITransport(Starlette(routes=[Route("/", echo, methods=["POST"])], middleware=[limits]))


async def post(transport: httpx.ASGITransport, content: bytes | AsyncIterator[bytes]) -> httpx.Response:
    async with httpx.AsyncClient(transport=transport, base_url="http://slipway") as client:
        return await client.post("/", content=content)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def never() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


async def test_a_body_of_any_route_has_a_size() -> None:
    """Also one that comes in pieces and does not say how long it is."""
    assert (await post(app(), b"x" * 1000)).json() == {"length": 1000}
    assert (await post(app(), chunks(b"x" * 600, b"x" * 400))).json() == {"length": 1000}
    assert (await post(app(), b"x" * 1001)).status_code == 413
    assert (await post(app(), chunks(b"x" * 600, b"x" * 401))).status_code == 413


async def test_a_body_that_does_not_end_is_given_up() -> None:
    """Thousands of them would hold thousands of connections."""
    async with asyncio.timeout(30):
        answer = await post(app(slowest=0.01), never())
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")


def test_a_lane_takes_its_burst_and_then_its_rate() -> None:
    """5,000 at once are taken; the sender of a loop is told when to come again."""
    now = Now()
    lane = Lane(rate=100, burst=50, now=now)
    assert [lane.take() for _ in range(50)] == [0.0] * 50
    assert lane.take() == pytest.approx(0.01)
    now.seconds += 0.125
    assert [lane.take() == 0.0 for _ in range(13)] == [True] * 12 + [False]


def test_strangers_are_shut_out_and_let_in_again() -> None:
    """By address; an address of friends never is, and the log does not become the attack."""
    now = Now()
    strangers = Strangers(rate=1, burst=3, friend_for=60, now=now)
    assert [strangers.failed("evil") for _ in range(5)] == [True, True, True, False, False]
    assert strangers.wait("evil") > 0
    assert strangers.wait("good") == 0
    now.seconds += 1
    assert strangers.wait("evil") == 0
    for _ in range(5):
        strangers.failed("proxy")
    strangers.genuine("proxy")
    assert strangers.wait("proxy") == 0
    now.seconds += 61
    for _ in range(5):
        strangers.failed("proxy")
    assert strangers.wait("proxy") > 0


def test_what_is_remembered_is_bounded() -> None:
    """A million addresses are no million entries."""
    strangers = Strangers(burst=1)
    for number in range(Strangers.REMEMBERED * 2):
        strangers.failed(str(number))
        strangers.genuine(f"friend {number}")
    assert len(strangers._tries) == len(strangers._friends) == Strangers.REMEMBERED


class Counting:
    """Takes every event."""

    def __init__(self) -> None:
        self.hints: list[RunHint] = []

    async def run_changed(self, hint: RunHint) -> bool:
        self.hints.append(hint)
        return True

    async def gate_changed(self, hint: GateHint) -> bool:
        return True

    async def pushed(self, push: Push) -> Sequence[str]:
        return ()

    async def proposed(self, change: MergeRequest) -> Sequence[str]:
        return ()


def signed(number: int, secret: str = "github-secret") -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"workflow_run": {"id": number}}).encode()
    name = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return body, {"x-github-event": "workflow_run", "x-hub-signature-256": name, "x-github-delivery": f"d{number}"}


async def test_a_broken_sender_harms_itself_alone() -> None:
    """GitHub in a loop is told to wait, and GitLab is heard all the while."""
    secrets, heard = {"github": "github-secret", "gitlab": "gitlab-token"}, Counting()
    routes = webhook_routes(secrets, heard, utc_now, lambda: Lane(rate=0.001, burst=20))
    transport = httpx.ASGITransport(Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://slipway") as client:
        answers = []
        for number in range(30):
            body, headers = signed(number)
            answers.append(await client.post("/hooks/github", content=body, headers=headers))
        other = {"object_kind": "build", "pipeline_id": 7}
        gitlab = await client.post("/hooks/gitlab", json=other, headers={"x-gitlab-token": "gitlab-token"})
    assert [answer.status_code for answer in answers] == [202] * 20 + [429] * 10
    assert int(answers[-1].headers["retry-after"]) > 0
    assert gitlab.status_code == 202
    assert len(heard.hints) == 21


async def test_a_hostile_sender_is_not_listened_to_any_more() -> None:
    """After thirty forgeries its bodies are not even read, while another address is served."""
    heard, pauses = Counting(), []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    routes = webhook_routes({"github": "github-secret"}, heard, utc_now, strangers=Strangers(pause=pause))
    asgi = Starlette(routes=routes)

    async def client(address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(asgi, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://slipway")

    body, forged = signed(1, "guess")
    async with await client("203.0.113.9") as evil, await client("198.51.100.7") as good:
        statuses = [(await evil.post("/hooks/github", content=body, headers=forged)).status_code for _ in range(40)]
        body, genuine = signed(2)
        assert (await good.post("/hooks/github", content=body, headers=genuine)).status_code == 202
        assert (await evil.post("/hooks/github", content=body, headers=genuine)).status_code == 429
    assert statuses[:30] == [401] * 30
    assert set(statuses[35:]) == {429}
    assert len(heard.hints) == 1
    assert pauses == [Strangers.PAUSE] * (statuses.count(429) + 1)


async def test_refusals_that_wait_are_bounded() -> None:
    """A flood on thousands of connections keeps only so many of them waiting."""
    over = asyncio.Event()
    strangers = Strangers(pause=lambda _: over.wait())
    held = [asyncio.create_task(strangers.hold()) for _ in range(Strangers.HELD + 5)]
    await asyncio.sleep(0)
    assert sum(task.done() for task in held) == 5
    over.set()
    await asyncio.gather(*held)
    over.clear()
    again = asyncio.create_task(strangers.hold())
    await asyncio.sleep(0)
    assert not again.done()  # there is room again
    over.set()
    await again
