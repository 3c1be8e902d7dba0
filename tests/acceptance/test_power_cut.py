"""kill -9 of the bot at every boundary of a deployment and inside every call: it ends right, nothing is done twice."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kill_driver import REGISTRY
from tests.support.postgres import PostgresServer
from tests.support.registry import PROGRAM, running_registry

SHARDS = 2
EVERY = "CUT_EVERY" in os.environ
"""Set it to cut at every boundary of every scenario; otherwise at every second one or fewer, to save time.

Three boundaries belong to a call (before, in, after), so a stride that is no multiple of three meets all kinds.
"""

ROOT = Path(__file__).resolve().parents[2]


def cut_everywhere(directory: Path, scenario: str, stride: int, url: str = "") -> list[dict[str, object]]:
    """Run the driver in shards, one per core; returns its reports."""
    drivers = []
    for shard in range(SHARDS):
        place = directory / f"{scenario}-{shard}"
        place.mkdir()
        argv = [sys.executable, "-m", "tests.support.kill_driver", str(place), scenario]
        argv += [str(shard), str(SHARDS), "1" if EVERY else str(stride), *([url] if url else [])]
        drivers.append(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT))
    reports: list[dict[str, object]] = []
    for driver in drivers:
        out, errors = driver.communicate()
        assert driver.returncode == 0, errors[-4000:]
        reports += [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return reports


def all_well(reports: list[dict[str, object]], at_least: int) -> None:
    """Every report without a problem, and enough of them that nothing was left out by mistake."""
    assert [report for report in reports if report["problems"]] == []
    assert len(reports) >= at_least


@pytest.mark.timeout(1200)
def test_a_deployment_that_succeeds_on_sqlite(tmp_path: Path) -> None:
    """Every second boundary: one build, one commit, one deploy, one card, an audit chain that is whole."""
    all_well(cut_everywhere(tmp_path, "succeeds", 2), at_least=90)


@pytest.mark.timeout(1200)
def test_a_deployment_that_succeeds_on_postgres(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """The same on the other database: leases of the dead process must run out and be taken over."""
    all_well(cut_everywhere(tmp_path, "succeeds", 11, postgres_server.url("DATABASE")), at_least=20)


@pytest.mark.timeout(1200)
def test_a_build_that_fails(tmp_path: Path) -> None:
    """The personal message arrives once."""
    all_well(cut_everywhere(tmp_path, "fails", 4), at_least=15)


@pytest.mark.timeout(1200)
def test_the_way_back(tmp_path: Path) -> None:
    """Undoing is a state like any other: it is cut and goes on too."""
    all_well(cut_everywhere(tmp_path, "goes_back", 15), at_least=15)


@pytest.mark.timeout(1200)
@pytest.mark.skipif(not PROGRAM, reason="needs docker-registry (Debian: apt-get install docker-registry)")
async def test_a_promotion_while_it_gives_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the registry, the source repository and our own row: every name is given once, the image is the same."""
    async with running_registry(tmp_path / "registry") as registry:
        monkeypatch.setenv(REGISTRY, registry.host)
        all_well(await asyncio.to_thread(cut_everywhere, tmp_path, "promotes", 2), at_least=6)
