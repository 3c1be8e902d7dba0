"""A log from elsewhere, kept on disk while it is looked at: memory stays flat however big it is."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import IO

SEGMENT = 256_000_000
"""Bytes after which the older of two segments is dropped; the end of a log says why, so the end is what stays."""

_ARTIFACT = re.compile(r"(?:^|\s)slipway-artifact[:=]\s*(\S{1,400}@(sha256:[0-9a-f]{64}))\s*$")


class Spool:
    """Takes bytes, gives lines. Use as a context manager; nothing stays on the disk."""

    def __init__(self, segment: int = SEGMENT) -> None:
        """segment: bytes; at least that many of the log's last bytes are kept."""
        self._segment = segment
        self._files: list[IO[bytes]] = [tempfile.TemporaryFile(prefix="slipway-log-")]  # noqa: SIM115
        self._size = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def write(self, data: bytes) -> None:
        """Add to the end."""
        if self._size >= self._segment:
            if len(self._files) > 1:
                self._files.pop(0).close()
            self._files.append(tempfile.TemporaryFile(prefix="slipway-log-"))  # noqa: SIM115
            self._size = 0
        self._files[-1].write(data)
        self._size += len(data)

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """Add everything that arrives."""
        async for chunk in chunks:
            self.write(chunk)

    def lines(self) -> Iterator[str]:
        """All lines kept, from the first. A line of any length is cut at 64 kB."""
        for file in self._files:
            file.seek(0)
            while line := file.readline(65536):
                yield line.decode("utf-8", "replace").rstrip("\r\n")


def find_artifact(lines: Iterable[str]) -> tuple[str, str] | None:
    """The digest and the image of the last line `slipway-artifact: registry/name@sha256:...`, or None."""
    found = None
    for line in lines:
        if "slipway-artifact" in line and (match := _ARTIFACT.search(line)):
            found = match[2], match[1]
    return found


def cut_stage(lines: Iterable[str], begins: Callable[[str], bool], ends: Callable[[str], bool]) -> Iterator[str]:
    """The lines of one stage, by the marks a system writes around it; of every time it ran."""
    inside = False
    for line in lines:
        if inside and ends(line):
            inside = False
        elif inside:
            yield line
        inside = inside or begins(line)
