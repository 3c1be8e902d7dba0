"""The platform-neutral message: what a person should see, before any platform's limits.

A renderer per platform turns it into Block Kit, a Feishu card, or the console's JSON. All text here is plain text:
a renderer escapes it, so that outside text is never live.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ButtonStyle(StrEnum):
    """How a button looks."""

    NORMAL = "normal"
    PRIMARY = "primary"
    DANGER = "danger"


@dataclass(frozen=True, slots=True)
class Input:
    """A text asked for when a button is pressed. required: an empty one is refused."""

    name: str
    label: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Button:
    """An action on a card. id: the action, one word; confirm: question asked before it is sent, empty: none."""

    id: str
    label: str
    style: ButtonStyle = ButtonStyle.NORMAL
    confirm: str = ""
    inputs: tuple[Input, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the steps list. state: a `StageState` value; detail: short, may be empty."""

    name: str
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """A row of values, one for each label of the chart. state: gives its colour, `succeeded` or `failed`."""

    name: str
    values: tuple[int, ...]
    state: str = "info"


@dataclass(frozen=True, slots=True)
class Chart:
    """Stacked bars, as values: each platform gets a picture of them (`notifiers/chart.py`). title: says it in words."""

    title: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """A message with structure.

    state: the deployment's state, or "info", "refused", "error" for cards that are not about one deployment.
    progress: 0-100, None for no bar. fields: label -> value, in order. excerpt: log lines, empty for none. chart: shown
    where the platform takes pictures from us.
    about: the same facts for programs, under names that do not change: service, environment, kind, version, ...
    """

    title: str
    state: str = "info"
    deployment: str = ""
    progress: int | None = None
    text: str = ""
    steps: tuple[Step, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    excerpt: str = ""
    buttons: tuple[Button, ...] = ()
    chart: Chart | None = None
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted: a text, a card, or both. The text is also what notifications and screen readers say."""

    text: str
    card: Card | None = None
