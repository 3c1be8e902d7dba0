"""Yunxiao Flow: pipelines by number, runs that answer with a bare number, jobs that wait for a person."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.builds import KINDS, STAGES, Build
from tests.fakes.gitlab import paged
from tests.fakes.serving import Faulty

TOKEN = "pt-test"
BASE = "/oapi/v1/flow/organizations/org1"
WORDS = {
    "waiting": "INIT",
    "running": "RUNNING",
    "good": "SUCCESS",
    "bad": "FAIL",
    "aborted": "CANCELED",
    "skipped": "INIT",
}


@dataclass
class Run:
    """One run."""

    id: int
    build: Build
    waiting: bool = False


class FakeYunxiao:
    """State, and the knobs that tests turn. shows: runs tell their parameters; as_map: as a map. status: shown."""

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        self.runs: dict[int, Run] = {}
        self.shows = True
        self.as_map = False
        self.waiting = False
        self.status = ""
        self.posts = 0
        self.decided: list[str] = []
        self.app = Faulty(Starlette(routes=[Route("/{path:path}", self._serve, methods=["GET", "POST", "PUT"])]))

    async def _serve(self, request: Request) -> Response:
        if request.headers.get("x-yunxiao-token") != TOKEN:
            return JSONResponse({"errorMessage": "token invalid"}, 401)
        parts = request.url.path.removeprefix(BASE).strip("/").split("/")
        if parts[:2] != ["pipelines", self.pipeline]:
            return JSONResponse({"errorMessage": "pipeline not found"}, 404)
        match request.method, parts[2:]:
            case "GET", []:
                return JSONResponse({"id": int(self.pipeline)})
            case "POST", ["runs"]:
                return self._start(json.loads((await request.json())["params"]))
            case "GET", ["runs"]:
                runs = [{"pipelineRunId": number} for number in reversed(self.runs)]
                return JSONResponse(paged(runs, request.query_params, "perPage"))
            case "GET", ["runs", number] if int(number) in self.runs:
                return self._run(self.runs[int(number)])
            case "GET", ["runs", number, "job", job, "log"]:
                text = self.runs[int(number)].build.log_of(STAGES[int(job) % 10])
                return JSONResponse({"content": text, "last": len(text), "more": False})
            case _, ["pipelineRuns", number, "jobs", _, verb]:
                return self._act(self.runs[int(number)], verb)
        return JSONResponse({"errorMessage": "not found"}, 404)

    def _start(self, params: dict[str, Any]) -> Response:
        self.posts += 1
        envs = params["envs"]
        commit, number = envs["SLIPWAY_COMMIT"], len(self.runs) + 19
        self.runs[number] = Run(number, Build(KINDS.get(commit, "good"), commit, envs), self.waiting)
        return PlainTextResponse(str(number), media_type="application/json")

    def others(self, count: int) -> None:
        """Other people's runs."""
        for _ in range(count):
            number = len(self.runs) + 19
            self.runs[number] = Run(number, Build("good", "", {"SLIPWAY_INTENT": "somebody's"}))

    def _run(self, run: Run) -> Response:
        run.build.look()
        stages = [self._stage(run, stage) for stage in STAGES]
        params: Any = dict(run.build.parameters) if self.shows else {}
        if not self.as_map:
            params = [{"key": key, "value": value} for key, value in params.items()]
        status = self.status or (WORDS[run.build.result] if run.build.over else "RUNNING")
        created = int(time.time() * 1000)
        answer = {"pipelineRunId": run.id, "status": status, "createTime": created, "stages": stages}
        return JSONResponse({**answer, "globalParams": params})

    def _stage(self, run: Run, stage: str) -> dict[str, Any]:
        status = WORDS[run.build.states()[stage]]
        job: dict[str, Any] = {"id": 900 + STAGES.index(stage), "status": status, "actions": []}
        if run.waiting and stage == "build":
            job |= {"status": "WAITING", "actions": [{"type": "PassPipelineValidate"}]}
        return {"name": stage, "stageInfo": {"status": status, "jobs": [job]}}

    def _act(self, run: Run, verb: str) -> Response:
        if verb == "stop":
            run.build.aborted = run.build.aborted or not run.build.over
        else:
            run.waiting = False
            self.decided.append(verb)
        return PlainTextResponse("true")
