"""A chart is a picture on every platform that takes one, and its bars say what the figures say."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest
from pydantic import SecretStr

from bot.errors import SlipwayError
from notifiers.card import Card, Chart, Message, Series
from notifiers.chart import BAD, BOTTOM, GOOD, HEIGHT, TOP, WIDTH, png
from notifiers.codec import message_from_json, message_to_json
from notifiers.console import card_json
from notifiers.feishu import FeishuClient
from notifiers.feishu_api import FeishuApi
from notifiers.language import CHINESE, Reader, _card
from notifiers.slack import SlackClient
from notifiers.slack_api import SlackApi
from tests.fakes.feishu import APP_ID, APP_SECRET, FakeFeishu
from tests.fakes.slack import BOT_TOKEN, FakeSlack

CHART = Chart(
    "Releases of the week", ("a", "b"), (Series("succeeded", (4, 1), "succeeded"), Series("failed", (0, 2), "failed"))
)
MESSAGE = Message("Releases", Card("Releases", fields={"deployments": "7"}, chart=CHART))


def rows(picture: bytes) -> list[bytes]:
    """The picture's colour numbers, row by row, as any reader of PNG would unpack them."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    at, parts = 8, {}
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        data = picture[at + 8 : at + 8 + length]
        (check,) = struct.unpack(">I", picture[at + 8 + length : at + 12 + length])
        assert check == zlib.crc32(kind + data)
        parts[kind] = data
        at += 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    assert (width, height, depth, colour) == (WIDTH, HEIGHT, 8, 3)
    raw = zlib.decompress(parts[b"IDAT"])
    lines = [raw[start : start + width + 1] for start in range(0, len(raw), width + 1)]
    assert all(line[0] == 0 for line in lines)
    return [line[1:] for line in lines]


def heights(picture: bytes, colour: int) -> set[int]:
    """How high the columns of a colour are, below the legend."""
    body = rows(picture)[TOP:]
    return {count for x in range(WIDTH) if (count := sum(row[x] == colour for row in body))}


def test_bars_are_as_high_as_the_figures() -> None:
    """Four of four lines fill the whole height; one and two are a quarter and a half of it, on top of each other."""
    full = HEIGHT - TOP - BOTTOM
    picture = png(CHART)
    assert heights(picture, GOOD) == {full, full // 4}
    assert heights(picture, BAD) == {full // 2}


@pytest.mark.parametrize("values", [(0, 0), (1, 0), (7, 1_234_567), (10**9, 3)])
def test_any_figure_fits(values: tuple[int, int]) -> None:
    """Nothing reaches above the highest line."""
    picture = png(Chart("t" * 500, ("x" * 40, "发布"), (Series("n", values, "succeeded"),)))
    assert all(height <= HEIGHT - TOP - BOTTOM for height in heights(picture, GOOD))


def test_it_survives_the_outbox() -> None:
    """Messages are stored as JSON before they are sent."""
    assert message_from_json(message_to_json(MESSAGE)) == MESSAGE


def test_the_console_shows_it() -> None:
    """And a card without one has the shape it always had."""
    card: dict[str, Any] = card_json(MESSAGE.card or Card(""))
    kind, _, data = card["picture"]["src"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == png(CHART)
    assert "picture" not in card_json(Card("without"))


async def test_slack_gets_it_into_the_thread() -> None:
    """As a file, with words for those who do not see it."""
    async with FakeSlack() as fake:
        fake.channel("C1", "releases")
        api = SlackApi([SecretStr(BOT_TOKEN)], fake.base_url)
        await api.open()
        try:
            ref = await SlackClient(api).post("C1", MESSAGE, "k1")
        finally:
            await api.close()
    (file,) = fake.files
    assert (file["name"], file["content"], file["thread_ts"]) == ("chart.png", png(CHART), ref.partition(":")[2])


async def test_feishu_gets_it_into_the_card() -> None:
    """Uploaded first; if it is not taken, the card goes without."""
    async with FakeFeishu() as fake:
        fake.groups.add("oc_1")
        api = FeishuApi(APP_ID, SecretStr(APP_SECRET), fake.url, timeout=2)
        client = FeishuClient(api)
        try:
            await client.post("oc_1", MESSAGE, "k1")
            fake.fail("POST /open-apis/im/v1/images", code=99991672)
            await client.post("oc_1", MESSAGE, "k2")
        except SlipwayError as error:  # pragma: no cover - says what went wrong
            pytest.fail(error.sentence())
        finally:
            await api.close()
    first, second = fake.in_place("oc_1")
    (image,) = [one for one in first.content["body"]["elements"] if one["tag"] == "img"]
    assert fake.images[image["img_key"]] == png(CHART)
    assert all(one["tag"] != "img" for one in second.content["body"]["elements"])


def test_a_chart_speaks_the_readers_language() -> None:
    """Its title and its words; the picture has letters for one alphabet only, so there it keeps colours and dates."""
    chart = Chart("Releases, 2026-01-05 to 2026-01-11", CHART.labels, CHART.series)
    card = Card("Releases", fields={"picture": "green: succeeded, red: failed, by day"}, chart=chart)
    said = _card(card, Reader(CHINESE))
    assert said.chart is not None
    assert "2026-01-05" in said.chart.title
    assert "Releases" not in said.chart.title
    assert [one.name for one in said.chart.series] == ["已成功", "已失败"]
    assert said.fields == {"图": "绿色：成功，红色：失败，按天统计"}
    picture = png(said.chart)
    assert (heights(picture, GOOD), heights(picture, BAD)) == (heights(png(chart), GOOD), heights(png(chart), BAD))
    dates = Chart("2026-01-05 2026-01-11", CHART.labels, said.chart.series)
    assert picture == png(dates)
