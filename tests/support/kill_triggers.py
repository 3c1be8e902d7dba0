"""Triggers a run in a process of its own and kills it (SIGKILL) after a while. One JSON order a line on stdin.

The process that is killed is a fork of this one, which has everything imported: a kill costs milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

from bot.clock import utc_now
from bot.store.database import Database
from bot.store.runs import StoredRuns
from tests.contract.remote_worlds import make_remote, remote_request


async def trigger(order: dict[str, Any]) -> None:
    """What the bot does: look, then start."""
    db = Database(f"sqlite:///{order['db']}")
    pipeline, client = make_remote(order["provider"], order["url"], StoredRuns(db), utc_now)
    async with client:
        request = remote_request(order["provider"], "good", order["intent"], order["definition"])
        await pipeline.find(request)
        await pipeline.trigger(request)
    db.close()


def main() -> None:
    """Obey until stdin ends; each answer is `killed` or `done`."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            asyncio.run(trigger(order))
            os._exit(0)
        time.sleep(order["seconds"])
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else "done", flush=True)


if __name__ == "__main__":
    main()
