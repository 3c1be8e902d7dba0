"""The inbound side of Slack, over HTTP and Socket Mode: verify, convert, store, and only then acknowledge.

We check the signature on the raw bytes and parse the body ourselves; Bolt dispatches what is no slash command (see
`slack_bolt_app.py`) and is loaded when the first of these comes.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from pydantic import SecretStr
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bot.chat import slack_wire as wire
from bot.chat.base import Inbound
from bot.chat.slack_people import SlackPeople
from bot.errors import ProviderError
from notifiers.base import ChatRejected
from notifiers.slack import SlackClient
from notifiers.slack_api import SlackApi
from notifiers.slack_blocks import BACK, escape, form

if TYPE_CHECKING:
    from bot.chat.slack_bolt_app import BoltApp
    from bot.chat.slack_socket import SlackSocket

log = structlog.get_logger(__name__)

PATH = "/slack/events"
MAX_BODY = 1_000_000
START_PATIENCE = 3.0
"""Seconds the start waits for Slack; after that it goes on in the background."""
NAMES_PATIENCE = 1.5
"""Seconds an acknowledgement waits for the channels' names, once, after the start."""
TOKENS = {
    "SLACK_BOT_TOKEN": "Put the bot token of the installed app (xoxb-) there and start again.",
    "SLACK_MORE_BOT_TOKENS": "Each must be the bot token (xoxb-) of an installed app; correct them and start again.",
    "SLACK_APP_TOKEN": "Put an app-level token with the scope connections:write (xapp-) there and start again.",
}
NOT_STORED = "Slipway could not take that down, so nothing was done. Try again in a moment."
NOT_OPENED = "The form could not be opened in time. Press the button again."
SAY_WHY = "Please say why, in a few words."
NOT_CONNECTED = "This workspace is not connected to Slipway. Ask an administrator to add its token."


@dataclass(frozen=True, slots=True)
class Answered:
    """What Slack is answered: an HTTP status and a body; through a socket, the body goes with the acknowledgement."""

    status: int = 200
    body: str = ""
    kind: str = "text/plain"


class Ack(Protocol):
    """How a listener acknowledges, as Bolt has it."""

    response: Any

    async def __call__(self, **body: Any) -> Any:
        """Acknowledge, with a body or without."""
        ...


class HomeTab(Protocol):
    """What shows a person's App Home."""

    async def publish(self, team: str, user: str) -> None:
        """Bring the tab of a user up to date. Raises ProviderError."""
        ...


