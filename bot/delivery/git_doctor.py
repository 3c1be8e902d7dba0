"""What `slipway doctor` looks at in Git: the configuration repositories on servers, who may push, and the signature."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bot.catalog.model import Catalog, GitopsSpec
from bot.catalog.repository import resolve_repo
from bot.delivery.gitops import Signing
from bot.delivery.merge_requests import project_of
from bot.doctor import Finding
from bot.errors import ProviderError, ProviderRejected, SlipwayError
from bot.git import Git, display_address, split_credentials
from bot.git_settings import git_of, signing_of

if TYPE_CHECKING:
    from bot.delivery.merge_requests import CodeHost
    from bot.settings import Settings

MOST = 30
"""Repositories that are asked."""
_SOURCE = "slipway/doctor"


async def check(settings: Settings, catalog: Catalog) -> AsyncIterator[Finding]:
    """Every finding; nothing is pushed."""
    places = {(one.repo, one.branch, one.merge_request): one for one in _remote(settings, catalog)}
    if not places:
        return
    git = git_of(settings)
    with tempfile.TemporaryDirectory(prefix="slipway-doctor-") as directory:
        for number, place in enumerate(list(places.values())[:MOST]):
            yield await _told(_of_place(git, place, Path(directory) / f"{number}.git"))
        signing = signing_of(settings)
        if signing is not None:
            yield await _told(_of_signing(git, signing, Path(directory) / "0.git"))
    async for finding in _of_hosts(settings, [one for one in places.values() if one.merge_request is not None]):
        yield finding


def _remote(settings: Settings, catalog: Catalog) -> Iterator[GitopsSpec]:
    for service in catalog.services.values():
        for target in service.targets.values():
            repo = resolve_repo(settings.config, target.gitops.repo)
            if "://" in repo or "@" in repo:
                yield replace(target.gitops, repo=repo)


async def _told(looked: Awaitable[str]) -> Finding:
    try:
        return Finding("git", await looked)
    except ProviderError as error:
        return Finding("git", error.message, error.hint or "Look at the message.")


async def _of_place(git: Git, place: GitopsSpec, directory: Path) -> str:
    """Read the branch, and ask to push what is there: servers say at that moment who may."""
    about = f"the configuration repository {display_address(place.repo)}"
    address = split_credentials(place.repo)
    credentials = git.settings_for(address)
    await git.run("init", "--quiet", "--bare", "--template=", str(directory), about=about)
    branch = f"refs/heads/{place.branch}"
    fetch = ("fetch", "--quiet", "--depth=1", "--no-write-fetch-head", "--", address.url, f"{branch}:{branch}")
    await git.run(*fetch, about=about, directory=directory, settings=credentials)
    target = branch if place.merge_request is None else f"refs/heads/{_SOURCE}"
    push = ("push", "--dry-run", "--porcelain", "--quiet", address.url, f"{branch}:{target}")
    await git.run(*push, about=about, directory=directory, settings=credentials)
    return f"Branch {place.branch} of {about} can be read and pushed to."


async def _of_signing(git: Git, signing: Signing, directory: Path) -> str:
    about = "the signature"
    tree = await git.run("mktree", about=about, directory=directory)
    author = {f"GIT_{who}_{what}": "slipway" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    await git.run(
        *("commit-tree", tree.out.decode().strip(), "-S", "-m", "doctor"),
        about=about,
        directory=directory,
        settings=signing.settings,
        environment=author,
    )
    return f"Commits can be signed ({signing.format})."


async def _of_hosts(settings: Settings, places: list[GitopsSpec]) -> AsyncIterator[Finding]:
    if not places:
        return
    from bot.delivery.code_hosts import code_hosts

    closing: list[Callable[[], Awaitable[None]]] = []
    try:
        hosts = code_hosts(settings, closing)
        for place in places:
            yield await _told(_of_host(hosts, place))
    except SlipwayError as error:
        yield Finding("git", error.message, error.hint or "Correct it.")
    finally:
        for close in closing:
            with suppress(OSError):
                await close()


async def _of_host(hosts: dict[str, CodeHost], place: GitopsSpec) -> str:
    rule = place.merge_request
    assert rule is not None
    if rule.host not in hosts:
        names = f"SLIPWAY_{rule.host.upper()}_URL and SLIPWAY_{rule.host.upper()}_TOKEN"
        raise ProviderRejected(
            f"The catalog proposes changes on {rule.host}, which is not set up.", hint=f"Set {names}."
        )
    project = project_of(rule, place.repo)
    await hosts[rule.host].find(project, _SOURCE, place.branch)
    return f"Merge requests of {project} on {rule.host} can be seen."
