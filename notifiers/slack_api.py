"""Calls to Slack's Web API for every workspace: one shared session, no hidden retries, errors by what to do next.

Retrying is the outbox's trade, because only it knows whether a second message would be seen. Source: docs.slack.dev
"Rate limits", "Web API" and the reference of each method.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import structlog
from pydantic import SecretStr
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.errors import OutcomeUnknown
from notifiers.base import ChatClosed, ChatRejected, ChatUnavailable, MessageGone

log = structlog.get_logger(__name__)

DEFAULT_BASE_URL = "https://slack.com/api/"
TIMEOUT = 10.0
"""Seconds for one call; after that its outcome is unknown."""
CREDENTIAL_PAUSE = 60.0
CLOSED_PAUSE = 300.0
LONGEST_PAUSE = 60.0
"""Seconds a listing waits between two pages when Slack asks for it; its methods allow about 20 pages a minute."""
FIRST_TOKEN, MORE_TOKENS, APP_TOKEN = "SLACK_BOT_TOKEN", "SLACK_MORE_BOT_TOKENS", "SLACK_APP_TOKEN"

CREDENTIALS = frozenset(
    [
        "invalid_auth",
        "not_authed",
        "account_inactive",
        "token_revoked",
        "token_expired",
        "no_permission",
        "missing_scope",
        "not_allowed_token_type",
        "access_denied",
        "ekm_access_denied",
        "org_login_required",
    ]
)
"""Our own standing is wrong: an administrator has to act, and until then everything waits."""
CLOSED = frozenset(["channel_not_found", "not_in_channel", "is_archived"])
"""Somebody can open the place to us, so what is wanted there waits."""
GONE = frozenset(
    [
        "messages_tab_disabled",
        "cannot_reply_to_message",
        "user_not_found",
        "users_not_found",
        "user_disabled",
        "user_not_visible",
        "user_not_in_channel",
        "cannot_dm_bot",
        "restricted_action",
        "restricted_action_read_only_channel",
        "restricted_action_thread_only_channel",
        "restricted_action_non_threadable_channel",
    ]
)
CONTENT = frozenset(
    [
        "no_text",
        "msg_too_long",
        "msg_blocks_too_long",
        "too_many_attachments",
        "invalid_blocks",
        "invalid_blocks_format",
        "markdown_text_conflict",
        "invalid_arguments",
        "metadata_too_large",
        "invalid_metadata_format",
        "invalid_metadata_schema",
    ]
)
MESSAGE = frozenset(
    [
        "message_not_found",
        "cant_update_message",
        "edit_window_closed",
        "is_inactive",
        "block_mismatch",
        "update_failed",
        "streaming_state_conflict",
    ]
)
UNSURE = frozenset(["fatal_error", "internal_error", "request_timeout"])
"""Slack says of these that the call may have partly succeeded."""
LATER = frozenset(
    [
        "ratelimited",
        "rate_limited",
        "message_limit_exceeded",
        "service_unavailable",
        "team_added_to_org",
    ]
)

ADVICE = {
    "not_in_channel": "Type /invite @slipway there.",
    "channel_not_found": "If it is private, type /invite @slipway there; else correct its name in the catalog.",
    "is_archived": "Unarchive it, or name another channel in the catalog.",
    "missing_scope": "Install the app again with the manifest that `slipway manifest slack` prints.",
}


class ContentRefused(ChatRejected):
    """Slack does not take this content; a plain short text may still go."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """One installation. user_id and bot_id: the bot's own; scopes: those granted, empty if Slack did not say."""

    team_id: str
    user_id: str
    bot_id: str
    token: SecretStr
    name: str = ""
    scopes: frozenset[str] = frozenset()


