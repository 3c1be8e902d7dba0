"""A Jenkins controller: jobs, a queue that merges equal requests and forgets, builds, stages, logs, crumbs."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.builds import KINDS, STAGES, Build
from tests.fakes.serving import Faulty

WORDS = {
    "waiting": "NOT_EXECUTED",
    "running": "IN_PROGRESS",
    "good": "SUCCESS",
    "bad": "FAILED",
    "aborted": "ABORTED",
    "skipped": "NOT_EXECUTED",
}
RESULTS = {"good": "SUCCESS", "bad": "FAILURE", "aborted": "ABORTED", "unstable": "UNSTABLE"}


@dataclass
class Item:
    """A queue item. looks: how often it is still looked at before it leaves the queue."""

    id: int
    job: str
    parameters: dict[str, str]
    looks: int
    number: int | None = None
    cancelled: bool = False
    forgotten: bool = False


@dataclass
class Job:
    """A job. declared: names of its parameters; what is not declared is dropped, as Jenkins does."""

    declared: tuple[str, ...] = ("SLIPWAY_INTENT", "SLIPWAY_COMMIT", "SLIPWAY_VERSION")
    buildable: bool = True
    builds: dict[int, tuple[int, Build]] = field(default_factory=dict)


class FakeJenkins:
    """State, and the knobs that tests turn.

    queue_looks: looks before an item leaves the queue. drops: answers 201 and never builds. stages: `wfapi`, `graph`,
    `overview` or `none`. asks: builds wait at an input step. heeds: what ends a build. age: seconds since it
    began.
    """

    def __init__(self, *names: str, user: str = "bot", token: str = "t0ken", password: str = "") -> None:
        self.jobs = {name: Job() for name in names}
        self.items: list[Item] = []
        self.queue_looks = 1
        self.drops = 0
        self.stages = "wfapi"
        self.coverage = ""
        self.failed, self.covered = 1, "82.14%"
        self.measured: dict[int, str] = {}
        self.stops: list[str] = []
        self.heeds = "stop"
        self.asks = False
        self.inputs: list[dict[str, str]] = []
        self.age = 1.0
        self.decided: list[str] = []
        self.unstable = False
        self.sessions: set[str] = set()
        self.posts = 0
        self._user, self._token, self._password = user, token, password
        self._next = 80
        self.app = Faulty(Starlette(routes=[Route("/{path:path}", self._serve, methods=["GET", "POST"])]))

    @property
    def built(self) -> list[dict[str, str]]:
        """Parameters of every build that really began."""
        return [build.parameters for job in self.jobs.values() for _, build in job.builds.values()]

    @property
    def asked(self) -> list[dict[str, str]]:
        """Parameters of all that was queued, built or not."""
        return [item.parameters for item in self.items if item.number is None] + self.built

    def start_waiting(self) -> None:
        """Executors are free now."""
        for item in self.items:
            item.looks = 0
            self._advance(item)

    def forget_queue(self) -> None:
        """A restart that loses what waits."""
        self.items.clear()

    def forget_left_items(self) -> None:
        """Five minutes later."""
        self.items = [item for item in self.items if item.number is None]

    # --- HTTP

    async def _serve(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        path = request.scope["raw_path"].decode().strip("/").partition("?")[0]
        if path == "crumbIssuer/api/json":
            return self._crumb()
        if path.startswith("queue"):
            return self._queue(request, path)
        parts = path.split("/")
        name: list[str] = []
        while len(parts) > 1 and parts[0] == "job":
            name.append(unquote(parts[1]))
            parts = parts[2:]
        job = self.jobs.get("/".join(name))
        if job is None:
            return PlainTextResponse("Not Found", 404)
        return await self._job(request, "/".join(name), job, parts)

    def _refusal(self, request: Request) -> Response | None:
        kind, _, raw = request.headers.get("authorization", "").partition(" ")
        user, _, secret = base64.b64decode(raw).decode().partition(":") if kind == "Basic" else ("", "", "")
        if user != self._user or secret not in (self._token, self._password or self._token):
            return PlainTextResponse("Unauthorized", 401)
        if request.method == "POST" and secret != self._token:
            session = request.cookies.get("JSESSIONID", "")
            if session not in self.sessions or request.headers.get("Jenkins-Crumb") != f"crumb-{session}":
                return PlainTextResponse("No valid crumb was included in the request", 403)
        return None

    def _crumb(self) -> Response:
        session = f"s{len(self.sessions)}"
        self.sessions.add(session)
        answer = JSONResponse({"crumbRequestField": "Jenkins-Crumb", "crumb": f"crumb-{session}"})
        answer.set_cookie("JSESSIONID", session, path="/")
        return answer

    def _queue(self, request: Request, path: str) -> Response:
        parts = path.split("/")
        if parts[:2] == ["queue", "api"]:
            return JSONResponse({"items": [self._item_json(item) for item in self.items if item.number is None]})
        if parts[:2] == ["queue", "cancelItem"]:
            found = next((one for one in self.items if str(one.id) == request.query_params["id"]), None)
            if found is None:
                return Response(status_code=404)
            found.cancelled = True
            return Response(status_code=204)
        item = next((one for one in self.items if str(one.id) == parts[2]), None)
        if item is None:
            return PlainTextResponse("Not Found", 404)
        self._advance(item)
        return JSONResponse(self._item_json(item))

    def _item_json(self, item: Item) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "_class": "hudson.model.Queue$WaitingItem",
            "id": item.id,
            "why": "Waiting for next available executor",
            "task": {"name": item.job.rpartition("/")[2]},
            "actions": [{}, {"parameters": [{"name": k, "value": v} for k, v in item.parameters.items()]}],
        }
        if item.cancelled:
            answer |= {"_class": "hudson.model.Queue$LeftItem", "cancelled": True}
        elif item.number is not None:
            answer |= {"_class": "hudson.model.Queue$LeftItem", "executable": {"number": item.number}}
        return answer

    def _advance(self, item: Item) -> None:
        item.looks -= 1
        if item.looks < 0 and item.number is None and not item.cancelled:
            job = self.jobs[item.job]
            item.number = len(job.builds) + 1
            commit = item.parameters.get("SLIPWAY_COMMIT", "")
            job.builds[item.number] = item.id, Build(KINDS.get(commit, "good"), commit, item.parameters)

    async def _job(self, request: Request, name: str, job: Job, parts: list[str]) -> Response:
        if parts == ["api", "json"]:
            return JSONResponse(self._job_json(job, request.query_params.get("tree", "")))
        if parts == ["buildWithParameters"]:
            return await self._trigger(request, name, job)
        number = int(parts[0]) if parts[0].isdigit() else 0
        if number not in job.builds:
            return PlainTextResponse("Not Found", 404)
        queue_id, build = job.builds[number]
        return self._build(request, f"{request.base_url}job/{name}/{number}/", number, queue_id, build, parts[1:])

    def _job_json(self, job: Job, tree: str) -> dict[str, Any]:
        """All of a job; of its builds the range that the tree asks for."""
        builds = [
            {
                "number": number,
                "timestamp": int((time.time() - self.age) * 1000),
                "actions": [{}, {"parameters": _pairs(build.parameters)}],
            }
            for number, (_, build) in reversed(job.builds.items())
        ]
        first, last = map(int, found.groups()) if (found := re.search(r"\{(\d+),(\d+)\}", tree)) else (0, 0)
        declared = [{"parameterDefinitions": [{"name": name} for name in job.declared]}]
        answer = {"buildable": job.buildable, "property": [{}, *declared], "actions": [{}]}
        return answer | {"builds": builds[:100], "allBuilds": builds[first:last]}

    def others(self, count: int) -> None:
        """Other people's builds of every job."""
        for job in self.jobs.values():
            for _ in range(count):
                job.builds[len(job.builds) + 1] = 0, Build("good", "", {"SLIPWAY_INTENT": "somebody's"})

    async def _trigger(self, request: Request, name: str, job: Job) -> Response:
        if request.method != "POST":
            return Response(status_code=405, headers={"Allow": "POST"})
        if not job.declared:
            return PlainTextResponse("This job has no parameters", 400)
        if not job.buildable:
            return PlainTextResponse("not buildable", 409)
        self.posts += 1
        sent = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        parameters = {key: sent.get(key, "") for key in job.declared}
        for item in self.items:
            if item.number is None and not item.cancelled and (item.job, item.parameters) == (name, parameters):
                return Response(status_code=303, headers={"Location": f"{request.base_url}queue/item/{item.id}/"})
        self._next += 1
        if self.drops:
            self.drops -= 1
        else:
            self.items.append(Item(self._next, name, parameters, self.queue_looks))
        return Response(status_code=201, headers={"Location": f"{request.base_url}queue/item/{self._next}/"})

    def _build(
        self, request: Request, url: str, number: int, queue_id: int, build: Build, parts: list[str]
    ) -> Response:
        match parts:
            case ["api", "json"]:
                if self.stages == "none":
                    build.look()
                return JSONResponse(self._build_json(url, number, queue_id, build))
            case ["wfapi", "describe"] if self.stages == "wfapi":
                self._pass(build)
                status = "PAUSED_PENDING_INPUT" if self.asks else "IN_PROGRESS"
                ended = WORDS[build.result] if build.over else status
                return JSONResponse({"status": ended, "stages": self._stages(build)})
            case ["stages", "tree"] if self.stages == "graph":
                self._pass(build)
                return JSONResponse({"status": "ok", "data": self._tree(build)})
            case ["logText", "progressiveText"]:
                return self._log(build, int(request.query_params.get("start", 0)))
            case ["coverage", "api", "json"] if self.coverage == "coverage":
                return JSONResponse({"projectStatistics": {"line": self.measured.setdefault(id(build), self.covered)}})
            case ["jacoco", "api", "json"] if self.coverage == "jacoco":
                return JSONResponse({"lineCoverage": {"covered": 7, "missed": 3, "percentage": 70}})
            case ["testReport", "api", "json"] if "failCount" in request.query_params["tree"] and self.coverage:
                return JSONResponse({"failCount": self.failed, "passCount": 119 - self.failed, "skipCount": 1})
            case ["testReport", "api", "json"] if build.kind == "failing" or (self.coverage and self.failed):
                case_ = {"className": "test_total.Total", "name": "test_total", "status": "REGRESSION"}
                return JSONResponse({"failCount": 1, "suites": [{"cases": [case_]}]})
            case ["wfapi", "pendingInputActions"]:
                asked = {"id": "Ship", "message": "Ship it?", "inputs": self.inputs}
                return JSONResponse([asked] if self.asks else [])
            case ["stages", "allSteps"] if self.stages == "graph":
                step = {"inputStep": {"id": "Ship", "message": "Ship it?", "parameters": bool(self.inputs)}}
                return JSONResponse({"data": {"steps": [{"id": "1"}, *([step] if self.asks else [])]}})
            case ["pipeline-overview", "tree"] if self.stages == "overview":
                self._pass(build)
                return JSONResponse({"status": "ok", "data": self._tree(build)})
            case ["input", _, word]:
                if not self.asks:
                    return Response(status_code=400, headers={"X-Error": "already decided"})
                self.asks = False
                self.decided.append(word)
                return Response(status_code=200)
            case ["stop" | "term" | "kill" as word]:
                self.stops.append(word)
                if word == self.heeds:
                    build.aborted = build.aborted or not build.over
                return Response(status_code=302, headers={"Location": url})
        return PlainTextResponse("Not Found", 404)

    def _build_json(self, url: str, number: int, queue_id: int, build: Build) -> dict[str, Any]:
        result = (
            RESULTS["unstable" if self.unstable and build.result == "bad" else build.result] if build.over else None
        )
        return {
            "number": number,
            "url": url,
            "queueId": queue_id,
            "building": not build.over,
            "result": result,
            "timestamp": int((time.time() - self.age) * 1000),
            "estimatedDuration": -1,
        }

    def _stages(self, build: Build) -> list[dict[str, Any]]:
        states = build.states().items()
        words = {**WORDS, "running": "PAUSED_PENDING_INPUT"} if self.asks else WORDS
        shown = [(name, state) for name, state in states if state != "waiting"]
        return [{"name": name, "status": words[state], "durationMillis": 1500} for name, state in shown]

    def _pass(self, build: Build) -> None:
        """Time goes by where the stages are looked at; not while a person is waited for."""
        if not self.asks:
            build.look()

    def _tree(self, build: Build) -> dict[str, Any]:
        words = {"good": "success", "bad": "failure", "waiting": "queued"}
        words |= {"running": "paused"} if self.asks else {}
        stages = [
            {"name": name, "state": words.get(state, state), "type": "STAGE", "children": []}
            for name, state in build.states().items()
        ]
        return {"complete": build.over, "stages": stages}

    def _log(self, build: Build, start: int) -> Response:
        text = "Started by user bot\n[Pipeline] Start of Pipeline\n"
        for stage in STAGES:
            if printed := build.log_of(stage):
                text += f"[Pipeline] stage\n[Pipeline] {{ ({stage})\n{printed}[Pipeline] }}\n[Pipeline] // stage\n"
        data = text.encode()
        headers = {"X-Text-Size": str(len(data))} | ({} if build.over else {"X-More-Data": "true"})
        return PlainTextResponse(data[start if start <= len(data) else 0 :], headers=headers)


def _pairs(parameters: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in parameters.items()]


def notification(job: str, number: int, intent: str, phase: str = "FINALIZED", status: str = "SUCCESS") -> bytes:
    """What the Notification plugin posts."""
    build = {
        "number": number,
        "queue_id": 82,
        "phase": phase,
        "status": status,
        "parameters": {"SLIPWAY_INTENT": intent},
    }
    return json.dumps({"name": job, "url": f"job/{job}/", "build": build}).encode()
