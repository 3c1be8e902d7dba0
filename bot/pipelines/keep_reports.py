"""Keeps the report files of a run, for the gates. A step of its own, run by path, with the standard library alone."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

MOST = 500
"""Files of one run."""
LARGEST = 50_000_000
"""Bytes of one run's reports together."""


def main(workspace: str, destination: str, *patterns: str) -> int:
    """Copy every file that fits one of the patterns (`target/surefire-reports/*.xml`, `**/junit.xml`)."""
    base, place = Path(workspace).resolve(), Path(destination)
    place.mkdir(exist_ok=True)
    found = sorted({path for pattern in patterns for path in base.glob(pattern)})
    kept = size = 0
    for path in found:
        # Whoever wrote the repository must not choose what is read outside of it.
        if not stat.S_ISREG(path.lstat().st_mode) or not path.resolve().is_relative_to(base):
            continue
        size += path.stat().st_size
        if kept == MOST or size > LARGEST:
            print(f"slipway: there are too many reports; at most {MOST} files and {LARGEST // 1_000_000} MB are kept.")
            return 1
        name = str(path.relative_to(base)).replace(os.sep, "__")
        (place / name[-200:]).write_bytes(path.read_bytes())
        kept += 1
    print(f"kept {kept} reports", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (OSError, ValueError) as error:
        print(f"slipway: the reports could not be kept: {error}.", flush=True)
        sys.exit(1)
