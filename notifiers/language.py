"""Puts messages into the reader's language, at the edge: sentences are made in English where they arise.

They are kept in rows and in the audit log as they were said, and are read by several people in several languages, so
the catalog (gettext, `locale/<language>/LC_MESSAGES/slipway.po`) holds templates: `{what} runs in {where}` is found in
the finished sentence, and what stands in its holes is outside text and stays as it is. A sentence that the catalog does
not know stays English. `tests/unit/notifiers/test_language.py` finds what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path

from bot.catalog.model import Catalog, Person, Place
from bot.times import zone_of
from notifiers.card import Button, Card, Chart, Message, Step

LOCALES = Path(__file__).parent / "locale"
CHINESE = "zh_CN"
ENGLISH = "en"
FOR_MACHINES = frozenset({"webhook", "github"})
"""Platforms whose readers are programs: always English."""
MAX_SENTENCES = 16
MAX_LENGTH = 4_000
SPOKEN = ("words", "did", "said", "wish", "kind", "verb", "guess", "value", "until", "why", "told")
"""Holes that hold words of ours."""

OUTSIDE = frozenset(
    ["reason", "version", "branch", "commit", "digest", "before", "url", "pipeline", "git commit", "failed tests"]
) | {"requested by", "approved by", "rule", "type", "for example"}
"""Fields that hold outside text only."""

_HOLE = re.compile(r"\{(\w+)\}")
_BREAK = re.compile(r"(?<=[.!?])\s+(?=\S)")
_REF = re.compile(r"(.+) \((d-\d+)\)(\.?)", re.DOTALL)
_WHEN = re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d) \(([A-Za-z0-9_+/-]+)\)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def language_of(locale: str) -> str:
    """The catalog a locale reads: `zh`, `zh-CN`, `zh_Hans` are Chinese, all else English."""
    return CHINESE if locale.casefold().startswith("zh") else ENGLISH


@dataclass(frozen=True, slots=True)
class Reader:
    """In which language, and with the clock of which zone; an empty zone leaves times as they were said."""

    language: str
    zone: str = ""


class Speaker:
    """Chooses by person, else by place, else the company's default."""

    def __init__(self, catalog: Callable[[], Catalog], defaults: Mapping[str, str] | None = None) -> None:
        """defaults: platform -> locale of its places, where it differs from the catalog's."""
        self._catalog = catalog
        self._defaults = dict(defaults or {})

    def reader(self, platform: str, place: str) -> Reader:
        """Who reads there."""
        if platform in FOR_MACHINES:
            return Reader(ENGLISH)
        catalog = self._catalog()
        person = _person_at(catalog, platform, place)
        said: list[Person | Place] = [person] if person is not None else []
        said += [catalog.places[name] for name in (place, platform) if name in catalog.places]
        locales = [*(one.locale for one in said), self._defaults.get(platform, ""), catalog.locale]
        zone = next((one.zone for one in said if one.zone), "")
        return Reader(language_of(next(one for one in (*locales, ENGLISH) if one)), zone)

    def __call__(self, platform: str, place: str, message: Message) -> Message:
        """The message as the reader at that place should see it."""
        reader = self.reader(platform, place)
        if reader.language == ENGLISH and not reader.zone:
            return message
        return translated(message, reader)


def _person_at(catalog: Catalog, platform: str, place: str) -> Person | None:
    """The one reader of a personal place; of `~channel~person` the person."""
    account = place[1:] if place.startswith("@") else place.rpartition("~")[2] if place.startswith("~") else ""
    if not account:
        return None
    return catalog.people.get(account) if platform == "console" else catalog.person_by_chat(platform, account)


def translated(message: Message, reader: Reader) -> Message:
    """Every sentence of a message; log lines stay as they are."""
    card = _card(message.card, reader) if message.card is not None else None
    return Message(say(message.text, reader), card)


def _card(card: Card, reader: Reader) -> Card:
    return replace(
        card,
        title=say(card.title, reader),
        text=say(card.text, reader),
        steps=tuple(Step(say(one.name, reader), one.state, say(one.detail, reader)) for one in card.steps),
        fields={say(label, reader): _field(label, value, reader) for label, value in card.fields.items()},
        buttons=tuple(_button(one, reader) for one in card.buttons),
        chart=_chart(card.chart, reader) if card.chart is not None else None,
    )


def _chart(chart: Chart, reader: Reader) -> Chart:
    """The words beside the picture; what its letters cannot show is left out of it, and the fields say it."""
    series = tuple(replace(one, name=say(one.name, reader)) for one in chart.series)
    return replace(chart, title=say(chart.title, reader), series=series)


def _field(label: str, value: str, reader: Reader) -> str:
    """What somebody typed, and single words, are never changed."""
    return say(value, reader) if " " in value and label not in OUTSIDE else value


