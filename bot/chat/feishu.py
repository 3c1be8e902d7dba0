"""The inbound side of Feishu and Lark: verify, convert, store, and only then answer.

The same events come by webhook (`/feishu/events`, encrypted and signed) or by the long connection; `take` serves both.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bot.catalog.model import Catalog
from bot.chat import feishu_wire as wire
from bot.chat.base import ClickAnswer, ClickHandler, Inbound, IncomingClick
from bot.chat.feishu_people import FeishuPeople
from bot.errors import ProviderError, ProviderUnavailable
from notifiers.card import Message
from notifiers.feishu import FeishuClient
from notifiers.feishu_api import FeishuApi
from notifiers.language import CHINESE, Reader, messages_of, say

if TYPE_CHECKING:
    from bot.chat.feishu_socket import LongConnection

log = structlog.get_logger(__name__)

PATH = "/feishu/events"
MAX_BODY = 1_000_000
START_PATIENCE = 3.0
"""Seconds the start waits for Feishu; after that it goes on in the background."""
CLICK_PATIENCE = 2.0
"""Seconds until a click is answered although it is still worked on: the client shows an error after 3 s."""
REFRESH_AFTER = 1.0
"""Seconds that changes of people and departments are gathered before all are read again."""
NOT_STORED = "Slipway could not take that down. Press again in a moment."
TAKEN = "Taken. The card shows what comes of it."
DONE = "Done."


class FeishuAdapter:
    """Receives messages, clicks and changes of people."""

    platform = wire.PLATFORM

    def __init__(
        self,
        inbound: Inbound,
        clicks: ClickHandler,
        api: FeishuApi,
        client: FeishuClient,
        people: FeishuPeople,
        catalog: Callable[[], Catalog],
        *,
        keys: wire.Keys | None,
        long_connection: bool = False,
        commands: Sequence[tuple[str, str]] = (),
        now: Callable[[], float] = time.time,
        patience: float = CLICK_PATIENCE,
    ) -> None:
        """keys: for the webhook, none without one; catalog: as it was read; now: Unix seconds.

        long_connection: receive that way; the webhook, if it has keys, stays open beside it. commands: name and summary
        of what may be typed. patience: seconds until a click is answered although it is not decided.
        """
        self._inbound = inbound
        self._clicks = clicks
        self._api = api
        self._client = client
        self._people = people
        self._catalog = catalog
        self._keys = keys
        self._commands = tuple(commands)
        self._now = now
        self._patience = patience
        self._tasks: set[asyncio.Task[Any]] = set()
        self._refreshing = False
        self._connection = self._long_connection() if long_connection else None

    def _long_connection(self) -> LongConnection:
        from bot.chat.feishu_socket import LongConnection

        return LongConnection(self._api, self._take_unsigned)

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Ask Feishu who we are; while it is not reached, keep trying in the background."""
        try:
            async with asyncio.timeout(START_PATIENCE):
                await self._api.open()
        except (ProviderError, TimeoutError) as error:
            log.warning("feishu_not_reached", error=str(error))
            self._later(self._reaching())
            return
        self._reached()

    def _reached(self) -> None:
        self._later(self.refresh())
        self._later(self._show_commands())
        if self._connection is not None:
            self._connection.start()

    async def stop(self) -> None:
        """Take nothing new; what was accepted is stored."""
        if self._connection is not None:
            await self._connection.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def problem(self) -> str:
        """Why we receive or send nothing now; empty while all is well."""
        if self._api.refused:
            return self._api.refused
        if not self._api.bot:
            return "Feishu was not reached yet"
        closed = self._connection is not None and not self._connection.is_open
        return "the long connection to Feishu is not open" if closed else ""

    async def refresh(self) -> None:
        """Look people up again; for the schedule."""
        try:
            await self._people.refresh(self._catalog())
        except ProviderError as error:
            log.warning("feishu_people_not_read", error=error.message)

    def refresh_soon(self) -> None:
        """Look people and groups up again, once for many wishes: a reorganisation changes hundreds at a time."""
        if not self._refreshing:
            self._refreshing = True
            self._later(self._refreshed())

    async def _refreshed(self) -> None:
        await asyncio.sleep(REFRESH_AFTER)
        self._refreshing = False
        await self.refresh()

    async def _show_commands(self) -> None:
        from bot.chat.feishu_panel import update_panel

        # Before anybody is answered: the sentences of a language are read once, and not while somebody waits.
        await asyncio.to_thread(messages_of, CHINESE)
        try:
            changed = await update_panel(self._api, self._commands)
        except ProviderError as error:
            log.info("feishu_panel_not_updated", error=error.message)
        else:
            log.info("feishu_panel_updated", changed=changed)

    async def _reaching(self) -> None:
        pause = 1.0
        while not self._api.bot:
            await asyncio.sleep(pause)
            pause = min(60.0, pause * 2)
            try:
                await self._api.open()
            except ProviderError as error:
                log.warning("feishu_not_reached", error=error.message)
        self._reached()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- the webhook -------------------------------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """The one address for events and callbacks; none without keys."""
        return [Route(PATH, _Endpoint(self), methods=["POST"])] if self._keys is not None else []

    async def receive(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """One HTTP request: status and body of the answer. headers: lower-case names."""
        if self._keys is None:
            return 404, {}
        try:
            event = wire.open_event(headers, body, self._keys, self._now())
        except wire.NotGenuine as error:
            # One answer for every reason, so that nothing can be learned by trying.
            log.warning("feishu_request_not_genuine", reason=str(error), size=len(body))
            return 401, {}
        if event.get("type") == "url_verification":
            return 200, {"challenge": str(event.get("challenge") or "")}
        try:
            return 200, await self.take(event)
        except ProviderError as error:
            log.error("feishu_event_not_stored", error=error.message)
            return 503, {}

    async def _take_unsigned(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """An event of the long connection: proven by the app's secret when it was opened, and by the token if known."""
        if self._keys is not None and not wire.same(wire.token_of(event), self._keys.verification_token):
            log.warning("feishu_request_not_genuine", reason="token")
            return {}
        return await self.take(event)

    # -- what both ways bring ----------------------------------------------------------------------------------------

    async def take(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """One genuine event; what to answer it with. Raises ProviderError: not stored, so it must come again."""
        try:
            kind = wire.kind_of(event)
            if kind == "card.action.trigger":
                return await self._click(wire.click(event))
            await self._other(kind, event)
        except (KeyError, TypeError, AttributeError) as error:
            # Repeating it would not make it readable.
            log.warning("feishu_event_not_understood", error=type(error).__name__)
        return {}

    async def _other(self, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "im.message.receive_v1":
            await self._message(event)
        elif kind == "application.bot.menu_v6":
            said = wire.menu(event)
            if said is not None:
                await self._inbound.command(said)
        elif kind in ("contact.user.updated_v3", "contact.user.deleted_v3"):
            self._people.changed(event["event"]["object"], gone=kind.endswith("deleted_v3"))
            self.refresh_soon()
        elif kind == "contact.scope.updated_v3" or kind.startswith("contact.department."):
            self.refresh_soon()

    async def _message(self, event: Mapping[str, Any]) -> None:
        if not self._api.bot:
            # Without our own id nobody can say whether this is for us.
            raise ProviderUnavailable("Feishu was not reached since the start.")
        said = wire.command(event, self._api.bot)
        if said is not None:
            await self._inbound.command(said)

    async def _click(self, pressed: IncomingClick | None) -> dict[str, Any]:
        if pressed is None:
            return {}
        working = asyncio.create_task(self._decided(pressed))
        self._tasks.add(working)
        working.add_done_callback(self._tasks.discard)
        done, _ = await asyncio.wait({working}, timeout=self._patience)
        if not done:
            working.add_done_callback(lambda task: self._tell_late(pressed, task))
            return _toast(True, TAKEN)
        answer = working.result()
        return _toast(True, DONE) if answer.accepted else _toast(False, answer.error)

    async def _decided(self, pressed: IncomingClick) -> ClickAnswer:
        try:
            return await self._clicks.click(pressed)
        except ProviderError as error:
            log.error("feishu_click_not_stored", error=error.message)
            return ClickAnswer(False, 503, NOT_STORED)

    def _tell_late(self, pressed: IncomingClick, task: asyncio.Task[ClickAnswer]) -> None:
        """The toast was given away, so a refusal goes to the person."""
        if task.cancelled() or task.exception() is not None or task.result().accepted:
            return
        answer = task.result()
        self._later(self._whisper(pressed, answer.error))

    async def _whisper(self, pressed: IncomingClick, sentence: str) -> None:
        try:
            await self._client.post(f"@{pressed.user_id}", Message(sentence), f"late:{pressed.event_id}")
        except ProviderError as error:
            log.warning("feishu_whisper_not_sent", error=error.message)


def _toast(accepted: bool, sentence: str) -> dict[str, Any]:
    """In both languages: the client chooses."""
    return wire.toast(accepted, sentence, say(sentence, Reader(CHINESE)))


class _Endpoint:
    """The address as bare ASGI: it is called for everything Feishu says."""

    def __init__(self, adapter: FeishuAdapter) -> None:
        self._adapter = adapter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = await _whole_body(receive)
        status, answer = (413, {}) if body is None else await self._adapter.receive(headers, body)
        said = json.dumps(answer, ensure_ascii=False).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": said})


async def _whole_body(receive: Receive) -> bytes | None:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)
