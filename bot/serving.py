"""Runs the server, from its settings to its end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bot.errors import SlipwayError
from bot.lean import starting


def serve(
    *,
    config: Path | None = None,
    data: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    console: bool | None = None,
) -> None:
    """Run Slipway for a catalog directory; what is None is as the environment says."""
    with starting() as settled:
        from bot.settings import read_settings

        directory = directory_of(config)
        settings = read_settings(os.environ, config=directory, data=data, host=host, port=port, console=console)
        run(_serve(settings, settled))


async def _serve(settings: Any, settled: Callable[[], None]) -> None:
    from bot.app import App
    from bot.logging import set_up_logging
    from bot.startup import NotSetUp, everything, refuse_if_half
    from bot.web.server import listen, serve

    set_up_logging(settings.log_level)
    bound = listen(settings.host, settings.port)
    try:
        application = App(settings)
        refuse_if_half(
            settings,
            application.catalog(),
            set(application.providers.pipelines),
            set(application.providers.deliveries),
        )
    except SlipwayError as error:
        raise error if isinstance(error, NotSetUp) else everything(settings, error) from None
    await application.start()
    settled()
    try:
        await serve(
            application.asgi, bound, lambda: say_ready(settings.host, bound.getsockname()[1]), application.hang_up
        )
    finally:
        await application.stop()


def say_ready(host: str, port: int) -> None:
    """Tell whoever waits for it that requests are answered."""
    shown = f"[{host}]" if ":" in host else host
    print(f"ready http://{shown}:{port}", flush=True)


def directory_of(config: Path | None) -> Path | None:
    """The catalog's directory: what was typed, else SLIPWAY_CONFIG; None if neither says."""
    chosen = config or (Path(os.environ["SLIPWAY_CONFIG"]) if os.environ.get("SLIPWAY_CONFIG") else None)
    return chosen.absolute() if chosen is not None else None


def run(work: Coroutine[Any, Any, None]) -> None:
    """On the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
        return
    uvloop.run(work)
