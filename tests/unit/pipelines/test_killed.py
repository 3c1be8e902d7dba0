"""kill -9 between the trigger and its answer: one run, whatever the point, whatever the system."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.clock import utc_now
from bot.errors import ProviderError
from bot.pipelines.base import PipelineRun, RunRequest
from bot.pipelines.remote import RemotePipeline
from tests.contract.remote_worlds import DEFINITION, WORKFLOW, make_remote, memory, remote_request
from tests.fakes.github import FakeGitHub
from tests.fakes.gitlab import FakeGitLab
from tests.fakes.jenkins import FakeJenkins
from tests.fakes.prow import FakeProw
from tests.fakes.serving import serving
from tests.fakes.tekton import FakeTekton
from tests.fakes.yunxiao import FakeYunxiao

KILLS = int(os.environ.get("KILLS", "20"))
"""Per system; the environment may ask for more, such as `KILLS=200`."""
ROUND = 20
"""Kills of one system before it begins anew: nobody looks through more than 1,000 runs of the same minute."""
AT_ONCE = 10
"""Triggers in flight in the process that is killed, each at another point of its way: 200 are cut off per system."""


@dataclass(frozen=True)
class System:
    """A fake, its pipeline's name, and how its runs tell their intents."""

    fake: Any
    intents: Callable[[Any], list[str]]
    definition: str = DEFINITION
    options: Mapping[str, object] = field(default_factory=dict)


SYSTEMS: Mapping[str, Callable[[], System]] = {
    "jenkins": lambda: System(FakeJenkins(DEFINITION), lambda fake: [one["SLIPWAY_INTENT"] for one in fake.asked]),
    "gitlab": lambda: System(
        FakeGitLab(DEFINITION), lambda fake: [one.variables["SLIPWAY_INTENT"] for one in fake.built]
    ),
    "github": lambda: System(
        FakeGitHub(WORKFLOW), lambda fake: [run.title.split()[1] for run in fake.runs.values()], WORKFLOW
    ),
    "tekton": lambda: System(
        FakeTekton(DEFINITION), lambda fake: [run.build.parameters["intent"] for run in fake.runs.values()]
    ),
    "prow": lambda: System(
        FakeProw("hello-ci"),
        lambda fake: [job.build.parameters["SLIPWAY_INTENT"] for job in fake.jobs.values()],
        "hello-ci",
    ),
    "yunxiao": lambda: System(
        FakeYunxiao("183"),
        lambda fake: [run.build.parameters["SLIPWAY_INTENT"] for run in fake.runs.values()],
        "183",
        {"findable": True},
    ),
}


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
    """What the next bot does, as the workflow does it: find or trigger, until there is a run."""
    for _ in range(100):
        try:
            return await pipeline.find(request) or await pipeline.trigger(request)
        except ProviderError:
            continue
    raise AssertionError(request.intent)


async def wire_is_quiet() -> None:
    """What the killed process had sent is in our own server's sockets by now; have it handled."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", SYSTEMS)
async def test_a_killed_bot_leaves_one_run(tmp_path: Path, name: str) -> None:
    """Kills at random points; the next bot finds what there is or starts what there is not."""
    dice, ends = random.Random(5), Counter[bool]()
    async with killer() as kill:
        for first in range(0, KILLS, ROUND):
            directory = tmp_path / str(first)
            directory.mkdir()
            await killed(directory, name, kill, min(ROUND, KILLS - first), dice, ends)
    assert ends[True] > KILLS * 0.9


async def killed(
    directory: Path, name: str, kill: Killer, kills: int, dice: random.Random, ends: Counter[bool]
) -> None:
    """So many kills of a system that knows of no run yet; after them every intent has one. ends: was it killed."""
    system = SYSTEMS[name]()
    fake, definition, options = system.fake, system.definition, dict(system.options)
    with memory(directory) as notes:
        async with serving(fake.app) as url:
            notes_at = {"db": str(directory / "notes.db"), "definition": definition, "options": options}
            order = {"provider": name, "url": url, **notes_at}
            points = int(await kill(**order, intents={"d-0": 0}, at=0))
            # The next bot starts later than any request can still be on its way.
            pipeline, client = make_remote(name, url, notes, lambda: utc_now() + timedelta(minutes=5))
            async with client:
                for number in range(kills):
                    begins = {
                        f"d-{1 + number * AT_ONCE + one}": one and dice.randrange(points) for one in range(AT_ONCE)
                    }
                    ends[await kill(**order, intents=begins, at=dice.randint(1, points * 2)) == "killed"] += 1
                    await wire_is_quiet()
                    for intent in begins:
                        await settled(pipeline, remote_request(name, "good", intent, definition, options))
    wanted = Counter({f"d-{number}": 1 for number in range(1 + kills * AT_ONCE)})
    assert Counter(system.intents(fake)) == wanted
