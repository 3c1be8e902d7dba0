"""The store of what pipelines built, by content: `sha256/<hex>/` holds the file or the tree.

The digest is taken over a canonical form: for each entry in the order of its path's bytes, its kind (directory, file,
executable file, link), its path, and its size and content or its target. Times and owners do not count. Standard
library alone: a run stores its artifact as a step of its own, run by path.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


class BadArtifact(Exception):
    """The artifact is missing or holds something that cannot be stored; the message is one sentence."""


def digest(tree: Path) -> str:
    """`sha256:<hex>` of a directory's content. Raises BadArtifact."""
    hasher = hashlib.sha256(b"slipway artifact 1\n")
    for path, relative in _entries(tree):
        info = path.lstat()
        name = os.fsencode(relative)
        if stat.S_ISLNK(info.st_mode):
            target = os.fsencode(os.readlink(path))
            hasher.update(b"link %d %b %d %b\n" % (len(name), name, len(target), target))
        elif stat.S_ISDIR(info.st_mode):
            hasher.update(b"dir %d %b\n" % (len(name), name))
        else:
            kind = b"exec" if info.st_mode & stat.S_IXUSR else b"file"
            hasher.update(b"%b %d %b %d\n" % (kind, len(name), name, info.st_size))
            with open(path, "rb") as file:
                while piece := file.read(1 << 20):
                    hasher.update(piece)
    return f"sha256:{hasher.hexdigest()}"


def store(source: Path, root: Path) -> tuple[str, Path]:
    """Copy a file or a tree into the store; returns its digest and its place. The same content is stored once.

    Raises:
        BadArtifact: it is missing, or holds links out of it or special files.
        OSError: the disk.
    """
    _check_source(source)
    root.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    try:
        _copy(source, fresh)
        # Taken of the copy, so that the name is true even if the source changes under our hands.
        name = digest(fresh)
        fresh.chmod(0o755)
        return name, _settle(fresh, root / "sha256" / name.removeprefix("sha256:"))
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def locate(name: str, root: Path) -> Path | None:
    """The place of a stored digest, None if it is not there."""
    kind, _, value = name.partition(":")
    place = root / kind / value
    return place if kind == "sha256" and value.isalnum() and place.is_dir() else None


def _settle(fresh: Path, place: Path) -> Path:
    place.parent.mkdir(exist_ok=True)
    try:
        fresh.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    return place


def _check_source(source: Path) -> None:
    try:
        mode = source.lstat().st_mode
    except FileNotFoundError:
        raise BadArtifact(f"the artifact `{source.name}` was not built; a step must make it") from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise BadArtifact(f"the artifact `{source.name}` is neither a file nor a directory")


def _entries(tree: Path) -> list[tuple[Path, str]]:
    """Everything below the tree with its path relative to it, sorted by the bytes of that."""
    found = []
    for directory, directories, files in os.walk(tree, onerror=_raise):
        for name in (*directories, *files):
            path = Path(directory, name)
            found.append((path, path.relative_to(tree).as_posix()))
    return sorted(found, key=lambda entry: os.fsencode(entry[1]))


def _raise(error: OSError) -> None:
    raise error


def _copy(source: Path, place: Path) -> None:
    if source.is_file():
        _copy_file(source, place / source.name)
        return
    for path, relative in _entries(source):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            _check_link(path, source, relative)
            (place / relative).symlink_to(os.readlink(path))
        elif stat.S_ISDIR(mode):
            (place / relative).mkdir()
        elif stat.S_ISREG(mode):
            _copy_file(path, place / relative)
        else:
            raise BadArtifact(f"the artifact holds `{relative}`, which is neither a file, a directory nor a link")


def _check_link(path: Path, tree: Path, relative: str) -> None:
    target = os.readlink(path)
    inside = os.path.normpath(os.path.join(os.path.dirname(relative), target))
    if os.path.isabs(target) or inside.split("/")[0] == ".." or not path.resolve().is_relative_to(tree.resolve()):
        raise BadArtifact(f"the artifact's link `{relative}` leads out of it")


def _copy_file(source: Path, target: Path) -> None:
    """Contents and the executable bit; read-only, because what is stored is never changed."""
    with open(source, "rb") as file, open(target, "wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())
        executable = os.fstat(file.fileno()).st_mode & stat.S_IXUSR
    target.chmod(0o555 if executable else 0o444)


def _write_result(path: Path, name: str, place: Path) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps({"digest": name, "location": str(place)}), encoding="utf-8")
    temporary.replace(path)


def main(base: str, relative: str, root: str, result: str) -> int:
    """Store what is at `relative` in `base` and write `{"digest", "location"}` to the result file."""
    try:
        source = Path(base, relative)
        if not source.parent.resolve().is_relative_to(Path(base).resolve()):
            raise BadArtifact(f"the artifact `{relative}` is reached by a link out of the workspace")
        name, place = store(source, Path(root))
        _write_result(Path(result), name, place)
    except BadArtifact as error:
        print(f"slipway: {error}.", flush=True)
        return 1
    except OSError as error:
        print(f"slipway: the artifact could not be stored: {error.strerror}.", flush=True)
        return 1
    with suppress(OSError):
        print(f"stored {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
