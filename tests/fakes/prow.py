"""A Prow: Gangway that starts jobs by name, the ProwJobs in its cluster, the logs of their pods, and Deck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.builds import KINDS, STAGES, Build
from tests.fakes.serving import Faulty

TOKEN = "prow-token"
STATES = {"": "pending", "good": "success", "bad": "failure", "aborted": "aborted"}


@dataclass
class Job:
    """One ProwJob. labels and annotations as Gangway copies them."""

    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    refs: dict[str, str]
    build: Build


class FakeProw:
    """State, and the knobs that tests turn. state: shown instead of the true one; late: ends are not written yet."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.jobs: dict[str, Job] = {}
        self.state = ""
        self.late = False
        self.posts = 0
        self.app = Faulty(Starlette(routes=[Route("/{path:path}", self._serve, methods=["GET", "POST", "PATCH"])]))

    async def _serve(self, request: Request) -> Response:
        path = request.url.path.strip("/").split("/")
        if path == ["log"]:  # Deck is open to everybody.
            return self._text(request.query_params["id"])
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"code": 16, "message": "unauthenticated"}, 401)
        cluster = ["apis", "prow.k8s.io", "v1", "namespaces", "default", "prowjobs"]
        match request.method, path:
            case "POST", ["v1", "executions"]:
                return self._start(await request.json())
            case "GET", ["v1", "executions", name] if name in self.jobs:
                return JSONResponse(self._execution(self.jobs[name]))
            case "GET", [*front] if front == cluster:
                key, _, value = request.query_params["labelSelector"].partition("=")
                found = [job for job in self.jobs.values() if job.labels.get(key) == value]
                return JSONResponse({"items": [self._prowjob(job) for job in found]})
            case "GET", [*front, name] if front == cluster and name in self.jobs:
                self.jobs[name].build.look()
                return JSONResponse(self._prowjob(self.jobs[name]))
            case "PATCH", [*front, name] if front == cluster and name in self.jobs:
                build = self.jobs[name].build
                build.aborted = build.aborted or not build.over
                return JSONResponse(self._prowjob(self.jobs[name]))
            case "GET", ["api", "v1", "namespaces", "test-pods", "pods", name, "log"] if name in self.jobs:
                return self._text(str(list(self.jobs).index(name)))
        return JSONResponse({"kind": "Status", "reason": "NotFound", "message": "not found"}, 404)

    def _start(self, body: dict[str, Any]) -> Response:
        if body["job_name"] != self.job:
            said = f'failed to find associated postsubmit job "{body["job_name"]}" from orgRepo "team/hello"'
            return JSONResponse({"code": 2, "message": said}, 500)
        if body["job_execution_type"] == "POSTSUBMIT" and not all(body["refs"].values()):
            return JSONResponse({"code": 3, "message": "gitRefs: failed to validate"}, 400)
        self.posts += 1
        options = body["pod_spec_options"]
        if not all(options["envs"].values()):
            return JSONResponse({"code": 3, "message": "invalid environment variable key/value pair"}, 400)
        refs = body.get("refs", {})
        commit = refs.get("base_sha", "")
        name = f"6f2c0000-0000-4000-8000-{len(self.jobs):012d}"
        build = Build(KINDS.get(commit, "good"), commit, options["envs"])
        self.jobs[name] = Job(name, options["labels"], options["annotations"], refs, build)
        return JSONResponse({"id": name, "job_name": self.job, "job_status": "TRIGGERED"})

    def others(self, count: int) -> None:
        """Other people's jobs."""
        for _ in range(count):
            name = f"other-{len(self.jobs)}"
            self.jobs[name] = Job(name, {}, {}, {}, Build("good"))

    def _state(self, job: Job) -> str:
        return self.state or STATES[job.build.result]

    def _times(self, job: Job) -> tuple[str, str | None]:
        return "2026-01-05T10:00:00Z", "2026-01-05T10:00:41Z" if job.build.over and not self.late else None

    def _url(self, job: Job) -> str:
        return f"https://prow.example/view/gs/logs/{self.job}/{list(self.jobs).index(job.name)}"

    def _execution(self, job: Job) -> dict[str, Any]:
        job.build.look()
        began, ended = self._times(job)
        answer = {"id": job.name, "job_status": self._state(job).upper(), "create_time": began}
        return answer | {"job_url": self._url(job)} | ({"completion_time": ended} if ended else {})

    def _prowjob(self, job: Job) -> dict[str, Any]:
        began, ended = self._times(job)
        status = {"state": self._state(job), "startTime": began, "pod_name": job.name, "url": self._url(job)}
        status |= {"build_id": str(list(self.jobs).index(job.name)), "description": "Pod can not be created"}
        return {
            "metadata": {"name": job.name, "labels": job.labels, "annotations": job.annotations},
            "spec": {"job": self.job, "namespace": "test-pods"},
            "status": status | ({"completionTime": ended} if ended else {}),
        }

    def _text(self, build: str) -> Response:
        job = list(self.jobs.values())[int(build)]
        return PlainTextResponse("".join(job.build.log_of(stage) for stage in STAGES))
