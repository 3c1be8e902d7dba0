"""The long connection loses nothing: parts are joined, what was not stored comes again, a broken one is replaced."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from bot.chat.feishu_socket import LongConnection
from bot.errors import ProviderUnavailable
from notifiers.feishu_api import FeishuApi
from tests.fakes.feishu import APP_ID, APP_SECRET, FakeFeishu


class Taker:
    """Takes events; what it says and how long it needs is set by the test."""

    def __init__(self) -> None:
        self.taken: list[Mapping[str, Any]] = []
        self.fail = 0
        self.hold: dict[str, asyncio.Event] = {}

    async def __call__(self, event: Mapping[str, Any]) -> dict[str, Any]:
        if self.fail:
            self.fail -= 1
            raise ProviderUnavailable("The database is away.")
        if (held := self.hold.get(event["header"]["event_type"])) is not None:
            await held.wait()
        self.taken.append(event)
        return {"toast": {"content": "好"}} if event["header"]["event_type"] == "card.action.trigger" else {}


@pytest.fixture
async def feishu() -> AsyncIterator[FakeFeishu]:
    async with FakeFeishu() as fake:
        yield fake


@asynccontextmanager
async def connected(feishu: FakeFeishu, taker: Taker) -> AsyncIterator[LongConnection]:
    api = FeishuApi(APP_ID, SecretStr(APP_SECRET), feishu.url, timeout=2)
    connection = LongConnection(api, taker)
    connection.start()
    try:
        await until(lambda: bool(feishu.sockets))
        yield connection
    finally:
        await connection.stop()
        await api.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_an_event_is_taken_and_then_acknowledged(feishu: FakeFeishu) -> None:
    """The acknowledgement carries the answer of a callback, base64 in JSON."""
    taker = Taker()
    async with connected(feishu, taker):
        event = feishu.event("card.action.trigger", {})
        assert await feishu.send_frame(event) == (200, {"toast": {"content": "好"}})
    assert taker.taken == [event]


async def test_parts_are_joined_in_their_order(feishu: FakeFeishu) -> None:
    """A long message comes in several frames, not always in order."""
    taker = Taker()
    async with connected(feishu, taker):
        event = feishu.event("x", {"text": "行" * 500})
        for frame in reversed(feishu.frames(event, 3, "f-parts")):
            await feishu.sockets[0].send_bytes(frame)
        await until(lambda: feishu.acks["f-parts"])
    assert taker.taken == [event]


async def test_what_was_not_stored_is_not_acknowledged(feishu: FakeFeishu) -> None:
    """Feishu then sends it again."""
    taker = Taker()
    taker.fail = 1
    async with connected(feishu, taker):
        event = feishu.event("x", {})
        assert (await feishu.send_frame(event))[0] == 500
        assert (await feishu.send_frame(event))[0] == 200
    assert taker.taken == [event]


async def test_a_storm_of_events_does_not_delay_a_click(feishu: FakeFeishu) -> None:
    """A click has three seconds; a hundred slow messages before it must not use them up."""
    taker = Taker()
    taker.hold["message"] = asyncio.Event()
    async with connected(feishu, taker):
        for number in range(100):
            (frame,) = feishu.frames(feishu.event("message", {}), 1, f"storm{number}")
            await feishu.sockets[0].send_bytes(frame)
        assert (await feishu.send_frame(feishu.event("card.action.trigger", {})))[0] == 200
        assert len(taker.taken) == 1
        taker.hold["message"].set()
        await until(lambda: len(taker.taken) == 101)


@pytest.mark.parametrize("rubbish", [b"", b"\xff\xff\xff", b"\x08"])
async def test_rubbish_does_not_end_the_connection(feishu: FakeFeishu, rubbish: bytes) -> None:
    """One bad frame is one bad frame."""
    taker = Taker()
    async with connected(feishu, taker):
        await feishu.sockets[0].send_bytes(rubbish)
        assert (await feishu.send_frame(feishu.event("x", {})))[0] == 200


async def test_a_broken_connection_is_replaced(feishu: FakeFeishu) -> None:
    """Feishu closes connections when it likes, and may have no room for a new one at first."""
    taker = Taker()
    async with connected(feishu, taker) as connection:
        feishu.fail("endpoint", code=1000040350)
        await feishu.sockets[0].close()
        await until(lambda: not connection.is_open)
        await until(lambda: bool(feishu.sockets))
        assert (await feishu.send_frame(feishu.event("x", {})))[0] == 200
    assert feishu.calls["endpoint"] == 3


async def test_it_pings_as_often_as_it_is_told(feishu: FakeFeishu) -> None:
    """The interval is the platform's to choose; without pings it forgets us."""
    async with connected(feishu, Taker()):
        await until(lambda: feishu.pings >= 1)


ORACLE = """
import sys, threading, time
import lark_oapi as lark
seen = threading.Event()
handler = lark.EventDispatcherHandler.builder("", "").register_p2_im_message_receive_v1(lambda data: seen.set()).build()
client = lark.ws.Client({app!r}, {secret!r}, event_handler=handler, domain=sys.argv[1])
threading.Thread(target=client.start, daemon=True).start()
print(seen.wait(60), flush=True)
time.sleep(0.5)
"""


async def test_lark_oapis_own_client_understands_the_fake(feishu: FakeFeishu) -> None:
    """The frames of the fake are the platform's: judged by a client that nobody here wrote."""
    script = ORACLE.format(app=APP_ID, secret=APP_SECRET)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", script, feishu.url, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(90):
        while not feishu.sockets:
            await asyncio.sleep(0.02)
        code, _ = await feishu.send_frame(feishu.message("ou_1", "hello"))
        said, _ = await process.communicate()
    assert code == 200
    assert said.split()[-1] == b"True"
