"""The outbound side of Slack: cards as Block Kit, one message per deployment and place, edited as it goes.

Places: a channel is `C024BE91L` or `#name`, a person `@U024BE7LH`, and `~C024BE91L~U024BE7LH` is what only that person
sees in that channel. In workspaces other than the primary one the ids are written `T0123:C024BE91L`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from notifiers.base import ChatClosed, ChatRejected, ChatUnavailable
from notifiers.card import Message
from notifiers.slack_api import ContentRefused, SlackApi
from notifiers.slack_blocks import BACK, plain, render
from notifiers.slack_files import BADLY, MAX_LOG, LogOf, SlackFiles
from notifiers.whole_logs import OpenLogs, WholeLogs

log = structlog.get_logger(__name__)

EVENT = "slipway_message"
"""The `event_type` of our messages' metadata; its payload has our key."""
LOOK_BACK = timedelta(seconds=60)
MAX_PAGES = 10
POSTS, EDITS = "posts", "edits"
MAX_DISTANCE = 1.0
"""Seconds; Slack takes about one post a second in a channel."""
MARGIN = 1.02
REMEMBERED = 60
"""For how many times the asked wait the distance is kept."""
Say = Callable[[str, str], str]
"""Given a place and a text of ours, the text in the language that is read there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message goes. user: set for a personal place, and for one person's eyes in a channel."""

    team: str
    channel: str = ""
    user: str = ""

    @property
    def private(self) -> bool:
        """Only one person in a channel sees it."""
        return bool(self.channel and self.user)


def parse_place(place: str) -> Place:
    """The parts of a written place. Raises ChatRejected: it is none."""
    if place.startswith("~"):
        channel, _, user = place[1:].partition("~")
        team, bare = _split(channel)
        return Place(team, bare, _split(user)[1])
    team, bare = _split(place.removeprefix("@"))
    if not bare:
        raise ChatRejected(f"'{place}' is no Slack place: write a channel's id or #name, or @ and a person's id.")
    return Place(team, user=bare) if place.startswith("@") else Place(team, bare)


def _split(written: str) -> tuple[str, str]:
    team, colon, bare = written.rpartition(":")
    return (team, bare) if colon and team.startswith("T") else ("", written)


def as_it_is(_place: str, text: str) -> str:
    """For where everybody reads English."""
    return text


