"""What stands between us and every system: few requests at a time, and rest for one that says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from bot import fence
from bot.errors import ProviderUnavailable
from bot.pipelines import http
from bot.pipelines.http import AT_ONCE, LONGEST_REST, REST, SILENT_AFTER, Http
from tests.support.clock import FakeClock


class Remote(httpx.AsyncBaseTransport):
    """A system that answers, is silent, or keeps everybody waiting."""

    def __init__(self) -> None:
        self.asked = 0
        self.silent = False
        self.slow = False
        self.released = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.slow:
            await self.released.wait()
        if self.silent:
            raise httpx.ReadTimeout("nothing came", request=request)
        return httpx.Response(200, json={})


@asynccontextmanager
async def system(clock: FakeClock) -> AsyncIterator[tuple[Http, Remote]]:
    remote = Remote()
    async with httpx.AsyncClient(transport=remote, base_url="http://ci") as client:
        yield Http("Jenkins", client, clock), remote


async def fails(http: Http, count: int, said: str = "Jenkins does not answer.") -> None:
    for _ in range(count):
        with pytest.raises(ProviderUnavailable) as caught:
            await http.get("x")
        assert caught.value.message == said


async def test_a_silent_system_is_left_alone_and_tried_again(clock: FakeClock) -> None:
    """Whoever asks during the rest is told at once, and costs nobody a time-out; one request finds it back."""
    async with system(clock) as (jenkins, remote):
        remote.silent = True
        await fails(jenkins, SILENT_AFTER + 20)
        assert remote.asked == SILENT_AFTER
        clock.advance(REST)
        await fails(jenkins, 20)
        assert remote.asked == SILENT_AFTER + 1
        remote.silent = False
        clock.advance(LONGEST_REST)
        for _ in range(3):
            assert await jenkins.get_json("x") == {}
        assert remote.asked == SILENT_AFTER + 4


async def test_only_one_tries_whether_it_is_back(clock: FakeClock) -> None:
    """After the rest a hundred do not run into it together."""
    async with system(clock) as (jenkins, remote):
        remote.silent = True
        await fails(jenkins, SILENT_AFTER)
        remote.slow, remote.silent = True, False
        clock.advance(REST + timedelta(seconds=1))
        first = asyncio.create_task(jenkins.get("x"))
        await asyncio.sleep(0)
        await fails(jenkins, 10)
        remote.released.set()
        assert await first is not None
    assert remote.asked == SILENT_AFTER + 1


async def test_answers_in_between_are_no_silence(clock: FakeClock) -> None:
    """A system that loses every third request is used on."""
    async with system(clock) as (jenkins, remote):
        for number in range(30):
            remote.silent = number % 3 == 0
            if remote.silent:
                await fails(jenkins, 1)
            else:
                await jenkins.get("x")
        assert remote.asked == 30


async def test_a_slow_system_holds_few_requests(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is told that it is slow, instead of waiting behind those that wait."""
    monkeypatch.setattr(http, "PATIENCE", 0.05)
    async with system(clock) as (jenkins, remote):
        remote.slow = True
        asking: list[asyncio.Task[Any]] = [asyncio.create_task(jenkins.get("x")) for _ in range(AT_ONCE + 40)]
        async with asyncio.timeout(30):
            while sum(task.done() for task in asking) < 40:
                await asyncio.sleep(0.01)
        assert remote.asked == AT_ONCE
        remote.released.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
    told = {str(answer) for answer in answers if isinstance(answer, ProviderUnavailable)}
    assert told == {f"Jenkins is slow; {AT_ONCE} requests wait for its answer."}
    assert sum(isinstance(answer, httpx.Response) for answer in answers) == AT_ONCE


async def test_a_replica_that_was_paused_changes_nothing(clock: FakeClock) -> None:
    """What it found out before its pause is old; looking still works, and outside a turn nothing is asked of it."""
    async with system(clock) as (jenkins, remote):
        with fence.holding(lambda: False):
            for change in (jenkins.start("x"), jenkins.tell("x")):
                with pytest.raises(ProviderUnavailable, match="This replica was paused"):
                    await change
            assert remote.asked == 0
            await jenkins.get("x")
        with fence.holding(lambda: True):
            await jenkins.start("x")
        await jenkins.start("x")
    assert remote.asked == 3
