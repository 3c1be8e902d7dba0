"""DingTalk, WeCom and webhooks get results: signed, within limits, and their errors say what to do next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from bot.app import PACE
from bot.settings import SettingsInvalid, read_settings
from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Card, Message
from notifiers.dingtalk import DingTalkApp, DingTalkClient, Robot, signed
from notifiers.plain import cut_bytes, escape, markdown
from notifiers.webhook import Address, WebhookClient, signature
from notifiers.wecom import WeComApp, WeComClient
from tests.fakes import robots
from tests.fakes.robots import FakeRobots

LONG = "行\n" * 30_000
CARD = Card(
    "pay 1.4.2 failed", "failed", "d-1", text="Build failed.", fields={"url": "https://x.example/a"}, excerpt=LONG
)
MESSAGE = Message("pay failed", CARD)


@pytest.fixture
async def fake() -> AsyncIterator[FakeRobots]:
    async with FakeRobots() as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=2) as client:
        yield client


def dingtalk(http: httpx.AsyncClient, fake: FakeRobots, secret: str = robots.DING_SECRET) -> DingTalkClient:
    app = DingTalkApp(robots.DING_KEY, SecretStr(robots.DING_APP_SECRET))
    return DingTalkClient(http, {"ops": Robot(robots.DING_TOKEN, secret)}, app, oapi=fake.url, api=fake.url)


def wecom(http: httpx.AsyncClient, fake: FakeRobots) -> WeComClient:
    app = WeComApp(robots.CORP, robots.AGENT, SecretStr(robots.CORP_SECRET))
    return WeComClient(http, {"ops": SecretStr(robots.WECOM_KEY)}, app, api=fake.url)


def webhook(http: httpx.AsyncClient, fake: FakeRobots) -> WebhookClient:
    return WebhookClient(http, {"ci": Address(f"{fake.url}/hook", robots.WEBHOOK_SECRET)})


def test_the_signature_of_a_robot() -> None:
    """The value was computed apart from this code; it is the mirror image of Feishu's."""
    assert signed("SECtest", 1_700_000_000)["sign"] == "aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g="


def test_the_signature_of_a_webhook() -> None:
    """The example of the Standard Webhooks specification."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_outside_text_is_not_live() -> None:
    """No mention, no link, no coloured font, no heading from a branch's name."""
    shown = escape("# hi @all <font color=red> [x](https://evil.example)\n> quote")
    for live in ("@all", "<font", "](", "\n>"):
        assert live not in shown
    assert not shown.startswith("#")


@pytest.mark.parametrize("limit", [10, 100, 2_000, 4_000])
def test_limits_count_bytes(limit: int) -> None:
    """A Chinese character is three; half of one is refused."""
    assert len(cut_bytes("行" * 5_000, limit).encode()) <= limit
    if limit >= 2_000:
        assert len(markdown(Message("x", Card("行" * 5_000, excerpt=LONG)), limit).encode()) <= limit


async def test_dingtalk_groups_and_persons(fake: FakeRobots, http: httpx.AsyncClient) -> None:
    """A robot by name, a person by the app; the token is asked for once."""
    client = dingtalk(http, fake)
    await client.post("ops", MESSAGE, "k1")
    await client.post("@u1", MESSAGE, "k2")
    await client.post("@u1", MESSAGE, "k3")
    assert "pay 1.4.2 failed" in fake.groups[0]["markdown"]["text"]
    assert [one["userIds"] for one in fake.persons] == [["u1"], ["u1"]]
    assert fake.tokens == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"errcode": 130101, "errmsg": "send too fast"}, ChatUnavailable),
        ({"status": 1111, "punish": "deny"}, ChatUnavailable),
        ({"errcode": -1}, ChatUnavailable),
        ({"errcode": 400102}, ChatRejected),
        ({"whatever": 1}, ChatUnavailable),
    ],
)
async def test_dingtalk_says_no_with_http_200(
    fake: FakeRobots, http: httpx.AsyncClient, answer: dict[str, Any], error: type[Exception]
) -> None:
    """Success is `errcode` 0 and nothing else; too fast blocks the robot for ten minutes."""
    fake.say(answer)
    with pytest.raises(error) as caught:
        await dingtalk(http, fake).post("ops", MESSAGE, "k")
    assert type(caught.value) is error
    if "punish" in answer or answer.get("errcode") == 130101:
        assert isinstance(caught.value, ChatUnavailable)
        assert caught.value.retry_after == 600


