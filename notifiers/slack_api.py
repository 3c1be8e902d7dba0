"""Calls to Slack's Web API for every workspace: one shared session, no hidden retries, errors by what to do next.

Retrying is the outbox's trade, because only it knows whether a second message would be seen. The calls go over
connections of our own, because the SDK's client takes longer for one than all else a command costs (a test compares
what both send); through a proxy, and for files, they go over aiohttp.
Source: docs.slack.dev "Rate limits", "Web API" and the reference of each method.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import structlog
from pydantic import SecretStr
from pydantic_core import from_json, to_json

from bot.errors import OutcomeUnknown
from notifiers.base import ChatClosed, ChatRejected, ChatUnavailable, MessageGone
from notifiers.http_calls import UPLOAD, HttpCalls
from notifiers.http_host import HttpAnswer, NotConnected

if TYPE_CHECKING:
    from slack_sdk.web.async_client import AsyncWebClient

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
JSON = "application/json;charset=utf-8"
FORM = "application/x-www-form-urlencoded"
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


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back. body: empty if it was no JSON object."""

    http: HttpAnswer
    body: dict[str, Any]

    @property
    def code(self) -> str:
        """Slack's name of what is wrong, may be empty."""
        return str(self.body.get("error") or "")


class SlackApi:
    """Every call we make. The first token's workspace is the primary one, whose ids are written bare."""

    def __init__(self, tokens: Sequence[SecretStr], base_url: str = DEFAULT_BASE_URL, timeout: float = TIMEOUT) -> None:
        """Nothing is called yet. base_url ends in `/api/`; timeout: seconds per call."""
        self._tokens = tuple(tokens)
        self._base_url = base_url
        parts = urlsplit(base_url)
        self._path = parts.path
        self._http = HttpCalls(f"{parts.scheme}://{parts.netloc}", timeout)
        self._authorizations: dict[str, str] = {}
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
            authorization = f"Bearer {token.get_secret_value()}"
            whole = await self._sent(authorization, "auth.test", {}, setting, form=True)
            answer, scopes = whole.body, whole.http.header("x-oauth-scopes").split(",")
            seen = Workspace(
                team_id=str(answer["team_id"]),
                user_id=str(answer["user_id"]),
                bot_id=str(answer.get("bot_id") or ""),
                token=token,
                name=str(answer.get("team") or ""),
                scopes=frozenset({name.strip() for name in scopes} - {""}),
            )
            self.workspaces[seen.team_id] = seen
            self._authorizations[seen.team_id] = authorization
            self.primary = self.primary or seen.team_id
            self._reached.add(number)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

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

    def socket_client(self) -> AsyncWebClient:
        """The SDK's client, without a bot token, for its Socket Mode."""
        from slack_sdk.web.async_client import AsyncWebClient

        return AsyncWebClient(base_url=self._base_url, session=self._http.session, retry_handlers=[], timeout=15)

    async def socket_address(self, app_token: SecretStr) -> str:
        """Where to open a socket; it holds a ticket for one time.

        Raises:
            ChatUnavailable: not now, or the token is refused: then `refusals` says so.
        """
        try:
            answer = await self._exchange(f"Bearer {app_token.get_secret_value()}", "apps.connections.open", {}, True)
        except (OSError, ValueError) as error:
            raise ChatUnavailable(f"Slack opens no socket ({type(error).__name__}).") from None
        if not _is_well(answer):
            if answer.code in CREDENTIALS:
                self.refusals[APP_TOKEN] = answer.code
            raise ChatUnavailable(f"Slack opens no socket ({answer.code or 'no answer'}).")
        self.refusals.pop(APP_TOKEN, None)
        return str(answer.body["url"])

    async def call(self, method: str, team: str = "", **arguments: Any) -> dict[str, Any]:
        """Call with a JSON body. team: the workspace, empty for the primary one. Raises as `_refusal` says."""
        return (await self._sent(self._for(team), method, arguments, team or self.primary)).body

    async def ask(self, method: str, team: str = "", **arguments: Any) -> dict[str, Any]:
        """As `call`, with form fields: reading methods take no JSON."""
        return (await self._sent(self._for(team), method, arguments, team or self.primary, form=True)).body

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

    async def _patiently(self, method: str, team: str, **arguments: Any) -> dict[str, Any]:
        """As `ask`, but wait once if Slack asks for it: a large company has more pages than a minute allows."""
        try:
            return await self.ask(method, team, **arguments)
        except ChatUnavailable as error:
            if not error.retry_after or error.retry_after > LONGEST_PAUSE or team in self.refusals:
                raise
            await asyncio.sleep(error.retry_after)
        return await self.ask(method, team, **arguments)

    async def upload(self, url: str, content: bytes | IO[bytes]) -> None:
        """Send a file to the address Slack gave; one from the disk piece by piece. Raises ChatUnavailable."""
        import aiohttp

        try:
            patience = aiohttp.ClientTimeout(total=UPLOAD)
            async with self._http.session.post(url, data=content, timeout=patience) as answer:
                if answer.status != 200:
                    raise ChatUnavailable(f"Slack did not take the file ({answer.status}).")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ChatUnavailable("Slack did not take the file.") from error

    def _for(self, team: str) -> str:
        authorization = self._authorizations.get(team or self.primary)
        if authorization is None:
            raise ChatUnavailable("Slack was not reached since the start.", retry_after=2.0)
        return authorization

    async def _sent(
        self, authorization: str, method: str, arguments: Mapping[str, Any], whose: str, *, form: bool = False
    ) -> _Answer:
        """whose: the workspace, or the setting of the token."""
        try:
            answer = await self._exchange(authorization, method, arguments, form)
        except NotConnected as error:
            raise ChatUnavailable(f"Slack cannot be reached ({method}).") from error
        except (OSError, ValueError) as error:  # a timeout, too
            raise OutcomeUnknown(f"Slack did not answer {method}.") from error
        if not _is_well(answer):
            raise self._refusal(method, answer, arguments, whose)
        if self.refusals:
            self.refusals.pop(whose, None)
        return answer

    async def _exchange(self, authorization: str, method: str, arguments: Mapping[str, Any], form: bool) -> _Answer:
        """One question and its answer, whatever it says; never elsewhere, because it carries the token."""
        body = _form(arguments) if form else _json(arguments)
        headers = {"Authorization": authorization, "Content-Type": FORM if form else JSON}
        answer = await self._http.ask("POST", self._path + method, headers, body)
        try:
            read = from_json(answer.body)
        except ValueError:
            read = None
        return _Answer(answer, read if isinstance(read, dict) else {})

    def _refusal(self, method: str, answer: _Answer, arguments: Mapping[str, Any], whose: str) -> Exception:
        """What a refused call means. Never quotes the answer: it may hold what we sent."""
        status, code = answer.http.status, answer.code
        if status == 429:
            return ChatUnavailable(f"Slack asks us to slow down ({method}).", retry_after=_retry_after(answer))
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
            return ChatUnavailable(f"Slack asks us to slow down ({code}).", retry_after=_retry_after(answer))
        return ChatRejected(f"Slack refuses a message to {place} ({code}).")


def _is_well(answer: _Answer) -> bool:
    return answer.http.status == 200 and answer.body.get("ok") is True


def _json(arguments: Mapping[str, Any]) -> bytes:
    try:
        return to_json(arguments)
    except ValueError:  # half a surrogate, which only the slower one can write
        return json.dumps(arguments).encode()


def _form(arguments: Mapping[str, Any]) -> bytes:
    """Form fields as Slack reads them: yes and no are 1 and 0."""
    fields = {name: int(value) if isinstance(value, bool) else value for name, value in arguments.items()}
    return urlencode(fields).encode()


def _told(sentence: str, code: str) -> str:
    return f"{sentence} {ADVICE.get(code, 'Put a new one into SLACK_BOT_TOKEN and start again.')}"


def _retry_after(answer: _Answer) -> float:
    given = answer.http.header("Retry-After") or "1"
    return min(300.0, max(0.1, float(given))) if given.replace(".", "", 1).isdigit() else 1.0
