"""Merge requests of GitLab and pull requests of GitHub, as far as proposing a change needs them.

Source: GitLab REST API v4 `doc/api/merge_requests.md` (merge with `sha`: 409 head moved, 405 and 422 not mergeable);
GitHub REST API `pulls` (merge with `sha`: 405 not mergeable, 409 the head moved), `commits/statuses`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import structlog

from bot.delivery.merge_requests import CodeHost, NewProposal, Proposal, ProposalState
from bot.errors import ProviderRejected, ProviderUnavailable
from bot.pipelines.http import Http, said_in
from bot.pipelines.settings import CiSettings

log = structlog.get_logger(__name__)

Json = Mapping[str, Any]

HELD = "Draft: (held by Slipway) "
"""Before the title of what may not be merged now: GitLab takes no draft in, and a reviewer's own draft is another."""
CHECK = "slipway"
"""The commit status on GitHub: people make it a required one, and then nothing is merged without it."""

_NOT_YET = frozenset({401, 403, 405, 406, 409, 422})
_GITLAB_STATES = {"merged": ProposalState.MERGED, "closed": ProposalState.CLOSED}
_SILENT = frozenset({"", "mergeable", "unchecked", "checking", "preparing", "clean", "unknown"})
"""Words for how mergeable it is that say nothing a person could do something about."""


