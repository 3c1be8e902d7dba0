"""Pushes and merge requests are stored before the answer, as commands are: a slow repository or a crash loses none.

Most are done before the answer, which then says what came of it; of the others the answer says that they were taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

from bot.deployments.hooked import GateHint, Hooked, Push, RunHint
from bot.deployments.merge_checks import MergeRequest
from bot.dispatch import Answer, Dispatcher
from bot.store.inbox import InboxRow

KIND, PROPOSED = "push", "merge_request"
PLATFORM = "hook"
ANSWERED_WITHIN = 4.0
"""Seconds: senders give up after ten, and some never try again."""


class StoredPushes:
    """A `Hooked` in front of another one."""

    def __init__(self, events: Hooked, dispatcher: Dispatcher, wait: float = ANSWERED_WITHIN) -> None:
        """wait: seconds after which the sender is answered anyhow."""
        self._events = events
        self._dispatcher = dispatcher
        self._wait = wait
        dispatcher.also(KIND, self.do)
        dispatcher.also(PROPOSED, self.do_proposed)

    async def run_changed(self, hint: RunHint) -> bool:
        """A hint costs a look and is made up for by the next one: it need not be stored."""
        return await self._events.run_changed(hint)

    async def gate_changed(self, hint: GateHint) -> bool:
        """As `run_changed`."""
        return await self._events.gate_changed(hint)

    async def pushed(self, push: Push) -> Sequence[str]:
        """Store it, do it, and say what came of it if that is soon. Raises DatabaseUnavailable: it was not stored."""
        return await self._stored(push.provider, push.event_id or f"{push.repo}:{push.what}:{push.commit}", KIND, push)

    async def proposed(self, change: MergeRequest) -> Sequence[str]:
        """As `pushed`."""
        state = "open" if change.is_open else "closed"
        own = change.event_id or f"{change.repo}:{change.what}:{change.commit}:{state}:{change.is_draft}"
        return await self._stored(change.provider, own, PROPOSED, change)

    async def _stored(self, provider: str, own: str, kind: str, event: Push | MergeRequest) -> Sequence[str]:
        task = await self._dispatcher.hand_in(PLATFORM, f"{provider}:{own}"[:255], kind, asdict(event))
        if task is None:
            return ["seen before"]
        await asyncio.wait([task], timeout=self._wait)
        if not task.done() or task.cancelled() or task.exception() is not None:
            return ["taken; what comes of it is in the audit log"]
        return [line for line in task.result().text.split("\n") if line]

    async def do(self, row: InboxRow) -> Answer:
        """What a stored push does. Raises as `Events.pushed`."""
        push = Push(**{**row.payload, "files": tuple(row.payload["files"])})
        return Answer("accepted", "\n".join(await self._events.pushed(push)))

    async def do_proposed(self, row: InboxRow) -> Answer:
        """As `do`."""
        return Answer("accepted", "\n".join(await self._events.proposed(MergeRequest(**row.payload))))
