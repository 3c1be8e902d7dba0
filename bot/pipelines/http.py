"""One outside system over HTTP: every answer that is no answer becomes one of our errors, in one place.

GET: not reached, 5xx or 429 is `ProviderUnavailable`; 4xx is `ProviderRejected`, but 404 is None.
A request that starts something: connection refused or 429 is `ProviderUnavailable` (nothing was started), another 4xx
is `ProviderRejected`, and a 5xx or a lost answer is `OutcomeUnknown`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from bot import fence
from bot.clock import Clock, utc_now
from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable

TIMEOUT = httpx.Timeout(10.0, connect=3.0, pool=10.0)
BODY_LIMIT = 20_000_000
"""Bytes of one JSON answer; more is refused, so that no answer can fill the memory."""
LONGEST_PAUSE = timedelta(minutes=5)

AT_ONCE = 32
"""Requests under way to one system. More would wait behind those anyway, and hold up what has nothing to do with it."""
PATIENCE = 5.0
"""Seconds that a request waits for its turn."""
SILENT_AFTER, REST, LONGEST_REST = 5, timedelta(seconds=5), timedelta(seconds=30)
"""After so many requests in a row without an answer a system is left alone so long, then tried with one request."""


def make_client(
    address: str, headers: Mapping[str, str] | None = None, auth: Any = None, verify: Any = True
) -> httpx.AsyncClient:
    """A client for one system. Redirects are never followed: a token must not travel to another host."""
    return httpx.AsyncClient(
        base_url=address,
        headers={"User-Agent": "slipway", **(headers or {})},
        auth=auth,
        verify=verify,
        timeout=TIMEOUT,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=40, max_keepalive_connections=20),
    )


class FileToken(httpx.Auth):
    """A token from a file that somebody else renews, such as a Kubernetes service account's: read for each request."""

    def __init__(self, path: Path) -> None:
        """path: holds only the token."""
        self._path = path

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put it into the request."""
        with suppress(OSError):  # Without it the system itself says that it is missing.
            request.headers["Authorization"] = f"Bearer {self._path.read_text(encoding='utf-8').strip()}"
        yield request


class Http:
    """What a provider speaks through. Addresses in messages carry neither query nor credentials."""

    def __init__(self, said: str, client: httpx.AsyncClient, clock: Clock = utc_now) -> None:
        """said: the system's name for people, such as `Jenkins`; the client brings address and credentials."""
        self.said = said
        self.client = client
        self._clock = clock
        self._closed_until: datetime | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._silent = 0
        self._rests_until: datetime | None = None

    async def get(self, path: str, params: Mapping[str, Any] | None = None, **kwargs: Any) -> httpx.Response | None:
        """The answer, or None for 404.

        Raises:
            ProviderUnavailable: not reached, overloaded or broken; ask again.
            ProviderRejected: the credentials are wrong or not enough.
        """
        try:
            async with self._turn():
                response = await self.client.get(path, params=params, **kwargs)
        except httpx.HTTPError as error:
            raise ProviderUnavailable(f"{self.said} does not answer.") from error
        if response.status_code == 404:
            return None
        self._refuse(response)
        return response

    async def get_json(self, path: str, params: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """The JSON of the answer, or None for 404. Raises as `get`."""
        response = await self.get(path, params, **kwargs)
        return None if response is None else self.read_json(response)

    async def items(
        self,
        path: str,
        params: Mapping[str, Any],
        pick: Callable[[Any], Sequence[Any]] = lambda body: body,
        size: int = 100,
        most: int = 10,
    ) -> AsyncIterator[Any]:
        """Every entry of a list that comes in numbered pages of `size`, as systems name them: `page`, `per_page`.

        Raises:
            ProviderRejected: there are more than `most` pages; whoever looked for something cannot tell.
        """
        for page in range(1, most + 1):
            body = await self.get_json(path, {"per_page": size, "page": page, **params})
            found = pick(body) if body is not None else ()
            for one in found:
                yield one
            if len(found) < size:
                return
        raise too_many(self.said, size * most)

    def read_json(self, response: httpx.Response) -> Any:
        """What the body says. Raises ProviderUnavailable: a proxy's page, or an answer that was cut off."""
        if len(response.content) > BODY_LIMIT:
            raise ProviderRejected(f"{self.said} answered with more than {BODY_LIMIT // 1_000_000} MB.")
        try:
            return json.loads(response.content)
        except ValueError as error:
            raise ProviderUnavailable(f"{self.said} answered with something that is not JSON.") from error

    async def start(
        self,
        path: str,
        refusals: Callable[[httpx.Response], str] = lambda _: "",
        *,
        what: str = "start a run",
        **kwargs: Any,
    ) -> httpx.Response:
        """POST what starts something, once. refusals: what a 5xx says that is surely a no, for systems that do so.

        what: it, for a sentence.

        Raises:
            ProviderUnavailable: nothing was started; safe to retry.
            ProviderRejected: it said no; nothing was started.
            OutcomeUnknown: it may have been started; look it up.
        """
        try:
            async with self._turn():
                fence.check()
                response = await self.client.post(path, **kwargs)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise ProviderUnavailable(f"{self.said} is not reached.") from error
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"{self.said} was asked to {what} and did not answer.") from error
        if response.status_code >= 500:
            if no := refusals(response):
                raise ProviderRejected(f"{self.said} refused the request: {no}")
            raise OutcomeUnknown(f"{self.said} was asked to {what} and answered {response.status_code}.")
        self._refuse(response, known=True)
        return response

    async def tell(self, path: str, method: str = "POST", **kwargs: Any) -> httpx.Response:
        """Send what may be sent twice, such as a cancel. Raises ProviderUnavailable."""
        try:
            async with self._turn():
                fence.check()
                response = await self.client.request(method, path, **kwargs)
        except httpx.HTTPError as error:
            raise ProviderUnavailable(f"{self.said} does not answer.") from error
        if response.status_code >= 500 or response.status_code == 429:
            self._refuse(response)
        return response

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, Any] | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """The answer while it arrives, or None for 404. Raises as `get`."""
        self._check_open()
        try:
            async with self.client.stream("GET", path, params=params, **kwargs) as response:
                if response.status_code == 404:
                    yield None
                    return
                if response.status_code >= 400:
                    await response.aread()
                    self._refuse(response)
                yield response
        except httpx.HTTPError as error:
            raise ProviderUnavailable(f"{self.said} stopped answering in the middle of a log.") from error

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of few requests at a time; while the system rests none, and after that one that tries.

        Raises:
            ProviderUnavailable: nothing was sent.
        """
        tries = self._check_open()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            raise ProviderUnavailable(f"{self.said} is slow; {AT_ONCE} requests wait for its answer.") from None
        try:
            if self._rests_until is not None and not tries:  # It was found silent while this one waited.
                raise ProviderUnavailable(f"{self.said} does not answer.")
            yield
        except httpx.TransportError:
            self._heard(silence=True)
            raise
        else:
            self._heard(silence=False)
        finally:
            self._turns.release()

    def _heard(self, *, silence: bool) -> None:
        self._silent = self._silent + 1 if silence else 0
        rest = min(LONGEST_REST, REST * max(1, self._silent - SILENT_AFTER + 1))
        self._rests_until = self._clock() + rest if self._silent >= SILENT_AFTER else None

    def _check_open(self) -> bool:
        """Whether we may send, and then whether this is the one request that tries if the system is back."""
        now = self._clock()
        if self._closed_until is not None and now < self._closed_until:
            wait = round((self._closed_until - now).total_seconds())
            raise ProviderUnavailable(f"{self.said} asked us to wait {wait} s before the next request.")
        if self._rests_until is None:
            return False
        if now < self._rests_until:
            raise ProviderUnavailable(f"{self.said} does not answer.")
        self._rests_until = now + LONGEST_REST
        return True

    def _refuse(self, response: httpx.Response, *, known: bool = False) -> None:
        """Raise for an answer that is a no. known: 404 is one too."""
        status = response.status_code
        if is_limited(response):
            self._closed_until = self._clock() + _pause(response, self._clock())
            raise ProviderUnavailable(f"{self.said} limits our requests; they go on by themselves.")
        if status >= 500:
            raise ProviderUnavailable(f"{self.said} answered {status}.")
        if status in (401, 407):
            raise ProviderRejected(
                f"{self.said} does not accept Slipway's credentials.", hint="Ask an administrator to renew the token."
            )
        if status == 403:
            right = response.headers.get("X-Required-Permission", "")
            what = f" (missing: {right})" if right else ""
            raise ProviderRejected(
                f"{self.said} does not allow this to Slipway's account{what}.",
                hint="Ask an administrator to give it that right.",
            )
        if 300 <= status < 400 and not known:
            raise ProviderRejected(
                f"{self.said} sends us to another page.",
                hint="Check its address, and the token, in Slipway's settings.",
            )
        if status >= 400 and (known or status != 404):
            raise ProviderRejected(f"{self.said} refused the request ({status}): {said_in(response)}")


def too_many(said: str, count: int) -> ProviderRejected:
    """More runs than we look through: whether ours is among them cannot be told."""
    return ProviderRejected(
        f"{said} shows more than {count:,} runs since Slipway asked for this one, too many to look for it.",
        hint="Look there: if nothing runs, deploy again; if it does, let it end first.",
    )


def is_limited(response: httpx.Response) -> bool:
    """Whether this is "too many requests", which some systems say with 403."""
    if response.status_code == 429:
        return True
    headers = response.headers
    spent = headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers
    return response.status_code == 403 and (spent or "rate limit" in response.text.casefold())


def _pause(response: httpx.Response, now: datetime) -> timedelta:
    """How long we were asked to wait, at most `LONGEST_PAUSE`."""
    headers = response.headers
    seconds = headers.get("retry-after", "")
    if seconds.isdigit():
        return min(timedelta(seconds=int(seconds)), LONGEST_PAUSE)
    reset = headers.get("x-ratelimit-reset", headers.get("ratelimit-reset", ""))
    if reset.isdigit() and headers.get("x-ratelimit-remaining", "0") == "0":
        pause = timedelta(seconds=max(1.0, int(reset) - now.timestamp()))
        return min(pause, LONGEST_PAUSE)
    return timedelta(seconds=60 if response.status_code == 403 else 5)


def said_in(response: httpx.Response) -> str:
    """The system's own words in an answer, short, on one line and without secrets."""
    from bot.logs import clean, redact

    try:
        body = response.json()
    except ValueError:
        body = response.headers.get("X-Error", "")
    text = _words(body) or "no reason given"
    return redact(clean(" ".join(text.split())))[:300]


def _words(body: object) -> str:
    if isinstance(body, Mapping):
        found = (body.get(key) for key in ("message", "error", "errorMessage", "errorDescription", "base"))
        said = next((value for value in found if value), "")
        return _words(said) or ("; ".join(f"{key} {_words(value)}" for key, value in body.items()) if said else "")
    if isinstance(body, list):
        return "; ".join(_words(item) for item in body)
    return str(body)
