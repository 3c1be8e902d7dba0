"""The single Git writer: one commit per change, many commits per push, never by force.

Each configuration repository and branch has a queue. Whoever drains it takes what is there, fetches once, makes one
commit per change in one `git fast-import`, and pushes once; what arrives meanwhile is the next batch. A push that loses
against somebody else is made anew on top of theirs; whether a change is still wanted is asked just before each push.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bot.catalog.model import GitopsSpec
from bot.clock import Clock, elapsed, rest_after, utc_now
from bot.delivery.base import Change, Check, Written
from bot.delivery.formats import Format, format_of
from bot.errors import OutcomeUnknown, ProviderError, ProviderRejected, ProviderUnavailable, SlipwayError
from bot.git import (
    Git,
    GitRejected,
    GitUnavailable,
    Mirror,
    Problem,
    display_address,
    git_error,
    is_safe_ref,
    mirror_name,
)

INTENT_TRAILER = "Slipway-Intent"
_DEPTH = 5000
"""Commits of the branch's history in which an intent is looked for."""
_ATTEMPTS = 12
MANY = 32
"""While more changes than this are on their way here, a push waits for them."""
COMPANY_WITHIN = 2.0
"""Seconds for which it waits at most."""
_HASH = re.compile(r"[0-9a-f]{40,64}")
_TRAILER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_UNSURE = (Problem.NETWORK, Problem.TIMED_OUT, Problem.OTHER)


Turn = Callable[[str], AbstractAsyncContextManager[None]]
"""Around what one replica at a time should do with the branch of that name."""


def _nobody_else(_branch: str) -> AbstractAsyncContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Author:
    """Who the commits are by."""

    name: str = "Slipway"
    email: str = "slipway@localhost"


@dataclass(frozen=True, slots=True)
class Signing:
    """How the commits are signed. key: for `openpgp` an id or a fingerprint, for `ssh` the path of a private key."""

    format: str
    key: str

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """What git is told."""
        return (("gpg.format", self.format), ("user.signingKey", self.key))


@dataclass(slots=True)
class _Pending:
    """A change that waits for its commit. text: the file after it, None: without the file."""

    change: Change
    path: str
    form: Format
    remove: bool
    future: asyncio.Future[Written]
    check: Check | None = None
    text: str | None = None


