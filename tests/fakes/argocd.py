"""An Argo CD in this process: its REST paths, error envelope, stream and the life of an operation.

Source: argoproj/argo-cd v3.5.1 server/server.go (content types), server/application/application.go (checks of a sync
and their order), controller/appcontroller.go (states of an operation), grpc-gateway v1 runtime/errors.go (envelope).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

Json = dict[str, Any]
HTTP_OF = {2: 500, 3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 10: 409, 13: 500, 14: 503, 16: 401}
TOKEN = "argo.token.signed"


class Refusal(Exception):
    """A failed call, by its gRPC code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def stamp() -> str:
    """RFC 3339 with whole seconds, as Argo CD writes."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class FakeArgoCD:
    """Applications by name, and what a sync of them leads to.

    images: revision -> the image it asks for; render: tells it instead. hooks: Jobs that run before each sync.
    steps: of every Rollout, which then stands at its first pause. inconclusive: a paused Rollout is paused by an
    analysis without a result. analysis: an AnalysisRun that failed. outcome: application -> `good`, `failing`,
    `slow`, `degraded`, `progressing`, `paused` (a Rollout at its pause), `crashing` (healthy application, crash-looping
    pod).
    faults: taken one by one by calls whose method and path end match: `drop` (done, but not answered), `refuse`
    (not done, 503), `cut` (connection closed before). pace: seconds between two steps of an operation. below: the
    applications that one manages. retries: how often an operation fails before it comes to its end. deaf: the
    streams stay open and tell nothing, as after their buffer was full.
    """

    pace: float = 0.01
    keepalive: float = 15.0
    apps: dict[str, Json] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    render: Callable[[str], str] | None = None
    hooks: list[str] = field(default_factory=list)
    steps: list[Json] = field(default_factory=list)
    inconclusive: bool = False
    positions: dict[str, int] = field(default_factory=dict)
    analysis: Json | None = None
    outcome: dict[str, str] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    windows: dict[str, Json] = field(default_factory=dict)
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    syncs: list[Json] = field(default_factory=list)
    operations: list[tuple[str, str]] = field(default_factory=list)
    actions: list[tuple[str, str]] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    below: dict[str, list[str]] = field(default_factory=dict)
    retries: int = 0
    deaf: bool = False
    streams: int = 0
    sync_windows: dict[str, list[Json]] = field(default_factory=dict)
    token: str = TOKEN
    url: str = ""
    _version: int = 100
    _runner: web.AppRunner | None = None
    _listeners: list[asyncio.Queue[str | None]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    # --- what a test sets up

    def add(self, name: str, *, project: str = "default", auto_sync: bool = False, sources: int = 0) -> Json:
        """An application that was never synced."""
        source = {"repoURL": "https://git.example/ops.git", "path": name, "targetRevision": "main"}
        spec: Json = {"project": project, "destination": {"namespace": "shop"}, "source": source}
        if sources:
            spec["sources"] = [source] * sources
        if auto_sync:
            spec["syncPolicy"] = {"automated": {"prune": False}}
        app: Json = {"metadata": {"name": name, "namespace": "argocd"}, "spec": spec}
        self.apps[name] = app
        self.changed(app)
        return app

    def changed(self, app: Json) -> None:
        """Give it a new resource version and tell the streams."""
        self._version += 1
        app["metadata"]["resourceVersion"] = str(self._version)
        event = json.dumps({"result": {"type": "MODIFIED", "application": app}})
        for queue in self._listeners if not self.deaf else ():
            queue.put_nowait(event)

    def begin(self, name: str, *, revision: str, info: list[Json] | None = None, automated: bool = False) -> None:
        """Put an operation in place, as the API and as automatic sync do."""
        app = self.apps[name]
        if app.get("operation"):
            raise Refusal(9, "another operation is already in progress")
        by = {"automated": True} if automated else {"username": "slipway"}
        app["operation"] = {"info": info or [], "initiatedBy": by, "sync": {"revision": revision}}
        app.setdefault("status", {}).pop("operationState", None)
        self.operations.append((name, revision))
        self.changed(app)
        self.spawn(self._operate(app))

    def spawn(self, work: Awaitable[None]) -> None:
        """Let the controller do something in the background."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cut_streams(self) -> None:
        """Break all links at once."""
        for queue in self._listeners:
            queue.put_nowait(None)

    # --- the controller

    async def _operate(self, app: Json) -> None:
        name, operation = app["metadata"]["name"], app["operation"]
        status = app["status"]
        await asyncio.sleep(self.pace)
        revision = operation["sync"].get("revision") or self.heads.get(name, "")
        state: Json = {"phase": "Running", "startedAt": stamp(), "operation": operation, "message": ""}
        status["operationState"] = state
        self.changed(app)
        while self.outcome.get(name) == "slow" and state["phase"] == "Running":
            await asyncio.sleep(self.pace)
        outcome = self.outcome.get(name, "good")
        await asyncio.sleep(self.pace)
        if state["phase"] == "Terminating":
            self._end(app, state, "Failed", "Operation terminated")
            return
        for attempt in range(self.retries):  # Over for this time, and not over: `operation` and the phase say so.
            message = f"one or more objects failed to apply. Retrying attempt #{attempt + 1} at 3:04PM."
            state |= {"message": message, "finishedAt": stamp(), "retryCount": attempt + 1}
            self.changed(app)
            await asyncio.sleep(self.pace)
            state.pop("finishedAt")
            self.changed(app)
        state["syncResult"] = self._revisions(app, revision) | {
            "resources": [_result(name, outcome), *map(_hook, self.hooks)]
        }
        if outcome == "failing":
            self._end(app, state, "Failed", "one or more objects failed to apply, reason: the cluster said no")
            return
        self._end(app, state, "Succeeded", "successfully synced (all tasks run)")
        # Healthy before the new generation is seen, as Argo CD really tells it: a trap for whoever is in a hurry.
        await asyncio.sleep(self.pace)
        await self._reconcile(app, revision, outcome)

    def _revisions(self, app: Json, revision: str) -> Json:
        """Of one source, or of many: the others have commits of their own."""
        sources = app["spec"].get("sources") or []
        if not sources:
            return {"revision": revision}
        ours = self.positions.get(app["metadata"]["name"], 1)
        return {"revisions": [revision if at == ours else f"{at:040x}" for at in range(1, len(sources) + 1)]}

    def _end(self, app: Json, state: Json, phase: str, message: str) -> None:
        state |= {"phase": phase, "message": message, "finishedAt": stamp()}
        app.pop("operation", None)
        self.changed(app)

    async def _reconcile(self, app: Json, revision: str, outcome: str) -> None:
        self._compare(app, revision, "Progressing")
        await asyncio.sleep(self.pace)
        health = {"degraded": "Degraded", "progressing": "Progressing", "paused": "Suspended"}.get(outcome, "Healthy")
        self._compare(app, revision, health)

    def _compare(self, app: Json, revision: str, health: str) -> None:
        name, status = app["metadata"]["name"], app["status"]
        kind, group = _workload(self.outcome.get(name, "good"))
        if status.get("health", {}).get("status") != health:
            status["health"] = {"status": health, "lastTransitionTime": stamp()}
        item = {"group": group, "version": "v1", "kind": kind, "namespace": "shop", "name": name, "status": "Synced"}
        status["resources"] = [
            item | {"health": {"status": health}},
            {"version": "v1", "kind": "Service", "namespace": "shop", "name": name, "status": "Synced"},
        ]
        child = {"group": "argoproj.io", "version": "v1alpha1", "kind": "Application", "namespace": "argocd"}
        status["resources"] += [child | {"name": one, "status": "Synced"} for one in self.below.get(name, ())]
        status["sync"] = {"status": "Synced"} | self._revisions(app, revision)
        status["reconciledAt"] = stamp()
        if image := self.render(revision) if self.render is not None else self.images.get(revision):
            status["summary"] = {"images": [image]}
        self.changed(app)

    async def _project(self, request: web.Request) -> web.Response:
        name = request.match_info["project"]
        windows = {"spec": {"syncWindows": self.sync_windows.get(name, [])}}
        everywhere = [{"spec": {"syncWindows": self.sync_windows["*"]}}] if "*" in self.sync_windows else None
        return web.json_response({"project": {"metadata": {"name": name}, **windows}, "globalProjects": everywhere})

    # --- HTTP

    def application(self) -> web.Application:
        """Routes and checks."""
        app = web.Application(middlewares=[self._checks])
        base = "/api/v1/applications/{name}"
        app.add_routes(
            [
                web.post("/api/v1/session", self._session),
                web.get("/api/v1/stream/applications", self._stream),
                web.get("/api/v1/session/userinfo", self._userinfo),
                web.get("/api/version", self._version_of),
                web.get("/api/v1/projects/{project}/detailed", self._project),
                web.get("/api/v1/account/can-i/{resource}/{action}/{project}/{name}", self._can_i),
                web.get(base, self._get),
                web.post(f"{base}/sync", self._sync),
                web.delete(f"{base}/operation", self._terminate),
                web.get(f"{base}/syncwindows", self._windows),
                web.get(f"{base}/resource-tree", self._tree),
                web.get(f"{base}/resource", self._resource),
                web.get(f"{base}/events", self._events),
                web.get(f"{base}/logs", self._logs),
                web.post(f"{base}/resource/actions", self._act),
            ]
        )
        return app

    @web.middleware
    async def _checks(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        fault = self._fault(request)
        if fault == "cut":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if fault == "refuse":
            return _refused(Refusal(14, "upstream connect error"))
        if request.method != "GET" and request.headers.get("Content-Type", "").lower() != "application/json":
            return web.Response(status=415, text="Invalid content type")
        public = request.path in ("/api/v1/session", "/api/v1/session/userinfo", "/api/version")
        if not public and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _refused(Refusal(16, "no session information"))
        try:
            response = await handler(request)
        except Refusal as refusal:
            return _refused(refusal)
        if fault == "drop":
            assert request.transport is not None
            request.transport.close()
        return response

    def _fault(self, request: web.Request) -> str:
        for number, (method, end, kind) in enumerate(self.faults):
            if request.method == method and request.path.endswith(end):
                del self.faults[number]
                return kind
        return ""

    def _found(self, request: web.Request, body: Json | None = None) -> Json:
        name = request.match_info["name"]
        project = (body or {}).get("project") or request.query.get("project", "")
        app = self.apps.get(name)
        if app is None or (project and app["spec"]["project"] != project):
            raise (
                Refusal(5, f"applications.argoproj.io {name!r} not found")
                if project
                else Refusal(7, "permission denied")
            )
        return app

    async def _session(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("password") != "right-password":
            raise Refusal(16, "Invalid username or password")
        return web.json_response({"token": self.token})

    async def _userinfo(self, request: web.Request) -> web.Response:
        known = request.headers.get("Authorization") == f"Bearer {self.token}"
        return web.json_response({"loggedIn": known, "username": "slipway", "iss": "argocd"} if known else {})

    async def _version_of(self, request: web.Request) -> web.Response:
        return web.json_response({"Version": "v3.5.1+109ca7c"})

    async def _can_i(self, request: web.Request) -> web.Response:
        yes = request.match_info["name"] not in self.forbidden
        return web.json_response({"value": "yes" if yes else "no"})

    async def _get(self, request: web.Request) -> web.Response:
        app = self._found(request)
        name = app["metadata"]["name"]
        self.gets.append(name + ("?refresh" if request.query.get("refresh") else ""))
        status = app.get("status", {})
        if request.query.get("refresh") and status.get("sync", {}).get("revision"):
            status["reconciledAt"] = stamp()
            self.changed(app)
        return web.json_response(app)

    async def _sync(self, request: web.Request) -> web.Response:
        body = await request.json()
        app = self._found(request, body)
        name = app["metadata"]["name"]
        if not self.windows.get(name, {}).get("canSync", True):
            raise Refusal(7, "cannot sync: blocked by sync window")
        revision = (body.get("revisions") or [body.get("revision", "")])[0]
        if revision and app["spec"].get("syncPolicy", {}).get("automated"):
            raise Refusal(9, f"Cannot sync to {revision}: auto-sync currently set to main")
        if app["spec"].get("sources"):
            positions, revisions = body.get("sourcePositions") or [], body.get("revisions") or []
            if len(positions) != len(revisions) or not all(0 < at <= len(app["spec"]["sources"]) for at in positions):
                raise Refusal(3, "source position is out of range")
            self.positions[name] = positions[0]
        self.syncs.append(body)
        self.begin(name, revision=revision, info=body.get("infos"))
        return web.json_response(app)

    async def _terminate(self, request: web.Request) -> web.Response:
        app = self._found(request)
        state = app.get("status", {}).get("operationState")
        if not app.get("operation"):
            raise Refusal(3, "Unable to terminate operation. No operation is in progress")
        if state is not None:
            state["phase"] = "Terminating"
        else:
            self.outcome[app["metadata"]["name"]] = "slow"
            self.spawn(self._terminate_soon(app))
        self.changed(app)
        return web.json_response({})

    async def _terminate_soon(self, app: Json) -> None:
        while not app["status"].get("operationState"):
            await asyncio.sleep(self.pace / 2)
        app["status"]["operationState"]["phase"] = "Terminating"

    async def _windows(self, request: web.Request) -> web.Response:
        app = self._found(request)
        return web.json_response(self.windows.get(app["metadata"]["name"], {"canSync": True}))

    async def _tree(self, request: web.Request) -> web.Response:
        app = self._found(request)
        name = app["metadata"]["name"]
        images = app.get("status", {}).get("summary", {}).get("images", [])
        nodes: list[Json] = []
        for number, image in enumerate(images):
            info = [{"name": "Status Reason", "value": "Running"}]
            if self.outcome.get(name) in ("crashing", "degraded"):
                info = [
                    {"name": "Status Reason", "value": "CrashLoopBackOff"},
                    {"name": "Restart Count", "value": "7"},
                ]
            nodes.append(_pod(name, number, image, info))
        if self.analysis is not None:
            run = {"group": "argoproj.io", "version": "v1alpha1", "kind": "AnalysisRun", "namespace": "shop"}
            nodes.append(
                {**run, "name": "hello-1", "health": {"status": "Degraded"}, "createdAt": "2026-01-05T10:00:00Z"}
            )
        return web.json_response({"nodes": nodes})

    async def _resource(self, request: web.Request) -> web.Response:
        app = self._found(request)
        if request.query.get("kind") == "AnalysisRun":
            return web.json_response({"manifest": json.dumps(self.analysis)})
        if request.query.get("kind") == "Rollout" and self.inconclusive:
            status = {"pauseConditions": [{"reason": "InconclusiveAnalysisRun"}], "controllerPause": True}
            return web.json_response({"manifest": json.dumps({"status": status})})
        if request.query.get("kind") == "Rollout" and self.steps:
            at = next((number for number, step in enumerate(self.steps) if "pause" in step), 0)
            rollout = {"spec": {"strategy": {"canary": {"steps": self.steps}}}, "status": {"currentStepIndex": at}}
            return web.json_response({"manifest": json.dumps(rollout)})
        image = (app.get("status", {}).get("summary", {}).get("images") or [""])[0]
        container = {
            "name": "main",
            "image": image,
            "imageID": f"docker-pullable://{image}",
            "ready": False,
            "restartCount": 7,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
            "lastState": {"terminated": {"reason": "Error", "exitCode": 1}},
        }
        return web.json_response({"manifest": json.dumps({"status": {"containerStatuses": [container]}})})

    async def _events(self, request: web.Request) -> web.Response:
        self._found(request)
        event = {"type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container"}
        return web.json_response({"items": [event | {"lastTimestamp": stamp()}]})

    async def _logs(self, request: web.Request) -> web.Response:
        self._found(request)
        lines = [{"result": {"content": line, "podName": "p", "last": False}} for line in self.logs]
        said = "ERROR: unable to retrieve container logs for containerd://1"
        lines.append({"result": {"content": said, "podName": "", "last": False}})
        text = "\n".join(json.dumps(line) for line in [*lines, {"result": {"content": "", "last": True}}])
        return web.Response(text=text, content_type="application/json")

    async def _act(self, request: web.Request) -> web.Response:
        app = self._found(request)
        action = json.loads(await request.text())
        if not isinstance(action, str):
            raise Refusal(3, "invalid body")
        name, kind = app["metadata"]["name"], request.query["kind"]
        self.actions.append((f"{kind}/{request.query['resourceName']}", action))
        revision = app["status"]["sync"].get("revision", "")
        if action in ("resume", "promote-full", "skip-current-step"):
            self.spawn(self._reconcile(app, revision, "good"))
        elif action == "abort":
            self._compare(app, revision, "Degraded")
        assert name
        return web.json_response({})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners.append(queue)
        self.streams += 1
        try:
            await response.prepare(request)
            await response.write(b":\n")
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), self.keepalive)
                except TimeoutError:
                    await response.write(b":\n")
                    continue
                if event is None:
                    break
                await response.write(f"data: {event} \n\n\n".encode())
            if request.transport is not None:
                request.transport.close()
        except ConnectionResetError:
            pass
        finally:
            self._listeners.remove(queue)
        return response

    async def serve(self, port: int = 0) -> None:
        """Answer on 127.0.0.1; `url` is the address."""
        self._runner = web.AppRunner(self.application(), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def restart(self, away: float = 0.1) -> None:
        """The API server goes and comes again at its address; what it keeps in the cluster stays."""
        assert self._runner is not None
        port = int(self.url.rpartition(":")[2])
        self.cut_streams()
        await self._runner.cleanup()
        await asyncio.sleep(away)
        await self.serve(port)

    async def stop(self) -> None:
        """End what the controller does, and the server."""
        self.cut_streams()
        if self._runner is not None:
            await self._runner.cleanup()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _workload(outcome: str) -> tuple[str, str]:
    return ("Rollout", "argoproj.io") if outcome == "paused" else ("Deployment", "apps")


def _result(name: str, outcome: str) -> Json:
    kind, group = _workload(outcome)
    result = {"group": group, "version": "v1", "kind": kind, "namespace": "shop", "name": name, "syncPhase": "Sync"}
    if outcome == "failing":
        message = "error: the cluster said no (tried with password=hunter22)"
        return result | {"status": "SyncFailed", "hookPhase": "Failed", "message": message}
    return result | {"status": "Synced", "hookPhase": "Running", "message": "configured"}


def _hook(name: str) -> Json:
    result = {"group": "batch", "version": "v1", "kind": "Job", "namespace": "shop", "name": name}
    return result | {"syncPhase": "PreSync", "hookType": "PreSync", "hookPhase": "Succeeded", "status": "Synced"}


def _pod(name: str, number: int, image: str, info: list[Json]) -> Json:
    return {
        "version": "v1",
        "kind": "Pod",
        "namespace": "shop",
        "name": f"{name}-{number}",
        "uid": f"uid-{name}-{number}",
        "images": [image],
        "info": info,
        "createdAt": stamp(),
    }


def _refused(refusal: Refusal) -> web.Response:
    body = {"error": refusal.message, "code": refusal.code, "message": refusal.message}
    return web.json_response(body, status=HTTP_OF[refusal.code])


@asynccontextmanager
async def running_argocd(fake: FakeArgoCD | None = None, port: int = 0) -> AsyncIterator[FakeArgoCD]:
    """Serve it on 127.0.0.1; `fake.url` is its address."""
    fake = fake or FakeArgoCD()
    await fake.serve(port)
    try:
        yield fake
    finally:
        await fake.stop()
