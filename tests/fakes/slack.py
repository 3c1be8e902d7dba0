"""A Slack on this machine: Web API, Socket Mode and signed requests on the real wire, with state, limits and faults.

Source: /api answers, errors and limits as docs.slack.dev's method reference gives them; frames as "Socket Mode".
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import math
import ssl
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
BOT_TOKEN = "xoxb-fake-1"
APP_TOKEN = "xapp-fake-1"
TEAM = "T0001"
BOT_USER = "UBOT"

SCOPES: Mapping[str, tuple[str, ...]] = {
    "chat.postMessage": ("chat:write",),
    "chat.update": ("chat:write",),
    "chat.postEphemeral": ("chat:write",),
    "conversations.open": ("im:write",),
    "users.info": ("users:read",),
    "users.list": ("users:read",),
    "usergroups.list": ("usergroups:read",),
    "files.getUploadURLExternal": ("files:write",),
    "files.completeUploadExternal": ("files:write",),
}
"""Of methods whose scope does not hang on the kind of a conversation."""
KINDS = {"public_channel": "channels", "private_channel": "groups", "im": "im"}
EVENT_SCOPES = {
    "app_mention": "app_mentions:read",
    "message": "im:history",
    "user_change": "users:read",
    "team_join": "users:read",
    "subteam_members_changed": "usergroups:read",
    "subteam_updated": "usergroups:read",
    "subteam_created": "usergroups:read",
}
ALL_SCOPES = frozenset(
    [scope for needed in SCOPES.values() for scope in needed]
    + [f"{kind}:{what}" for kind in KINDS.values() for what in ("read", "history")]
    + [*EVENT_SCOPES.values(), "commands", "users:read.email"]
)
PER_MINUTE = {
    "chat.update": 50,
    "conversations.open": 50,
    "conversations.list": 20,
    "conversations.history": 50,
    "conversations.replies": 50,
    "users.list": 20,
    "users.info": 100,
    "views.open": 100,
    "views.publish": 100,
    "chat.postEphemeral": 100,
}
MAX_CHARACTERS = 13_200


@dataclass
class Fault:
    """What goes wrong with a call.

    error: answered in place of the work. lost: done, but not answered. late: done, and answered after `delay` seconds.
    """

    error: str = ""
    status: int = 200
    delay: float = 0.0
    lost: bool = False
    late: bool = False
    hang: bool = False
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One call as it came."""

    method: str
    arguments: dict[str, Any]
    token: str
    at: float
    answer: str = "ok"


@dataclass
class Envelope:
    """One frame sent over a socket, and what came back."""

    id: str
    answer: asyncio.Future[dict[str, Any]]


