"""Who is in the user groups of Slack that the catalog names as groups of owners or approvers.

A group is written by its id (`S0614TZR7`) or its handle (`@payments`), in another workspace than the primary one with
the workspace in front (`T0123ABCD:@payments`). Read whole every twenty minutes and kept fresh by events; what Slack
does not confirm for an hour counts no longer. Source: docs.slack.dev "usergroups.list", "subteam_members_changed".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from bot.clock import Clock
from notifiers.slack_api import SlackApi

BELIEVED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _Group:
    id: str
    handle: str
    users: frozenset[str]


class SlackGroups:
    """Members as they were told last; nobody before the first reading."""

    def __init__(self, api: SlackApi, clock: Clock) -> None:
        """Take the way to Slack; nothing is read yet."""
        self._api = api
        self._clock = clock
        self._groups: dict[str, dict[str, _Group]] = {}
        self._read_at: dict[str, datetime] = {}

    def members(self, ids: Iterable[str]) -> frozenset[str]:
        """The accounts, as the catalog writes them, of everybody in any of these groups."""
        return frozenset(account for one in ids for account in self._of(one))

    def untold(self, ids: Iterable[str]) -> bool:
        """Whether of one of these it is not known who is in it."""
        return any(self._split(one)[0] not in self._groups for one in ids)

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those of the read workspaces that do not exist or are switched off."""
        return [one for one in ids if not self.untold([one]) and self._find(*self._split(one)) is None]

    async def refresh(self, ids: Iterable[str]) -> bool:
        """Read the workspaces of these groups again. Returns whether anything changed. Raises ProviderError."""
        before = dict(self._groups)
        try:
            for team in sorted({self._split(one)[0] for one in ids} & self._api.workspaces.keys()):
                answer = await self._api.ask("usergroups.list", team, include_users="true")
                known = [_group(one) for one in answer.get("usergroups") or ()]
                self._groups[team] = {one.id: one for one in known}
                self._read_at[team] = self._clock()
        finally:
            oldest = self._clock() - BELIEVED
            self._groups = {team: known for team, known in self._groups.items() if self._read_at[team] >= oldest}
        return before != self._groups

    def changed(self, event: Mapping[str, Any], team: str) -> bool:
        """Take an event about a group. Returns whether anything changed."""
        known = self._groups.get(team)
        if known is None:
            return False
        group = event.get("subteam")
        if isinstance(group, Mapping):
            after = None if group.get("date_delete") else _group(group)
            name = str(group.get("id") or "")
        else:
            name = str(event.get("subteam_id") or "")
            before = known.get(name)
            came, went = _users(event.get("added_users")), _users(event.get("removed_users"))
            after = replace(before, users=(before.users | came) - went) if before is not None else None
        changed = known.get(name) != after
        rest = {one: group for one, group in known.items() if one != name}
        self._groups[team] = rest | {name: after} if after is not None else rest
        return changed

    def _of(self, written: str) -> frozenset[str]:
        team, name = self._split(written)
        found = self._find(team, name)
        users = found.users if found is not None else frozenset[str]()
        return users if team == self._api.primary else frozenset(f"{team}:{user}" for user in users)

    def _find(self, team: str, name: str) -> _Group | None:
        known = self._groups.get(team, {})
        if name.startswith("@"):
            return next((one for one in known.values() if one.handle == name[1:].casefold()), None)
        return known.get(name)

    def _split(self, written: str) -> tuple[str, str]:
        team, _, name = written.rpartition(":")
        return team or self._api.primary, name


def _group(told: Mapping[str, Any]) -> _Group:
    return _Group(str(told["id"]), str(told.get("handle") or "").casefold(), _users(told.get("users")))


def _users(told: object) -> frozenset[str]:
    return frozenset(str(one) for one in told if one) if isinstance(told, list) else frozenset()
