"""Results to DingTalk: group robots (signed) by name, and personal messages by the app's robot.

Places: the name of a robot in DINGTALK_ROBOTS, or `@userid`. HTTP is 200 even on failure; `errcode` decides.
Source: open.dingtalk.com "自定义机器人接入", "机器人发送消息".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
from pydantic import SecretStr

from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Message
from notifiers.plain import ask, cut_bytes, markdown, title_of

OAPI = "https://oapi.dingtalk.com"
API = "https://api.dingtalk.com"
MAX_BODY = 16_000
"""UTF-8 bytes; robots refuse more than about 20,000."""
BLOCKED = 600.0
"""Seconds: more than 20 messages in a minute block the robot for so long."""
TOO_FAST = frozenset([130101, 410100, 90018])
OURS = frozenset([310000, 300005, 400101, 300001, 400102, 400106, 400013, 40035, 43002, 43004, 400105])


@dataclass(frozen=True, slots=True)
class Robot:
    """A group's robot. secret: empty if it is guarded by keyword or address only."""

    token: str = field(repr=False)
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class DingTalkApp:
    """The app whose robot writes to persons. key: also the robot's code."""

    key: str
    secret: SecretStr


class DingTalkClient:
    """Posts; never edits, because robots cannot."""

    platform = "dingtalk"

    def __init__(
        self,
        http: httpx.AsyncClient,
        robots: Mapping[str, Robot],
        app: DingTalkApp | None = None,
        *,
        oapi: str = OAPI,
        api: str = API,
        now: Callable[[], float] = time.time,
    ) -> None:
        """robots: by the name the catalog uses; oapi and api: the two hosts; now: Unix seconds."""
        self._http = http
        self._robots = dict(robots)
        self._app = app
        self._oapi = oapi.rstrip("/")
        self._api = api.rstrip("/")
        self._now = now
        self._token = ""
        self._token_until = 0.0

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        """Send to a robot's group or to a person. Raises as `ChatClient.post`."""
        if place.startswith("@"):
            await self._personal(place[1:], message)
        else:
            await self._group(place, message)
        return f"sent:{key}"[:255]

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        """Nothing: what a robot said stays said; the next result is a message of its own."""

    async def _group(self, name: str, message: Message) -> None:
        robot = self._robots.get(name)
        if robot is None:
            raise ChatRejected(
                f"There is no DingTalk robot '{name}': name it in DINGTALK_ROBOTS or correct the catalog."
            )
        content = {"title": cut_bytes(title_of(message), 200), "text": markdown(message, MAX_BODY)}
        body = {"msgtype": "markdown", "markdown": content, "at": {"isAtAll": False}}
        query = {"access_token": robot.token} | (signed(robot.secret, self._now()) if robot.secret else {})
        answer = await ask(self._http, "DingTalk", "POST", f"{self._oapi}/robot/send", body=body, query=query)
        _check(answer, name)

    async def _personal(self, user: str, message: Message) -> None:
        if self._app is None:
            raise ChatRejected("DingTalk persons need an app: set DINGTALK_APP_KEY and DINGTALK_APP_SECRET.")
        param = {"title": cut_bytes(title_of(message), 200), "text": markdown(message, MAX_BODY)}
        body = {
            "robotCode": self._app.key,
            "userIds": [user],
            "msgKey": "sampleMarkdown",
            "msgParam": json.dumps(param, ensure_ascii=False),
        }
        url = f"{self._api}/v1.0/robot/oToMessages/batchSend"
        headers = {"x-acs-dingtalk-access-token": await self._fresh_token(self._app)}
        answer = await ask(self._http, "DingTalk", "POST", url, body=body, headers=headers)
        if user in (answer.get("invalidStaffIdList") or ()):
            raise ChatRejected("DingTalk does not know that person, or the app is not visible to them.")
        if user in (answer.get("flowControlledStaffIdList") or ()):
            raise ChatUnavailable("DingTalk asks to wait with that person.", retry_after=60.0)
        if not answer.get("processQueryKey"):
            self._token = ""
            raise ChatUnavailable(
                f"DingTalk does not send to that person ({str(answer.get('code'))[:60]}).", retry_after=60.0
            )

    async def _fresh_token(self, app: DingTalkApp) -> str:
        if self._token and self._now() < self._token_until:
            return self._token
        body = {"appKey": app.key, "appSecret": app.secret.get_secret_value()}
        answer = await ask(self._http, "DingTalk", "POST", f"{self._api}/v1.0/oauth2/accessToken", body=body)
        if not answer.get("accessToken"):
            raise ChatUnavailable(
                "DingTalk refuses the app: check DINGTALK_APP_KEY and DINGTALK_APP_SECRET.", retry_after=60.0
            )
        self._token = str(answer["accessToken"])
        self._token_until = self._now() + float(answer.get("expireIn") or 0) - 300
        return self._token


def signed(secret: str, now: float) -> dict[str, str]:
    """The two values a robot with a secret wants in its address: milliseconds, and HMAC-SHA256 over them."""
    stamp = str(round(now * 1000))
    digest = hmac.new(secret.encode(), f"{stamp}\n{secret}".encode(), hashlib.sha256).digest()
    return {"timestamp": stamp, "sign": base64.b64encode(digest).decode()}


def _check(answer: Mapping[str, object], name: str) -> None:
    code = answer.get("errcode")
    if code == 0:
        return
    if code in TOO_FAST or "punish" in answer:
        raise ChatUnavailable(f"DingTalk asks the robot '{name}' to slow down.", retry_after=BLOCKED)
    if code in OURS:
        raise ChatRejected(f"DingTalk refuses the robot '{name}' ({code}): check its token, secret and keywords.")
    raise ChatUnavailable(f"DingTalk did not take a message for '{name}' ({code}).", retry_after=30.0)
