"""A Prometheus that answers instant queries with what it was told, in the shapes of the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class FakePrometheus:
    """answers: query -> one value, several (series), or None for no data. asked: every query that came."""

    answers: dict[str, str | list[str] | None] = field(default_factory=dict)
    token: str = ""
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def query(self, request: web.Request) -> web.Response:
        """`POST /api/v1/query`."""
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401, text="Unauthorized")
        form = await request.post()
        query = str(form.get("query", ""))
        self.asked.append(query)
        if query not in self.answers:
            error = {"status": "error", "errorType": "bad_data", "error": "1:1: parse error: unexpected character"}
            return web.json_response(error, status=400)
        answer = self.answers[query]
        values = [] if answer is None else [answer] if isinstance(answer, str) else answer
        result = [{"metric": {"pod": f"p{n}"}, "value": [1767603600.123, value]} for n, value in enumerate(values)]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


@asynccontextmanager
async def running_prometheus() -> AsyncIterator[FakePrometheus]:
    """Serve it on 127.0.0.1; `fake.url` is its address."""
    fake = FakePrometheus()
    app = web.Application()
    app.router.add_post("/api/v1/query", fake.query)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
