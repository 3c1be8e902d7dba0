"""What a person may type as a version, and what it means."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.errors import BadInput, ProviderRejected
from bot.git import Git
from bot.sources.git import Source
from tests.fakes.repositories import Repository


class CountingGit(Git):
    """The real git, remembering which sub-commands were called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def run(self, *arguments, **options):  # type: ignore[no-untyped-def]
        self.calls.append(arguments[0])
        return await super().run(*arguments, **options)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "pay")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "cache", Git())


async def test_nothing_means_the_branchs_newest_commit(repository: Repository, source: Source) -> None:
    """`/deploy pay prod` ships what the environment's branch holds now, also after a later push."""
    first = repository.commit({"a": "1"}, "first")
    revision = await source.resolve(repository.address, None, "main")
    assert (revision.commit, revision.version, revision.branch) == (first, first[:12], "main")
    assert (revision.subject, revision.author, revision.author_email) == ("first", "Ada", "ada@slipway.example")
    assert revision.committed_at.utcoffset() is not None
    second = repository.commit({"a": "2"}, "second")
    assert (await source.resolve(repository.address, None, "main")).commit == second


async def test_tag_branch_and_commit_are_told_apart(repository: Repository, source: Source) -> None:
    """A version is a tag if there is one; a tag wins over a branch of the same name."""
    first = repository.commit({"a": "1"}, "first")
    repository.git("tag", "v1.9")
    repository.git("tag", "-a", "-m", "ten", "v1.10")
    repository.git("branch", "release/2")
    second = repository.commit({"a": "2"}, "second")
    repository.git("branch", "v1.9")
    cases = {
        "v1.9": (first, "v1.9", "main"),
        "release/2": (first, "v1.10", "release/2"),
        "main": (second, second[:12], "main"),
        second[:7]: (second, second[:12], "main"),
        second: (second, second[:12], "main"),
    }
    for ref, expected in cases.items():
        revision = await source.resolve(repository.address, ref, "main")
        assert (revision.commit, revision.version, revision.branch) == expected, ref


async def test_a_branch_that_was_removed_or_rewritten_is_forgotten(repository: Repository, source: Source) -> None:
    """An old copy must not deploy what no longer exists under that name."""
    repository.commit({"a": "1"})
    repository.git("branch", "gone")
    await source.resolve(repository.address, "gone", "main")
    repository.git("branch", "-D", "gone")
    with pytest.raises(BadInput, match="gone"):
        await source.resolve(repository.address, "gone", "main")
    repository.git("commit", "--amend", "-m", "rewritten")
    assert (await source.resolve(repository.address, None, "main")).subject == "rewritten"


async def test_an_unknown_version_names_the_nearest(repository: Repository, source: Source) -> None:
    """A typing error is answered with what was meant."""
    repository.commit({"a": "1"})
    repository.git("tag", "v1.4.2")
    with pytest.raises(BadInput) as caught:
        await source.resolve(repository.address, "v1.4.3", "main")
    assert "has no version, branch or commit `v1.4.3`; nearest are v1.4.2." in caught.value.message


ATTACKS = [
    "--upload-pack=touch /tmp/pwned",
    "-x",
    "main..other",
    "main~1",
    "HEAD^",
    "@{u}",
    "a b",
    "a:b",
    "$(id)",
    "`id`",
    "a\nb",
    "\x1b[31m",
    "",
    "x" * 300,
    ":/first",
    "refs/heads/../../etc",
    "main.lock",
    "*",
]


@pytest.mark.parametrize("ref", ATTACKS)
async def test_what_is_no_name_never_reaches_git(tmp_path: Path, repository: Repository, ref: str) -> None:
    """What a stranger types in a chat is neither an option nor an expression."""
    git = CountingGit()
    with pytest.raises(BadInput) as caught:
        await Source(tmp_path / "cache", git).resolve(repository.address, ref, "main")
    assert git.calls == []
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("ref", ["HEAD", "FETCH_HEAD", "refs/heads/main", "heads/main", "deadbeef"])
async def test_names_of_gits_own_are_unknown_versions(repository: Repository, source: Source, ref: str) -> None:
    """Only tags, branches and commits count: `HEAD` would mean something else on every machine."""
    repository.commit({"a": "1"})
    with pytest.raises(BadInput, match="has no version"):
        await source.resolve(repository.address, ref, "main")


async def test_a_missing_repository_or_branch_is_one_sentence(
    tmp_path: Path, repository: Repository, source: Source
) -> None:
    """A wrong catalog is told with the field to correct."""
    with pytest.raises(ProviderRejected) as caught:
        await source.resolve(str(tmp_path / "nothing"), None, "main")
    assert caught.value.sentence() == (
        f"There is no repository at {tmp_path}/nothing. Correct the service's `repo` in the catalog."
    )
    repository.commit({"a": "1"})
    with pytest.raises(ProviderRejected, match=r"has no branch `prod`; nearest are main\."):
        await source.resolve(repository.address, None, "prod")


async def test_an_empty_repository_is_one_sentence(repository: Repository, source: Source) -> None:
    """A service without a first commit cannot be deployed, and is told so."""
    with pytest.raises(ProviderRejected, match=r"has no branch `main` \(it is empty\)"):
        await source.resolve(repository.address, None, "main")


async def test_questions_at_the_same_time_share_a_fetch(tmp_path: Path, repository: Repository) -> None:
    """A release day's fifty commands must not be fifty fetches of one repository."""
    repository.commit({"a": "1"})
    git = CountingGit()
    source = Source(tmp_path / "cache", git)
    revisions = await asyncio.gather(*(source.resolve(repository.address, None, "main") for _ in range(50)))
    assert len({revision.commit for revision in revisions}) == 1
    assert git.calls.count("fetch") <= 2
    assert git.calls.count("init") == 1


