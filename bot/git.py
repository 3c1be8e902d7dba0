"""Calls the `git` program: no prompts, no configuration of the machine, a time limit, and errors as one sentence each.

Credentials travel in the environment, never in arguments, and never reach an error or a log.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from bot.command_line import CommandTimedOut, Finished, OutputTooLarge, run_command
from bot.errors import ProviderRejected, ProviderUnavailable
from bot.logs import redact

_CONFIG = Path(__file__).with_name("gitconfig")
_INHERITED = (
    "PATH",
    "HOME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GNUPGHOME",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
_REMOTE = ("fetch", "push")
"""Sub-commands that speak to a server; the others need no credentials."""
_NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9._/@+#=,-]{0,199}")


class Problem(StrEnum):
    """What git's refusal means for us."""

    MISSING_REPOSITORY = "missing_repository"
    UNKNOWN_REF = "unknown_ref"
    DENIED = "denied"
    READ_ONLY = "read_only"
    CHECKED_OUT = "checked_out"
    NON_FAST_FORWARD = "non_fast_forward"
    DECLINED = "declined"
    NETWORK = "network"
    DISK_FULL = "disk_full"
    LOCKED = "locked"
    UNSIGNED = "unsigned"
    TIMED_OUT = "timed_out"
    BROKEN = "broken"
    OTHER = "other"


class GitRejected(ProviderRejected):
    """Git said no."""

    def __init__(self, message: str, problem: Problem, *, hint: str = "") -> None:
        """Keep which no it was."""
        super().__init__(message, hint=hint)
        self.problem = problem


class GitUnavailable(ProviderUnavailable):
    """Git could not say; asking again may help. `detail` is git's own, redacted text."""

    def __init__(self, message: str, problem: Problem, *, hint: str = "", detail: str = "") -> None:
        """Keep what stood in the way."""
        super().__init__(message, hint=hint)
        self.problem = problem
        self.detail = detail


@dataclass(frozen=True, slots=True)
class _Rule:
    """Text in git's error output, what it means, and the sentence; {about} is the repository, {detail} git's line."""

    pattern: re.Pattern[str]
    problem: Problem
    message: str
    hint: str
    retry: bool = False


def _rule(pattern: str, problem: Problem, message: str, hint: str, *, retry: bool = False) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), problem, message, hint, retry)


