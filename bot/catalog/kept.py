"""The last good catalog, kept as it was made: a start on the same files by the same program need not read them anew.

What was kept counts only for exactly these bytes of all files and this build of Slipway; anything else, a torn or a
strange file too, is as if nothing had been kept. The file can name no code but the catalog's own types.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import structlog

import bot
from bot.catalog import model
from bot.catalog.files import Listing, digest_of, read_file
from bot.catalog.model import Catalog
from bot.catalog.problems import Problem

log = structlog.get_logger(__name__)

TIMES = frozenset({"date", "datetime", "time", "timedelta", "timezone"})


class KeptCatalog:
    """One file. Its first line is a hash of the rest, which begins with what it was made of."""

    def __init__(self, path: Path) -> None:
        """path: need not be there."""
        self._path = path

    def read(self, directory: Path, listing: Listing) -> Catalog | None:
        """The catalog that was made of these files, if it was kept."""
        try:
            seal, _, rest = self._path.read_bytes().partition(b"\n")
        except OSError:
            return None
        digest = _digest(directory, listing)
        mark = _mark(digest) if digest is not None else b""
        if not mark or not rest.startswith(mark) or seal != _seal(rest):
            return None
        try:
            catalog = _Unpickler(io.BytesIO(rest[len(mark) :])).load()
        except Exception as error:
            log.warning("kept_catalog_not_read", error=type(error).__name__)
            return None
        return catalog if isinstance(catalog, Catalog) and catalog.digest == digest else None

    def write(self, catalog: Catalog) -> None:
        """Keep it, whole or not at all; that it cannot be written costs only the next start some time."""
        made = io.BytesIO()
        _Pickler(made, protocol=5).dump(catalog)
        rest = _mark(catalog.digest) + made.getvalue()
        new = self._path.with_suffix(".new")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(_seal(rest) + b"\n" + rest)
            new.replace(self._path)
        except OSError as error:
            log.warning("catalog_not_kept", error=error.strerror)


class _Pickler(pickle.Pickler):
    """Has our types made again by calling them, which takes half as long as what dataclasses do by themselves."""

    def reducer_override(self, thing: object) -> Any:
        kind = type(thing)
        if kind.__module__ != model.__name__ or not is_dataclass(kind):
            return NotImplemented
        return kind, tuple(getattr(thing, name) for name in _names(kind))


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.init)


class _Unpickler(pickle.Unpickler):
    """Makes catalogs and nothing else, whoever wrote the file."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "datetime" and name in TIMES:
            return super().find_class(module, name)
        found = vars(model).get(name) if module == model.__name__ else None
        if not isinstance(found, type) or found.__module__ != model.__name__:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a catalog")
        return found


def _digest(directory: Path, listing: Listing) -> str | None:
    """As the loader would find it; None: there is something to complain of."""
    if listing.problems:
        return None
    shas: dict[str, str] = {}
    for name in listing.files:
        content = read_file(directory, name)
        if isinstance(content, Problem):
            return None
        shas[name] = content.sha
    return digest_of(shas)


def _mark(digest: str) -> bytes:
    return f"{_build()}\n{digest}\n".encode()


def _seal(rest: bytes) -> bytes:
    return hashlib.sha256(rest).hexdigest().encode()


def _build() -> str:
    """Changes with every change of our code: what is a mistake, or a default, may be another thing then."""
    whole = hashlib.sha256(f"{bot.__version__}\n{sys.version}\n".encode())
    for name, seen in _sources(Path(bot.__file__).parent):
        whole.update(f"{name}\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode())
    return whole.hexdigest()


def _sources(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _sources(Path(entry.path))
        elif entry.name.endswith((".py", ".yaml")):
            yield entry.path, entry.stat()
