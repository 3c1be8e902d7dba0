"""The Git writer on real repositories: once, in order, never by force, nobody's change lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bot.catalog.model import GitopsSpec
from bot.delivery.base import Change, Written
from bot.delivery.gitops import Author, GitWriter
from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable, Refused
from bot.git import Git
from tests.fakes.repositories import BareRepository, Repository
from tests.support import FakeClock
from tests.support.disk import fill, mounted


class WatchedGit(Git):
    """The real git; counts sub-commands, and runs something just before the next push if asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.before_push: list[str] = []
        self.racer: Repository | None = None

    async def run(self, *arguments, **options):  # type: ignore[no-untyped-def]
        self.calls.append(arguments[0])
        if arguments[0] == "push" and self.racer is not None:
            self.racer.git("pull", "--quiet", "--no-rebase", "origin", "main")
            self.racer.commit({"theirs": str(len(self.calls))}, "theirs")
            self.racer.git("push", "--quiet", "origin", "HEAD:main")
            self.racer = None
        return await super().run(*arguments, **options)


@pytest.fixture
def remote(tmp_path: Path) -> BareRepository:
    return BareRepository(tmp_path / "config.git")


@pytest.fixture
def git() -> WatchedGit:
    return WatchedGit()


@pytest.fixture
def writer(tmp_path: Path, git: WatchedGit, clock: FakeClock) -> GitWriter:
    return GitWriter(tmp_path / "cache", git, clock=clock, author=Author("Slipway", "slipway@slipway.example"))


def change(remote: BareRepository, service: str = "pay", *, number: int = 1, version: str = "1.0") -> Change:
    return Change(
        intent=f"dep-{number}:write",
        service=service,
        environment="prod",
        gitops=GitopsSpec(),
        repo=remote.address,
        version=version,
        digest=f"sha256:{version}",
        commit="c" * 40,
        subject=f"{service} {version} to prod",
        trailers=(("Slipway-Deployment", f"dep-{number}"), ("Requested-by", "Ada <ada@slipway.example>")),
    )


def push_file(remote: BareRepository, tmp_path: Path, files: dict[str, str]) -> Repository:
    """Somebody else's clone, with one pushed commit."""
    repository = Repository(tmp_path / "theirs")
    repository.commit(files, "theirs")
    repository.git("remote", "add", "origin", remote.address)
    repository.git("push", "--quiet", "origin", "HEAD:main")
    return repository


async def test_one_commit_with_trailers_into_an_empty_repository(
    remote: BareRepository, writer: GitWriter, clock: FakeClock
) -> None:
    """The first deployment ever works, and Git's history alone tells who and why."""
    assert await writer.read(GitopsSpec(), remote.address, "pay", "prod") == Written("", "", "", changed=False)
    written = await writer.write(change(remote))
    assert written == Written(remote.commits()[0], "1.0", "sha256:1.0", changed=True)
    assert remote.show("prod/pay.yaml") == f'version: "1.0"\ndigest: "sha256:1.0"\ncommit: "{"c" * 40}"'
    assert remote.message() == (
        "pay 1.0 to prod\n\nSlipway-Deployment: dep-1\nRequested-by: Ada <ada@slipway.example>\n"
        "Slipway-Intent: dep-1:write"
    )
    assert (
        remote.git("log", "-1", "--format=%an %ae %at") == f"Slipway slipway@slipway.example {int(clock().timestamp())}"
    )
    again = await writer.read(GitopsSpec(), remote.address, "pay", "prod")
    assert again == replace(written, changed=False, commit="c" * 40)


async def test_the_same_intent_again_is_the_same_commit(
    tmp_path: Path, remote: BareRepository, writer: GitWriter, clock: FakeClock
) -> None:
    """After a crash between push and answer the new bot adopts the commit, and later changes do not confuse it."""
    first = await writer.write(change(remote))
    await writer.write(change(remote, number=2, version="2.0"))
    restarted = GitWriter(tmp_path / "other-cache", Git(), clock=clock)
    assert await restarted.find(change(remote)) == first
    assert (await restarted.write(change(remote))).revision == first.revision
    assert (await writer.write(change(remote))).revision == first.revision
    assert len(remote.commits()) == 2
    assert await restarted.find(change(remote, number=3)) is None
    assert await restarted.find(replace(change(remote), intent="dep-1")) is None


async def test_the_same_value_makes_no_commit(remote: BareRepository, writer: GitWriter) -> None:
    """Deploying again what is there restarts nothing by way of Git."""
    first = await writer.write(change(remote))
    again = await writer.write(change(remote, number=2))
    assert again == Written(first.revision, "1.0", "sha256:1.0", changed=False)
    assert len(remote.commits()) == 1


