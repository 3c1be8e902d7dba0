"""A Feishu on this machine: open platform, encrypted and signed events, long connection; with state, limits and faults.

Source: open.feishu.cn, the pages named at each part; error codes as "通用错误码" and the pages of the calls give them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import itertools
import json
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from bot.chat.feishu_frames import CONTROL, DATA, Frame, decode, encode
from bot.chat.feishu_scopes import CALLBACKS, EVENTS, OPTIONAL, OPTIONAL_EVENTS, SCOPES

APP_ID = "cli_fake1"
APP_SECRET = "feishu-secret-1"
ENCRYPT_KEY = "feishu-encrypt-key-1"
TOKEN = "feishu-verification-1"
TENANT = "tenant1"
BOT = "ou_bot"
DAY = 86_400.0

_SEND = ("im:message", "im:message:send_as_bot")
_BASE = ("contact:contact.base:readonly", "contact:contact:readonly_as_app", "contact:contact:access_as_app")
NEEDS: Mapping[str, tuple[str, ...]] = {
    "POST /open-apis/im/v1/messages": _SEND,
    "POST /open-apis/im/v1/messages/{id}/reply": _SEND,
    "PATCH /open-apis/im/v1/messages/{id}": (*_SEND, "im:message:update"),
    "PUT /open-apis/im/v1/messages/{id}": (*_SEND, "im:message:update"),
    "POST /open-apis/im/v1/images": ("im:resource", "im:resource:upload"),
    "POST /open-apis/im/v1/files": ("im:resource", "im:resource:upload"),
    "GET /open-apis/im/v1/chats/{id}/members/is_in_chat": ("im:chat", "im:chat:readonly", "im:chat.members:read"),
    "POST /open-apis/contact/v3/users/batch_get_id": ("contact:user.id:readonly",),
    "GET /open-apis/contact/v3/users/batch": ("contact:contact.base:readonly",),
    "GET /open-apis/contact/v3/users/{id}": _BASE,
    "GET /open-apis/contact/v3/users/find_by_department": (*_BASE, "contact:department.organize:readonly"),
    "GET /open-apis/contact/v3/departments/{id}/children": (*_BASE, "contact:department.organize:readonly"),
    "GET /open-apis/contact/v3/group/{id}/member/simplelist": ("contact:group:readonly",),
    "GET /open-apis/application/v6/applications/{id}": ("application:application:self_manage",),
    "GET /open-apis/application/v6/applications/{id}/app_versions/{version}": ("application:application:self_manage",),
    "GET /open-apis/application/v7/app_slash_commands": ("application:app_slash_command:read",),
    "POST /open-apis/application/v7/app_slash_commands": ("application:app_slash_command:write",),
    "PATCH /open-apis/application/v7/app_slash_commands/{id}": ("application:app_slash_command:write",),
}
"""Scopes of which a call needs one, as its page says."""
FIELDS: Mapping[str, tuple[str, ...]] = {
    "status": ("contact:user.employee:readonly", "contact:contact:readonly_as_app", "contact:contact:access_as_app"),
    "enterprise_email": ("contact:user.employee:readonly",),
    "email": ("contact:user.email:readonly",),
    "user_id": ("contact:user.employee_id:readonly",),
    "mobile": ("contact:user.phone:readonly",),
    "name": ("contact:user.base:readonly",),
}
"""Fields of a user that are left out unless one of these scopes is granted."""

COMMON = ("tag", "element_id", "margin")
CARD_KEYS: Mapping[str, tuple[str, ...]] = {
    "card": ("schema", "config", "header", "body", "card_link"),
    "config": ("update_multi", "streaming_mode", "summary", "locales", "enable_forward", "width_mode", "style"),
    "header": ("title", "subtitle", "template", "text_tag_list", "icon", "padding"),
    "body": ("direction", "elements", "padding", "vertical_spacing", "horizontal_spacing"),
    "markdown": (*COMMON, "content", "text_align", "text_size", "icon"),
    "div": (*COMMON, "text", "fields", "icon", "width"),
    "column_set": (*COMMON, "columns", "flex_mode", "horizontal_spacing"),
    "column": (*COMMON, "width", "weight", "elements", "vertical_align"),
    "button": (
        *COMMON,
        "type",
        "size",
        "text",
        "behaviors",
        "confirm",
        "disabled",
        "name",
        "form_action_type",
        "width",
    ),
    "collapsible_panel": (*COMMON, "expanded", "header", "elements", "border"),
    "form": (*COMMON, "name", "elements", "direction"),
    "input": (*COMMON, "name", "label", "required", "max_length", "placeholder", "input_type", "default_value"),
    "hr": COMMON,
    "img": (*COMMON, "img_key", "alt", "title", "scale_type", "size", "preview", "corner_radius", "transparent"),
}
TEMPLATES = "blue wathet turquoise green yellow orange red carmine violet purple indigo grey default"
BUTTONS = "default primary danger text primary_text danger_text primary_filled danger_filled laser"


@dataclass
class Fault:
    """What goes wrong with a call. code: answered in place of the work; lost: done, but the connection is cut."""

    code: int = 0
    status: int = 400
    delay: float = 0.0
    lost: bool = False
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Posted:
    """A message as it stands. edits: how often it was changed."""

    id: str
    place: str
    kind: str
    content: dict[str, Any]
    reply_to: str = ""
    in_thread: bool = False
    at: float = 0.0
    edits: int = 0

    @property
    def words(self) -> str:
        """Everything a reader sees."""
        return "\n".join(_words(self.content))

    def buttons(self) -> list[str]:
        """Ids of what can be pressed, in order."""
        return [name for name, _ in _pressable(self.content)]


class Refuse(Exception):
    """An answer with an error code."""

    def __init__(self, code: int, status: int = 400, **headers: str) -> None:
        super().__init__(code)
        self.code, self.status, self.headers = code, status, headers


class FakeFeishu:
    """One server for everything. limits: whether rates are kept to; `ahead`: seconds its clock is ahead of ours."""

    def __init__(self, limits: bool = False) -> None:
        self.limits = limits
        self.ahead = 0.0
        self.granted = {*SCOPES, *OPTIONAL}
        self.subscribed = [*EVENTS, *OPTIONAL_EVENTS]
        self.callbacks = [*CALLBACKS]
        self.encryption: dict[str, str] = {}
        self.users: dict[str, dict[str, Any]] = {}
        self.user_groups: dict[str, list[str]] = {}
        self.departments: dict[str, str] = {}
        self.slash_commands: list[dict[str, Any]] = []
        self.messages: dict[str, Posted] = {}
        self.images: dict[str, bytes] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        self.history: dict[str, list[tuple[float, dict[str, Any]]]] = defaultdict(list)
        self.groups: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.tokens: dict[str, float] = {}
        self.url = ""
        self.app_url = ""
        self.sockets: list[web.WebSocketResponse] = []
        self.acks: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.pings = 0
        self.ping_interval = 120
        self._uuids: dict[str, tuple[float, str]] = {}
        self._said: dict[str, str] = {}
        self._recent: dict[str, deque[float]] = defaultdict(deque)
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> FakeFeishu:
        app = web.Application(client_max_size=5_000_000)
        app.router.add_post("/open-apis/auth/v3/tenant_access_token/internal", self._token)
        app.router.add_post("/callback/ws/endpoint", self._endpoint)
        app.router.add_get("/ws", self._socket)
        app.router.add_post("/open-apis/im/v1/images", self._image)
        app.router.add_post("/open-apis/im/v1/files", self._file)
        self._route(app, "GET", "/open-apis/bot/v3/info", self._info)
        self._route(app, "POST", "/open-apis/im/v1/messages", self._create)
        self._route(app, "POST", "/open-apis/im/v1/messages/{id}/reply", self._reply)
        self._route(app, "PATCH", "/open-apis/im/v1/messages/{id}", self._patch)
        self._route(app, "PUT", "/open-apis/im/v1/messages/{id}", self._put)
        self._route(app, "POST", "/open-apis/contact/v3/users/batch_get_id", self._ids)
        self._route(app, "GET", "/open-apis/contact/v3/users/batch", self._users)
        self._route(app, "GET", "/open-apis/contact/v3/users/find_by_department", self._of_department)
        self._route(app, "GET", "/open-apis/contact/v3/users/{id}", self._user)
        self._route(app, "GET", "/open-apis/contact/v3/departments/{id}/children", self._children)
        self._route(app, "GET", "/open-apis/contact/v3/group/{id}/member/simplelist", self._group_members)
        self._route(app, "GET", "/open-apis/application/v6/scopes", self._scopes)
        self._route(app, "GET", "/open-apis/application/v6/applications/{id}", self._application)
        self._route(app, "GET", "/open-apis/application/v6/applications/{id}/app_versions/{version}", self._app_version)
        self._route(app, "GET", "/open-apis/application/v7/app_slash_commands", self._slashes)
        self._route(app, "POST", "/open-apis/application/v7/app_slash_commands", self._add_slash)
        self._route(app, "PATCH", "/open-apis/application/v7/app_slash_commands/{id}", self._change_slash)
        self._route(app, "GET", "/open-apis/im/v1/chats/{id}/members/is_in_chat", self._is_in)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        for socket in list(self.sockets):
            await socket.close()
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def now(self) -> float:
        """Unix seconds here."""
        return time.time() + self.ahead

    def user(self, open_id: str, **fields: Any) -> dict[str, Any]:
        """Add a user, with ids derived from the open_id unless given."""
        name = open_id.removeprefix("ou_")
        status = {"is_activated": True, "is_resigned": False, "is_frozen": False}
        base = {"open_id": open_id, "union_id": f"on_{name}", "user_id": f"u_{name}", "name": name, "status": status}
        self.users[open_id] = base | fields
        return self.users[open_id]

    def fail(self, path: str, **fault: Any) -> None:
        """Break the next calls whose `METHOD /path` starts so."""
        self.faults[path].append(Fault(**fault))

    def in_place(self, place: str) -> list[Posted]:
        """Messages of a chat or a person, oldest first."""
        return [one for one in self.messages.values() if one.place == place]

    # -- tokens ------------------------------------------------------------------------------------------------------

    async def _token(self, request: web.Request) -> web.Response:
        """Source: "自建应用获取 tenant_access_token": asked again with 30 minutes left or more, the same one."""
        self.calls["token"] += 1
        body = await request.json()
        if (body.get("app_id"), body.get("app_secret")) != (APP_ID, APP_SECRET):
            return web.json_response({"code": 10014, "msg": "app secret invalid"}, status=400)
        token = next((one for one, end in self.tokens.items() if end - self.now() >= 1800), "")
        if not token:
            token = f"t-{next(self._numbers)}"
            self.tokens[token] = self.now() + 7200
        left = int(self.tokens[token] - self.now())
        return web.json_response({"code": 0, "msg": "ok", "tenant_access_token": token, "expire": left})

    def _route(self, app: web.Application, method: str, path: str, work: Any) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._handled(request, f"{method} {path}", work)

        app.router.add_route(method, path, handle)

    async def _handled(self, request: web.Request, name: str, work: Any) -> web.StreamResponse:
        self.calls[name] += 1
        fault = next((one for one in self.faults[name] if one.times > 0), None)
        if fault is not None:
            fault.times -= 1
            await asyncio.sleep(fault.delay)
            if fault.code:
                return web.json_response(
                    {"code": fault.code, "msg": "fault"}, status=fault.status, headers=fault.headers
                )
        try:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if self.tokens.get(token, 0.0) <= self.now():
                raise Refuse(99991663)
            if name in NEEDS and not self.granted & set(NEEDS[name]):
                raise Refuse(99991672)
            is_json = request.can_read_body and request.content_type == "application/json"
            body = await request.json() if is_json else {}
            answer = await work(request, body)
        except Refuse as refused:
            return web.json_response(
                {"code": refused.code, "msg": "refused"}, status=refused.status, headers=refused.headers
            )
        if fault is not None and fault.lost:
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"code": 0, "msg": "success", **answer})

    async def _image(self, request: web.Request) -> web.StreamResponse:
        """Source: "上传图片": multipart, `image_type` message, at most 10 MB."""
        parts = await request.post()
        content = parts["image"].file.read() if isinstance(parts["image"], web.FileField) else b""

        async def work(_request: web.Request, _body: Any) -> dict[str, Any]:
            if parts["image_type"] != "message" or not 0 < len(content) <= 10_000_000:
                raise Refuse(234001)
            key = f"img_{next(self._numbers)}"
            self.images[key] = content
            return {"data": {"image_key": key}}

        return await self._handled(request, "POST /open-apis/im/v1/images", work)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """Source: "上传文件": multipart, `file_type`, `file_name`, `file` of at most 30 MB and never empty."""
        parts = await request.post()
        content = parts["file"].file.read() if isinstance(parts["file"], web.FileField) else b""

        async def work(_request: web.Request, _body: Any) -> dict[str, Any]:
            if parts["file_type"] != "stream" or not 0 < len(content) <= 30_000_000:
                raise Refuse(234006)
            key = f"file_{next(self._numbers)}"
            self.files[key] = (str(parts["file_name"]), content)
            return {"data": {"file_key": key}}

        return await self._handled(request, "POST /open-apis/im/v1/files", work)

    async def _info(self, _request: web.Request, _body: Any) -> dict[str, Any]:
        return {"bot": {"open_id": BOT, "app_name": "Slipway", "activate_status": 2}}

    # -- messages ----------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request, body: Any) -> dict[str, Any]:
        place = self._receiver(request.query.get("receive_id_type", ""), str(body.get("receive_id") or ""))
        return self._posted(place, body, "")

    async def _reply(self, request: web.Request, body: Any) -> dict[str, Any]:
        first = request.match_info["id"]
        place = self.messages[first].place if first in self.messages else self._said.get(first, "")
        if not place:
            raise Refuse(230110)
        return self._posted(place, body, first)

    def _receiver(self, kind: str, who: str) -> str:
        if kind == "chat_id":
            if who not in self.groups:
                raise Refuse(230002)
            return who
        found = next((one for one in self.users.values() if one.get(kind) == who), None)
        if found is None:
            raise Refuse(230013)
        return f"@{found['open_id']}"

    def _posted(self, place: str, body: Any, reply_to: str) -> dict[str, Any]:
        uuid = str(body.get("uuid") or "")
        if len(uuid) > 50:
            raise Refuse(230001)
        known = self._uuids.get(uuid)
        if uuid and known is not None and self.now() - known[0] < 3600:
            return {"data": {"message_id": known[1]}}
        content = self._content(body)
        self._slow_down(place)
        number = f"om_{next(self._numbers)}"
        self.messages[number] = Posted(
            number, place, body["msg_type"], content, reply_to, bool(body.get("reply_in_thread")), self.now()
        )
        self.history[number].append((time.monotonic(), content))
        if uuid:
            self._uuids[uuid] = (self.now(), number)
        return {"data": {"message_id": number, "chat_id": place}}

    async def _patch(self, request: web.Request, body: Any) -> dict[str, Any]:
        seen = self._own(request)
        if seen.kind != "interactive":
            raise Refuse(230001)
        if self.now() - seen.at > 14 * DAY:
            raise Refuse(230031)
        content = self._content({"msg_type": "interactive", "content": body["content"]})
        self._slow_down(seen.id)
        seen.content, seen.edits = content, seen.edits + 1
        self.history[seen.id].append((time.monotonic(), content))
        return {}

    async def _put(self, request: web.Request, body: Any) -> dict[str, Any]:
        seen = self._own(request)
        if seen.kind not in ("text", "post") or body["msg_type"] != seen.kind:
            raise Refuse(230054)
        seen.content, seen.edits = self._content(body), seen.edits + 1
        return {}

    async def _is_in(self, request: web.Request, _body: Any) -> dict[str, Any]:
        return {"data": {"is_in_chat": request.match_info["id"] in self.groups}}

    def _own(self, request: web.Request) -> Posted:
        seen = self.messages.get(request.match_info["id"])
        if seen is None:
            raise Refuse(230110)
        return seen

    def _content(self, body: Any) -> dict[str, Any]:
        raw = body.get("content")
        if not isinstance(raw, str):
            raise Refuse(230001)
        content = json.loads(raw)
        if body["msg_type"] == "interactive":
            if len(json.dumps(body, ensure_ascii=False).encode()) > 30 * 1024:
                raise Refuse(230025)
            check_card(content)
            for one in content["body"]["elements"]:
                if one["tag"] == "img" and one["img_key"] not in self.images:
                    raise Refuse(230099)
        return dict(content)

    def _slow_down(self, what: str) -> None:
        """Source: "发送消息". Five in a second to one place; five edits in a second of one message."""
        if not self.limits:
            return
        recent, now = self._recent[what], time.monotonic()
        while recent and now - recent[0] > 1.0:
            recent.popleft()
        if len(recent) >= 5:
            raise Refuse(230020)
        recent.append(now)

    # -- people ------------------------------------------------------------------------------------------------------

    async def _ids(self, request: web.Request, body: Any) -> dict[str, Any]:
        kind = request.query.get("user_id_type", "open_id")
        if len(body.get("emails") or ()) > 50 or len(body.get("mobiles") or ()) > 50:
            raise Refuse(40001)
        found = []
        for what in ("email", "mobile"):
            for address in body.get(f"{what}s") or ():
                known = next((one for one in self.users.values() if one.get(what) == address), None)
                left = known is not None and known["status"]["is_resigned"] and not body.get("include_resigned")
                found.append({what: address} | ({"user_id": known[kind]} if known is not None and not left else {}))
        return {"data": {"user_list": found}}

    async def _users(self, request: web.Request, _body: Any) -> dict[str, Any]:
        wanted = request.query.getall("user_ids", [])
        if len(wanted) > 50:
            raise Refuse(40001)
        return {"data": {"items": [self._shown(self.users[one]) for one in wanted if one in self.users]}}

    async def _user(self, request: web.Request, _body: Any) -> dict[str, Any]:
        found = self.users.get(request.match_info["id"])
        if found is None:
            raise Refuse(41050)
        return {"data": {"user": self._shown(found)}}

    def _shown(self, user: Mapping[str, Any]) -> dict[str, Any]:
        """Fields without their scope are simply not there."""
        return {key: value for key, value in user.items() if self.granted & set(FIELDS.get(key, self.granted))}

    async def _of_department(self, request: web.Request, _body: Any) -> dict[str, Any]:
        department = self._department(request.query.get("department_id", ""), request)
        return self._page(
            request, [self._shown(one) for one in self.users.values() if department in one.get("departments", ())]
        )

    async def _children(self, request: web.Request, _body: Any) -> dict[str, Any]:
        """With `fetch_child`, all below; else the next level."""
        found, last = [], [self._department(request.match_info["id"], request)]
        while last:
            last = [one for one, above in self.departments.items() if above in last]
            found += [{"open_department_id": one, "parent_department_id": self.departments[one]} for one in last]
            last = last if request.query.get("fetch_child") == "true" else []
        return self._page(request, found)

    def _department(self, given: str, request: web.Request) -> str:
        if request.query.get("department_id_type") != "open_department_id" or given not in self.departments:
            raise Refuse(40008)
        return given

    async def _group_members(self, request: web.Request, _body: Any) -> dict[str, Any]:
        """Users and departments are asked for apart."""
        members, kind = self.user_groups.get(request.match_info["id"]), request.query.get("member_type", "user")
        if members is None:
            raise Refuse(42002)
        start = {"user": "ou_", "department": "od-"}[kind]
        found = [{"member_id": one, "member_type": kind} for one in members if one.startswith(start)]
        return self._page(request, found, "memberlist")

    def _page(self, request: web.Request, items: list[Any], key: str = "items") -> dict[str, Any]:
        size, start = int(request.query.get("page_size", "50")), int(request.query.get("page_token") or 0)
        if not 1 <= size <= 50:
            raise Refuse(40011)
        more = start + size < len(items)
        token = {"page_token": str(start + size)} if more else {}
        return {"data": {key: items[start : start + size], "has_more": more, **token}}

    # -- the app itself ----------------------------------------------------------------------------------------------

    async def _scopes(self, _request: web.Request, _body: Any) -> dict[str, Any]:
        granted = [{"scope_name": one, "grant_status": 1, "scope_type": "tenant"} for one in sorted(self.granted)]
        return {"data": {"scopes": [*granted, {"scope_name": "im:resource", "grant_status": 2}]}}

    async def _application(self, _request: web.Request, _body: Any) -> dict[str, Any]:
        callback = {"callback_type": "webhook", "subscribed_callbacks": self.callbacks}
        app = {"app_id": APP_ID, "online_version_id": "oav_1", "callback_info": callback, "encryption": self.encryption}
        return {"data": {"app": app}}

    async def _app_version(self, request: web.Request, _body: Any) -> dict[str, Any]:
        if request.query.get("lang") not in ("zh_cn", "en_us", "ja_jp") or request.match_info["version"] != "oav_1":
            raise Refuse(210001)
        events = [{"event_type": one, "event_name": one} for one in self.subscribed]
        return {"data": {"app_version": {"version_id": "oav_1", "status": 1, "event_infos": events}}}

    async def _slashes(self, _request: web.Request, _body: Any) -> dict[str, Any]:
        return {"data": {"items": self.slash_commands}}

    async def _add_slash(self, _request: web.Request, body: Any) -> dict[str, Any]:
        """Source: "飞书智能体支持 Slash Command"; 40000000: the name is taken."""
        name = str(body.get("command") or "")
        if not name or name.startswith("/") or not body["description"].get("default_value"):
            raise Refuse(99992402)
        if any(one["command"] == name for one in self.slash_commands) or len(self.slash_commands) >= 100:
            raise Refuse(40000000)
        made = {"command_id": f"sc{next(self._numbers)}", "icon": {"icon_key": "skill_outlined"}, **body}
        self.slash_commands.append(made)
        return {"data": made}

    async def _change_slash(self, request: web.Request, body: Any) -> dict[str, Any]:
        found = next((one for one in self.slash_commands if one["command_id"] == request.match_info["id"]), None)
        if found is None or body.get("command", found["command"]) != found["command"]:
            raise Refuse(99992402)
        found |= body
        return {"data": found}

    # -- what people do ----------------------------------------------------------------------------------------------

    def message(self, who: str, text: str, chat: str = "", **more: Any) -> dict[str, Any]:
        """The event of a text: in a group with our name in front, or in the personal chat."""
        number = f"om_u{next(self._numbers)}"
        personal = not chat
        place = chat or f"oc_p2p_{who}"
        self._said[number] = f"@{who}" if personal else place
        mention = {"key": "@_user_1", "id": {"open_id": BOT}, "name": "Slipway", "mentioned_type": "bot"}
        content = {"text": text if personal else f"@_user_1 {text}"}
        message = {
            "message_id": number,
            "create_time": str(int(self.now() * 1000)),
            "chat_id": place,
            "chat_type": "p2p" if personal else "group",
            "message_type": "text",
            "content": json.dumps(content),
            "mentions": [] if personal else [mention],
        } | more
        sender = {"sender_id": {"open_id": who}, "sender_type": "user", "tenant_key": TENANT}
        return self.event("im.message.receive_v1", {"sender": sender, "message": message})

    def press(self, who: str, posted: Posted, button: str, **inputs: str) -> dict[str, Any]:
        """The event of a pressed button, as the client makes it from the card."""
        element = dict(_pressable(posted.content))[button]
        action: dict[str, Any] = {"tag": "button", "name": element.get("name", ""), "timezone": "Asia/Shanghai"}
        if element.get("form_action_type") == "submit":
            action["form_value"] = {f"in_{button}_{name}": value for name, value in inputs.items()}
        else:
            action["value"] = next(one["value"] for one in element["behaviors"] if one["type"] == "callback")
        context = {"open_message_id": posted.id, "open_chat_id": posted.place}
        operator = {"tenant_key": TENANT, "open_id": who}
        body = {"operator": operator, "token": "c-1", "host": "im_message", "action": action, "context": context}
        return self.event("card.action.trigger", body)

    def event(self, kind: str, body: Any, token: str = TOKEN) -> dict[str, Any]:
        """An event in its envelope."""
        header = {
            "event_id": f"e{next(self._numbers)}",
            "event_type": kind,
            "create_time": str(int(self.now() * 1000)),
            "token": token,
            "app_id": APP_ID,
            "tenant_key": TENANT,
        }
        return {"schema": "2.0", "header": header, "event": body}

    async def deliver(self, event: Mapping[str, Any], **how: Any) -> tuple[int, Any]:
        """Send an event to the bot: by the socket if one is open, else encrypted and signed to its address."""
        if self.sockets:
            return await self.send_frame(event)
        body, headers = sealed(event, at=how.get("at", self.now()), **{k: v for k, v in how.items() if k != "at"})
        return await self.raw(body, headers)

    async def raw(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, Any]:
        """Send these bytes to the bot's address."""
        assert self._session is not None
        async with self._session.post(
            f"{self.app_url}/feishu/events", data=io.BytesIO(body), headers=headers
        ) as answer:
            said = await answer.text()
            return answer.status, json.loads(said) if said else {}

    # -- the long connection -----------------------------------------------------------------------------------------

    async def _endpoint(self, request: web.Request) -> web.Response:
        self.calls["endpoint"] += 1
        body = await request.json()
        fault = next((one for one in self.faults["endpoint"] if one.times > 0), None)
        if fault is not None:
            fault.times -= 1
            return web.json_response({"code": fault.code, "msg": "fault"})
        if (body.get("AppID"), body.get("AppSecret")) != (APP_ID, APP_SECRET):
            return web.json_response({"code": 514, "msg": "auth failed"})
        url = f"{self.url.replace('http', 'ws', 1)}/ws?device_id=d1&service_id=33"
        return web.json_response({"code": 0, "msg": "", "data": {"URL": url, "ClientConfig": self._config()}})

    def _config(self) -> dict[str, int]:
        every = self.ping_interval
        return {"ReconnectCount": -1, "ReconnectInterval": 1, "ReconnectNonce": 0, "PingInterval": every}

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        try:
            async for message in socket:
                await self._frame_came(socket, message.data)
        finally:
            self.sockets.remove(socket)
        return socket

    async def _frame_came(self, socket: web.WebSocketResponse, data: bytes) -> None:
        frame = decode(data)
        if frame.method == CONTROL:
            self.pings += 1
            config = json.dumps(self._config()).encode()
            await socket.send_bytes(encode(Frame(CONTROL, 33, {"type": "pong"}, config, 1, 2)))
            return
        self.acks[frame.headers["message_id"]].append({"headers": frame.headers, "body": json.loads(frame.payload)})

    async def send_frame(self, event: Mapping[str, Any], parts: int = 1, number: str = "") -> tuple[int, Any]:
        """Send an event as `parts` frames and wait for its acknowledgement: code, and the callback's answer."""
        number = number or f"f{next(self._numbers)}"
        before = len(self.acks[number])
        for frame in self.frames(event, parts, number):
            await self.sockets[-1].send_bytes(frame)
        async with asyncio.timeout(5):
            while len(self.acks[number]) == before:
                await asyncio.sleep(0.005)
        body = self.acks[number][-1]["body"]
        return body["code"], json.loads(base64.b64decode(body["data"])) if body.get("data") else {}

    def frames(self, event: Mapping[str, Any], parts: int, number: str) -> list[bytes]:
        """The frames of an event, without sending them."""
        payload = json.dumps(event).encode()
        size = -(-len(payload) // parts)
        made = []
        for part in range(parts):
            headers = {"type": "event", "message_id": number, "sum": str(parts), "seq": str(part), "trace_id": "t1"}
            made.append(encode(Frame(DATA, 33, headers, payload[part * size : (part + 1) * size], 1, 2)))
        return made


def encrypted(text: str, key: str = ENCRYPT_KEY) -> str:
    """As the platform does it: AES-256-CBC under the hashed key, the IV in front."""
    padder = padding.PKCS7(128).padder()
    padded = padder.update(text.encode()) + padder.finalize()
    iv = os.urandom(16)
    cipher = Cipher(algorithms.AES(hashlib.sha256(key.encode()).digest()), modes.CBC(iv)).encryptor()
    return base64.b64encode(iv + cipher.update(padded) + cipher.finalize()).decode()


def sealed(
    event: Mapping[str, Any], *, at: float, key: str = ENCRYPT_KEY, sign: bool = True, clear: bool = False
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an event. sign and clear: what a forger would leave out."""
    text = json.dumps(event, ensure_ascii=False)
    body = text.encode() if clear else json.dumps({"encrypt": encrypted(text, key)}).encode()
    timestamp, nonce = str(int(at)), "n1"
    digest = hashlib.sha256(f"{timestamp}{nonce}{key}".encode() + body).hexdigest()
    headers = {"Content-Type": "application/json"}
    if sign:
        headers |= {"X-Lark-Request-Timestamp": timestamp, "X-Lark-Request-Nonce": nonce, "X-Lark-Signature": digest}
    return body, headers


# -- cards -----------------------------------------------------------------------------------------------------------


def check_card(card: Mapping[str, Any]) -> None:
    """Refuse what the platform refuses: another schema, unknown tags, unknown properties, a form in the wrong place."""
    if card.get("schema") != "2.0" or not (card.get("config") or {}).get("update_multi"):
        raise Refuse(230099)
    _known("card", card)
    _known("config", card["config"])
    _known("body", card["body"])
    header = card.get("header")
    if header is not None:
        _known("header", header)
        if header.get("template", "default") not in TEMPLATES.split():
            raise Refuse(230099)
    names: list[str] = []
    count = sum(_check_element(element, 1, names) for element in card["body"]["elements"])
    if count > 200 or len(names) != len(set(names)) or not card["body"]["elements"]:
        raise Refuse(230099)


def _known(what: str, found: Mapping[str, Any]) -> None:
    if what not in CARD_KEYS or not set(found) <= set(CARD_KEYS[what]):
        raise Refuse(230099)


def _check_element(element: Mapping[str, Any], depth: int, names: list[str], in_form: bool = False) -> int:
    tag = str(element.get("tag"))
    _known(tag, element)
    wrong = {
        "form": depth > 1 or not any(one.get("form_action_type") == "submit" for one in element.get("elements", ())),
        "column_set": any(one.get("tag") != "column" for one in element.get("columns", ())),
        "button": element.get("type", "default") not in BUTTONS.split() or (in_form and "behaviors" in element),
    }
    if wrong.get(tag) or depth > 5:
        raise Refuse(230099)
    names += [str(element["name"])] if "name" in element else []
    inner = [*element.get("elements", ()), *element.get("columns", ())]
    return 1 + sum(_check_element(one, depth + 1, names, in_form or tag == "form") for one in inner)


def _words(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = [str(value[key]) for key in ("content", "text") if isinstance(value.get(key), str)]
        return own + [word for key, one in value.items() if key != "config" for word in _words(one)]
    return [word for one in value for word in _words(one)] if isinstance(value, list) else []


def _pressable(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        if value.get("tag") == "button":
            if value.get("form_action_type") == "submit":
                return [(str(value["name"]).removeprefix("send_"), value)]
            calls = [one for one in value.get("behaviors", ()) if one["type"] == "callback"]
            return [(str(calls[0]["value"]["do"]), value)] if calls else []
        return [found for one in value.values() for found in _pressable(one)]
    return [found for one in value for found in _pressable(one)] if isinstance(value, list) else []
