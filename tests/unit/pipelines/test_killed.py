"""kill -9 between the trigger and its answer: one run, whatever the moment, whatever the system."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.clock import utc_now
from bot.errors import ProviderError
from bot.pipelines.base import PipelineRun, RunRequest, RunState
from bot.pipelines.remote import RemotePipeline
from tests.contract.remote_worlds import DEFINITION, WORKFLOW, make_remote, memory, remote_request
from tests.fakes.github import FakeGitHub
from tests.fakes.gitlab import FakeGitLab
from tests.fakes.jenkins import FakeJenkins
from tests.fakes.serving import serving
from tests.fakes.tekton import FakeTekton

KILLS = int(os.environ.get("KILLS", "15"))
"""Per system; the environment may ask for more, such as `KILLS=200`."""
LONGEST = 0.12
"""Seconds that a whole trigger takes here, and some more: kills fall before, within and after it."""


def jenkins() -> tuple[Any, str, Callable[[Any], list[str]]]:
    return FakeJenkins(DEFINITION), DEFINITION, lambda fake: [one["SLIPWAY_INTENT"] for one in fake.built]


def gitlab() -> tuple[Any, str, Callable[[Any], list[str]]]:
    return FakeGitLab(DEFINITION), DEFINITION, lambda fake: [one.variables["SLIPWAY_INTENT"] for one in fake.built]


def github() -> tuple[Any, str, Callable[[Any], list[str]]]:
    return FakeGitHub(WORKFLOW), WORKFLOW, lambda fake: [run.title.split()[1] for run in fake.runs.values()]


def tekton() -> tuple[Any, str, Callable[[Any], list[str]]]:
    return (
        FakeTekton(DEFINITION),
        DEFINITION,
        lambda fake: [run.build.parameters["intent"] for run in fake.runs.values()],
    )


class Killer:
    """A process that triggers and is killed, again and again."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, **order: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return (await self._process.stdout.readline()).decode().strip()


@asynccontextmanager
async def killer() -> AsyncIterator[Killer]:
    module = [sys.executable, "-m", "tests.support.kill_triggers"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*module, stdin=pipe, stdout=pipe)
    yield Killer(process)
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


async def settled(pipeline: RemotePipeline, request: RunRequest) -> PipelineRun:
    """What the next bot does, as the workflow does it: find or trigger, until it is over."""
    for _ in range(100):
        try:
            run = await pipeline.find(request) or await pipeline.trigger(request)
        except ProviderError:
            continue
        if run.state.is_final:
            return run
    raise AssertionError(request.intent)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("make", [jenkins, gitlab, github, tekton])
async def test_a_killed_bot_leaves_one_run(tmp_path: Path, make: Callable[[], Any]) -> None:
    """Kills at random points; the next bot finds what there is or starts what there is not."""
    fake, definition, intents = make()
    name, dice = make.__name__, random.Random(5)
    ends = Counter[str]()
    with memory(tmp_path) as notes:
        async with serving(fake.app) as url, killer() as kill:
            # The next bot starts later than any request can still be on its way.
            pipeline, client = make_remote(name, url, notes, lambda: utc_now() + timedelta(minutes=5))
            async with client:
                for number in range(KILLS):
                    order = {"provider": name, "url": url, "db": str(tmp_path / "notes.db"), "definition": definition}
                    seconds = dice.uniform(0, LONGEST)
                    ends[await kill(**order, intent=f"d-{number}", seconds=seconds)] += 1
                    await asyncio.sleep(0.02)  # What the killed process sent is on this machine's own wire.
                    request = remote_request(name, "good", f"d-{number}", definition)
                    assert (await settled(pipeline, request)).state is RunState.SUCCEEDED
    assert Counter(intents(fake)) == Counter({f"d-{number}": 1 for number in range(KILLS)})
    assert ends["killed"] > KILLS / 5
