"""`slipway doctor` before the first release day: which configuration repository we may not write, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.catalog.load import load_catalog
from bot.doctor import examine, said
from bot.settings import Settings
from tests.fakes.code_hosts import TOKEN, running_code_host
from tests.fakes.git_http import running_git_server
from tests.fakes.git_ssh import make_key
from tests.fakes.repositories import BareRepository, Repository
from tests.unit.catalog.directories import write

SECRET = "s3cret-of-the-server"
ROOT = """\
environments: {{prod: {{branch: main}}}}
people: {{olive: {{}}}}
teams: {{shop: {{leads: [olive]}}}}
defaults: {{repo: "group/x", gitops: {gitops}}}
"""


async def lines(directory: Path, gitops: str, **settings: object) -> list[str]:
    catalog = write(directory, {"slipway.yaml": ROOT.format(gitops=gitops), "services/a.yaml": "pay: {team: shop}\n"})
    found: list[str] = []
    values = Settings.model_validate({"config": catalog, **settings})
    await examine(values, load_catalog(catalog), lambda one: found.append(said(one)))
    return [line for line in found if line[4:].startswith("git: ")]  # Other systems have doctors of their own.


@pytest.fixture
def served(tmp_path: Path) -> BareRepository:
    bare, work = BareRepository(tmp_path / "served" / "config.git"), Repository(tmp_path / "work")
    work.commit({"README": "x"}, "first")
    work.git("push", "--quiet", bare.address, "HEAD:main")
    return bare


async def test_repositories_signature_and_host_are_looked_at(tmp_path: Path, served: BareRepository) -> None:
    """All is well, and nothing was pushed; then the same with a wrong password, told without it."""
    file = tmp_path / "credentials"
    async with (
        running_git_server(served.directory.parent, user="bot", password=SECRET) as server,
        running_code_host("gitlab", served) as host,
    ):
        gitops = f"{{repo: '{server.url}/config.git', merge_request: {{host: gitlab, project: ops/config}}}}"
        more = {"git_credentials_file": file, "gitlab_url": host.url, "gitlab_token": TOKEN}
        signing = {"git_signing_key": str(make_key(tmp_path / "key")), "git_signing_format": "ssh"}
        file.write_text(server.url.replace("://", f"://bot:{SECRET}@"))
        assert await lines(tmp_path / "a", gitops, **more, **signing) == [
            f"ok  git: Branch main of the configuration repository {server.url}/config.git can be read and pushed to.",
            "ok  git: Commits can be signed (ssh).",
            "ok  git: Merge requests of ops/config on gitlab can be seen.",
        ]
        file.write_text(server.url.replace("://", "://bot:wr0ng@"))
        bad = await lines(tmp_path / "b", gitops, **more | {"gitlab_token": "wrong"})
    assert [line[:4] for line in bad] == ["FIX ", "FIX "]
    assert "refused Slipway's credentials" in bad[0]
    assert "does not accept Slipway's credentials" in bad[1]
    assert "wr0ng" not in str(bad)
    assert "slipway" not in served.git("for-each-ref")


async def test_a_host_that_is_not_set_up_and_repositories_on_disk(tmp_path: Path) -> None:
    """What is missing is named; what lies in a directory needs no doctor."""
    assert await lines(tmp_path / "a", "{repo: repos/config.git}") == []
    gitops = "{repo: 'http://127.0.0.1:9/ops/config.git', merge_request: {host: github}}"
    found = await lines(tmp_path / "b", gitops)
    assert "could not be reached" in found[0]
    assert "Set SLIPWAY_GITHUB_URL and SLIPWAY_GITHUB_TOKEN." in found[1]