async def test_a_changed_old_value_refuses_the_write(tmp_path: Path, remote: BareRepository, writer: GitWriter) -> None:
    """What was approved was a step from one release to another; from elsewhere it is another step."""
    await writer.write(change(remote, version="1.0"))
    with pytest.raises(ProviderRejected) as caught:
        await writer.write(replace(change(remote, number=2, version="2.0"), expected_digest="sha256:0.9"))
    assert caught.value.message == "Somebody changed pay in prod meanwhile: Git has version 1.0."
    with pytest.raises(ProviderRejected):
        await writer.write(replace(change(remote, number=3, version="2.0"), expected_digest=""))
    await writer.write(replace(change(remote, number=4, version="2.0"), expected_digest="sha256:1.0"))
    assert len(remote.commits()) == 2


async def test_a_lost_race_is_made_anew_on_top(
    tmp_path: Path, remote: BareRepository, git: WatchedGit, writer: GitWriter
) -> None:
    """Somebody pushes between our fetch and our push: both changes are there, theirs untouched, nothing forced."""
    git.racer = push_file(remote, tmp_path, {"prod/pay.yaml": "replicas: 3\n"})
    written = await writer.write(change(remote))
    assert remote.commits()[0] == written.revision
    assert remote.git("log", "--format=%s").splitlines() == ["pay 1.0 to prod", "theirs", "theirs"]
    assert "replicas: 3" in remote.show("prod/pay.yaml")


async def test_concurrent_changes_become_commits_of_one_push(
    remote: BareRepository, git: WatchedGit, writer: GitWriter
) -> None:
    """A release train of fifty services must not be fifty pushes one after another."""
    await writer.write(change(remote, "first", number=1000))
    git.calls.clear()
    written = await asyncio.gather(*(writer.write(change(remote, f"s{n}", number=n)) for n in range(50)))
    assert len({one.revision for one in written}) == 50
    assert len(remote.commits()) == 51
    assert git.calls.count("push") <= 2
    for n in range(50):
        assert 'version: "1.0"' in remote.show(f"prod/s{n}.yaml")
    assert remote.git("diff", "--stat", f"{written[7].revision}~", written[7].revision).count("|") == 1


async def test_two_changes_of_one_file_at_once_are_applied_in_order(remote: BareRepository, writer: GitWriter) -> None:
    """Also the impossible is written down in order."""
    await asyncio.gather(*(writer.write(change(remote, number=n, version=f"{n}.0")) for n in range(1, 4)))
    assert len(remote.commits()) == 3
    assert 'version: "3.0"' in remote.show("prod/pay.yaml")


async def test_two_writers_on_one_repository_lose_nothing(tmp_path: Path, remote: BareRepository) -> None:
    """Two replicas, or a bot and its successor, push at the same time."""
    writers = [GitWriter(tmp_path / f"cache{n}", Git()) for n in range(2)]
    changes = [change(remote, f"s{n}", number=n) for n in range(20)]
    jobs = [writers[n % 2].write(one) for n, one in enumerate(changes)]
    written = await asyncio.gather(*jobs)
    assert sorted(one.revision for one in written) == sorted(remote.commits())
    assert len(remote.commits()) == 20


async def test_the_same_intent_by_two_writers_is_one_commit(tmp_path: Path, remote: BareRepository) -> None:
    """A paused replica that returns must not write a second time."""
    writers = [GitWriter(tmp_path / f"cache{n}", Git()) for n in range(2)]
    written = await asyncio.gather(*(writer.write(change(remote)) for writer in writers))
    assert len(remote.commits()) == 1
    assert {one.revision for one in written} == set(remote.commits())


async def test_one_refused_change_does_not_fail_its_neighbours(
    tmp_path: Path, remote: BareRepository, writer: GitWriter
) -> None:
    """A file that cannot be edited, or a change that a server rule refuses, is one service's problem."""
    push_file(remote, tmp_path, {"prod/bad.yaml": "- a list\n"})
    remote.hook(
        "pre-receive",
        "read old new ref\n"
        'if git diff --name-only $old $new | grep -q frozen; then echo "frozen is frozen"; exit 1; fi',
    )
    names = ["a", "bad", "b", "frozen", "c"]
    jobs = [writer.write(change(remote, name, number=n)) for n, name in enumerate(names)]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    good = [result for result in results if isinstance(result, Written)]
    assert len(good) == 3
    assert isinstance(results[1], ProviderRejected)
    assert isinstance(results[3], ProviderRejected)
    assert "frozen is frozen" in results[3].sentence()
    assert len(remote.commits()) == 4


