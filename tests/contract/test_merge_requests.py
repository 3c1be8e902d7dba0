"""Changes that are proposed: one merge request per intent, and what was let in is what was approved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from bot.catalog.model import GitopsSpec, MergeBy, MergeRequestRule
from bot.delivery.base import Change
from bot.delivery.code_hosts import GitHubHost, GitLabHost
from bot.delivery.gitops import GitWriter
from bot.delivery.merge_requests import CodeHost, ProposingWriter, project_of
from bot.errors import OutcomeUnknown, ProviderRejected, Refused
from bot.git import Git
from tests.fakes.code_hosts import TOKEN, FakeCodeHost, running_code_host
from tests.fakes.repositories import BareRepository, Repository


@dataclass
class Place:
    """A configuration repository on a host, and a writer that proposes."""

    fake: FakeCodeHost
    remote: BareRepository
    writer: ProposingWriter
    theirs: Repository

    def change(self, number: int = 1, merge: MergeBy = MergeBy.PEOPLE) -> Change:
        rule = MergeRequestRule(self.fake.kind, merge, "ops/config", ("release",))
        return Change(
            intent=f"slw-{number}",
            service="pay",
            environment="prod",
            gitops=GitopsSpec(merge_request=rule),
            repo=self.remote.address,
            version="1.1",
            digest="sha256:11",
            commit="c" * 40,
            subject="Deploy pay 1.1 to prod",
            trailers=(("Requested-by", "Ada @all `x`"),),
            expected_digest="",
        )

    def push(self, **files: str) -> None:
        """Somebody else's commit."""
        self.theirs.git("pull", "--quiet", "--no-rebase", "origin", "main")
        self.theirs.commit({name.replace("__", "/"): text for name, text in files.items()}, "theirs")
        self.theirs.git("push", "--quiet", "origin", "HEAD:main")


def host_of(fake: FakeCodeHost, client: httpx.AsyncClient) -> CodeHost:
    return GitLabHost(client) if fake.kind == "gitlab" else GitHubHost(client)