@pytest.mark.parametrize("platform", ["dingtalk", "wecom"])
async def test_twenty_a_minute_are_taken(fake: FakeRobots, http: httpx.AsyncClient, platform: str) -> None:
    """The outbox leaves enough time between two; if others use the robot too, the message waits."""
    assert 60 / PACE[platform] <= 20
    client = dingtalk(http, fake) if platform == "dingtalk" else wecom(http, fake)
    for number in range(20):
        await client.post("ops", Message("hello"), f"k{number}")
    with pytest.raises(ChatUnavailable) as caught:
        await client.post("ops", Message("hello"), "k20")
    assert caught.value.retry_after == (600 if platform == "dingtalk" else 30)


async def test_dingtalk_tells_who_got_nothing(fake: FakeRobots, http: httpx.AsyncClient) -> None:
    """It answers with a number all the same: one is not known, one has too many messages already."""
    client = dingtalk(http, fake)
    with pytest.raises(ChatRejected):
        await client.post("@gone", MESSAGE, "k")
    fake.busy.add("u1")
    with pytest.raises(ChatUnavailable):
        await client.post("@u1", MESSAGE, "k")
    assert fake.persons == []


async def test_a_wrong_secret_is_told_and_never_shown(fake: FakeRobots, http: httpx.AsyncClient) -> None:
    """The token is in the address, so no error may quote it."""
    with pytest.raises(ChatRejected) as caught:
        await dingtalk(http, fake, "SECwrong").post("ops", MESSAGE, "k")
    assert "310000" in str(caught.value)
    with pytest.raises(ChatUnavailable) as lost:
        await DingTalkClient(http, {"ops": Robot("tok-9", "sec-9")}, oapi="http://127.0.0.1:1").post(
            "ops", MESSAGE, "k"
        )
    for secret in ("SECwrong", robots.DING_TOKEN, "tok-9", "sec-9"):
        assert secret not in f"{caught.value}{lost.value}"
    assert lost.value.__cause__ is None


async def test_wecom_groups_and_persons(fake: FakeRobots, http: httpx.AsyncClient) -> None:
    """Within 4,096 and 2,048 bytes; a token that died is renewed once; the same message twice shows once."""
    client = wecom(http, fake)
    await client.post("ops", MESSAGE, "k1")
    await client.post("@u1", MESSAGE, "k2")
    fake.token = "changed"
    await client.post("@u1", MESSAGE, "k2")
    assert len(fake.groups) == 1
    assert len(fake.persons) == 1
    assert fake.tokens == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [({"errcode": 45009}, ChatUnavailable), ({"errcode": -1}, ChatUnavailable), ({"errcode": 93000}, ChatRejected)],
)
async def test_wecom_says_no_with_http_200(
    fake: FakeRobots, http: httpx.AsyncClient, answer: dict[str, Any], error: type[Exception]
) -> None:
    """Judged by the number, never by the words."""
    fake.say(answer)
    with pytest.raises(error) as caught:
        await wecom(http, fake).post("ops", MESSAGE, "k")
    assert type(caught.value) is error


async def test_wecom_does_not_know_everybody(fake: FakeRobots, http: httpx.AsyncClient) -> None:
    """It answers 0 and lists who got nothing."""
    with pytest.raises(ChatRejected):
        await wecom(http, fake).post("@gone", MESSAGE, "k")


async def test_a_webhook_gets_a_signed_cloud_event(fake: FakeRobots, http: httpx.AsyncClient) -> None:
    """Sent again with the same id, so that the receiver can drop the repeat."""
    client = webhook(http, fake)
    await client.post("ci", MESSAGE, "k")
    await client.post("ci", MESSAGE, "k")
    first, again = fake.events
    assert first["content_type"] == "application/cloudevents+json"
    assert (first["specversion"], first["subject"], first["type"]) == ("1.0", "d-1", "dev.slipway.deployment.failed.v1")
    assert first["id"] == again["id"]
    assert first["data"]["fields"] == {"url": "https://x.example/a"}
    assert "about" in first["data"]


ABOUT = {"service": "pay", "environment": "prod", "version": "1.4.2", "digest": "sha256:ab12", "commit": "c" * 40}


def ended(state: str, **about: str) -> Message:
    return Message("x", Card("x", state, "d-7", text="why", about=ABOUT | about))


