"""GitHub's own view of what runs where: a deployment per deployment of ours, with a status for each state.

A "place" is `owner/repository`. Source: `@octokit/openapi` 23.0.2, `repos/create-deployment`; its defaults merge
branches and wait for checks, so both are said to be unwanted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import httpx

from notifiers.base import ChatRejected
from notifiers.card import Card, Message
from notifiers.hosts import ask

STATES: Mapping[str, str] = {
    "awaiting_approval": "queued",
    "queued": "queued",
    "building": "in_progress",
    "gating": "in_progress",
    "tagging": "in_progress",
    "writing": "in_progress",
    "syncing": "in_progress",
    "gray": "in_progress",
    "verifying": "in_progress",
    "cancelling": "in_progress",
    "rolling_back": "in_progress",
    "succeeded": "success",
    "failed": "failure",
    "rolled_back": "failure",
    "cancelled": "inactive",
    "superseded": "inactive",
    "expired": "inactive",
    "rejected": "inactive",
    "refused": "inactive",
}
"""Our state -> theirs. A word of a newer Slipway is `in_progress`."""
REMEMBERED = 2000
NOTHING = "-"
"""Stands for a message that GitHub has no place for."""


class GitHubClient:
    """Tells GitHub; made for an outbox, which says each state once and in order."""

    platform = "github"

    def __init__(self, http: httpx.AsyncClient) -> None:
        """http: brings the API's address and our credentials."""
        self._http = http
        self._told: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        """Make the deployment, or find the one made before, and say how it stands. Raises as `ChatClient.post`."""
        card = message.card
        if card is None or "commit" not in card.about:
            return NOTHING
        number = await self._find(place, card, key) or await self._create(place, card, key)
        await self._tell(place, number, card)
        return number

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        """Say how it stands now, if that is another state for GitHub. Raises as `post`."""
        if ref != NOTHING and message.card is not None:
            await self._tell(place, ref, message.card)

    async def _find(self, place: str, card: Card, key: str) -> str:
        """There is no key that GitHub would refuse twice; ours is in the payload."""
        about = {"sha": card.about["commit"], "environment": card.about["environment"], "per_page": "100"}
        found = await self._ask("GET", place, "deployments", params=about)
        for one in found:
            payload = one.get("payload")
            if isinstance(payload, Mapping) and payload.get("slipway") == key:
                return str(one["id"])
        return ""

    async def _create(self, place: str, card: Card, key: str) -> str:
        body = {
            "ref": card.about["commit"],
            "environment": card.about["environment"],
            "description": f"{card.deployment}: {card.about.get('version', '')}"[:140],
            "auto_merge": False,
            "required_contexts": [],
            "payload": {"slipway": key},
        }
        return str((await self._ask("POST", place, "deployments", json=body))["id"])

    async def _tell(self, place: str, number: str, card: Card) -> None:
        state = STATES.get(card.state, "in_progress")
        if self._told.get((place, number)) == state:
            return
        body = {"state": state, "description": card.title[:140]}
        links = {"log_url": card.about.get("pipeline", ""), "environment_url": card.about.get("url", "")}
        body |= {name: url for name, url in links.items() if url.startswith(("https://", "http://"))}
        await self._ask("POST", place, f"deployments/{number}/statuses", json=body)
        self._told[place, number] = state
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    async def _ask(self, method: str, place: str, what: str, **more: Any) -> Any:
        hint = "Give Slipway's account the right to write deployments there, or correct `channels.github`."
        no = ChatRejected(f"GitHub takes no deployments of {place}.", hint=hint)
        return (await ask(self._http, "GitHub", method, f"repos/{place}/{what}", no, **more)).json()
