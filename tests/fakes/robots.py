"""DingTalk, WeCom and somebody's webhook on this machine, with HTTP 200 where they use it, limits and codes.

Source: open.dingtalk.com "自定义机器人接入"; developer.work.weixin.qq.com 99110, 90236; standardwebhooks.com.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from aiohttp import web

DING_TOKEN, DING_SECRET = "ding-token-1", "SECding-1"
DING_KEY, DING_APP_SECRET = "dingapp", "ding-app-secret"
WECOM_KEY, CORP, CORP_SECRET, AGENT = "wecom-key-1", "corp1", "corp-secret-1", 7
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


class FakeRobots:
    """One server for all three. What arrived is in `groups`, `persons` and `events`."""

    def __init__(self) -> None:
        self.groups: list[dict[str, Any]] = []
        self.persons: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any] | int] = []
        self.users = {"u1"}
        self.busy: set[str] = set()
        self._sent: dict[str, list[float]] = {}
        self.tokens = 0
        self.token = ""
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> FakeRobots:
        app = web.Application()
        app.router.add_post("/robot/send", self._ding_group)
        app.router.add_post("/v1.0/oauth2/accessToken", self._ding_token)
        app.router.add_post("/v1.0/robot/oToMessages/batchSend", self._ding_person)
        app.router.add_post("/cgi-bin/webhook/send", self._wecom_group)
        app.router.add_get("/cgi-bin/gettoken", self._wecom_token)
        app.router.add_post("/cgi-bin/message/send", self._wecom_person)
        app.router.add_post("/hook", self._hook)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def say(self, answer: dict[str, Any] | int) -> None:
        """Answer the next message with this instead of taking it."""
        self.answers.append(answer)

    def _too_fast(self, robot: str) -> bool:
        """More than 20 messages in a minute; DingTalk then blocks a robot for ten, WeCom until the minute is over."""
        recent = [at for at in self._sent.get(robot, []) if time.monotonic() - at < 60]
        self._sent[robot] = [*recent, time.monotonic()]
        return len(recent) >= 20

    # -- DingTalk ----------------------------------------------------------------------------------------------------

    async def _ding_group(self, request: web.Request) -> web.Response:
        query, body = request.query, await request.json()
        if self.answers:
            return web.json_response(self.answers.pop(0))
        if query.get("access_token") != DING_TOKEN:
            return web.json_response({"errcode": 300005, "errmsg": "token is not exist"})
        stamp = query.get("timestamp", "0")
        digest = hmac.new(DING_SECRET.encode(), f"{stamp}\n{DING_SECRET}".encode(), hashlib.sha256).digest()
        if query.get("sign") != base64.b64encode(digest).decode() or abs(time.time() * 1000 - int(stamp)) > 3_600_000:
            return web.json_response({"errcode": 310000, "errmsg": "sign not match"})
        if self._too_fast("dingtalk"):
            return web.json_response({"errcode": 130101, "errmsg": "send too fast, exceed 20 times per minute"})
        if len(json.dumps(body).encode()) > 20_000:
            return web.json_response({"errcode": 400105, "errmsg": "message too long"})
        self.groups.append(body)
        return web.json_response({"errcode": 0, "errmsg": "ok"})

    async def _ding_token(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (body.get("appKey"), body.get("appSecret")) != (DING_KEY, DING_APP_SECRET):
            return web.json_response({"code": "invalidClientIdOrSecret", "message": "no"}, status=400)
        self.tokens += 1
        return web.json_response({"accessToken": "ding-access", "expireIn": 7200})

    async def _ding_person(self, request: web.Request) -> web.Response:
        body = await request.json()
        if request.headers.get("x-acs-dingtalk-access-token") != "ding-access":
            return web.json_response({"code": "InvalidAuthentication"}, status=401)
        invalid = [one for one in body["userIds"] if one not in self.users]
        slow = [one for one in body["userIds"] if one in self.busy]
        if not invalid and not slow:
            self.persons.append(body | {"param": json.loads(body["msgParam"])})
        answer = {"processQueryKey": "q1", "invalidStaffIdList": invalid, "flowControlledStaffIdList": slow}
        return web.json_response(answer)

    # -- WeCom -------------------------------------------------------------------------------------------------------

    async def _wecom_group(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.answers:
            return web.json_response(self.answers.pop(0))
        if request.query.get("key") != WECOM_KEY:
            return web.json_response({"errcode": 93000, "errmsg": "invalid webhook url"})
        if self._too_fast("wecom"):
            return web.json_response({"errcode": 45009, "errmsg": "api freq out of limit"})
        if len(body["markdown"]["content"].encode()) > 4096:
            return web.json_response({"errcode": 40058, "errmsg": "content exceeds"})
        self.groups.append(body)
        return web.json_response({"errcode": 0, "errmsg": "ok"})

    async def _wecom_token(self, request: web.Request) -> web.Response:
        if (request.query.get("corpid"), request.query.get("corpsecret")) != (CORP, CORP_SECRET):
            return web.json_response({"errcode": 40001, "errmsg": "invalid credential"})
        self.tokens += 1
        self.token = f"wecom-access-{self.tokens}"
        return web.json_response({"errcode": 0, "access_token": self.token, "expires_in": 7200})

    async def _wecom_person(self, request: web.Request) -> web.Response:
        body = await request.json()
        if request.query.get("access_token") != self.token:
            return web.json_response({"errcode": 42001, "errmsg": "access_token expired"})
        if len(body["markdown"]["content"].encode()) > 2048:
            return web.json_response({"errcode": 40058, "errmsg": "content exceeds"})
        if body in self.persons:  # enable_duplicate_check
            return web.json_response({"errcode": 0, "msgid": "m1"})
        unknown = "" if body["touser"] in self.users else body["touser"]
        self.persons.append(body)
        return web.json_response({"errcode": 0, "msgid": "m1", "invaliduser": unknown})

    # -- a webhook ---------------------------------------------------------------------------------------------------

    async def _hook(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.answers:
            answer = self.answers.pop(0)
            assert isinstance(answer, int)
            return web.Response(status=answer)
        headers = request.headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(expected, headers["webhook-signature"]):
            return web.Response(status=401)
        self.events.append(json.loads(body) | {"content_type": request.content_type})
        return web.Response(status=204)
