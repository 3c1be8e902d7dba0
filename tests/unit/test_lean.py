"""A server starts without what is for terminals, and with both chats on within what it may hold."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, replace

import pytest

from bot.lean import starting

SCRIPT = """
import sys
from bot.lean import starting
def loaded(*names):
    print([name for name in names if name in sys.modules])
with starting():
    import bot.app, bot.logging, bot.web.server, bot.chat.feishu_parts, bot.chat.slack_parts
    loaded('click', 'multiprocessing', 'slack_bolt', 'slack_sdk', 'apscheduler')
    import httpx
loaded('rich', 'pygments', 'uvicorn.main', 'kubernetes', 'lark_oapi', 'alembic', 'PIL')
import rich.console, uvicorn.main
print(uvicorn.main.main is not None and uvicorn.main.Server is bot.web.server.Server)
print(rich.console.Console is not None)
"""


def test_what_is_for_terminals_stays_out() -> None:
    """And nothing else that is heavy comes in before it is needed; asked for, it is there."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "[]", "True", "True"]


def test_a_dataclass_made_while_starting_is_like_any_other() -> None:
    """Its methods are compiled when they are first called; nobody can tell, before and after."""
    made = dataclasses._create_fn if hasattr(dataclasses, "_create_fn") else None
    with starting():

        @dataclass(frozen=True, slots=True, order=True)
        class Pair:
            left: int
            right: str = "r"

    one = Pair(1)
    for _ in range(2):
        assert repr(one) == f"{Pair.__qualname__}(left=1, right='r')"
        assert one == Pair(1, "r") != Pair(1, "x")
        assert {one: 1}[Pair(1)] == 1
        assert one < replace(one, left=2)
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'left'"):
            one.left = 2  # type: ignore[misc]
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'left'"):
            del one.left
    assert getattr(dataclasses, "_create_fn", None) is made
