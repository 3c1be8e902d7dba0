"""Bolt, for what is no slash command: it finds the listener of a click, a form or an event.

In the mode that neither verifies nor parses again (its own form parser takes any text holding `payload` for a click).
`process_before_response` spares its 10 ms poll: our listeners only store.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse

from bot.chat.slack import Answered, stumbled

EVERYTHING = re.compile(".*", re.DOTALL)

Listener = Callable[..., Awaitable[None]]


class BoltApp:
    """Listeners behind Bolt."""

    def __init__(
        self, listeners: Mapping[tuple[str, str], Listener], authorized: Callable[[str], tuple[str, str, str]]
    ) -> None:
        """listeners: (kind, event or empty) -> listener; authorized: given a team id, its ids of team, user and bot."""
        self._authorized = authorized
        self._app = self._made()
        for (kind, name), listener in listeners.items():
            getattr(self._app, kind)(name or EVERYTHING)(_acknowledging(listener))
        for kind in ("view_closed", "options", "shortcut", "event"):
            getattr(self._app, kind)(EVERYTHING)(_on_nothing)

    async def dispatch(self, body: dict[str, Any]) -> Answered:
        """What Slack is answered; 404 if nobody listens."""
        answer = await self._app.async_dispatch(AsyncBoltRequest(body=body, mode="socket_mode"))
        kind = (answer.headers.get("content-type") or ["text/plain"])[0]
        return Answered(answer.status, answer.body or "", kind)

    def _made(self) -> AsyncApp:
        async def authorize(team_id: str | None) -> AuthorizeResult:
            team, user, bot = self._authorized(team_id or "")
            return AuthorizeResult(enterprise_id=None, team_id=team, bot_user_id=user, bot_id=bot)

        quiet = logging.getLogger("slipway.slack_bolt")
        quiet.setLevel(logging.CRITICAL + 1)  # it would print what people sent
        app = AsyncApp(
            name="slipway",
            logger=quiet,
            authorize=authorize,
            process_before_response=True,
            request_verification_enabled=False,
            ssl_check_enabled=False,
            url_verification_enabled=False,
            ignoring_self_events_enabled=False,
            attaching_function_token_enabled=False,
            attaching_conversation_kwargs_enabled=False,
        )
        app.error(_on_error)
        return app


def _acknowledging(listener: Listener) -> Listener:
    async def listen(ack: AsyncAck, body: dict[str, Any]) -> None:
        await listener(ack, body)
        if isinstance(ack.response, Answered):
            ack.response = BoltResponse(status=ack.response.status, body=ack.response.body)

    return listen


async def _on_error(error: Exception) -> BoltResponse:
    return BoltResponse(status=stumbled(error).status, body="")


async def _on_nothing(ack: AsyncAck) -> None:
    await ack()