# The first match decides: the cause stands before what follows from it.
_RULES = (
    _rule(
        r"no space left on device|disk quota exceeded|file too large|out of disk",
        Problem.DISK_FULL,
        "The disk is full while working with {about}.",
        "Free some space; it is tried again by itself.",
        retry=True,
    ),
    _rule(
        r"failed to sign the data|couldn't load public key|no secret key|incorrect passphrase supplied to decrypt",
        Problem.UNSIGNED,
        "Slipway's commits could not be signed: {detail}.",
        "Check SLIPWAY_GIT_SIGNING_KEY, and that its key needs no passphrase; it is tried again by itself.",
        retry=True,
    ),
    _rule(
        r"host key verification failed|no \S+ host key is known|host identification has changed",
        Problem.DENIED,
        "The host key of {about} is not the one that Slipway knows, or it knows none.",
        "Put the right one into the file of SLIPWAY_GIT_KNOWN_HOSTS_FILE, as `ssh-keyscan` prints it.",
    ),
    _rule(
        r"pre-receive hook declined|hook declined|update declined",
        Problem.DECLINED,
        "{about} declined the change by a rule of its own: {detail}.",
        "Ask the owner of that repository to allow Slipway to push.",
    ),
    _rule(
        r"branch is currently checked out|refusing to update checked out branch",
        Problem.CHECKED_OUT,
        "{about} is a working copy with that branch checked out, so it cannot receive a push.",
        "Use a bare repository.",
    ),
    _rule(
        r"protected branch|not allowed to push|read-?only|permission to .* denied|write access|insufficient permission",
        Problem.READ_ONLY,
        "{about} is read-only for Slipway.",
        "Give Slipway's key or token the right to push.",
    ),
    _rule(
        r"unable to create '.*\.lock'|index\.lock|another git process",
        Problem.LOCKED,
        "Another git process holds {about}.",
        "It is tried again by itself.",
        retry=True,
    ),
    _rule(
        r"\(fetch first\)|non-fast-forward|cannot lock ref|failed to update ref|incorrect old value|"
        r"reference already exists|failed to lock",
        Problem.NON_FAST_FORWARD,
        "Somebody else pushed to {about} first.",
        "It is tried again on top of that.",
    ),
    _rule(
        r"couldn't find remote ref|unknown revision|not a valid object name|bad revision|not our ref|"
        r"invalid object name|path '.*' does not exist",
        Problem.UNKNOWN_REF,
        "{about} has no such branch, tag or commit.",
        "Check the name.",
    ),
    _rule(
        r"certificate verif\w+ failed|certificate verify failed|ssl certificate problem|self.signed certificate",
        Problem.NETWORK,
        "The certificate of {about} is not of an authority that Slipway knows.",
        "Name the file of your company's authority in SLIPWAY_GIT_CA_FILE.",
        retry=True,
    ),
    _rule(
        r"authentication failed|could not read (username|password)|permission denied|403|401",
        Problem.DENIED,
        "{about} refused Slipway's credentials.",
        "Check its key or token and its rights on the repository.",
    ),
    _rule(
        r"could ?n.?t resolve host|could not resolve|connection (refused|reset|timed out)|network is unreachable|"
        r"failed to connect|unable to access|hung up|early eof|operation timed out|error: 5\d\d|ssl|no route to host|"
        r"unexpected disconnect",
        Problem.NETWORK,
        "{about} could not be reached.",
        "It is tried again by itself.",
        retry=True,
    ),
    _rule(
        r"does not appear to be a git repository|repository .*not found|repository '.*' does not exist|"
        r"not a git repository|no such file or directory|could not read from remote repository|"
        r"project you were looking for",
        Problem.MISSING_REPOSITORY,
        "{about} does not exist or cannot be read.",
        "Check the repository's address in the catalog.",
    ),
    _rule(
        r"object file .* is empty|bad object|corrupt|unable to read tree|missing blob|did not receive expected object",
        Problem.BROKEN,
        "The local copy of {about} is damaged.",
        "It is made anew by itself.",
        retry=True,
    ),
)


def git_error(about: str, finished: Finished) -> GitRejected | GitUnavailable:
    """Translate git's failure. about: the repository as a person knows it, at the start of a sentence."""
    text = redact((finished.err + b"\n" + finished.out).decode(errors="replace"))
    detail = _telling_line(text)
    for rule in _RULES:
        if rule.pattern.search(text):
            message = _upper_first(rule.message.format(about=about, detail=detail))
            if rule.retry:
                return GitUnavailable(message, rule.problem, hint=rule.hint, detail=text[-2000:])
            return GitRejected(message, rule.problem, hint=rule.hint)
    message = _upper_first(f"{about}: git failed with code {finished.code}: {detail}.")
    return GitUnavailable(message, Problem.OTHER, hint="Look at the bot's log if it stays so.", detail=text[-2000:])


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


_NOISE = re.compile(r"^(hint:|To |From |Done$|!|error: failed to push|remote: *$|Please make sure|and the repository)")


def _telling_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not _NOISE.match(line)] or lines or ["no reason given"]
    chosen = next((line for line in telling if line.startswith("remote: ")), telling[0])
    return chosen.removeprefix("remote: ").removeprefix("fatal: ").removeprefix("error: ")[:200].rstrip(".")


def is_safe_ref(name: str) -> bool:
    """True if the name can be given to git: no option, no range, no revision arithmetic, nothing odd."""
    return (
        _NAME.fullmatch(name) is not None
        and ".." not in name
        and "@{" not in name
        and "//" not in name
        and not name.endswith((".", "/", ".lock"))
    )


def display_address(repo: str) -> str:
    """The address as it may be shown: without user name, password and query."""
    if "://" not in repo:
        return repo
    parts = urlsplit(repo)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@dataclass(frozen=True, slots=True)
class Address:
    """A repository's address fit for arguments, and the settings that carry its credentials."""

    url: str
    settings: tuple[tuple[str, str], ...] = ()


def split_credentials(repo: str) -> Address:
    """Take user name and password out of an http address, so that they never stand in a process list."""
    if not repo.startswith(("http://", "https://")):
        return Address(repo)
    parts = urlsplit(repo)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return Address(repo)
    user, _, password = userinfo.partition(":")
    token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    clean = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    return Address(clean, ((f"http.{parts.scheme}://{host}/.extraHeader", f"Authorization: Basic {token}"),))


