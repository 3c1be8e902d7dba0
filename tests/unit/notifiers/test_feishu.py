"""Cards reach Feishu once, whole, within its limits, and nothing in them is live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from notifiers.base import ChatClosed, ChatRejected, ChatUnavailable, MessageGone
from notifiers.card import Button, Card, Input, Message, Step
from notifiers.feishu import FeishuClient, receiver_of
from notifiers.feishu_api import FeishuApi
from notifiers.feishu_cards import MAX_BODY, harmless, plain, render
from tests.fakes.feishu import APP_ID, APP_SECRET, DAY, FakeFeishu, check_card
from tests.support.clock import FakeClock

HOSTILE = "<at id=all></at> <at user_id=\"all\">x</at> **bold** [a](https://evil.example) <font color='red'>"
CREATE = "POST /open-apis/im/v1/messages"
PATCH = "PATCH /open-apis/im/v1/messages/{id}"


@pytest.fixture
async def feishu() -> AsyncIterator[FakeFeishu]:
    async with FakeFeishu() as fake:
        fake.groups.add("oc_1")
        fake.user("ou_1")
        yield fake


@pytest.fixture
async def client(feishu: FakeFeishu) -> AsyncIterator[FeishuClient]:
    api = FeishuApi(APP_ID, SecretStr(APP_SECRET), feishu.url, timeout=2)
    yield FeishuClient(api)
    await api.close()


def full_card(**more: Any) -> Card:
    """A card that uses everything."""
    values: dict[str, Any] = {
        "title": "pay 1.4.2 to prod",
        "state": "awaiting_approval",
        "deployment": "d-1",
        "progress": 40,
        "text": HOSTILE,
        "steps": (Step("Build", "succeeded"), Step("Deploy", "running", "2 of 3")),
        "fields": {"requested by": "Owner", "url": "https://pay.example/x"},
        "excerpt": "line one\nE   assert 1 == 2",
        "buttons": (
            Button("approve", "Approve", confirm="Really?"),
            Button("reject", "Reject", inputs=(Input("reason", "Reason", required=True),)),
        ),
    }
    return Card(**(values | more))


def live_text(value: Any) -> list[str]:
    """Texts that have markup."""
    if isinstance(value, dict):
        own = [str(value.get("content"))] if value.get("tag") in ("markdown", "lark_md") else []
        return own + [text for one in value.values() for text in live_text(one)]
    return [text for one in value for text in live_text(one)] if isinstance(value, list) else []


def test_outside_text_is_never_markup() -> None:
    """A branch named `<at id=all></at>` must not wake the whole company."""
    card = json.loads(render(Message(HOSTILE, full_card(title=HOSTILE, excerpt=HOSTILE))))
    check_card(card)
    assert live_text(card) == []
    assert "<at" not in json.loads(plain(Message(HOSTILE)))["text"]
    assert harmless("a < b, <AT id=all>") == "a < b, <\u200bAT id=all>"


@pytest.mark.parametrize("size", [0, 10, 3_000, 100_000])
def test_a_card_fits(size: int) -> None:
    """30 KB of UTF-8 is the limit; a Chinese character is three bytes, a line end two."""
    text = "行\n" * size
    fields = {f"field {n}": text for n in range(20)}
    raw = render(Message(text or "x", full_card(text=text, excerpt=text, fields=fields)))
    assert len(json.dumps(raw, ensure_ascii=False).encode()) <= MAX_BODY
    check_card(json.loads(raw))


def test_the_end_of_a_log_is_kept() -> None:
    """That is where things went wrong."""
    raw = render(Message("x", full_card(excerpt="start\n" + "x" * 50_000 + "\nthe error")))
    assert "the error" in raw
    assert "start" not in raw


async def test_the_same_key_shows_one_message(feishu: FakeFeishu, client: FeishuClient) -> None:
    """The answer was lost after the message was posted: sending again must not show a second one."""
    feishu.fail(CREATE, lost=True)
    with pytest.raises(ChatUnavailable):
        await client.post("oc_1", Message("hello", full_card()), "card:1")
    ref = await client.post("oc_1", Message("hello", full_card()), "card:1")
    assert [one.id for one in feishu.in_place("oc_1")] == [ref]


async def test_edits_replace_the_card(feishu: FakeFeishu, client: FeishuClient) -> None:
    """One card that lives."""
    ref = await client.post("@ou_1", Message("hello", full_card()), "k")
    await client.edit("@ou_1", ref, Message("bye", full_card(state="succeeded", progress=100)))
    (seen,) = feishu.in_place("@ou_1")
    assert seen.content["header"]["template"] == "green"
    assert seen.edits == 1


async def test_a_burst_is_spread_so_that_nothing_is_refused() -> None:
    """Five a second to a group, and of a message: the sixth waits instead of being refused."""
    async with FakeFeishu(limits=True) as strict:
        strict.groups.add("oc_1")
        api = FeishuApi(APP_ID, SecretStr(APP_SECRET), strict.url, timeout=2)
        client = FeishuClient(api)
        ref = ""
        for number in range(7):
            await asyncio.sleep(client.hold("oc_1", False))
            ref = await client.post("oc_1", Message("hello", full_card()), f"k{number}")
        for number in range(7):
            await client.edit("oc_1", ref, Message("bye", full_card(progress=number)))
        await api.close()
    assert len(strict.in_place("oc_1")) == 7
    assert strict.messages[ref].edits == 7


async def test_a_refused_card_goes_as_text(feishu: FakeFeishu, client: FeishuClient) -> None:
    """Better plain than not at all; and the text can be changed later."""
    feishu.fail(CREATE, code=230099)
    ref = await client.post("oc_1", Message("hello", full_card(text="why")), "k")
    (seen,) = feishu.in_place("oc_1")
    assert (seen.kind, seen.content["text"]) == ("text", "hello\nwhy")
    await client.edit("oc_1", ref, Message("bye"))
    assert seen.content["text"] == "bye"


async def test_a_refused_edit_becomes_the_least_card(feishu: FakeFeishu, client: FeishuClient) -> None:
    """A card can only be replaced by a card."""
    ref = await client.post("oc_1", Message("hello", full_card()), "k")
    feishu.fail(PATCH, code=230099)
    await client.edit("oc_1", ref, Message("it failed", full_card()))
    (seen,) = feishu.in_place("oc_1")
    assert "it failed" in seen.words
    assert seen.buttons() == []


async def test_a_reply_to_what_was_recalled_goes_to_the_chat(feishu: FakeFeishu, client: FeishuClient) -> None:
    """Somebody types a command and takes the message back."""
    await client.post("oc_1", Message("hello"), "k", thread="om_gone")
    (seen,) = feishu.in_place("oc_1")
    assert seen.reply_to == ""


async def test_a_token_that_died_is_renewed_once(feishu: FakeFeishu, client: FeishuClient) -> None:
    """It is revoked when the secret is changed; many calls at once must not ask many times."""
    await client.post("oc_1", Message("one"), "k1")
    feishu.tokens.clear()
    await client.post("oc_1", Message("two"), "k2")
    assert feishu.calls["token"] == 2
    assert len(feishu.in_place("oc_1")) == 2


async def test_a_token_is_renewed_in_time(feishu: FakeFeishu) -> None:
    """With half an hour left the platform gives a new one, while the old one still works."""
    clock = FakeClock()
    api = FeishuApi(APP_ID, SecretStr(APP_SECRET), feishu.url, now=lambda: clock().timestamp())
    await api.open()
    clock.advance(timedelta(seconds=5_500))
    feishu.ahead = 5_500
    await api.open()
    await api.close()
    assert feishu.calls["token"] == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"code": 99991400, "status": 429, "headers": {"x-ogw-ratelimit-reset": "7"}}, ChatUnavailable),
        ({"code": 230020}, ChatUnavailable),
        ({"code": 230002}, ChatClosed),
        ({"code": 230013}, ChatRejected),
        ({"code": 99991672}, ChatUnavailable),
        ({"code": 12345, "status": 502}, ChatUnavailable),
    ],
)
async def test_errors_say_what_to_do_next(
    feishu: FakeFeishu, client: FeishuClient, fault: dict[str, Any], error: type[Exception]
) -> None:
    """Wait, wait for a person, or give up: the outbox acts on the kind alone."""
    feishu.fail(CREATE, **fault)
    with pytest.raises(error) as caught:
        await client.post("oc_1", Message("hello"), "k")
    assert type(caught.value) is error
    if fault.get("headers"):
        assert isinstance(caught.value, ChatUnavailable)
        assert caught.value.retry_after == 7
    assert APP_SECRET not in str(caught.value)


async def test_a_card_of_two_weeks_is_gone(feishu: FakeFeishu, client: FeishuClient) -> None:
    """The platform takes no edits after fourteen days."""
    ref = await client.post("oc_1", Message("hello", full_card()), "k")
    feishu.ahead = 14 * DAY + 1
    with pytest.raises(MessageGone):
        await client.edit("oc_1", ref, Message("bye", full_card()))


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("oc_1", ("chat_id", "oc_1")),
        ("@ou_1", ("open_id", "ou_1")),
        ("@on_1", ("union_id", "on_1")),
        ("@u1", ("user_id", "u1")),
        ("@a@b.example", ("email", "a@b.example")),
    ],
)
def test_places(place: str, wanted: tuple[str, str]) -> None:
    """Written as the catalog writes them."""
    assert receiver_of(place) == wanted


@pytest.mark.parametrize("place", ["", "@", "#releases", "C1"])
def test_what_is_no_place(place: str) -> None:
    """A channel of another platform in the wrong line of the catalog is told, not tried for ever."""
    with pytest.raises(ChatRejected, match="oc_"):
        receiver_of(place)
