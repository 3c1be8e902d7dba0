"""Source repositories by `git`: one bare mirror each, fetched once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import difflib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bot.errors import BadInput, ProviderRejected
from bot.git import Git, GitRejected, Mirror, Problem, display_address, git_error, is_safe_ref, mirror_name
from bot.sources.naming import natural_order, version_of

_FULL_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,40}")
KNOWN_COMMITS = 20_000
_FORMAT = "%H%x00%s%x00%an%x00%ae%x00%cI%x00%D"


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit of a service, as it is released.

    commit: full SHA-1; version: the tag that points at it, else its first 12 digits; branch: the branch that was asked
    for; committed_at: aware UTC.
    """

    commit: str
    version: str
    branch: str
    subject: str
    author: str
    author_email: str
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit between two releases. committed_at: aware, UTC."""

    commit: str
    subject: str
    author: str
    author_email: str
    committed_at: datetime


class Source:
    """Answers questions about source repositories. `cache` belongs to this process alone."""

    def __init__(self, cache: Path, git: Git) -> None:
        """Remember the place; nothing is started."""
        self._cache = cache.absolute()
        self._git = git
        self._mirrors: dict[str, Mirror] = {}
        self._described: dict[tuple[str, str], asyncio.Future[Commit]] = {}

    async def describe(self, repo: str, commit: str) -> Commit:
        """What a full commit says; it never changes, so it is asked once. Raises as `resolve`."""
        key = (repo, commit)
        asked = self._described.get(key)
        if asked is None or (asked.done() and (asked.cancelled() or asked.exception() is not None)):
            if len(self._described) >= KNOWN_COMMITS:
                self._described.clear()
            asked = self._described[key] = asyncio.ensure_future(self._described_anew(*key))
        return await asyncio.shield(asked)

    async def _described_anew(self, repo: str, commit: str) -> Commit:
        mirror = self.mirror(repo)
        if await asyncio.to_thread((mirror.directory / "HEAD").exists):
            finished = await mirror.git("log", "-1", f"--format={_FORMAT}", commit, "--", check=False)
            if finished.code == 0:
                return _commit(finished.out.decode(errors="replace").rstrip("\n").split("\0"))
        found = await self.resolve(repo, commit, "main")
        return Commit(found.commit, found.subject, found.author, found.author_email, found.committed_at)

    def mirror(self, repo: str) -> Mirror:
        """The bare copy of a repository; it may not have been fetched yet."""
        if repo not in self._mirrors:
            directory = self._cache / mirror_name(repo)
            self._mirrors[repo] = Mirror(self._git, repo, directory, f"the repository {display_address(repo)}")
        return self._mirrors[repo]

    async def resolve(self, repo: str, ref: str | None, branch: str, naming: str = "") -> Revision:
        """The commit that a tag, a branch or a commit (7 digits or more) names; None: the branch's newest.

        branch: or a pattern such as `release/*`, whose last branch by name counts. naming: how versions are called;
        see `bot.sources.naming`.

        Raises:
            BadInput: no such ref; the nearest names are told.
            ProviderRejected: the repository is missing or may not be read, or has no such branch.
            ProviderUnavailable: not reached; safe to retry.
        """
        if ref is not None and not is_safe_ref(ref):
            raise BadInput(
                f"`{ref[:80]!a}` is not a version, branch or commit.".replace("'", ""),
                hint="Type a tag, a branch or a commit.",
            )
        if not is_safe_ref(branch.replace("*", "x")):
            raise ProviderRejected(f"`{branch[:80]}` is not a branch name.", hint="Correct `branch` in the catalog.")
        mirror = self.mirror(repo)
        if ref is None or not _FULL_COMMIT.fullmatch(ref) or not await self._commit_of(mirror, [ref]):
            await self._fetch(mirror, repo)
        if "*" in branch:
            branch = await self._last_branch(mirror, repo, branch)
        commit = await self._find(mirror, repo, ref, branch)
        return await self._revision(mirror, commit, ref, branch, naming)

    async def _last_branch(self, mirror: Mirror, repo: str, pattern: str) -> str:
        """The last of the branches that match, by the numbers in their names. Raises ProviderRejected: none does."""
        finished = await mirror.git("for-each-ref", "--format=%(refname)", f"refs/heads/{pattern}")
        names = [name.removeprefix("refs/heads/") for name in finished.out.decode(errors="replace").splitlines()]
        if not names:
            raise ProviderRejected(
                f"{display_address(repo)} has no branch `{pattern}`.",
                hint="Push one, or correct the environment's `branch` in the catalog.",
            )
        return max(names, key=natural_order)

    async def contains(self, repo: str, branch: str, commit: str) -> bool:
        """Whether a commit is on a branch, as last fetched by `resolve`."""
        names = ("merge-base", "--is-ancestor", commit, f"refs/heads/{branch}")
        if not is_safe_ref(branch) or not _FULL_COMMIT.fullmatch(commit):
            return False
        return (await self.mirror(repo).git(*names, check=False)).code == 0

    async def commits(self, repo: str, old: str, new: str, limit: int = 20) -> list[Commit]:
        """What `new` has and `old` has not, newest first, at most `limit`. Both are full commits.

        A commit that is not in the repository (any more) gives an empty list: the answer is for reading only.
        Raises ProviderUnavailable / ProviderRejected as `resolve`.
        """
        if not (_FULL_COMMIT.fullmatch(old) and _FULL_COMMIT.fullmatch(new)):
            return []
        mirror = self.mirror(repo)
        if not (await self._commit_of(mirror, [old]) and await self._commit_of(mirror, [new])):
            await self._fetch(mirror, repo)
        finished = await mirror.git(
            "log", "-z", f"--max-count={limit}", f"--format={_FORMAT}", f"{old}..{new}", "--", check=False
        )
        if finished.code != 0:
            return []
        fields = finished.out.decode(errors="replace").split("\0")
        return [_commit(fields[start : start + 5]) for start in range(0, len(fields) - 5, 6)]

    async def changed_files(self, repo: str, old: str, new: str) -> list[str]:
        """Paths that differ between two full commits; none if one is not in the repository (any more).

        Raises ProviderUnavailable / ProviderRejected as `resolve`.
        """
        if not (_FULL_COMMIT.fullmatch(old) and _FULL_COMMIT.fullmatch(new)):
            return []
        mirror = self.mirror(repo)
        if not (await self._commit_of(mirror, [old]) and await self._commit_of(mirror, [new])):
            await self._fetch(mirror, repo)
        finished = await mirror.git("diff", "--name-only", "-z", "--no-renames", old, new, "--", check=False)
        return [path for path in finished.out.decode(errors="replace").split("\0") if path] if not finished.code else []

    async def brought(self, repo: str, branch: str, commit: str) -> list[str]:
        """Paths that a commit changes since it left the branch, as last fetched by `resolve`; none if not known."""
        if not (is_safe_ref(branch) and _FULL_COMMIT.fullmatch(commit)):
            return []
        between = f"refs/heads/{branch}...{commit}"
        finished = await self.mirror(repo).git("diff", "--name-only", "-z", "--no-renames", between, "--", check=False)
        return [path for path in finished.out.decode(errors="replace").split("\0") if path] if not finished.code else []

    async def read(self, repo: str, commit: str, path: str, limit: int = 262_144) -> bytes | None:
        """A file of a commit that `resolve` found; None if there is no such file.

        Raises ProviderRejected if the commit is unknown or the file is larger than `limit` bytes, else as `resolve`.
        """
        mirror = self.mirror(repo)
        if not await self._commit_of(mirror, [commit]):
            await self._fetch(mirror, repo)
            if not await self._commit_of(mirror, [commit]):
                raise ProviderRejected(
                    f"Commit {commit[:12]} is not in {mirror.about}.", hint="Deploy a commit that is."
                )
        finished = await mirror.git("cat-file", "--batch", stdin=f"{commit}:{path}\n".encode())
        header, _, body = finished.out.partition(b"\n")
        words = header.split()
        if len(words) != 3 or words[1] != b"blob":
            return None
        if int(words[2]) > limit:
            raise ProviderRejected(f"`{path}` at {commit[:12]} is larger than {limit} bytes.", hint="Make it smaller.")
        return body[: int(words[2])]

    async def tag(self, repo: str, commit: str, name: str, message: str, at: datetime) -> None:
        """Make an annotated tag and push it; the same again changes nothing. at: its date, the same each time.

        Raises:
            ProviderRejected: the name is no tag's, or it is another commit's already, or there is no right to push.
            ProviderUnavailable: not reached; safe to retry.
        """
        if not is_safe_ref(name):
            raise ProviderRejected(f"`{name[:80]}` cannot be a tag.", hint="Correct `promote.git_tag` in the catalog.")
        mirror = self.mirror(repo)
        if not await self._has_tag(mirror, repo, commit, name):
            who = f"Slipway <slipway@localhost> {int(at.timestamp())} +0000"
            body = f"object {commit}\ntype commit\ntag {name}\ntagger {who}\n\n{message.strip()}\n"
            made = await mirror.git("hash-object", "-t", "tag", "-w", "--stdin", stdin=body.encode())
            pushed = await mirror.push(f"{made.out.decode().strip()}:refs/tags/{name}")
            if pushed.code != 0 and not await self._has_tag(mirror, repo, commit, name):
                raise git_error(mirror.about, pushed)

    async def _has_tag(self, mirror: Mirror, repo: str, commit: str, name: str) -> bool:
        """Whether the commit has it now. Raises ProviderRejected: another one has."""
        await self._fetch(mirror, repo)
        there = await self._commit_of(mirror, [f"refs/tags/{name}"])
        if there not in (None, commit):
            raise ProviderRejected(
                f"The tag {name} of {display_address(repo)} is another commit already ({(there or '')[:12]}).",
                hint="Choose another version, or take the old tag away.",
            )
        return there == commit

    async def _fetch(self, mirror: Mirror, repo: str) -> None:
        try:
            await mirror.fetch()
        except GitRejected as error:
            if error.problem is Problem.MISSING_REPOSITORY:
                raise ProviderRejected(
                    f"There is no repository at {display_address(repo)}.",
                    hint="Correct the service's `repo` in the catalog.",
                ) from error
            raise

    async def _find(self, mirror: Mirror, repo: str, ref: str | None, branch: str) -> str:
        if ref is None:
            commit = await self._commit_of(mirror, [f"refs/heads/{branch}"])
            if commit is None:
                raise ProviderRejected(
                    f"{display_address(repo)} has no branch `{branch}`{await self._nearest(mirror, branch)}.",
                    hint="Push the branch, or correct the environment's `branch` in the catalog.",
                )
            return commit
        names = [f"refs/tags/{ref}", f"refs/heads/{ref}", *([ref] if _SHORT_COMMIT.fullmatch(ref) else [])]
        commit = await self._commit_of(mirror, names)
        if commit is None:
            raise BadInput(
                f"{display_address(repo)} has no version, branch or commit `{ref}`{await self._nearest(mirror, ref)}.",
                hint="Type one that exists.",
            )
        return commit

    async def _commit_of(self, mirror: Mirror, names: list[str]) -> str | None:
        """The first of these names that is a commit; one process for all of them."""
        if not await asyncio.to_thread((mirror.directory / "HEAD").exists):
            return None
        lines = "".join(f"{name}^{{commit}}\n" for name in names)
        finished = await mirror.git("cat-file", "--batch-check", stdin=lines.encode(), check=False)
        for line in finished.out.decode().splitlines():
            words = line.split()
            if len(words) == 3 and words[1] == "commit":
                return words[0]
        return None

    async def _nearest(self, mirror: Mirror, ref: str) -> str:
        finished = await mirror.git(
            "for-each-ref", "--sort=-creatordate", "--count=5000", "--format=%(refname)", "refs/tags", "refs/heads"
        )
        names = [name.split("/", 2)[2] for name in finished.out.decode(errors="replace").splitlines()]
        near = difflib.get_close_matches(ref, names, n=4, cutoff=0.5) or names[:4]
        return f"; nearest are {', '.join(near)}" if near else " (it is empty)"

    async def _revision(self, mirror: Mirror, commit: str, ref: str | None, branch: str, naming: str) -> Revision:
        finished = await mirror.git(
            "log", "-1", "--decorate=full", "--decorate-refs=refs/tags/", f"--format={_FORMAT}", commit, "--"
        )
        fields = finished.out.decode(errors="replace").rstrip("\n").split("\0")
        found = _commit(fields)
        tags = [name.removeprefix("tag: refs/tags/") for name in fields[5].split(", ") if name.startswith("tag: ")]
        is_branch = ref is not None and ref not in tags and not commit.startswith(ref)
        branch = ref if is_branch and ref is not None else branch
        version = _version(tags, ref, commit)
        if naming and version != ref:
            version = version_of(naming, branch, found.committed_at, commit, await self._count(mirror, commit, naming))
        return Revision(
            commit=found.commit,
            version=version,
            branch=branch,
            subject=found.subject,
            author=found.author,
            author_email=found.author_email,
            committed_at=found.committed_at,
        )

    async def _count(self, mirror: Mirror, commit: str, naming: str) -> int:
        """How many commits it stands on, where that is asked for."""
        if "{count}" not in naming:
            return 0
        finished = await mirror.git("rev-list", "--count", commit, "--")
        return int(finished.out.decode().strip() or 0)


def _version(tags: list[str], ref: str | None, commit: str) -> str:
    """The tag that was asked for, else the highest that points here, else the short commit."""
    if ref in tags and ref is not None:
        return ref
    return max(tags, key=natural_order, default=commit[:12])


def _commit(fields: list[str]) -> Commit:
    commit, subject, author, email, committed = fields[:5]
    at = datetime.fromisoformat(committed).astimezone(UTC)
    return Commit(commit, subject[:200], author[:100], email[:200], at)
