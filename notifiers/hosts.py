"""Speaking to code hosts that take records from us: a limit is waited for, and a no is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any

import httpx

from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Card, Message

PATIENCE = 60.0
"""Seconds to wait after a limit that says no time."""
REMEMBERED = 2000
NOTHING = "-"
"""Stands for a message that has no place there."""


class Records(ABC):
    """What a code host is told; made for an outbox, which says each state once and in order."""

    def __init__(self, platform: str, http: httpx.AsyncClient) -> None:
        """http: brings the API's address and our credentials."""
        self.platform = platform
        self._http = http
        self._told: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        """Say how it stands; a repeat shows nothing twice. Raises as `ChatClient.post`."""
        card = message.card
        if card is None or "commit" not in card.about:
            return NOTHING
        ref = await self._first(place, card, key)
        self._remember(place, ref, card)
        return ref

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        """Say how it stands now, if that is another state there. Raises as `post`."""
        card = message.card
        if ref != NOTHING and card is not None and not self._is_told(place, ref, card):
            await self._again(place, ref, card)
            self._remember(place, ref, card)

    def _is_told(self, place: str, ref: str, card: Card) -> bool:
        return self._told.get((place, ref)) == self._state(card)

    def _remember(self, place: str, ref: str, card: Card) -> None:
        self._told[place, ref] = self._state(card)
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    @abstractmethod
    def _state(self, card: Card) -> str:
        """The host's word for the card's state, or one that stands for it."""

    @abstractmethod
    async def _first(self, place: str, card: Card, key: str) -> str:
        """Make the record, or find the one made before, and say how it stands; returns its id."""

    @abstractmethod
    async def _again(self, place: str, ref: str, card: Card) -> None:
        """Say how it stands now."""


async def ask(
    http: httpx.AsyncClient, host: str, method: str, path: str, refusal: ChatRejected, **more: Any
) -> httpx.Response:
    """The answer. host: its name for people; refusal: what a no means.

    Raises:
        ChatUnavailable: not reached, broken or limited; ask again.
        ChatRejected: `refusal`, with the number of the answer.
    """
    try:
        response = await http.request(method, path, **more)
    except httpx.HTTPError as error:
        raise ChatUnavailable(f"{host} did not answer ({type(error).__name__}).") from None
    limited = response.status_code == 429 or (
        response.status_code == 403
        and (response.headers.get("x-ratelimit-remaining") == "0" or "rate limit" in response.text.casefold())
    )
    if limited or response.status_code >= 500:
        raise ChatUnavailable(f"{host} answered {response.status_code}.", retry_after=_pause(response))
    if not response.is_success:
        raise ChatRejected(f"{refusal.message.removesuffix('.')} ({response.status_code}).", hint=refusal.hint)
    return response


def _pause(response: httpx.Response) -> float | None:
    seconds = response.headers.get("retry-after", "")
    if seconds.isdigit():
        return float(seconds)
    return None if response.status_code >= 500 else PATIENCE
