"""`/healthz`: the process is alive. `/readyz`: it can do its work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def health_routes(readiness: Callable[[], Awaitable[Mapping[str, str]]]) -> list[Route]:
    """Routes for probes. readiness: part -> why it is not ready; empty when all is well."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        missing = await readiness()
        status = {"status": "not ready" if missing else "ready", "missing": dict(missing)}
        return JSONResponse(status, 503 if "database" in missing else 200)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]
