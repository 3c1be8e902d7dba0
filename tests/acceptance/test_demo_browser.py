"""The demo in a real browser: what a new user sees and presses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.acceptance.test_demo import Demo
from tests.support import free_port

LONG = 30_000
"""Milliseconds; builds are real."""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo that has started."""
    one = Demo(tmp_path / "workspace", free_port())
    one.start()
    yield one
    one.end(2)
    one.http.close()


async def act_as(page: Page, name: str) -> None:
    """Choose a person in the switcher."""
    await page.get_by_role("button", name="Acting as").click()
    await page.get_by_role("option", name=name).or_(page.get_by_role("menuitemradio", name=name)).first.click()
    await expect(page.get_by_role("button", name="Acting as")).to_contain_text(name)
    await expect(page.locator("#log")).not_to_have_attribute("aria-busy", "true")


async def send(page: Page, text: str) -> None:
    """Type a line and send it with the keyboard alone."""
    await page.get_by_role("combobox").or_(page.get_by_role("textbox")).first.focus()
    await page.keyboard.type(text)
    await page.keyboard.press("Escape")
    await page.keyboard.press("Enter")


async def test_progress_is_watched_until_it_runs(demo: Demo, page: Page) -> None:
    """The bar moves by itself and the card ends with an address."""
    await page.goto(f"http://127.0.0.1:{demo.port}/console")
    await expect(page.get_by_text("Things to try")).to_be_visible()
    await send(page, "/deploy hello prod")
    bar = page.get_by_role("progressbar").last
    await expect(bar).to_be_visible(timeout=LONG)
    await expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=LONG)
    await expect(page.get_by_text("hello v1.2.0 runs in prod").first).to_be_visible(timeout=LONG)
    await expect(bar).to_have_attribute("aria-valuenow", "100")
    await expect(page.get_by_role("link", name="http://127.0.0.1:")).to_be_visible()


async def test_an_emergency_is_approved_by_another_person_and_its_failure_read(demo: Demo, page: Page) -> None:
    """Refused, asked, approved as Leo Lead, failed, and read personally as Olive Owner."""
    await page.goto(f"http://127.0.0.1:{demo.port}/console")
    await send(page, "/deploy pay prod --reason customers cannot pay")
    await page.get_by_role("button", name="Ask for emergency approval").click(timeout=LONG)
    await page.get_by_role("dialog").get_by_role("button", name="Ask for emergency approval").click()
    await expect(page.get_by_text("waits for emergency approval").first).to_be_visible(timeout=LONG)
    await act_as(page, "Leo Lead")
    await page.get_by_role("button", name="Approve").last.click(timeout=LONG)
    await page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    await expect(page.get_by_text("failed").first).to_be_visible(timeout=LONG)
    await act_as(page, "Olive Owner")
    await page.locator("nav").get_by_text("Slipway", exact=True).last.click()
    await expect(page.get_by_text("failed at the step 'build'").first).to_be_visible(timeout=LONG)
    await expect(page.get_by_text("AssertionError: '2.67' != '2.68'").first).to_be_visible()


async def test_a_bystanders_press_is_answered_beside_the_card(demo: Demo, page: Page) -> None:
    """Nothing happens silently: the page says why not."""
    await page.goto(f"http://127.0.0.1:{demo.port}/console")
    await send(page, "/deploy pay prod")
    await page.get_by_role("button", name="Ask for emergency approval").click(timeout=LONG)
    await page.get_by_role("dialog").get_by_role("button", name="Ask for emergency approval").click()
    await expect(page.get_by_text("waits for emergency approval").first).to_be_visible(timeout=LONG)
    await act_as(page, "Oscar Outsider")
    await page.get_by_role("button", name="Approve").last.click(timeout=LONG)
    await page.get_by_role("dialog").get_by_role("button", name="Approve").click()
    await expect(page.get_by_text("may not").last).to_be_visible(timeout=LONG)