class SlackApi:
    """Every call we make. The first token's workspace is the primary one, whose ids are written bare."""

    def __init__(self, tokens: Sequence[SecretStr], base_url: str = DEFAULT_BASE_URL, timeout: float = TIMEOUT) -> None:
        """Nothing is called yet. base_url ends in `/api/`; timeout: seconds per call."""
        self._tokens = tuple(tokens)
        self._base_url = base_url
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._clients: dict[str, AsyncWebClient] = {}
        self._reached: set[int] = set()
        self.workspaces: dict[str, Workspace] = {}
        self.primary = ""
        self.refusals: dict[str, str] = {}
        """Workspace, or the setting of a token whose workspace is not known -> why our credentials were refused."""

    async def open(self) -> None:
        """Ask Slack which workspace each token is for.

        Raises:
            ChatUnavailable: not reached now, or a token is refused: then `refusals` names its setting.
        """
        for number, token in enumerate(self._tokens):
            if number in self._reached:
                continue
            setting = MORE_TOKENS if number else FIRST_TOKEN
            answer = await self._sent(self._client(token), "auth.test", {}, {}, setting)
            scopes = {name.strip() for name in answer.headers.get("x-oauth-scopes", "").split(",")}
            seen = Workspace(
                team_id=str(answer["team_id"]),
                user_id=str(answer["user_id"]),
                bot_id=str(answer.get("bot_id") or ""),
                token=token,
                name=str(answer.get("team") or ""),
                scopes=frozenset(scopes - {""}),
            )
            self.workspaces[seen.team_id] = seen
            self._clients[seen.team_id] = self._client(token)
            self.primary = self.primary or seen.team_id
            self._reached.add(number)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    @property
    def unreached(self) -> int:
        """For how many tokens Slack has not said yet which workspace they are for."""
        return len(self._tokens) - len(self._reached)

    @property
    def refused(self) -> str:
        """Why our credentials are refused somewhere, empty while they are good."""
        return next(iter(self.refusals.values()), "")

    def lost(self, team: str) -> None:
        """The app was removed there: its token is dead, and readiness says so until a call there works again."""
        self.refusals[team] = "app_uninstalled"

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared connections; made on first use, inside the event loop."""
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(limit=100, keepalive_timeout=60)
            # Not `trust_env`: with it every call reads the environment and ~/.netrc anew, in two threads.
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                proxy=proxy_for(self._base_url),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def socket_client(self) -> AsyncWebClient:
        """A client without a bot token, for `apps.connections.open`."""
        return AsyncWebClient(base_url=self._base_url, session=self.session, retry_handlers=[], timeout=15)

    async def socket_address(self, app_token: SecretStr) -> str:
        """Where to open a socket; it holds a ticket for one time.

        Raises:
            ChatUnavailable: not now, or the token is refused: then `refusals` says so.
        """
        client = self.socket_client()
        try:
            answer = await client.apps_connections_open(app_token=app_token.get_secret_value())
        except SlackApiError as error:
            code = _code_of(error)
            if code in CREDENTIALS:
                self.refusals[APP_TOKEN] = code
            raise ChatUnavailable(f"Slack opens no socket ({code or 'no answer'}).") from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ChatUnavailable(f"Slack opens no socket ({type(error).__name__}).") from None
        self.refusals.pop(APP_TOKEN, None)
        return str(answer["url"])

    async def call(self, method: str, team: str = "", **arguments: Any) -> AsyncSlackResponse:
        """Call with a JSON body. team: the workspace, empty for the primary one. Raises as `_refusal` says."""
        return await self._sent(self._for(team), method, {"json": arguments}, arguments, team or self.primary)

    async def ask(self, method: str, team: str = "", **arguments: Any) -> AsyncSlackResponse:
        """As `call`, with form fields: reading methods take no JSON."""
        return await self._sent(self._for(team), method, {"params": arguments}, arguments, team or self.primary)

    async def pages(self, method: str, team: str = "", limit: int = 200, **arguments: Any) -> AsyncIterator[Any]:
        """Every page of a listing method, as slowly as Slack wants. Raises as `ask`."""
        cursor = ""
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = await self._patiently(method, team, limit=limit, **arguments, **more)
            yield page
            cursor = str((page.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor:
                return

    async def _patiently(self, method: str, team: str, **arguments: Any) -> AsyncSlackResponse:
        """As `ask`, but wait once if Slack asks for it: a large company has more pages than a minute allows."""
        try:
            return await self.ask(method, team, **arguments)
        except ChatUnavailable as error:
            if not error.retry_after or error.retry_after > LONGEST_PAUSE or team in self.refusals:
                raise
            await asyncio.sleep(error.retry_after)
        return await self.ask(method, team, **arguments)

    async def upload(self, url: str, content: bytes) -> None:
        """Send a file's bytes to the address Slack gave. Raises ChatUnavailable."""
        try:
            async with self.session.post(url, data=content) as answer:
                if answer.status != 200:
                    raise ChatUnavailable(f"Slack did not take the file ({answer.status}).")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ChatUnavailable("Slack did not take the file.") from error

    def _client(self, token: SecretStr) -> AsyncWebClient:
        return AsyncWebClient(
            token=token.get_secret_value(),
            base_url=self._base_url,
            session=self.session,
            retry_handlers=[],
            timeout=int(self._timeout) or 1,
        )

    def _for(self, team: str) -> AsyncWebClient:
        client = self._clients.get(team or self.primary)
        if client is None:
            raise ChatUnavailable("Slack was not reached since the start.", retry_after=2.0)
        return client

    async def _sent(
        self, client: AsyncWebClient, method: str, how: Mapping[str, Any], arguments: Mapping[str, Any], whose: str
    ) -> AsyncSlackResponse:
        """whose: the workspace, or the setting of the token."""
        try:
            async with asyncio.timeout(self._timeout):
                answer: AsyncSlackResponse = await client.api_call(method, **how)
        except SlackApiError as error:
            raise self._refusal(method, error, arguments, whose) from None
        except aiohttp.ClientConnectorError as error:
            raise ChatUnavailable(f"Slack cannot be reached ({method}).") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise OutcomeUnknown(f"Slack did not answer {method}.") from error
        self.refusals.pop(whose, None)
        return answer

    def _refusal(self, method: str, error: SlackApiError, arguments: Mapping[str, Any], whose: str) -> Exception:
        """What a refused call means. Never quotes the answer: it may hold what we sent."""
        response = error.response
        status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0) or 0)
        if status == 429:
            return ChatUnavailable(f"Slack asks us to slow down ({method}).", retry_after=_retry_after(response))
        code = _code_of(error)
        if status >= 500 or not code or code in UNSURE:
            return OutcomeUnknown(f"Slack answered {method} with {code or status}.")
        place = str(arguments.get("channel") or arguments.get("channel_id") or arguments.get("users") or "Slack")
        if code in CREDENTIALS:
            self.refusals[whose] = code
            log.error("slack_refuses_us", method=method, code=code)
            return ChatUnavailable(_told(f"Slack refuses our token ({code}).", code), retry_after=CREDENTIAL_PAUSE)
        if code in CLOSED:
            return ChatClosed(f"Slack does not let me into {place} ({code}).", ADVICE[code], retry_after=CLOSED_PAUSE)
        if code in MESSAGE:
            return MessageGone(f"Slack does not let me change that message ({code}).")
        if code in CONTENT:
            return ContentRefused(f"Slack does not take that message ({code}).")
        if code in LATER:
            return ChatUnavailable(f"Slack asks us to slow down ({code}).", retry_after=_retry_after(response))
        return ChatRejected(f"Slack refuses a message to {place} ({code}).")


def proxy_for(address: str) -> str | None:
    """The proxy that the environment (HTTPS_PROXY, NO_PROXY) names for an address."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    return None if proxy_bypass(host) else getproxies().get(parts.scheme)


def _code_of(error: SlackApiError) -> str:
    data = getattr(error.response, "data", None)
    return str(data.get("error") or "") if isinstance(data, Mapping) else ""


def _told(sentence: str, code: str) -> str:
    return f"{sentence} {ADVICE.get(code, 'Put a new one into SLACK_BOT_TOKEN and start again.')}"


def _retry_after(response: Any) -> float:
    headers = getattr(response, "headers", None) or {}
    given = headers.get("Retry-After") or headers.get("retry-after") or "1"
    return min(300.0, max(0.1, float(given))) if str(given).replace(".", "", 1).isdigit() else 1.0