class FakeSlack:
    """One server for everything. `speed`: how many times faster than real its rate limits run."""

    def __init__(self, speed: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        """speed 0: no rate limits. now: seconds, for the limits and the history."""
        self.speed = speed
        self.tokens: dict[str, str] = {}
        self.app_token = APP_TOKEN
        self.now = now
        self.scopes: set[str] = set(ALL_SCOPES)
        self.used_scopes: set[str] = set()
        self.users: dict[str, dict[str, Any]] = {}
        self.channels: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.history: dict[tuple[str, str], list[tuple[float, dict[str, Any]]]] = defaultdict(list)
        self.whispers: list[dict[str, Any]] = []
        self.views: dict[str, dict[str, Any]] = {}
        self.homes: dict[str, dict[str, Any]] = {}
        self.files: list[dict[str, Any]] = []
        self.calls: list[Call] = []
        self.posted_at: list[float] = []
        self.strict = True
        """Whether messages are checked block by block; costs more than everything else here."""
        self.ssl: ssl.SSLContext | None = None
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.unacknowledged: list[str] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.connections = 0
        self.slow = 0.0
        self.app_url = ""
        self.used_triggers: set[str] = set()
        self.tickets: set[str] = set()
        self.refused_sockets = 0
        """So many sockets are refused; their tickets are used up."""
        self.cut = ""
        """Where the socket is cut next: `frame`: right behind a frame; `ack`: when an answer arrives, unheard."""
        self.triggers: dict[str, float] = {}
        self._envelopes: dict[str, Envelope] = {}
        self._numbers = itertools.count(1)
        self._recent: dict[tuple[str, ...], deque[float]] = defaultdict(deque)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._ts = itertools.count(1)
        self.base_url = ""
        self.bots: dict[str, str] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.workspace(BOT_TOKEN, TEAM, BOT_USER)

    # -- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> FakeSlack:
        app = web.Application(client_max_size=5_000_000)
        app.router.add_route("*", "/api/{method}", self._api)
        app.router.add_post("/upload/{id}", self._upload)
        app.router.add_get("/link/", self._socket)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.ssl)
        await site.start()
        port = self._runner.addresses[0][1]
        self.base_url = f"http{'s' if self.ssl else ''}://127.0.0.1:{port}/api/"
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        for socket in list(self.sockets):
            await socket.close()
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # -- the company -------------------------------------------------------------------------------------------------

    def user(self, user_id: str, email: str = "", team: str = TEAM, **flags: Any) -> dict[str, Any]:
        """Add a user, or change one."""
        known = self.users.setdefault(user_id, {"id": user_id, "team_id": team, "profile": {}, "deleted": False})
        known |= {"name": user_id.lower(), **flags}
        if email:
            known["profile"] = {"email": email}
        return known

    def workspace(self, token: str, team: str, bot: str) -> None:
        """Install the app in a workspace."""
        self.tokens[token] = team
        self.bots[team] = bot
        self.user(bot, team=team, is_bot=True)

    def group(self, group_id: str, handle: str, users: list[str], team: str = TEAM, **flags: Any) -> dict[str, Any]:
        """Add a user group, or change one."""
        known = {"id": group_id, "team_id": team, "handle": handle, "users": users, "date_delete": 0, **flags}
        self.groups[group_id] = known
        return known

    def channel(self, channel_id: str, name: str, member: bool = True, team: str = TEAM, **flags: Any) -> None:
        """Add a channel; member: the bot is in it."""
        self.channels[channel_id] = {"id": channel_id, "name": name, "is_member": member, "team": team, **flags}

    def team_of(self, place: str) -> str:
        """The workspace of a channel, a personal chat or a user."""
        known = self.channels.get(place) or self.users.get(place.removeprefix("D")) or {}
        return str(known.get("team") or known.get("team_id") or TEAM)

    def fail(self, method: str, **fault: Any) -> Fault:
        """Have the next calls of a method go wrong."""
        made = Fault(**fault)
        self.faults[method].append(made)
        return made

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(1 for call in self.calls if call.method == method)

    def counts(self) -> Counter[str]:
        """Calls by method."""
        return Counter(call.method for call in self.calls)

    def posts(self, channel: str) -> list[dict[str, Any]]:
        """Messages of a channel, oldest first; without shared files."""
        return [one for one in self.messages[channel].values() if "files" not in one]

    def direct(self, user: str) -> list[dict[str, Any]]:
        """Messages of the personal chat with a user."""
        return self.posts(f"D{user}")

    # -- inbound: HTTP -----------------------------------------------------------------------------------------------

    def trigger(self) -> str:
        """A fresh trigger id; it lives three seconds and serves once."""
        made = f"{next(self._numbers)}.{TEAM}.abc"
        self.triggers[made] = self.now()
        return made

    async def send(
        self,
        body: bytes,
        content_type: str,
        *,
        secret: str = SECRET,
        at: float | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """One signed request to the app: status and text of its answer."""
        timestamp = str(int(time.time() if at is None else at))
        digest = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        signed = {
            "Content-Type": content_type,
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": f"v0={digest}",
        } | dict(extra or {})
        assert self._session is not None
        async with self._session.post(f"{self.app_url}/slack/events", data=body, headers=signed) as answer:
            return answer.status, await answer.text()

    def command_body(self, user: str, text: str, channel: str = "C1", **fields: str) -> dict[str, str]:
        """The form fields of a slash command typed as `/name words`."""
        name, _, rest = text.partition(" ")
        known = self.channels.get(channel, {})
        return {
            "token": "old",
            "team_id": self.users.get(user, {}).get("team_id", TEAM),
            "team_domain": "acme",
            "channel_id": channel,
            "channel_name": "directmessage" if channel.startswith("D") else known.get("name", "unknown"),
            "user_id": user,
            "user_name": user.lower(),
            "command": name,
            "text": rest,
            "api_app_id": "A1",
            "is_enterprise_install": "false",
            "response_url": "https://hooks.slack.com/commands/T1/1/x",
            "trigger_id": self.trigger(),
        } | fields

    async def command(self, user: str, text: str, channel: str = "C1", **fields: str) -> tuple[int, str]:
        """Somebody types a slash command; goes over a socket if one is open."""
        body = self.command_body(user, text, channel, **fields)
        self.used_scopes.add("commands")
        if self.sockets:
            return 200, json.dumps((await self.envelope("slash_commands", body)).get("payload") or {})
        return await self.send(urlencode(body).encode(), "application/x-www-form-urlencoded")

    async def interact(self, payload: Mapping[str, Any]) -> tuple[int, str]:
        """A click, a form: as Slack sends them."""
        if self.sockets:
            return 200, json.dumps((await self.envelope("interactive", dict(payload))).get("payload") or {})
        return await self.send(
            urlencode({"payload": json.dumps(payload)}).encode(), "application/x-www-form-urlencoded"
        )

    def click_body(self, user: str, channel: str, ts: str, action_id: str, **more: Any) -> dict[str, Any]:
        """The payload of a pressed button; the button must be on the message."""
        message = self.messages[channel][ts]
        button = next(one for one in buttons(message) if one["action_id"] == action_id)
        return {
            "type": "block_actions",
            "user": {"id": user, "team_id": self.users.get(user, {}).get("team_id", TEAM)},
            "team": {"id": self.team_of(channel), "domain": "acme"},
            "api_app_id": "A1",
            "trigger_id": self.trigger(),
            "container": {"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": False},
            "channel": {"id": channel},
            "message": message,
            "response_url": "https://hooks.slack.com/actions/x",
            "actions": [{**button, "type": "button", "block_id": "b", "action_ts": f"{time.time():.6f}"}],
        } | more

    async def click(self, user: str, channel: str, ts: str, action_id: str, **more: Any) -> tuple[int, str]:
        """Somebody presses a button."""
        return await self.interact(self.click_body(user, channel, ts, action_id, **more))

    async def submit(self, user: str, view: Mapping[str, Any], **values: str) -> tuple[int, str]:
        """Somebody sends an open form."""
        state = {f"in:{name}": {"value": {"type": "plain_text_input", "value": text}} for name, text in values.items()}
        payload = {
            "type": "view_submission",
            "user": {"id": user, "team_id": self.users.get(user, {}).get("team_id", TEAM)},
            "team": {"id": self.team_of(user), "domain": "acme"},
            "api_app_id": "A1",
            "view": {**view, "state": {"values": state}},
            "response_urls": [],
        }
        return await self.interact(payload)

    def event_body(self, event: Mapping[str, Any], event_id: str = "") -> dict[str, Any]:
        """The envelope of an event."""
        team = self.team_of(str(event.get("channel") or ""))
        return {
            "type": "event_callback",
            "team_id": team,
            "api_app_id": "A1",
            "event_id": event_id or f"Ev{next(self._numbers)}",
            "event_time": int(time.time()),
            "authorizations": [{"team_id": team, "enterprise_id": None, "user_id": self.bots[team], "is_bot": True}],
            "event": event,
        }

    async def event(
        self, event: Mapping[str, Any], event_id: str = "", extra: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Something happened."""
        body = self.event_body(event, event_id)
        if scope := EVENT_SCOPES.get(str(event["type"])):
            if scope not in self.scopes:
                raise AssertionError(f"Slack sends {event['type']} only to apps with {scope}.")
            self.used_scopes.add(scope)
        if self.sockets:
            return 200, json.dumps((await self.envelope("events_api", body)).get("payload") or {})
        return await self.send(json.dumps(body).encode(), "application/json", extra=extra)

    async def mention(
        self, user: str, text: str, channel: str = "C1", thread: str = "", **more: Any
    ) -> tuple[int, str]:
        """Somebody writes to the bot by name."""
        ts = self.next_ts()
        event = {"type": "app_mention", "user": user, "text": text, "ts": ts, "channel": channel, "event_ts": ts}
        return await self.event(event | ({"thread_ts": thread} if thread else {}) | more)

    async def write(self, user: str, text: str, **more: Any) -> tuple[int, str]:
        """Somebody writes in the personal chat with the bot."""
        ts = self.next_ts()
        event = {"type": "message", "channel_type": "im", "user": user, "text": text, "ts": ts, "channel": f"D{user}"}
        return await self.event(event | {"event_ts": ts} | more)

    # -- inbound: Socket Mode ----------------------------------------------------------------------------------------

    async def envelope(self, kind: str, payload: Mapping[str, Any], patience: float = 3.0) -> dict[str, Any]:
        """Send one frame and return its acknowledgement; noted as unacknowledged if none comes in time."""
        made = Envelope(f"e{next(self._numbers)}", asyncio.get_running_loop().create_future())
        self._envelopes[made.id] = made
        frame = {"type": kind, "envelope_id": made.id, "payload": payload, "accepts_response_payload": True}
        socket = self.sockets[-1]
        await socket.send_str(json.dumps(frame | {"retry_attempt": 0, "retry_reason": ""}))
        if self.cut == "frame":
            self.cut = ""
            _transport(socket).close()
        try:
            async with asyncio.timeout(patience):
                return await made.answer
        except TimeoutError:
            self.unacknowledged.append(made.id)
            return {}

    async def disconnect(self, reason: str = "refresh_requested") -> None:
        """Ask the app to open a new connection."""
        await self.sockets[-1].send_str(json.dumps({"type": "disconnect", "reason": reason}))

    async def drop(self) -> None:
        """Cut every socket without a word."""
        for socket in list(self.sockets):
            _transport(socket).abort()

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self.refused_sockets:
            self.refused_sockets -= 1
            self.tickets.discard(request.query["ticket"])
            return web.Response(status=503)
        if request.query["ticket"] not in self.tickets:
            return web.Response(status=401)
        self.tickets.remove(request.query["ticket"])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        hello = {"type": "hello", "num_connections": len(self.sockets) + 1, "connection_info": {"app_id": "A1"}}
        await socket.send_str(json.dumps(hello | {"debug_info": {"approximate_connection_time": 18060}}))
        self.sockets.append(socket)
        try:
            async for frame in socket:
                if frame.type is aiohttp.WSMsgType.TEXT:
                    answer = json.loads(frame.data)
                    if self.cut == "ack":
                        self.cut = ""
                        _transport(socket).abort()
                        break
                    known = self._envelopes.pop(answer.get("envelope_id", ""), None)
                    if known is not None and not known.answer.done():
                        known.answer.set_result(answer)
        finally:
            self.sockets.remove(socket)
        return socket

    # -- the Web API -------------------------------------------------------------------------------------------------

    async def _api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        arguments: dict[str, Any] = dict(request.query)
        if request.content_type == "application/json":
            arguments |= await request.json()
        elif request.can_read_body:
            arguments |= dict(await request.post())
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        call = Call(method, arguments, token, self.now())
        self.calls.append(call)
        if self.slow:
            await asyncio.sleep(self.slow)
        fault = self._fault(method)
        if fault is not None and not fault.lost and not fault.late:
            call.answer = fault.error or str(fault.status)
            return await self._failed(fault)
        if wait := self._over_limit(method, arguments):
            call.answer = "ratelimited"
            headers = {"Retry-After": f"{math.ceil(wait * self.speed) / self.speed:g}"}
            return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)
        answer = self._answer(method, token, arguments)
        call.answer = "ok" if answer.get("ok") else str(answer.get("error"))
        if fault is not None and fault.late:
            await asyncio.sleep(fault.delay)
        elif fault is not None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return web.json_response(answer, headers={"x-oauth-scopes": ",".join(sorted(self.scopes))})

    def _fault(self, method: str) -> Fault | None:
        for name in (method, "*"):
            waiting = self.faults[name]
            if waiting:
                fault = waiting[0]
                fault.times -= 1
                if fault.times <= 0:
                    waiting.pop(0)
                return fault
        return None

    async def _failed(self, fault: Fault) -> web.StreamResponse:
        await asyncio.sleep(3600 if fault.hang else fault.delay)
        if fault.error:
            return web.json_response({"ok": False, "error": fault.error}, status=fault.status, headers=fault.headers)
        return web.Response(status=fault.status, text="<html>upstream</html>", headers=fault.headers)

    def _over_limit(self, method: str, arguments: Mapping[str, Any]) -> float:
        """Seconds to wait, 0 if the call is within its tier."""
        if not self.speed:
            return 0.0
        now = self.now()
        if method == "chat.postMessage":
            # About one a second in a channel, with a burst of one.
            return self._window((method, str(arguments.get("channel"))), now, 1, 1.0 / self.speed)
        if method in PER_MINUTE:
            return self._window((method,), now, PER_MINUTE[method], 60.0 / self.speed)
        return 0.0

    def _window(self, key: tuple[str, ...], now: float, allowed: int, seconds: float) -> float:
        recent = self._recent[key]
        while recent and recent[0] <= now - seconds:
            recent.popleft()
        if len(recent) >= allowed:
            return max(0.001, recent[0] + seconds - now)
        recent.append(now)
        return 0.0

    def _answer(self, method: str, token: str, arguments: dict[str, Any]) -> dict[str, Any]:
        wanted = self.app_token if method == "apps.connections.open" else ""
        if (wanted and token != wanted) or (not wanted and token not in self.tokens):
            return _no("invalid_auth")
        needed = self._needed(method, arguments)
        if missing := sorted(needed - self.scopes):
            return _no("missing_scope") | {"needed": missing[0], "provided": ",".join(sorted(self.scopes))}
        self.used_scopes |= needed
        work = getattr(self, "_do_" + method.replace(".", "_").lower(), None)
        if work is None:
            return _no("unknown_method")
        answer: dict[str, Any] = work(arguments, token)
        return answer

    def _needed(self, method: str, arguments: Mapping[str, Any]) -> set[str]:
        """The scopes of one call; those of conversations hang on their kind."""
        if method == "conversations.list":
            return {f"{KINDS[one]}:read" for one in str(arguments.get("types") or "public_channel").split(",")}
        what = {"conversations.info": "read", "conversations.history": "history", "conversations.replies": "history"}
        if method in what:
            channel = str(arguments["channel"])
            private = self.channels.get(channel, {}).get("is_private")
            kind = "im" if channel.startswith("D") else "groups" if private else "channels"
            return {f"{kind}:{what[method]}"}
        return set(SCOPES.get(method, ()))

    def next_ts(self) -> str:
        """A timestamp above all before."""
        return f"{time.time():.3f}{next(self._ts) % 1000:03d}"

    def _do_auth_test(self, _arguments: dict[str, Any], token: str) -> dict[str, Any]:
        return _yes(
            team_id=self.tokens[token],
            team="Acme",
            user_id=self.bots[self.tokens[token]],
            user="slipway",
            bot_id="B1",
            url="https://x",
        )

    def _do_apps_connections_open(self, _arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        url = self.base_url.replace("http:", "ws:").removesuffix("api/")
        ticket = str(next(self._numbers))
        self.tickets.add(ticket)
        return _yes(url=f"{url}link/?ticket={ticket}&app_id=A1")

    def _do_chat_postmessage(self, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        channel = self._room(str(arguments["channel"]), token)
        if channel.startswith("!"):
            return _no(channel[1:])
        self.posted_at.append(self.now())
        if self.strict and (problem := _content_problem(arguments, 40_000)):
            return problem
        ts = self.next_ts()
        message = {**_kept(arguments), "ts": ts, "bot_id": "B1", "user": self.bots[self.tokens[token]]}
        self.messages[channel][ts] = message
        self.history[channel, ts].append((self.now(), message))
        return _yes(channel=channel, ts=ts, message=message)

    def _room(self, channel: str, token: str) -> str:
        """The id of a writable place, or `!error`."""
        if self.team_of(channel) != self.tokens[token] and not channel.startswith("#"):
            return "!channel_not_found"
        if channel.startswith("U"):
            known = self.users.get(channel)
            if known is None:
                return "!channel_not_found"
            if known.get("is_bot"):
                return "!cannot_dm_bot"
            return "!user_disabled" if known["deleted"] else f"D{channel}"
        if channel.startswith("D"):
            return channel
        here = [one for one in self.channels.values() if one["team"] == self.tokens[token]]
        found = next((one for one in here if channel in (one["id"], f"#{one['name']}")), None)
        if found is None:
            return "!channel_not_found"
        if found.get("is_archived"):
            return "!is_archived"
        return str(found["id"]) if found["is_member"] else "!not_in_channel"

    def _do_chat_update(self, arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        channel, ts = str(arguments["channel"]), str(arguments["ts"])
        if not channel.startswith(("C", "D", "G")):
            return _no("channel_not_found")
        if ts not in self.messages[channel]:
            return _no("message_not_found")
        if problem := _content_problem(arguments, 4_000):
            return problem
        message = {**self.messages[channel][ts], **_kept(arguments), "ts": ts}
        self.messages[channel][ts] = message
        self.history[channel, ts].append((self.now(), message))
        return _yes(channel=channel, ts=ts, text=message["text"], message=message)

    def _do_chat_postephemeral(self, arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        if arguments.get("user") not in self.users:
            return _no("user_not_in_channel")
        self.whispers.append(arguments)
        return _yes(message_ts=self.next_ts())

    def _do_conversations_open(self, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        room = self._room(str(arguments["users"]), token)
        return _no(room[1:]) if room.startswith("!") else _yes(channel={"id": room})

    def _do_conversations_list(self, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        here = [one for one in self.channels.values() if one["team"] == self.tokens[token]]
        return self._page(here, "channels", arguments)

    def _do_conversations_info(self, arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        found = self.channels.get(str(arguments["channel"]))
        return _yes(channel=found) if found else _no("channel_not_found")

    def _do_conversations_history(self, arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        oldest = float(arguments.get("oldest") or 0)
        found = [one for one in reversed(self.posts(str(arguments["channel"]))) if float(one["ts"]) >= oldest]
        return self._page(found, "messages", arguments)

    def _do_conversations_replies(self, arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        wanted = str(arguments["ts"])
        posts = list(self.messages[str(arguments["channel"])].values())
        thread = [one for one in posts if wanted in (one["ts"], one.get("thread_ts"))]
        oldest = float(arguments.get("oldest") or 0)
        return self._page([one for one in thread if float(one["ts"]) >= oldest], "messages", arguments)

    def _do_users_info(self, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        known = self.users.get(str(arguments["user"]))
        visible = known is not None and self._sees(token, known)
        return _yes(user=self._shown(known)) if known is not None and visible else _no("user_not_found")

    def _do_users_list(self, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        seen = [self._shown(one) for one in self.users.values() if self._sees(token, one)]
        return self._page(seen, "members", arguments)

    def _sees(self, token: str, user: Mapping[str, Any]) -> bool:
        """Its own users, and those of organisations without the app who share a channel."""
        return user["team_id"] == self.tokens[token] or user["team_id"] not in self.tokens.values()

    def _shown(self, user: Mapping[str, Any]) -> dict[str, Any]:
        """Addresses only with their own scope."""
        profile = dict(user["profile"])
        if "users:read.email" not in self.scopes:
            profile.pop("email", None)
        elif "email" in profile:
            self.used_scopes.add("users:read.email")
        return {**user, "profile": profile}

    def _do_usergroups_list(self, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        with_users = str(arguments.get("include_users")).casefold() in ("1", "true")
        here = [one for one in self.groups.values() if one["team_id"] == self.tokens[token] and not one["date_delete"]]
        return _yes(usergroups=[one if with_users else {**one, "users": None} for one in here])

    def _do_views_open(self, arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        trigger = str(arguments["trigger_id"])
        if self.now() - self.triggers.get(trigger, 0.0) > 3:
            return _no("expired_trigger_id")
        if trigger in self.used_triggers:
            return _no("exchanged_trigger_id")
        self.used_triggers.add(trigger)
        view = {**arguments["view"], "id": f"V{next(self._numbers)}", "hash": "1.a"}
        if problem := _view_problem(arguments["view"]):
            return problem
        self.views[view["id"]] = view
        return _yes(view=view)

    def _do_views_publish(self, arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        if problem := _view_problem(arguments["view"]):
            return problem
        self.homes[str(arguments["user_id"])] = arguments["view"]
        return _yes(view={**arguments["view"], "id": f"V{next(self._numbers)}"})

    def _do_files_getuploadurlexternal(self, arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        number = next(self._numbers)
        self.files.append({"id": f"F{number}", "length": int(arguments["length"]), "name": arguments["filename"]})
        url = self.base_url.removesuffix("api/")
        return _yes(upload_url=f"{url}upload/F{number}", file_id=f"F{number}")

    def _do_files_completeuploadexternal(self, arguments: dict[str, Any], _token: str) -> dict[str, Any]:
        if not str(arguments.get("channel_id") or "").startswith(("C", "D", "G")):
            return _no("channel_not_found")
        for one in arguments["files"]:
            known = next(file for file in self.files if file["id"] == one["id"])
            known |= {"channel": arguments.get("channel_id"), "thread_ts": arguments.get("thread_ts")}
            known["title"] = one.get("title")
            ts, channel, thread = self.next_ts(), str(arguments["channel_id"]), arguments.get("thread_ts")
            shared = {
                "ts": ts,
                "text": "",
                "thread_ts": thread,
                "files": [{"id": one["id"], "title": one.get("title")}],
            }
            self.messages[channel][ts] = shared
        return _yes(files=arguments["files"])

    async def _upload(self, request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        content = await request.read()
        known = next(file for file in self.files if file["id"] == request.match_info["id"])
        known["content"] = content
        return web.Response(text=f"OK - {len(content)}")

    def _page(self, rows: list[Any], name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        start, limit = int(arguments.get("cursor") or 0), int(arguments.get("limit") or 100)
        more = str(start + limit) if start + limit < len(rows) else ""
        return _yes(**{name: rows[start : start + limit]}, response_metadata={"next_cursor": more})


def _transport(socket: web.WebSocketResponse) -> asyncio.Transport:
    assert socket._req is not None
    transport = socket._req.transport
    assert isinstance(transport, asyncio.Transport)
    return transport


def buttons(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every button of a message."""
    return [one for block in message.get("blocks") or () if block["type"] == "actions" for one in block["elements"]]


def words(value: Any) -> str:
    """Every text in blocks and attachments, in order; for looking at what a person would read."""
    if isinstance(value, Mapping):
        own = [value["text"]] if isinstance(value.get("text"), str) else []
        own += [value["title"]] if isinstance(value.get("title"), str) else []
        return " ".join([*own, *(words(one) for key, one in value.items() if not isinstance(one, str))])
    return " ".join(words(one) for one in value) if isinstance(value, list | tuple) else ""


def _kept(arguments: Mapping[str, Any]) -> dict[str, Any]:
    names = ("text", "blocks", "attachments", "metadata", "thread_ts", "channel")
    return {name: arguments[name] for name in names if name in arguments}


def _content_problem(arguments: Mapping[str, Any], limit: int) -> dict[str, Any] | None:
    blocks = list(arguments.get("blocks") or ())
    for one in arguments.get("attachments") or ():
        blocks += one.get("blocks") or ()
    if len(str(arguments.get("text") or "")) > limit:
        return _no("msg_too_long")
    if not arguments.get("text") and not blocks:
        return _no("no_text")
    if len(blocks) > 50:
        return _no("invalid_blocks")
    if len(words(blocks)) > MAX_CHARACTERS:
        return _no("msg_blocks_too_long")
    return _blocks_problem(blocks)


def _blocks_problem(blocks: list[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        parsed = Block.parse_all(blocks)
        for one in parsed:
            one.to_dict()
    except SlackObjectFormationError as error:
        return _no("invalid_blocks") | {"response_metadata": {"messages": [str(error)]}}
    if len(parsed) != len(blocks):
        return _no("invalid_blocks")
    for block in blocks:
        ids = [one.get("action_id") for one in block.get("elements") or () if one.get("action_id")]
        if len(ids) != len(set(ids)):
            return _no("invalid_blocks")
        for one in block.get("elements") or ():
            if one.get("type") == "button" and one["text"]["type"] != "plain_text":
                return _no("invalid_blocks")
        if block["type"] == "rich_text" and '"text": ""' in json.dumps(block):
            return _no("invalid_blocks")
        for task in block.get("tasks") or ():
            if task["status"] not in ("pending", "in_progress", "complete", "error"):
                return _no("invalid_blocks")
    return None


def _view_problem(view: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        View(**dict(view)).to_dict()
    except SlackObjectFormationError as error:
        return _no("invalid_arguments") | {"response_metadata": {"messages": [str(error)]}}
    return _no("view_too_large") if len(json.dumps(view)) > 250_000 else _blocks_problem(list(view["blocks"]))


def _yes(**answer: Any) -> dict[str, Any]:
    return {"ok": True, **answer}


def _no(code: str) -> dict[str, Any]:
    return {"ok": False, "error": code}