class Credentials:
    """User names and passwords (or tokens) of https addresses, from a file that others renew: read for each call.

    A line is `https://user:token@host`, or with the beginning of a path, as git's own credential store writes them.
    """

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is read."""
        self._path = path

    def settings(self, url: str) -> tuple[tuple[str, str], ...]:
        """What git is told for this address; of several lines the one with the longest path.

        Raises:
            ProviderUnavailable: the file cannot be read; nothing of it is in the message.
        """
        if not url.startswith(("http://", "https://")):
            return ()
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            message = f"The file of SLIPWAY_GIT_CREDENTIALS_FILE cannot be read: {reason}."
            raise ProviderUnavailable(message, hint="Correct its path or its rights.") from None
        found = [split_credentials(line) for line in map(str.strip, lines) if line and not line.startswith("#")]
        fitting = [one for one in found if one.settings and _is_below(url, one.url)]
        return max(fitting, key=lambda one: len(one.url)).settings if fitting else ()


def _is_below(url: str, prefix: str) -> bool:
    prefix = prefix.rstrip("/")
    return url == prefix or url.startswith(f"{prefix}/")


class Git:
    """The `git` program.

    credentials: for https addresses that carry none. settings: further configuration for every call, for instance
    {"http.https://git.example/.extraHeader": "Authorization: Bearer …"}; it travels in the environment.
    """

    def __init__(
        self,
        *,
        timeout: timedelta = timedelta(minutes=2),
        settings: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        ssh_command: str = "ssh -oBatchMode=yes -oConnectTimeout=15",
    ) -> None:
        """Remember how to call; nothing is started."""
        self._timeout = timeout
        self._settings = tuple((settings or {}).items())
        self._credentials = credentials
        self._environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(_CONFIG),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS_REQUIRE": "never",
            "GIT_SSH_COMMAND": ssh_command,
            "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
            "GIT_OPTIONAL_LOCKS": "0",
        }

    def settings_for(self, address: Address) -> tuple[tuple[str, str], ...]:
        """What carries the credentials of an address. Raises ProviderUnavailable: their file cannot be read."""
        if address.settings or self._credentials is None:
            return address.settings
        return self._credentials.settings(address.url)

    async def run(
        self,
        *arguments: str,
        about: str,
        directory: Path | None = None,
        stdin: bytes = b"",
        settings: Sequence[tuple[str, str]] = (),
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Finished:
        """Run `git ARGUMENTS` in a bare repository or none.

        Raises:
            GitRejected: git said no, told apart by `problem`. Only with `check`.
            GitUnavailable: time-out, network, full disk, a lock.
        """
        argv = ["git", *(("--git-dir", str(directory)) if directory else ()), *arguments]
        env = self._environment | self._as_environment(settings) | dict(environment or {})
        try:
            finished = await run_command(argv, env=env, timeout=self._timeout.total_seconds(), stdin=stdin)
        except CommandTimedOut:
            seconds = int(self._timeout.total_seconds())
            message = _upper_first(f"{about} did not answer within {seconds} s.")
            raise GitUnavailable(message, Problem.TIMED_OUT, hint="It is tried again by itself.") from None
        except OutputTooLarge:
            raise GitRejected(
                _upper_first(f"{about} answered with more data than Slipway reads."), Problem.OTHER
            ) from None
        except OSError as error:
            raise _not_started(error) from error
        if check and finished.code != 0:
            raise git_error(about, finished)
        return finished

    def _as_environment(self, settings: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Git's command scope: not handed on to the receiving side of a push to a path."""
        pairs = (("core.hooksPath", os.devnull), *self._settings, *settings)
        env = {"GIT_CONFIG_COUNT": str(len(pairs))}
        for index, (key, value) in enumerate(pairs):
            env[f"GIT_CONFIG_KEY_{index}"] = key
            env[f"GIT_CONFIG_VALUE_{index}"] = value
        return env


def _not_started(error: OSError) -> GitUnavailable:
    if error.errno == errno.ENOENT:
        return GitUnavailable(
            "The program `git` is not installed.", Problem.OTHER, hint="Install git where Slipway runs."
        )
    return GitUnavailable(
        f"git could not be started: {error.strerror}.", Problem.OTHER, hint="It is tried again by itself."
    )


