"""Runs the web server until told to stop, and knows when it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import Server

from bot.errors import SlipwayError


class PortTaken(SlipwayError):
    """The address cannot be listened on."""


TICK = 2.0
"""Seconds between two looks at the clock, for the date that answers carry."""


class _Server(Server):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.ending = asyncio.Event()

    async def main_loop(self) -> None:
        """As uvicorn's, which wakes ten times a second to see whether it shall end: here it is told."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self.ending.wait()

    def end(self) -> None:
        """Answer what is under way, then stop."""
        self.should_exit = True
        self.ending.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: the whole application stops in order, not only the web server."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises PortTaken with what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only then
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise PortTaken(
            f"Cannot listen on {host}:{port}: {error.strerror}.", hint="Choose another port with --port."
        ) from error
    bound.set_inheritable(False)
    return bound


async def serve(
    asgi: ASGIApp, bound: socket.socket, on_ready: Callable[[], None], on_stop: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGINT or SIGTERM.

    on_ready: called when requests are answered; on_stop: called first of all at the end, to end open streams.
    """
    config = Config(
        asgi,
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has only the flag
        await asyncio.sleep(0.005)
    if not serving.done():
        on_ready()
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    on_stop()
    server.end()
    stopping.cancel()
    await serving
