"""GitHub's own view of what runs where: a deployment per deployment of ours, with a status for each state.

A "place" is `owner/repository`. Source: `@octokit/openapi` 23.0.2, `repos/create-deployment`; its defaults merge
branches and wait for checks, so both are said to be unwanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from notifiers.base import ChatRejected
from notifiers.card import Card
from notifiers.hosts import Records, ask

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


class GitHubClient(Records):
    """Tells GitHub of deployments."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """http: brings the API's address and our credentials."""
        super().__init__("github", http)

    def _state(self, card: Card) -> str:
        return STATES.get(card.state, "in_progress")

    async def _first(self, place: str, card: Card, key: str) -> str:
        number = await self._find(place, card, key) or await self._create(place, card, key)
        if not self._is_told(place, number, card):
            await self._again(place, number, card)
        return number

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

    async def _again(self, place: str, ref: str, card: Card) -> None:
        body = {"state": self._state(card), "description": card.title[:140]}
        links = {"log_url": card.about.get("pipeline", ""), "environment_url": card.about.get("url", "")}
        body |= {name: url for name, url in links.items() if url.startswith(("https://", "http://"))}
        await self._ask("POST", place, f"deployments/{ref}/statuses", json=body)

    async def _ask(self, method: str, place: str, what: str, **more: Any) -> Any:
        hint = "Give Slipway's account the right to write deployments there, or correct `channels.github`."
        no = ChatRejected(f"GitHub takes no deployments of {place}.", hint=hint)
        return (await ask(self._http, "GitHub", method, f"repos/{place}/{what}", no, **more)).json()
