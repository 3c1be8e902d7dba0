"""A Kubernetes API in this process: workloads, pods, events and logs of one namespace, and a controller.

Source: kubernetes/kubernetes API conventions: `Status` bodies of failures, patch content types, `resourceVersion`
conflicts, `observedGeneration` behind `generation` until the controller has looked; watches with bookmarks, a clean
end, and 410 for a version that is gone, on the request or as an event of type ERROR in a 200.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.rollouts import FakeRollouts

Json = dict[str, Any]
STRATEGIC = "application/strategic-merge-patch+json"
PLURALS = {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"}


@dataclass
class FakeKubernetes:
    """deployments (of every kind) and pods by name.

    outcome: `good`, `crashing`, `pulling`, `slow`, `deadline` or `quota`.

    faults: (method, `drop` | `refuse`), taken one by one. rollouts: images that were rolled out. gets and watches: how
    often. gone: `request` or `event`, how the next watch is told that its version is gone; denied: nobody may watch.
    used: (resource, verb) as its access control sees a request.
    """

    pace: float = 0.01
    outcome: str = "good"
    replicas: int = 2
    deployments: dict[str, Json] = field(default_factory=dict)
    pods: dict[str, list[Json]] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    rollouts: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    content_types: list[str] = field(default_factory=list)
    url: str = ""
    rollouts_api: FakeRollouts = field(init=False)
    used: set[tuple[str, str]] = field(default_factory=set)
    gets: int = 0
    lists: int = 0
    watches: int = 0
    gone: str = ""
    denied: bool = False
    _listeners: list[asyncio.Queue[Json | None]] = field(default_factory=list)
    _version: int = 1
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """The controller of Rollouts lives in the same cluster."""
        self.rollouts_api = FakeRollouts(self.pods)

    def add(self, name: str, *containers: str, kind: str = "Deployment") -> None:
        """A workload that has no pods yet."""
        self.deployments[name] = {
            "kind": kind,
            "metadata": {"name": name, "generation": 1, "resourceVersion": "1", "annotations": {}},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"spec": {"containers": [{"name": one, "image": "none:0"} for one in containers]}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            },
            "status": {"observedGeneration": 1},
        }
        self.pods[name] = []

    def changed(self, name: str, kind: str = "MODIFIED") -> None:
        """Give it a new version and tell the watches."""
        self._version += 1
        body = self.deployments[name]
        body["metadata"]["resourceVersion"] = str(self._version)
        self._tell({"type": kind, "object": json.loads(json.dumps(body))})

    def _tell(self, event: Json | None) -> None:
        for queue in self._listeners:
            queue.put_nowait(event)

    def remove(self, name: str) -> None:
        """Delete it."""
        self.changed(name, "DELETED")
        del self.deployments[name]

    def bookmark(self) -> None:
        """Tell the watches a version, and nothing else."""
        self._version += 1
        self._tell({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self._version)}}})

    def expire(self) -> None:
        """Tell the open watches that their version is gone."""
        self._tell({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})

    def cut(self) -> None:
        """End all watches, as a server does after its time."""
        self._tell(None)

    async def _roll(self, name: str) -> None:
        deployment = self.deployments[name]
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        wanted = int(deployment["spec"]["replicas"])
        status: Json = {"replicas": wanted, "updatedReplicas": 0, "availableReplicas": wanted}
        await asyncio.sleep(self.pace)
        deployment["status"] = self._status(deployment, status)
        self.changed(name)
        if self.outcome == "quota":
            failed = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
            deployment["status"]["conditions"] = [failed]
            return self.changed(name)
        while self.outcome == "slow":
            await asyncio.sleep(self.pace)
        if self.outcome == "deadline":
            deployment["status"]["conditions"] = [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]
            return self.changed(name)
        await asyncio.sleep(self.pace)
        status |= {"updatedReplicas": wanted, "availableReplicas": 0}
        deployment["status"] = self._status(deployment, status)
        self.pods[name] = [self._pod(name, n, image) for n in range(wanted)]
        self.changed(name)
        if self.outcome == "good":
            await asyncio.sleep(self.pace)
            deployment["status"] = self._status(deployment, status | {"availableReplicas": wanted})
            self.changed(name)

    def _status(self, workload: Json, numbers: Json) -> Json:
        """The same numbers as each kind of workload tells them."""
        seen = {"observedGeneration": workload["metadata"]["generation"]}
        updated, available = numbers["updatedReplicas"], numbers["availableReplicas"]
        if workload["kind"] == "DaemonSet":
            names = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
            return seen | dict(zip(names, (self.replicas, updated, available), strict=True))
        if workload["kind"] == "StatefulSet":
            revisions = {"currentRevision": "a", "updateRevision": "b"}
            return seen | revisions | {"updatedReplicas": updated, "readyReplicas": available}
        return numbers | seen

    def _pod(self, name: str, number: int, image: str) -> Json:
        named = self.deployments[name]["spec"]["template"]["spec"]["containers"][0]["name"]
        container: Json = {"name": named, "ready": True, "restartCount": 0, "state": {"running": {}}}
        if self.outcome == "crashing":
            container |= {"ready": False, "restartCount": 4}
            container["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
            container["lastState"] = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
        if self.outcome == "pulling":
            container |= {"ready": False, "state": {"waiting": {"reason": "InvalidImageName"}}}
        return {
            "metadata": {"name": f"{name}-{number}", "labels": {"app": name}},
            "spec": {"containers": [{"name": named, "image": image}]},
            "status": {"phase": "Running", "containerStatuses": [container | {"imageID": image}]},
        }

    # --- HTTP

    def application(self) -> web.Application:
        """Routes and checks."""
        app = web.Application(middlewares=[self._checks])
        base = "/api/v1/namespaces/{namespace}"
        workloads = "/apis/apps/v1/namespaces/{namespace}/{plural}"
        app.add_routes(
            [
                web.get(workloads, self._workloads),
                web.get(f"{workloads}/{{name}}", self._get),
                web.patch(f"{workloads}/{{name}}", self._patch),
                *self.rollouts_api.routes(),
                web.get(f"{base}/pods", self._list),
                web.get(f"{base}/pods/{{pod}}/log", self._log),
                web.get(f"{base}/events", self._events),
            ]
        )
        return app

    @web.middleware
    async def _checks(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.used.add(_access(request))
        fault = next((one for one in self.faults if one[0] == request.method), None)
        if fault is not None:
            self.faults.remove(fault)
            if fault[1] == "refuse":
                return _status(503, "the server is currently unable to handle the request")
        response = await handler(request)
        if fault is not None and request.transport is not None:
            request.transport.close()
        return response

    def _named(self, request: web.Request) -> Json | None:
        found = self.deployments.get(request.match_info["name"])
        return found if found is not None and found["kind"] == PLURALS[request.match_info["plural"]] else None

    async def _get(self, request: web.Request) -> web.Response:
        self.gets += 1
        found = self._named(request)
        return web.json_response(found) if found else _status(404, "not found")

    async def _workloads(self, request: web.Request) -> web.StreamResponse:
        kind = PLURALS[request.match_info["plural"]]
        if self.denied:
            return _status(403, "deployments.apps is forbidden")
        if request.query.get("watch") not in ("true", "True", "1"):
            self.lists += 1
            items = [{k: v for k, v in one.items() if k != "kind"} for one in self._of(kind)]
            return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})
        self.watches += 1
        gone, self.gone = self.gone, ""
        if gone == "request":
            return _status(410, "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        queue: asyncio.Queue[Json | None] = asyncio.Queue()
        for one in self._of(kind):
            if int(one["metadata"]["resourceVersion"]) > int(request.query["resourceVersion"] or 0):
                queue.put_nowait({"type": "MODIFIED", "object": one})
        self._listeners.append(queue)
        if gone == "event":
            self.expire()
        try:
            await response.prepare(request)
            while (event := await queue.get()) is not None:
                if event["object"].get("kind", kind) in (kind, "Status"):
                    await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionResetError:
            pass
        finally:
            self._listeners.remove(queue)
        return response

    def _of(self, kind: str) -> list[Json]:
        return [one for one in self.deployments.values() if one["kind"] == kind]

    async def _patch(self, request: web.Request) -> web.Response:
        self.content_types.append(request.headers.get("Content-Type", ""))
        found = self._named(request)
        if found is None:
            return _status(404, "not found")
        if self.content_types[-1] != STRATEGIC:
            return _status(415, "the body of the request was in an unknown format")
        body = json.loads(await request.text())
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != found["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified; please apply your changes to the latest version")
        self._merge(found, body)
        self.changed(request.match_info["name"])
        task = asyncio.ensure_future(self._roll(request.match_info["name"]))
        self._tasks.add(task)
        return web.json_response(found)

    def _merge(self, found: Json, body: Json) -> None:
        metadata = found["metadata"]
        metadata["annotations"] |= body["metadata"]["annotations"]
        metadata["generation"] += 1
        found["spec"]["replicas"] = body["spec"].get("replicas", found["spec"]["replicas"])
        for wanted in body["spec"].get("template", {"spec": {"containers": []}})["spec"]["containers"]:
            for container in found["spec"]["template"]["spec"]["containers"]:
                if container["name"] == wanted["name"]:
                    container |= wanted
                    self.rollouts.append(wanted["image"])

    async def _list(self, request: web.Request) -> web.Response:
        name = request.query.get("labelSelector", "").removeprefix("app=")
        return web.json_response({"items": self.pods.get(name, [])})

    async def _log(self, request: web.Request) -> web.Response:
        return web.Response(text="\n".join(self.logs))

    async def _events(self, request: web.Request) -> web.Response:
        item = {"type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container"}
        return web.json_response({"items": [item]})

    async def stop(self) -> None:
        """End what the controller does."""
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _access(request: web.Request) -> tuple[str, str]:
    """The resource and the verb of a request."""
    kind, *rest = request.path.partition("/namespaces/")[2].split("/")[1:]
    if request.method == "PATCH":
        return "/".join([kind, *rest[1:]]), "patch"
    if rest:
        return "/".join([kind, *rest[1:]]), "get"
    return kind, "watch" if request.query.get("watch") else "list"


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


@asynccontextmanager
async def running_kubernetes() -> AsyncIterator[FakeKubernetes]:
    """Serve it on 127.0.0.1; `fake.url` is its address."""
    fake = FakeKubernetes()
    runner = web.AppRunner(fake.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await fake.stop()
        await runner.cleanup()
