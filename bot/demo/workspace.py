"""The demo's workspace: a catalog, Git repositories of three services, a configuration repository and a tiny server.

Everything is made from `files/`. Histories are written by one `git fast-import` per repository, with the authors and
dates of `history.yaml`, so that commits have the same names in every workspace.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from bot.clock import Clock
from bot.errors import BadInput, ProviderUnavailable, SlipwayError

FILES = Path(__file__).with_name("files")
SERVICES = ("hello", "pay", "gate")
CONFIG = "config"
MAIN = "main"

_MARKER = ".slipway-demo"
_NOTE = "# Made by `slipway demo` (check {check}). Edit it and it stays so; delete it and it is made again.\n"
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_UNTIL_RELEASE_DAY = timedelta(days=3)
# A hidden name would be missed by packaging rules that go by patterns.
_STORED_AS = {"gitignore": ".gitignore", "slipway": ".slipway"}
_GIT_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where everything is. `directory` is the catalog's directory too."""

    directory: Path

    @property
    def repos(self) -> Path:
        """The folder of all bare repositories."""
        return self.directory / "repos"

    @property
    def config_repo(self) -> Path:
        """The configuration repository."""
        return self.repos / f"{CONFIG}.git"

    @property
    def tool(self) -> Path:
        """The server's program."""
        return self.directory / "tools" / "host.py"

    @property
    def state(self) -> Path:
        """Where the demo remembers; the server keeps its own below `host/`."""
        return self.directory / "state"

    def repo(self, service: str) -> Path:
        """The bare repository of a service."""
        return self.repos / f"{service}.git"


@dataclass(frozen=True, slots=True)
class _Commit:
    """One commit of a linear history. at: aware; files: path in the repository -> content, added or replaced."""

    subject: str
    author: str
    at: datetime
    files: Mapping[str, bytes]
    tag: str = ""
    branch: str = ""


def prepare(directory: Path, clock: Clock) -> Workspace:
    """Make the workspace, or complete what a killed first start left; what a person edited stays.

    Raises:
        BadInput: the directory holds something else, or cannot be written.
        ProviderUnavailable: git is missing or failed; safe to retry.
    """
    workspace = Workspace(directory.expanduser().resolve())
    try:
        _claim(workspace)
        _write_catalog(workspace, clock)
        _write_whole(workspace.tool, (FILES / "host.py").read_bytes(), 0o755)
        if not (readme := workspace.directory / "README.txt").exists():
            _write_whole(readme, (FILES / "README.txt").read_bytes())
        workspace.state.mkdir(exist_ok=True)
        _make_repositories(workspace)
    except OSError as error:
        raise BadInput(
            f"The demo's directory {workspace.directory} cannot be written: {error.strerror or error}.",
            hint="Choose another with --dir, or free some space.",
        ) from error
    return workspace


def _claim(workspace: Workspace) -> None:
    """Never write into somebody's own directory: it is new, empty, or was ours before."""
    directory = workspace.directory
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / _MARKER).exists():
        return
    strange = [path.name for path in directory.iterdir() if path.name != "state" and not path.name.startswith(".")]
    if strange:
        raise BadInput(
            f"The directory {directory} holds files that are not the demo's, such as {min(strange)}.",
            hint="Give an empty or a new directory with --dir.",
        )
    (directory / _MARKER).touch()


# --- the catalog ----------------------------------------------------------------------------------------------------


