"""What the demo's page says first: where one is, and five things to try."""

from __future__ import annotations

from typing import TypedDict

# Written as a call, because `as` is a word of Python's own.
Thing = TypedDict("Thing", {"text": str, "command": str, "as": str})
Thing.__doc__ = "One thing to try: what happens, what to type, and as whom."


class Greeting(TypedDict):
    """The first message of a new demo."""

    title: str
    text: str
    things: list[Thing]


TITLE = "Welcome to Slipway"

TEXT = (
    "This is a release bot at work: what you type here really builds, tests, writes to Git, deploys and verifies small"
    " services on this machine. You can act as any of five people; choose one and try these."
)

THINGS: list[Thing] = [
    {
        "text": "Put hello into production and watch it go live: its card shows each step and then the address.",
        "command": "/deploy hello prod",
        "as": "owner",
    },
    {
        "text": "Try the same as a developer: it is refused, and you read by which rule and who may do it.",
        "command": "/deploy hello prod",
        "as": "developer",
    },
    {
        "text": (
            "Ask for pay outside its release window: press the emergency button, then approve as Leo Lead;"
            " a test fails, and the lines that matter reach Olive Owner personally."
        ),
        "command": "/deploy pay prod",
        "as": "owner",
    },
    {
        "text": "Deploy gate: it builds and starts but never becomes healthy, and its card shows the evidence.",
        "command": "/deploy gate dev",
        "as": "owner",
    },
    {
        "text": "Ask why pay may not go to production now, and when it may.",
        "command": "/why pay prod",
        "as": "developer",
    },
]


def greeting() -> Greeting:
    """Title, text and the things to try, in order."""
    return {"title": TITLE, "text": TEXT, "things": list(THINGS)}
