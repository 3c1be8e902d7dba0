"""OWNERS and OWNERS_ALIASES of a repository, resolved as Prow does, and failing closed where Prow only logs.

Source: kubernetes-sigs/prow pkg/repoowners/repoowners.go. Names are lower-cased and lose one leading `@`; an alias
expands once; filters are searched in the path relative to their directory and add up; walking up from the path, every
level's people count, until a directory with `no_parent_owners` at or below which somebody was found.
Ours: a file that cannot be understood means nobody, for every path whose way up meets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LISTS = ("approvers", "reviewers", "required_reviewers", "labels")
MOST = 256 * 1024
"""Characters of a file; a larger one is not read."""
ROOT = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """People of one directory for paths that a pattern is found in; None: for all."""

    pattern: re.Pattern[str] | None
    approvers: frozenset[str]
    reviewers: frozenset[str]


@dataclass(frozen=True, slots=True)
class OwnersFile:
    """One OWNERS file. readable False: nobody, and the walk ends there."""

    entries: tuple[Entry, ...] = ()
    no_parent: bool = False
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """Who may approve a path, by the directory that says so, nearest first. broken: the file that could not be read."""

    levels: tuple[tuple[str, frozenset[str]], ...]
    broken: str = ""

    @property
    def people(self) -> frozenset[str]:
        """Everybody of every level; nobody if a file on the way could not be read."""
        return frozenset() if self.broken else frozenset(name for _, names in self.levels for name in names)


class Owners:
    """The OWNERS files of one commit."""

    def __init__(self, files: Mapping[str, str], aliases: str | None = None) -> None:
        """files: directory ("" is the root) -> text of its OWNERS; aliases: text of OWNERS_ALIASES."""
        known = parse_aliases(aliases) if aliases is not None else {}
        self._broken_aliases = known is None
        self._files = {directory.strip("/"): parse_owners(text, known or {}) for directory, text in files.items()}

    def approvers(self, path: str) -> Found:
        """Who may approve a path (a file or a directory, relative to the repository's root)."""
        return self._walk(path, "approvers")

    def reviewers(self, path: str) -> Found:
        """Who may review a path."""
        return self._walk(path, "reviewers")

    def _walk(self, path: str, which: str) -> Found:
        if self._broken_aliases:
            return Found((), "OWNERS_ALIASES")
        levels: list[tuple[str, frozenset[str]]] = []
        for directory in _upwards(path):
            file = self._files.get(directory)
            if file is None:
                continue
            name = f"{directory}/OWNERS" if directory else "OWNERS"
            if not file.readable:
                return Found((), name)
            people = _people(file, path[len(directory) :].strip("/"), which)
            if people:
                levels.append((name, people))
            if file.no_parent and levels:
                break
        return Found(tuple(levels))


def parse_owners(text: str, aliases: Mapping[str, frozenset[str]]) -> OwnersFile:
    """One file; unreadable ones say so and name nobody."""
    body = _mapping(text)
    if body is None:
        return OwnersFile(readable=False)
    try:
        options = body.get("options") or {}
        simple = any(body.get(name) for name in LISTS)
        filters: Mapping[str, Any] = {".*": body} if simple else body.get("filters") or {}
        entries = tuple(_entry(pattern, values or {}, aliases) for pattern, values in filters.items())
        return OwnersFile(entries, options.get("no_parent_owners") is True)
    except (AttributeError, TypeError, ValueError, re.error):
        return OwnersFile(readable=False)


def parse_aliases(text: str) -> dict[str, frozenset[str]] | None:
    """Alias -> people; None: it cannot be understood."""
    body = _mapping(text)
    try:
        known = (body or {}).get("aliases") or {}
        found = {normal(str(name)): frozenset(_names(members)) for name, members in known.items()}
    except (AttributeError, TypeError):
        return None
    return found if body is not None else None


def normal(name: str) -> str:
    """Lower case, without one leading `@`."""
    return name.strip().casefold().removeprefix("@")


def _entry(pattern: str, values: Mapping[str, Any], aliases: Mapping[str, frozenset[str]]) -> Entry:
    if len(pattern) > 500:
        raise ValueError("pattern too long")
    return Entry(
        None if pattern == ".*" else re.compile(pattern),
        _expanded(_names(values.get("approvers")), aliases),
        _expanded(_names(values.get("reviewers")), aliases),
    )


def _expanded(names: Iterable[str], aliases: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """An alias inside an alias stays a name: Prow expands one level."""
    return frozenset(person for name in names for person in aliases.get(name, (name,)))


def _names(value: Any) -> Iterator[str]:
    """Names of a list, of the keys of a mapping, or none. Raises TypeError for anything else."""
    if value is None:
        return
    if not isinstance(value, (list, dict)):
        raise TypeError("not a list")
    for name in value:
        if not isinstance(name, str):
            raise TypeError("not a name")
        yield normal(name)


def _people(file: OwnersFile, relative: str, which: str) -> frozenset[str]:
    matching = [one for one in file.entries if one.pattern is None or one.pattern.search(relative)]
    return frozenset(name for one in matching for name in (one.approvers if which == "approvers" else one.reviewers))


def _upwards(path: str) -> Iterator[str]:
    current = path.strip("/")
    while current:
        yield current
        current = current.rpartition("/")[0]
    yield ROOT


def _mapping(text: str) -> dict[str, Any] | None:
    if len(text) > MOST:
        return None
    import yaml  # most companies name owners in the catalog alone

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        body = yaml.load(text, Loader=loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    body = {} if body is None else body
    return body if isinstance(body, dict) else None
