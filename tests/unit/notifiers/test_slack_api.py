"""Calls to Slack: whole listings at Slack's pace, tokens told apart, and the environment's proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import OutcomeUnknown
from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Message
from notifiers.proxies import proxy_for
from notifiers.slack import SlackClient
from notifiers.slack_api import SlackApi
from tests.fakes.slack import BOT_TOKEN, FakeSlack
from tests.support.network import free_port


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


class Heard:
    """An API that notes every request as it came, and answers all alike."""

    def __init__(self, answer: bytes, status: int = 200) -> None:
        self.requests: list[dict[str, object]] = []
        self._answer, self._status = answer, status

    async def hear(self, request: web.Request) -> web.Response:
        form = dict(await request.post()) if request.content_type == "application/x-www-form-urlencoded" else {}
        said = {"path": request.path, "token": request.headers["Authorization"]}
        fields = {**dict(request.query), **form}
        kept = {"json": await request.json()} if request.content_type == "application/json" else {"fields": fields}
        self.requests.append({**said, **kept})
        return web.Response(body=self._answer, status=self._status, content_type="application/json")


@pytest.fixture
async def served() -> AsyncIterator[Callable[[Heard], Awaitable[str]]]:
    runners: list[web.AppRunner] = []

    async def serve(heard: Heard) -> str:
        app = web.Application()
        app.router.add_post("/api/{method}", heard.hear)
        runners.append(web.AppRunner(app))
        await runners[-1].setup()
        site = web.TCPSite(runners[-1], "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runners[-1].addresses[0][1]}/api/"

    yield serve
    for runner in runners:
        await runner.cleanup()


WELL = b'{"ok": true, "team_id": "T1", "user_id": "U1"}'


async def test_what_is_sent_is_what_the_sdk_sends(served: Callable[[Heard], Awaitable[str]]) -> None:
    """Token, address, body, and form fields with yes and no; the SDK is the oracle."""
    heard = Heard(WELL)
    url = await served(heard)
    api = SlackApi([SecretStr(BOT_TOKEN)], url)
    await api.open()
    heard.requests.clear()
    posted: dict[str, Any] = {
        "channel": "C1",
        "text": "grün → <b>",
        "blocks": [{"type": "divider"}],
        "unfurl_links": False,
    }
    asked: dict[str, Any] = {"types": "public_channel", "exclude_archived": True, "limit": 200}
    await api.call("chat.postMessage", **posted)
    await api.ask("conversations.list", **asked)
    await api.close()
    async with aiohttp.ClientSession() as session:
        sdk = AsyncWebClient(BOT_TOKEN, base_url=url, session=session)
        await sdk.api_call("chat.postMessage", json=posted)
        await sdk.api_call("conversations.list", params=asked)
    ours, theirs = heard.requests[:2], heard.requests[2:]
    assert ours == theirs


async def test_through_the_environments_proxy(
    served: Callable[[Heard], Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same call, asked of the proxy; one that is away or answers nothing good is told apart as without one."""
    heard = Heard(WELL)
    proxy = (await served(heard)).removesuffix("/api/")
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    api = SlackApi([SecretStr(BOT_TOKEN)], "http://slack.example/api/")
    await api.open()
    await api.call("chat.postMessage", channel="C1", text="x")
    said = {"path": "/api/chat.postMessage", "token": f"Bearer {BOT_TOKEN}"}
    assert heard.requests[-1] == {**said, "json": {"channel": "C1", "text": "x"}}
    heard._answer, heard._status = b"<html>", 502
    with pytest.raises(OutcomeUnknown):
        await api.call("chat.postMessage", channel="C1", text="x")
    await api.close()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    away = SlackApi([SecretStr(BOT_TOKEN)], "http://slack.example/api/")
    with pytest.raises(ChatUnavailable, match="cannot be reached"):
        await away.open()
    await away.close()


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b'{"ok": false, "error": "channel_not_found"}'),
        (200, b'{"error": "channel_not_found"}'),
        (200, b"[]"),
        (200, b""),
        (201, WELL),
        (302, WELL),
        (503, b"<html>upstream</html>"),
    ],
)
async def test_what_is_no_success_for_the_sdk_is_none_for_us(
    served: Callable[[Heard], Awaitable[str]], status: int, answer: bytes
) -> None:
    """Whatever else came back, nothing is taken for posted."""
    heard = Heard(WELL)
    url = await served(heard)
    api = SlackApi([SecretStr(BOT_TOKEN)], url)
    await api.open()
    heard._answer, heard._status = answer, status
    with pytest.raises((ChatRejected, ChatUnavailable, OutcomeUnknown)):
        await api.call("chat.postMessage", channel="C1", text="x")
    await api.close()
    async with aiohttp.ClientSession() as session:
        with pytest.raises((SlackApiError, ValueError, AttributeError)):
            await AsyncWebClient(BOT_TOKEN, base_url=url, session=session).api_call("chat.postMessage", json={})
    assert len(heard.requests) == 3


async def test_half_a_character_is_sent_all_the_same(served: Callable[[Heard], Awaitable[str]]) -> None:
    """A log may hold one; no message is lost for it."""
    heard = Heard(WELL)
    api = SlackApi([SecretStr(BOT_TOKEN)], await served(heard))
    await api.open()
    await api.call("chat.postMessage", channel="C1", text="log \udcff")
    await api.close()
    assert heard.requests[-1]["json"] == {"channel": "C1", "text": "log \udcff"}
