"""The demo's process: time to ready, memory, idle share of a core; and a console command at 500 and 5,000 services."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support import free_port
from tests.support.world import make_world

IDLE = 20.0
"""Seconds of idling that are measured."""
COMMANDS = 200


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as base:
        demo(Path(base))
        figures = {count: command_latency(Path(base) / str(count), count) for count in (500, 5000)}
    for count, found in figures.items():
        p50, p99 = statistics.median(found) * 1e3, statistics.quantiles(found, n=100)[98] * 1e3
        print(f"command answered, {count} services: p50 {p50:.1f} ms, p99 {p99:.1f} ms ({len(found)} commands)")
    ratio = statistics.median(figures[5000]) / statistics.median(figures[500])
    print(f"5,000 services cost {ratio:.2f} x of 500")


def demo(base: Path) -> None:
    """Start the demo three times; the first makes its workspace."""
    directory = base / "demo"
    for attempt in ("first", "second", "third"):
        started = time.monotonic()
        with process(["demo", "--dir", str(directory), "--no-browser"], {}) as (pid, _port):
            print(f"demo ready, {attempt} start: {time.monotonic() - started:.2f} s")
            if attempt == "third":
                before = cpu_seconds(pid)
                time.sleep(IDLE)
                share = (cpu_seconds(pid) - before) / IDLE
                print(f"idle: {share * 100:.2f} % of a core over {IDLE:.0f} s; {resident(pid):.0f} MB resident")


def command_latency(directory: Path, count: int) -> list[float]:
    """Seconds from POST to the answer's arrival on the stream, of `/why`, which asks the whole policy."""
    world = make_world(directory, services=tuple(f"service-{number:04}" for number in range(count)))
    tokens = directory / "tokens"
    tokens.write_text("owner: 0123456789abcdef-owner\n")
    environment = {"SLIPWAY_CONSOLE": "1", "SLIPWAY_CONSOLE_TOKENS_FILE": str(tokens)}
    started = time.monotonic()
    with process(["serve", "--config", str(world.directory)], environment) as (pid, port):
        print(f"serve ready with {count} services: {time.monotonic() - started:.2f} s, {resident(pid):.0f} MB resident")
        found = list(answers(port, count))
        print(f"  after {COMMANDS} commands: {resident(pid):.0f} MB resident")
    shutil.rmtree(directory, ignore_errors=True)
    return found


def answers(port: int, count: int) -> Iterator[float]:
    """Post commands one by one and wait for each answer on the stream."""
    headers = {"Authorization": "Bearer 0123456789abcdef-owner"}
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as http,
        http.stream("GET", "/console/api/stream", params={"person": "owner"}) as stream,
    ):
        lines = stream.iter_lines()
        for number in range(COMMANDS):
            text = f"/why service-{(number * 37) % count:04} prod"
            began = time.perf_counter()
            body = {"person": "owner", "place": "#releases", "text": text}
            http.post("/console/api/messages", json=body).raise_for_status()
            for line in lines:
                if line.startswith("data:") and '"author":"slipway"' in line.replace('": "', '":"'):
                    break
            yield time.perf_counter() - began


@contextmanager
def process(arguments: list[str], environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Run slipway until the end of the context; gives its process id and port."""
    port = free_port()
    argv = [sys.executable, "-m", "bot.cli", *arguments, "--port", str(port)]
    running = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | environment
    )
    assert running.stdout is not None
    while not (line := running.stdout.readline()).startswith("ready"):
        if not line:
            raise SystemExit(f"{arguments[0]} ended before it was ready")
    try:
        yield running.pid, port
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(20)


def cpu_seconds(pid: int) -> float:
    """User and system time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Collect the garbage of who measures before, and none meanwhile: its 50 ms would be told of who is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resident(pid: int) -> float:
    """Resident memory, MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