class SlackAdapter:
    """Receives commands, clicks and events of every workspace."""

    platform = "slack"

    def __init__(
        self,
        inbound: Inbound,
        api: SlackApi,
        client: SlackClient,
        people: SlackPeople,
        *,
        signing_secret: SecretStr | None = None,
        app_token: SecretStr | None = None,
        home: HomeTab | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """signing_secret: for HTTP; app_token: its presence chooses Socket Mode; now: Unix seconds."""
        self._inbound = inbound
        self._api = api
        self._client = client
        self._people = people
        self._secret = signing_secret
        self._app_token = app_token
        self._socket: SlackSocket | None = None
        self._home = home
        self._now = now
        self._tasks: set[asyncio.Task[Any]] = set()
        self._first_look: asyncio.Task[None] | None = None
        self._bolt: BoltApp | None = None
        self._loading = asyncio.Lock()

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Ask Slack who we are and begin to receive; while Slack is not reached, keep trying in the background.

        Raises:
            ChatRejected: a token is refused; nothing was started.
        """
        if self._app_token is not None:
            from bot.chat.slack_socket import SlackSocket

            self._socket = SlackSocket(self._api, self._app_token, self._dispatched)
        try:
            async with asyncio.timeout(START_PATIENCE):
                await self._api.open()
                if self._socket is not None:
                    await self._socket.check()
        except (ProviderError, TimeoutError) as error:
            wrong = next(((name, why) for name, why in self._api.refusals.items() if name in TOKENS), None)
            if wrong is not None:
                await self._api.close()
                name, why = wrong
                raise ChatRejected(f"{name}: Slack refuses it ({why}). {TOKENS[name]}") from None
            log.warning("slack_not_reached", error=str(error))
        if self._api.workspaces:
            self._begin()
        if self._api.unreached:
            self._later(self._reaching())

    def _begin(self) -> None:
        self._first_look = self._later(self._learning())
        if self._socket is not None:
            self._socket.start()

    async def stop(self) -> None:
        """Take nothing new; what was accepted is stored."""
        if self._socket is not None:
            await self._socket.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def problem(self) -> str:
        """Why we receive nothing now; empty while all is well."""
        if self._api.refused:
            return f"Slack refuses our token ({self._api.refused})"
        if self._api.unreached:
            return "Slack was not reached yet"
        if self._socket is not None and not await self._socket.is_open():
            return "the socket to Slack is not open"
        return ""

    def routes(self) -> list[Route]:
        """The one address for commands, clicks and events; none without a signing secret."""
        return [Route(PATH, _Endpoint(self), methods=["POST"])] if self._secret is not None else []

    async def _reaching(self) -> None:
        pause = 1.0
        while self._api.unreached:
            await asyncio.sleep(pause)
            pause, before = min(60.0, pause * 2), len(self._api.workspaces)
            try:
                await self._api.open()
            except ProviderError as error:
                log.warning("slack_not_reached", error=error.message)
            if self._api.workspaces and not before:
                self._begin()
            elif len(self._api.workspaces) > before:
                await self._learning()

    async def _learning(self) -> None:
        reading: list[Callable[[], Awaitable[None]]] = []
        reading += [partial(self._client.learn_names, team) for team in self._api.workspaces]
        for read in (*reading, self._people.refresh):
            try:
                await read()
            except ProviderError as error:
                log.warning("slack_not_read", error=error.message)

    async def refresh(self) -> None:
        """Read people, groups and channels again; for the schedule."""
        if self._api.workspaces:
            await self._learning()

    def catalog_changed(self) -> None:
        """It may name groups that were not read yet."""
        if self._api.workspaces:
            self._later(self._people.read_groups())

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- the two ways in ---------------------------------------------------------------------------------------------

    async def receive(self, content_type: str, headers: Mapping[bytes, bytes], body: bytes) -> tuple[int, bytes, str]:
        """One HTTP request: status, body and content type of the answer."""
        timestamp = headers.get(b"x-slack-request-timestamp", b"").decode("latin-1")
        signature = headers.get(b"x-slack-signature", b"").decode("latin-1")
        secret = self._secret.get_secret_value() if self._secret is not None else ""
        if not secret or not wire.is_genuine(secret, timestamp, signature, body, self._now()):
            log.warning("slack_request_not_genuine", size=len(body))
            return 401, b"", "text/plain"
        try:
            read = wire.read_body(content_type, body)
        except wire.Unreadable:
            return 400, b"", "text/plain"
        if "ssl_check" in read:
            return 200, b"", "text/plain"
        if read.get("type") == "url_verification":
            return 200, json.dumps({"challenge": read.get("challenge")}).encode(), "application/json"
        answer = await self._dispatched(read)
        return answer.status, answer.body.encode(), answer.kind

    async def _dispatched(self, body: dict[str, Any]) -> Answered:
        if not self._api.workspaces:
            return Answered(503)
        if "command" in body and "type" not in body:
            # The commonest of all, and of one shape: Bolt's search for a listener costs more than all that we do.
            try:
                said = await self._on_command(body)
            except Exception as error:
                return stumbled(error)
            return Answered(body=json.dumps({"text": said}), kind="application/json") if said else Answered()
        answer = await (await self._loaded()).dispatch(body)
        if answer.status == 404:
            # What nobody listens to must not look like an outage: Slack would send it again, or switch us off.
            log.warning("slack_request_not_known", type=str(body.get("type"))[:50])
            return Answered()
        return answer

    async def _loaded(self) -> BoltApp:
        """Bolt, loaded in a thread when first needed: meanwhile commands are answered all the same."""
        async with self._loading:
            if self._bolt is None:
                module = await asyncio.to_thread(importlib.import_module, "bot.chat.slack_bolt_app")
                made: BoltApp = module.BoltApp(self.listeners(), self.authorized)
                self._bolt = made
        return self._bolt

    # -- listeners ---------------------------------------------------------------------------------------------------

    def listeners(self) -> Mapping[tuple[str, str], Callable[..., Awaitable[None]]]:
        """What listens to what: (kind, name of the event, empty for all) -> listener."""
        events = {
            "app_mention": self._on_text,
            "message": self._on_text,
            "app_home_opened": self._on_home,
            "user_change": self._on_user,
            "team_join": self._on_user,
            "subteam_members_changed": self._on_group,
            "subteam_updated": self._on_group,
            "subteam_created": self._on_group,
            "tokens_revoked": self._on_gone,
            "app_uninstalled": self._on_gone,
        }
        return {
            ("block_action", ""): self._on_press,
            ("view_submission", ""): self._on_form,
            **{("event", name): listener for name, listener in events.items()},
        }

    def authorized(self, team: str) -> tuple[str, str, str]:
        """Team, bot user and bot of where something came through. The token stays where calls are made."""
        known = self._api.workspaces.get(team) or self._api.workspaces[self._api.primary]
        return known.team_id, known.user_id, known.bot_id

    async def _on_command(self, body: dict[str, Any]) -> str:
        """What the person is told with the acknowledgement, empty if it was taken."""
        team = self._installed(body)
        if not team:
            return NOT_CONNECTED
        channel = await self._place(team, str(body.get("channel_id") or ""))
        command = wire.slash_command(body, team, self._api.primary, channel)
        if await self._stored(self._inbound.command(command)):
            return ""
        return self._client.say(f"@{command.user_id}", NOT_STORED)

    async def _on_text(self, ack: Ack, body: dict[str, Any]) -> None:
        event, team = body["event"], self._installed(body)
        known = self._api.workspaces.get(team)
        wanted = event.get("type") == "app_mention" or event.get("channel_type") == "im"
        if known is None or not wanted or wire.is_own_or_edited(event, known.user_id):
            await ack()
            return
        channel = await self._place(team, str(event.get("channel") or ""))
        command = wire.mention(body, team, self._api.primary, known.user_id, channel)
        await self._acknowledge(ack, self._inbound.command(command))

    async def _on_press(self, ack: Ack, body: dict[str, Any]) -> None:
        team = self._installed(body)
        pressed = wire.press(body, team) if team else None
        if pressed is None:
            await ack()
        elif pressed.asks:
            await ack()
            self._later(self._ask(pressed))
        else:
            channel = await self._place(team, pressed.channel)
            await self._acknowledge(ack, self._inbound.click(wire.click(pressed, channel, team, self._api.primary)))

    async def _ask(self, pressed: wire.Press) -> None:
        """Open the form; the trigger lives three seconds, so nothing is looked up before."""
        metadata = {
            "b": pressed.button,
            "c": pressed.channel,
            "t": pressed.message_ts,
            "d": pressed.deployment,
            "r": [name for name, _label, required in pressed.inputs if required],
        }
        label = pressed.label or pressed.button.title()
        view = form(pressed.button, label, list(pressed.inputs), metadata, self._said(pressed, BACK))
        try:
            await self._api.call("views.open", pressed.actor.team, trigger_id=pressed.trigger_id, view=view)
        except ProviderError as error:
            log.warning("slack_form_not_opened", error=error.message)
            await self._whisper(pressed, self._said(pressed, NOT_OPENED))

    def _said(self, pressed: wire.Press, text: str) -> str:
        """A text of ours in the language of whoever pressed."""
        return self._client.say(f"@{wire.account(pressed.actor, self._api.primary)}", text)

    async def _whisper(self, pressed: wire.Press, sentence: str) -> None:
        arguments = {"channel": pressed.channel, "user": pressed.actor.user, "text": escape(sentence)}
        try:
            await self._api.call("chat.postEphemeral", pressed.actor.team, **arguments)
        except ProviderError as error:
            log.warning("slack_whisper_not_sent", error=error.message)

    async def _on_form(self, ack: Ack, body: dict[str, Any]) -> None:
        view, team = body.get("view") or {}, self._installed(body)
        pressed = _form_press(view, body, team)
        if pressed is None or not team:
            await ack()
            return
        values = wire.form_values(view)
        empty = [name for name, _label, required in pressed.inputs if required and not values.get(name)]
        if empty:
            errors = {f"in:{name}": self._said(pressed, SAY_WHY) for name in empty}
            await ack(response_action="errors", errors=errors)
            return
        key = wire.event_id("form", team, view.get("id"), pressed.actor.user)
        channel = await self._place(team, pressed.channel)
        incoming = wire.click(pressed, channel, team, self._api.primary, values, key)
        if await self._stored(self._inbound.click(incoming)):
            await ack()
        else:
            first = next(iter(values), "reason")
            await ack(response_action="errors", errors={f"in:{first}": self._said(pressed, NOT_STORED)})

    async def _on_home(self, ack: Ack, body: dict[str, Any]) -> None:
        await ack()
        event, team = body["event"], self._installed(body)
        if self._home is not None and team and event.get("tab", "home") == "home":
            self._later(self._show_home(team, str(event["user"])))

    async def _show_home(self, team: str, user: str) -> None:
        assert self._home is not None
        try:
            await self._home.publish(team, user)
        except ProviderError as error:
            log.warning("slack_home_not_shown", error=error.message)

    async def _on_user(self, ack: Ack, body: dict[str, Any]) -> None:
        team, user = self._installed(body), body["event"].get("user")
        if team and isinstance(user, Mapping) and user.get("id"):
            self._people.learn(user, team)
        await ack()

    async def _on_group(self, ack: Ack, body: dict[str, Any]) -> None:
        if team := self._installed(body):
            self._people.group_changed(body["event"], team)
        await ack()

    async def _on_gone(self, ack: Ack, body: dict[str, Any]) -> None:
        team = self._installed(body)
        bots = (body["event"].get("tokens") or {}).get("bot")
        if team and (bots or body["event"].get("type") == "app_uninstalled"):
            log.error("slack_app_removed", team=team)
            self._api.lost(team)
        await ack()

    # ----------------------------------------------------------------------------------------------------------------

    def _installed(self, body: Mapping[str, Any]) -> str:
        """The workspace of ours this came through, empty if it is none."""
        rights = body.get("authorizations") or [{}]
        named = (rights[0].get("team_id"), body.get("team_id"), (body.get("team") or {}).get("id"))
        return next((team for team in named if team in self._api.workspaces), "")

    async def _place(self, team: str, channel: str) -> str:
        """The channel as the catalog writes it. Just after the start its names may not be read yet."""
        if self._client.needs_names(team) and self._first_look is not None:
            await asyncio.wait([self._first_look], timeout=NAMES_PATIENCE)
        return wire.place(team, self._client.written(team, channel), self._api.primary)

    async def _acknowledge(self, ack: Ack, storing: Awaitable[bool]) -> None:
        if await self._stored(storing):
            await ack()
        else:
            ack.response = Answered(503)

    async def _stored(self, storing: Awaitable[bool]) -> bool:
        try:
            await storing
        except ProviderError as error:
            log.error("slack_intent_not_stored", error=error.message)
            return False
        return True


def stumbled(error: Exception) -> Answered:
    """A listener broke: nothing is acknowledged, so Slack sends it again."""
    log.error("slack_listener_stumbled", exc_info=error)
    return Answered(500)


def _form_press(view: Mapping[str, Any], body: Mapping[str, Any], team: str) -> wire.Press | None:
    """The press a form was opened by, from what we gave it along."""
    try:
        metadata = json.loads(str(view.get("private_metadata") or ""))
        user = body["user"]
        return wire.Press(
            button=str(metadata["b"]),
            asks=False,
            label="",
            deployment=str(metadata["d"]),
            channel=str(metadata["c"]),
            message_ts=str(metadata["t"]),
            thread_ts="",
            actor=wire.Actor(team, str(user["id"]), str(user.get("team_id") or "")),
            event_id="",
            trigger_id="",
            inputs=tuple((str(name), "", True) for name in metadata["r"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


class _Endpoint:
    """The address as bare ASGI: it is called for everything Slack says."""

    def __init__(self, adapter: SlackAdapter) -> None:
        self._adapter = adapter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        body = await _whole_body(receive)
        if body is None:
            status, said, kind = 413, b"", "text/plain"
        else:
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            status, said, kind = await self._adapter.receive(content_type, headers, body)
        length = str(len(said)).encode()
        head = [(b"content-type", kind.encode()), (b"content-length", length)]
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
