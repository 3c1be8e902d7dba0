"""How a commit is called as a release: from Git alone, so that everybody who looks finds the same name; pure.

`{release}-{date}.{count}` on the branch `release/202406` gives `202406-20240630.539481`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

HOLES = ("release", "branch", "date", "time", "count", "commit")
"""The branch after its last `/`, the branch with `-` for `/`, day and time of the commit in UTC, how many commits it
stands on, and its first 12 digits."""
_HOLE = re.compile(r"\{(\w*)\}")


def unknown_holes(pattern: str) -> list[str]:
    """Placeholders that are none."""
    return [name for name in _HOLE.findall(pattern) if name not in HOLES]


def version_of(pattern: str, branch: str, committed_at: datetime, commit: str, count: int) -> str:
    """The name of a commit."""
    at = committed_at.astimezone(UTC)
    words = {
        "release": branch.rpartition("/")[2],
        "branch": branch.replace("/", "-"),
        "date": f"{at:%Y%m%d}",
        "time": f"{at:%H%M%S}",
        "count": str(count),
        "commit": commit[:12],
    }
    return _HOLE.sub(lambda hole: words.get(hole[1], hole[0]), pattern)


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorts v1.10 after v1.9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", name)]
