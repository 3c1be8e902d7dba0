"""Merge requests of a GitLab and pull requests of a GitHub, over a real bare repository: merging really merges.

Source: GitLab REST API v4 merge_requests (409 for a second one of a branch, 405 not mergeable, 409 the head moved);
GitHub REST API pulls (422 for a second one, 405 not mergeable, 409 the head moved).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.repositories import BareRepository, git

Json = dict[str, Any]
TOKEN = "host-token"


@dataclass
class Request:
    """One merge request. merge: the commit it became."""

    number: int
    source: str
    target: str
    title: str
    text: str
    labels: list[str] = field(default_factory=list)
    state: str = "open"
    merge: str = ""
    head: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class FakeCodeHost:
    """kind: `gitlab` or `github`. blocked: why nothing can be merged now, in the host's word; faults: path ends of
    POSTs that are done and not answered. required: commit statuses without which GitHub merges nothing."""

    kind: str
    repository: BareRepository
    project: str = "ops/config"
    requests: list[Request] = field(default_factory=list)
    blocked: str = ""
    required: tuple[str, ...] = ()
    statuses: dict[str, dict[str, Json]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    url: str = ""

    def application(self) -> web.Application:
        """Routes of both; each kind answers its own."""
        app = web.Application(middlewares=[self._checks])
        gitlab, github = "/api/v4/projects/{project}", f"/repos/{self.project}"
        app.add_routes(
            [
                web.get(f"{gitlab}/merge_requests", self._list),
                web.post(f"{gitlab}/merge_requests", self._open),
                web.put(f"{gitlab}/merge_requests/{{number}}", self._edit),
                web.put(f"{gitlab}/merge_requests/{{number}}/merge", self._merge),
                web.post(f"{gitlab}/merge_requests/{{number}}/notes", self._note),
                web.get(f"{github}/commits/{{sha}}/status", self._status),
                web.post(f"{github}/statuses/{{sha}}", self._set_status),
                web.delete(f"{gitlab}/repository/branches/{{branch:.*}}", self._delete),
                web.get(f"{github}/pulls", self._list),
                web.post(f"{github}/pulls", self._open),
                web.patch(f"{github}/pulls/{{number}}", self._edit),
                web.put(f"{github}/pulls/{{number}}/merge", self._merge),
                web.post(f"{github}/issues/{{number}}/labels", self._label),
                web.delete(f"{github}/git/refs/heads/{{branch:.*}}", self._delete),
            ]
        )
        return app

    @web.middleware
    async def _checks(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get("PRIVATE-TOKEN") if self.kind == "gitlab" else request.headers.get("Authorization")
        if given != (TOKEN if self.kind == "gitlab" else f"Bearer {TOKEN}"):
            return web.json_response({"message": "401 Unauthorized"}, status=401)
        if request.match_info.get("project", self.project) != self.project:
            return web.json_response({"message": "404 Project Not Found"}, status=404)
        response = await handler(request)
        for end in self.faults:
            if request.method == "POST" and request.path.endswith(end) and request.transport is not None:
                self.faults.remove(end)
                request.transport.close()
                break
        return response

    # --- what a person does there

    def may_merge(self, number: int = 1) -> bool:
        """Whether its button can be pressed: no draft, and every required status is good."""
        one = self.requests[number - 1]
        head = git(self.repository.directory, "rev-parse", one.source)
        said = self.statuses.get(head, {})
        return not one.title.startswith("Draft:") and all(
            said.get(name, {}).get("state") == "success" for name in self.required
        )

    def merge(self, number: int = 1) -> str:
        """Merge it, as its button does; returns the merge commit."""
        one = self.requests[number - 1]
        directory = self.repository.directory
        tree = git(directory, "merge-tree", "--write-tree", one.target, one.source).splitlines()[0]
        parents = ("-p", one.target, "-p", one.source)
        one.merge = git(directory, "commit-tree", tree, *parents, "-m", f"Merge {one.source}")
        one.head = git(directory, "rev-parse", one.source)
        git(directory, "update-ref", f"refs/heads/{one.target}", one.merge)
        git(directory, "update-ref", "-d", f"refs/heads/{one.source}")
        one.state = "merged"
        return one.merge

    # --- HTTP

    def _json(self, one: Request) -> Json:
        head = one.head or git(self.repository.directory, "rev-parse", one.source)
        if self.kind == "gitlab":
            state = {"open": "opened"}.get(one.state, one.state)
            return {
                "iid": one.number,
                "web_url": f"https://gitlab.example/{self.project}/-/merge_requests/{one.number}",
                "state": state,
                "title": one.title,
                "draft": one.title.startswith("Draft:"),
                "sha": head,
                "merge_commit_sha": one.merge or None,
                "squash_commit_sha": None,
                "detailed_merge_status": self.blocked or "mergeable",
            }
        return {
            "number": one.number,
            "title": one.title,
            "html_url": f"https://github.example/{self.project}/pull/{one.number}",
            "state": "open" if one.state == "open" else "closed",
            "merged_at": "2026-01-05T10:00:00Z" if one.state == "merged" else None,
            "merge_commit_sha": one.merge or "0" * 40,  # GitHub's test merge, while it is open.
            "head": {"sha": head, "ref": one.source},
        }

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        source = query.get("source_branch") or query["head"].partition(":")[2]
        found = [self._json(one) for one in reversed(self.requests) if one.source == source]
        return web.json_response(found)

    async def _open(self, request: web.Request) -> web.Response:
        body = await request.json()
        gitlab = self.kind == "gitlab"
        source, target = (body["source_branch"], body["target_branch"]) if gitlab else (body["head"], body["base"])
        if any(one.source == source and one.state == "open" for one in self.requests):
            return web.json_response({"message": "another one exists"}, status=409 if gitlab else 422)
        labels = body.get("labels", "").split(",") if gitlab else []
        text = body["description"] if gitlab else body["body"]
        one = Request(len(self.requests) + 1, source, target, body["title"], text, labels)
        self.requests.append(one)
        return web.json_response(self._json(one), status=201)

    async def _label(self, request: web.Request) -> web.Response:
        self._named(request).labels += (await request.json())["labels"]
        return web.json_response([])

    def _named(self, request: web.Request) -> Request:
        return self.requests[int(request.match_info["number"]) - 1]

    async def _note(self, request: web.Request) -> web.Response:
        self._named(request).notes.append((await request.json())["body"])
        return web.json_response({}, status=201)

    async def _status(self, request: web.Request) -> web.Response:
        said = self.statuses.get(request.match_info["sha"], {})
        return web.json_response({"state": "pending", "statuses": list(said.values())})

    async def _set_status(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["state"] not in ("error", "failure", "pending", "success") or len(body["description"]) > 140:
            return web.json_response({"message": "Validation Failed"}, status=422)
        self.statuses.setdefault(request.match_info["sha"], {})[body["context"]] = body
        return web.json_response(body, status=201)

    async def _edit(self, request: web.Request) -> web.Response:
        body, one = await request.json(), self._named(request)
        one.title = body.get("title", one.title)
        if body.get("state_event") == "close" or body.get("state") == "closed":
            one.head = git(self.repository.directory, "rev-parse", one.source)
            one.state = "closed"
        return web.json_response(self._json(one))

    async def _merge(self, request: web.Request) -> web.Response:
        one, body = self._named(request), await request.json()
        if self.blocked:
            return web.json_response({"message": "405 Method Not Allowed"}, status=405)
        if body["sha"] != git(self.repository.directory, "rev-parse", one.source):
            return web.json_response({"message": "SHA does not match HEAD of source branch"}, status=409)
        self.merge(one.number)
        return web.json_response(self._json(one))

    async def _delete(self, request: web.Request) -> web.Response:
        git(self.repository.directory, "update-ref", "-d", f"refs/heads/{request.match_info['branch']}")
        return web.Response(status=204)


@asynccontextmanager
async def running_code_host(kind: str, repository: BareRepository) -> AsyncIterator[FakeCodeHost]:
    """Serve it on 127.0.0.1; `host.url` is its address."""
    fake = FakeCodeHost(kind, repository)
    runner = web.AppRunner(fake.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
