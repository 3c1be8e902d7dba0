"""`slipway demo`: the workspace, the services and a Slipway on loopback, until Ctrl-C ends all of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from bot.app import App, Outside
from bot.clock import utc_now
from bot.demo.greeting import greeting
from bot.demo.host import start_all, stop_all
from bot.demo.workspace import Workspace, prepare
from bot.errors import ProviderUnavailable
from bot.logging import set_up_logging
from bot.settings import Settings
from bot.web.server import listen, serve

HOST = "127.0.0.1"
PATIENCE = 20.0
"""Seconds an unreachable part of the demo is waited for: a person is watching."""


async def run_demo(directory: Path, port: int, open_browser: bool, ready: Callable[[str, int], None]) -> None:
    """Make or continue the workspace, run everything, and end every child process at the end.

    Raises:
        PortTaken, DatabaseInUse: something else runs there.
    """
    set_up_logging("warning")
    bound = listen(HOST, port)
    workspace = prepare(directory, utc_now)
    # Steps and tools say `python3` and mean this one: another on PATH may be too old, or a slow shim.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    settings = Settings(
        config=directory, host=HOST, port=port, console=True, console_open=True, patience_seconds=PATIENCE
    )
    app = App(settings, Outside(greeting=greeting()))
    try:
        await _services_again(workspace)
        await app.start()

        def on_ready() -> None:
            real_port = bound.getsockname()[1]
            ready(HOST, real_port)
            if open_browser:
                _open(f"http://{HOST}:{real_port}")

        await serve(app.asgi, bound, on_ready, app.hang_up)
    finally:
        await app.stop()
        await app.runs.stop_all()
        await stop_all(workspace)


async def _services_again(workspace: Workspace) -> None:
    """Start what was deployed before; one that cannot be started must not keep the demo down."""
    try:
        await start_all(workspace)
    except ProviderUnavailable as error:
        print(f"slipway: {error.sentence()}", file=sys.stderr)


def _open(url: str) -> None:
    import webbrowser

    webbrowser.open(url)