class GitLabHost:
    """Merge requests of one GitLab."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        """The client brings the address that ends with `/api/v4/`, and the token."""
        self._http = Http("GitLab", client)

    async def find(self, project: str, source: str, target: str) -> Proposal | None:
        """See CodeHost."""
        query = {"source_branch": source, "target_branch": target, "state": "all", "order_by": "created_at"}
        found = await self._http.get_json(f"{_gitlab(project)}/merge_requests", query)
        if found is None:
            raise _no_project("GitLab", project)
        return _of_gitlab(found[0]) if found else None

    async def open(self, project: str, new: NewProposal) -> Proposal:
        """See CodeHost."""
        body = {
            "source_branch": new.source,
            "target_branch": new.target,
            "title": new.title,
            "description": new.text,
            "remove_source_branch": True,
        } | ({"labels": ",".join(new.labels)} if new.labels else {})
        path = f"{_gitlab(project)}/merge_requests"
        response = await self._http.start(path, what="open a merge request", json=body)
        return _of_gitlab(self._http.read_json(response))

    async def merge(self, project: str, proposal: Proposal) -> str:
        """See CodeHost."""
        body = {"sha": proposal.head, "should_remove_source_branch": True}
        path = f"{_gitlab(project)}/merge_requests/{proposal.number}/merge"
        return _refusal(await self._http.tell(path, "PUT", json=body), proposal)

    async def hold(self, project: str, proposal: Proposal, why: str) -> None:
        """See CodeHost. A draft cannot be merged; the title has no room for the reason, a note has."""
        if proposal.title.startswith(HELD) is bool(why):
            return
        path = f"{_gitlab(project)}/merge_requests/{proposal.number}"
        title = f"{HELD}{proposal.title}"[:255] if why else proposal.title.removeprefix(HELD)
        _check_marked(await self._http.tell(path, "PUT", json={"title": title}), "GitLab", proposal)
        if why:
            await self._http.tell(f"{path}/notes", json={"body": f"Not to be merged now:\n\n{_as_code(why)}"})

    async def close(self, project: str, proposal: Proposal, source: str) -> None:
        """See CodeHost."""
        path = f"{_gitlab(project)}/merge_requests/{proposal.number}"
        _check(await self._http.tell(path, "PUT", json={"state_event": "close"}), "GitLab", proposal)
        await self._http.tell(f"{_gitlab(project)}/repository/branches/{quote(source, safe='')}", "DELETE")


class GitHubHost:
    """Pull requests of one GitHub."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        """The client brings the address of the API and the credentials."""
        self._http = Http("GitHub", client)

    async def find(self, project: str, source: str, target: str) -> Proposal | None:
        """See CodeHost."""
        owner = project.partition("/")[0]
        query = {"head": f"{owner}:{source}", "base": target, "state": "all", "sort": "created", "direction": "desc"}
        found = await self._http.get_json(f"repos/{project}/pulls", query)
        if found is None:
            raise _no_project("GitHub", project)
        return _of_github(found[0]) if found else None

    async def open(self, project: str, new: NewProposal) -> Proposal:
        """See CodeHost."""
        body = {"title": new.title, "head": new.source, "base": new.target, "body": new.text}
        response = await self._http.start(f"repos/{project}/pulls", what="open a pull request", json=body)
        proposal = _of_github(self._http.read_json(response))
        if new.labels:
            path = f"repos/{project}/issues/{proposal.number}/labels"
            await self._http.tell(path, json={"labels": list(new.labels)})
        return proposal

    async def merge(self, project: str, proposal: Proposal) -> str:
        """See CodeHost."""
        path = f"repos/{project}/pulls/{proposal.number}/merge"
        return _refusal(await self._http.tell(path, "PUT", json={"sha": proposal.head}), proposal)

    async def hold(self, project: str, proposal: Proposal, why: str) -> None:
        """See CodeHost. Its REST API makes no drafts: a commit status says it, which people make a required one."""
        found = await self._http.get_json(f"repos/{project}/commits/{proposal.head}/status") or {}
        said = {one.get("context"): one for one in found.get("statuses") or ()}.get(CHECK, {})
        wanted = {
            "state": "pending" if why else "success",
            "context": CHECK,
            "description": " ".join((why or "May be merged.").split())[:140],
        }
        if all(said.get(name) == value for name, value in wanted.items()):
            return
        response = await self._http.tell(f"repos/{project}/statuses/{proposal.head}", json=wanted)
        if response.status_code in (403, 404):  # A token from before there were statuses: Slipway itself waits anyhow.
            log.warning("proposal_not_marked", url=proposal.url, status=response.status_code)
            return
        _check_marked(response, "GitHub", proposal)

    async def close(self, project: str, proposal: Proposal, source: str) -> None:
        """See CodeHost."""
        path = f"repos/{project}/pulls/{proposal.number}"
        _check(await self._http.tell(path, "PATCH", json={"state": "closed"}), "GitHub", proposal)
        await self._http.tell(f"repos/{project}/git/refs/heads/{source}", "DELETE")


def code_hosts(settings: CiSettings, closing: list[Callable[[], Awaitable[None]]]) -> dict[str, CodeHost]:
    """Those that are set up, reached as their pipelines are. closing: grows by what ends their connections."""
    from bot.pipelines.outside import github_client, gitlab_client

    hosts: dict[str, CodeHost] = {}
    if settings.gitlab_url:
        client = gitlab_client(settings)
        closing.append(client.aclose)
        hosts["gitlab"] = GitLabHost(client)
    if settings.github_url:
        client = github_client(settings)
        closing.append(client.aclose)
        hosts["github"] = GitHubHost(client)
    return hosts


def _gitlab(project: str) -> str:
    return f"projects/{quote(project, safe='')}"


def _of_gitlab(body: Json) -> Proposal:
    revision = body.get("merge_commit_sha") or body.get("squash_commit_sha") or body.get("sha")
    state = _GITLAB_STATES.get(str(body.get("state")), ProposalState.OPEN)
    return Proposal(
        number=int(body["iid"]),
        url=str(body.get("web_url") or ""),
        state=state,
        head=str(body.get("sha") or ""),
        revision=str(revision or "") if state is ProposalState.MERGED else "",
        blocked=_words(body.get("detailed_merge_status")),
        title=str(body.get("title") or ""),
    )


def _of_github(body: Json) -> Proposal:
    is_open = body.get("state") == "open"
    state = ProposalState.OPEN if is_open else ProposalState.CLOSED
    state = ProposalState.MERGED if body.get("merged_at") else state
    return Proposal(
        number=int(body["number"]),
        url=str(body.get("html_url") or ""),
        state=state,
        head=str((body.get("head") or {}).get("sha") or ""),
        revision=str(body.get("merge_commit_sha") or "") if state is ProposalState.MERGED else "",
        blocked=_words(body.get("mergeable_state")),
        title=str(body.get("title") or ""),
    )


def _words(status: object) -> str:
    text = str(status or "")
    return "" if text in _SILENT else text.replace("_", " ")


def _refusal(response: httpx.Response, proposal: Proposal) -> str:
    """Why it was not merged, empty if it was."""
    if response.status_code < 300:
        return ""
    if response.status_code in _NOT_YET:
        return proposal.blocked or said_in(response)
    raise ProviderUnavailable(f"Merging {proposal.url} was answered by {response.status_code}.")


def _as_code(text: str) -> str:
    """As a block of code: nothing in it is rendered."""
    quoted = text.replace("`", "'")
    return f"```\n{quoted}\n```\n"


def _check(response: httpx.Response, host: str, proposal: Proposal) -> None:
    if response.status_code >= 300:
        raise ProviderUnavailable(
            f"{host} did not close {proposal.url} ({response.status_code}).", hint="Close it by hand if this lasts."
        )


def _check_marked(response: httpx.Response, host: str, proposal: Proposal) -> None:
    if response.status_code >= 300:
        raise ProviderUnavailable(
            f"{host} did not mark {proposal.url} ({response.status_code}).", hint="It is tried again by itself."
        )


def _no_project(host: str, project: str) -> ProviderRejected:
    return ProviderRejected(
        f"{host} has no project {project}, or Slipway's account may not see it.",
        hint="Correct `gitops.merge_request.project`, or give the account access.",
    )
