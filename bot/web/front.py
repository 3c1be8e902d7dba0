"""Leads what chats call for everything straight to its endpoint, past the router and what goes before it."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bot.web.limits import BodyLimits


class Front:
    """ASGI: a POST to one of the busy addresses is handled at once, all else by the web application.

    The way through the application costs as much as Slack's signature, body and conversion together.
    """

    def __init__(self, web: ASGIApp, busy: Iterable[Route]) -> None:
        """busy: routes of fixed addresses that take POST; they have the limits of all bodies here too."""
        self._web = web
        self._busy = {route.path: BodyLimits(route.app) for route in busy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        straight = self._busy.get(scope.get("path", "")) if scope.get("method") == "POST" else None
        await (straight or self._web)(scope, receive, send)
