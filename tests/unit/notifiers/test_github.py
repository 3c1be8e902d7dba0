"""GitHub's deployments: made once with our commit, told each state once, and nothing merged or waited for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Card, Message
from notifiers.github import GitHubClient
from notifiers.hosts import NOTHING

COMMIT = "c0ffee" * 6 + "c0ff"


class Remote:
    """A GitHub with deployments of one repository. answers: statuses said instead, in order."""

    def __init__(self) -> None:
        self.deployments: list[dict[str, Any]] = []
        self.statuses: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[httpx.Response] = []
        self.lost = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/repos/shop/pay/")
        assert path != request.url.path
        if self.answers:
            return self.answers.pop(0)
        if request.method == "GET":
            sha, environment = request.url.params["sha"], request.url.params["environment"]
            same = [one for one in self.deployments if (one["ref"], one["environment"]) == (sha, environment)]
            return httpx.Response(200, json=same)
        body = json.loads(request.content)
        if path == "deployments":
            self.deployments.append({"id": len(self.deployments) + 1, **body})
            if self.lost:
                self.lost = False
                raise httpx.ReadError("cut", request=request)
            return httpx.Response(201, json=self.deployments[-1])
        self.statuses.append((path.split("/")[1], body))
        return httpx.Response(201, json={})


@asynccontextmanager
async def github() -> AsyncIterator[tuple[GitHubClient, Remote]]:
    remote = Remote()
    async with httpx.AsyncClient(transport=httpx.MockTransport(remote), base_url="http://github/") as http:
        yield GitHubClient(http), remote


def message(state: str, **about: str) -> Message:
    facts = {"commit": COMMIT, "environment": "prod", "version": "1.4.2", **about}
    return Message("x", Card(f"pay is {state}", state, "d-7", about=facts))


async def test_a_deployment_is_told_each_state_once() -> None:
    """Progress inside a state says nothing new to GitHub, which takes 80 writes a minute."""
    async with github() as (client, remote):
        ref = await client.post("shop/pay", message("queued"), "card:7")
        for state in ("building", "building", "gating", "syncing", "succeeded", "succeeded"):
            said = message(state, pipeline="https://ci/17", url="ftp://x")
            await client.edit("shop/pay", ref, said)
    (made,) = remote.deployments
    assert (made["ref"], made["environment"], made["description"]) == (COMMIT, "prod", "d-7: 1.4.2")
    assert (made["auto_merge"], made["required_contexts"]) == (False, [])
    assert [status["state"] for _, status in remote.statuses] == ["queued", "in_progress", "success"]
    assert remote.statuses[-1][1] == {
        "state": "success",
        "description": "pay is succeeded",
        "log_url": "https://ci/17",
    }


async def test_a_lost_answer_makes_no_second_deployment() -> None:
    """Ours is found by the key in its payload, beside another one of the same commit."""
    async with github() as (client, remote):
        await client.post("shop/pay", message("queued"), "card:6")
        remote.lost = True
        with pytest.raises(ChatUnavailable):
            await client.post("shop/pay", message("queued"), "card:7")
        assert await client.post("shop/pay", message("queued"), "card:7") == "2"
    assert [one["payload"]["slipway"] for one in remote.deployments] == ["card:6", "card:7"]


@pytest.mark.parametrize(
    ("answer", "error", "pause"),
    [
        (httpx.Response(429, headers={"retry-after": "7"}), ChatUnavailable, 7.0),
        (httpx.Response(403, headers={"x-ratelimit-remaining": "0"}), ChatUnavailable, 60.0),
        (httpx.Response(403, json={"message": "You have exceeded a secondary rate limit"}), ChatUnavailable, 60.0),
        (httpx.Response(502), ChatUnavailable, None),
        (httpx.Response(403, json={"message": "Resource not accessible by integration"}), ChatRejected, None),
        (httpx.Response(404), ChatRejected, None),
    ],
)
async def test_a_limit_is_waited_for_and_a_no_is_told(
    answer: httpx.Response, error: type[Exception], pause: float | None
) -> None:
    """A 403 is three different things."""
    async with github() as (client, remote):
        remote.answers = [answer]
        with pytest.raises(error) as caught:
            await client.post("shop/pay", message("queued"), "card:7")
        assert getattr(caught.value, "retry_after", None) == pause


async def test_what_is_no_deployment_is_not_sent() -> None:
    """Sentences for people have no place there."""
    async with github() as (client, remote):
        assert await client.post("shop/pay", Message("the catalog has a mistake"), "k") == NOTHING
        await client.edit("shop/pay", NOTHING, message("failed"))
    assert remote.statuses == []
