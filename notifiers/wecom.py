"""Results to WeCom: message-push robots of groups by name, and personal messages of an application.

Places: the name of a robot in WECOM_ROBOTS, or `@userid`. Limits count UTF-8 bytes; `errcode` decides, not HTTP.
Source: developer.work.weixin.qq.com documents 99110 (robots) and 90236 (application messages).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Message
from notifiers.plain import ask, markdown

API = "https://qyapi.weixin.qq.com"
MAX_ROBOT = 4_000
MAX_APP = 2_000
TOKEN_CODES = frozenset([40014, 42001, 41001])
LATER = frozenset([-1, 45009, 45033, 6000])
NOBODY = frozenset([81013, 60111, 40003])


@dataclass(frozen=True, slots=True)
class WeComApp:
    """The application that writes to persons."""

    corp_id: str
    agent_id: int
    secret: SecretStr


class WeComClient:
    """Posts; never edits."""

    platform = "wecom"

    def __init__(
        self,
        http: httpx.AsyncClient,
        robots: Mapping[str, SecretStr],
        app: WeComApp | None = None,
        *,
        api: str = API,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """robots: name -> key; now: seconds that only rise."""
        self._http = http
        self._robots = dict(robots)
        self._app = app
        self._api = api.rstrip("/")
        self._now = now
        self._token = ""
        self._token_until = 0.0

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        """Send to a robot's group or to a person. Raises as `ChatClient.post`."""
        if place.startswith("@"):
            return await self._personal(place[1:], message)
        await self._group(place, message)
        return f"sent:{key}"[:255]

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        """Nothing: what was said stays said; the next result is a message of its own."""

    async def _group(self, name: str, message: Message) -> None:
        robot = self._robots.get(name)
        if robot is None:
            raise ChatRejected(f"There is no WeCom robot '{name}': name it in WECOM_ROBOTS or correct the catalog.")
        body = {"msgtype": "markdown", "markdown": {"content": markdown(message, MAX_ROBOT)}}
        query = {"key": robot.get_secret_value()}
        url = f"{self._api}/cgi-bin/webhook/send"
        _check(await ask(self._http, "WeCom", "POST", url, body=body, query=query), f"the robot '{name}'")

    async def _personal(self, user: str, message: Message) -> str:
        if self._app is None:
            raise ChatRejected("WeCom persons need an application: set WECOM_CORP_ID, WECOM_AGENT_ID and WECOM_SECRET.")
        body = {
            "touser": user.replace("|", ""),
            "msgtype": "markdown",
            "agentid": self._app.agent_id,
            "markdown": {"content": markdown(message, MAX_APP)},
            # The same body again within this time is dropped there: a lost answer shows one message.
            "enable_duplicate_check": 1,
            "duplicate_check_interval": 14_400,
        }
        answer = await self._sent(self._app, body)
        if answer.get("errcode") in TOKEN_CODES:
            self._token = ""
            answer = await self._sent(self._app, body)
        _check(answer, "that person")
        if answer.get("invaliduser"):
            raise ChatRejected("WeCom does not know that person, or the application is not visible to them.")
        return str(answer.get("msgid") or "sent")

    async def _sent(self, app: WeComApp, body: Mapping[str, Any]) -> dict[str, Any]:
        query = {"access_token": await self._fresh_token(app)}
        return await ask(self._http, "WeCom", "POST", f"{self._api}/cgi-bin/message/send", body=body, query=query)

    async def _fresh_token(self, app: WeComApp) -> str:
        if self._token and self._now() < self._token_until:
            return self._token
        query = {"corpid": app.corp_id, "corpsecret": app.secret.get_secret_value()}
        answer = await ask(self._http, "WeCom", "GET", f"{self._api}/cgi-bin/gettoken", query=query)
        if answer.get("errcode") or not answer.get("access_token"):
            raise ChatUnavailable(
                "WeCom refuses the application: check WECOM_CORP_ID and WECOM_SECRET.", retry_after=60.0
            )
        self._token = str(answer["access_token"])
        self._token_until = self._now() + float(answer.get("expires_in") or 0) - 300
        return self._token


def _check(answer: Mapping[str, Any], where: str) -> None:
    code = answer.get("errcode")
    if code == 0:
        return
    if code in NOBODY:
        raise ChatRejected(f"WeCom does not reach {where} ({code}).")
    if code in LATER or not isinstance(code, int):
        raise ChatUnavailable(f"WeCom asks to wait with {where} ({code}).", retry_after=30.0)
    if code == 60020:
        raise ChatUnavailable(
            "WeCom does not trust this machine's address: add it to the application.", retry_after=60.0
        )
    raise ChatRejected(f"WeCom refuses {where} ({code}): check its key and settings.")
