"""OWNERS of repositories as rights: by path, from the trusted branch, read by commit, and closed when in doubt."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bot.catalog.model import Catalog, Service
from bot.errors import ProviderUnavailable
from bot.git import Git
from bot.policy.decide import decide
from bot.policy.model import Facts, Outcome
from bot.sources.git import Source
from bot.sources.owners import BELIEVED, RepositoryOwners
from tests.fakes.repositories import Repository
from tests.support import FakeClock
from tests.support.rules import a_catalog, a_request, a_service, utc
from tests.unit.sources.test_git_source import CountingGit

NOW = utc(2026, 1, 6, 12)
FILES = {
    "OWNERS": "approvers:\n- lead\n",
    "OWNERS_ALIASES": "aliases:\n  payers:\n  - Rae-L\n",
    "services/pay/OWNERS": "approvers:\n- '@Dev'\n- payers\noptions: {no_parent_owners: true}\n",
    "services/web/OWNERS": "reviewers: [dev]\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "mono")
    made.commit(FILES)
    return made


def known(repository: Repository, path: str = "services/pay") -> Catalog:
    """pay lives in a directory of the repository and has no other owner; rae has a GitHub account of another name."""
    service: Service = a_service(owners=(), repo=str(repository.directory), owners_file=True, path=path)
    made = a_catalog({"pay": service})
    return replace(made, people={**made.people, "rae": replace(made.people["rae"], chats={"github": ("Rae-L",)})})


@pytest.fixture
def owners(tmp_path: Path, clock: FakeClock) -> RepositoryOwners:
    return RepositoryOwners(Source(tmp_path / "cache", Git()), tmp_path, clock)


@pytest.mark.parametrize(
    ("path", "people"),
    [
        ("services/pay", {"dev", "rae"}),
        ("services/pay/deep/er", {"dev", "rae"}),
        ("services/web", {"lead"}),
        ("", {"lead"}),
    ],
)
async def test_approvers_of_a_path_own_it(
    repository: Repository, owners: RepositoryOwners, path: str, people: set[str]
) -> None:
    """The nearest file, what it inherits and what it cuts off, aliases and accounts included."""
    catalog = known(repository, path)
    await owners.freshen(catalog.services["pay"])
    made = owners.complete(catalog)
    assert set(made.services["pay"].owners) == people
    may = {one for one in made.people if decide(made, a_request(one), Facts(), NOW).outcome is Outcome.ALLOWED}
    assert may == people | {"lead", "rae", "ann"}  # its lead, the release manager and the administrator always may


async def test_the_verdict_names_the_line_and_the_commit(repository: Repository, owners: RepositoryOwners) -> None:
    """Whoever doubts a right finds where it is written."""
    catalog = known(repository)
    await owners.freshen(catalog.services["pay"])
    made = owners.complete(catalog)
    commit = repository.git("rev-parse", "HEAD")[:12]
    first = decide(made, a_request("dev"), Facts(), NOW).reasons[0]
    assert (first.text, first.where) == ("Dev may, as owner.", f"services/pay/OWNERS:2 at {commit}")
    assert made.services["pay"].owner_sources["rae"] == f"OWNERS_ALIASES:3 at {commit}"


async def test_a_new_commit_counts_at_once_and_a_known_one_is_not_read_again(
    repository: Repository, tmp_path: Path, clock: FakeClock
) -> None:
    """Taking somebody out of OWNERS takes effect with the merge; asking often costs one fetch."""
    git = CountingGit()
    owners, catalog = RepositoryOwners(Source(tmp_path / "cache", git), tmp_path, clock), known(repository)
    await owners.freshen(catalog.services["pay"])
    read = git.calls.count("cat-file")
    clock.advance(timedelta(minutes=1))
    git.calls.clear()
    await owners.freshen(catalog.services["pay"])
    assert git.calls.count("cat-file") < read - 3  # where the branch stands, and none of the files
    repository.commit({"services/pay/OWNERS": "approvers: [dev]\n"})
    clock.advance(timedelta(minutes=1))
    await owners.freshen(catalog.services["pay"])
    assert owners.complete(catalog).services["pay"].owners == ("dev", "lead")


@pytest.mark.parametrize("text", ["approvers: [a", "- a", "approvers: dev", "\x00"])
async def test_an_unreadable_file_is_nobody(repository: Repository, owners: RepositoryOwners, text: str) -> None:
    """Not those of the directory above."""
    repository.commit({"services/pay/OWNERS": text})
    catalog = known(repository)
    await owners.freshen(catalog.services["pay"])
    assert owners.complete(catalog).services["pay"].owners == ()
    reading = owners.reading("pay")
    assert reading is not None
    assert reading.broken == "services/pay/OWNERS"


async def test_another_branch_gives_no_rights(repository: Repository, owners: RepositoryOwners) -> None:
    """Whoever may push a branch must not make themselves an owner with it."""
    repository.git("checkout", "--quiet", "-b", "mine")
    repository.commit({"services/pay/OWNERS": "approvers: [out]\n"})
    catalog = known(repository)
    await owners.freshen(catalog.services["pay"])
    assert "out" not in owners.complete(catalog).services["pay"].owners


async def test_a_repository_out_of_reach_is_believed_for_an_hour(
    repository: Repository, tmp_path: Path, clock: FakeClock
) -> None:
    """Then nobody owns by it, and the answer says that it cannot be told, not that one may not."""
    source = Unreachable(tmp_path / "cache", Git())
    owners, catalog = RepositoryOwners(source, tmp_path, clock), known(repository)
    await owners.freshen(catalog.services["pay"])
    source.away = True
    clock.advance(BELIEVED)
    await owners.freshen(catalog.services["pay"])
    assert set(owners.complete(catalog).services["pay"].owners) == {"dev", "rae"}
    clock.advance(timedelta(minutes=1))
    with pytest.raises(ProviderUnavailable, match="Who owns pay cannot be told"):
        await owners.freshen(catalog.services["pay"])
    assert owners.complete(catalog).services["pay"].owners == ()


async def test_a_missing_repository_is_nobody(tmp_path: Path, owners: RepositoryOwners, repository: Repository) -> None:
    """A wrong address in the catalog opens nothing."""
    catalog = known(repository)
    wrong = replace(catalog.services["pay"], repo=str(tmp_path / "nowhere"))
    await owners.freshen(wrong)
    assert owners.complete(catalog).services["pay"].owners == ()


class Unreachable(Source):
    """A source whose server can go away."""

    away = False

    async def resolve(self, repo, ref, branch, naming=""):  # type: ignore[no-untyped-def]
        if self.away:
            raise ProviderUnavailable("The repository does not answer.")
        return await super().resolve(repo, ref, branch)
