"""What a merge request is told of its check: each state once, in the words of each system, with nothing live in it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Card, Message
from notifiers.checks import Checks, GitHubCheckRuns, GitHubStatuses, GitLabStatuses
from notifiers.hosts import NOTHING

COMMIT = "c0ffee" * 6 + "c0ff"


class Remote:
    """Keeps what it is told. answers: said instead, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.runs: list[dict[str, Any]] = []
        self.answers: list[httpx.Response] = []
        self.lost = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.answers:
            return self.answers.pop(0)
        if request.method == "GET":
            return httpx.Response(200, json={"check_runs": self.runs})
        body, path = json.loads(request.content), request.url.raw_path.decode()
        self.told.append((request.method, path, body))
        if path.endswith("/check-runs"):
            self.runs.append({"id": 40 + len(self.runs), **body})
            if self.lost:
                self.lost = False
                raise httpx.ReadError("cut", request=request)
            return httpx.Response(201, json=self.runs[-1])
        return httpx.Response(201, json={})


@asynccontextmanager
async def told_to(kind: type[Checks]) -> AsyncIterator[tuple[Checks, Remote]]:
    remote = Remote()
    async with httpx.AsyncClient(transport=httpx.MockTransport(remote), base_url="http://host/") as http:
        yield kind("checks", http), remote


def message(state: str, **more: Any) -> Message:
    about = {"commit": COMMIT, "service": "pay", "pipeline": more.pop("pipeline", "")}
    return Message("x", Card(f"The check of pay is {state}", state, "d-7", about=about, **more))


FAILED = {
    "text": "Stage test failed. @everyone",
    "excerpt": "```\n# boom <img src=x>\n````",
    "fields": {"failed tests": "a.b, c.d"},
    "pipeline": "https://ci/17",
}


async def live(client: Checks, last: Message) -> None:
    """A check's whole life, with every card of it."""
    ref = await client.post("shop/pay", message("queued"), "card:7")
    for state in ("building", "building", "building"):
        await client.edit("shop/pay", ref, message(state, progress=50))
    await client.edit("shop/pay", ref, last)
    await client.edit("shop/pay", ref, last)


async def test_an_app_makes_a_check_run_with_the_error_lines() -> None:
    """One run, each state once; what comes from outside stands in a block that it cannot end."""
    async with told_to(GitHubCheckRuns) as (client, remote):
        await live(client, message("failed", **FAILED))
    assert [(method, path) for method, path, _ in remote.told] == [
        ("POST", "/repos/shop/pay/check-runs"),
        ("PATCH", "/repos/shop/pay/check-runs/40"),
        ("PATCH", "/repos/shop/pay/check-runs/40"),
    ]
    made, going, ended = (body for _, _, body in remote.told)
    assert (made["name"], made["head_sha"], made["external_id"]) == ("slipway/pay", COMMIT, "card:7")
    assert [made["status"], going["status"], ended["status"], ended["conclusion"]] == [
        *("queued", "in_progress", "completed"),
        "failure",
    ]
    assert ended["details_url"] == "https://ci/17"
    summary = ended["output"]["summary"]
    assert "`````text\n```\n# boom <img src=x>\n````\n`````" in summary
    assert "```text\na.b\nc.d\n```" in summary
    assert "```text\nStage test failed. @everyone\n```" in summary


async def test_a_lost_answer_makes_no_second_check_run() -> None:
    """Ours is found by its `external_id`, beside those of others."""
    async with told_to(GitHubCheckRuns) as (client, remote):
        remote.runs.append({"id": 9, "external_id": "card:6"})
        remote.lost = True
        with pytest.raises(ChatUnavailable):
            await client.post("shop/pay", message("queued"), "card:7")
        assert await client.post("shop/pay", message("building"), "card:7") == "41"
    assert len(remote.runs) == 2
    assert remote.told[-1][2]["status"] == "in_progress"


@pytest.mark.parametrize(
    ("kind", "path", "name", "words"),
    [
        (
            GitHubStatuses,
            f"/repos/shop/pay/statuses/{COMMIT}",
            "context",
            {"failed": "failure", "succeeded": "success", "superseded": "error", "building": "pending"},
        ),
        (
            GitLabStatuses,
            f"/projects/shop%2Fpay/statuses/{COMMIT}",
            "name",
            {"failed": "failed", "succeeded": "success", "superseded": "canceled", "building": "running"},
        ),
    ],
)
async def test_a_status_is_a_line(kind: type[Checks], path: str, name: str, words: dict[str, str]) -> None:
    """With a token: the state in the system's words, what failed, and the link if it is one."""
    for state in ("failed", "succeeded", "superseded"):
        async with told_to(kind) as (client, remote):
            await live(client, message(state, text="x" * 300, pipeline="javascript:alert(1)"))
        said = [body["state"] for _, _, body in remote.told]
        assert said == ["pending", words["building"], words[state]]
        assert {path for _, path, _ in remote.told} == {path}
        last = remote.told[-1][2]
        assert (last[name], len(last["description"])) == ("slipway/pay", 140)
        assert "target_url" not in last


async def test_gitlab_says_no_to_what_it_knows() -> None:
    """A state that does not change is answered by 400: a lost answer, or a replica before us. 403 is a real no."""
    async with told_to(GitLabStatuses) as (client, remote):
        remote.answers = [httpx.Response(400, json={"message": "Cannot transition status via :run from :running"})]
        assert await client.post("shop/pay", message("building"), "card:7") == COMMIT
        remote.answers = [httpx.Response(403)]
        with pytest.raises(ChatRejected, match=r"GitLab takes no commit statuses of shop/pay \(403\)"):
            await client.edit("shop/pay", COMMIT, message("failed"))
        remote.answers = [httpx.Response(503)]
        with pytest.raises(ChatUnavailable):
            await client.edit("shop/pay", COMMIT, message("failed"))
        await client.edit("shop/pay", COMMIT, message("failed"))
    assert [body["state"] for _, _, body in remote.told] == ["failed"]


async def test_what_is_no_check_is_not_told() -> None:
    """Sentences for people have no place there."""
    async with told_to(GitHubStatuses) as (client, remote):
        assert await client.post("shop/pay", Message("the catalog has a mistake"), "k") == NOTHING
        await client.edit("shop/pay", NOTHING, message("failed"))
    assert remote.told == []
