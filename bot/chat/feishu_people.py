"""Who a Feishu account is: a person of the catalog by account, e-mail or mobile, unless Feishu says they left.

Also who belongs to the groups of the catalog that name user groups or departments of Feishu.

The addresses of the catalog are resolved in the background; an account nobody has seen yet is asked about once. While
Feishu cannot be asked, nobody is let in. Source: open.feishu.cn "通过手机号或邮箱获取用户 ID", "获取单个用户信息".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from bot.catalog.groups import Members, chat_groups, with_members
from bot.catalog.model import Catalog, Person
from bot.chat.feishu_groups import FeishuGroups
from bot.chat.feishu_wire import PLATFORM
from bot.clock import Clock
from bot.errors import ProviderError, ProviderUnavailable
from notifiers.feishu_api import FeishuApi

log = structlog.get_logger(__name__)

FRESH = timedelta(minutes=30)
"""How long what Feishu said of an account is believed without an event."""
AT_ONCE = 50
USERS = "/open-apis/contact/v3/users"


@dataclass(frozen=True, slots=True)
class Account:
    """What Feishu says of a user. names: everything the catalog may call it by; left: resigned, frozen or gone.

    told: whether it says if they left; not without its scope.
    """

    open_id: str
    names: frozenset[str]
    emails: frozenset[str]
    left: bool
    seen_at: datetime
    told: bool = True


class FeishuPeople:
    """Accounts, groups, and the catalog as Feishu completes it."""

    def __init__(self, api: FeishuApi, clock: Clock) -> None:
        """Take the way to Feishu; nothing is read yet."""
        self._api = api
        self._clock = clock
        self.groups = FeishuGroups(api, clock)
        self._accounts: dict[str, Account] = {}
        self._by_name: dict[str, str] = {}
        self._written: frozenset[str] = frozenset()
        self._addresses: dict[str, str] = {}
        self._made: tuple[Catalog, int, Catalog] | None = None
        self._version = 0

    async def person(self, catalog: Catalog, user_id: str) -> Person | None:
        """The active person behind an open_id, or None. Raises ProviderUnavailable: Feishu cannot be asked now."""
        if not user_id.startswith("ou_"):
            return None
        seen = self._accounts.get(user_id)
        if seen is None or self._clock() - seen.seen_at > FRESH:
            seen = await self._ask(user_id)
        if seen is None or seen.left:
            return None
        if not seen.told:
            raise ProviderUnavailable(
                "Feishu does not tell the bot whether you still work here, so nothing was done.",
                hint="Ask an administrator to give the app the scope contact:user.employee:readonly.",
            )
        return _person(catalog, seen)

    # -- the catalog -------------------------------------------------------------------------------------------------

    async def refresh(self, catalog: Catalog) -> None:
        """Look up everybody of the catalog. catalog: as it was read. Raises ProviderError; what was known stays."""
        named = [one for ids in chat_groups(catalog, PLATFORM).values() for one in ids]
        if await self.groups.refresh(named):
            self._version += 1
        emails = sorted({one.email.casefold() for one in catalog.people.values() if one.email})
        written = [name for one in catalog.people.values() for name in one.chats.get(PLATFORM, ())]
        mobiles = sorted({name for name in written if name.startswith("+")})
        found: dict[str, str] = {}
        for some_emails, some_mobiles in _portions(emails, mobiles):
            found |= await self._resolved(some_emails, some_mobiles)
        if found != self._addresses:
            self._addresses = found
            self._version += 1
        known = {name for name in written if name.startswith("ou_")} | set(found.values()) | set(self._accounts)
        for some in _chunks(sorted(known | self.groups.members(named))):
            answer = await self._api.call("GET", f"{USERS}/batch", user_ids=some, user_id_type="open_id")
            for user in (answer.get("data") or {}).get("items") or ():
                self._learn(user)

    async def _resolved(self, emails: Sequence[str], mobiles: Sequence[str]) -> dict[str, str]:
        body = {"emails": list(emails), "mobiles": list(mobiles), "include_resigned": False}
        answer = await self._api.call("POST", f"{USERS}/batch_get_id", body, user_id_type="open_id")
        users = (answer.get("data") or {}).get("user_list") or ()
        # An address nobody has comes back without a user_id.
        return {
            str(user.get("email") or user.get("mobile")).casefold(): str(user["user_id"])
            for user in users
            if user.get("user_id")
        }

    def complete(self, catalog: Catalog) -> Catalog:
        """The catalog with the open_ids that addresses tell, and without the rights of those who left."""
        made = self._made
        if made is None or made[0] is not catalog or made[1] != self._version:
            made = self._made = (catalog, self._version, self._completed(catalog))
        return made[2]

    def _completed(self, catalog: Catalog) -> Catalog:
        completed = self._with_accounts(catalog)
        groups = chat_groups(catalog, PLATFORM)
        if not groups:
            return completed
        untold = {name for name, ids in groups.items() if self.groups.untold(ids)}
        return replace(with_members(completed, self._members(completed)), untold=completed.untold | untold)

    def _members(self, catalog: Catalog) -> Members:
        """Who belongs to the catalog's groups, as far as Feishu has told."""
        found: dict[str, tuple[str, ...]] = {}
        for name, ids in chat_groups(catalog, PLATFORM).items():
            seen = (self._accounts.get(one) for one in sorted(self.groups.members(ids)))
            people = (_person(catalog, one) for one in seen if one is not None and one.told and not one.left)
            found[name] = tuple(dict.fromkeys(one.id for one in people if one is not None))
        return found

    def _with_accounts(self, catalog: Catalog) -> Catalog:
        written = (name for one in catalog.people.values() for name in one.chats.get(PLATFORM, ()))
        self._written = frozenset(name for name in written if not name.startswith("ou_"))
        changed = {
            name: after
            for name, person in catalog.people.items()
            if (after := self._completed_person(person)) is not person
        }
        if not changed:
            return catalog
        people = {**catalog.people, **changed}
        by_chat = {key: people[person.id] for key, person in catalog.by_chat_id.items()}
        by_chat |= {(PLATFORM, one): person for person in changed.values() for one in person.chats.get(PLATFORM, ())}
        by_mail = {key: people[person.id] for key, person in catalog.by_email.items()}
        return replace(catalog, people=people, by_chat_id=by_chat, by_email=by_mail)

    def _completed_person(self, person: Person) -> Person:
        written = person.chats.get(PLATFORM, ())
        addresses = written or (person.email,)
        ids = tuple(dict.fromkeys(one for name in addresses if (one := self._open_id(name))))
        known = [self._accounts[one] for one in ids if one in self._accounts]
        if known and len(known) == len(ids) and all(one.left for one in known):
            return replace(person, active=False)
        rest = tuple(name for name in written if name not in ids)
        after = (*ids, *rest)
        return replace(person, chats={**person.chats, PLATFORM: after}) if after != written else person

    def _open_id(self, name: str) -> str:
        """The open_id behind an account or address as the catalog writes it; empty if it is not known."""
        if name.startswith("ou_"):
            return name
        if found := self._addresses.get(name.casefold()):
            return found
        return self._by_name.get(name, "")

    # -- accounts ----------------------------------------------------------------------------------------------------

    def changed(self, user: Mapping[str, Any], gone: bool) -> None:
        """Take an event about a user: what we knew is void, and somebody deleted has no rights from now on."""
        open_id = str(user.get("open_id") or "")
        old = self._accounts.pop(open_id, None)
        if not gone:
            for name in old.names if old is not None else ():
                self._by_name.pop(name, None)
        self.groups.forget(open_id)
        if gone and open_id:
            names = old.names if old is not None else frozenset([open_id])
            emails = old.emails if old is not None else frozenset[str]()
            self._accounts[open_id] = Account(open_id, names, emails, True, self._clock())
        self._version += 1

    async def _ask(self, open_id: str) -> Account | None:
        try:
            answer = await self._api.call("GET", f"{USERS}/{open_id}", user_id_type="open_id")
        except ProviderUnavailable as error:
            raise ProviderUnavailable(
                "Feishu does not say right now who you are, so nothing was done.", hint="Try again in a minute."
            ) from error
        except ProviderError as error:
            log.warning("feishu_user_not_told", error=error.message)
            return None
        self._learn((answer.get("data") or {}).get("user") or {})
        return self._accounts.get(open_id)

    def _learn(self, user: Mapping[str, Any]) -> None:
        known = _account(user, self._clock())
        if not known.open_id:
            return
        old = self._accounts.get(known.open_id)
        self._accounts[known.open_id] = known
        self._by_name |= dict.fromkeys(known.names, known.open_id)
        if old is None:
            # A catalog is not made anew for every account that is seen first: most change nothing in it.
            new = known.left or not known.names.isdisjoint(self._written) or self.groups.holds(known.open_id)
        else:
            new = (old.names, old.emails, old.left) != (known.names, known.emails, known.left)
        self._version += new


def _person(catalog: Catalog, seen: Account) -> Person | None:
    """The active person of the catalog an account belongs to."""
    by_account = (catalog.person_by_chat(PLATFORM, name) for name in sorted(seen.names))
    by_email = (catalog.person_by_email(email) for email in sorted(seen.emails))
    return next((found for found in (*by_account, *by_email) if found is not None), None)


def _account(user: Mapping[str, Any], at: datetime) -> Account:
    said = user.get("status")
    status = said if isinstance(said, Mapping) else {}
    names = (user.get("open_id"), user.get("union_id"), user.get("user_id"), user.get("mobile"))
    emails = (user.get("email"), user.get("enterprise_email"))
    return Account(
        open_id=str(user.get("open_id") or ""),
        names=frozenset(str(name) for name in names if name),
        emails=frozenset(str(email).casefold() for email in emails if email),
        left=bool(status.get("is_resigned") or status.get("is_frozen") or status.get("is_exited")),
        seen_at=at,
        told=bool(status),
    )


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def _portions(emails: Sequence[str], mobiles: Sequence[str]) -> Iterable[tuple[Sequence[str], Sequence[str]]]:
    for some in _chunks(emails):
        yield some, ()
    for some in _chunks(mobiles):
        yield (), some
