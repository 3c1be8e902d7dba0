"""A chat platform in memory, with faults: it is slow, it is down, it loses its answer, it refuses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Message


@dataclass
class FakeChat:
    """Posts are idempotent by key, as a platform's client has to be."""

    platform: str = "console"
    shown: dict[str, list[str]] = field(default_factory=dict)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    down: int = 0
    lose_answers: int = 0
    refuse: set[str] = field(default_factory=set)
    retry_after: float | None = None
    slow: asyncio.Event | None = None
    _refs: dict[str, str] = field(default_factory=dict)
    _at: dict[str, tuple[str, int]] = field(default_factory=dict)

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        await self._fault(place, "post", message)
        if key not in self._refs:
            self.shown.setdefault(place, []).append(message.text)
            self._refs[key] = f"r{len(self._refs)}"
            self._at[self._refs[key]] = (place, len(self.shown[place]) - 1)
        if self.lose_answers:
            self.lose_answers -= 1
            raise ChatUnavailable("the answer was lost")
        return self._refs[key]

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        await self._fault(place, "edit", message)
        where, index = self._at[ref]
        self.shown[where][index] = message.text

    async def _fault(self, place: str, what: str, message: Message) -> None:
        self.calls.append((what, place, message.text))
        if self.slow is not None:
            await self.slow.wait()
        if place in self.refuse:
            raise ChatRejected(f"{place} is closed to us")
        if self.down:
            self.down -= 1
            raise ChatUnavailable("it is down", retry_after=self.retry_after)


@dataclass
class ForgetfulChat(FakeChat):
    """As Slack: a repeat of a key is a second message; what was posted can be searched for, unless it is `blind`."""

    posted: dict[str, str] = field(default_factory=dict)
    blind: int = 0
    stumbles: int = 0

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        await self._fault(place, "post", message)
        self.shown.setdefault(place, []).append(message.text)
        ref = f"r{len(self._at)}"
        self._at[ref] = (place, len(self.shown[place]) - 1)
        self.posted[key] = ref
        if self.stumbles:
            self.stumbles -= 1
            raise RuntimeError("a defect behind the posting")
        return ref

    async def find(self, place: str, key: str, thread: str, since: datetime) -> str | None:
        if self.blind:
            self.blind -= 1
            raise ChatUnavailable("it does not search now")
        return self.posted.get(key)
