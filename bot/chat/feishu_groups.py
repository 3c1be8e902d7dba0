"""Who is in the user groups and departments that the catalog names as groups of owners or approvers.

A group is written by its id (`g128187`), a department by its open id (`od-…`); a department counts with all below it.
What Feishu does not confirm for an hour counts no longer. Source: open.feishu.cn "查询用户组成员列表",
"获取部门直属用户列表", "获取子部门列表".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from bot.clock import Clock
from bot.errors import ProviderError
from notifiers.feishu_api import FeishuApi

log = structlog.get_logger(__name__)

CONTACT = "/open-apis/contact/v3"
DEPARTMENT = "od-"
BELIEVED = timedelta(hours=1)


class FeishuGroups:
    """Members as they were read last; nobody before the first reading."""

    def __init__(self, api: FeishuApi, clock: Clock) -> None:
        """Take the way to Feishu; nothing is read yet."""
        self._api = api
        self._clock = clock
        self._members: dict[str, tuple[frozenset[str], datetime]] = {}
        self.problems: dict[str, str] = {}
        """Why a group could not be read last, by its id."""

    def members(self, ids: Iterable[str]) -> frozenset[str]:
        """The open_ids of everybody in any of these."""
        known = [self._members[one][0] for one in ids if one in self._members]
        return frozenset().union(*known)

    def untold(self, ids: Iterable[str]) -> bool:
        """Whether of one of these it is not known who is in it."""
        return any(one not in self._members for one in ids)

    def holds(self, open_id: str) -> bool:
        """Whether somebody is in any of the groups."""
        return any(open_id in people for people, _ in self._members.values())

    def forget(self, open_id: str) -> None:
        """Somebody changed: in no group until they are read again."""
        self._members = {group: (people - {open_id}, at) for group, (people, at) in self._members.items()}

    async def refresh(self, ids: Iterable[str]) -> bool:
        """Read them all again, each by itself. Returns whether anybody came or went."""
        before = {one: people for one, (people, _) in self._members.items()}
        wanted = sorted(set(ids))
        for group in wanted:
            try:
                found = frozenset([one async for one in self._read(group)])
            except ProviderError as error:
                self.problems[group] = error.message
                log.warning("feishu_group_not_read", group=group, error=error.message)
            else:
                self.problems.pop(group, None)
                self._members[group] = (found, self._clock())
        oldest = self._clock() - BELIEVED
        self._members = {
            one: (people, at) for one, (people, at) in self._members.items() if one in wanted and at >= oldest
        }
        return before != {one: people for one, (people, _) in self._members.items()}

    async def _read(self, group: str) -> AsyncIterator[str]:
        if group.startswith(DEPARTMENT):
            async for user in self._department(group):
                yield user
            return
        path = f"{CONTACT}/group/{group}/member/simplelist"
        async for member in self._api.pages(path, "memberlist", member_type="user", member_id_type="open_id"):
            yield str(member["member_id"])
        # With `open_id` a department is told by its open id too.
        async for member in self._api.pages(path, "memberlist", member_type="department", member_id_type="open_id"):
            async for user in self._department(str(member["member_id"])):
                yield user

    async def _department(self, department: str) -> AsyncIterator[str]:
        kinds: Mapping[str, Any] = {"department_id_type": "open_department_id", "user_id_type": "open_id"}
        below = self._api.pages(f"{CONTACT}/departments/{department}/children", "items", fetch_child="true", **kinds)
        for one in [department, *[str(found["open_department_id"]) async for found in below]]:
            path = f"{CONTACT}/users/find_by_department"
            async for user in self._api.pages(path, "items", department_id=one, **kinds):
                yield str(user["open_id"])
