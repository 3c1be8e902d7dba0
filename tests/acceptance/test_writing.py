"""The step that writes to Git: the rules hold until the push, and a proposed change waits for people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from bot.app import App, Outside
from bot.delivery.base import Change, Check, Written
from bot.deployments.model import State
from tests.fakes.code_hosts import TOKEN, FakeCodeHost, running_code_host
from tests.fakes.repositories import BareRepository, git
from tests.support.running import POLL, Running, running, settings_for
from tests.support.world import ROOT, World, make_world


@dataclass
class Slow:
    """The writer of the application, with something that happens while a change waits in its queue."""

    inner: Any = None
    meanwhile: list[Callable[[], Awaitable[object]]] = field(default_factory=list)

    def wrap(self, name: str, part: Any) -> Any:
        if name != "writer":
            return part
        self.inner = part
        return self

    async def write(self, change: Change, check: Check | None = None) -> Written:
        if self.meanwhile:
            await self.meanwhile.pop()()
        written: Written = await self.inner.write(change, check)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def test_a_lock_that_came_while_it_waited_for_the_push_holds(tmp_path: Path) -> None:
    """On a release day a change may wait seconds for its push: it is asked for at the last moment, not before."""
    world = make_world(tmp_path / "world")
    slow = Slow()
    async with running(world, outside=Outside(poll=POLL, wrap=slow.wrap)) as bot:
        slow.meanwhile.append(lambda: bot.say("lead", "/lock app prod --reason migration"))
        await bot.say("owner", "/deploy app prod")
        await bot.until(lambda: _waits_for(bot, "migration"), "the lock to be told")
        assert world.config_log() == []
        await bot.say("lead", "/unlock app prod")
        seen = await bot.ends()
    assert (seen.state, len(world.config_log())) == (State.SUCCEEDED, 1)


async def test_cancelled_while_it_waited_for_the_push_is_not_pushed(tmp_path: Path) -> None:
    """Cancelled means that nothing more happens."""
    world = make_world(tmp_path / "world")
    slow = Slow()
    async with running(world, outside=Outside(poll=POLL, wrap=slow.wrap)) as bot:
        slow.meanwhile.append(lambda: bot.say("owner", "/cancel d-1"))
        await bot.say("owner", "/deploy app prod")
        seen = await bot.ends()
    assert (seen.state, world.config_log()) == (State.CANCELLED, [])


def make_reviewed_world(directory: Path, merge: str = "people") -> World:
    """The usual world, whose versions are proposed to its configuration repository."""
    world = make_world(directory)
    git(world.config, "hash-object", "-t", "tree", "-w", "/dev/null")
    tree = git(world.config, "mktree", "--missing")
    git(world.config, "update-ref", "refs/heads/main", git(world.config, "commit-tree", tree, "-m", "first"))
    defaults = _defaults(world)
    rule = {"host": "gitlab", "project": "ops/config", "merge": merge}
    world.write_root(defaults=defaults | {"gitops": {"repo": "repos/config.git", "merge_request": rule}})
    return world


def _defaults(world: World) -> dict[str, object]:
    import json

    body = json.loads((world.directory / "slipway.yaml").read_text())
    assert body.keys() >= ROOT.keys()
    return dict(body["defaults"])


@asynccontextmanager
async def reviewed(world: World, poll: timedelta = POLL) -> AsyncIterator[tuple[Running, FakeCodeHost]]:
    bare = BareRepository.__new__(BareRepository)
    bare.directory = world.config
    async with running_code_host("gitlab", bare) as host:
        more = {"gitlab_url": host.url, "gitlab_token": SecretStr(TOKEN), "gitlab_hook_secret": SecretStr("hook")}
        app = App(settings_for(world).model_copy(update=more), Outside(poll=poll))
        await app.start()
        try:
            yield Running(app), host
        finally:
            await app.runs.stop_all()
            await app.stop()


async def test_a_proposed_change_waits_for_its_merge_and_then_goes_on(tmp_path: Path) -> None:
    """The card says what is waited for and where; the merge is what is deployed."""
    world = make_reviewed_world(tmp_path / "world")
    async with reviewed(world) as (bot, host):
        await bot.say("owner", "/deploy app prod")
        await bot.until(lambda: _waits_for(bot, "/-/merge_requests/1 is not merged yet"), "the merge request")
        await bot.quiet()
        (card,) = await bot.cards("owner", "d-1")
        assert "https://gitlab.example/ops/config/-/merge_requests/1" in card["text"]
        assert world.count("deploys") == 0
        merge = host.merge()
        seen = await bot.ends()
    assert (seen.state, seen.data.revision) == (State.SUCCEEDED, merge)
    assert len(host.requests) == 1


async def test_the_event_of_the_merge_is_looked_at_at_once(tmp_path: Path) -> None:
    """GitLab and GitHub tell of every push: nobody waits for the next look, which is far away here."""
    world = make_reviewed_world(tmp_path / "world")
    async with reviewed(world, poll=timedelta(seconds=2)) as (bot, host):
        await bot.say("owner", "/deploy app prod")
        await bot.until(lambda: _waits_for(bot, "not merged yet"), "the merge request")
        merge = host.merge()
        body = {
            "object_kind": "push",
            "ref": "refs/heads/main",
            "after": merge,
            "checkout_sha": merge,
            "project": {"path_with_namespace": "ops/config"},
            "commits": [],
        }
        transport = httpx.ASGITransport(bot.app.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://slipway") as client:
            headers = {"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "hook"}
            answer = await client.post("/hooks/gitlab", json=body, headers=headers)
        assert answer.json()["detail"] == ["d-1: woken"]
        await bot.until(lambda: _is_past(bot, State.WRITING), "the merge to be seen")


async def _is_past(bot: Running, state: State) -> bool:
    seen = await bot.get(1)
    return seen is not None and seen.state is not state


async def test_cancelled_takes_the_proposal_back(tmp_path: Path) -> None:
    """Nobody merges next week what was cancelled today."""
    world = make_reviewed_world(tmp_path / "world")
    async with reviewed(world) as (bot, host):
        await bot.say("owner", "/deploy app prod")
        await bot.until(lambda: _waits_for(bot, "not merged yet"), "the merge request")
        await bot.say("owner", "/cancel d-1")
        seen = await bot.ends()
    assert (seen.state, host.requests[0].state) == (State.CANCELLED, "closed")
    assert len(world.config_log()) == 1


async def test_a_freeze_holds_the_proposal_on_the_host_too(tmp_path: Path) -> None:
    """Whoever sees the merge request there must not be able to let it in; when the freeze is over, it may be again."""
    world = make_reviewed_world(tmp_path / "world")
    async with reviewed(world) as (bot, host):
        await bot.say("owner", "/deploy app prod")
        await bot.until(lambda: _waits_for(bot, "not merged yet"), "the merge request")
        await bot.say("releaser", "/freeze sale --environment prod")
        await bot.until(lambda: _waits_for(bot, "sale"), "the freeze to be seen")
        assert not host.may_merge()
        await bot.say("releaser", "/unfreeze sale")
        await bot.until(lambda: _waits_for(bot, "not merged yet"), "the freeze to be over")
        assert host.may_merge()
        host.merge()
        seen = await bot.ends()
    assert seen.state is State.SUCCEEDED


async def test_slipway_merges_by_itself_and_goes_back_the_same_way(tmp_path: Path) -> None:
    """Where nobody has to look, the host's checks decide; the way back is a merge request too."""
    world = make_reviewed_world(tmp_path / "world", merge="slipway")
    async with reviewed(world) as (bot, host):
        await bot.say("owner", "/deploy app prod")
        first = await bot.ends()
        world.push("broken")
        await bot.say("owner", "/deploy app prod")
        second = await bot.ends(2)
    assert (first.state, second.state) == (State.SUCCEEDED, State.ROLLED_BACK)
    assert [one.state for one in host.requests] == ["merged"] * 3
    assert first.digest in git(world.config, "show", "main:prod/app.yaml")


async def _waits_for(bot: Running, text: str) -> bool:
    seen = await bot.get(1)
    return seen is not None and text in seen.data.waiting_for
