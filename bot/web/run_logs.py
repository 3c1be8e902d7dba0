"""`/logs/{token}`: a whole log as plain text, while it is read; memory stays flat however long it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from bot.errors import ProviderError

if TYPE_CHECKING:
    from bot.deployments.run_log import OpenLog

log = structlog.get_logger(__name__)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
"""Text and nothing else, kept nowhere, and its address told to nobody."""
OVER = "This link is over. Type /logs again.\n"


def log_routes(open_log: Callable[[str], Awaitable[OpenLog | None]]) -> list[Route]:
    """The route."""

    async def whole(request: Request) -> Response:
        try:
            found = await open_log(request.path_params["token"])
            if found is None:
                return PlainTextResponse(OVER, 404, HEADERS)
            first = await anext(found.pieces, b"")
        except ProviderError as error:
            return PlainTextResponse(f"{error.sentence()}\n", 502, HEADERS)
        name = "".join(one if one.isalnum() or one in "-._" else "-" for one in found.name)
        headers = HEADERS | {"Content-Disposition": f'inline; filename="{name}"'}
        return StreamingResponse(_rest(first, found.pieces), media_type="text/plain; charset=utf-8", headers=headers)

    return [Route("/logs/{token:str}", whole)]


async def _rest(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    try:
        async for piece in pieces:
            yield piece
    except ProviderError as error:  # The status is long sent: say it where the reader looks.
        log.warning("log_cut", error=error.message)
        yield f"\n[{error.sentence()} The rest of the log is missing.]\n".encode()
