"""Puts our commands into the panel that opens when somebody types `/` to the bot, where the company allows it.

What is chosen there is sent as plain text, so nothing else depends on it. Commands of others in the panel are left
alone. Source: open.feishu.cn "飞书智能体支持 Slash Command".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from bot.errors import ProviderError
from notifiers.feishu_api import FeishuApi
from notifiers.language import CHINESE, Reader, say

log = structlog.get_logger(__name__)

PATH = "/open-apis/application/v7/app_slash_commands"
SCOPES = ("application:app_slash_command:read", "application:app_slash_command:write")
MAX_COMMANDS = 100


async def update_panel(api: FeishuApi, commands: Sequence[tuple[str, str]]) -> int:
    """Add what is missing and correct what differs. commands: name, summary. Returns how many were changed."""
    granted = await api.scopes()
    if not granted.issuperset(SCOPES):
        return 0
    data = (await api.call("GET", PATH)).get("data") or {}
    there = {str(one.get("command")): one for one in data.get("items") or ()}
    changed = 0
    for name, summary in commands[:MAX_COMMANDS]:
        wanted, known = described(summary), there.get(name)
        if known is not None and _same(known.get("description"), wanted):
            continue
        try:
            if known is None:
                await api.call("POST", PATH, {"command": name, "description": wanted})
            else:
                await api.call("PATCH", f"{PATH}/{known['command_id']}", {"description": wanted})
        except ProviderError as error:  # another replica was first, or the panel is full
            log.warning("feishu_command_not_in_panel", command=name, error=error.message)
        else:
            changed += 1
    return changed


def described(summary: str) -> dict[str, Any]:
    """A summary in both languages; the client chooses."""
    return {"default_value": summary, "i18n": {"zh_cn": say(summary, Reader(CHINESE)), "en_us": summary}}


def _same(known: object, wanted: dict[str, Any]) -> bool:
    """Whatever else the answer tells beside."""
    if not isinstance(known, dict) or known.get("default_value") != wanted["default_value"]:
        return False
    i18n = known.get("i18n") or {}
    return all(i18n.get(language) == text for language, text in wanted["i18n"].items())
