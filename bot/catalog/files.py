"""Which files make up a catalog, and whether they changed: cheap enough to ask every two seconds.

Root `*.yaml` and `services/**/*.yaml`; whatever starts with a dot is left alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.catalog import messages
from bot.catalog.problems import Problem

SERVICES = "services"
ENDING = ".yaml"
LARGEST = 64 * 1024 * 1024

Stamp = tuple[int, int, int]
"""mtime (ns), size, inode: a change to any may be a change of content."""
UNSURE = -1
"""As inode: written so recently that it may change again without a new stamp, so it is read again."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What is there. files: path relative to the directory, with `/` -> stamp. folders: the same for directories.

    problems: what could not be listed, and files that look like the catalog's but would be left out.
    """

    files: dict[str, Stamp]
    folders: dict[str, Stamp]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """One file's text, and the hash of its bytes."""

    text: str
    sha: str


def digest_of(shas: Mapping[str, str]) -> str:
    """SHA-256 over names and contents of all files; shas: name -> hash of the content, in order."""
    whole = hashlib.sha256()
    for name, sha in shas.items():
        whole.update(f"{name}\0{sha}\n".encode())
    return whole.hexdigest()


def list_files(directory: Path) -> Listing:
    """Look at every file once."""
    found = Listing({}, {})
    problems: list[Problem] = []
    _list_folder(directory, "", found, problems)
    if os.path.isdir(directory / SERVICES):
        _list_folder(directory, SERVICES, found, problems)
    return Listing(dict(sorted(found.files.items())), found.folders, tuple(problems))


def _list_folder(directory: Path, folder: str, found: Listing, problems: list[Problem]) -> None:
    path = directory / folder
    try:
        found.folders[folder] = stamp_of(os.stat(path))
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        problems.append(_not_listed(folder or ".", error))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir(follow_symlinks=False):
            if folder:
                _list_folder(directory, name, found, problems)
        elif entry.name.endswith(ENDING):
            _add(entry, name, found, problems)
        elif entry.name.endswith(".yml"):
            problems.append(Problem(name, 0, "", messages.wrong_ending(entry.name)))


def _add(entry: os.DirEntry[str], name: str, found: Listing, problems: list[Problem]) -> None:
    try:
        seen = entry.stat()
        if not stat.S_ISREG(seen.st_mode):
            problems.append(Problem(name, 0, "", messages.unreadable("it is no plain file")))
            return
        found.files[name] = stamp_of(seen)
    except OSError as error:
        problems.append(_not_listed(name, error))


def _not_listed(name: str, error: OSError) -> Problem:
    if isinstance(error, FileNotFoundError) and name == ".":
        return Problem(name, 0, "", messages.no_directory())
    return Problem(name, 0, "", messages.unreadable(error.strerror or type(error).__name__))


def stamp_file(directory: Path, name: str) -> Stamp | None:
    """The stamp of a file or folder now, None if it is gone."""
    try:
        return stamp_of(os.stat(f"{directory}/{name}"))
    except OSError:
        return None


def stamp_of(seen: os.stat_result) -> Stamp:
    """What is compared."""
    return (seen.st_mtime_ns, seen.st_size, seen.st_ino)


def read_file(directory: Path, name: str) -> Content | Problem:
    """Read one file."""
    try:
        path = directory / name
        if path.stat().st_size > LARGEST:
            return Problem(name, 0, "", messages.too_large("bytes", LARGEST))
        data = path.read_bytes()
        return Content(data.decode("utf-8-sig"), hashlib.sha256(data).hexdigest())
    except UnicodeDecodeError:
        return Problem(name, 0, "", messages.not_utf8())
    except OSError as error:
        return Problem(name, 0, "", messages.unreadable(error.strerror or type(error).__name__))
