"""Names of releases are made of what Git says, and of nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bot.sources.naming import natural_order, unknown_holes, version_of

AT = datetime(2024, 6, 30, 23, 59, 1, tzinfo=UTC)
NAMES = [
    ("{release}-{date}.{count}", "release/202406", "202406-20240630.539481"),
    ("{branch}-{time}", "release/202406", "release-202406-235901"),
    ("v{count}", "main", "v539481"),
    ("{release}+{commit}", "main", "main+0123456789ab"),
]


@pytest.mark.parametrize(("pattern", "branch", "version"), NAMES)
def test_a_commit_is_named_by_its_branch_day_and_number(pattern: str, branch: str, version: str) -> None:
    """As in `202406-20240630.539481`."""
    assert version_of(pattern, branch, AT, "0123456789abcdef", 539481) == version


def test_slips_and_order() -> None:
    """A placeholder that is none is found; numbers sort as numbers."""
    assert unknown_holes("{release}-{day}") == ["day"]
    assert max(["release/9", "release/10"], key=natural_order) == "release/10"
