"""One life of a Slipway that delivers by Argo CD, in a process that may be killed at any moment.

    python -m tests.support.argo_life WORLD ARGOCD_URL NUMBER

Asks for deployment NUMBER (again, if an earlier life did), and ends when it has ended; prints its state.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from bot.app import App, Outside
from bot.chat.base import IncomingCommand
from bot.store import deployments as rows
from tests.fakes.argocd import TOKEN
from tests.support.running import settings_for
from tests.support.world import World


async def live(world: World, url: str, number: int) -> str:
    """Start, ask, wait for the end, stop; returns the state."""
    more = {"argocd_url": url, "argocd_token": SecretStr(TOKEN), "patience_seconds": 30}
    app = App(settings_for(world).model_copy(update=more), Outside(poll=timedelta(milliseconds=20)))
    await app.start()
    command = IncomingCommand("console", f"typed-{number}", "owner", "#releases", "/deploy app prod")
    await app.dispatcher.command(command)
    async with asyncio.timeout(60):
        while True:
            seen = await app.db.read(lambda tx: rows.get(tx, number))
            if seen is not None and seen.state.is_final:
                break
            await asyncio.sleep(0.01)
    await app.stop()
    return seen.state.value


if __name__ == "__main__":
    print(asyncio.run(live(World(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]))), flush=True)
