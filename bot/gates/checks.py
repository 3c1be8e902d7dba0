"""The gate on what other systems said about the commit: GitHub's check runs and statuses, GitLab's statuses.

Source: docs.github.com REST "checks/runs" and "commits/statuses"; docs.gitlab.com "commits".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field

from bot.errors import ProviderRejected
from bot.gates.asking import AskingGate, GateOptions, NotYet, fill
from bot.gates.base import GateRequest, GateResult
from bot.pipelines.http import Http

PAGES = 10
"""Of a hundred checks each."""
GOOD = frozenset({"success"})
REMARKED = frozenset({"neutral", "skipped"})
"""Passed with remarks: the release goes on with a warning."""
OPEN = frozenset(
    {"queued", "in_progress", "waiting", "requested", "pending", "running", "created", "manual", "scheduled"}
    | {"preparing", "waiting_for_resource", "action_required", "stale"}
)


class ChecksOptions(GateOptions):
    """required: names of checks that must be green; {check} is the service's check pipeline.

    system: who is asked. repo: `group/name` there; left out: the service's own repository.
    """

    system: Literal["github", "gitlab"]
    required: list[str] = Field(min_length=1, max_length=50)
    repo: str = ""


class ChecksGate(AskingGate[ChecksOptions]):
    """Each required check of the release's commit must be there and green; the newest of a name counts."""

    name = "checks"
    options = ChecksOptions

    async def _look(self, options: ChecksOptions, request: GateRequest) -> GateResult:
        repo = fill(options.repo, request) if options.repo else _repo_of(request.service.repo)
        http = self._system(options.system)
        read = _github if options.system == "github" else _gitlab
        found = await read(http, repo, request.commit)
        wanted = [fill(name, request).replace("{check}", request.target.check.name) for name in options.required]
        states = {name: found.get(name, ("", ""))[0] for name in wanted}
        bad = [name for name, state in states.items() if state and state not in GOOD | REMARKED | OPEN]
        link = next((found[name][1] for name in bad), "")
        if bad:
            lines = tuple(f"{name}: {states[name]}" for name in bad)
            return self._fail(f"{len(bad)} of {len(wanted)} required checks failed: {', '.join(bad)}.", lines, link)
        missing = [name for name, state in states.items() if not state]
        pending = [name for name, state in states.items() if state in OPEN]
        if missing or pending:
            said = ", ".join(
                [*(f"{name} is not there" for name in missing), *(f"{one} is not done" for one in pending)]
            )
            raise NotYet(f"Required checks of {request.commit[:12]} are open: {said}.")
        remarked = [f"{name}: {state}" for name, state in states.items() if state in REMARKED]
        if remarked:
            return self._warn(f"{len(wanted)} required checks are done, with remarks.", tuple(remarked))
        return self._pass(f"{len(wanted)} required checks passed.")


def _repo_of(address: str) -> str:
    """`group/name` in an address of a repository. Raises ProviderRejected: it has none."""
    found = re.search(r"(?:[a-z]+://[^/]+/|^[^/@\s]+@[^:/]+:)(.+?)(?:\.git)?/?$", address)
    if found is None:
        raise ProviderRejected("The service's repository is not on a server.", hint="Name `gates.checks.repo`.")
    return found[1]


async def _github(http: Http, repo: str, commit: str) -> dict[str, tuple[str, str]]:
    """Name -> state and link. A check run's conclusion, or its status while it has none."""
    place = f"repos/{quote(repo, safe='/')}/commits/{commit}"
    found: dict[str, tuple[str, str]] = {}
    # Oldest first, so that the newest of a name stays.
    for one in reversed(await _pages(http, f"{place}/status", "statuses")):
        found[str(one.get("context"))] = str(one.get("state")), str(one.get("target_url") or "")
    runs = await _pages(http, f"{place}/check-runs", "check_runs")
    for one in sorted(runs, key=lambda run: int(run.get("id") or 0)):
        found[str(one.get("name"))] = str(one.get("conclusion") or one.get("status")), str(one.get("html_url") or "")
    return found


async def _gitlab(http: Http, repo: str, commit: str) -> dict[str, tuple[str, str]]:
    place = f"projects/{quote(repo, safe='')}/repository/commits/{commit}/statuses"
    statuses = await _pages(http, place, "")
    found: dict[str, tuple[str, str]] = {}
    for one in sorted(statuses, key=lambda status: int(status.get("id") or 0)):
        state = "neutral" if one.get("status") == "failed" and one.get("allow_failure") else str(one.get("status"))
        found[str(one.get("name"))] = state, str(one.get("target_url") or "")
    return found


async def _pages(http: Http, path: str, key: str) -> list[Mapping[str, Any]]:
    """Every item of a list that comes in pages. Raises ProviderRejected: the repository or the commit is not there."""
    found: list[Mapping[str, Any]] = []
    for page in range(1, PAGES + 1):
        answer = await http.get_json(path, {"per_page": 100, "page": page})
        if answer is None:
            raise ProviderRejected(
                f"{http.said} does not know this repository or commit.", hint="Correct `gates.checks.repo`."
            )
        items: Iterable[Any] = answer.get(key) or () if key else answer
        batch = [one for one in items if isinstance(one, dict)]
        found += batch
        if len(batch) < 100:
            break
    return found
