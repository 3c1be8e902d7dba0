"""Those who know who is in what: teams of a GitHub, members of a GitLab, an on-call schedule."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fakes.serving import Faulty


class FakeRosters:
    """State: lists by path; each is served in pages as the real ones are. now: the answer of the on-call system."""

    def __init__(self) -> None:
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.now: Any = []
        self.tokens: list[str] = []
        self.app = Faulty(Starlette(routes=[Route("/{path:path}", self._serve)]))

    async def _serve(self, request: Request) -> Response:
        self.tokens.append(request.headers.get("Authorization", ""))
        path = request.scope["raw_path"].decode().lstrip("/").partition("?")[0]
        if path == "schedules/payments":
            return JSONResponse(self.now)
        if path not in self.lists:
            return JSONResponse({"message": "404 Not found"}, 404)
        size, page = int(request.query_params.get("per_page", 30)), int(request.query_params.get("page", 1))
        return JSONResponse(self.lists[path][size * (page - 1) : size * page])
