"""`/metrics`: for Prometheus, and with a token for nobody else."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_routes(render: Callable[[], Awaitable[bytes]], token: SecretStr | None) -> list[Route]:
    """The route. token: what Prometheus sends as `Authorization: Bearer`; None: whoever reaches the port may read."""

    async def metrics(request: Request) -> Response:
        given = request.headers.get("authorization", "")
        if token is not None:
            wanted = f"Bearer {token.get_secret_value()}"
            if not hmac.compare_digest(given.encode(), wanted.encode()):
                return PlainTextResponse("Send the token of SLIPWAY_METRICS_TOKEN as a bearer token.\n", 401)
        return Response(await render(), media_type=CONTENT_TYPE)

    return [Route("/metrics", metrics)]
