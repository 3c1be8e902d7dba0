"""Calls to the Feishu or Lark open platform: one shared client, one token, errors by what to do next.

lark-oapi's own client fetches its token with a blocking call and opens a connection per request, so it is not used.
Over connections of our own, because people wait for these answers; files go over aiohttp.
Source: open.feishu.cn "自建应用获取 tenant_access_token", "频控策略", "通用错误码", "发送消息", "更新已发送的消息卡片".
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import IO, Any
from urllib.parse import quote, urlencode

import structlog
from pydantic import SecretStr

from notifiers.base import ChatClosed, ChatRejected, ChatUnavailable, MessageGone
from notifiers.http_calls import UPLOAD, HttpCalls
from notifiers.http_host import HttpAnswer

log = structlog.get_logger(__name__)

Query = str | int | Sequence[str]

FEISHU = "https://open.feishu.cn"
TIMEOUT = 10.0
"""Seconds for one call; after that its outcome is unknown."""
JSON = "application/json; charset=utf-8"
RENEW_BEFORE = 1800.0
"""Seconds: with less left, the platform hands out a new token while the old one stays valid."""
CREDENTIAL_PAUSE = 60.0
GRANTED = 1
CLOSED_PAUSE = 300.0

TOKEN_CODES = frozenset([99991661, 99991663, 99991664, 99991668])
CREDENTIALS = frozenset([10003, 10014, 10015, 10012, 10013])
"""The app id or its secret is wrong, or the app is off."""
SCOPES = frozenset([99991672, 99991679, 99991640, 230027])
LATER = frozenset([99991400, 230020, 230049, 11232, 1, 2200, 232003])
CLOSED = frozenset([230002, 230006, 230018, 230035])
"""Somebody can open the place to us, so what is wanted there waits."""
GONE_PLACE = frozenset([230013, 232009, 230015])
GONE_MESSAGE = frozenset([230011, 230110, 230031, 230054, 230055, 230017, 230050])
NO_THREAD = frozenset([230019, 230071, 230072])
CONTENT = frozenset([230099, 230001, 230025, 230022, 230028, 230038, 230075, 230111])

ADVICE = {
    230002: "Add the bot to that group (group settings, Bots).",
    230006: "Switch the bot ability on in the developer console and publish a version.",
    230018: "Let the bot speak in that group's settings.",
    230035: "Ask the group's owner to let the bot speak there.",
}


class ContentRefused(ChatRejected):
    """Feishu does not take this content; a plain short text may still go."""


class NoThread(ChatRejected):
    """There is nothing to reply to; the message may still go to the chat itself."""


class FeishuApi:
    """Every call we make, with the app's own token."""

    def __init__(
        self,
        app_id: str,
        app_secret: SecretStr,
        domain: str = FEISHU,
        *,
        timeout: float = TIMEOUT,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is called yet. domain: origin only; timeout: seconds per call; now: seconds that only rise."""
        self.app_id = app_id
        self.domain = domain.rstrip("/")
        self.bot = ""
        """Our own open_id, empty until `open`."""
        self.refused = ""
        """Why our credentials or scopes were refused last, empty while they are good."""
        self._secret = app_secret
        self._now = now
        self._http = HttpCalls(self.domain, timeout)
        self._token = ""
        self._token_until = 0.0
        self._renewing = asyncio.Lock()

    async def open(self) -> None:
        """Ask who we are. Raises ChatUnavailable: not reached now, or the app is refused (see `refused`)."""
        answer = await self.call("GET", "/open-apis/bot/v3/info")
        self.bot = str(answer["bot"]["open_id"])

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Query
    ) -> dict[str, Any]:
        """One call; the answer's whole object. A token that died early is renewed once. Raises as `refusal` says."""
        token = await self._fresh_token()
        answer = await self._sent(method, path, body, query, token)
        if _code(answer) in TOKEN_CODES:
            self._forget(token)
            answer = await self._sent(method, path, body, query, await self._fresh_token())
        return self._checked(path, answer)

    async def upload_image(self, content: bytes) -> str:
        """Give the platform a picture for messages; returns its key. Raises as `refusal` says."""
        path = "/open-apis/im/v1/images"
        return str((await self._uploaded(path, {"image_type": "message"}, "image", "chart.png", content))["image_key"])

    async def upload_file(self, name: str, file: IO[bytes]) -> str:
        """Give the platform a file for messages, piece by piece; returns its key. Raises as `refusal` says."""
        path = "/open-apis/im/v1/files"
        fields = {"file_type": "stream", "file_name": name}
        return str((await self._uploaded(path, fields, "file", name, file))["file_key"])

    async def _uploaded(
        self, path: str, fields: Mapping[str, str], field: str, name: str, content: bytes | IO[bytes]
    ) -> Mapping[str, Any]:
        """What a form with a file was answered."""
        import aiohttp

        form, kind = aiohttp.FormData(fields), "image/png" if field == "image" else "application/octet-stream"
        form.add_field(field, content, filename=name, content_type=kind)
        headers = {"Authorization": f"Bearer {await self._fresh_token()}"}
        patience = aiohttp.ClientTimeout(total=UPLOAD)
        asked = self._http.session.post(
            self.domain + path, data=form, headers=headers, allow_redirects=False, timeout=patience
        )
        try:
            async with asked as response:
                answer = HttpAnswer(response.status, response.raw_headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise self._silent(path) from error
        return dict(self._checked(path, _Answer(answer))["data"])

    async def pages(self, path: str, key: str, size: int = 50, **query: Query) -> AsyncIterator[dict[str, Any]]:
        """Every item of a paged list; `key` names the list in `data`."""
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            data = (await self.call("GET", path, None, page_size=size, **query, **more)).get("data") or {}
            for item in data.get(key) or ():
                yield item
            token = str(data.get("page_token") or "")
            if not data.get("has_more") or not token:
                return

    async def scopes(self) -> frozenset[str]:
        """What the company granted the app. Raises as `call`."""
        found = ((await self.call("GET", "/open-apis/application/v6/scopes")).get("data") or {}).get("scopes") or ()
        return frozenset(str(one.get("scope_name")) for one in found if one.get("grant_status") == GRANTED)

    async def connection(self) -> dict[str, Any]:
        """Where to open the long connection, and its settings. Raises ChatUnavailable: try again later."""
        body = {"AppID": self.app_id, "AppSecret": self._secret.get_secret_value()}
        answer = await self._request("POST", "/callback/ws/endpoint", body, {}, {"locale": "zh"})
        if _code(answer) == 514:
            self.refused = "the app id or its secret is wrong"
        if _code(answer) != 0 or not answer.get("data"):
            raise ChatUnavailable(f"Feishu opens no long connection (code {_code(answer)}).")
        return dict(answer["data"])

    # -- the token ---------------------------------------------------------------------------------------------------

    async def _fresh_token(self) -> str:
        if self._token and self._now() < self._token_until:
            return self._token
        async with self._renewing:
            if not (self._token and self._now() < self._token_until):
                await self._renew()
        return self._token

    async def _renew(self) -> None:
        path = "/open-apis/auth/v3/tenant_access_token/internal"
        body = {"app_id": self.app_id, "app_secret": self._secret.get_secret_value()}
        answer = self._checked(path, await self._request("POST", path, body, {}, {}))
        life = float(answer.get("expire") or 0)
        self._token = str(answer["tenant_access_token"])
        # A token with less than half an hour left is asked for again with every minute.
        self._token_until = self._now() + max(60.0, life - RENEW_BEFORE)

    def _forget(self, token: str) -> None:
        if self._token == token:
            self._token = ""

    # -- one request -------------------------------------------------------------------------------------------------

    async def _sent(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, Any], token: str
    ) -> _Answer:
        return await self._request(method, path, body, query, {"Authorization": f"Bearer {token}"})

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> _Answer:
        # As a browser would write it: a path holds ids, and some of these come from outside.
        target = quote(path, safe="/%:@!$&'()*+,;=~") + (f"?{urlencode(query, doseq=True)}" if query else "")
        content = json.dumps(body).encode() if body is not None else b""
        kind = {"Content-Type": JSON} if body is not None else {}
        try:
            return _Answer(await self._http.ask(method, target, {**headers, **kind}, content))
        except OSError as error:
            raise self._silent(path) from error

    def _silent(self, path: str) -> ChatUnavailable:
        """Never the error's own text: it may quote the address, and a repeat is safe by its `uuid`."""
        return ChatUnavailable(f"Feishu did not answer ({path.removeprefix('/open-apis/')}).")

    def _checked(self, path: str, answer: _Answer) -> dict[str, Any]:
        code = _code(answer)
        if code == 0:
            self.refused = ""
            return dict(answer)
        raise self._refusal(path.removeprefix("/open-apis/"), code, answer)

    def _refusal(self, name: str, code: int, answer: _Answer) -> Exception:
        """What a refused call means. Never quotes the answer: it may hold what we sent."""
        if answer.status == 429 or code in LATER:
            return ChatUnavailable(f"Feishu asks us to slow down ({name}, {code}).", retry_after=answer.reset)
        if code in CREDENTIALS or code in TOKEN_CODES:
            return self._told(f"Feishu refuses the app ({code}). Check FEISHU_APP_ID and FEISHU_APP_SECRET.")
        if code in SCOPES:
            return self._told(
                f"The Feishu app lacks a permission for {name} ({code}). `docs/feishu.md` lists them all."
            )
        if code in CLOSED:
            advice = ADVICE[code]
            return ChatClosed(f"Feishu does not let me speak there ({code}).", advice, retry_after=CLOSED_PAUSE)
        if code in GONE_MESSAGE:
            return MessageGone(f"Feishu does not let me change that message ({code}).")
        if code in NO_THREAD:
            return NoThread(f"Feishu does not let me reply there ({code}).")
        if code in CONTENT:
            return ContentRefused(f"Feishu does not take that message ({code}).")
        if code in GONE_PLACE:
            return ChatRejected(f"Feishu does not let me reach that person or group ({code}).")
        if answer.status >= 500 or code < 0:
            return ChatUnavailable(f"Feishu answered {name} with {answer.status}.")
        return ChatRejected(f"Feishu refuses {name} ({code}).")

    def _told(self, sentence: str) -> ChatUnavailable:
        self.refused = sentence
        log.error("feishu_refuses_us", reason=sentence)
        return ChatUnavailable(sentence, retry_after=CREDENTIAL_PAUSE)


class _Answer(dict[str, Any]):
    """A JSON answer with what its HTTP side says."""

    def __init__(self, answer: HttpAnswer) -> None:
        super().__init__(_object(answer.body))
        self.status = answer.status
        self.reset = _seconds(answer.header("x-ogw-ratelimit-reset") or answer.header("retry-after"))


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def _code(answer: Mapping[str, Any]) -> int:
    """The answer's code; -1 for an answer that is none of Feishu's."""
    code = answer.get("code")
    return code if isinstance(code, int) else -1


def _seconds(given: str) -> float | None:
    return min(300.0, max(0.2, float(given))) if given and given.replace(".", "", 1).isdigit() else None
