"""The web server while nobody asks it anything."""

from __future__ import annotations

import asyncio

import uvicorn

from bot.web.server import _Server
from tests.support.virtual_time import VirtualLoop, run_virtually


def test_an_idle_server_wakes_once_a_second_and_ends_at_once() -> None:
    """uvicorn's own loop wakes ten times a second to see whether it shall end: a fifth of what idling cost."""

    async def idle(loop: VirtualLoop) -> tuple[int, float]:
        server = _Server(uvicorn.Config(lambda *_: None, lifespan="off"))
        ticks = 0
        tick = server.on_tick

        async def counted(counter: int) -> bool:
            nonlocal ticks
            ticks += 1
            return await tick(counter)

        server.on_tick = counted  # type: ignore[method-assign]
        looping = asyncio.create_task(server.main_loop())
        await asyncio.sleep(60.5)
        began = loop.time()
        server.end()
        await looping
        return ticks, loop.time() - began

    ticks, took = run_virtually(idle)
    assert ticks <= 63
    assert took == 0
