"""What gates ask: a server of report files, a SonarQube and a test platform."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.serving import Faulty


class FakeQuality:
    """files: path -> content. analyses: commit -> status of its quality gate. jobs: by idempotency key."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.analyses: dict[str, str] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.bodies: dict[str, Any] = {}
        self.ends: list[str] = ["running", "passed"]
        routes = [
            Route("/api/project_analyses/search", self._search),
            Route("/api/qualitygates/project_status", self._status),
            Route("/v1/jobs", self._start, methods=["POST"]),
            Route("/v1/jobs/{id}", self._job),
            Route("/{path:path}", self._file),
        ]
        self.app = Faulty(Starlette(routes=routes))

    async def _file(self, request: Request) -> Response:
        data = self.files.get(request.path_params["path"])
        return Response(data) if data is not None else PlainTextResponse("Not Found", 404)

    async def _search(self, request: Request) -> Response:
        if request.query_params["project"] != "pay":
            return JSONResponse({"errors": [{"msg": "Component key not found"}]}, 404)
        analyses = [{"key": f"A-{commit}", "revision": commit} for commit in self.analyses]
        return JSONResponse({"analyses": [{"key": "A-old"}, *analyses]})

    async def _status(self, request: Request) -> Response:
        status = self.analyses[request.query_params["analysisId"].removeprefix("A-")]
        bad = {"status": "ERROR", "metricKey": "new_coverage", "errorThreshold": "80", "actualValue": "71.4"}
        conditions = [bad] if status == "ERROR" else []
        return JSONResponse({"projectStatus": {"status": status, "conditions": conditions}})

    async def _start(self, request: Request) -> Response:
        key, body = request.headers["Idempotency-Key"], await request.json()
        if body["suite"] == "unknown":
            return JSONResponse({"error": "no such suite"}, 422)
        known = key in self.jobs
        if known and self.bodies[key] != body:
            return JSONResponse({"error": "another body"}, 409)
        self.bodies[key] = body
        job = self.jobs.setdefault(key, {"id": f"j-{len(self.jobs) + 1}", "state": "queued", "suite": body["suite"]})
        return JSONResponse(job, 200 if known else 201)

    async def _job(self, request: Request) -> Response:
        job = next((one for one in self.jobs.values() if one["id"] == request.path_params["id"]), None)
        if job is None:
            return JSONResponse({"error": "no such job"}, 404)
        if self.ends:
            job["state"] = self.ends.pop(0)
        if job["state"] == "failed":
            job["result"] = {
                "total": 2,
                "failed": 1,
                "failures": [{"name": "pays twice", "message": "token=abc123def"}],
            }
        return JSONResponse(
            {**job, "progress": {"done": 41, "total": 120}, "url": f"https://tests.example/{job['id']}"}
        )
