"""A whole log as a file in the chat: beside its card, from the disk, within what the chat takes, else only the link."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from typing import IO

from pydantic import SecretStr

from bot.deployments.run_log import OpenLog
from bot.errors import ProviderUnavailable
from notifiers.card import Card, Message
from notifiers.feishu import FeishuClient
from notifiers.feishu_api import FeishuApi
from notifiers.slack import SlackClient
from notifiers.slack_api import SlackApi
from notifiers.whole_logs import WholeLogs
from tests.fakes.feishu import APP_ID, APP_SECRET, FakeFeishu
from tests.fakes.slack import BOT_TOKEN, FakeSlack

CARD = Card("Log of d-7", about={"log": "t0ken"}, fields={"whole log": "http://x/logs/t0ken"})
MESSAGE = Message("the log", CARD)
LINES = [f"line {number}\n".encode() for number in range(5_000)]


async def opened(token: str) -> OpenLog | None:
    async def pieces() -> AsyncIterator[bytes]:
        for line in LINES:
            yield line

    return OpenLog("d-7-test.log", pieces()) if token == "t0ken" else None


async def until(condition: object) -> None:
    async with asyncio.timeout(30):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_slack_gets_the_file_into_the_thread() -> None:
    """Once, with the log's own name; a card of something else brings none."""
    async with FakeSlack() as fake:
        fake.channel("C1", "releases")
        api = SlackApi([SecretStr(BOT_TOKEN)], fake.base_url)
        await api.open()
        client = SlackClient(api, open_log=opened)
        try:
            ref = await client.post("C1", MESSAGE, "k1")
            await client.post("C1", Message("x", Card("something else")), "k2")
            await until(lambda: any("title" in one for one in fake.files))
            await client.close()
        finally:
            await api.close()
    (file,) = fake.files
    assert (file["title"], file["thread_ts"]) == ("d-7-test.log", ref.partition(":")[2])
    assert file["content"] == b"".join(LINES)
    assert file["length"] == len(file["content"])


async def test_feishu_gets_the_file_as_an_answer() -> None:
    """Uploaded first, then a message of the kind `file` that answers the card."""
    async with FakeFeishu() as fake:
        fake.groups.add("oc_1")
        api = FeishuApi(APP_ID, SecretStr(APP_SECRET), fake.url, timeout=5)
        client = FeishuClient(api, open_log=opened)
        try:
            await client.post("oc_1", MESSAGE, "k1")
            await until(lambda: len(fake.in_place("oc_1")) > 1)
            await client.close()
        finally:
            await api.close()
    _, answer = fake.in_place("oc_1")
    assert fake.files[answer.content["file_key"]] == ("d-7-test.log", b"".join(LINES))


async def test_what_cannot_be_sent_is_left_to_the_link() -> None:
    """Too large, over, or broken off in the middle: nothing is put, nothing raised, and what goes on goes on."""
    put: list[str] = []

    async def take(name: str, file: IO[bytes], size: int) -> None:
        put.append(f"{name} {size} {len(file.read())}")

    async def cut(_token: str) -> OpenLog:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"line 1\n"
            raise ProviderUnavailable("Jenkins stopped answering in the middle of a log.")

        return OpenLog("d-7.log", pieces())

    size = sum(map(len, LINES))
    cases = [(opened, size - 1, "t0ken"), (opened, size, "old"), (cut, size, "t0ken"), (opened, size, "t0ken")]
    for open_log, most, token in cases:
        logs = WholeLogs(open_log, most)
        logs.send(Card("x", about={"log": token}), take)
        logs.send(None, take)
        await until(lambda logs=logs: not logs._tasks)
    assert put == [f"d-7-test.log {size} {size}"]


async def test_a_log_is_never_held_in_memory() -> None:
    """Thirty megabytes go through with a fraction of that in use."""
    piece = b"x" * 65_536
    peak = 0

    async def large(_token: str) -> OpenLog:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(480):
                yield bytes(bytearray(piece))

        return OpenLog("d-7.log", pieces())

    async def take(_name: str, file: IO[bytes], size: int) -> None:
        nonlocal peak
        while file.read(65_536):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        assert size == 480 * len(piece)

    tracemalloc.start()
    try:
        logs = WholeLogs(large, 50_000_000)
        logs.send(CARD, take)
        await until(lambda: not logs._tasks)
    finally:
        tracemalloc.stop()
    assert 0 < peak < 5_000_000
