"""What the app must be allowed and subscribed to in Feishu: exactly what is used, each with its reason.

Source: open.feishu.cn, "权限要求" and "字段权限要求" on the page of each call and event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

SCOPES: Mapping[str, str] = {
    "im:message:send_as_bot": "post cards and edit them",
    "im:message.p2p_msg:readonly": "commands in the personal chat",
    "im:message.group_at_msg:readonly": "commands with @ in groups",
    "im:chat:readonly": "slipway doctor: whether the bot is in a group",
    "contact:user.id:readonly": "find people by the e-mail or mobile of people.yaml",
    "contact:contact.base:readonly": "who pressed a button; members of departments",
    "contact:user.employee:readonly": "who resigned or was frozen",
    "contact:user.email:readonly": "people by e-mail",
    "contact:user.employee_id:readonly": "people by the user id of the company",
}
"""Without one of these something does not work, and who cannot be confirmed is not let in."""

OPTIONAL: Mapping[str, str] = {
    "im:resource:upload": "charts of reports as pictures, whole logs as files",
    "contact:group:readonly": "user groups as groups of owners or approvers",
    "application:app_slash_command:read": "the panel of commands: what is in it",
    "application:app_slash_command:write": "the panel of commands: put ours into it",
    "application:application:self_manage": "slipway doctor: which events are subscribed to",
}

WIDER: Mapping[str, frozenset[str]] = {
    "im:message:send_as_bot": frozenset(["im:message"]),
    "im:chat:readonly": frozenset(["im:chat", "im:chat.members:read", "im:chat.group_info:readonly"]),
    "contact:contact.base:readonly": frozenset(["contact:contact:readonly_as_app", "contact:contact:access_as_app"]),
    "contact:user.employee:readonly": frozenset(["contact:contact:readonly_as_app", "contact:contact:access_as_app"]),
}
"""Scopes that allow the same and more."""

EVENTS: Mapping[str, str] = {
    "im.message.receive_v1": "commands",
    "contact.user.updated_v3": "who was frozen, or changed address or department",
    "contact.user.deleted_v3": "who left",
}
OPTIONAL_EVENTS: Mapping[str, str] = {
    "application.bot.menu_v6": "the bot's menu",
    "contact.scope.updated_v3": "the contact range changed",
    "contact.department.updated_v3": "a department moved",
    "contact.department.deleted_v3": "a department was dissolved",
}
CALLBACKS: Mapping[str, str] = {"card.action.trigger": "buttons and forms"}


def missing(granted: Collection[str]) -> list[str]:
    """The needed scopes that neither they nor a wider one of was granted."""
    return [one for one in SCOPES if one not in granted and not WIDER.get(one, frozenset()) & set(granted)]


def to_import() -> dict[str, Any]:
    """What the developer console's page of scopes takes under "Batch import"."""
    return {"scopes": {"tenant": sorted([*SCOPES, *OPTIONAL]), "user": []}}
