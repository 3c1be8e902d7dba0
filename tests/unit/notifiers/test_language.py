"""Every sentence reaches its reader in their language and with their clock; outside text is never changed."""

from __future__ import annotations

import re
import time
from functools import cache

import pytest

from bot.catalog.model import Catalog, Person, Place
from bot.deployments.model import State
from notifiers import render
from notifiers.card import Card, Message
from notifiers.language import CHINESE, ENGLISH, Reader, Speaker, language_of, messages_of, say, translated
from tests.support.texts import ROOT, is_speech, said_in, templates

ZH = Reader(CHINESE)
HOLE = re.compile(r"\{(\w+)\}")
SPEAKING = ("commands", "bot", "notifiers")
COMPOSED = {
    "{message} Did you mean {listed}?": ["There is no service 'py'. Did you mean pay?"],
    "I do not know you: the {account} belongs to nobody in the catalog.": [
        "I do not know you: the feishu account ou_1 belongs to nobody in the catalog."
    ],
    "There is no command /{name}.{guess}": [
        "There is no command /x.",
        "There is no command /x. Did you mean /y?",
    ],
    "There is no option --{name}.{guess}": ["There is no option --x.", "There is no option --x. Did you mean --y?"],
    "The {what} {name} holds{until}{by}{why}.{day}": [
        "The freeze f holds, without a known end.",
        "The freeze f holds until Tue 24 Nov 2026 10:00 (UTC), set by Rita: sales.",
        "The release week june holds until Tue 24 Nov 2026 10:00 (UTC).",
    ],
    "The release window {name} is open{until}.{_day}": [
        "The release window w is open.",
        "The release window w is open until Tue 24 Nov 2026 10:00 (UTC).",
    ],
    "The release window {name} is closed{until}.{_day}": [
        "The release window w is closed until Tue 24 Nov 2026 10:00 (UTC).",
        "The release window w is closed and does not open within a year.",
    ],
    "In an emergency it can go with {count} {many} under {name}.": [
        "In an emergency it can go with 1 approval under prod.",
        "In an emergency it can go with 2 approvals under prod.",
    ],
    "{display_address} has no branch `{branch}`{value}.": [
        "host/r has no branch `x` (it is empty).",
        "host/r has no branch `x`; nearest are y, z.",
    ],
    "{display_address} has no version, branch or commit `{ref}`{value}.": [
        "host/r has no version, branch or commit `x` (it is empty).",
        "host/r has no version, branch or commit `x`; nearest are y, z.",
    ],
    "{ref} ({target} {release_version}) goes on{value}.": [
        "d-1 (pay/prod 1.2) goes on.",
        "d-1 (pay/prod 1.2) goes on to full.",
    ],
    "The lock on {what} is released; what waited for it goes on.{told}": [
        "The lock on pay in prod is released; what waited for it goes on.",
        "The lock on pay in prod is released; what waited for it goes on. Rita has been told.",
    ],
    ": it reused a build that existed.": [
        "d-1 ran no pipeline: it reused a build that existed.",
        "d-1 ran no pipeline yet.",
    ],
    "{by_now} there by now.": ["nothing runs there by now.", "d-3 runs there by now."],
    "{reasons} Nothing was done.": ["No new commits would ship. Nothing was done."],
    "{reasons} No new commits would ship. Nothing was done.": ["No new commits would ship. Nothing was done."],
}
"""Sentences that are put together of parts, so that their source does not show them whole: how they end up."""
NAMES_OF_FIELDS = frozenset(['It is Docker\'s config.json: {"auths": {"HOST": {"username": ..., "password": ...}}}.'])
"""Said at the start, on the command line."""


def spoken(template: str) -> str:
    """A finished sentence: something in each hole."""
    return HOLE.sub(lambda hole: f"x{hole[1]}", template)


def is_known(template: str) -> bool:
    """Whether no sentence of it stays English."""
    parts = re.split(r"(?<=[.!?])\s+", spoken(template))
    return all(said not in say(spoken(template), ZH) for said in parts if is_speech(said))


def test_every_translation_works() -> None:
    """Each is found in a finished sentence, and brings along all that stands in its holes."""
    for template, translation in messages_of(CHINESE).items():
        assert sorted(HOLE.findall(translation)) == sorted(HOLE.findall(template)), template
        said = say(spoken(template), ZH)
        assert re.search(r"[\u4e00-\u9fff]", said), template
        assert all(f"x{hole}" in said for hole in HOLE.findall(template)), template


@cache
def said_by(*places: str) -> list[tuple[str, str]]:
    files = [
        path for place in places for path in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
    ]
    return [(one.template, one.where) for path in sorted(files) if "demo" not in path.parts for one in said_in(path)]


def test_what_is_said_is_translated() -> None:
    """Text that nobody translated is found here: put it into slipway.po, or say in COMPOSED how it ends up."""
    spared = {*COMPOSED, *NAMES_OF_FIELDS}
    said = [(template, where) for template, where in said_by(*SPEAKING) if template not in spared]
    missing = [f"{where}: {template}" for template, where in said if not is_known(template)]
    assert missing == [], "\n".join(missing)
    assert len(said) > 500


