"""Calls to Slack: whole listings at Slack's pace, tokens told apart, and the environment's proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Message
from notifiers.slack import SlackClient
from notifiers.slack_api import SlackApi, proxy_for
from tests.fakes.slack import BOT_TOKEN, FakeSlack


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as fake:
        yield fake


@pytest.fixture
async def api(slack: FakeSlack) -> AsyncIterator[SlackApi]:
    slack.workspace("xoxb-fake-2", "T2", "UBOT2")
    made = SlackApi([SecretStr(BOT_TOKEN), SecretStr("xoxb-fake-2")], slack.base_url)
    await made.open()
    yield made
    await made.close()


async def test_a_large_company_is_read_whole(slack: FakeSlack, api: SlackApi) -> None:
    """More pages than Slack gives in a minute: the listing waits as it is told, and goes on where it was."""
    for number in range(450):
        slack.user(f"U{number}")
    slack.fail("users.list", status=429, error="ratelimited", headers={"Retry-After": "0.2"})
    found = [user["id"] async for page in api.pages("users.list") for user in page["members"]]
    assert len(set(found)) == len(found) == 451
    assert slack.count("users.list") == 4


async def test_a_listing_does_not_wait_for_ever(slack: FakeSlack, api: SlackApi) -> None:
    """Refused twice, or asked to wait for minutes, it is left to the next time."""
    slack.fail("users.list", status=429, error="ratelimited", headers={"Retry-After": "0.1"}, times=2)
    with pytest.raises(ChatUnavailable):
        [page async for page in api.pages("users.list")]
    slack.fail("users.list", status=429, error="ratelimited", headers={"Retry-After": "200"})
    with pytest.raises(ChatUnavailable):
        [page async for page in api.pages("users.list")]
    assert slack.count("users.list") == 3


async def test_a_refusal_is_of_one_workspace(slack: FakeSlack, api: SlackApi) -> None:
    """What works elsewhere does not hide it, and a call there that works ends it."""
    slack.channel("C1", "releases")
    slack.channel("C2", "ops", team="T2")
    client, token = SlackClient(api), slack.tokens.pop("xoxb-fake-2")
    with pytest.raises(ChatUnavailable, match="SLACK_BOT_TOKEN"):
        await client.post("T2:C2", Message("x"), "k1")
    await client.post("C1", Message("x"), "k2")
    assert api.refusals == {"T2": "invalid_auth"}
    slack.tokens["xoxb-fake-2"] = token
    await client.post("T2:C2", Message("x"), "k1")
    assert not api.refused


async def test_a_place_that_is_none_holds_nothing_up(api: SlackApi) -> None:
    """Sending to it is refused once; asking how long to wait for it must not fail first, again and again."""
    client = SlackClient(api)
    assert client.hold("", edit=False) == 0.0
    with pytest.raises(ChatRejected, match="no Slack place"):
        await client.post("", Message("x"), "k")


def test_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found once, for Slack's address; hosts that NO_PROXY names are called directly."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,.internal.example")
    assert proxy_for("https://slack.com/api/") == "http://proxy.example:3128"
    assert proxy_for("https://slack.internal.example/api/") is None
    assert proxy_for("http://127.0.0.1:8080/api/") is None