def _button(button: Button, reader: Reader) -> Button:
    inputs = tuple(replace(one, label=say(one.label, reader)) for one in button.inputs)
    return replace(button, label=say(button.label, reader), confirm=say(button.confirm, reader), inputs=inputs)


@lru_cache(maxsize=8192)
def say(text: str, reader: Reader) -> str:
    """A text for a reader, line by line; what the catalog does not know stays."""
    if not text or len(text) > MAX_LENGTH:
        return text
    if reader.language != ENGLISH:
        text = "\n".join(_line(line, reader.language) for line in text.split("\n"))
    return _WHEN.sub(lambda found: _when(found, reader), text)


@lru_cache(maxsize=8192)
def _line(line: str, language: str) -> str:
    words = _templates(language)
    whole = words.find(line)
    if whole is not None:
        return whole
    parts = _BREAK.split(line)
    if len(parts) > MAX_SENTENCES:
        return line
    said, at = "", 0
    while at < len(parts):
        found, at = _longest(parts, at, words)
        said += found if not said or _is_wide(said[-1]) else f" {found}"
    return said


def _longest(parts: list[str], at: int, words: Templates) -> tuple[str, int]:
    """The translation of as many sentences as one template covers, and where it ends."""
    for end in range(len(parts), at, -1):
        found = words.find(" ".join(parts[at:end]))
        if found is not None:
            return found, end
    return parts[at], at + 1


def _is_wide(character: str) -> bool:
    return ord(character) > 0x2E7F


class Templates:
    """The catalog of one language, to be searched by finished sentences."""

    def __init__(self, messages: Mapping[str, str]) -> None:
        """messages: template -> translation, with the same holes."""
        self._exact = {key: value for key, value in messages.items() if not _HOLE.search(key)}
        with_holes = [(key, value) for key, value in messages.items() if _HOLE.search(key)]
        # The one with most words of its own wins, so that `{what} failed` does not take what is said more exactly.
        with_holes.sort(key=lambda pair: -len(_HOLE.sub("", pair[0])))
        self._patterns = [(_anchor(key), key, value) for key, value in with_holes]

    def find(self, text: str) -> str | None:
        """The translation of a whole sentence, or None."""
        known = self._exact.get(text)
        if known is not None:
            return known
        ends = _REF.fullmatch(text)
        if ends and (head := self._matched(ends[1])) is not None:
            return f"{head}（{ends[2]}）{'。' if ends[3] else ''}"
        return self._matched(text)

    def _matched(self, text: str) -> str | None:
        known = self._exact.get(text)
        if known is not None:
            return known
        for anchor, template, translation in self._patterns:
            if anchor in text and (found := _pattern(template).fullmatch(text)) is not None:
                return self._filled(translation, found)
        return None

    def _filled(self, translation: str, found: re.Match[str]) -> str:
        holes = {name: self._hole(name, value or "") for name, value in found.groupdict().items()}
        return _HOLE.sub(lambda hole: holes.get(hole[1], hole[0]), translation)

    def _hole(self, name: str, value: str) -> str:
        if name.rstrip("0123456789") not in SPOKEN or not value.strip():
            return value
        return self.find(value.strip()) or value


def _anchor(template: str) -> str:
    """The longest text of a template that is always there."""
    return max(re.split(_HOLE.pattern, template)[::2], key=len)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """No hole reaches over the end of a sentence. Made when first needed: most sentences of a catalog are rare."""
    parts = re.split(_HOLE.pattern, template)
    made = [re.escape(part) if at % 2 == 0 else rf"(?P<{part}>(?:(?!\. ).)*?)" for at, part in enumerate(parts)]
    return re.compile("".join(made), re.DOTALL)


@cache
def _templates(language: str) -> Templates:
    return Templates(messages_of(language))


@cache
def messages_of(language: str) -> Mapping[str, str]:
    """Template -> translation, as the file says; unfinished and fuzzy ones are left out."""
    from babel.messages.pofile import read_po

    content = (LOCALES / language / "LC_MESSAGES" / "slipway.po").read_bytes()
    # Without its header, for whose language Babel would load all it knows about languages: 3 MB.
    catalog = read_po(BytesIO(content.partition(b"\n\n")[2]))
    return {
        message.id: message.string
        for message in catalog
        if isinstance(message.id, str) and message.id and isinstance(message.string, str) and message.string
        if not message.fuzzy
    }


def _when(found: re.Match[str], reader: Reader) -> str:
    """An instant by the reader's clock, in the reader's way of writing it."""
    day, month, year, clock = found[1].split()
    hour, minute = clock.split(":")
    try:
        at = datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), tzinfo=zone_of(found[2]))
    except ValueError:
        return found[0]
    zone = reader.zone or found[2]
    local = at.astimezone(zone_of(zone))
    if reader.language == ENGLISH:
        return f"{local:%a %d %b %Y %H:%M} ({zone})"
    return f"{local.year}年{local.month}月{local.day}日（周{'一二三四五六日'[local.weekday()]}）{local:%H:%M}（{zone}）"
