"""Headless Chromium for the browser tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright, expect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = (
    "--disable-dev-shm-usage",  # containers give /dev/shm 64 MB
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",  # nothing outside this machine
)


def find_chromium() -> str:
    """Return the browser's path: SLIPWAY_CHROMIUM, else the first known name on PATH."""
    candidates = [os.environ["SLIPWAY_CHROMIUM"]] if os.environ.get("SLIPWAY_CHROMIUM") else NAMES
    for name in candidates:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(
        f"No Chromium for the browser tests (looked for {', '.join(candidates)}): `make test` installs it"
    )


expect.set_options(timeout=20_000)
"""Milliseconds that a state of the page is waited for: three workers on two cores are no fast machine."""


@asynccontextmanager
async def running_browser(path: str) -> AsyncIterator[Browser]:
    """Start a browser for the length of the context."""
    async with async_playwright() as playwright:
        # Chromium's own sandbox starts neither as root nor in most containers; it sees our own page only.
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS, chromium_sandbox=False)
        yield browser
        await browser.close()


def collect_errors(page: Page) -> list[str]:
    """Return a list that grows with each uncaught exception and console error of this page."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"uncaught: {error}"))
    page.on("console", lambda message: errors.append(f"console: {message.text}") if message.type == "error" else None)
    return errors
