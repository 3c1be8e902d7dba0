"""Makes what tells who is in a group, of the systems that are set up; the code of the others is not imported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bot.clock import Clock
from bot.pipelines.settings import CiSettings
from bot.sources.members import Roster


@dataclass(frozen=True, slots=True)
class Rosters:
    """What was made. closing: ends their connections."""

    by_name: dict[str, Roster]
    closing: tuple[Callable[[], Awaitable[None]], ...]


def make_rosters(settings: CiSettings, clock: Clock) -> Rosters:
    """One for each system with an address and credentials. Raises SlipwayError: credentials cannot be read."""
    if not (settings.github_url or settings.gitlab_url or settings.oncall_url):
        return Rosters({}, ())
    from bot.pipelines.http import Http, make_client
    from bot.sources.members import GitHubTeams, GitLabMembers, OnCall

    made: dict[str, Roster] = {}
    closing: list[Callable[[], Awaitable[None]]] = []
    if settings.github_url:
        from bot.pipelines.github import HEADERS
        from bot.pipelines.outside import github_client

        client = github_client(settings, clock)
        client.headers.update(HEADERS)
        made["github"] = GitHubTeams(Http("GitHub", client, clock))
        closing.append(client.aclose)
    if settings.gitlab_url:
        from bot.pipelines.outside import gitlab_client

        client = gitlab_client(settings)
        made["gitlab"] = GitLabMembers(Http("GitLab", client, clock))
        closing.append(client.aclose)
    if settings.oncall_url:
        token = settings.ci_secret("oncall_token")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = make_client(f"{settings.oncall_url.rstrip('/')}/", headers)
        made["oncall"] = OnCall(Http("The on-call system", client, clock))
        closing.append(client.aclose)
    return Rosters(made, tuple(closing))
