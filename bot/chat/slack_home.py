"""The App Home tab: what waits for me, what I own, and what of it runs where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from bot.catalog.model import Catalog, Person, Service
from bot.chat.base import People
from bot.clock import Clock
from bot.deployments.facts import permission_for
from bot.deployments.model import Deployment, State
from bot.deployments.questions import question_of
from bot.errors import Refused
from bot.policy.permissions import has_permission
from bot.store import deployments as rows
from bot.store.database import Database, Tx
from notifiers.slack import Say, as_it_is
from notifiers.slack_api import SlackApi
from notifiers.slack_blocks import MAX_HEADER, cut

MAX_SERVICES = 25
MAX_LINES = 90
"""Slack takes a hundred blocks."""
UNKNOWN = "I do not know you: ask an administrator to add you to people.yaml."


class Home:
    """Publishes the tab of whoever opens it."""

    def __init__(
        self,
        api: SlackApi,
        db: Database,
        catalog: Callable[[], Catalog],
        people: People,
        clock: Clock,
        say: Say = as_it_is,
    ) -> None:
        """Take what it reads from, and the way to Slack."""
        self._api = api
        self._db = db
        self._catalog = catalog
        self._people = people
        self._clock = clock
        self._say = say

    async def publish(self, team: str, user: str) -> None:
        """Bring the tab of a user up to date. Raises ProviderError."""
        catalog, at = self._catalog(), self._clock()
        account = user if team == self._api.primary else f"{team}:{user}"
        person = await self._people.person(catalog, account)
        lines = [UNKNOWN] if person is None else await self._db.read(lambda tx: list(_lines(tx, catalog, person, at)))
        blocks = [_block(line, self._say(f"@{account}", line.lstrip("#"))) for line in lines[:MAX_LINES]]
        await self._api.call("views.publish", team, user_id=user, view={"type": "home", "blocks": blocks})


def _lines(tx: Tx, catalog: Catalog, person: Person, at: datetime) -> Iterator[str]:
    """Plain lines; those that start with `#` are headings."""
    running = rows.open_for(tx)
    yield "#Waits for me"
    yield from [_said(one) for one in running if _waits_for(tx, catalog, one, person, at)] or ["Nothing."]
    yield "#On its way"
    yield from [_said(one) for one in running if one.requested_by == person.id] or ["Nothing of mine."]
    yield "#My services"
    owned = [one for one in catalog.services.values() if _owns(catalog, person, one)]
    yield from [_runs(tx, one) for one in owned[:MAX_SERVICES]] or ["None: the catalog names me as no owner."]
    if len(owned) > MAX_SERVICES:
        yield f"And {len(owned) - MAX_SERVICES} more: type /status."


def _owns(catalog: Catalog, person: Person, service: Service) -> bool:
    team = catalog.teams.get(service.team)
    return person.id in service.owners or (team is not None and person.id in team.leads)


def _waits_for(tx: Tx, catalog: Catalog, deployment: Deployment, person: Person, at: datetime) -> bool:
    """Whether it stands still until somebody decides, and this person may and has not."""
    service = catalog.services.get(deployment.service)
    if service is None:
        return False
    if deployment.state is State.GRAY:
        return has_permission(catalog, person.id, permission_for(deployment.kind), service.name, deployment.environment)
    if deployment.state is not State.AWAITING_APPROVAL or deployment.data.emergency is None:
        return False
    try:
        asked = question_of(catalog, deployment, service, at).people()
    except Refused:
        return False
    return person.id in asked and all(vote.person != person.id for vote in rows.votes_of(tx, deployment.id))


def _said(one: Deployment) -> str:
    state = one.state.value.replace("_", " ")
    return f"{one.ref}: {one.service} {one.release_version} to {one.environment}, {state}."


def _runs(tx: Tx, service: Service) -> str:
    parts: list[str] = []
    for environment in service.targets:
        good = rows.last_good(tx, service.name, environment)
        parts.append(f"{environment} {good.release_version if good is not None else '–'}")
    return f"{service.name}: {', '.join(parts)}"


def _block(line: str, shown: str) -> dict[str, Any]:
    if line.startswith("#"):
        return {"type": "header", "text": {"type": "plain_text", "text": cut(shown, MAX_HEADER), "emoji": False}}
    return {"type": "section", "text": {"type": "plain_text", "text": cut(shown, 2_900), "emoji": False}}
