"""A server starts without what is for terminals, and with both chats on within what it may hold."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from bot.lean import starting
with starting():
    import bot.app, bot.logging, bot.chat.feishu_parts, bot.chat.slack_parts
    import httpx
late = ('rich', 'pygments', 'kubernetes', 'lark_oapi', 'alembic', 'PIL', 'slack_bolt', 'slack_sdk', 'apscheduler')
print(sorted(name for name in late if name in sys.modules))
import rich.console
print(rich.console.Console is not None)
"""


def test_what_is_for_terminals_stays_out() -> None:
    """And nothing else that is heavy comes in before it is needed; asked for, it is there."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "True"]
