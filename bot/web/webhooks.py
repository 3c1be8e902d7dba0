"""`/hooks/...`: CI systems and repositories tell us that something happened. A hint, never a fact: we look ourselves.

A hook exists only if its secret is set. Its answer is 401 without the right signature or token, 202 when something was
woken or asked for, and 200 for what we have no use for.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.clock import Clock
from bot.deployments.hooked import GateHint, Hooked, Push, RunHint
from bot.deployments.merge_checks import MergeRequest
from bot.errors import SlipwayError
from bot.web import hook_bodies as bodies
from bot.web import signatures
from bot.web.hook_bodies import Event
from bot.web.limits import Lane, Strangers

log = structlog.get_logger(__name__)

BODY_LIMIT = 5_000_000
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Hook:
    """One sender. genuine: secret, headers, query, body -> bool; read: headers, body -> event."""

    name: str
    secret: str
    genuine: Callable[[str, Request, bytes, Clock], bool]
    read: Callable[[Mapping[str, str], Any], Event]
    event_id: Callable[[Mapping[str, str]], str]


def webhook_routes(
    secrets: Mapping[str, str],
    hooked: Hooked,
    clock: Clock,
    lane: Callable[[], Lane] = Lane,
    strangers: Strangers | None = None,
) -> list[Route]:
    """Routes of the senders that have a secret. secrets: a name of `SENDERS` -> secret; lane: makes one for each."""
    strangers = strangers or Strangers()
    hooks = [Hook(name, secrets[name], *parts) for name, parts in SENDERS.items() if secrets.get(name)]
    seen: OrderedDict[str, None] = OrderedDict()
    return [
        Route(f"/hooks/{hook.name}", _endpoint(hook, hooked, clock, seen, lane(), strangers), methods=["POST"])
        for hook in hooks
    ]


def _endpoint(
    hook: Hook,
    hooked: Hooked,
    clock: Clock,
    seen: OrderedDict[str, None],
    lane: Lane,
    strangers: Strangers,
) -> Callable[[Request], Awaitable[Response]]:
    async def receive(request: Request) -> Response:
        address = request.client.host if request.client is not None else ""
        if wait := strangers.wait(address):
            await strangers.hold()
            return _later(wait)
        async with lane.room:
            return await heard(request, address)

    async def heard(request: Request, address: str) -> Response:
        body = await _body(request)
        if body is None:
            return JSONResponse({"error": "The body is too large."}, 413)
        if not hook.genuine(hook.secret, request, body, clock):
            if strangers.failed(address):
                log.warning("webhook_refused", hook=hook.name)
            return JSONResponse({"error": "The signature or token is missing, wrong or too old."}, 401)
        strangers.genuine(address)
        if wait := lane.take():
            return _later(wait)
        try:
            event = hook.read(request.headers, json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return JSONResponse({"error": "The body is not what this hook sends."}, 400)
        return await _answered(hook, request, event, hooked, seen)

    return receive


def _later(seconds: float) -> Response:
    said = {"error": "That is more than one sender may send; send it again later."}
    return JSONResponse(said, 429, {"retry-after": str(math.ceil(seconds))})


async def _answered(
    hook: Hook, request: Request, event: Event, hooked: Hooked, seen: OrderedDict[str, None]
) -> Response:
    key = f"{hook.name}:{hook.event_id(request.headers)}"
    if event is None:
        return JSONResponse({"status": "ignored"})
    if key in seen:
        return JSONResponse({"status": "seen before"})
    try:
        said = await _done(event, hooked)
    except SlipwayError as error:
        # Not remembered: the sender may try again, and should.
        return JSONResponse({"error": error.message}, 503)
    if not key.endswith(":"):
        seen[key] = None
        while len(seen) > REMEMBERED:
            seen.popitem(last=False)
    return JSONResponse({"status": said[0] if said else "ignored", "detail": list(said)}, 202 if said else 200)


async def _done(event: RunHint | GateHint | Push | MergeRequest, hooked: Hooked) -> Sequence[str]:
    if isinstance(event, RunHint):
        return ("woken",) if await hooked.run_changed(event) else ()
    if isinstance(event, GateHint):
        return ("woken",) if await hooked.gate_changed(event) else ()
    if isinstance(event, MergeRequest):
        return await hooked.proposed(event)
    return await hooked.pushed(event)


async def _body(request: Request) -> bytes | None:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY_LIMIT:
            return None
    return bytes(data)


_Parts = tuple[
    Callable[[str, Request, bytes, Clock], bool],
    Callable[[Mapping[str, str], Any], Event],
    Callable[[Mapping[str, str]], str],
]


def _by_token(secret: str, request: Request, _body: bytes, _clock: Clock) -> bool:
    """For senders that sign nothing."""
    return signatures.bearer(secret, request.headers, request.query_params)


SENDERS: Mapping[str, _Parts] = {
    "github": (
        lambda secret, request, body, _clock: signatures.github_signed(secret, request.headers, body),
        bodies.read_github,
        lambda headers: headers.get("x-github-delivery", ""),
    ),
    "gitlab": (
        lambda secret, request, body, clock: signatures.gitlab_genuine(secret, request.headers, body, clock()),
        bodies.read_gitlab,
        lambda headers: headers.get("idempotency-key", ""),
    ),
    "jenkins": (_by_token, bodies.read_jenkins, lambda _headers: ""),
    "tekton": (
        _by_token,
        bodies.read_tekton,
        # Two events are the same if source and id are; a structured one is small harm when it comes twice.
        lambda headers: f"{headers['ce-source']} {headers['ce-id']}" if "ce-id" in headers else "",
    ),
    "yunxiao": (_by_token, bodies.read_yunxiao, lambda _headers: ""),
    "sonar": (
        lambda secret, request, body, _clock: signatures.sonar_signed(secret, request.headers, body),
        bodies.read_sonar,
        lambda _headers: "",
    ),
    "standard": (
        lambda secret, request, body, clock: signatures.standard_signed(secret, request.headers, body, clock()),
        bodies.read_standard,
        lambda headers: headers.get("webhook-id", ""),
    ),
}
"""Sender -> how it proves itself, how its body is read, and what it calls one delivery."""
