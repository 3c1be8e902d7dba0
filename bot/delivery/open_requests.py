"""Open merge requests and pull requests as their hosts list them, and who pushed what is at their head.

Source: GitLab REST API v4 `merge_requests` (`scope=all`, `updated_after`) and `projects/:id/events` (`action=pushed`);
GitHub REST API `pulls` (list, newest change first) and `repos/{owner}/{repo}/activity`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx

from bot.pipelines.http import Http
from bot.pipelines.settings import CiSettings

Json = Mapping[str, Any]

PAGES = 10
"""Of a hundred, newest change first: what changed before those was seen by an earlier look."""
PUSHES = 100
"""So many pushes are looked through for one."""


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """An open merge request. repo: `group/name` it is to be merged in; branch: it comes from; commit: its head."""

    repo: str
    number: int
    branch: str
    into: str
    commit: str
    is_draft: bool
    is_fork: bool
    url: str


class OpenRequests(Protocol):
    """Looks at one host."""

    provider: str

    async def changed(self, addresses: Sequence[str], since: datetime) -> list[OpenRequest]:
        """Those open now that changed since then. addresses: of the repositories that matter; others may be among them.

        Raises ProviderUnavailable, or ProviderRejected: the credentials are not enough.
        """
        ...

    async def pusher(self, request: OpenRequest) -> str:
        """The account that pushed its head, empty if the host does not tell. Raises as `changed`."""
        ...


class GitLabRequests:
    """One question for all projects that the token sees."""

    provider = "gitlab"

    def __init__(self, client: httpx.AsyncClient) -> None:
        """The client brings the address that ends with `/api/v4/`, and the token."""
        self._http = Http("GitLab", client)

    async def changed(self, addresses: Sequence[str], since: datetime) -> list[OpenRequest]:
        """See OpenRequests."""
        wanted = {"scope": "all", "state": "opened", "updated_after": since.isoformat(), "order_by": "updated_at"}
        found = []
        for page in range(1, PAGES + 1):
            listed = await self._http.get_json("merge_requests", {**wanted, "per_page": 100, "page": page}) or ()
            found += [_of_gitlab(one) for one in listed]
            if len(listed) < 100:
                break
        return found

    async def pusher(self, request: OpenRequest) -> str:
        """See OpenRequests."""
        path = f"projects/{quote(request.repo, safe='')}/events"
        for event in await self._http.get_json(path, {"action": "pushed", "per_page": PUSHES}) or ():
            push = event.get("push_data") or {}
            if (push.get("commit_to"), push.get("ref")) == (request.commit, request.branch):
                return str(event.get("author_username") or "")
        return ""


class GitHubRequests:
    """One question for each repository of that host."""

    provider = "github"

    def __init__(self, client: httpx.AsyncClient, address: str) -> None:
        """The client brings the address of the API and the credentials. address: the API's, which tells the host."""
        self._http = Http("GitHub", client)
        self._host = (urlsplit(address).hostname or "").removeprefix("api.")

    async def changed(self, addresses: Sequence[str], since: datetime) -> list[OpenRequest]:
        """See OpenRequests."""
        query = {"state": "open", "sort": "updated", "direction": "desc", "per_page": 100}
        found = []
        for repo in sorted({name for one in addresses if (name := self._name(one))}):
            listed = await self._http.get_json(f"repos/{repo}/pulls", query) or ()
            found += [_of_github(repo, one) for one in listed if str(one.get("updated_at")) >= _stamp(since)]
        return found

    async def pusher(self, request: OpenRequest) -> str:
        """See OpenRequests."""
        query = {"ref": f"refs/heads/{request.branch}", "per_page": PUSHES}
        for one in await self._http.get_json(f"repos/{request.repo}/activity", query) or ():
            if one.get("after") == request.commit:
                return str((one.get("actor") or {}).get("login") or "")
        return ""

    def _name(self, address: str) -> str:
        """`owner/name` of a repository here, empty for one of another host. A path has no host."""
        rest = address.removesuffix("/").removesuffix(".git")
        if "://" in rest:
            parts = urlsplit(rest)
            host, rest = parts.hostname or "", parts.path
        else:
            host, _, rest = rest.rpartition(":")
            host = host.rpartition("@")[2]
        if host and host.casefold() != self._host.casefold():
            return ""
        return "/".join(rest.strip("/").split("/")[-2:])


def open_requests(settings: CiSettings, closing: list[Callable[[], Awaitable[None]]]) -> list[OpenRequests]:
    """Of the hosts that are set up, reached as their pipelines are. closing: grows by what ends their connections."""
    from bot.pipelines.outside import github_client, gitlab_client

    hosts: list[OpenRequests] = []
    if settings.gitlab_url:
        client = gitlab_client(settings)
        closing.append(client.aclose)
        hosts.append(GitLabRequests(client))
    if settings.github_url:
        client = github_client(settings)
        closing.append(client.aclose)
        hosts.append(GitHubRequests(client, settings.github_url))
    return hosts


def _stamp(at: datetime) -> str:
    """As GitHub writes instants; such texts are in order of time."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _of_gitlab(body: Json) -> OpenRequest:
    source, target = body.get("source_project_id"), body.get("target_project_id")
    return OpenRequest(
        repo=str(body["references"]["full"]).rpartition("!")[0],
        number=int(body["iid"]),
        branch=str(body["source_branch"]),
        into=str(body["target_branch"]),
        commit=str(body.get("sha") or ""),
        is_draft=bool(body.get("draft") or body.get("work_in_progress")),
        is_fork=source is None or source != target,
        url=str(body.get("web_url") or ""),
    )


def _of_github(repo: str, body: Json) -> OpenRequest:
    head, base = body["head"], body["base"]
    own, theirs = (base.get("repo") or {}).get("id"), (head.get("repo") or {}).get("id")
    return OpenRequest(
        repo=repo,
        number=int(body["number"]),
        branch=str(head["ref"]),
        into=str(base["ref"]),
        commit=str(head["sha"]),
        is_draft=bool(body.get("draft")),
        is_fork=own is None or own != theirs,
        url=str(body.get("html_url") or ""),
    )
