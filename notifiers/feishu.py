"""The outbound side of Feishu and Lark: one card per deployment and place, edited as it goes.

Places: a chat is `oc_…`, a person `@ou_…` (also `@on_…` or the tenant's own user id).
Source: open.feishu.cn "发送消息", "回复消息", "更新已发送的消息卡片".
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from functools import partial
from typing import IO, Any

import structlog

from bot.errors import ProviderError
from notifiers.base import ChatRejected, MessageGone
from notifiers.card import Message
from notifiers.chart import png
from notifiers.feishu_api import ContentRefused, FeishuApi, NoThread
from notifiers.feishu_cards import plain, render, simple
from notifiers.feishu_pace import Pace
from notifiers.whole_logs import OpenLogs, WholeLogs

log = structlog.get_logger(__name__)

MESSAGES = "/open-apis/im/v1/messages"
MAX_LOG = 30_000_000
"""Bytes that Feishu takes as a file."""
TOPIC = ":topic"
"""Ends the id of a message that stands in a topic: what answers it belongs there too."""
TEXT = ":text"
"""Ends the reference of a message that went as a plain text, which a card cannot replace."""


class FeishuClient:
    """Posts and edits messages, as fast as Feishu takes them; one API call each."""

    platform = "feishu"

    def __init__(self, api: FeishuApi, pace: Pace | None = None, open_log: OpenLogs | None = None) -> None:
        """Take the way to Feishu. open_log: the log behind a link of `/logs`."""
        self._api = api
        self._logs = WholeLogs(open_log, MAX_LOG) if open_log is not None else None
        self._pace = pace or Pace()

    def hold(self, place: str, edit: bool) -> float:
        """Seconds until the next post to, or edit in, that place is taken."""
        return self._pace.hold_edit() if edit else self._pace.hold_post(place)

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        """Post and return the message's id. The same key within an hour shows one message. Raises as `ChatClient`."""
        try:
            ref = await self._post(place, "interactive", render(message, await self._image(message)), key, thread)
            if self._logs is not None:
                beside = f"{ref}{TOPIC}" if thread.endswith(TOPIC) else ref
                self._logs.send(message.card, partial(self._put, place, beside, key))
            return ref
        except ContentRefused as error:
            log.warning("feishu_refused_the_card", error=error.message)
            ref = await self._post(place, "text", plain(message), f"{key}:text", thread)
            return f"{ref}{TEXT}"

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        """Replace the message's content. Raises as `post`; MessageGone: it cannot be edited any more."""
        message_id = ref.removesuffix(TEXT)
        # Another message of the place may wait meanwhile: it is at most a second.
        await asyncio.sleep(self._pace.hold_edit(message_id))
        self._pace.edited(message_id)
        if ref.endswith(TEXT):
            await self._api.call("PUT", f"{MESSAGES}/{message_id}", {"msg_type": "text", "content": plain(message)})
            return
        try:
            await self._api.call("PATCH", f"{MESSAGES}/{ref}", {"content": render(message, await self._image(message))})
        except ContentRefused as error:
            log.warning("feishu_refused_the_card", error=error.message)
            await self._api.call("PATCH", f"{MESSAGES}/{ref}", {"content": simple(message)})

    async def close(self) -> None:
        """Give up files that are under way."""
        if self._logs is not None:
            await self._logs.close()

    async def _put(self, place: str, beside: str, key: str, name: str, file: IO[bytes], _size: int) -> None:
        """A file from the disk, as an answer to its card."""
        content = json.dumps({"file_key": await self._api.upload_file(name, file)})
        await self._post(place, "file", content, f"{key}:file", beside)

    async def _image(self, message: Message) -> str:
        """The key of the card's chart, uploaded; empty without one. A card without its picture still says it all."""
        if message.card is None or message.card.chart is None:
            return ""
        try:
            return await self._api.upload_image(png(message.card.chart))
        except ProviderError as error:
            log.warning("feishu_took_no_picture", error=error.message)
            return ""

    async def _post(self, place: str, kind: str, content: str, key: str, thread: str) -> str:
        body: dict[str, Any] = {"msg_type": kind, "content": content, "uuid": uuid_of(key)}
        self._pace.posted(place)
        if thread:
            try:
                path = f"{MESSAGES}/{thread.removesuffix(TOPIC)}/reply"
                return _id(await self._api.call("POST", path, {**body, "reply_in_thread": thread.endswith(TOPIC)}))
            except (NoThread, MessageGone) as error:
                log.info("feishu_reply_without_thread", error=error.message)
        kind_of_id, receiver = receiver_of(place)
        return _id(await self._api.call("POST", MESSAGES, {**body, "receive_id": receiver}, receive_id_type=kind_of_id))


def receiver_of(place: str) -> tuple[str, str]:
    """The type and value of `receive_id`. Raises ChatRejected: no such kind of place."""
    if place.startswith("@") and len(place) > 1:
        who = place[1:]
        kinds = {"ou_": "open_id", "on_": "union_id"}
        return kinds.get(who[:3], "email" if "@" in who else "user_id"), who
    if place.startswith("oc_"):
        return "chat_id", place
    raise ChatRejected(f"'{place}' is no Feishu place: write a group's oc_… id, or @ and a person's id.")


def uuid_of(key: str) -> str:
    """Our key within the 50 characters the platform allows."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]


def _id(answer: dict[str, Any]) -> str:
    return str(answer["data"]["message_id"])
