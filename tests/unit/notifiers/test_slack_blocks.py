"""Cards as Block Kit: within every limit for any content, and outside text never live."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from bot.catalog.model import Catalog
from bot.deployments.model import State
from notifiers.card import Button, ButtonStyle, Card, Input, Message, Step
from notifiers.render import View, deployment_message
from notifiers.slack_blocks import MAX_BUTTON_VALUE, bar, fallback, form, plain, render
from tests.fakes.slack import words
from tests.unit.notifiers.test_places import seen

TEXT = st.text(max_size=60) | st.sampled_from(["<!channel>", "&<>" * 2000, "x" * 20_000, "```", "好" * 4000, ""])
STEPS = st.builds(Step, name=TEXT, state=st.sampled_from(["running", "failed", "weird", "skipped"]), detail=TEXT)
BUTTONS = st.builds(
    lambda number, label, confirm: Button(f"b{number}", label or "Go", ButtonStyle.DANGER, confirm),
    st.integers(0, 10**9),
    TEXT,
    TEXT,
)
CARDS = st.builds(
    Card,
    title=TEXT,
    state=st.sampled_from(["building", "failed", "succeeded", "info", "never heard of"]),
    deployment=TEXT,
    progress=st.none() | st.integers(-5, 300),
    text=TEXT,
    steps=st.lists(STEPS, max_size=30).map(tuple),
    fields=st.dictionaries(TEXT, TEXT, max_size=40),
    excerpt=TEXT,
    buttons=st.lists(BUTTONS, max_size=5, unique_by=lambda one: one.id).map(tuple),
)


def every_block(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [*body["blocks"], *(block for one in body["attachments"] for block in one["blocks"])]


@settings(max_examples=150, deadline=None)
@given(CARDS, TEXT)
def test_any_card_is_within_the_limits(card: Card, text: str) -> None:
    """Slack refuses a whole message for one character too many, and a refused card is a silent deployment."""
    body = render(Message(text, card), "rev")
    blocks = every_block(body)
    assert 0 < len(body["text"]) <= 4_000
    assert len(blocks) <= 50
    assert len(words(blocks)) <= 13_200
    parsed = Block.parse_all(blocks)
    assert len(parsed) == len(blocks)
    for one in parsed:
        one.to_dict()
    for block in blocks:
        for element in block.get("elements") or ():
            if element["type"] == "button":
                assert len(element["value"]) <= MAX_BUTTON_VALUE
    assert '"text": ""' not in json.dumps(blocks)


@given(TEXT)
def test_outside_text_is_never_live(text: str) -> None:
    """`<!channel>` in a commit title must not wake a thousand people."""
    card = Card(text, text=text, fields={text: text}, excerpt=text, steps=(Step(text, "running", text),))
    body = render(Message(text, card))
    assert "<" not in body["text"]
    for block in every_block(body):
        assert "mrkdwn" not in json.dumps(block)
    assert "<" not in plain(Message(text))["text"]


def test_the_end_of_an_excerpt_is_kept() -> None:
    """That is where things went wrong."""
    body = render(Message("x", Card("x", excerpt="start " + "y" * 10_000 + " the error")))
    assert "the error" in json.dumps(body["attachments"])
    assert "start" not in json.dumps(body["attachments"])


def test_a_bar_of_text() -> None:
    """There is no progress block."""
    assert bar(0) == "░" * 20 + " 0 %"
    assert bar(50) == "▓" * 10 + "░" * 10 + " 50 %"
    assert bar(250) == "▓" * 20 + " 100 %"


def test_a_button_that_asks_carries_its_form() -> None:
    """The form opens without a look at the database, because the trigger lives three seconds."""
    card = Card("x", deployment="d-1", buttons=(Button("reject", "Reject", inputs=(Input("reason", "Reason", True),)),))
    (button,) = render(Message("x", card))["blocks"][-1]["elements"]
    assert button["action_id"] == "ask:reject"
    assert json.loads(button["value"])["i"] == [["reason", "Reason", 1]]
    view = form("reject", "Reject this very long label of a button", [("reason", "Reason", True)], {"b": "reject"})
    assert len(view["title"]["text"]) <= 24


def test_dialogs_are_left_in_the_readers_language() -> None:
    """The one word of a dialog that is not the message's own."""
    card = Card("x", deployment="d-1", buttons=(Button("cancel", "取消", ButtonStyle.DANGER, "取消 d-1？"),))
    (button,) = render(Message("x", card), "", "返回")["blocks"][-1]["elements"]
    assert button["confirm"]["deny"]["text"] == "返回"
    assert form("reject", "拒绝", [("reason", "原因", True)], {}, "返回")["close"]["text"] == "返回"


def test_the_fallback_is_escaped_and_still_short() -> None:
    """Escaping makes text longer."""
    assert len(fallback("<" * 10_000)) <= 3_900
    assert fallback("") == " "


@pytest.mark.parametrize(
    ("state", "asks", "at_once", "in_a_form"),
    [
        (State.BUILDING, {"cancel"}, set(), set()),
        (State.AWAITING_APPROVAL, {"approve", "cancel"}, set(), {"reject"}),
        (State.GRAY, {"continue", "abort"}, set(), set()),
        (State.SUCCEEDED, {"rollback"}, set(), set()),
        (State.FAILED, {"retry"}, set(), set()),
        (State.ROLLING_BACK, set(), set(), set()),
    ],
    ids=["building", "awaiting_approval", "gray", "succeeded", "failed", "rolling_back"],
)
def test_what_is_dangerous_asks_again(state: State, asks: set[str], at_once: set[str], in_a_form: set[str]) -> None:
    """In every state: a dialog for what changes something that runs, a form for what wants a reason."""
    catalog = Catalog("d", {}, {}, {}, {}, (), (), ())
    card = deployment_message(View(seen(state), (), catalog, can_roll_back=True)).card
    assert card is not None
    found = [one for block in render(Message("x", card))["blocks"] for one in block.get("elements") or ()]
    pressed = {one["action_id"]: "confirm" in one for one in found if one["type"] == "button"}
    assert pressed == (
        {f"do:{name}": True for name in asks}
        | {f"do:{name}": False for name in at_once}
        | {f"ask:{name}": False for name in in_a_form}
    )