def _write_catalog(workspace: Workspace, clock: Clock) -> None:
    source = FILES / "catalog"
    for path in sorted(source.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8").replace("@DAY@", _release_day(clock()))
        place = workspace.directory / path.relative_to(source)
        if not _is_edited(place):
            note = _NOTE.format(check=_check(text))
            _write_whole(place, (note + text).encode())


def _release_day(now: datetime) -> str:
    """A weekday on which a window is surely closed now and for the coming two days, in UTC."""
    return _DAYS[(now.astimezone(UTC) + _UNTIL_RELEASE_DAY).weekday()]


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _is_edited(place: Path) -> bool:
    """Whether a person changed the file since we wrote it: its first line holds the checksum of the rest."""
    try:
        note, _, text = place.read_bytes().decode(errors="replace").partition("\n")
    except FileNotFoundError:
        return False
    return note + "\n" != _NOTE.format(check=_check(text))


# --- the repositories -----------------------------------------------------------------------------------------------


def _make_repositories(workspace: Workspace) -> None:
    workspace.repos.mkdir(exist_ok=True)
    for leftover in workspace.repos.glob(".new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    missing = [name for name in (*SERVICES, CONFIG) if not workspace.repo(name).exists()]
    if not missing:
        return
    people = _people()
    with ThreadPoolExecutor(len(missing)) as pool:
        # Consumed, so that the first error is raised.
        list(pool.map(lambda name: _make_repository(workspace.repo(name), _history(name), people), missing))


def _make_repository(place: Path, history: Iterable[_Commit], people: Mapping[str, str]) -> None:
    """The repository appears whole, by one rename."""
    fresh = Path(tempfile.mkdtemp(prefix=f".new-{place.name}-", dir=place.parent))
    fresh.chmod(0o755)
    # What `git init --bare` makes, without its templates and without a process.
    for folder in ("objects", "refs/heads", "refs/tags"):
        (fresh / folder).mkdir(parents=True)
    (fresh / "HEAD").write_text(f"ref: refs/heads/{MAIN}\n")
    (fresh / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n")
    _fast_import(fresh, _stream(list(history), people))
    fresh.rename(place)


def _fast_import(repository: Path, stream: bytes) -> None:
    # Limit 1: one pack instead of a file per object.
    argv = ["git", "--git-dir", str(repository), "-c", "fastimport.unpackLimit=1", "fast-import", "--quiet"]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": str(repository)}
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    try:
        done = subprocess.run(
            argv, input=stream, env=environment, capture_output=True, timeout=_GIT_TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise ProviderUnavailable("The program `git` is not installed.", hint="Install git and start again.") from None
    except subprocess.TimeoutExpired:
        raise _git_failed(f"git took longer than {_GIT_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        raise _git_failed(lines[0])


def _git_failed(reason: str) -> SlipwayError:
    return ProviderUnavailable(
        f"The demo's Git repositories could not be made: {reason}.", hint="Start again; what is missing is made then."
    )


def _stream(history: list[_Commit], people: Mapping[str, str]) -> bytes:
    """A linear history in the form of `git fast-import`."""
    line = f"refs/heads/{history[-1].branch}"
    parts = []
    for number, commit in enumerate(history, 1):
        parts.append(_commit(line, number, commit, people))
        if commit.tag:
            parts.append(_tag(number, commit, people))
        if commit.branch and commit is not history[-1]:
            parts.append(f"reset refs/heads/{commit.branch}\nfrom :{number}\n\n".encode())
    return b"".join([*parts, b"done\n"])


def _commit(line: str, number: int, commit: _Commit, people: Mapping[str, str]) -> bytes:
    who = _signature(commit, people)
    head = f"commit {line}\nmark :{number}\nauthor {who}\ncommitter {who}\n".encode()
    files = (f"M 100644 inline {path}\n".encode() + _data(content) for path, content in sorted(commit.files.items()))
    return head + _data(commit.subject.encode() + b"\n") + b"".join(files) + b"\n"


def _tag(number: int, commit: _Commit, people: Mapping[str, str]) -> bytes:
    head = f"tag {commit.tag}\nfrom :{number}\ntagger {_signature(commit, people)}\n".encode()
    return head + _data(f"{commit.tag}\n".encode())


def _signature(commit: _Commit, people: Mapping[str, str]) -> str:
    return f"{people[commit.author]} {int(commit.at.timestamp())} +0000"


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


# --- the histories --------------------------------------------------------------------------------------------------


def _history(name: str) -> list[_Commit]:
    if name == CONFIG:
        files = {"README.md": (FILES / CONFIG / "README.md").read_bytes()}
        began_at = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
        return [_Commit("Begin the record of what runs where", "lead", began_at, files, branch=MAIN)]
    written = _read_yaml(FILES / name / "history.yaml")
    return [_read_commit(FILES / name, entry) for entry in written["commits"]]


def _read_commit(folder: Path, entry: Mapping[str, Any]) -> _Commit:
    files: dict[str, bytes] = {}
    for part in entry["files"]:
        files |= _read_files(FILES / part if part == "common" else folder / str(part))
    return _Commit(
        entry["subject"], entry["author"], entry["date"], files, entry.get("tag", ""), entry.get("branch", "")
    )


def _read_files(folder: Path) -> dict[str, bytes]:
    files = {}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and "__pycache__" not in parts:
            files["/".join((_STORED_AS.get(parts[0], parts[0]), *parts[1:]))] = path.read_bytes()
    return files


def _people() -> dict[str, str]:
    """Person -> `Name <address>`, as the catalog knows them."""
    people = _read_yaml(FILES / "catalog" / "people.yaml")["people"]
    return {person: f"{entry['name']} <{entry['email']}>" for person, entry in people.items()}


def _read_yaml(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


def _write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace the file at once; a file that is right already is left alone."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.chmod(mode)
    temporary.replace(path)