@pytest.mark.parametrize(
    ("message", "kind", "subject"),
    [
        (ended("succeeded"), "dev.cdevents.service.deployed.0.3.0", "pay"),
        (ended("succeeded", before="1.4.1"), "dev.cdevents.service.upgraded.0.3.0", "pay"),
        (ended("succeeded", kind="rollback", before="1.4.3"), "dev.cdevents.service.rolledback.0.3.0", "pay"),
        (ended("rolled_back", before="1.4.1"), "dev.cdevents.service.rolledback.0.3.0", "pay"),
        (ended("failed", pipeline="https://ci.example/1"), "dev.cdevents.pipelinerun.finished.0.3.0", "d-7"),
        (ended("cancelled"), "dev.cdevents.pipelinerun.finished.0.3.0", "d-7"),
    ],
)
async def test_an_address_may_ask_for_cdevents(
    fake: FakeRobots, http: httpx.AsyncClient, message: Message, kind: str, subject: str
) -> None:
    """The CloudEvent says what the CDEvent inside says, as its binding demands; nothing in it is unknown."""
    client = WebhookClient(http, {"ci": Address(f"{fake.url}/hook", robots.WEBHOOK_SECRET, "cdevents")})
    await client.post("ci", message, "k")
    (event,) = fake.events
    context = event["data"]["context"]
    assert (event["type"], event["subject"], event["specversion"]) == (kind, subject, "1.0")
    assert (context["type"], context["id"], context["source"]) == (kind, event["id"], event["source"])
    assert (context["timestamp"], context["specversion"]) == (event["time"], "0.5.1")
    assert set(event["data"]) == {"context", "subject", "customData", "customDataContentType"}
    content = event["data"]["subject"]["content"]
    if subject == "pay":
        assert content == {
            "environment": {"id": "prod"},
            "artifactId": "pkg:generic/pay@1.4.2?checksum=sha256:ab12",
        }
    else:
        assert content["outcome"] in ("failure", "cancel")
    assert event["data"]["customData"]["deployment"] == "d-7"


async def test_what_has_no_word_is_not_sent(fake: FakeRobots, http: httpx.AsyncClient) -> None:
    """A question that waits, and a message that is about no deployment."""
    client = WebhookClient(http, {"ci": Address(f"{fake.url}/hook", robots.WEBHOOK_SECRET, "cdevents")})
    for message in (ended("awaiting_approval"), Message("hello")):
        assert await client.post("ci", message, "k") == "unsaid"
    assert fake.events == []


@pytest.mark.parametrize(
    ("status", "error"), [(500, ChatUnavailable), (302, ChatUnavailable), (404, ChatUnavailable), (410, ChatRejected)]
)
async def test_a_webhook_that_does_not_take_it(
    fake: FakeRobots, http: httpx.AsyncClient, status: int, error: type[Exception]
) -> None:
    """Tried again, also while a receiver is set up; 410 means never again; redirects are not followed."""
    fake.say(status)
    with pytest.raises(error):
        await webhook(http, fake).post("ci", MESSAGE, "k")


@pytest.mark.parametrize("place", ["nowhere", "@somebody"])
async def test_a_place_nobody_named(http: httpx.AsyncClient, place: str) -> None:
    """A name in the catalog without its robot in the settings is told, with the setting's name."""
    for client in (DingTalkClient(http, {}), WeComClient(http, {}), WebhookClient(http, {})):
        with pytest.raises(ChatRejected, match=r"DINGTALK_|WECOM_|SLIPWAY_WEBHOOKS"):
            await client.post(place, MESSAGE, "k")


def test_settings_name_what_is_wrong_and_never_show_it(tmp_path: Path) -> None:
    """Every mistake at once, by name."""
    values = {
        "SLIPWAY_CONFIG": str(tmp_path),
        "DINGTALK_ROBOTS": "hush-token",
        "WECOM_ROBOTS": "ops=hush-key more",
        "SLIPWAY_WEBHOOKS": "ci=http://elsewhere.example/hush whsec_aHVzaA== hushes",
        "DINGTALK_APP_KEY": "k",
        "WECOM_CORP_ID": "c",
    }
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(values)
    for name in (
        "DINGTALK_ROBOTS",
        "WECOM_ROBOTS",
        "cdevents",
        "https://",
        "24 bytes",
        "DINGTALK_APP_SECRET",
        "WECOM_SECRET",
    ):
        assert name in caught.value.message
    assert "hush" not in caught.value.message
