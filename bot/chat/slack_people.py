"""Who a Slack account is: a person of the catalog by id or by e-mail, unless Slack says left, guest or stranger.

Also who belongs to the groups of the catalog that name user groups of Slack.

The list of users is read in the background and kept fresh by events, so that a command costs no look-up. While Slack
cannot be asked about an account nobody has seen yet, nobody is let in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from bot.catalog.groups import chat_groups, with_members
from bot.catalog.model import Catalog, Person
from bot.chat.slack_groups import SlackGroups
from bot.chat.slack_wire import PLATFORM
from bot.clock import Clock
from bot.errors import OutcomeUnknown, ProviderError, ProviderUnavailable
from notifiers.slack_api import SlackApi

log = structlog.get_logger(__name__)

FRESH = timedelta(minutes=30)
"""How long what Slack said of an account is believed without an event."""


@dataclass(frozen=True, slots=True)
class Account:
    """What Slack says of a user. insider: a full member of this organisation, no guest, no bot; left: deactivated."""

    user_id: str
    email: str
    insider: bool
    left: bool
    seen_at: datetime


class SlackPeople:
    """Accounts, and the catalog as Slack completes it."""

    def __init__(self, api: SlackApi, clock: Clock, catalog: Callable[[], Catalog]) -> None:
        """Take the way to Slack; nothing is read yet. catalog: as it was read, for the groups it names."""
        self._api = api
        self._clock = clock
        self._catalog = catalog
        self._listed: set[str] = set()
        self.groups = SlackGroups(api, clock)
        self._accounts: dict[str, Account] = {}
        self._made: tuple[Catalog, int, Catalog] | None = None
        self._version = 0

    async def person(self, catalog: Catalog, user_id: str) -> Person | None:
        """The active person behind an account, or None. Raises ProviderUnavailable: Slack cannot be asked now."""
        team = user_id.rpartition(":")[0]
        if team and team not in self._api.workspaces:
            return None
        seen = self._accounts.get(user_id)
        if seen is None or self._clock() - seen.seen_at > FRESH:
            seen = await self._ask(user_id)
        if seen is None or not seen.insider or seen.left:
            return None
        return _person(catalog, seen)

    async def refresh(self) -> None:
        """Read every account of every workspace, and the groups in use. Raises ProviderError; what was known stays."""
        await self.read_groups()
        for team in list(self._api.workspaces):
            async for page in self._api.pages("users.list", team):
                for user in page.get("members") or ():
                    self.learn(user, team)
            if team not in self._listed:
                self._listed.add(team)
                self._version += 1

    async def read_groups(self) -> None:
        """Read who is in the groups that the catalog names. Raises nothing: what is not known is nobody."""
        named = [one for ids in chat_groups(self._catalog(), PLATFORM).values() for one in ids]
        try:
            changed = await self.groups.refresh(named)
        except ProviderError as error:
            log.warning("slack_groups_not_read", error=error.message)
            changed = True
        if changed:
            self._version += 1

    def group_changed(self, event: Mapping[str, Any], team: str) -> None:
        """Take an event about a user group."""
        if self.groups.changed(event, team):
            self._version += 1

    def learn(self, user: Mapping[str, Any], team: str) -> None:
        """Take what an event or a list says of one user."""
        home = team or self._api.primary
        known = _account(user, self._written(str(user["id"]), team), home, self._clock())
        old = self._accounts.get(known.user_id)
        self._accounts[known.user_id] = known
        if old is None or (old.email, old.insider, old.left) != (known.email, known.insider, known.left):
            self._version += 1

    def complete(self, catalog: Catalog) -> Catalog:
        """The catalog with the Slack ids that e-mail tells, and without the rights of those who left."""
        made = self._made
        if made is None or made[0] is not catalog or made[1] != self._version:
            made = self._made = (catalog, self._version, self._completed(catalog))
        return made[2]

    def _completed(self, catalog: Catalog) -> Catalog:
        completed, groups = self._with_accounts(catalog), chat_groups(catalog, PLATFORM)
        if not groups:
            return completed
        told = {self._api.primary, *self._api.workspaces} <= self._listed
        untold = {name for name, ids in groups.items() if not told or self.groups.untold(ids)}
        members = {name: self._people_of(completed, ids) for name, ids in groups.items()}
        return replace(with_members(completed, members), untold=completed.untold | untold)

    def _people_of(self, catalog: Catalog, groups: Sequence[str]) -> tuple[str, ...]:
        accounts = [self._accounts.get(one) for one in sorted(self.groups.members(groups))]
        people = (_person(catalog, one) for one in accounts if one is not None and one.insider and not one.left)
        return tuple(dict.fromkeys(one.id for one in people if one is not None))

    def _with_accounts(self, catalog: Catalog) -> Catalog:
        by_email: dict[str, list[Account]] = {}
        for seen in self._accounts.values():
            if seen.email and (seen.insider or seen.left):
                by_email.setdefault(seen.email, []).append(seen)
        changed = {
            name: after
            for name, person in catalog.people.items()
            if (after := self._completed_person(person, by_email)) is not person
        }
        if not changed:
            return catalog
        people = {**catalog.people, **changed}
        by_chat = {key: people[person.id] for key, person in catalog.by_chat_id.items()}
        by_chat |= {(PLATFORM, one): person for person in changed.values() for one in person.chats.get(PLATFORM, ())}
        by_mail = {key: people[person.id] for key, person in catalog.by_email.items()}
        return replace(catalog, people=people, by_chat_id=by_chat, by_email=by_mail)

    def _completed_person(self, person: Person, by_email: Mapping[str, Sequence[Account]]) -> Person:
        """Their account by e-mail if none is written; without rights if every account of theirs was deactivated."""
        written = person.chats.get(PLATFORM, ())
        if written:
            known = [self._accounts[one] for one in written if one in self._accounts]
        else:
            known = list(by_email.get(person.email.casefold(), ())) if person.email else []
        here = [one for one in known if one.insider and not one.left]
        if known and len(known) >= len(written) and all(one.left for one in known):
            return replace(person, active=False)
        return replace(person, chats={**person.chats, PLATFORM: (here[0].user_id,)}) if here and not written else person

    async def _ask(self, user_id: str) -> Account | None:
        team, _, bare = user_id.rpartition(":")
        try:
            answer = await self._api.ask("users.info", team, user=bare)
        except (ProviderUnavailable, OutcomeUnknown) as error:
            raise _cannot_tell() from error
        except ProviderError as error:
            log.warning("slack_user_not_told", error=error.message)
            return None
        self.learn(answer["user"], team or self._api.primary)
        return self._accounts.get(user_id)

    def _written(self, user: str, team: str) -> str:
        return user if team in ("", self._api.primary) else f"{team}:{user}"


def _person(catalog: Catalog, seen: Account) -> Person | None:
    """The active person of the catalog an account belongs to."""
    by_account = catalog.person_by_chat(PLATFORM, seen.user_id)
    return by_account or (catalog.person_by_email(seen.email) if seen.email else None)


def _cannot_tell() -> ProviderUnavailable:
    return ProviderUnavailable(
        "Slack does not say right now who you are, so nothing was done.", hint="Try again in a minute."
    )


def _account(user: Mapping[str, Any], written: str, team: str, at: datetime) -> Account:
    """team: the workspace that was asked. It also tells of members of other organisations in shared channels."""
    outside = ("is_bot", "is_restricted", "is_ultra_restricted", "is_stranger", "is_app_user")
    profile = user.get("profile") or {}
    # `is_stranger` is not set for those of them whom the app can see, so the workspace counts. In an organisation of
    # several workspaces a user may be at home in another one of them.
    homes = {user.get("team_id"), *((user.get("enterprise_user") or {}).get("teams") or ())}
    return Account(
        user_id=written,
        email=str(profile.get("email") or "").casefold(),
        insider=team in homes and not any(user.get(flag) for flag in outside),
        left=bool(user.get("deleted")),
        seen_at=at,
    )
