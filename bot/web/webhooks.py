"""`/hooks/...`: CI systems and repositories tell us that something happened. A hint, never a fact: we look ourselves.

A hook exists only if its secret is set. Its answer is 401 without the right signature or token, 202 when something was
woken or asked for, and 200 for what we have no use for.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.clock import Clock
from bot.deployments.hooked import Hooked, Push, RunHint
from bot.errors import SlipwayError
from bot.web import signatures

log = structlog.get_logger(__name__)

BODY_LIMIT = 5_000_000
REMEMBERED = 10_000


Event = RunHint | Push | None


@dataclass(frozen=True, slots=True)
class Hook:
    """One sender. genuine: secret, headers, query, body -> bool; read: headers, body -> event."""

    name: str
    secret: str
    genuine: Callable[[str, Request, bytes, Clock], bool]
    read: Callable[[Mapping[str, str], Any], Event]
    event_id: Callable[[Mapping[str, str]], str]


def webhook_routes(secrets: Mapping[str, str], hooked: Hooked, clock: Clock) -> list[Route]:
    """Routes of the senders that have a secret. secrets: `github`, `gitlab`, `jenkins`, `standard` -> secret."""
    hooks = [Hook(name, secrets[name], *parts) for name, parts in SENDERS.items() if secrets.get(name)]
    seen: OrderedDict[str, None] = OrderedDict()
    return [Route(f"/hooks/{hook.name}", _endpoint(hook, hooked, clock, seen), methods=["POST"]) for hook in hooks]


def _endpoint(
    hook: Hook, hooked: Hooked, clock: Clock, seen: OrderedDict[str, None]
) -> Callable[[Request], Awaitable[Response]]:
    async def receive(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return JSONResponse({"error": "The body is too large."}, 413)
        if not hook.genuine(hook.secret, request, body, clock):
            log.warning("webhook_refused", hook=hook.name)
            return JSONResponse({"error": "The signature or token is missing, wrong or too old."}, 401)
        try:
            event = hook.read(request.headers, json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return JSONResponse({"error": "The body is not what this hook sends."}, 400)
        return await _answered(hook, request, event, hooked, seen)

    return receive


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


async def _done(event: RunHint | Push, hooked: Hooked) -> Sequence[str]:
    if isinstance(event, RunHint):
        return ("woken",) if await hooked.run_changed(event) else ()
    return await hooked.pushed(event)


async def _body(request: Request) -> bytes | None:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY_LIMIT:
            return None
    return bytes(data)


# --- GitHub


def _read_github(headers: Mapping[str, str], body: Any) -> Event:
    match headers.get("x-github-event"):
        case "workflow_run" | "workflow_job":
            run = body.get("workflow_run") or {"id": body["workflow_job"]["run_id"]}
            return RunHint("github", run_id=str(run["id"]))
        case "push":
            return _github_push(headers, body)
    return None


def _github_push(headers: Mapping[str, str], body: Any) -> Push | None:
    branch = str(body["ref"]).removeprefix("refs/heads/")
    if branch == body["ref"] or body.get("deleted"):
        return None
    pusher, head = body.get("pusher") or {}, body.get("head_commit") or {}
    return Push(
        provider="github",
        event_id=headers.get("x-github-delivery", ""),
        repo=str(body["repository"]["full_name"]),
        branch=branch,
        commit=str(body["after"]),
        email=str(pusher.get("email") or ""),
        user=str(pusher.get("name") or ""),
        message=str(head.get("message") or ""),
        files=_files(body.get("commits"), complete=len(body.get("commits") or ()) < 20),
    )


# --- GitLab


def _read_gitlab(headers: Mapping[str, str], body: Any) -> Event:
    match body.get("object_kind"):
        case "pipeline":
            attributes = body["object_attributes"]
            intent = next(
                (one["value"] for one in attributes.get("variables") or () if one["key"] == "SLIPWAY_INTENT"), ""
            )
            return RunHint("gitlab", str(intent), str(attributes["id"]))
        case "build":
            return RunHint("gitlab", run_id=str(body["pipeline_id"]))
        case "push":
            return _gitlab_push(headers, body)
    return None


def _gitlab_push(headers: Mapping[str, str], body: Any) -> Push | None:
    branch, commit = str(body["ref"]).removeprefix("refs/heads/"), str(body.get("checkout_sha") or body["after"])
    if branch == body["ref"] or not commit.strip("0"):
        return None
    commits = body.get("commits") or []
    head: Mapping[str, Any] = next((one for one in commits if one.get("id") == commit), {})
    return Push(
        provider="gitlab",
        event_id=headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid", ""),
        repo=str(body["project"]["path_with_namespace"]),
        branch=branch,
        commit=commit,
        email=str(body.get("user_email") or (head.get("author") or {}).get("email") or ""),
        user=str(body.get("user_username") or ""),
        message=str(head.get("message") or ""),
        files=_files(commits, complete=len(commits) == body.get("total_commits_count", len(commits))),
    )


def _files(commits: Any, *, complete: bool) -> tuple[str, ...]:
    """Every file the commits touched; nothing if the sender left commits out, so that no filter is fooled."""
    if not complete:
        return ()
    names = {
        str(name) for one in commits or () for kind in ("added", "modified", "removed") for name in one.get(kind) or ()
    }
    return tuple(sorted(names))


# --- Jenkins and everybody else


def _read_jenkins(_headers: Mapping[str, str], body: Any) -> Event:
    """The Notification plugin's body; the parameter that carries the intent comes back by itself."""
    build = body["build"]
    intent = str((build.get("parameters") or {}).get("SLIPWAY_INTENT", ""))
    # `job/team/job/app/` is the job team/app; `name` alone would leave the folder out.
    job = "/".join(str(body.get("url", "")).strip("/").split("/")[1::2])
    return RunHint("jenkins", intent, str(build["number"]), job)


def _read_standard(_headers: Mapping[str, str], body: Any) -> Event:
    """`{"type": "run.updated", "data": {"provider", "intent"} or {"provider", "run_id"}}`, from scripts."""
    if not str(body.get("type", "")).startswith("run."):
        return None
    data = body["data"]
    return RunHint(str(data.get("provider", "")), str(data.get("intent", "")), str(data.get("run_id", "")))


_Parts = tuple[
    Callable[[str, Request, bytes, Clock], bool],
    Callable[[Mapping[str, str], Any], Event],
    Callable[[Mapping[str, str]], str],
]
SENDERS: Mapping[str, _Parts] = {
    "github": (
        lambda secret, request, body, _clock: signatures.github_signed(secret, request.headers, body),
        _read_github,
        lambda headers: headers.get("x-github-delivery", ""),
    ),
    "gitlab": (
        lambda secret, request, body, clock: signatures.gitlab_genuine(secret, request.headers, body, clock()),
        _read_gitlab,
        lambda headers: headers.get("idempotency-key", ""),
    ),
    "jenkins": (
        lambda secret, request, _body, _clock: signatures.bearer(secret, request.headers, request.query_params),
        _read_jenkins,
        lambda _headers: "",
    ),
    "standard": (
        lambda secret, request, body, clock: signatures.standard_signed(secret, request.headers, body, clock()),
        _read_standard,
        lambda headers: headers.get("webhook-id", ""),
    ),
}
"""Sender -> how it proves itself, how its body is read, and what it calls one delivery."""