@pytest.fixture(params=["gitlab", "github"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    remote, theirs = BareRepository(tmp_path / "config.git"), Repository(tmp_path / "theirs")
    theirs.commit({"README": "x"}, "first")
    theirs.git("remote", "add", "origin", remote.address)
    theirs.git("push", "--quiet", "origin", "HEAD:main")
    async with running_code_host(request.param, remote) as fake:
        gitlab = fake.kind == "gitlab"
        headers = {"PRIVATE-TOKEN": TOKEN} if gitlab else {"Authorization": f"Bearer {TOKEN}"}
        address = f"{fake.url}/api/v4/" if gitlab else f"{fake.url}/"
        async with httpx.AsyncClient(base_url=address, headers=headers) as client:
            writer = GitWriter(tmp_path / "cache", Git())
            yield Place(fake, remote, ProposingWriter(writer, {fake.kind: host_of(fake, client)}), theirs)


async def test_proposed_once_and_done_when_somebody_merges_it(place: Place) -> None:
    """Asking again proposes nothing again; the revision is the merge, which has everybody's changes in it."""
    change = place.change()
    for _ in range(2):
        waiting = await place.writer.write(change)
        assert waiting.revision == ""
        assert f"{place.fake.project}" in waiting.waiting
        assert "is not merged yet" in waiting.waiting
    assert await place.writer.find(change) is None
    (proposed,) = place.fake.requests
    assert (proposed.source, proposed.target, proposed.title) == ("slipway/slw-1", "main", change.subject)
    assert proposed.labels == ["release"]
    assert len(place.remote.commits()) == 1
    place.push(other__file="theirs")
    merge = place.fake.merge()
    written = await place.writer.write(change)
    assert (written.revision, written.version, written.digest) == (merge, "1.1", "sha256:11")
    assert await place.writer.find(change) == written
    assert place.remote.show("other/file", merge) == "theirs"
    assert "Slipway-Intent: slw-1" in place.remote.message(f"{merge}^2")


async def test_what_people_wrote_is_text_in_it(place: Place) -> None:
    """A reason typed in a chat must not notify a thousand people on another system."""
    await place.writer.write(place.change())
    text = place.fake.requests[0].text
    fence = text.index("```")
    assert fence < text.index("@all") < text.rindex("```")
    assert text.count("```") == 2


async def test_a_lost_answer_is_looked_up(place: Place) -> None:
    """The host made it and we do not know: the next look finds it."""
    place.fake.faults.append("merge_requests" if place.fake.kind == "gitlab" else "pulls")
    with pytest.raises(OutcomeUnknown, match="was asked to open a"):
        await place.writer.write(place.change())
    await place.writer.write(place.change())
    assert len(place.fake.requests) == 1


async def test_killed_between_the_branch_and_the_proposal(place: Place, tmp_path: Path) -> None:
    """The branch that is there is ours: it is proposed, and no second one is pushed."""
    change = place.change()
    before = GitWriter(tmp_path / "life-1", Git())
    pushed = await before.propose(change, "slipway/slw-1")
    await place.writer.write(change)
    assert len(place.fake.requests) == 1
    assert place.remote.git("rev-parse", "slipway/slw-1") == pushed.revision


async def test_closed_without_being_merged_is_a_no(place: Place) -> None:
    """Somebody looked and said no: nothing goes on, and a person is told whom to ask."""
    change = place.change()
    await place.writer.write(change)
    place.fake.requests[0].state = "closed"
    with pytest.raises(ProviderRejected, match="was closed without being merged"):
        await place.writer.write(change)


async def test_slipway_merges_when_the_host_lets_it_and_the_rules_still_do(place: Place) -> None:
    """What stands in the way is shown; a rule that says no at that moment keeps it open."""
    change = place.change(merge=MergeBy.SLIPWAY)
    place.fake.blocked = "not_approved"
    waiting = await place.writer.write(change)
    assert "not approved" in waiting.waiting if place.fake.kind == "gitlab" else "405" in waiting.waiting
    place.fake.blocked = ""

    async def frozen() -> None:
        raise Refused("A freeze has begun.")

    with pytest.raises(Refused):
        await place.writer.write(change, frozen)
    assert place.fake.requests[0].state == "open"
    written = await place.writer.write(change)
    assert written.revision == place.remote.commits()[0]


async def test_another_version_than_the_approved_one_is_told(place: Place) -> None:
    """The votes were for a digest: what a reviewer made of it is another release."""
    change = place.change()
    await place.writer.write(change)
    place.theirs.git("fetch", "--quiet", "origin", "slipway/slw-1")
    place.theirs.git("checkout", "--quiet", "FETCH_HEAD")
    place.theirs.commit({"prod/pay.yaml": 'version: "6.6"\ndigest: "sha256:66"\n'}, "reviewed")
    place.theirs.git("push", "--quiet", "origin", "HEAD:refs/heads/slipway/slw-1")
    place.fake.merge()
    with pytest.raises(ProviderRejected, match=r"was changed before it was merged: Git now has version 6\.6"):
        await place.writer.write(change)


async def test_withdrawn_is_closed_and_its_branch_is_gone(place: Place) -> None:
    """A cancelled deployment must not be merged next week."""
    change = place.change()
    await place.writer.withdraw(change)
    await place.writer.write(change)
    await place.writer.withdraw(change)
    assert place.fake.requests[0].state == "closed"
    assert "slipway" not in place.remote.git("for-each-ref")


async def test_what_must_wait_cannot_be_merged_until_it_may(place: Place) -> None:
    """A freeze that began after the proposal holds on the host too: a draft there, a required status here."""
    change = place.change()
    place.fake.required = ("slipway",) if place.fake.kind == "github" else ()
    await place.writer.hold(change, "nothing is proposed yet")
    await place.writer.write(change)
    (proposed,) = place.fake.requests
    assert place.fake.may_merge()
    for _ in range(2):
        await place.writer.hold(change, "The freeze sale `@all` holds.")
        assert not place.fake.may_merge()
    if place.fake.kind == "gitlab":
        assert proposed.title == "Draft: (held by Slipway) Deploy pay 1.1 to prod"
        assert proposed.notes == ["Not to be merged now:\n\n```\nThe freeze sale '@all' holds.\n```\n"]
    else:
        (said,) = place.fake.statuses.values()
        assert (said["slipway"]["state"], said["slipway"]["description"]) == (
            "pending",
            "The freeze sale `@all` holds.",
        )
    await place.writer.write(change)
    assert place.fake.may_merge()
    assert proposed.title == "Deploy pay 1.1 to prod"


async def test_a_draft_that_a_reviewer_made_stays_one(place: Place) -> None:
    """Somebody else's no is not ours to take back."""
    change = place.change()
    await place.writer.write(change)
    place.fake.requests[0].title = "Draft: wait for Ada"
    await place.writer.write(change)
    assert place.fake.requests[0].title == "Draft: wait for Ada"


async def test_what_is_there_already_is_not_proposed(place: Place) -> None:
    """Nobody should review nothing."""
    place.push(**{"prod__pay.yaml": f'version: "1.1"\ndigest: "sha256:11"\ncommit: "{"c" * 40}"\n'})
    written = await place.writer.write(replace(place.change(), expected_digest="sha256:11"))
    assert (written.changed, written.revision) == (False, place.remote.commits()[0])
    assert place.fake.requests == []


async def test_somebody_else_changed_it_meanwhile(place: Place) -> None:
    """Compare-and-set holds for proposals too."""
    place.push(**{"prod__pay.yaml": 'version: "0.9"\ndigest: "sha256:09"\n'})
    with pytest.raises(ProviderRejected, match="Somebody changed pay in prod meanwhile"):
        await place.writer.write(place.change())
    assert "slipway" not in place.remote.git("for-each-ref")


PROJECTS = {
    "git@git.example:ops/config.git": "ops/config",
    "https://git.example/group/sub/config.git": "group/sub/config",
    "ssh://git@git.example:2222/ops/config": "ops/config",
}


@pytest.mark.parametrize(("repo", "project"), PROJECTS.items())
def test_the_project_is_told_by_the_address(repo: str, project: str) -> None:
    """Convention over configuration: the address says it already."""
    assert project_of(MergeRequestRule("gitlab"), repo) == project
    with pytest.raises(ProviderRejected, match=r"does not tell its project"):
        project_of(MergeRequestRule("gitlab"), "repos/config.git")


async def test_a_host_that_is_not_set_up_names_its_settings(tmp_path: Path) -> None:
    """A slip is told with what to do."""
    writer = ProposingWriter(GitWriter(tmp_path, Git()), {})
    rule = MergeRequestRule("gitlab", project="ops/config")
    change = Change("slw-1", "a", "b", GitopsSpec(merge_request=rule), "x", "1", "d", "c", "s")
    with pytest.raises(ProviderRejected) as caught:
        await writer.write(change)
    assert "SLIPWAY_GITLAB_URL and SLIPWAY_GITLAB_TOKEN" in caught.value.sentence()
