"""What a chat platform gives us (inbound) and must do for us (outbound), whatever its name.

Inbound, an adapter does two conversions and a call: it verifies, stores the intent through `Inbound`, and only
then answers its platform. Outbound, `ChatClient` posts and edits messages; `notifiers/` has one per platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bot.catalog.model import Catalog, Person


@dataclass(frozen=True, slots=True)
class IncomingCommand:
    """A text somebody typed to us.

    event_id: the platform's key for this event, by which a repeat is recognised. place: the platform's id of the
    channel or personal chat; personal: True for a chat with one person. thread: where to answer inside the place, may
    be empty.
    """

    platform: str
    event_id: str
    user_id: str
    place: str
    text: str
    personal: bool = False
    thread: str = ""
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class IncomingClick:
    """A button somebody pressed. message_ref: the platform's id of the message the button is on.

    private_place: where only that person reads why it did not work; empty if the platform answers clicks itself.
    """

    platform: str
    event_id: str
    user_id: str
    place: str
    message_ref: str
    button: str
    deployment: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    personal: bool = False
    private_place: str = ""


class Inbound(Protocol):
    """Where adapters hand over. Returns after the intent is stored; a repeat of an event id stores nothing."""

    async def command(self, incoming: IncomingCommand) -> bool:
        """Store a command. False: it was here before."""
        ...

    async def click(self, incoming: IncomingClick) -> bool:
        """Store a click. False: it was here before."""
        ...


class People(Protocol):
    """Who a platform's account is, for platforms that know more than the catalog: e-mail, guests, leavers."""

    async def person(self, catalog: Catalog, user_id: str) -> Person | None:
        """The active person, or None. Raises ProviderUnavailable: it cannot be told now, so nobody is let in."""
        ...


class ChatAdapter(Protocol):
    """The inbound side of one platform: started and stopped with the process."""

    platform: str

    async def start(self) -> None:
        """Begin to receive."""
        ...

    async def stop(self) -> None:
        """Stop receiving; what was accepted is stored."""
        ...


@dataclass(frozen=True, slots=True)
class ClickAnswer:
    """What became of a click, for platforms that can tell the person at once.

    status: as in HTTP: 202 taken, 403 not your right, 404 nothing there, 409 too late.
    error: one sentence, empty if taken.
    """

    accepted: bool
    status: int = 202
    error: str = ""


class ClickHandler(Protocol):
    """Decides a click before it is answered."""

    async def click(self, incoming: IncomingClick) -> ClickAnswer:
        """Do what the button says, or say why not; a repeat of an event id does nothing twice."""
        ...
