"""The Git writer against a real Git server over HTTP, with a password."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.catalog.model import GitopsSpec
from bot.delivery import gitops
from bot.delivery.base import Change
from bot.delivery.gitops import GitWriter
from bot.errors import ProviderError
from bot.git import Git
from tests.fakes.git_http import running_git_server
from tests.fakes.repositories import BareRepository

SECRET = "s3cret-of-the-server"


def change(number: int, repo: str) -> Change:
    return Change(
        intent=f"d-{number}",
        service=f"svc-{number}",
        environment="prod",
        gitops=GitopsSpec(),
        repo=repo,
        version="1.0",
        digest=f"sha256:{number:064x}",
        commit="c" * 40,
        subject=f"Deploy svc-{number}",
    )


async def test_many_commits_few_pushes_by_two_replicas(tmp_path: Path) -> None:
    """Release day: everybody at once, and the server is asked a handful of times; nobody's commit is lost."""
    bare = BareRepository(tmp_path / "config.git")
    async with running_git_server(tmp_path, user="bot", password=SECRET) as server:
        repo = server.url.replace("http://", f"http://bot:{SECRET}@") + "/config.git"
        writers = [GitWriter(tmp_path / f"cache-{n}", Git()) for n in range(2)]
        await asyncio.gather(*(writers[n % 2].write(change(n, repo)) for n in range(60)))
    intents = bare.git("log", "--format=%(trailers:key=Slipway-Intent,valueonly)", "main").split()
    assert sorted(intents) == sorted(f"d-{n}" for n in range(60))
    assert server.pushes <= 12


async def test_a_push_waits_for_company_that_is_on_its_way(tmp_path: Path) -> None:
    """While many are coming, those that are here wait for them, and all go with one push; at last nobody is missing."""
    bare = BareRepository(tmp_path / "config.git")
    later: list[asyncio.Task[object]] = []
    asked = 0

    def coming() -> int:
        """Of a hundred on the way, nine arrive while it looks; the others turn out to go elsewhere."""
        nonlocal asked
        asked += 1
        if 1 < asked < 11:
            later.append(asyncio.ensure_future(writer.write(change(asked, repo))))
        return 100 if asked < 12 else 0

    async with running_git_server(tmp_path) as server:
        repo = f"{server.url}/config.git"
        writer = GitWriter(tmp_path / "cache", Git(), coming=coming)
        await writer.write(change(1, repo))
        await asyncio.gather(*later)
    assert len(bare.commits()) == 10
    assert server.pushes == 1


async def test_company_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who are always coming do not keep those who are here."""
    monkeypatch.setattr(gitops, "COMPANY_WITHIN", 0.1)
    bare = BareRepository(tmp_path / "config.git")
    async with running_git_server(tmp_path) as server:
        writer = GitWriter(tmp_path / "cache", Git(), coming=lambda: 1000)
        await writer.write(change(1, f"{server.url}/config.git"))
    assert len(bare.commits()) == 1


async def test_a_wrong_password_is_told_without_it(tmp_path: Path) -> None:
    """The credential is in no error, and git does not stop to ask for another."""
    BareRepository(tmp_path / "config.git")
    async with running_git_server(tmp_path, user="bot", password=SECRET) as server:
        repo = server.url.replace("http://", "http://bot:wr0ng-password@") + "/config.git"
        with pytest.raises(ProviderError) as caught:
            await GitWriter(tmp_path / "cache", Git()).write(change(1, repo))
    assert "wr0ng-password" not in caught.value.sentence()
    assert "config.git" in caught.value.sentence()


async def test_what_contains_what_is_told_from_history(tmp_path: Path) -> None:
    """Argo CD synced a newer commit: it is ours too exactly if ours is in its history."""
    bare = BareRepository(tmp_path / "config.git")
    async with running_git_server(tmp_path) as server:
        repo = f"{server.url}/config.git"
        first, other = GitWriter(tmp_path / "a", Git()), GitWriter(tmp_path / "b", Git())
        old = (await first.write(change(1, repo))).revision
        new = (await other.write(change(2, repo))).revision
        assert bare.commits()[0] == new
        answers = [
            await first.contains(GitopsSpec(), repo, *pair) for pair in ((old, new), (new, old), (old, "f" * 40))
        ]
        assert await first.contains(GitopsSpec(), repo, old, "v1.2.3; rm -rf /") is False
    assert answers == [True, False, False]