async def test_a_cancelled_question_does_not_spoil_the_others(repository: Repository, source: Source) -> None:
    """One person's cancelled command must not fail another's."""
    commit = repository.commit({"a": "1"})
    first = asyncio.create_task(source.resolve(repository.address, None, "main"))
    second = asyncio.create_task(source.resolve(repository.address, None, "main"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).commit == commit


async def test_a_full_commit_that_is_known_needs_no_network(tmp_path: Path, repository: Repository) -> None:
    """A rollback works while the Git server is away."""
    commit = repository.commit({"a": "1"})
    git = CountingGit()
    source = Source(tmp_path / "cache", git)
    await source.resolve(repository.address, None, "main")
    git.calls.clear()
    repository.directory.rename(tmp_path / "away")
    assert (await source.resolve(repository.address, commit, "main")).commit == commit
    assert "fetch" not in git.calls


async def test_commits_between_two_releases(repository: Repository, source: Source) -> None:
    """The card lists what ships; a rollback ships nothing new."""
    first = repository.commit({"a": "1"}, "first")
    repository.commit({"a": "2"}, "second")
    third = repository.commit({"a": "3"}, "third")
    commits = await source.commits(repository.address, first, third)
    assert [commit.subject for commit in commits] == ["third", "second"]
    assert [commit.subject for commit in await source.commits(repository.address, first, third, limit=1)] == ["third"]
    assert await source.commits(repository.address, third, first) == []
    assert await source.commits(repository.address, "0" * 40, third) == []
    assert await source.commits(repository.address, "--output=/tmp/x", third) == []


async def test_a_damaged_copy_heals_by_itself(tmp_path: Path, repository: Repository, source: Source) -> None:
    """A lock left by a killed git, or a copy half removed, must not need a person."""
    commit = repository.commit({"a": "1"})
    await source.resolve(repository.address, None, "main")
    directory = source.mirror(repository.address).directory
    (directory / "packed-refs.lock").touch()
    (directory / "refs" / "heads" / "main.lock").touch()
    newer = repository.commit({"a": "2"})
    assert (await source.resolve(repository.address, None, "main")).commit == newer
    (directory / "HEAD").unlink()
    assert (await source.resolve(repository.address, commit, "main")).commit == commit


async def test_a_file_of_a_commit(repository: Repository, source: Source) -> None:
    """The pipeline file is the commit's own, not the branch's newest."""
    commit = repository.commit({"dir/a": "1\n"})
    repository.commit({"dir/a": "2\n"})
    assert await source.read(repository.address, commit, "dir/a") == b"1\n"
    assert await source.read(repository.address, commit, "dir") is None
    assert await source.read(repository.address, commit, "nothing here") is None
    with pytest.raises(ProviderRejected, match="larger than 1 bytes"):
        await source.read(repository.address, commit, "dir/a", limit=1)
    with pytest.raises(ProviderRejected, match="is not in"):
        await source.read(repository.address, "0" * 40, "dir/a")


async def test_a_tag_is_made_once_and_never_moved(tmp_path: Path, repository: Repository, source: Source) -> None:
    """The same again changes nothing, also by another replica; the tag of another commit is not taken over."""
    repo, at = str(repository.directory), datetime(2026, 11, 25, tzinfo=UTC)
    first = repository.commit({"a": "1"}, "first")
    second = repository.commit({"a": "2"}, "second")
    other = Source(tmp_path / "other", Git())
    for one in (source, source, other):
        await one.tag(repo, first, "v1.0", "app 1.0 promoted\n\nsha256:1", at)
    assert repository.git("cat-file", "-t", "v1.0").strip() == "tag"
    assert repository.git("rev-parse", "v1.0^{commit}").strip() == first
    with pytest.raises(ProviderRejected, match=rf"is another commit already \({first[:12]}\)"):
        await source.tag(repo, second, "v1.0", "again", at)
    with pytest.raises(ProviderRejected, match="cannot be a tag"):
        await source.tag(repo, second, "--force", "again", at)


async def test_the_newest_release_branch_is_meant_by_a_pattern(repository: Repository, source: Source) -> None:
    """`branch: release/*` follows the releases without anybody changing the catalog; 202410 comes after 202409."""
    repository.commit({"a": "1"}, "first")
    for name in ("release/202409", "release/202410", "other"):
        repository.git("branch", name)
    newest = repository.commit({"a": "2"}, "second")
    repository.git("branch", "-f", "release/202410", newest)
    found = await source.resolve(repository.address, None, "release/*")
    assert (found.commit, found.branch) == (newest, "release/202410")
    with pytest.raises(ProviderRejected, match=r"has no branch `hotfix/\*`"):
        await source.resolve(repository.address, None, "hotfix/*")


async def test_versions_are_named_from_git_alone(repository: Repository, source: Source) -> None:
    """The same commit has the same name for everybody; a tag that is asked for by name stays what it is."""
    repository.commit({"a": "1"}, "first")
    commit = repository.commit({"a": "2"}, "second")
    repository.git("branch", "release/202406")
    repository.git("tag", "promoted/one")
    naming = "{release}-{date}.{count}"
    found = await source.resolve(repository.address, None, "release/202406", naming)
    day = f"{found.committed_at:%Y%m%d}"
    assert found.version == f"202406-{day}.2"
    asked = await source.resolve(repository.address, "release/202406", "main", naming)
    assert (asked.version, asked.branch) == (found.version, "release/202406")
    assert (await source.resolve(repository.address, "promoted/one", "main", naming)).version == "promoted/one"
    assert (await source.resolve(repository.address, commit, "main")).version == "promoted/one"
