"""The App Home tab: what waits for me, what I own, and what of it runs where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bot.catalog.model import Catalog, Person, Service
from bot.chat.base import People
from bot.deployments.model import Deployment, State
from bot.policy.approvals import eligible
from bot.store import deployments as rows
from bot.store.database import Database, Tx
from notifiers.slack_api import SlackApi
from notifiers.slack_blocks import cut

MAX_SERVICES = 25
MAX_LINES = 40
UNKNOWN = "I do not know you: ask an administrator to add you to people.yaml."


class Home:
    """Publishes the tab of whoever opens it."""

    def __init__(self, api: SlackApi, db: Database, catalog: Callable[[], Catalog], people: People) -> None:
        """Take what it reads from, and the way to Slack."""
        self._api = api
        self._db = db
        self._catalog = catalog
        self._people = people

    async def publish(self, team: str, user: str) -> None:
        """Bring the tab of a user up to date. Raises ProviderError."""
        catalog = self._catalog()
        account = user if team == self._api.primary else f"{team}:{user}"
        person = await self._people.person(catalog, account)
        lines = [UNKNOWN] if person is None else await self._db.read(lambda tx: list(_lines(tx, catalog, person)))
        view = {"type": "home", "blocks": [_block(line) for line in lines[:MAX_LINES]]}
        await self._api.call("views.publish", team, user_id=user, view=view)


def _lines(tx: Tx, catalog: Catalog, person: Person) -> Iterator[str]:
    """Plain lines; those that start with `#` are headings."""
    running = rows.open_for(tx)
    waiting = [one for one in running if _waits_for(catalog, one, person)]
    yield "#Waits for me"
    yield from [_said(one) for one in waiting] or ["Nothing."]
    mine = [one for one in running if one.requested_by == person.id]
    yield "#On its way"
    yield from [_said(one) for one in mine] or ["Nothing of mine."]
    yield "#My services"
    owned = [one for one in catalog.services.values() if person.id in one.owners]
    yield from [_runs(tx, one) for one in owned[:MAX_SERVICES]] or ["None: the catalog names me as no owner."]
    if len(owned) > MAX_SERVICES:
        yield f"and {len(owned) - MAX_SERVICES} more; type /status."


def _waits_for(catalog: Catalog, deployment: Deployment, person: Person) -> bool:
    emergency, service = deployment.data.emergency, catalog.services.get(deployment.service)
    if deployment.state is not State.AWAITING_APPROVAL or emergency is None or service is None:
        return False
    rule = next((one for one in catalog.emergency if one.name == emergency.rule), None)
    return rule is not None and person.id != deployment.requested_by and person.id in eligible(catalog, rule, service)


def _said(one: Deployment) -> str:
    state = one.state.value.replace("_", " ")
    return f"{one.ref}  {one.service} {one.release_version} to {one.environment}: {state}"


def _runs(tx: Tx, service: Service) -> str:
    parts: list[str] = []
    for environment in service.targets:
        good = rows.last_good(tx, service.name, environment)
        parts.append(f"{environment} {good.release_version if good is not None else '–'}")
    return f"{service.name}: {', '.join(parts)}"


def _block(line: str) -> dict[str, Any]:
    if line.startswith("#"):
        return {"type": "header", "text": {"type": "plain_text", "text": line[1:], "emoji": False}}
    return {"type": "section", "text": {"type": "plain_text", "text": cut(line, 2_900), "emoji": False}}
