"""A Kubernetes API in this process: Deployments, pods, events and logs of one namespace, and a controller.

Source: kubernetes/kubernetes API conventions: `Status` bodies of failures, patch content types, `resourceVersion`
conflicts, `observedGeneration` behind `generation` until the controller has looked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]
STRATEGIC = "application/strategic-merge-patch+json"


@dataclass
class FakeKubernetes:
    """deployments and pods by name. outcome: `good`, `crashing`, `pulling`, `slow`, `deadline` or `quota`.

    faults: (method, `drop` | `refuse`), taken one by one. rollouts: images that were rolled out.
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
    _version: int = 1
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, name: str, *containers: str) -> None:
        """A Deployment that has no pods yet."""
        self.deployments[name] = {
            "metadata": {"name": name, "generation": 1, "resourceVersion": "1", "annotations": {}},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"spec": {"containers": [{"name": one, "image": "none:0"} for one in containers]}},
            },
            "status": {"observedGeneration": 1},
        }
        self.pods[name] = []

    async def _roll(self, name: str) -> None:
        deployment = self.deployments[name]
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        status: Json = {"replicas": self.replicas, "updatedReplicas": 0, "availableReplicas": self.replicas}
        await asyncio.sleep(self.pace)
        deployment["status"] = status | {"observedGeneration": deployment["metadata"]["generation"]}
        status = deployment["status"]
        if self.outcome == "quota":
            status["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}]
            return
        while self.outcome == "slow":
            await asyncio.sleep(self.pace)
        if self.outcome == "deadline":
            status["conditions"] = [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]
            return
        await asyncio.sleep(self.pace)
        status |= {"updatedReplicas": self.replicas, "availableReplicas": 0}
        self.pods[name] = [self._pod(name, n, image) for n in range(self.replicas)]
        if self.outcome == "good":
            await asyncio.sleep(self.pace)
            status["availableReplicas"] = self.replicas

    def _pod(self, name: str, number: int, image: str) -> Json:
        container: Json = {"name": name, "ready": True, "restartCount": 0, "state": {"running": {}}}
        if self.outcome == "crashing":
            container |= {"ready": False, "restartCount": 4}
            container["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
            container["lastState"] = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
        if self.outcome == "pulling":
            container |= {"ready": False, "state": {"waiting": {"reason": "InvalidImageName"}}}
        return {
            "metadata": {"name": f"{name}-{number}", "labels": {"app": name}},
            "spec": {"containers": [{"name": name, "image": image}]},
            "status": {"phase": "Running", "containerStatuses": [container | {"imageID": image}]},
        }

    # --- HTTP

    def application(self) -> web.Application:
        """Routes and checks."""
        app = web.Application(middlewares=[self._checks])
        base = "/api/v1/namespaces/{namespace}"
        deployment = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        app.add_routes(
            [
                web.get(deployment, self._get),
                web.patch(deployment, self._patch),
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
        fault = next((one for one in self.faults if one[0] == request.method), None)
        if fault is not None:
            self.faults.remove(fault)
            if fault[1] == "refuse":
                return _status(503, "the server is currently unable to handle the request")
        response = await handler(request)
        if fault is not None and request.transport is not None:
            request.transport.close()
        return response

    async def _get(self, request: web.Request) -> web.Response:
        found = self.deployments.get(request.match_info["name"])
        return web.json_response(found) if found else _status(404, "not found")

    async def _patch(self, request: web.Request) -> web.Response:
        self.content_types.append(request.headers.get("Content-Type", ""))
        found = self.deployments.get(request.match_info["name"])
        if found is None:
            return _status(404, "not found")
        if self.content_types[-1] != STRATEGIC:
            return _status(415, "the body of the request was in an unknown format")
        body = json.loads(await request.text())
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != found["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified; please apply your changes to the latest version")
        self._merge(found, body)
        task = asyncio.ensure_future(self._roll(request.match_info["name"]))
        self._tasks.add(task)
        return web.json_response(found)

    def _merge(self, found: Json, body: Json) -> None:
        self._version += 1
        metadata = found["metadata"]
        metadata["annotations"] |= body["metadata"]["annotations"]
        metadata |= {"resourceVersion": str(self._version), "generation": metadata["generation"] + 1}
        for wanted in body["spec"]["template"]["spec"]["containers"]:
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


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
