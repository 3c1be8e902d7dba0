"""Chinese names lead to the same commands; no name leads to two."""

from __future__ import annotations

from collections import Counter

import pytest

from bot import grammar
from bot.app import COMMANDS
from bot.dispatch import command_text
from commands.aliases import CHINESE


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("/发布 pay prod", "deploy"), ("／回滚 pay prod", "rollback"), ("状态", "status"), ("@slipway /帮助", "help")],
)
def test_a_chinese_name_is_the_command(typed: str, wanted: str) -> None:
    """With the slash of either keyboard, or without one."""
    name = grammar.words(command_text(typed))[0]
    assert grammar.find(COMMANDS, name).name == wanted


def test_every_name_is_one_commands_own() -> None:
    """An alias that shadows another command would run the wrong one."""
    names = Counter(name for command in COMMANDS for name in (command.name, *command.aliases))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_command_has_a_chinese_name() -> None:
    """A new command is not forgotten here; those that are made at the start among them."""
    assert [one.name for one in COMMANDS if one.name not in CHINESE] == []
    assert {"train", "jobs", "report"} <= set(CHINESE)
    assert all(not name.isascii() for names in CHINESE.values() for name in names)
