"""A GitLab: projects, pipelines made by the API, jobs, traces, child pipelines, forbidden variables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.builds import KINDS, STAGES, Build
from tests.fakes.serving import Faulty

JOBS = {
    "waiting": "created",
    "running": "running",
    "good": "success",
    "bad": "failed",
    "aborted": "canceled",
    "skipped": "skipped",
}
RUNS = {"good": "success", "bad": "failed", "aborted": "canceled", "": "running"}
TOKEN = "glpat-test"


@dataclass
class Pipeline:
    """One pipeline. parent: it is a child of that one."""

    id: int
    ref: str
    sha: str
    build: Build
    variables: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    parent: int = 0
    manual: bool = False


class FakeGitLab:
    """State, and the knobs that tests turn.

    variables_allowed: the project's setting. child: every pipeline has its stage `build` in a child pipeline. moved:
    the branch is at this commit when a pipeline is made. status: shown instead of the true one.
    """

    def __init__(self, *projects: str) -> None:
        self.projects = projects
        self.pipelines: dict[int, Pipeline] = {}
        self.variables_allowed = True
        self.child = False
        self.moved = ""
        self.manual = False
        self.status = ""
        self.reports = False
        self.posts = 0
        self.played: list[int] = []
        self.statuses: list[tuple[str, dict[str, Any]]] = []
        self.freeze_periods: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.pushes: list[dict[str, Any]] = []
        self.app = Faulty(Starlette(routes=[Route("/{path:path}", self._serve, methods=["GET", "POST"])]))

    @property
    def built(self) -> list[Pipeline]:
        """Every pipeline that was asked for."""
        return [one for one in self.pipelines.values() if not one.parent]

    async def _serve(self, request: Request) -> Response:
        if request.headers.get("private-token") != TOKEN:
            return JSONResponse({"message": "401 Unauthorized"}, 401)
        parts = request.scope["raw_path"].decode().partition("?")[0].removeprefix("/api/v4/").split("/")
        if parts == ["merge_requests"]:
            return self._requests(request)
        if parts[0] != "projects" or unquote(parts[1]) not in (*self.projects, "1"):
            return JSONResponse({"message": "404 Project Not Found"}, 404)
        match request.method, parts[2:]:
            case "GET", []:
                return JSONResponse({"id": 1, "path_with_namespace": unquote(parts[1])})
            case "POST", ["pipeline"]:
                return self._create(await request.json())
            case "GET", ["events"] if request.query_params.get("action") == "pushed":
                return JSONResponse(self.pushes)
            case "GET", ["freeze_periods"]:
                return JSONResponse(self.freeze_periods)
            case "POST", ["statuses", sha]:
                return self._status(sha, await request.json())
            case "GET", ["pipelines"]:
                return self._list(request)
            case _, ["pipelines", number, *rest] if int(number) in self.pipelines:
                return self._pipeline(request, self.pipelines[int(number)], rest)
            case _, ["jobs", number, verb]:
                return self._job(request, int(number), verb)
        return JSONResponse({"message": "404 Not Found"}, 404)

    def _requests(self, request: Request) -> Response:
        """Of every project that the token sees."""
        since = datetime.fromisoformat(request.query_params["updated_after"])
        seen = [one for one in self.requests if datetime.fromisoformat(one["updated_at"]) >= since]
        is_open = request.query_params.get("state") == "opened" and request.query_params.get("scope") == "all"
        return JSONResponse(paged(seen, request.query_params) if is_open else [])

    def _status(self, sha: str, body: dict[str, Any]) -> Response:
        last: dict[str, Any] = next(
            (one for at, one in reversed(self.statuses) if (at, one["name"]) == (sha, body["name"])), {}
        )
        if last.get("state") == body["state"]:
            said = f"Cannot transition status via :{body['state']} from :{body['state']}"
            return JSONResponse({"message": said}, 400)
        self.statuses.append((sha, body))
        return JSONResponse({"id": len(self.statuses), "status": body["state"]}, 201)

    def _create(self, body: dict[str, Any]) -> Response:
        self.posts += 1
        variables = {one["key"]: one["value"] for one in body.get("variables", ())}
        if variables and not self.variables_allowed:
            return JSONResponse({"message": {"base": ["Insufficient permissions to set pipeline variables"]}}, 400)
        if not body.get("ref"):
            return JSONResponse({"message": {"base": ["Reference not found"]}}, 400)
        inputs = body.get("inputs", {})
        commit = variables.get("SLIPWAY_COMMIT") or inputs.get("commit", "")
        build = Build(KINDS.get(commit, "good"), commit, {**variables, **inputs})
        number = 61 + len(self.pipelines)
        sha = self.moved or commit
        self.pipelines[number] = Pipeline(number, body["ref"], sha, build, variables, inputs, manual=self.manual)
        if self.child:
            self.pipelines[number + 1] = Pipeline(number + 1, body["ref"], sha, build, parent=number)
        return JSONResponse(self._json(self.pipelines[number]), 201)

    def _json(self, pipeline: Pipeline) -> dict[str, Any]:
        return {
            "id": pipeline.id,
            "ref": pipeline.ref,
            "sha": pipeline.sha,
            "source": "api",
            "name": f"Release {pipeline.inputs['slipway_intent']}" if "slipway_intent" in pipeline.inputs else None,
            "status": self.status or ("manual" if pipeline.manual else RUNS[pipeline.build.result]),
            "coverage": "71.5" if self.reports else None,
            "web_url": f"https://gitlab.example/team/hello/-/pipelines/{pipeline.id}",
            "created_at": datetime.now(UTC).isoformat(),
            "new_field": {"of": "a newer GitLab"},
        }

    def _list(self, request: Request) -> Response:
        query = request.query_params
        shown = [self._json(one) for one in reversed(self.pipelines.values()) if not one.parent]
        shown = [one for one in shown if one["ref"] == query["ref"]]
        return JSONResponse(paged(shown, query))

    def others(self, count: int) -> None:
        """Other people's pipelines on main."""
        for _ in range(count):
            number = 61 + len(self.pipelines)
            self.pipelines[number] = Pipeline(number, "main", "f" * 40, Build("good"), {"SLIPWAY_INTENT": "other"})

    def _pipeline(self, request: Request, pipeline: Pipeline, rest: list[str]) -> Response:
        match rest:
            case []:
                pipeline.build.look()
                return JSONResponse(self._json(pipeline))
            case ["variables"]:
                return JSONResponse([{"key": key, "value": value} for key, value in pipeline.variables.items()])
            case ["jobs"]:
                jobs = [self._job_json(pipeline, stage) for stage in reversed(self._stages(pipeline))]
                return JSONResponse(paged(jobs, request.query_params))
            case ["bridges"]:
                child = self.pipelines.get(pipeline.id + 1)
                bridge = {"id": 900, "stage": "build", "status": "running", "downstream_pipeline": None}
                if child is not None and child.parent == pipeline.id:
                    bridge["downstream_pipeline"] = {"id": child.id, "project_id": 1}
                    return JSONResponse([bridge])
                return JSONResponse([])
            case ["test_report_summary"]:
                total = {"count": 12, "success": 11, "failed": 0, "skipped": 0, "error": 1} if self.reports else {}
                return JSONResponse({"total": total})
            case ["test_report"]:
                cases = [{"classname": "test_total.Total", "name": "test_total", "status": "failed"}]
                failing = pipeline.build.kind == "failing" and pipeline.build.over
                return JSONResponse({"test_suites": [{"test_cases": cases if failing else []}]})
            case ["cancel"]:
                pipeline.build.aborted = pipeline.build.aborted or not pipeline.build.over
                return JSONResponse(self._json(pipeline))
        return JSONResponse({"message": "404 Not Found"}, 404)

    def _stages(self, pipeline: Pipeline) -> tuple[str, ...]:
        if pipeline.parent:
            return ("build",)
        return ("test",) if self.child else STAGES

    def _job_json(self, pipeline: Pipeline, stage: str) -> dict[str, Any]:
        status = JOBS[pipeline.build.states()[stage]]
        return {
            "id": pipeline.id * 10 + STAGES.index(stage),
            "name": f"{stage} it",
            "stage": stage,
            "status": "manual" if pipeline.manual and stage == "build" else status,
            "allow_failure": False,
            "duration": 1.5 if status in ("success", "failed") else None,
            "failure_reason": "script_failure" if status == "failed" else None,
        }

    def _job(self, request: Request, number: int, verb: str) -> Response:
        pipeline = self.pipelines.get(number // 10)
        if pipeline is None:
            return JSONResponse({"message": "404 Not Found"}, 404)
        if verb == "play":
            if not pipeline.manual:
                return JSONResponse({"message": "400 Unplayable Job"}, 400)
            pipeline.manual = False
            self.played.append(number)
            return JSONResponse({"id": number})
        stage = STAGES[number % 10]
        text = f"section_start:1:step\r\x1b[0K\x1b[32;1m$ ./{stage}\x1b[0;m\n{pipeline.build.log_of(stage)}"
        return PlainTextResponse(text if pipeline.build.log_of(stage) else "")


def paged(things: Sequence[Any], query: Mapping[str, str], size: str = "per_page") -> list[Any]:
    """One page of them, as every list of every system has it."""
    count = int(query.get(size, 20))
    begin = (int(query.get("page", 1)) - 1) * count
    return list(things[begin : begin + count])


def pipeline_hook(pipeline: int, intent: str, status: str = "success") -> bytes:
    """What a project hook posts for a pipeline."""
    variables = [{"key": "SLIPWAY_INTENT", "value": intent}] if intent else []
    attributes = {"id": pipeline, "ref": "main", "status": status, "source": "api", "variables": variables}
    project = {"id": 1, "path_with_namespace": "team/hello"}
    return json.dumps({"object_kind": "pipeline", "object_attributes": attributes, "project": project}).encode()


def merge_request_hook(commit: str, branch: str, action: str = "open", **more: Any) -> bytes:
    """A Merge Request Hook of `repos/app`, into `main`. more: over its attributes, and `changes` and `email`."""
    changes, email = more.pop("changes", {}), more.pop("email", "developer@slipway.example")
    attributes = {
        "iid": 9,
        "action": action,
        "state": {"close": "closed", "merge": "merged"}.get(action, "opened"),
        "draft": False,
        "url": "https://gitlab.example/repos/app/-/merge_requests/9",
        "source_branch": branch,
        "target_branch": "main",
        "source_project_id": 1,
        "target_project_id": 1,
        "last_commit": {"id": commit},
    }
    body = {
        "object_kind": "merge_request",
        "user": {"username": "dana", "email": email},
        "project": {"id": 1, "path_with_namespace": "repos/app"},
        "object_attributes": attributes | more,
        "changes": changes,
    }
    return json.dumps(body).encode()


def open_request(commit: str, branch: str, at: datetime, **more: Any) -> dict[str, Any]:
    """An entry of GitLab's list of merge requests, of `repos/app` into `main`. more: over its fields."""
    return {
        "iid": 9,
        "references": {"full": "repos/app!9"},
        "sha": commit,
        "source_branch": branch,
        "target_branch": "main",
        "source_project_id": 1,
        "target_project_id": 1,
        "draft": False,
        "updated_at": at.isoformat(),
        "web_url": "https://gitlab.example/repos/app/-/merge_requests/9",
    } | more


def push_event(commit: str, branch: str, user: str) -> dict[str, Any]:
    """An entry of a project's events."""
    return {"author_username": user, "push_data": {"action": "pushed", "ref": branch, "commit_to": commit}}
