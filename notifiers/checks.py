"""Says beside a merge request how its check goes: by a check run of ours on GitHub, or by a commit status.

A "place" is `group/name`. The name is `slipway/<service>`, so that a branch can be protected by it. Each of their
states is told once. Sources: `@octokit/openapi` 23.0.2 (`checks/create`, Apps only; `repos/create-commit-status`);
GitLab `doc/api/commits.md` (a status that does not change is answered by 400).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from bot.clock import Clock
from bot.pipelines.settings import CiSettings
from notifiers.base import ChatClient, ChatRejected
from notifiers.card import Card
from notifiers.hosts import Records, ask

WAITING, RUNNING, PASSED, FAILED, ENDED = "waiting", "running", "passed", "failed", "ended"
STATES: Mapping[str, str] = {
    "queued": WAITING,
    "building": RUNNING,
    "cancelling": RUNNING,
    "succeeded": PASSED,
    "failed": FAILED,
    "cancelled": ENDED,
    "superseded": ENDED,
}
"""A deployment's state -> how the check stands. A word of a newer Slipway is `running`."""
RUNS: Mapping[str, Mapping[str, str]] = {
    WAITING: {"status": "queued"},
    RUNNING: {"status": "in_progress"},
    PASSED: {"status": "completed", "conclusion": "success"},
    FAILED: {"status": "completed", "conclusion": "failure"},
    ENDED: {"status": "completed", "conclusion": "cancelled"},
}
GITHUB = {WAITING: "pending", RUNNING: "pending", PASSED: "success", FAILED: "failure", ENDED: "error"}
GITLAB = {WAITING: "pending", RUNNING: "running", PASSED: "success", FAILED: "failed", ENDED: "canceled"}
SUMMARY = 60_000
"""Characters; GitHub takes 65,535."""
DESCRIPTION = 140
"""Characters that GitHub takes; GitLab takes 255."""


class Checks(Records):
    """What the three ways have in common."""

    def _state(self, card: Card) -> str:
        return _state(card)


class GitHubCheckRuns(Checks):
    """Check runs, which only an App may make: with the error lines, the tests and links."""

    async def _first(self, place: str, card: Card, key: str) -> str:
        """There is no key that GitHub would refuse twice; ours is the run's `external_id`."""
        path = f"repos/{place}/commits/{card.about['commit']}/check-runs"
        params = {"check_name": _name(card), "filter": "all", "per_page": "100"}
        known = (await self._ask("GET", place, path, params=params)).json().get("check_runs") or ()
        number = next((str(one["id"]) for one in known if one.get("external_id") == key), "")
        if number:
            await self._again(place, number, card)
            return number
        about = {"name": _name(card), "head_sha": card.about["commit"], "external_id": key}
        made = await self._ask("POST", place, f"repos/{place}/check-runs", json=about | _run(card))
        return str(made.json()["id"])

    async def _again(self, place: str, ref: str, card: Card) -> None:
        await self._ask("PATCH", place, f"repos/{place}/check-runs/{ref}", json=_run(card))

    async def _ask(self, method: str, place: str, path: str, **more: Any) -> httpx.Response:
        no = ChatRejected(f"GitHub takes no check runs of {place}.", hint="Give the App the right `checks: write`.")
        return await ask(self._http, "GitHub", method, path, no, **more)


class GitHubStatuses(Checks):
    """Commit statuses, for an account with a token."""

    async def _first(self, place: str, card: Card, key: str) -> str:
        await self._again(place, card.about["commit"], card)
        return card.about["commit"]

    async def _again(self, place: str, ref: str, card: Card) -> None:
        body = {"state": GITHUB[_state(card)], "context": _name(card), "description": _description(card), **_link(card)}
        no = ChatRejected(
            f"GitHub takes no commit statuses of {place}.", hint="Give Slipway's account the right `statuses: write`."
        )
        await ask(self._http, "GitHub", "POST", f"repos/{place}/statuses/{ref}", no, json=body)


class GitLabStatuses(Checks):
    """Commit statuses of GitLab."""

    async def _first(self, place: str, card: Card, key: str) -> str:
        await self._again(place, card.about["commit"], card)
        return card.about["commit"]

    async def _again(self, place: str, ref: str, card: Card) -> None:
        body = {"state": GITLAB[_state(card)], "name": _name(card), "description": _description(card), **_link(card)}
        no = ChatRejected(
            f"GitLab takes no commit statuses of {place}.", hint="Make Slipway's account a developer of the project."
        )
        path = f"projects/{quote(place, safe='')}/statuses/{ref}"
        try:
            await ask(self._http, "GitLab", "POST", path, no, json=body)
        except ChatRejected as error:
            if "(400)" not in error.message:  # It says so already: a lost answer, or a replica before us.
                raise


def check_clients(
    settings: CiSettings, clock: Clock, closing: list[Callable[[], Awaitable[None]]]
) -> dict[str, ChatClient]:
    """One for each code host that is set up. closing: grows by what ends their connections."""
    from bot.pipelines.outside import github_client, gitlab_client

    clients: dict[str, ChatClient] = {}
    if settings.github_url:
        http = github_client(settings, clock)
        closing.append(http.aclose)
        kind = GitHubStatuses if settings.ci_secret("github_token") else GitHubCheckRuns
        clients["github_checks"] = kind("github_checks", http)
    if settings.gitlab_url:
        http = gitlab_client(settings)
        closing.append(http.aclose)
        clients["gitlab_checks"] = GitLabStatuses("gitlab_checks", http)
    return clients


def _state(card: Card) -> str:
    return STATES.get(card.state, RUNNING)


def _name(card: Card) -> str:
    return f"slipway/{card.about.get('service', '')}"


def _link(card: Card, name: str = "target_url") -> dict[str, str]:
    url = card.about.get("pipeline", "")
    return {name: url} if url.startswith(("https://", "http://")) else {}


def _description(card: Card) -> str:
    said = f"{card.deployment}: {card.text or card.title}"
    return said if len(said) <= DESCRIPTION else f"{said[: DESCRIPTION - 1]}…"


def _run(card: Card) -> dict[str, Any]:
    output = {"title": card.title[:250], "summary": _summary(card)}
    return {**RUNS[_state(card)], "output": output, **_link(card, "details_url")}


def _summary(card: Card) -> str:
    """In Markdown, with everything from outside as code, so that none of it is live."""
    parts = [_code(card.text)] if card.text else []
    if tests := card.fields.get("failed tests"):
        parts.append(_code(tests.replace(", ", "\n")))
    if card.excerpt:
        parts.append(_code(card.excerpt))
    parts.append(f"`/logs {card.deployment}`")
    return "\n\n".join(parts)[:SUMMARY]


def _code(text: str) -> str:
    """A block that its content cannot end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text[: SUMMARY // 4]}\n{fence}"
