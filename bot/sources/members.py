"""Groups whose members another system knows: teams of GitHub, groups and projects of GitLab, an on-call schedule.

What is not confirmed for a while counts no longer: then nobody is in the group. Source: GitHub REST `GET
/orgs/{org}/teams/{slug}/members`; GitLab REST v4 `GET /groups/:id/members/all` and `/projects/:id/members/all`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import structlog

from bot.catalog.groups import Members, with_members
from bot.catalog.model import Catalog
from bot.clock import Clock
from bot.errors import ProviderError, ProviderRejected

if TYPE_CHECKING:
    from bot.pipelines.http import Http

log = structlog.get_logger(__name__)

PAGE = 100
MOST_PAGES = 50
LEVELS = {"guest": 10, "planner": 15, "reporter": 20, "developer": 30, "maintainer": 40, "owner": 50}
"""Access levels of GitLab."""


class Roster(Protocol):
    """A system that knows who is in what. believed: how long what it said counts without being confirmed."""

    believed: timedelta

    async def members(self, name: str) -> Sequence[str]:
        """The accounts in it. Raises ProviderError: it cannot be told."""
        ...


class GitHubTeams:
    """`organization/team` -> logins."""

    believed = timedelta(hours=1)

    def __init__(self, http: Http) -> None:
        """http: of the API, with credentials that may read members."""
        self._http = http

    async def members(self, name: str) -> Sequence[str]:
        """Members of the team and of those below it."""
        organization, slash, team = name.strip("/").partition("/")
        if not slash or not team or "/" in team:
            raise ProviderRejected(f"'{name}' is no GitHub team.", hint="Write organization/team.")
        path = f"orgs/{quote(organization, safe='')}/teams/{quote(team, safe='')}/members"
        found: list[str] = []
        for page in range(1, MOST_PAGES + 1):
            users = await self._http.get_json(path, {"per_page": PAGE, "page": page})
            if users is None:
                raise ProviderRejected(f"GitHub has no team {name}, or Slipway's account may not see it.")
            found += [str(user["login"]) for user in users]
            if len(users) < PAGE:
                break
        return found


class GitLabMembers:
    """`group`, `group/project`, with `:developer` behind it to let in lower levels than maintainer -> user names."""

    believed = timedelta(hours=1)

    def __init__(self, http: Http) -> None:
        """http: of the API, with a token that may read members."""
        self._http = http

    async def members(self, name: str) -> Sequence[str]:
        """Active members of that level and above, inherited ones too."""
        place, _, word = name.strip("/").partition(":")
        least = LEVELS.get(word or "maintainer")
        if least is None:
            raise ProviderRejected(f"'{word}' is no level of GitLab.", hint=f"There are {', '.join(LEVELS)}.")
        for kind in ("groups", "projects"):
            users = await self._all(f"{kind}/{quote(place, safe='')}/members/all")
            if users is not None:
                return [
                    str(user["username"])
                    for user in users
                    if int(user.get("access_level") or 0) >= least and user.get("state", "active") == "active"
                ]
        raise ProviderRejected(f"GitLab has neither a group nor a project {place} that Slipway's account may see.")

    async def _all(self, path: str) -> list[Mapping[str, Any]] | None:
        found: list[Mapping[str, Any]] = []
        for page in range(1, MOST_PAGES + 1):
            users = await self._http.get_json(path, {"per_page": PAGE, "page": page})
            if users is None:
                return None
            found += users
            if len(users) < PAGE:
                break
        return found


class OnCall:
    """A path below the address of the on-call system -> who is on call now, by id or e-mail.

    Understood are a list, or one under `people`, `users`, `oncalls`, `participants` or `data`, of texts or of things
    with an `email`, `username`, `login`, `name` or `id`, or a `user` that has one.
    """

    believed = timedelta(minutes=10)

    def __init__(self, http: Http) -> None:
        """http: of the on-call system, with its credentials."""
        self._http = http

    async def members(self, name: str) -> Sequence[str]:
        """Who is on call now."""
        body = await self._http.get_json(name.lstrip("/"))
        if body is None:
            raise ProviderRejected(f"The on-call system has no {name}.")
        return list(dict.fromkeys(_people_in(body)))


def _people_in(body: Any) -> Iterator[str]:
    if isinstance(body, Mapping):
        lists = [body[key] for key in ("people", "users", "oncalls", "participants", "data") if key in body]
        body = next((one for one in lists if isinstance(one, list)), lists[0] if lists else [])
        if isinstance(body, Mapping):
            yield from _people_in(body)
            return
    for one in body if isinstance(body, list) else ():
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            who = one.get("user") if isinstance(one.get("user"), Mapping) else one
            keys = ("email", "username", "login", "name", "id")
            said = next((str(who[key]) for key in keys if who.get(key)), "") if isinstance(who, Mapping) else ""
            if said:
                yield said


@dataclass(frozen=True, slots=True)
class Roll:
    """Who was in it, and when that was read."""

    accounts: tuple[str, ...]
    at: datetime


class Memberships:
    """Members as they were read last; nobody before the first reading, nor after too long without one."""

    def __init__(self, rosters: Mapping[str, Roster], clock: Clock) -> None:
        """rosters: by the name they have in the catalog's groups: github, gitlab, oncall."""
        self._rosters = dict(rosters)
        self._clock = clock
        self._rolls: dict[tuple[str, str], Roll] = {}
        self.problems: dict[tuple[str, str], str] = {}
        """Why one could not be read last."""
        self._made: tuple[Catalog, object, Catalog] | None = None
        self._wanted: tuple[Catalog | None, Mapping[str, Mapping[str, Sequence[str]]]] = (None, {})

    async def refresh(self, catalog: Catalog, only: str = "") -> None:
        """Read everybody named in the catalog, of one system if named; each by itself, what fails is noted."""
        wanted = {
            (system, name)
            for group in catalog.groups.values()
            for system, names in group.sources.items()
            for name in names
        }
        self._rolls = {key: roll for key, roll in self._rolls.items() if key in wanted}
        for system, name in sorted(wanted):
            if not only or system == only:
                await self._read(system, name)

    async def _read(self, system: str, name: str) -> None:
        roster = self._rosters.get(system)
        if roster is None:
            self.problems[system, name] = f"{system} is not set up here"
            return
        try:
            found = await roster.members(name)
        except (ProviderError, KeyError, TypeError, ValueError) as error:
            said = error.message if isinstance(error, ProviderError) else f"{system} answered something unexpected"
            self.problems[system, name] = said
            log.warning("members_not_read", system=system, group=name, error=said)
        else:
            self.problems.pop((system, name), None)
            self._rolls[system, name] = Roll(tuple(found), self._clock())

    def complete(self, catalog: Catalog) -> Catalog:
        """The catalog with the members that the systems tell."""
        if self._wanted[0] is not catalog:  # Everybody asks for the catalog all the time, and it hardly ever changes.
            self._wanted = (catalog, {one.name: one.sources for one in catalog.groups.values() if one.sources})
        wanted = self._wanted[1]
        if not wanted:
            return catalog
        good = self._good()
        made = self._made
        if made is None or made[0] is not catalog or made[1] != good:
            told = {name for name, places in wanted.items() if all((s, n) in good for s in places for n in places[s])}
            full = with_members(catalog, _members(catalog, good))
            made = self._made = (catalog, good, replace(full, untold=full.untold | (wanted.keys() - told)))
        return made[2]

    def _good(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """What may still be believed."""
        at = self._clock()
        return {
            (system, name): roll.accounts
            for (system, name), roll in self._rolls.items()
            if at - roll.at <= self._rosters[system].believed
        }


def _members(catalog: Catalog, good: Mapping[tuple[str, str], Sequence[str]]) -> Members:
    found: dict[str, tuple[str, ...]] = {}
    for group in catalog.groups.values():
        people = [
            person
            for system, names in group.sources.items()
            for name in names
            for account in good.get((system, name), ())
            if (person := _person(catalog, system, account))
        ]
        if people:
            found[group.name] = tuple(dict.fromkeys(people))
    return found


def _person(catalog: Catalog, system: str, account: str) -> str:
    """The active person of the catalog with that account; of an on-call system, by id or e-mail; empty: nobody."""
    known = catalog.person_by_chat(system, account) or catalog.person_by_chat(system, account.casefold())
    if known is None and system == "oncall":
        known = catalog.person_by_email(account) or catalog.people.get(account)
    return known.id if known is not None and known.active else ""
