"""Merge requests whose webhook was lost are found by the slow look behind it, and start what it would have started."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from bot.clock import utc_now
from bot.deployments.merge_checks import MergeRequest
from bot.deployments.model import State
from bot.errors import ProviderRejected
from bot.store import inbox
from tests.acceptance.test_merge_checks import checked, merging, pulled
from tests.acceptance.test_webhooks import hooked
from tests.fakes import github, gitlab
from tests.fakes.github import FakeGitHub
from tests.fakes.gitlab import FakeGitLab
from tests.fakes.serving import serving
from tests.support.running import Running
from tests.support.world import World

__all__ = ["checked"]

HOSTS = pytest.mark.parametrize("host", [github, gitlab], ids=["github", "gitlab"])
Fake = FakeGitHub | FakeGitLab


@asynccontextmanager
async def hosted(world: World, host: ModuleType) -> AsyncIterator[tuple[Running, httpx.AsyncClient, Fake]]:
    """A Slipway with that host, on which ada is the developer."""
    fake: Fake = FakeGitHub("repos/app/x.yml") if host is github else FakeGitLab("repos/app")
    token = SecretStr(host.TOKEN)
    async with serving(fake.app) as url:
        own: dict[str, Any] = (
            {"github_url": url, "github_token": token} if host is github else {"gitlab_url": url, "gitlab_token": token}
        )
        async with hooked(world, **own) as (slipway, client):
            yield slipway, client, fake


@pytest.fixture
def known(checked: World) -> World:
    """Ada and eve have accounts on both hosts."""
    path = checked.directory / "slipway.yaml"
    root = json.loads(path.read_text())
    for person, account in (("developer", "ada"), ("outsider", "eve")):
        root["people"][person]["chats"] = {"github": [account], "gitlab": [account]}
    path.write_text(json.dumps(root))
    return checked


@HOSTS
async def test_a_lost_webhook_is_made_up_for_once(known: World, host: ModuleType) -> None:
    """In the name of who pushed; another look, and the webhook that comes after all, do nothing."""
    commit = known.push("refunds", branch="refunds")
    async with hosted(known, host) as (slipway, client, fake):
        fake.requests = [
            host.open_request(commit, "refunds", utc_now()),
            host.open_request("d" * 40, "old", utc_now() - timedelta(days=2)),
        ]
        fake.pushes = [host.push_event("e" * 40, "refunds", "eve"), host.push_event(commit, "refunds", "ada")]
        assert await slipway.app.look_at_merge_requests() == 1
        seen = await slipway.ends()
        assert await slipway.app.look_at_merge_requests() == 0
        if host is github:
            await pulled(client, github.pull_request_hook(commit, "refunds"), "1")
        else:
            await merging(client, gitlab.merge_request_hook(commit, "refunds"), "1")
        assert await slipway.get(2) is None
    assert (seen.state, seen.requested_by, seen.branch) == (State.SUCCEEDED, "developer", "refunds")
    assert known.count("checks") == 1


async def test_what_the_webhook_brought_is_not_asked_about(checked: World) -> None:
    """It told the pusher by e-mail, which the list cannot: no second answer, and no question for each push."""
    commit = checked.push("refunds", branch="refunds")
    async with hosted(checked, gitlab) as (slipway, client, fake):
        await merging(client, gitlab.merge_request_hook(commit, "refunds"), "1")
        await slipway.ends()
        fake.requests = [gitlab.open_request(commit, "refunds", utc_now())]
        fake.pushes = [gitlab.push_event(commit, "refunds", "nobody-we-know")]
        assert await slipway.app.look_at_merge_requests() == 0
        assert fake.app.count("events") == 0
        assert [one for one in await slipway.audit() if one.action == "merge_request:check"] == []


@HOSTS
@pytest.mark.parametrize("pusher", ["eve", "stranger", ""])
async def test_waiting_gives_nobody_a_right(known: World, host: ModuleType, pusher: str) -> None:
    """Whoever pushed may not build it, is nobody here, or cannot be told: whoever opened it does not stand in."""
    commit = known.push("steals", branch="refunds")
    async with hosted(known, host) as (slipway, _client, fake):
        fake.requests = [host.open_request(commit, "refunds", utc_now(), user={"login": "ada"})]
        fake.pushes = [host.push_event(commit, "refunds", pusher)] if pusher else []
        assert await slipway.app.look_at_merge_requests() == 1
        assert await slipway.get(1) is None
        (entry,) = [one for one in await slipway.audit() if one.action == "merge_request:check"]
    assert entry.outcome == "refused"
    assert known.count("checks") == 0


@HOSTS
async def test_strange_repositories_and_forks_are_not_checked(known: World, host: ModuleType) -> None:
    """A list may hold more than our services; and the code of a fork never runs."""
    commit = known.push("forked", branch="refunds")
    fork: dict[str, Any] = {"source_project_id": 2} if host is gitlab else {"head": {"ref": "refunds", "sha": commit}}
    async with hosted(known, host) as (slipway, _client, fake):
        fake.requests = [host.open_request(commit, "refunds", utc_now(), **fork)]
        if host is gitlab:
            strange = {"references": {"full": "others/thing!9"}}
            fake.requests.append(host.open_request(commit, "refunds", utc_now(), **strange))
        fake.pushes = [host.push_event(commit, "refunds", "ada")]
        assert await slipway.app.look_at_merge_requests() == 1
        assert await slipway.get(1) is None
        said = [one.code for one in await slipway.audit() if one.action == "merge_request:check"]
    assert said == ["fork"]


@HOSTS
async def test_a_host_that_is_away_or_refuses_is_said_once(known: World, host: ModuleType) -> None:
    """The next look finds it; a token that may not look is told to the job's owners, and not every ten minutes."""
    commit = known.push("refunds", branch="refunds")
    async with hosted(known, host) as (slipway, _client, fake):
        fake.requests = [host.open_request(commit, "refunds", utc_now())]
        fake.pushes = [host.push_event(commit, "refunds", "ada")]
        fake.app.fail("GET", "502")
        assert await slipway.app.look_at_merge_requests() == 0
        fake.app.fail("GET", "401", times=2)
        with pytest.raises(ProviderRejected):
            await slipway.app.look_at_merge_requests()
        assert await slipway.app.look_at_merge_requests() == 0
        assert await slipway.app.look_at_merge_requests() == 1
        assert (await slipway.ends()).state is State.SUCCEEDED


async def test_a_merge_request_that_was_taken_survives_its_replica(checked: World, tmp_path: Path) -> None:
    """Its webhook was answered, and the process ended before it was done: the next one does it."""
    commit = checked.push("refunds", branch="refunds")
    taken = MergeRequest(
        *("github", "1", "repos/app", 9, "refunds", "main", commit), is_open=True, is_fork=False, user="ada"
    )
    async with hooked(checked) as (slipway, _client):
        await slipway.app.db.run(
            lambda tx: inbox.put(tx, "hook", "github:1", "merge_request", asdict(taken), utc_now())
        )
        assert await slipway.app.dispatcher.recover() == 1
        assert (await slipway.ends()).state is State.SUCCEEDED
