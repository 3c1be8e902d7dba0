"""Which of the catalog's repositories a GitHub is asked about."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from bot.clock import utc_now
from bot.delivery.open_requests import GitHubRequests

OURS = "https://api.github.com"


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("https://github.com/group/pay.git", "repos/group/pay/pulls"),
        ("https://someone@github.com/group/pay/", "repos/group/pay/pulls"),
        ("git@github.com:group/pay.git", "repos/group/pay/pulls"),
        ("ssh://git@github.com/group/pay", "repos/group/pay/pulls"),
        ("/srv/git/group/pay.git", "repos/group/pay/pulls"),
        ("https://gitlab.example/group/pay.git", ""),
        ("git@gitlab.example:group/pay.git", ""),
        ("https://github.com.evil.example/group/pay", ""),
    ],
)
async def test_another_hosts_repository_is_not_looked_for_there(address: str, asked: str) -> None:
    """A stranger may own the same name elsewhere; a path on this machine says nothing of its host."""
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path.lstrip("/"))
        return httpx.Response(200, json=[])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url=f"{OURS}/") as client:
        assert await GitHubRequests(client, OURS).changed([address], utc_now() - timedelta(days=1)) == []
    assert seen == ([asked] if asked else [])
