"""Triggers runs in a process of its own and kills it (SIGKILL) at a chosen point. One JSON order a line on stdin.

The process that is killed is a fork of this one, which has everything imported: a kill costs milliseconds. Points are
counted, not timed, so that a busy machine changes nothing: every statement and commit in the database, and every step
of every request on the wire (connected, headers sent, body sent, answer begun, answer read).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import httpx
from sqlalchemy import event

from bot.clock import utc_now
from bot.store.database import Database
from bot.store.runs import StoredRuns
from tests.contract.remote_worlds import make_remote, remote_request


class Points:
    """Counts them, and dies at number `at`; 0: never."""

    def __init__(self, at: int) -> None:
        self.passed = 0
        self._at = at

    def __call__(self, *_: Any, **__: Any) -> None:
        self.passed += 1
        if self.passed == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def traced(self, _step: str, _info: Any) -> None:
        self()

    async def hook(self, request: httpx.Request) -> None:
        request.extensions["trace"] = self.traced

    async def reach(self, number: int) -> None:
        """Wait until that many were passed."""
        while self.passed < number:
            await asyncio.sleep(0.001)


async def trigger(order: dict[str, Any]) -> int:
    """What the bot does for several deployments at once: look, then start. Returns how many points it passed.

    intents: intent -> after how many points its trigger begins.
    """
    points = Points(order["at"])
    db = Database(f"sqlite:///{order['db']}")
    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(db.engine, name, points)
    pipeline, client = make_remote(order["provider"], order["url"], StoredRuns(db), utc_now)
    client.event_hooks["request"] = [points.hook]

    async def one(intent: str, begins: int) -> None:
        await points.reach(begins)
        request = remote_request(order["provider"], "good", intent, order["definition"], options=order["options"])
        await pipeline.find(request)
        await pipeline.trigger(request)

    async with client:
        await asyncio.gather(*(one(intent, begins) for intent, begins in order["intents"].items()))
    db.close()
    return points.passed


def main() -> None:
    """Obey until stdin ends; each answer is `killed`, or how many points there were."""
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, str(asyncio.run(trigger(order))).encode())
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        said = os.read(reading, 100).decode()
        os.close(reading)
        print("killed" if os.WIFSIGNALED(status) else said or "failed", flush=True)


if __name__ == "__main__":
    main()
