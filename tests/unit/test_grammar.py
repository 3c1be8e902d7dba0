"""From a typed line to a command: what people really type."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import grammar
from bot.app import COMMANDS
from bot.errors import BadInput


def parsed(line: str) -> dict[str, Any]:
    """The arguments of a line, as a mapping."""
    tokens = grammar.words(line)
    command = grammar.find(COMMANDS, tokens[0].lstrip("/"))
    return grammar.parse(command, tokens[1:]).model_dump()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("/deploy pay prod", {"service": "pay", "environment": "prod", "version": "", "reason": "", "plan": False}),
        ("/deploy pay prod v1.2", {"version": "v1.2"}),
        ("/deploy pay prod --plan", {"plan": True, "version": ""}),
        ("/deploy --plan pay prod", {"service": "pay", "plan": True}),
        ("/deploy pay prod --reason they cannot pay --plan", {"reason": "they cannot pay", "plan": True}),
        ('/deploy pay prod --reason "they cannot pay" v2', {"reason": "they cannot pay v2"}),
        ("/deploy pay prod --reason=outage", {"reason": "outage"}),
        ("/deploy pay prod —plan", {"plan": True}),
        ("/deploy pay prod –reason outage", {"reason": "outage"}),
        ("/deploy pay prod “v1.2”", {"version": "v1.2"}),
        ("/deploy\u3000pay\u3000prod", {"service": "pay", "environment": "prod"}),
        ("/DEPLOY pay prod", {"service": "pay"}),
        ("/why pay prod tomorrow 10:00", {"when": "tomorrow 10:00"}),
        ("/reject d-3 --reason not today", {"deployment": "d-3", "reason": "not today"}),
        ("/status", {"service": "", "environment": ""}),
    ],
)
def test_what_people_type(line: str, wanted: dict[str, Any]) -> None:
    """Phones make one dash of two and quotes curly; Chinese keyboards make wide spaces."""
    found = parsed(line)
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/deploy", "Which service? Type /deploy <service> <environment> [version|branch]"),
        ("/deploy pay", "Which environment?"),
        ("/deploy pay prod v1 v2", "'v2' is one word too many"),
        ("/deploy pay prod --paln", "There is no option --paln. Did you mean --plan?"),
        ("/deploy pay prod --reason", "--reason needs a value after it"),
        ("/dploy pay prod", "There is no command /dploy. Did you mean /deploy?"),
        ("/roll pay prod", "There is no command /roll. Did you mean /rollback?"),
        ("/xyzzy", "There is no command /xyzzy. /help lists"),
        ('/deploy "pay prod', "A quotation mark is not closed"),
        ("/deploy " + "x" * 5000, "longer than 4000 characters"),
    ],
)
def test_what_cannot_be_understood_is_answered_with_what_to_type(line: str, words: str) -> None:
    """The usage in the answer is made from the definition, so it cannot be wrong."""
    with pytest.raises(BadInput) as caught:
        parsed(line)
    assert words in caught.value.sentence()


@given(st.text(max_size=200))
def test_no_line_breaks_the_parser(line: str) -> None:
    """Whatever is typed is understood or refused in words, never a crash."""
    with suppress(BadInput):
        tokens = grammar.words("/deploy " + line)
        assert grammar.parse(grammar.find(COMMANDS, "deploy"), tokens[1:]) is not None


def test_every_example_parses() -> None:
    """Help shows the examples; one that does not work would be a bad joke."""
    for command in COMMANDS:
        tokens = grammar.words(command.example)
        assert grammar.find(COMMANDS, tokens[0].lstrip("/")) is command
        grammar.parse(command, tokens[1:])


def test_usage_is_made_from_the_definition() -> None:
    """One source for help, refusals and hints."""
    deploy = grammar.find(COMMANDS, "deploy")
    positions = "/deploy <service> <environment> [version|branch]"
    assert grammar.usage(deploy) == f"{positions} [--reason TEXT] [--plan] [--at TEXT] [--hotfix] [--supersede]"
