"""A click is answered within its three seconds whatever it takes, and a refusal is always heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from bot.catalog.model import Catalog, Person
from bot.chat.base import ClickAnswer, IncomingClick, IncomingCommand
from bot.chat.feishu import FeishuAdapter
from bot.chat.feishu_people import FeishuPeople
from bot.errors import ProviderUnavailable
from notifiers.card import Button, Card, Message
from notifiers.feishu import FeishuClient
from notifiers.feishu_api import FeishuApi
from tests.fakes.feishu import APP_ID, APP_SECRET, FakeFeishu
from tests.support.clock import FakeClock
from tests.unit.chat.test_feishu_people import catalog_of


class Decider:
    """The core, as clicks see it: decides when it is let."""

    def __init__(self) -> None:
        self.clicks: list[IncomingClick] = []
        self.may = asyncio.Event()
        self.answer = ClickAnswer(True)
        self.away = False

    async def click(self, incoming: IncomingClick) -> ClickAnswer:
        self.clicks.append(incoming)
        if self.away:
            raise ProviderUnavailable("The database is away.")
        await self.may.wait()
        return self.answer


class Clicked:
    """The core as messages see it; none come here."""

    async def command(self, incoming: IncomingCommand) -> bool:
        raise AssertionError(incoming)

    async def click(self, incoming: IncomingClick) -> bool:
        raise AssertionError(incoming)


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


def adapter(feishu: FakeFeishu, client: FeishuClient, decider: Decider, clock: FakeClock) -> FeishuAdapter:
    api = client._api
    people = FeishuPeople(api, clock)
    return FeishuAdapter(Clicked(), decider, api, client, people, known, keys=None, patience=0.05)


def known() -> Catalog:
    """Somebody to look up."""
    return catalog_of(Person("ada", "Ada", chats={"feishu": ("ou_1",)}))


async def pressed(feishu: FakeFeishu, client: FeishuClient) -> dict[str, object]:
    """A button of a real card, pressed."""
    card = Card("Approve?", buttons=(Button("approve", "Approve"),))
    ref = await client.post("oc_1", Message("x", card), "k")
    return feishu.press("ou_1", feishu.messages[ref], "approve")


async def test_a_quick_decision_is_a_toast(feishu: FakeFeishu, client: FeishuClient, clock: FakeClock) -> None:
    """In the language of the person's client."""
    decider = Decider()
    decider.may.set()
    decider.answer = ClickAnswer(False, 403, "You have voted on d-1 already; one person counts once.")
    said = await adapter(feishu, client, decider, clock).take(await pressed(feishu, client))
    assert said["toast"]["type"] == "warning"
    assert said["toast"]["i18n"]["en_us"] == decider.answer.error
    assert "一人只算一票" in said["toast"]["i18n"]["zh_cn"]
    assert decider.clicks[0].button == "approve"


async def test_a_slow_refusal_follows_personally(feishu: FakeFeishu, client: FeishuClient, clock: FakeClock) -> None:
    """The toast is given away after two seconds, and nobody may believe that they approved."""
    decider = Decider()
    decider.answer = ClickAnswer(False, 403, "Too late.")
    receiving = adapter(feishu, client, decider, clock)
    said = await receiving.take(await pressed(feishu, client))
    assert "card shows" in said["toast"]["i18n"]["en_us"]
    decider.may.set()
    async with asyncio.timeout(5):
        while not feishu.in_place("@ou_1"):
            await asyncio.sleep(0.005)
    assert "Too late." in feishu.in_place("@ou_1")[0].words
    await receiving.stop()


async def test_a_click_that_cannot_be_stored_says_so(
    feishu: FakeFeishu, client: FeishuClient, clock: FakeClock
) -> None:
    """Feishu repeats no clicks, so the person must press again."""
    decider = Decider()
    decider.away = True
    said = await adapter(feishu, client, decider, clock).take(await pressed(feishu, client))
    assert said["toast"]["type"] == "warning"
    assert "Press again" in said["toast"]["i18n"]["en_us"]


async def test_what_is_no_button_of_ours_is_nothing(feishu: FakeFeishu, client: FeishuClient, clock: FakeClock) -> None:
    """An old card, or an event that lacks half of itself."""
    receiving = adapter(feishu, client, Decider(), clock)
    assert await receiving.take(feishu.event("card.action.trigger", {"operator": {}, "action": {}})) == {}
    assert await receiving.take(feishu.event("card.action.trigger", {})) == {}
    assert await receiving.take({}) == {}


async def test_people_are_looked_up_once_for_many_changes(
    feishu: FakeFeishu, client: FeishuClient, clock: FakeClock
) -> None:
    """A reorganisation is hundreds of events; a reloaded catalog is one more wish."""
    receiving = adapter(feishu, client, Decider(), clock)
    looked = "GET /open-apis/contact/v3/users/batch"
    for number in range(100):
        changed = feishu.event("contact.user.updated_v3", {"object": {"open_id": f"ou_{number}"}})
        assert await receiving.take(changed) == {}
    receiving.refresh_soon()
    await receiving.take(feishu.event("contact.department.updated_v3", {"object": {}}))
    async with asyncio.timeout(10):
        while receiving._tasks:
            await asyncio.sleep(0.01)
    assert feishu.calls[looked] == 1
    await receiving.stop()