@dataclass(slots=True)
class _Ledger:
    """Which commit carries which intent, as of `head`."""

    head: str = ""
    commits: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A branch at one moment: its newest commit, files of it, and which commit carries which intent."""

    head: str
    files: Mapping[str, str | ProviderRejected | None] = field(default_factory=dict)
    intents: Mapping[str, str] = field(default_factory=dict)

    def text(self, path: str) -> str | None:
        """The file, None if there is none. Raises ProviderRejected: it is a directory."""
        found = self.files[path]
        if isinstance(found, ProviderRejected):
            raise found
        return found


class GitWriter:
    """Writes versions to configuration repositories. `cache` belongs to this process alone."""

    def __init__(
        self,
        cache: Path,
        git: Git,
        *,
        clock: Clock = utc_now,
        author: Author = Author(),
        signing: Signing | None = None,
        coming: Callable[[], int] = lambda: 0,
        turn: Turn = _nobody_else,
    ) -> None:
        """Remember the place; nothing is started. signing: None leaves the commits unsigned.

        coming: how many changes are on their way to here, or here already; while many are, a push waits for company.
        turn: has the replicas push to a branch one after the other: whoever is overtaken has made its commits in vain.
        """
        self._turn = turn
        self._here = 0
        self._all_coming = coming
        self._cache = cache.absolute()
        self._git = git
        self._clock = clock
        self._author = author
        self._signing = signing
        self._mirrors: dict[str, Mirror] = {}
        self._branches: dict[tuple[str, str], _Branch] = {}

    async def read(self, gitops: GitopsSpec, repo: str, service: str, environment: str) -> Written:
        """What the branch's head says now; empty if nothing is written yet.

        Raises ProviderUnavailable, or ProviderRejected if the repository, the branch or the file is wrong.
        """
        path = _path(gitops, service, environment)  # A wrong one is told before anything is fetched.
        seen = await self._branch(gitops, repo).look(path)
        return _written_at(seen.head, seen.text(path), path, gitops, service, environment)

    async def find(self, change: Change) -> Written | None:
        """The commit that carries this intent on the branch, or None if there is surely none in its newest 5000."""
        commit = (await self._branch(change.gitops, change.repo).look()).intents.get(change.intent)
        return None if commit is None else Written(commit, change.version, change.digest)

    async def contains(self, gitops: GitopsSpec, repo: str, wanted: str, revision: str) -> bool:
        """Whether that revision has the wanted commit in its history. Raises ProviderUnavailable, ProviderRejected."""
        return await self._branch(gitops, repo).contains(wanted, revision)

    async def write(self, change: Change, check: Check | None = None) -> Written:
        """Commit and push the change, once; the same intent again returns the same commit.

        A value that is there already makes no commit: `changed` is False.

        Raises:
            ProviderRejected: read-only, missing, or the old value is not the expected one; nothing was written.
            ProviderUnavailable: not reached, disk full; safe to retry.
            OutcomeUnknown: pushed, not answered; call `find`.
            SlipwayError: what `check` raised; nothing was written.
        """
        return await self._submit(change, remove=False, check=check)

    async def hold(self, change: Change, why: str) -> None:
        """Nothing is ever only proposed here."""

    async def withdraw(self, change: Change) -> None:
        """Nothing is ever only proposed here."""

    async def propose(self, change: Change, source: str, check: Check | None = None) -> Written:
        """Commit the change on top of the branch and push it as another branch, once, for others to merge.

        Raises as `write`. `changed` is False if the branch says so already; then nothing was pushed.
        """
        if not is_safe_ref(source) or source == change.gitops.branch:
            raise ProviderRejected("The branch of a proposal needs a name of its own.", hint="Deploy again.")
        pending = self._pending(change, remove=False, check=check)
        return await self._branch(change.gitops, change.repo).propose(pending, source)

    async def at(self, change: Change, revision: str) -> Written | None:
        """What the branch said at one of its commits, None if that is not (yet) on the branch. Raises ProviderError."""
        branch = self._branch(change.gitops, change.repo)
        await branch.fetch()
        if not await branch.contains(revision, await branch.head()):
            return None
        return await self._read_at(branch, change.gitops, change.service, change.environment, revision)

    async def remove(self, change: Change) -> Written:
        """Commit and push that the service has no version here any more. Raises as `write`."""
        return await self._submit(change, remove=True)

    async def _read_at(
        self, branch: _Branch, gitops: GitopsSpec, service: str, environment: str, revision: str
    ) -> Written:
        path = _path(gitops, service, environment)
        text = _Seen(revision, await branch.files(revision, [path])).text(path)
        return _written_at(revision, text, path, gitops, service, environment)

    async def _submit(self, change: Change, *, remove: bool, check: Check | None = None) -> Written:
        pending = self._pending(change, remove=remove, check=check)
        self._here += 1
        try:
            return await self._branch(change.gitops, change.repo).submit(pending)
        finally:
            self._here -= 1

    def _coming(self) -> int:
        """How many are on their way and not here yet."""
        return self._all_coming() - self._here

    def _pending(self, change: Change, *, remove: bool, check: Check | None) -> _Pending:
        form = format_of(change.gitops, change.service, change.environment, change.weights)
        if not _one_line(change.intent):
            raise ProviderRejected("A change needs an intent.", hint="Deploy again.")
        path = _path(change.gitops, change.service, change.environment)
        return _Pending(change, path, form, remove, asyncio.get_running_loop().create_future(), check)

    def _branch(self, gitops: GitopsSpec, repo: str) -> _Branch:
        if not is_safe_ref(gitops.branch):
            raise ProviderRejected(f"`{gitops.branch[:80]}` is not a branch name.", hint="Correct `gitops.branch`.")
        if (repo, gitops.branch) not in self._branches:
            if repo not in self._mirrors:
                about = f"the configuration repository {display_address(repo)}"
                self._mirrors[repo] = Mirror(self._git, repo, self._cache / mirror_name(repo), about)
            hand = _Hand(self._author, self._signing, self._clock)
            name = f"{mirror_name(repo)} {gitops.branch}"
            queue = _Company(self._coming, lambda: self._turn(name))
            self._branches[repo, gitops.branch] = _Branch(self._mirrors[repo], gitops.branch, hand, queue)
        return self._branches[repo, gitops.branch]


@dataclass(frozen=True, slots=True)
class _Hand:
    """Who writes, how it is signed, and when."""

    author: Author
    signing: Signing | None
    clock: Clock

    @property
    def environment(self) -> dict[str, str]:
        """For git commands that make a commit."""
        names, at = ("GIT_AUTHOR", "GIT_COMMITTER"), f"{int(self.clock().timestamp())} +0000"
        who = {"NAME": self.author.name, "EMAIL": self.author.email, "DATE": at}
        return {f"{name}_{key}": value for name in names for key, value in who.items()}


@dataclass(frozen=True, slots=True)
class _Company:
    """Whom a push waits for. coming: how many changes are not here yet; turn: among the replicas."""

    coming: Callable[[], int]
    turn: Callable[[], AbstractAsyncContextManager[None]]

    async def wait(self) -> None:
        """A push costs the server and every other replica nearly the same for a thousand changes as for ten."""
        since = elapsed()
        while self.coming() > MANY and elapsed() - since < COMPANY_WITHIN:  # noqa: ASYNC110 - it falls by itself
            await asyncio.sleep(0.05)


class _Branch:
    """One branch of one configuration repository, and the queue of changes to it."""

    def __init__(self, mirror: Mirror, name: str, hand: _Hand, company: _Company) -> None:
        self._company = company
        self._mirror = mirror
        self._name = name
        self._hand = hand
        self._queue: deque[_Pending] = deque()
        self._task: asyncio.Task[None] | None = None
        self._lookers: list[tuple[str, asyncio.Future[_Seen]]] = []
        self._looking: asyncio.Task[None] | None = None
        self._ledger = _Ledger()

    # --- looking

    async def look(self, path: str = "") -> _Seen:
        """The branch as of now, and one file of it. All who ask at the same time share one look."""
        future: asyncio.Future[_Seen] = asyncio.get_running_loop().create_future()
        self._lookers.append((path, future))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_all(), name="git-look")
        return await future

    async def _look_for_all(self) -> None:
        while self._lookers:
            lookers, self._lookers = self._lookers, []
            began = elapsed()
            try:
                seen = await self._look_once({path for path, _ in lookers} - {""})
            except Exception as error:
                for _, future in lookers:
                    if not future.done():
                        future.set_exception(error)
                continue
            for _, future in lookers:
                if not future.done():
                    future.set_result(seen)
            await rest_after(began, share=1.0)

    async def _look_once(self, paths: set[str]) -> _Seen:
        await self.fetch()
        head = await self.head()
        return _Seen(head, await self.files(head, paths) if paths else {}, await self.ledger(head))

    async def fetch(self) -> None:
        try:
            await self._mirror.fetch()
        except GitRejected as error:
            if error.problem is Problem.MISSING_REPOSITORY:
                message = f"There is no readable repository at {self._mirror.about.rpartition(' ')[2]}."
                raise ProviderRejected(message, hint="Correct `gitops.repo` in the catalog.") from error
            raise

    async def head(self) -> str:
        """The newest commit, empty if the whole repository is. Raises ProviderRejected: other branches only."""
        heads = await self._heads()
        head = heads.get(f"refs/heads/{self._name}", "")
        if heads and not head:
            message = f"{self._mirror.about} has no branch `{self._name}`."
            raise ProviderRejected(message[:1].upper() + message[1:], hint="Push it, or correct `gitops.branch`.")
        return head

    async def _heads(self) -> dict[str, str]:
        finished = await self._mirror.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads")
        return dict(line.split(" ") for line in finished.out.decode(errors="replace").splitlines())

    async def files(self, head: str, paths: Iterable[str]) -> dict[str, str | ProviderRejected | None]:
        """Path -> text at that commit, None if there is no such file, the error of a directory; one process for all."""
        wanted = list(paths)
        if not head:
            return dict.fromkeys(wanted)
        stdin = "".join(f"{head}:{path}\n" for path in wanted).encode()
        data = (await self._mirror.git("cat-file", "--batch", stdin=stdin)).out
        found: dict[str, str | ProviderRejected | None] = {}
        for path in wanted:
            header, _, data = data.partition(b"\n")
            found[path] = None
            if header.endswith(b" missing"):
                continue
            _, kind, size = header.rsplit(b" ", 2)
            body, data = data[: int(size)], data[int(size) + 1 :]
            if kind != b"blob":  # Whoever asked for another file must not suffer for it.
                found[path] = ProviderRejected(f"`{path}` is a directory there.", hint="Correct `gitops.path`.")
                continue
            found[path] = body.decode("utf-8", errors="replace")
        return found

    async def ledger(self, head: str) -> dict[str, str]:
        """Intent -> commit; reads only what is new since the last look."""
        known = self._ledger
        if head == known.head:
            return known.commits
        commits = dict(known.commits)
        lines = await self._history(f"{known.head}...{head}") if known.head and head else None
        if lines is None or any(line.startswith("<") for line in lines):  # Rewritten, or never looked.
            commits = {}
            lines = await self._history(head) if head else []
        for line in reversed(lines or []):
            commit, _, trailers = line[1:].partition(" ")
            commits |= {intent: commit for intent in trailers.split("\x1f") if intent}
        # Replaced as a whole: others look while we wait.
        self._ledger = _Ledger(head, commits)
        return commits

    async def _history(self, revisions: str) -> list[str] | None:
        trailers = f"%(trailers:key={INTENT_TRAILER},valueonly,separator=%x1F)"
        finished = await self._mirror.git(
            "log", f"--max-count={_DEPTH}", "--left-right", f"--format=%m%H {trailers}", revisions, "--", check=False
        )
        return finished.out.decode(errors="replace").splitlines() if finished.code == 0 else None

    async def contains(self, wanted: str, revision: str) -> bool:
        if not all(_HASH.fullmatch(commit) for commit in (wanted, revision)):
            return False
        for attempt in range(2):
            finished = await self._mirror.git("merge-base", "--is-ancestor", wanted, revision, check=False)
            if finished.code in (0, 1):
                return finished.code == 0
            if attempt == 0:  # One of them is not here yet.
                await self.fetch()
        return False

    # --- writing

    async def submit(self, pending: _Pending) -> Written:
        self._queue.append(pending)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="git-writer")
        return await pending.future

    async def propose(self, pending: _Pending, source: str) -> Written:
        """Push it as a branch of its own. What is there under that name already was ours before a crash."""
        await self.fetch()
        there = (await self._heads()).get(f"refs/heads/{source}")
        if there is None:
            head = await self.head()
            batch = await _still_wanted(await self._prepare([pending], head))
            if not batch:
                return await pending.future
            (there,) = await self._commit(batch, head, source)
            refusal = await self._push(there, source)
            if refusal is not None and refusal.problem is Problem.NON_FAST_FORWARD:  # Another replica of us was first.
                raise ProviderUnavailable(refusal.message, hint=refusal.hint)
            if refusal is not None:
                raise refusal
        return Written(there, pending.change.version, pending.change.digest)

    async def _drain(self) -> None:
        batch: list[_Pending] = []
        try:
            while self._queue:
                await self._company.wait()
                async with self._company.turn():
                    batch, began = self._take(), elapsed()
                    try:
                        await self._settle(batch)
                    except Exception as error:
                        _fail(batch, error)
                await rest_after(began, share=1.0)  # What comes meanwhile goes with the next push.
        finally:
            # Never leave anybody waiting, also when this task is cancelled.
            stopped = OutcomeUnknown("The Git writer was stopped.", hint="It is looked up at the next start.")
            _fail([*batch, *self._queue], stopped)

    def _take(self) -> list[_Pending]:
        """What waits, at most one change per file: a second one builds on the first, so it is the next batch's."""
        batch: dict[str, _Pending] = {}
        later = []
        while self._queue:
            pending = self._queue.popleft()
            if pending.future.done():
                continue  # Its caller has gone.
            if pending.path in batch:
                later.append(pending)
            else:
                batch[pending.path] = pending
        self._queue.extend(later)
        return list(batch.values())

    async def _settle(self, batch: list[_Pending]) -> None:
        """Answer every change of the batch, or raise for all that are not answered yet."""
        for attempt in range(_ATTEMPTS):
            await self.fetch()
            head = await self.head()
            batch = await _still_wanted(await self._prepare(batch, head))
            if not batch:
                return
            commits = await self._commit(batch, head)
            refusal = await self._push(commits[-1])
            if refusal is None:
                self._succeed(batch, commits, head)
                return
            if refusal.problem is not Problem.NON_FAST_FORWARD:
                await self._settle_alone(batch, refusal)
                return
            await asyncio.sleep(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311
        raise ProviderUnavailable(
            f"Others keep pushing to {self._mirror.about} in between.", hint="It is tried again by itself."
        )

    async def _settle_alone(self, batch: list[_Pending], refusal: GitRejected) -> None:
        """The repository refused the batch: let one bad change not spoil the others."""
        if len(batch) == 1:
            raise refusal
        for pending in batch:
            try:
                await self._settle([pending])
            except SlipwayError as error:
                _fail([pending], error)

    async def _prepare(self, batch: Sequence[_Pending], head: str) -> list[_Pending]:
        """Answer what needs no commit; the rest has its new text."""
        known = await self.ledger(head)
        seen = _Seen(head, await self.files(head, {pending.path for pending in batch}))
        rest = []
        for pending in batch:
            commit = known.get(pending.change.intent)
            try:
                if commit is not None:
                    _answer(pending, commit, changed=True)
                elif _edit(pending, seen.text(pending.path)):
                    rest.append(pending)
                else:
                    _answer(pending, head, changed=False)
            except ProviderError as error:
                _fail([pending], error)
        return rest

    async def _commit(self, batch: Sequence[_Pending], head: str, name: str = "") -> list[str]:
        """One commit per change, each on top of the one before; one process for all. name: of another branch."""
        ref = f"refs/slipway/{name or self._name}"
        author = self._hand.author
        stamp = f"{author.name} <{author.email}> {int(self._hand.clock().timestamp())} +0000"
        stream = [b"feature done\n"]
        for mark, pending in enumerate(batch, start=1):
            message = _message(pending.change).encode()
            stream.append(f"commit {ref}\nmark :{mark}\ncommitter {stamp}\ndata {len(message)}\n".encode() + message)
            stream.append(f"\nfrom {head}\n".encode() if mark == 1 and head else b"\n")
            if pending.text is None:
                stream.append(f"D {pending.path}\n".encode())
            else:
                text = pending.text.encode()
                stream.append(f"M 100644 inline {pending.path}\ndata {len(text)}\n".encode() + text + b"\n")
        stream.extend(f"get-mark :{mark}\n".encode() for mark in range(1, len(batch) + 1))
        finished = await self._mirror.git("fast-import", "--quiet", "--force", stdin=b"".join([*stream, b"done\n"]))
        commits = finished.out.decode().split()
        return commits if self._hand.signing is None else await self._signed(batch, commits, head)

    async def _signed(self, batch: Sequence[_Pending], commits: Sequence[str], head: str) -> list[str]:
        """The same commits with a signature each: one process per commit, because each one names the one before."""
        assert self._hand.signing is not None
        made: list[str] = []
        for pending, commit in zip(batch, commits, strict=True):
            parent = made[-1] if made else head
            finished = await self._mirror.git(
                "commit-tree",
                f"{commit}^{{tree}}",
                *(("-p", parent) if parent else ()),
                "-S",
                stdin=_message(pending.change).encode(),
                settings=self._hand.signing.settings,
                environment=self._hand.environment,
            )
            made.append(finished.out.decode().strip())
        return made

    async def _push(self, commit: str, name: str = "") -> GitRejected | None:
        """None if it is there; the refusal if it surely is not.

        Raises ProviderUnavailable: not sent. OutcomeUnknown: sent, not answered.
        """
        try:
            finished = await self._mirror.push(f"{commit}:refs/heads/{name or self._name}")
            if finished.code == 0:
                return None
            raise git_error(self._mirror.about, finished)
        except GitRejected as refusal:
            return refusal
        except GitUnavailable as error:
            if error.problem is Problem.LOCKED:  # Another push holds the branch at this moment.
                return GitRejected(error.message, Problem.NON_FAST_FORWARD)
            if error.problem in _UNSURE:
                raise OutcomeUnknown(error.message, hint="It is looked up before anything else is done.") from error
            raise

    def _succeed(self, batch: Sequence[_Pending], commits: Sequence[str], head: str) -> None:
        for pending, commit in zip(batch, commits, strict=True):
            _answer(pending, commit, changed=True)
            if self._ledger.head == head:
                self._ledger.commits[_one_line(pending.change.intent)] = commit
        if self._ledger.head == head:
            self._ledger.head = commits[-1]


def _written_at(
    revision: str, text: str | None, path: str, gitops: GitopsSpec, service: str, environment: str
) -> Written:
    values = format_of(gitops, service, environment).read(text, f"`{path}`")
    version, digest, commit = (values.get(key, "") for key in ("version", "digest", "commit"))
    return Written(revision, version, digest, changed=False, commit=commit)


async def _still_wanted(batch: Sequence[_Pending]) -> list[_Pending]:
    """Ask every change's check at once, and answer those that must not be made any more."""
    asked = [pending for pending in batch if pending.check is not None]
    answers = await asyncio.gather(*(one.check() for one in asked if one.check is not None), return_exceptions=True)
    refused = {id(one): error for one, error in zip(asked, answers, strict=True) if error is not None}
    for pending in batch:
        error = refused.get(id(pending))
        if isinstance(error, Exception):
            _fail([pending], error)
        elif error is not None:
            raise error
    return [pending for pending in batch if id(pending) not in refused]


def _edit(pending: _Pending, text: str | None) -> bool:
    """Make the new text; False if it is the old one. Raises ProviderRejected: the old value is not the expected one."""
    change, form = pending.change, pending.form
    where = f"`{pending.path}`"
    old = form.read(text, where)
    if pending.remove:
        if not any(key in old for key in form.keys):
            return False
        _expect(change, old)
        pending.text = form.remove(text or "", where)
        return True
    every = {"version": change.version, "digest": change.digest, "commit": change.commit}
    wanted = {key: every[key] for key in form.keys}
    if old == wanted:
        return False
    _expect(change, old)
    pending.text = form.write(text, wanted, where)
    return True


def _expect(change: Change, old: dict[str, str]) -> None:
    if change.expected_digest is not None and old.get("digest", "") != change.expected_digest:
        now = f"version {old['version']}" if old.get("version") else "no version"
        raise ProviderRejected(
            f"Somebody changed {change.service} in {change.environment} meanwhile: Git has {now}.",
            hint="Look at its history, then deploy again.",
        )


def _answer(pending: _Pending, commit: str, *, changed: bool) -> None:
    if not pending.future.done():
        version, digest = ("", "") if pending.remove else (pending.change.version, pending.change.digest)
        pending.future.set_result(Written(commit, version, digest, changed))


def _fail(batch: Iterable[_Pending], error: Exception) -> None:
    for pending in batch:
        if not pending.future.done():
            pending.future.set_exception(error)


def _message(change: Change) -> str:
    """Subject and trailers. Line ends are taken out of every part, so that no text can forge a trailer."""
    trailers = [(name, _one_line(value)) for name, value in change.trailers if name.lower() != INTENT_TRAILER.lower()]
    lines = [f"{name}: {value}" for name, value in trailers if _TRAILER_NAME.fullmatch(name) and value]
    subject = _one_line(change.subject)[:200] or f"{change.service} {change.environment}"
    return "\n".join([subject, "", *lines, f"{INTENT_TRAILER}: {_one_line(change.intent)}"]) + "\n"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _path(gitops: GitopsSpec, service: str, environment: str) -> str:
    """The file of this service and environment. Raises ProviderRejected: it would leave the repository."""
    filled = gitops.path.replace("{service}", service).replace("{environment}", environment)
    path = PurePosixPath(filled)
    odd = path.is_absolute() or not path.parts or any(part in ("..", ".git") for part in path.parts)
    if odd or not filled.isprintable() or any(sign in filled for sign in '"\\{}'):
        raise ProviderRejected(
            f"`gitops.path` gives {filled[:100]!a}, which is not a path in the repository.", hint="Correct it."
        )
    return str(path)
