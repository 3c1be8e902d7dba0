"""The console's page in a real Chromium, with a made-up bot behind it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect
from pydantic import SecretStr

from notifiers.card import Button, ButtonStyle, Card, Message
from tests.support.chromium import collect_errors
from tests.support.console_playground import LOG, XSS, Playground, make_playground, serving

PHONE = {"width": 360, "height": 740}
TOKEN = "olive-olive-olive-olive"

UNNAMED = """() => [...document.querySelectorAll('button, input, textarea, a, [role=progressbar], [role=listbox], pre')]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length
    || document.getElementById(one.getAttribute('aria-labelledby'))?.textContent))
  .map((one) => one.outerHTML.slice(0, 120))"""

DUPLICATE_IDS = """() => {
  const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
  return ids.filter((id, at) => ids.indexOf(id) !== at);
}"""

LOW_CONTRAST = """() => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => rgb.slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest('.hidden, :disabled, .skip')) continue;
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(found)];
}"""


@pytest.fixture
async def playground(tmp_path: Path) -> Playground:
    """Its cards move every tenth of a second."""
    return make_playground(tmp_path, pace=0.3)


@pytest.fixture
async def address(playground: Playground) -> AsyncIterator[str]:
    """Where it is served."""
    async with serving(playground) as url:
        yield url


@pytest.fixture
async def console(page: Page, address: str) -> AsyncIterator[Page]:
    """The page, opened by the owner."""
    await page.goto(address)
    await expect(page.locator("#app")).to_be_visible()
    yield page
    await page.goto("about:blank")  # before its server goes


def box(page: Page) -> Locator:
    return page.get_by_role("combobox")


def suggestions(page: Page) -> Locator:
    return page.get_by_role("listbox", name="Suggestions").get_by_role("option")


def card(page: Page, title: str) -> Locator:
    return page.get_by_role("article", name=title)


async def say(page: Page, text: str) -> None:
    await box(page).fill(text)
    await box(page).press("Enter")


async def act_as(page: Page, name: str) -> None:
    await page.get_by_role("button", name="Acting as").click()
    await page.get_by_role("menuitemradio", name=name).click()
    await expect(page.get_by_role("button", name="Acting as")).to_contain_text(name)


async def test_a_deployment_moves_to_its_end_without_a_reload(console: Page) -> None:
    """The main job: type, watch, read the address of the running service."""
    await say(console, "/deploy hello prod")
    seen = card(console, "hello 1.4.2 to prod")
    bar = seen.get_by_role("progressbar")
    await expect(bar).to_have_attribute("aria-valuenow", re.compile(r"^[1-9]\d$"))
    await expect(seen).to_have_attribute("data-state", "succeeded")
    await expect(bar).to_have_attribute("aria-valuenow", "100")
    await expect(seen.locator(".badge")).to_have_text("Succeeded")
    link = seen.get_by_role("link")
    await expect(link).to_have_attribute("href", "http://127.0.0.1:8401/prod")
    assert "noopener" in (await link.get_attribute("rel") or "")
    await expect(seen.get_by_role("button")).to_have_count(0)


async def test_a_command_is_completed_by_keyboard_alone(console: Page, playground: Playground) -> None:
    """Nobody should have to know the names by heart, or to reach for the mouse."""
    await expect(box(console)).to_be_focused()
    await console.keyboard.type("/dep")
    await expect(suggestions(console)).to_have_count(1)
    # As a person sees it: with the suggestions for an earlier text on the screen, Enter sends what was typed.
    await expect(console.get_by_role("listbox", name="Suggestions")).to_have_attribute("data-for", "/dep")
    await console.keyboard.press("Enter")
    await expect(box(console)).to_have_value("/deploy ")
    await expect(suggestions(console)).to_have_count(3)
    await expect(console.locator(".usage .now")).to_have_text("<service>")
    await console.keyboard.press("ArrowDown")
    await console.keyboard.press("ArrowDown")
    await expect(box(console)).to_have_attribute("aria-activedescendant", "option-1")
    await console.keyboard.press("ArrowUp")
    await console.keyboard.press("Tab")
    await expect(box(console)).to_have_value("/deploy hello ")
    await console.keyboard.type("pr")
    await expect(suggestions(console)).to_have_count(1)
    await console.keyboard.press("Tab")
    await expect(console.locator(".usage .now")).to_have_text("[version|branch]")
    await console.keyboard.press("Escape")
    await expect(suggestions(console)).to_have_count(0)
    await console.keyboard.press("Enter")
    await expect(card(console, "hello 1.4.2 to prod")).to_be_visible()
    assert [one.text for one in playground.bot.commands] == ["/deploy hello prod"]
    await console.keyboard.press("ArrowUp")
    await expect(box(console)).to_have_value("/deploy hello prod")
    await console.keyboard.press("ArrowDown")
    await expect(box(console)).to_have_value("")


async def test_whoever_types_fast_sends_what_was_typed(console: Page, playground: Playground) -> None:
    """Suggestions for an earlier text may still be on the screen; Enter must not take one of those."""
    await console.keyboard.type("/")
    await expect(suggestions(console).first).to_be_visible()
    await box(console).fill("/deploy hello prod")
    await console.keyboard.press("Enter")
    await expect(card(console, "hello 1.4.2 to prod")).to_be_visible()
    assert [one.text for one in playground.bot.commands] == ["/deploy hello prod"]
    await console.keyboard.type("/deploy ga")
    await console.keyboard.press("Tab")
    await expect(box(console)).to_have_value("/deploy gate ")


async def test_everything_is_reached_by_tab(console: Page) -> None:
    """In the order one reads: skip link, places, people, messages, the box."""
    await console.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(20):
        await console.keyboard.press("Tab")
        here = "document.activeElement"
        reached.append(await console.evaluate(f"{here}.id || {here}.dataset.place || {here}.className"))
        if reached[-1] == "composer-text":
            break
    order = ["skip", "#releases", "#payments", "@slipway", "tries-button", "theme-button", "acting-button", "log"]
    assert [one for one in reached if one in order] == order
    assert reached[-1] == "composer-text"
    await console.keyboard.press("Shift+Tab")
    assert await console.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


async def test_the_emergency_lane_across_two_people(console: Page, playground: Playground) -> None:
    """Ask with a reason, be refused oneself, see who has a message, act as them, approve; every copy changes."""
    await say(console, "/deploy pay prod")
    await card(console, "pay 2.0.1 to prod").get_by_role("button", name="Ask for emergency approval").click()
    dialog = console.get_by_role("dialog", name="Ask for emergency approval")
    await expect(dialog.get_by_label("Why can it not wait?")).to_be_focused()
    await console.keyboard.press("Enter")
    await expect(dialog).to_be_visible()
    await console.keyboard.type("customers pay twice")
    await console.keyboard.press("Enter")
    question = card(console, "Olive Owner asks for pay")
    await expect(question).to_have_attribute("data-state", "awaiting_approval")
    assert playground.bot.clicks[0].inputs == {"reason": "customers pay twice"}
    await question.get_by_role("button", name="Approve").click()
    await expect(question.get_by_role("alert")).to_contain_text("Only leads of Payments")
    await expect(console.locator("#elsewhere")).to_contain_text("Leo Lead has 1 new message")
    await console.get_by_role("button", name="Act as Leo").click()
    await expect(console.get_by_role("heading", level=1)).to_have_text("Slipway")
    await card(console, "Olive Owner asks for pay").get_by_role("button", name="Approve").click()
    await expect(card(console, "Olive Owner asks for pay")).to_have_attribute("data-state", "building")
    await console.get_by_role("button", name="releases").click()
    await expect(card(console, "Olive Owner asks for pay")).to_contain_text("approved by")
    await act_as(console, "Rae Releaser")
    await expect(console.get_by_role("button", name="Approve", exact=True)).to_have_count(0)


async def test_a_dangerous_button_asks_first(console: Page, playground: Playground) -> None:
    """Escape and `Not now` send nothing; the answer is shown beside the card."""
    danger = Button("cancel", "Cancel", ButtonStyle.DANGER, confirm="The deployment ends where it is.")
    await playground.client.post("#releases", Message("x", Card("hello to prod", "building", buttons=(danger,))), "k")
    shown = card(console, "hello to prod")
    for way_out in ("Escape", "Not now"):
        await shown.get_by_role("button", name="Cancel").click()
        await expect(console.get_by_role("dialog")).to_contain_text("The deployment ends where it is.")
        if way_out == "Escape":
            await console.keyboard.press("Escape")
        else:
            await console.get_by_role("button", name=way_out).click()
        await expect(console.get_by_role("dialog")).to_have_count(0)
    assert playground.bot.clicks == []
    await shown.get_by_role("button", name="Cancel").click()
    await console.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(shown.get_by_role("alert")).to_contain_text("Too late to cancel")


async def test_a_failure_reaches_the_requester_personally(console: Page) -> None:
    """A badge on the personal chat, and in it the lines that matter."""
    await say(console, "/deploy gate dev")
    personal = console.get_by_role("button", name="Slipway 1 unread")
    await expect(personal).to_be_visible()
    await expect(console).to_have_title(re.compile(r"^\(1\)"))
    await personal.click()
    failed = card(console, "gate 1.4.2 to dev failed")
    await expect(failed.locator("pre")).to_have_text(LOG)
    await expect(failed.get_by_role("button", name="Copy")).to_be_visible()
    await expect(console).to_have_title(re.compile(r"^Slipway"))


async def test_outside_text_stays_text(console: Page) -> None:
    """A commit title or a log line may hold markup; it must never become an element or a link."""
    await say(console, "/evil")
    evil = card(console, XSS)
    await expect(evil).to_be_visible()
    await say(console, f"{XSS} javascript:alert(1) https://ok.example/a?b=1.")
    await expect(console.get_by_role("log").get_by_text(f"{XSS} javascript:alert(1)")).to_be_visible()
    await evil.get_by_role("button", name=XSS).click()
    await expect(console.get_by_role("dialog")).to_contain_text(XSS)
    assert await console.locator("img[onerror], img[src=x]").count() == 0
    assert await console.locator(".messages a").evaluate_all("(all) => all.map((a) => a.href)") == [
        "https://ok.example/a?b=1"
    ]
    assert await console.title() != "1"


async def test_focus_and_an_open_log_survive_an_edit(console: Page, playground: Playground) -> None:
    """Cards are edited many times a minute; reading and pressing must not be disturbed."""
    made = Card("gate to dev", "building", progress=10, excerpt="line", buttons=(Button("cancel", "Cancel"),))
    ref = await playground.client.post("#releases", Message("x", made), "k")
    shown = card(console, "gate to dev")
    await shown.get_by_text("Details").click()
    await shown.get_by_role("button", name="Cancel").focus()
    await playground.client.edit("#releases", ref, Message("x", replace(made, progress=60)))
    await expect(shown.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "60")
    await expect(shown.get_by_role("button", name="Cancel")).to_be_focused()
    await expect(shown.locator("pre")).to_be_visible()


async def test_an_edit_in_the_middle_of_a_press_does_not_lose_it(console: Page, playground: Playground) -> None:
    """The mouse is down on a button when the card gets another button; the press still counts."""
    asked = Button("cancel", "Cancel", confirm="Sure?")
    made = Card("gate to dev", "gray", buttons=(asked,))
    ref = await playground.client.post("#releases", Message("x", made), "k")
    shown = card(console, "gate to dev")
    await shown.get_by_role("button", name="Cancel").hover()
    await console.mouse.down()
    more = (replace(asked, confirm="Really?"), Button("continue", "Continue"))
    await playground.client.edit("#releases", ref, Message("x", replace(made, buttons=more)))
    await expect(shown.get_by_role("button", name="Continue")).to_be_visible()
    await console.mouse.up()
    await expect(console.get_by_role("dialog")).to_contain_text("Really?")


async def test_a_reader_of_history_is_not_dragged_to_the_end(console: Page, playground: Playground) -> None:
    """New messages scroll only for those who are at the end."""
    for number in range(60):
        await playground.client.post("#releases", Message(f"line {number}"), f"k{number}")
    await expect(console.get_by_text("line 59", exact=True)).to_be_in_viewport()
    await console.locator("#log").hover()
    await console.mouse.wheel(0, -900)
    await expect(console.get_by_text("line 59", exact=True)).not_to_be_in_viewport()
    await playground.client.post("#releases", Message("the newest"), "newest")
    await expect(console.get_by_text("the newest")).to_be_attached()
    await expect(console.get_by_text("the newest")).not_to_be_in_viewport()
    await console.get_by_role("button", name="Newest messages").click()
    await expect(console.get_by_text("the newest")).to_be_in_viewport()


async def test_long_history_is_there_on_demand(console: Page, playground: Playground) -> None:
    """The page opens at the end of it and fetches older ones when asked."""
    for number in range(230):
        await playground.client.post("#payments", Message(f"line {number}"), f"k{number}")
    await console.get_by_role("button", name="payments").click()
    await console.reload()
    await expect(console.get_by_text("line 229", exact=True)).to_be_visible()
    await expect(console.get_by_text("line 0", exact=True)).to_have_count(0)
    await console.get_by_role("button", name="Show earlier messages").click()
    await expect(console.get_by_text("line 0", exact=True)).to_be_attached()
    await expect(console.get_by_role("button", name="Show earlier messages")).to_be_hidden()


async def test_place_and_person_are_in_the_address(console: Page) -> None:
    """A link can be passed on, and a reload stays where one was."""
    await act_as(console, "Dana Developer")
    await console.get_by_role("button", name="payments", exact=True).click()
    assert console.url.endswith("/console#/developer/payments")
    await console.reload()
    await expect(console.get_by_role("heading", level=1)).to_have_text("#payments")
    await expect(console.get_by_role("button", name="Acting as")).to_contain_text("Dana Developer")


async def test_a_thing_to_try_fills_the_box(console: Page) -> None:
    """As the person it says; nothing is sent before one presses Enter."""
    await expect(console.locator(".try")).to_have_count(5)
    await console.locator(".try").nth(1).click()
    await expect(console.get_by_role("button", name="Acting as")).to_contain_text("Dana Developer")
    await expect(box(console)).to_have_value("/deploy hello prod")
    await expect(box(console)).to_be_focused()
    await console.keyboard.press("Escape")
    await console.get_by_role("button", name="Hide the things to try").click()
    await say(console, "hello")
    await expect(console.get_by_role("log").get_by_text("hello", exact=True)).to_be_visible()
    await console.reload()
    await expect(console.get_by_role("log").get_by_text("hello", exact=True)).to_be_visible()
    await expect(console.locator("#greeting")).to_be_hidden()


async def test_a_lost_connection_is_told_and_made_good(browser: Browser, tmp_path: Path) -> None:
    """Nothing that happened meanwhile is missed; what could not be sent can be sent again, once."""
    page = await browser.new_page()
    first = make_playground(tmp_path, pace=0)
    async with serving(first) as address:
        port = int(address.rpartition(":")[2])
        await page.goto(address)
        await say(page, "good morning")
        await expect(page.get_by_role("log").get_by_text("good morning")).to_be_visible()
    await expect(page.locator("#offline")).to_contain_text("Reconnecting")
    await say(page, "are you there?")
    await expect(page.get_by_text("Not sent.")).to_be_visible()
    second = make_playground(tmp_path, pace=0)
    await second.client.post("#releases", Message("said meanwhile"), "k")
    async with serving(second, port):
        await expect(page.get_by_text("said meanwhile")).to_be_visible(timeout=15_000)
        await expect(page.locator("#offline")).to_be_hidden()
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator(".pending")).to_have_count(0)
        await expect(page.get_by_text("are you there?")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_control_has_a_name_and_every_text_contrast(
    browser: Browser, playground: Playground, address: str, scheme: str
) -> None:
    """For those who hear the page, and for those who see it badly (WCAG AA: 4.5 to 1)."""
    page = await browser.new_page(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    errors = collect_errors(page)
    await page.goto(address)
    await say(page, "/deploy gate dev")
    await say(page, "/deploy pay prod")
    await say(page, "/nonsense https://example.com")
    await expect(card(page, "gate 1.4.2 to dev")).to_have_attribute("data-state", "failed")
    for state in ("succeeded", "building", "awaiting_approval", "info"):
        await playground.client.post("#releases", Message(state, Card(state, state, progress=50)), state)
    await expect(card(page, "info")).to_be_visible()
    await box(page).fill("/deploy ")
    await expect(suggestions(page)).to_have_count(3)
    assert await page.evaluate(UNNAMED) == []
    assert await page.evaluate(DUPLICATE_IDS) == []
    assert await page.evaluate(LOW_CONTRAST) == []
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Acting as").click()
    assert await page.evaluate(LOW_CONTRAST) == []
    assert errors == []


async def test_the_theme_can_be_chosen_and_stays(console: Page) -> None:
    """By the system's wish at first, then by one's own."""
    colour = "getComputedStyle(document.body).backgroundColor"
    light = await console.evaluate(colour)
    await console.get_by_role("button", name="Theme: system").click()
    await console.get_by_role("button", name="Theme: light").click()
    assert await console.evaluate(colour) != light
    await console.reload()
    await expect(console.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert await console.evaluate(colour) != light


async def test_it_fits_a_phone(browser: Browser, playground: Playground, address: str) -> None:
    """360 px wide: nothing to scroll sideways, the places in a drawer, no zooming in when typing."""
    page = await browser.new_page(viewport=PHONE, has_touch=True)  # type: ignore[arg-type]
    errors = collect_errors(page)
    await page.goto(address)
    await expect(page.locator("#app")).to_be_visible()
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(sideways) == 0
    await say(page, "/evil")
    await say(page, "x" * 300)
    await say(page, "/deploy gate dev")
    await expect(card(page, "gate 1.4.2 to dev")).to_have_attribute("data-state", "failed")
    boxes = "[...document.querySelectorAll('#log, .message, .card')]"
    wide = f"{boxes}.filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    assert (await page.evaluate(sideways), await page.evaluate(wide)) == (0, 0)
    await expect(page.locator("#sidebar")).to_be_hidden()
    await page.get_by_role("button", name="Places").tap()
    await expect(page.get_by_role("button", name="Close the places")).to_be_focused()
    await page.get_by_role("button", name="payments").tap()
    await expect(page.get_by_role("heading", level=1)).to_have_text("#payments")
    await expect(page.locator("#sidebar")).to_be_hidden()
    assert await box(page).evaluate("(one) => parseFloat(getComputedStyle(one).fontSize)") >= 16
    assert errors == []


async def test_one_logs_in_once_and_out_again(browser: Browser, tmp_path: Path) -> None:
    """Outside the demo a token is asked for, a wrong one is told, and nobody else can be acted as."""
    page = await browser.new_page()
    errors = collect_errors(page)
    tokens = {"owner": SecretStr(TOKEN), "lead": SecretStr("leo-leo-leo-leo-leo-leo")}
    async with serving(make_playground(tmp_path, tokens=tokens)) as address:
        await page.goto(address)
        await page.get_by_label("Token").fill("wrong")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("no console token we know")
        await page.get_by_label("Token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.locator("#acting")).to_contain_text("Logged in as")
        await expect(page.get_by_role("button", name="Acting as")).to_have_count(0)
        await say(page, "/deploy hello dev")
        await expect(card(page, "hello 1.4.2 to dev")).to_be_visible()
        await page.reload()
        await expect(page.locator("#acting")).to_contain_text("Olive Owner")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Token")).to_be_visible()
        await page.goto("about:blank")
    assert errors == []