async def test_what_is_not_wanted_any_more_is_not_pushed_with_its_neighbours(
    remote: BareRepository, git: WatchedGit, writer: GitWriter
) -> None:
    """A freeze that began while the change waited in the queue holds; the other changes of the batch go on."""
    pushed_before: list[int] = []

    async def frozen() -> None:
        raise Refused("A freeze has begun.")

    async def fine() -> None:
        pushed_before.append(git.calls.count("push"))

    checks = [fine, frozen, fine]
    jobs = [writer.write(change(remote, f"s{n}", number=n), check) for n, check in enumerate(checks)]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results] == [Written, Refused, Written]
    assert pushed_before == [0, 0]
    assert len(remote.commits()) == 2
    assert await writer.find(change(remote, "s1", number=1)) is None


async def test_whether_it_is_wanted_is_asked_again_after_a_lost_race(
    tmp_path: Path, remote: BareRepository, git: WatchedGit, writer: GitWriter
) -> None:
    """Each push has its own moment; what is written already is answered without a question."""
    git.racer = push_file(remote, tmp_path, {"README": "x"})
    asked = []

    async def check() -> None:
        asked.append(git.calls.count("push"))

    await writer.write(change(remote), check)
    assert asked == [0, 1]
    await writer.write(change(remote), check)
    assert len(asked) == 2


async def test_a_read_only_repository_is_one_sentence(remote: BareRepository, writer: GitWriter) -> None:
    """Nothing is half-done, and the sentence names what to do."""
    remote.hook("pre-receive", "echo 'this repository is an archive' >&2; exit 1")
    with pytest.raises(ProviderRejected) as caught:
        await writer.write(change(remote))
    assert caught.value.sentence() == (
        f"The configuration repository {remote.address} declined the change by a rule of its own: this repository is an"
        " archive. Ask the owner of that repository to allow Slipway to push."
    )
    assert remote.git("for-each-ref") == ""


async def test_a_working_copy_as_configuration_repository_is_refused(tmp_path: Path, writer: GitWriter) -> None:
    """Pushing under somebody's open files would lose their work."""
    theirs = Repository(tmp_path / "theirs")
    theirs.commit({"README": "x"})
    bare = BareRepository(tmp_path / "unused")
    with pytest.raises(ProviderRejected, match="is a working copy") as caught:
        await writer.write(replace(change(bare), repo=theirs.address))
    assert caught.value.hint == "Use a bare repository."


async def test_a_missing_repository_or_branch_is_one_sentence(
    tmp_path: Path, remote: BareRepository, writer: GitWriter
) -> None:
    """A wrong catalog names its field; no branch appears by mistake."""
    with pytest.raises(ProviderRejected, match=r"no readable repository at .*nowhere"):
        await writer.write(replace(change(remote), repo=str(tmp_path / "nowhere")))
    push_file(remote, tmp_path, {"README": "x"})
    with pytest.raises(ProviderRejected, match="has no branch `mian`"):
        await writer.write(replace(change(remote), gitops=GitopsSpec(branch="mian")))


async def test_a_full_disk_is_told_as_such_and_passes(tmp_path: Path, remote: BareRepository, clock: FakeClock) -> None:
    """It is tried again by itself, and works once there is space."""
    with mounted(tmp_path / "disk", kilobytes=512) as disk:
        filler = fill(disk)
        writer = GitWriter(disk / "cache", Git(), clock=clock)
        with pytest.raises(ProviderUnavailable, match="disk is full"):
            await writer.write(change(remote))
        filler.unlink()
        assert (await writer.write(change(remote))).changed


async def test_an_unreachable_server_is_told_as_such(remote: BareRepository, writer: GitWriter) -> None:
    """It is tried again, and nobody is told that their repository is missing."""
    with pytest.raises(ProviderUnavailable):
        await writer.read(GitopsSpec(), "http://127.0.0.1:1/x.git", "pay", "prod")


async def test_a_push_without_an_answer_is_unknown_and_then_found(
    tmp_path: Path, remote: BareRepository, clock: FakeClock
) -> None:
    """The connection breaks after the server took it: the next look finds the commit."""

    class LosesTheAnswer(Git):
        async def run(self, *arguments, **options):  # type: ignore[no-untyped-def]
            finished = await super().run(*arguments, **options)
            if arguments[0] == "push":
                return replace(finished, code=128, err=b"fatal: the remote end hung up unexpectedly")
            return finished

    writer = GitWriter(tmp_path / "cache", LosesTheAnswer(), clock=clock)
    with pytest.raises(OutcomeUnknown):
        await writer.write(change(remote))
    found = await writer.find(change(remote))
    assert found is not None
    assert found.revision == remote.commits()[0]


