"""Every sentence reaches its reader in their language and with their clock; outside text is never changed."""

from __future__ import annotations

import re
import time

import pytest

from bot.catalog.model import Catalog, Person, Place
from bot.deployments.model import State
from notifiers import render
from notifiers.card import Card, Message
from notifiers.language import CHINESE, ENGLISH, Reader, Speaker, language_of, messages_of, say, translated
from tests.support.texts import ROOT, is_speech, said_in, templates

ZH = Reader(CHINESE)
HOLE = re.compile(r"\{(\w+)\}")
NEAREST = ("commands", "bot/dispatch.py", "bot/grammar.py", "bot/deployments", "bot/policy", "notifiers/render.py")
"""Where nearly everything that people read every day is said."""


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


def said_by(*places: str) -> list[tuple[str, str]]:
    files = [
        path for place in places for path in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
    ]
    return [(one.template, one.where) for path in sorted(files) if "demo" not in path.parts for one in said_in(path)]


def test_what_is_said_is_translated() -> None:
    """Text that nobody translated is found here. Sentences made of parts are not seen whole, so not all can count."""
    said = said_by(*NEAREST)
    missing = [f"{where}: {template}" for template, where in said if not is_known(template)]
    assert len(missing) <= len(said) * 0.15, "\n".join(missing)


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
