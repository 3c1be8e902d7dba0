"""Replicas die, sleep and are cut off while they work: the bounded form of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chaos import run


@pytest.mark.timeout(300)
@pytest.mark.postgres
@pytest.mark.slow
async def test_nothing_is_lost_and_nothing_is_done_twice(tmp_path: Path) -> None:
    """Three processes, one database: every deployment ends once in the right state, every effect and message once.

    The seed chooses what breaks; when exactly it breaks is chance, so a failure here is worth reading twice.
    """
    verdict = await run(tmp_path, deployments=24, replicas=3, seed=20, pace=0.8)
    assert verdict.problems == []
    assert verdict.faults["kill"]
    assert verdict.faults["cut"]