async def test_no_text_can_forge_a_trailer_or_a_path(remote: BareRepository, writer: GitWriter) -> None:
    """A reason typed in a chat ends up in the message; it must not pass for another deployment's record."""
    forged = replace(
        change(remote),
        subject="hi\n\nSlipway-Intent: dep-9:write",
        version="$(touch /tmp/pwned)\nx: 1",
        trailers=(
            ("Reason", "x\nSlipway-Intent: dep-9:write"),
            ("Bad name\nX", "y"),
            ("slipway-intent", "dep-9:write"),
        ),
    )
    await writer.write(forged)
    assert await writer.find(replace(change(remote), intent="dep-9:write")) is None
    assert remote.git("log", "-1", "--format=%(trailers:key=Slipway-Intent,valueonly)") == "dep-1:write"
    assert (await writer.read(GitopsSpec(), remote.address, "pay", "prod")).version == "$(touch /tmp/pwned)\nx: 1"
    for path in ("../{service}", "/etc/{service}", ".git/{service}", "{team}/x", 'a"b', "a\nb", ""):
        with pytest.raises(ProviderRejected, match="not a path in the repository"):
            await writer.write(replace(change(remote), gitops=GitopsSpec(path=path)))
    with pytest.raises(ProviderRejected, match="not a branch name"):
        await writer.write(replace(change(remote), gitops=GitopsSpec(branch="--force")))


async def test_removing_undoes_a_first_deployment(remote: BareRepository, writer: GitWriter) -> None:
    """There was nothing before, so there is nothing after; once."""
    await writer.write(change(remote))
    undo = replace(change(remote), intent="dep-1:undo", expected_digest="sha256:1.0")
    removed = await writer.remove(undo)
    assert (removed.version, removed.digest, removed.changed) == ("", "", True)
    assert remote.git("ls-tree", "-r", "main") == ""
    assert (await writer.remove(undo)).revision == removed.revision
    assert (await writer.remove(replace(undo, intent="other", expected_digest=None))).changed is False
    assert len(remote.commits()) == 2


async def test_a_rewritten_history_is_looked_at_anew(
    tmp_path: Path, remote: BareRepository, git: WatchedGit, writer: GitWriter
) -> None:
    """After somebody's force push our commit is gone, and saying otherwise would lose a deployment."""
    theirs = push_file(remote, tmp_path, {"README": "x"})
    await writer.write(change(remote))
    theirs.commit({"README": "y"}, "rewritten")
    theirs.git("push", "--quiet", "--force", "origin", "HEAD:main")
    assert await writer.find(change(remote)) is None
    await writer.write(change(remote))
    assert len(remote.commits()) == 3


async def test_looking_again_reads_no_history(remote: BareRepository, git: WatchedGit, writer: GitWriter) -> None:
    """A look per deployment must stay cheap in a repository with a million commits."""
    await writer.write(change(remote))
    git.calls.clear()
    await writer.find(change(remote))
    assert "log" not in git.calls


async def test_all_who_look_at_once_share_one_look(remote: BareRepository, git: WatchedGit, writer: GitWriter) -> None:
    """Five hundred deployments that reach this step together must not start git five hundred times each way."""
    await asyncio.gather(*(writer.write(change(remote, f"svc-{n}", number=n)) for n in range(3)))
    git.calls.clear()
    spec = change(remote).gitops
    asked = [writer.read(spec, remote.address, f"svc-{n % 4}", "prod") for n in range(40)]
    found = await asyncio.gather(
        *asked, *(writer.find(change(remote, f"svc-{n % 3}", number=n % 3)) for n in range(40))
    )
    assert len(git.calls) <= 10
    assert [one.version for one in found[:4] if one is not None] == ["1.0", "1.0", "1.0", ""]
    assert all(one is not None for one in found[40:])


async def test_a_directory_in_the_place_of_a_file_is_told_to_its_own_change_alone(
    remote: BareRepository, writer: GitWriter
) -> None:
    """Whoever is folded into the same push goes on."""
    await writer.write(change(remote, "svc-1"))
    odd = replace(change(remote, "svc-2", number=2), gitops=GitopsSpec(path="{environment}"))
    good = change(remote, "svc-3", number=3)
    refused, written = await asyncio.gather(writer.write(odd), writer.write(good), return_exceptions=True)
    assert isinstance(refused, ProviderRejected)
    assert "is a directory there" in refused.message
    assert isinstance(written, Written)
