"""`/reports`: the figures as JSON, for whoever has the token of the metrics; without such a token there is no route."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.errors import BadInput, ProviderError


def report_routes(report: Callable[[str, str], Awaitable[Mapping[str, Any]]], token: SecretStr | None) -> list[Route]:
    """The route. report: team and days, as they were sent -> the figures."""
    if token is None:
        return []

    async def reports(request: Request) -> Response:
        wanted = f"Bearer {token.get_secret_value()}"
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), wanted.encode()):
            return JSONResponse({"error": "Send the token of SLIPWAY_METRICS_TOKEN as a bearer token."}, 401)
        query = request.query_params
        try:
            return JSONResponse(await report(query.get("team", ""), query.get("days", "7")))
        except BadInput as error:
            return JSONResponse({"error": error.sentence()}, 400)
        except ProviderError as error:
            return JSONResponse({"error": error.sentence()}, 503)

    return [Route("/reports", reports)]
