"""A GitHub: one workflow, its runs and jobs, logs on another host, Apps, Enterprise Server's older answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.fakes.builds import KINDS, STAGES, Build
from tests.fakes.gitlab import paged
from tests.fakes.serving import Faulty

TOKEN = "ghp_test"
JOBS = {"good": "success", "bad": "failure", "aborted": "cancelled", "skipped": "skipped"}


@dataclass
class Run:
    """One run. hidden: how often it is still left out of the list."""

    id: int
    title: str
    sha: str
    build: Build
    hidden: int = 0


class FakeGitHub:
    """State, and the knobs that tests turn.

    details: `known` (200 with the id), `ignored` (204, Enterprise Server) or `refused` (422). late: how often a new run
    is left out of the list. named: the workflow's run-name has the intent. moved: where the branch is.
    """

    def __init__(self, workflow: str) -> None:
        self.owner, self.repository, self.file = workflow.split("/")
        self.runs: dict[int, Run] = {}
        self.details = "known"
        self.late = 0
        self.named = True
        self.moved = ""
        self.status = ""
        self.waiting = False
        self.state = "active"
        self.posts = 0
        self.reviews: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.deployments: list[dict[str, Any]] = []
        self.statuses: list[str] = []
        self.check_runs: list[dict[str, Any]] = []
        self.commit_statuses: list[tuple[str, dict[str, Any]]] = []
        self.requests: list[dict[str, Any]] = []
        self.pushes: list[dict[str, Any]] = []
        self.claims: list[dict[str, Any]] = []
        self.valid: set[str] = {TOKEN}
        self.app = Faulty(Starlette(routes=[Route("/{path:path}", self._serve, methods=["GET", "POST", "PATCH"])]))

    async def _serve(self, request: Request) -> Response:
        parts = request.url.path.strip("/").split("/")
        if parts[0] == "storage":
            return self._storage(request, int(parts[1]))
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if parts[:2] == ["app", "installations"]:
            return self._install(token)
        if token not in self.valid:
            return JSONResponse({"message": "Bad credentials"}, 401)
        if parts[:4] == ["repos", self.owner, self.repository, "deployments"]:
            return await self._deployment(request, parts[4:])
        if parts[:3] == ["repos", self.owner, self.repository] and parts[3:4] != ["actions"]:
            return await self._said(request, parts[3:], is_app=token.startswith("ghs_"))
        if parts[:4] != ["repos", self.owner, self.repository, "actions"]:
            return JSONResponse({"message": "Not Found"}, 404)
        match request.method, parts[4:]:
            case "GET", ["workflows", self.file]:
                return JSONResponse({"id": 1, "state": self.state})
            case "POST", ["workflows", self.file, "dispatches"]:
                return self._dispatch(await request.json())
            case "GET", ["workflows", self.file, "runs"]:
                return self._list(request)
            case method, ["runs", number, *rest] if int(number) in self.runs:
                return await self._run(request, method, self.runs[int(number)], rest)
            case "GET", ["jobs", number, "logs"]:
                return RedirectResponse(f"{request.base_url}storage/{number}?sig=abc", 302)
        return JSONResponse({"message": "Not Found"}, 404)

    async def _deployment(self, request: Request, rest: list[str]) -> Response:
        if request.method == "GET":
            return JSONResponse(self.deployments)
        body = await request.json()
        if rest:
            self.statuses.append(body["state"])
        else:
            self.deployments.append({"id": 15, **body})
        return JSONResponse(self.deployments[-1], 201)

    async def _said(self, request: Request, rest: list[str], *, is_app: bool) -> Response:
        """Check runs, which only Apps may make, and commit statuses."""
        match request.method, rest:
            case "GET", ["commits", sha, "check-runs"]:
                found = [one for one in self.check_runs if one["head_sha"] == sha]
                return JSONResponse({"total_count": len(found), "check_runs": found})
            case "GET", ["pulls"] if request.query_params.get("state") == "open":
                return JSONResponse(self.requests)
            case "GET", ["activity"]:
                ref = request.query_params["ref"]
                return JSONResponse([one for one in self.pushes if one["ref"] == ref])
            case "POST" | "PATCH", ["check-runs", *_] if not is_app:
                return JSONResponse({"message": "You must authenticate via a GitHub App."}, 403)
            case "POST", ["check-runs"]:
                self.check_runs.append({"id": 40 + len(self.check_runs), **await request.json()})
                return JSONResponse(self.check_runs[-1], 201)
            case "PATCH", ["check-runs", number]:
                run = next(one for one in self.check_runs if one["id"] == int(number))
                run |= await request.json()
                return JSONResponse(run)
            case "POST", ["statuses", sha]:
                self.commit_statuses.append((sha, await request.json()))
                return JSONResponse({"id": len(self.commit_statuses)}, 201)
        return JSONResponse({"message": "Not Found"}, 404)

    def _install(self, jwt: str) -> Response:
        self.claims.append(json.loads(base64.urlsafe_b64decode(jwt.split(".")[1] + "==")))
        token = f"ghs_{len(self.tokens)}_{'x' * 300}"
        self.tokens.append(token)
        self.valid.add(token)
        ends = datetime.fromtimestamp(self.claims[-1]["iat"], UTC) + timedelta(hours=1)
        return JSONResponse({"token": token, "expires_at": ends.isoformat().replace("+00:00", "Z")}, 201)

    def _dispatch(self, body: dict[str, Any]) -> Response:
        wants = body.get("return_run_details")
        if wants and self.details == "refused":
            return JSONResponse({"message": 'Invalid request. "return_run_details" is not a permitted key.'}, 422)
        if len(body.get("inputs", {})) > 25:
            return JSONResponse({"message": "you may only define up to 25 inputs"}, 422)
        self.posts += 1
        inputs = body.get("inputs", {})
        commit = inputs.get("commit", "")
        number = 700 + len(self.runs)
        title = f"Release {inputs.get('slipway_intent', '')}" if self.named else "Release"
        build = Build(KINDS.get(commit, "good"), commit, inputs)
        self.runs[number] = Run(number, title, self.moved or commit, build, self.late)
        if wants and self.details == "known":
            return JSONResponse({"workflow_run_id": number, "run_url": "", "html_url": ""})
        return Response(status_code=204)

    def _list(self, request: Request) -> Response:
        shown = []
        for run in reversed(self.runs.values()):
            run.hidden -= 1
            if run.hidden < 0:
                shown.append(self._json(run))
        return JSONResponse({"workflow_runs": paged(shown, request.query_params)})

    def others(self, count: int) -> None:
        """Other people's runs of the workflow."""
        for _ in range(count):
            number = 700 + len(self.runs)
            self.runs[number] = Run(number, "Release of somebody else", "f" * 40, Build("good"))

    def _json(self, run: Run) -> dict[str, Any]:
        over = run.build.over
        status = "waiting" if self.waiting else self.status or ("completed" if over else "in_progress")
        return {
            "id": run.id,
            "display_title": run.title,
            "head_sha": run.sha,
            "status": status,
            "conclusion": JOBS.get(run.build.result) if over else None,
            "html_url": f"https://github.example/{self.owner}/{self.repository}/actions/runs/{run.id}",
            "run_started_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "run_attempt": 1,
        }

    async def _run(self, request: Request, method: str, run: Run, rest: list[str]) -> Response:
        match method, rest:
            case "GET", []:
                run.build.look()
                return JSONResponse(self._json(run))
            case "GET", ["jobs"]:
                return JSONResponse({"jobs": [self._job(run, stage) for stage in STAGES]})
            case "POST", ["cancel"]:
                if run.build.over:
                    return JSONResponse({"message": "Cannot cancel a workflow run that is completed."}, 409)
                run.build.aborted = True
                return JSONResponse({}, 202)
            case "GET", ["pending_deployments"]:
                return JSONResponse([{"environment": {"id": 7, "name": "prod"}}] if self.waiting else [])
            case "POST", ["pending_deployments"]:
                self.reviews.append(await request.json())
                self.waiting = False
                return JSONResponse([])
        return JSONResponse({"message": "Not Found"}, 404)

    def _job(self, run: Run, stage: str) -> dict[str, Any]:
        state = run.build.states()[stage]
        status = {"waiting": "queued", "running": "in_progress"}.get(state, "completed")
        return {
            "id": run.id * 10 + STAGES.index(stage),
            "name": stage,
            "status": status,
            "conclusion": JOBS.get(state),
            "started_at": "2026-11-21T07:00:00Z" if status != "queued" else None,
            "completed_at": "2026-11-21T07:00:41Z" if status == "completed" else None,
            "steps": [{"number": 1, "status": status}],
        }

    def _storage(self, request: Request, job: int) -> Response:
        if "authorization" in request.headers:
            return PlainTextResponse("InvalidAuthenticationInfo", 400)
        run = self.runs[job // 10]
        lines = run.build.log_of(STAGES[job % 10]).splitlines()
        return PlainTextResponse("".join(f"2026-11-21T07:00:00.0000000Z {line}\n" for line in lines))


def signature(secret: str, body: bytes) -> str:
    """As GitHub signs a delivery."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def pull_request_hook(commit: str, branch: str, action: str = "opened", **more: Any) -> bytes:
    """A `pull_request` delivery of `repos/app`, into `main`. more: over its fields, and `sender`."""
    sender = more.pop("sender", "ada")
    repo = {"id": 1, "full_name": "repos/app"}
    request = {
        "number": 9,
        "state": "closed" if action == "closed" else "open",
        "draft": False,
        "html_url": "https://github.example/repos/app/pull/9",
        "head": {"ref": branch, "sha": commit, "repo": repo},
        "base": {"ref": "main", "sha": "0" * 40, "repo": repo},
    }
    body = {"action": action, "pull_request": request | more, "repository": repo, "sender": {"login": sender}}
    return json.dumps(body).encode()


def open_request(commit: str, branch: str, at: datetime, **more: Any) -> dict[str, Any]:
    """An entry of GitHub's list of pull requests, of `repos/app` into `main`. more: over its fields."""
    request: dict[str, Any] = json.loads(pull_request_hook(commit, branch))["pull_request"]
    return request | {"updated_at": f"{at:%Y-%m-%dT%H:%M:%SZ}"} | more


def push_event(commit: str, branch: str, user: str) -> dict[str, Any]:
    """An entry of a repository's activity."""
    return {"activity_type": "push", "ref": f"refs/heads/{branch}", "after": commit, "actor": {"login": user}}


def rerequested_hook(commit: str, branch: str, name: str = "slipway/app", sender: str = "ada") -> bytes:
    """A `check_run` delivery: somebody pressed "Re-run"."""
    repo = {"id": 1, "full_name": "repos/app"}
    head, base = {"ref": branch, "sha": commit, "repo": repo}, {"ref": "main", "sha": "0" * 40, "repo": repo}
    run = {"id": 40, "name": name, "head_sha": commit, "pull_requests": [{"number": 9, "head": head, "base": base}]}
    return json.dumps(
        {"action": "rerequested", "check_run": run, "repository": repo, "sender": {"login": sender}}
    ).encode()


def run_hook(run: int, workflow: str = "release.yml", action: str = "completed", title: str = "") -> bytes:
    """A `workflow_run` delivery."""
    described = {"id": run, "status": action, "display_title": title, "path": f".github/workflows/{workflow}"}
    repository = {"full_name": "team/hello"}
    return json.dumps({"action": action, "workflow_run": described, "repository": repository}).encode()
