"""The scopes and events that are documented, printed and checked are those that are used, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.chat import feishu_scopes as scopes
from bot.terminal import app
from tests.fakes.feishu import NEEDS

ROOT = Path(__file__).parents[3]
SCOPE = re.compile(r"`((?:im|contact|application):[a-z0-9_.:]+)`")
EVENT = re.compile(r"`((?:im|contact|application|card)\.[a-z0-9_.]+)`")


@pytest.mark.parametrize("chapter", ["feishu.md", "feishu.zh.md"])
def test_the_chapters_list_what_is_used(chapter: str) -> None:
    """Whoever follows either language gets an app that works."""
    text = (ROOT / "docs" / chapter).read_text(encoding="utf-8")
    assert set(SCOPE.findall(text)) == {*scopes.SCOPES, *scopes.OPTIONAL}
    events = {*scopes.EVENTS, *scopes.OPTIONAL_EVENTS, *scopes.CALLBACKS}
    assert set(EVENT.findall(text)) == events


def test_the_scopes_to_import() -> None:
    """In the form that the developer console takes."""
    printed = CliRunner().invoke(app, ["manifest", "feishu"])
    assert printed.exit_code == 0
    assert set(json.loads(printed.stdout)["scopes"]["tenant"]) == {*scopes.SCOPES, *scopes.OPTIONAL}


def test_every_call_is_allowed_by_what_is_asked_for() -> None:
    """The other way round, the fake refuses in every test what was not granted."""
    asked = {*scopes.SCOPES, *scopes.OPTIONAL}
    assert [name for name, any_of in NEEDS.items() if not asked & set(any_of)] == []


def test_a_wider_scope_will_do() -> None:
    """Companies grant `im:message` at once; nobody should be told to add what is in it."""
    granted = set(scopes.SCOPES) - {"im:message:send_as_bot"}
    assert scopes.missing(granted) == ["im:message:send_as_bot"]
    assert scopes.missing(granted | {"im:message"}) == []