class Mirror:
    """A bare copy of one repository's branches and tags, in a directory that this process alone writes to.

    Callers who ask for a fetch while one is under way share the next one.
    """

    def __init__(self, git: Git, repo: str, directory: Path, about: str) -> None:
        """Remember the place; nothing is started. about: the repository as a person knows it."""
        self.directory = directory
        self.about = about
        self._git = git
        self._address = split_credentials(repo)
        self._lock = asyncio.Lock()
        self._started = 0
        self._outcome: Exception | None = None

    async def fetch(self) -> None:
        """Bring the copy up to date as of now.

        Raises: GitRejected, GitUnavailable.
        """
        asked = self._started
        async with self._lock:
            if self._started > asked:
                # A fetch began after we asked: its outcome is ours too.
                if self._outcome is not None:
                    raise self._outcome
                return
            self._started += 1
            self._outcome = None
            try:
                await self._fetch_healing()
            except (GitRejected, GitUnavailable) as error:
                self._outcome = error
                raise
            except BaseException:
                # Cancelled: whoever waits must fetch for itself.
                self._started -= 1
                raise

    async def git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        settings: Sequence[tuple[str, str]] = (),
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Finished:
        """Run git in the copy. Raises as `Git.run`."""
        return await self._git.run(
            *arguments,
            about=self.about,
            directory=self.directory,
            stdin=stdin,
            settings=(*settings, *(self._git.settings_for(self._address) if arguments[0] in _REMOTE else ())),
            environment=environment,
            check=check,
        )

    async def push(self, *refspecs: str) -> Finished:
        """Push, never by force; the answer is for the caller to judge."""
        return await self.git("push", "--porcelain", "--quiet", self._address.url, *refspecs, check=False)

    async def _fetch_healing(self) -> None:
        """A killed git leaves locks, a crashed machine half-written objects; both are in our own copy alone."""
        for _ in range(20):
            try:
                return await self._fetch_once()
            except GitUnavailable as error:
                if error.problem is Problem.BROKEN:
                    await asyncio.to_thread(shutil.rmtree, self.directory, True)
                elif not (error.problem is Problem.LOCKED and self._drop_stale_lock(error.detail)):
                    raise
        await self._fetch_once()

    async def _fetch_once(self) -> None:
        if not (self.directory / "HEAD").exists():
            await self._create()
        refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        options = ("--quiet", "--prune", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")
        await self.git("fetch", *options, "--", self._address.url, *refs)

    async def _create(self) -> None:
        try:
            fresh = await asyncio.to_thread(_make_beside, self.directory)
        except OSError as error:
            raise disk_error(error, "Slipway's cache of repositories") from error
        try:
            await self._git.run("init", "--quiet", "--bare", "--template=", str(fresh), about=self.about)
            await asyncio.to_thread(_move_into_place, fresh, self.directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _drop_stale_lock(self, detail: str) -> bool:
        """Take away the lock a killed git left in our own copy; True if there was one."""
        found = re.search(r"unable to create '(.+?\.lock)'", detail, re.IGNORECASE)
        if not found:
            return False
        path = Path(found[1]).resolve()
        if not path.is_relative_to(self.directory.resolve()):
            return False
        path.unlink(missing_ok=True)
        return True


def _make_beside(place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))


def _move_into_place(fresh: Path, place: Path) -> None:
    if (place.exists()) and not (place / "HEAD").exists():
        shutil.rmtree(place, ignore_errors=True)  # What a killed removal left.
    with suppress(OSError):  # Another one was first.
        fresh.rename(place)


def disk_error(error: OSError, what: str) -> ProviderUnavailable:
    """One sentence for a directory of ours that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ProviderUnavailable(
            f"The disk is full where {what} is kept.", hint="Free some space; it is tried again by itself."
        )
    return ProviderUnavailable(
        f"{what} cannot be written: {error.strerror}.", hint="Check the directory's owner, rights and mount."
    )


def mirror_name(repo: str) -> str:
    """A directory name for a repository: readable, and different for different addresses."""
    clean = display_address(repo).rstrip("/").removesuffix(".git")
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", clean.rpartition("/")[2])[:40].strip(".-") or "repo"
    return f"{slug}-{hashlib.sha256(display_address(repo).encode()).hexdigest()[:16]}.git"