@pytest.mark.parametrize("template", COMPOSED)
def test_what_is_put_together_is_translated(template: str) -> None:
    """Word for word, in every form it takes; and the list holds nothing that is not said any more."""
    assert template in {found for found, _ in said_by(*SPEAKING)}
    for sentence in COMPOSED[template]:
        shown = say(sentence, ZH)
        assert not re.search(r"[a-z]{4,}", re.sub(r"feishu|people.yaml|Rita|sales|june|host/r|prod", "", shown)), shown


def test_every_word_of_the_deployments_card_is_translated() -> None:
    """Titles of all states, names of all steps: the card that everybody sees."""
    titles = [title.format(what="pay 1.4.2", where="prod") for title in render.TITLES.values()]
    steps = [label for _, label in render.STEPS]
    for text in [*titles, *steps]:
        assert not re.search(r"[a-z]{3,}", say(text, ZH).replace("pay", "").replace("prod", "")), text
    assert set(render.TITLES) >= {State.SUCCEEDED, State.FAILED}


def test_sentences_are_found_one_by_one() -> None:
    """A refusal is as many sentences as there are reasons; what the catalog does not know stays English."""
    text = "The release window main is closed until Tue 24 Nov 2026 10:00 (Asia/Shanghai). Something new. Ask again."
    said = say(text, ZH)
    assert said == "发布窗口 main 关闭，2026年11月24日（周二）10:00（Asia/Shanghai） 开放。Something new. 请重新申请。"


def test_a_time_is_told_by_the_readers_clock() -> None:
    """In Chinese and in English."""
    text = "It opens Tue 24 Nov 2026 10:00 (Asia/Shanghai)."
    assert "Tue 24 Nov 2026 03:00 (Europe/Berlin)" in say(text, Reader(ENGLISH, "Europe/Berlin"))
    assert "2026年11月24日（周二）02:00（UTC）" in say(text, Reader(CHINESE, "UTC"))


def test_outside_text_stays_as_it_is() -> None:
    """A branch named `failed`, a log line that reads like ours, a version: none of them are words of ours."""
    fields = {"branch": "failed", "version": "running", "reason": "Deploy again."}
    card = Card("pay 1 to prod failed", fields=fields, excerpt="Deploy again.")
    made = translated(Message("x", card), ZH).card
    assert made is not None
    assert made.fields == {"分支": "failed", "版本": "running", "原因": "Deploy again."}
    assert made.excerpt == "Deploy again."


def test_a_hostile_text_costs_nothing() -> None:
    """Templates are searched with patterns, and people can make texts long."""
    for text in ("a to b failed " * 250, "to " * 1_300, "x. " * 1_300, "{what} " * 500):
        started = time.process_time()
        say(text, ZH)
        assert time.process_time() - started < 1


def test_the_language_is_the_persons_else_the_places_else_the_default() -> None:
    """And the clock's zone likewise; programs read English."""
    ada = Person("ada", "Ada", chats={"feishu": ("ou_1",)}, locale="en", zone="Europe/Berlin")
    bob = Person("bob", "Bob", chats={"feishu": ("ou_2",)})
    places = {"oc_en": Place("en-GB", "Europe/London"), "wecom": Place("en"), "oc_clock": Place(zone="UTC")}
    people = {"ada": ada, "bob": bob}
    by_chat = {("feishu", "ou_1"): ada, ("feishu", "ou_2"): bob}
    catalog = Catalog("d", {}, {}, people, {}, (), (), (), by_chat_id=by_chat, places=places, locale="zh-CN")
    speaker = Speaker(lambda: catalog, {"feishu": "zh-CN", "wecom": "zh-CN", "lark": "en"})
    read = {
        ("feishu", "@ou_1"): Reader(ENGLISH, "Europe/Berlin"),
        ("feishu", "@ou_2"): ZH,
        ("feishu", "oc_en"): Reader(ENGLISH, "Europe/London"),
        ("feishu", "oc_clock"): Reader(CHINESE, "UTC"),
        ("feishu", "oc_other"): ZH,
        ("wecom", "ops"): Reader(ENGLISH),
        ("lark", "oc_1"): Reader(ENGLISH),
        ("slack", "C1"): ZH,
        ("webhook", "ci"): Reader(ENGLISH),
    }
    assert {where: speaker.reader(*where) for where in read} == read


@pytest.mark.parametrize(
    ("locale", "wanted"),
    [("zh", CHINESE), ("zh-CN", CHINESE), ("zh_Hans_CN", CHINESE), ("en", ENGLISH), ("de", ENGLISH), ("", ENGLISH)],
)
def test_locales(locale: str, wanted: str) -> None:
    """Whoever asks for a language we have not reads English."""
    assert language_of(locale) == wanted


def test_choices_are_both_translated() -> None:
    """The finder sees both sides of a choice and names the holes of an f-string."""
    import ast

    found = list(templates(ast.parse("f'Hello {a.b} and {b}.' if x else 'No way.'", mode="eval").body))
    assert found == ["Hello {b} and {b2}.", "No way."]


def test_how_far_a_deployment_is_reads_well() -> None:
    """Counts and the system's own words stand in one detail of the card."""
    said = say("Applied 9/12, healthy 7/12. waiting for healthy state of apps/Deployment/web", ZH)
    assert said == "已应用 9/12，健康 7/12。waiting for healthy state of apps/Deployment/web"
