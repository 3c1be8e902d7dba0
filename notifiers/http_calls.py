"""Calls to a chat platform's API: over kept connections of our own, or through the proxy that the environment names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from notifiers.http_host import HttpAnswer, HttpHost, NotConnected
from notifiers.proxies import proxy_for

if TYPE_CHECKING:
    import aiohttp

UPLOAD = 300.0
"""Seconds for a file, which may be large."""


class HttpCalls:
    """One platform's address. aiohttp is loaded when the first file or the first call through a proxy needs it."""

    def __init__(self, origin: str, timeout: float) -> None:
        """origin: `https://host[:port]`; timeout: seconds for an answer. Nothing is opened yet."""
        self._origin = origin
        self._timeout = timeout
        self._proxy = proxy_for(origin)
        self._host = HttpHost(origin)
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> HttpAnswer:
        """One request and its answer, whatever it says; never elsewhere, because it carries a token.

        Raises:
            NotConnected: nothing was sent.
            OSError: what became of it is not known; a TimeoutError, too.
        """
        if self._proxy is None:
            return await self._host.ask(method, target, headers, body, self._timeout)
        import aiohttp

        address = self._origin.rstrip("/") + target
        asked = self.session.request(method, address, data=body, headers=headers, allow_redirects=False)
        try:
            async with asked as answer:
                return HttpAnswer(answer.status, answer.raw_headers, await answer.read())
        except aiohttp.ClientConnectorError as error:
            raise NotConnected("the proxy cannot be reached") from error
        except aiohttp.ClientError as error:
            raise ConnectionError("the proxy gave no answer") from error

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections of aiohttp, for what is not called for every command; made in the event loop."""
        import aiohttp

        if self._session is None or self._session.closed:
            # Not `trust_env`: with it every call reads the environment and ~/.netrc anew, in two threads.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=100, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                proxy=self._proxy,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        self._host.close()
        if self._session is not None:
            await self._session.close()
