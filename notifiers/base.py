"""What a chat platform must do for us on the way out."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable

from bot.errors import ProviderRejected, ProviderUnavailable
from notifiers.card import Message


class ChatUnavailable(ProviderUnavailable):
    """Not delivered; the same message may be sent again. `retry_after`: seconds the platform asks us to wait."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """Keep the platform's wish, if it named one."""
        super().__init__(message)
        self.retry_after = retry_after


class ChatRejected(ProviderRejected):
    """Will never be delivered as it is: the place is gone or closed to us, or the message is malformed."""


class ChatClosed(ChatUnavailable):
    """The place is closed to us and somebody can open it: tried again later, and `advice` says what to do."""

    def __init__(self, message: str, advice: str, *, retry_after: float) -> None:
        """Keep what a person has to do."""
        super().__init__(message, retry_after=retry_after)
        self.advice = advice


class MessageGone(ChatRejected):
    """The posted message cannot be edited any more; a new one may be posted instead."""


class ChatClient(Protocol):
    """The outbound side of one platform."""

    platform: str

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        """Post once and return the platform's reference of the message.

        key: our key of this message; the same key again must not show a second message.

        Raises:
            ChatUnavailable: not delivered; retry with the same key.
            ChatRejected: never deliverable.
        """
        ...

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        """Replace the message's content. Raises as `post`."""
        ...


@runtime_checkable
class FindsPosted(Protocol):
    """A client whose platform cannot refuse a repeat, but can be searched for what an unanswered call left behind."""

    async def find(self, place: str, key: str, thread: str, since: datetime) -> str | None:
        """The reference of the message posted under `key` after `since` (aware UTC), or None. Raises as `post`."""
        ...


@runtime_checkable
class Paced(Protocol):
    """A client that knows when its platform takes no more for a while."""

    def hold(self, place: str, edit: bool) -> float:
        """Seconds until the next post to, or edit in, that place is taken; 0 for now."""
        ...