class Lanes:
    """When Slack takes more: a lane is a channel for posts, a workspace for edits.

    Nothing is slowed down before Slack refuses once; then posts of that channel keep the asked distance for a while,
    so that a burst costs one refusal and not one for each message.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._free_at: dict[tuple[str, str], float] = {}
        self._distance: dict[tuple[str, str], tuple[float, float]] = {}

    def hold(self, lane: tuple[str, str]) -> float:
        """Seconds until the lane is free; 0 for now."""
        return max(0.0, self._free_at.get(lane, 0.0) - self._now())

    def take(self, lane: tuple[str, str]) -> None:
        """One message goes now."""
        distance, until = self._distance.get(lane, (0.0, 0.0))
        if self._now() < until:
            self._free_at[lane] = self._now() + distance

    def refused(self, lane: tuple[str, str], retry_after: float) -> None:
        """Slack asked to wait, in seconds."""
        now = self._now()
        self._free_at[lane] = now + retry_after
        if lane[0] == POSTS:
            # Refused although we kept a distance: it was too small.
            before, until = self._distance.get(lane, (0.0, 0.0))
            distance = max(min(retry_after, MAX_DISTANCE) * MARGIN, before * 1.5 if now < until else 0.0)
            self._distance[lane] = (min(distance, MAX_DISTANCE * MARGIN), now + retry_after * REMEMBERED)


def _lane(where: Place, edit: bool) -> tuple[str, str]:
    return (EDITS, where.team) if edit else (POSTS, f"{where.team}:{where.channel or where.user}")


class SlackClient:
    """Posts and edits messages; one API call each."""

    platform = "slack"

    def __init__(
        self,
        api: SlackApi,
        in_use: Callable[[], Collection[str]] = tuple,
        now: Callable[[], float] = time.monotonic,
        *,
        say: Say = as_it_is,
        log_of: LogOf | None = None,
        open_log: OpenLogs | None = None,
    ) -> None:
        """in_use: the channels the catalog writes as `#name`, so that a place has one name with us. now: seconds.

        log_of: the log that a personal message about a failure brings along; its reader may see it. open_log: the log
        behind a link of `/logs`.
        """
        self._api = api
        self._in_use = in_use
        self.say = say
        self._files = SlackFiles(api, log_of)
        self._logs = WholeLogs(open_log, MAX_LOG) if open_log is not None else None
        self._lanes = Lanes(now)
        self._personal: dict[Place, str] = {}
        self._named: dict[tuple[str, str], str] = {}
        self._listed: set[str] = set()

    # -- what the outbox asks ----------------------------------------------------------------------------------------

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        """Post and return `channel:ts`. Raises as `ChatClient.post`, and OutcomeUnknown: look with `find` first."""
        where = parse_place(place)
        if where.private:
            return await self._whisper(where, message)
        body = render(message, key, self._back(place, message))
        body["channel"] = where.channel or where.user
        body["metadata"] = {"event_type": EVENT, "event_payload": {"key": key}}
        body["unfurl_links"] = body["unfurl_media"] = False
        if thread:
            body["thread_ts"] = thread
        answer = await self._send("chat.postMessage", where, body, message)
        channel, ts = str(answer["channel"]), str(answer["ts"])
        self._learn(where, channel)
        await self._files.attach(where.team, channel, thread or ts, message.card, personal=bool(where.user))
        if self._logs is not None:
            self._logs.send(message.card, partial(self._files.put, where.team, channel, thread or ts))
        return f"{channel}:{ts}"

    async def close(self) -> None:
        """Give up files that are under way."""
        if self._logs is not None:
            await self._logs.close()

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        """Replace the message's content. Raises as `post`; MessageGone: it cannot be edited any more."""
        where = parse_place(place)
        if where.private:
            return  # what one person saw for a moment cannot be changed
        channel, _, ts = ref.partition(":")
        revision = hashlib.sha256(f"{key}{message}".encode()).hexdigest()[:12]
        body = {**render(message, revision, self._back(place, message)), "channel": channel, "ts": ts}
        answer = await self._send("chat.update", where, body, message)
        if message.card is not None and message.card.state in BADLY:
            thread = (answer.get("message") or {}).get("thread_ts")
            await self._files.attach(where.team, channel, str(thread or ts), message.card, personal=bool(where.user))

    async def find(self, place: str, key: str, thread: str, since: datetime) -> str | None:
        """The message an unanswered call left behind, found by its metadata, or None. Raises as `post`."""
        where = parse_place(place)
        if where.private:
            return None
        channel = await self.channel_id(where)
        method = "conversations.replies" if thread else "conversations.history"
        arguments: dict[str, Any] = {"channel": channel, "include_all_metadata": True}
        arguments["oldest"] = f"{(since - LOOK_BACK).timestamp():.6f}"
        if thread:
            arguments["ts"] = thread
        seen = 0
        async for page in self._api.pages(method, where.team, **arguments):
            for one in page.get("messages") or ():
                if _key_of(one) == key:
                    return f"{channel}:{one['ts']}"
            seen += 1
            if seen >= MAX_PAGES:
                break
        return None

    def hold(self, place: str, edit: bool) -> float:
        """Seconds until Slack takes the next post to, or edit in, that place."""
        try:
            return self._lanes.hold(_lane(parse_place(place), edit))
        except ChatRejected:
            return 0.0  # sending to it says what is wrong

    # -- rooms -------------------------------------------------------------------------------------------------------

    async def channel_id(self, where: Place) -> str:
        """The id behind a personal place or a `#name`. Raises as `post`."""
        if where.user:
            if where not in self._personal:
                opened = await self._api.call("conversations.open", where.team, users=where.user)
                self._personal[where] = str(opened["channel"]["id"])
            return self._personal[where]
        if not where.channel.startswith("#"):
            return where.channel
        team = where.team or self._api.primary
        if (team, where.channel) not in self._named:
            await self.learn_names(where.team)
        known = self._named.get((team, where.channel))
        if known is None:
            raise ChatRejected(f"Slack has no channel {where.channel} that I can see.")
        return known

    async def learn_names(self, team: str = "") -> None:
        """Read the names of all channels the bot can see. Raises as `post`."""
        pages = self._api.pages(
            "conversations.list", team, types="public_channel,private_channel", exclude_archived=True
        )
        async for page in pages:
            for one in page.get("channels") or ():
                self._named[team or self._api.primary, f"#{one['name']}"] = str(one["id"])
        self._listed.add(team or self._api.primary)

    def needs_names(self, team: str) -> bool:
        """Whether channels of a workspace are written by name, and their names were never read."""
        homes = {_split(place)[0] or self._api.primary for place in self._in_use()}
        return team in homes and team not in self._listed

    def written(self, team: str, channel: str) -> str:
        """The channel as the catalog writes it, so that a place has one name: its `#name` if that is used there."""
        for place in self._in_use():
            home, name = _split(place)
            if (home or self._api.primary) == team and self._named.get((team, name)) == channel:
                return name
        return channel

    def _learn(self, where: Place, channel: str) -> None:
        if where.channel.startswith("#"):
            self._named[where.team or self._api.primary, where.channel] = channel
        elif where.user:
            self._personal[where] = channel

    def _back(self, place: str, message: Message) -> str:
        """How a dialog is left, in the language of the place; only buttons have one."""
        return self.say(place, BACK) if message.card is not None and message.card.buttons else BACK

    # -- sending -----------------------------------------------------------------------------------------------------

    async def _send(self, method: str, where: Place, body: dict[str, Any], message: Message) -> Any:
        lane = _lane(where, method == "chat.update")
        self._lanes.take(lane)
        try:
            return await self._api.call(method, where.team, **body)
        except ContentRefused as error:
            log.warning("slack_refused_the_blocks", method=method, error=error.message)
            return await self._api.call(method, where.team, **{**body, **plain(message)})
        except ChatUnavailable as error:
            if error.retry_after and not isinstance(error, ChatClosed):
                self._lanes.refused(lane, error.retry_after)
            raise

    async def _whisper(self, where: Place, message: Message) -> str:
        body = render(message)
        answer = await self._send(
            "chat.postEphemeral", where, {**body, "channel": where.channel, "user": where.user}, message
        )
        return f"{where.channel}:{answer.get('message_ts') or ''}:only"


def _key_of(message: Mapping[str, Any]) -> str:
    metadata = message.get("metadata") or {}
    return str((metadata.get("event_payload") or {}).get("key") or "") if metadata.get("event_type") == EVENT else ""
