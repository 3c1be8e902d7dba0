"""The console's JSON API: what scripts rely on, and what nobody may do through it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.requests import Request

from bot.store.console import ConsoleStore, NewConsoleMessage, add_all
from bot.store.database import Database, Tx
from bot.web.answers import BODY_LIMIT, ApiError
from bot.web.console_access import FAILURE_WINDOW, FAILURES, Access, is_loopback
from notifiers.base import ChatRejected
from notifiers.card import Button, Card, Input, Message
from notifiers.console import EXCERPT_LIMIT, ConsoleClient
from tests.support.clock import FakeClock
from tests.support.console_playground import Playground, make_catalog, make_playground, serving

TOKENS = {"owner": SecretStr("olive-olive-olive-olive"), "lead": SecretStr("leo-leo-leo-leo-leo-leo")}
LOOPBACK = "http://127.0.0.1:8377"


@pytest.fixture
async def playground(database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Playground]:
    """An open console over an empty database."""
    made = make_playground(tmp_path, pace=0, url=database_url, clock=clock)
    yield made
    await made.bot.stop()
    made.db.close()


@pytest.fixture
async def local(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Playground]:
    """An open console on SQLite alone, for what never reaches the database."""
    made = make_playground(tmp_path, pace=0, clock=clock)
    yield made
    await made.bot.stop()
    made.db.close()


@pytest.fixture
async def closed(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Playground]:
    """A console where one must log in."""
    made = make_playground(tmp_path, pace=0, tokens=TOKENS, clock=clock)
    yield made
    await made.bot.stop()
    made.db.close()


@asynccontextmanager
async def client(playground: Playground, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(playground.app)
    async with httpx.AsyncClient(transport=transport, base_url=LOOPBACK, headers=headers) as opened:
        yield opened


async def say(
    http: httpx.AsyncClient, text: str, person: str = "owner", place: str = "#releases", **headers: str
) -> str:
    answer = await http.post(
        "/console/api/messages", json={"person": person, "place": place, "text": text}, headers=headers
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def read(http: httpx.AsyncClient, person: str = "owner", **query: str) -> dict[str, Any]:
    answer = await http.get("/console/api/messages", params={"person": person, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def bearer(person: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[person].get_secret_value()}"}


# --- the shapes scripts rely on --------------------------------------------------------------------------------------


async def test_a_message_is_stored_and_read_back(playground: Playground) -> None:
    """The shape is public: a field that changes its name breaks somebody's script."""
    async with client(playground) as http:
        ref = await say(http, "good morning")
        found = await read(http)
    assert found["messages"] == [
        {
            "id": ref,
            "place": "#releases",
            "author": "owner",
            "text": "good morning",
            "card": None,
            "reply_to": None,
            "created_at": "2026-01-05T09:00:00.000Z",
            "edited_at": None,
        }
    ]
    assert (ref, found["cursor"]) == ("m1", "1")


async def test_a_card_has_every_part_of_the_public_shape(playground: Playground) -> None:
    """Scripts wait for `state` and read `fields`, so none may be missing, not even when empty."""
    card = Card("hello to prod", "building", "d-1", 40, fields={"url": "http://x"}, buttons=(Button("go", "Go"),))
    async with client(playground) as http:
        await playground.client.post("#releases", Message("hello", card), "k1")
        (message,) = (await read(http))["messages"]
    assert message["author"] == "slipway"
    assert message["card"] == {
        "title": "hello to prod",
        "state": "building",
        "deployment": "d-1",
        "progress": 40,
        "text": "",
        "steps": [],
        "fields": {"url": "http://x"},
        "excerpt": None,
        "buttons": [{"id": "go", "label": "Go", "style": "normal", "confirm": "", "inputs": []}],
    }


async def test_a_cursor_gives_what_was_created_or_edited_since(playground: Playground) -> None:
    """A script that polls must see every edit, and nothing twice."""
    async with client(playground) as http:
        ref = await playground.client.post("#releases", Message("first"), "k1")
        asked = await say(http, "good morning")
        start = (await read(http))["cursor"]
        assert (await read(http, after=start))["messages"] == []
        await playground.client.edit("#releases", ref, Message("first, edited"))
        changed = await read(http, after=start)
        assert [(one["id"], one["text"]) for one in changed["messages"]] == [(ref, "first, edited")]
        assert changed["messages"][0]["edited_at"] is not None
        assert (await read(http, after=changed["cursor"]))["messages"] == []
        assert [one["id"] for one in (await read(http, after=asked))["messages"]] == [ref]


async def test_without_a_cursor_come_the_newest_in_order(playground: Playground) -> None:
    """History grows for years; a page must open at its end."""
    async with client(playground) as http:
        for number in range(205):
            await playground.store.add(NewConsoleMessage("#releases", "owner", f"line {number}"))
        found = await read(http)
        older = await read(http, before=found["messages"][0]["id"])
    assert [one["text"] for one in found["messages"]][::199] == ["line 5", "line 204"]
    assert [one["text"] for one in older["messages"]] == [f"line {number}" for number in range(5)]
    assert (found["more"], older["more"]) == (True, False)


async def test_people_places_commands_and_greeting(local: Playground) -> None:
    """What the page needs to draw itself."""
    async with client(local) as http:
        people = (await http.get("/console/api/people")).json()["people"]
        places = (await http.get("/console/api/places", params={"person": "owner"})).json()["places"]
        commands = (await http.get("/console/api/commands", params={"person": "owner"})).json()["commands"]
        outsiders = (await http.get("/console/api/commands", params={"person": "outsider"})).json()["commands"]
        greeting = (await http.get("/console/api/greeting")).json()
    assert people[:2] == [
        {"id": "owner", "name": "Olive Owner", "role": "Owner of hello, pay, gate"},
        {"id": "lead", "name": "Leo Lead", "role": "Lead of Payments"},
    ]
    assert [one["role"] for one in people[2:]] == ["Release manager", "Member of Payments", "No role"]
    assert [one["id"] for one in places] == ["#releases", "#payments", "@slipway"]
    assert [one["personal"] for one in places] == [False, False, True]
    assert commands[0]["usage"].startswith("/deploy <service> <environment> [version|branch] [--reason TEXT] [--plan]")
    names = [one["name"] for one in commands[0]["arguments"]]
    assert names[:5] == ["service", "environment", "version", "reason", "plan"]
    assert "deploy" not in [one["name"] for one in outsiders]
    assert len(greeting["try"]) == 5
    assert set(greeting["try"][0]) == {"text", "command", "as"}


async def test_completion_goes_word_by_word(playground: Playground) -> None:
    """Each suggestion is the whole line, so that a client only has to replace."""

    async def ask(text: str, person: str = "owner") -> list[str]:
        answer = await http.get("/console/api/complete", params={"person": person, "text": text})
        return [one["text"] for one in answer.json()["suggestions"]]

    async with client(playground) as http:
        assert await ask("/de") == ["/deploy "]
        assert await ask("/de", "outsider") == []
        assert await ask("/deploy ") == ["/deploy hello ", "/deploy pay ", "/deploy gate "]
        assert await ask("/deploy HE") == ["/deploy hello "]
        assert await ask("@slipway deploy hello pr") == ["@slipway deploy hello prod "]
        options = await ask("/deploy hello prod --")
        assert options[:2] == ["/deploy hello prod --reason ", "/deploy hello prod --plan"]
        assert (await ask("/deploy hello prod --reason so "))[0] == "/deploy hello prod --reason so --plan"
        assert await ask("good mor") == []


# --- commands and clicks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "text", "command"),
    [
        ("#releases", "/deploy hello prod", "/deploy hello prod"),
        ("#releases", "@slipway deploy hello prod", "deploy hello prod"),
        ("#releases", "@Slipway: status", "status"),
        ("#releases", "@slipway", "help"),
        ("@slipway", "status", "status"),
        ("#releases", "see /deploy, it is nice", None),
        ("#releases", "@slipway-fan hi", None),
        ("#releases", "mail me @slipway deploy", None),
    ],
)
async def test_what_is_a_command(local: Playground, place: str, text: str, command: str | None) -> None:
    """Talk among people must never deploy anything."""
    async with client(local) as http:
        ref = await say(http, text, place=place)
    assert [one.text for one in local.bot.commands] == ([command] if command else [])
    for one in local.bot.commands:
        personal = place == "@slipway"
        assert (one.event_id, one.user_id, one.place) == (ref, "owner", "@owner" if personal else place)
        assert (one.personal, one.thread) == (personal, ref)


async def test_the_same_idempotency_key_does_nothing_twice(playground: Playground) -> None:
    """A script whose connection broke sends again; that must not deploy twice. Another person's key is another key."""
    key = {"Idempotency-Key": "k1"}
    async with client(playground) as http:
        ids = [await say(http, "/deploy hello prod", **key) for _ in range(3)]
        other = await say(http, "/deploy hello prod", person="lead", **key)
    assert len(set(ids)) == 1
    assert other not in ids
    assert {one.event_id for one in playground.bot.commands} == {ids[0], other}


async def test_a_press_reaches_the_bot_and_its_no_comes_back(playground: Playground) -> None:
    """A click is answered at once: 202, or why not."""
    card = Card("May it?", "awaiting_approval", "d-7", buttons=(Button("approve", "Approve"),))
    async with client(playground) as http:
        ref = await playground.client.post("#releases", Message("May it?", card), "k1")
        body = {"person": "owner", "message": ref, "button": "approve"}
        refused = await http.post("/console/api/actions", json=body)
        accepted = await http.post("/console/api/actions", json=body | {"person": "lead"})
    assert (refused.status_code, accepted.status_code) == (403, 202)
    assert refused.json()["error"].startswith("Only leads of Payments")
    assert accepted.json()["id"]
    seen = playground.bot.clicks[-1]
    assert (seen.user_id, seen.message_ref, seen.button, seen.deployment) == ("lead", ref, "approve", "d-7")


async def test_a_button_that_is_gone_is_409(playground: Playground) -> None:
    """An old page still shows it; pressing must not act on what the card says now."""
    card = Card("May it?", buttons=(Button("approve", "Approve"),))
    async with client(playground) as http:
        ref = await playground.client.post("#releases", Message("May it?", card), "k1")
        await playground.client.edit("#releases", ref, Message("Done", replace(card, buttons=())))
        answer = await http.post("/console/api/actions", json={"person": "lead", "message": ref, "button": "approve"})
    assert answer.status_code == 409
    assert answer.json()["error"].startswith("That button is gone")
    assert playground.bot.clicks == []


@pytest.mark.parametrize(
    ("inputs", "status"),
    [
        ({"reason": "because"}, 202),
        ({}, 400),
        ({"reason": "  "}, 400),
        ({"reason": "x", "more": "y"}, 202),
        ({"reason": "x" * 1001}, 400),
        ({"reason": 1}, 400),
        (["reason"], 400),
    ],
)
async def test_inputs_are_checked(local: Playground, inputs: object, status: int) -> None:
    """A required reason is required of scripts, too; what was not asked for goes no further."""
    button = Button("again", "Again", inputs=(Input("reason", "Reason", required=True),))
    async with client(local) as http:
        ref = await local.client.post("#releases", Message("x", Card("x", buttons=(button,))), "k1")
        body = {"person": "lead", "message": ref, "button": "again", "inputs": inputs}
        answer = await http.post("/console/api/actions", json=body)
    assert answer.status_code == status, answer.text
    assert all(set(one.inputs) == {"reason"} for one in local.bot.clicks)


# --- bad requests ----------------------------------------------------------------------------------------------------

GOOD = {"person": "owner", "place": "#releases", "text": "hi"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (GOOD | {"person": "nobody"}, 404),
        (GOOD | {"person": 7}, 400),
        (GOOD | {"place": "#nowhere"}, 404),
        (GOOD | {"place": "@lead"}, 404),
        (GOOD | {"text": "  \n "}, 400),
        (GOOD | {"text": "x" * 4001}, 400),
        (GOOD | {"text": "nul \x00"}, 400),
        (GOOD | {"text": None}, 400),
        ({"person": "owner"}, 400),
        ([], 400),
        ("text", 400),
    ],
)
async def test_a_bad_message_is_a_4xx_with_one_sentence(local: Playground, body: object, status: int) -> None:
    """Whoever writes a script learns from the answer what to change."""
    async with client(local) as http:
        answer = await http.post("/console/api/messages", json=body)
        assert (await read(http))["messages"] == []
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b'{"person":"owner","place":"#releases","text":"\\ud800"}', "application/json", 400),
        (json.dumps(GOOD).encode(), "text/plain", 415),
        (json.dumps(GOOD).encode(), "", 415),
        (json.dumps(GOOD | {"more": "x" * BODY_LIMIT}).encode(), "application/json", 413),
    ],
)
async def test_a_bad_body_is_a_4xx(local: Playground, content: bytes, kind: str, status: int) -> None:
    """Half characters, deep nesting and floods end here, not in the database."""
    async with client(local) as http:
        answer = await http.post("/console/api/messages", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("messages", 400),
        ("messages?person=nobody", 404),
        ("messages?person=owner&place=%23nowhere", 404),
        ("messages?person=owner&after=yesterday", 400),
        ("messages?person=owner&after=m99", 404),
        ("messages?person=owner&after=99999999999999999999", 400),
        ("stream?person=owner&after=-1", 400),
        ("nothing", 404),
        ("actions", 405),
    ],
)
async def test_a_bad_question_is_a_4xx(local: Playground, path: str, status: int) -> None:
    """Also for addresses that do not exist: always JSON, never a page of HTML."""
    async with client(local) as http:
        answer = await http.get(f"/console/api/{path}")
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


# --- who sees what ---------------------------------------------------------------------------------------------------


async def test_a_personal_place_shows_only_that_persons_messages(playground: Playground) -> None:
    """Failure messages are personal; the same place name is another chat for each person."""
    async with client(playground) as http:
        mine = await playground.client.post("@owner", Message("for owner"), "k1")
        await playground.client.post("@lead", Message("for lead"), "k2")
        await say(http, "/whoami", place="@slipway")
        assert [one["text"] for one in (await read(http, place="@slipway"))["messages"]][:2] == ["for owner", "/whoami"]
        assert [one["text"] for one in (await read(http, "lead"))["messages"]] == ["for lead"]
        assert [one["text"] for one in (await read(http, "lead", after="0"))["messages"]] == ["for lead"]
        peek = await http.get("/console/api/messages", params={"person": "lead", "after": mine})
        body = {"person": "lead", "message": mine, "button": "approve"}
        press = await http.post("/console/api/actions", json=body)
    assert (peek.status_code, press.status_code) == (404, 404)


async def test_the_open_console_counts_what_waits_for_others(playground: Playground) -> None:
    """So that one person trying all roles sees where the next step is."""
    async with client(playground) as http:
        for key in ("k1", "k2"):
            await playground.client.post("@lead", Message("please approve"), key)
        seen = ["lead:1", "owner:0", "releaser:999", "nobody:0"]
        answer = await http.get("/console/api/unread", params={"seen": seen})
    assert answer.json() == {"unread": {"lead": 1, "owner": 0, "releaser": 0}}


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1:8377", True),
        ("127.9.9.9", True),
        ("localhost:8377", True),
        ("slipway.localhost", True),
        ("[::1]:8377", True),
        ("evil.example:8377", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("[2001:db8::1]:80", False),
        ("", False),
    ],
)
def test_which_hosts_are_this_machine(host: str, is_ours: bool) -> None:
    """A page elsewhere can make its own name point to 127.0.0.1, but it cannot change the name."""
    assert is_loopback(host) is is_ours


@pytest.mark.parametrize("path", ["/", "/console", "/console/static/console.js", "/console/api/people"])
async def test_the_open_console_answers_only_this_machine(local: Playground, path: str) -> None:
    """DNS rebinding."""
    async with client(local, Host="evil.example:8377") as http:
        answer = await http.get(path)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [(LOOPBACK, 202), ("http://localhost:8377", 403), ("https://evil.example", 403), ("null", 403)],
)
async def test_a_post_comes_from_our_own_page_or_from_a_script(local: Playground, origin: str, status: int) -> None:
    """Another site's page in the same browser must not be able to deploy."""
    async with client(local, Origin=origin) as http:
        answer = await http.post("/console/api/messages", json=GOOD)
    assert answer.status_code == status


async def test_every_answer_is_locked_down(local: Playground) -> None:
    """Nothing inline, nothing from elsewhere, in no frame; private answers are not cached."""
    async with client(local) as http:
        page = await http.get("/console")
        script = await http.get("/console/static/console.js")
        again = await http.get("/console/static/console.js", headers={"If-None-Match": script.headers["etag"]})
        data = await http.get("/console/api/people")
        root = await http.get("/")
    assert root.headers["location"] == "/console"
    for answer in (page, script, data):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
    assert again.status_code == 304
    assert data.headers["cache-control"] == "no-store"


async def test_the_page_is_small(local: Playground) -> None:
    """Under 60 KB over the wire, all files together."""
    async with client(local) as http:
        names = ["console", *(f"console/static/{path.name}" for path in Path("bot/web/static").iterdir())]
        size = 0
        for name in names:
            if name.endswith(".html"):
                continue
            async with http.stream("GET", f"/{name}", headers={"Accept-Encoding": "gzip"}) as answer:
                assert answer.status_code == 200
                size += sum([len(part) async for part in answer.aiter_raw()])
    assert 1_000 < size < 60_000


# --- logging in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "person", "status"),
    [
        ({}, "owner", 401),
        ({"Authorization": "Bearer wrong"}, "owner", 401),
        ({"Authorization": "Basic b3duZXI6"}, "owner", 401),
        ({"Cookie": "slipway_console=6f776e6572.99999999999.00"}, "owner", 401),
        ({"Cookie": "slipway_console=é.é.é"}, "owner", 401),
        (bearer("owner"), "lead", 403),
        (bearer("owner"), "owner", 200),
        (bearer("owner"), "", 200),
    ],
)
async def test_a_token_is_needed_and_speaks_for_one_person(
    closed: Playground, headers: dict[str, str], person: str, status: int
) -> None:
    """Nobody acts as anybody else."""
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    async with client(closed) as http:
        answer = await http.get("/console/api/messages", params={"person": person}, headers=encoded)
    assert answer.status_code == status
    assert status == 200 or set(answer.json()) == {"error"}


async def test_a_post_in_anothers_name_is_refused(closed: Playground) -> None:
    """Also when the body says so."""
    async with client(closed, **bearer("owner")) as http:
        answer = await http.post("/console/api/messages", json=GOOD | {"person": "lead"})
        press = await http.post("/console/api/actions", json={"person": "lead", "message": "m1", "button": "x"})
    assert (answer.status_code, press.status_code) == (403, 403)
    assert closed.bot.commands == []


async def test_a_login_gives_a_cookie_that_ends(closed: Playground, clock: FakeClock) -> None:
    """The cookie is no token: it is out of reach of scripts and other sites, and good for a month."""
    async with client(closed) as http:
        answer = await http.post("/console/api/login", json={"token": TOKENS["lead"].get_secret_value()})
        assert answer.json() == {"person": "lead"}
        cookie = answer.headers["set-cookie"]
        http.cookies.clear()
        assert TOKENS["lead"].get_secret_value() not in cookie
        assert {"HttpOnly", "Path=/console", "SameSite=strict"} <= set(cookie.split("; "))
        value = cookie.partition("=")[2].partition(";")[0]
        session = {"Cookie": f"slipway_console={value}"}
        assert (await http.get("/console/api/people", headers=session)).json()["me"] == "lead"
    access = Access(open=False, tokens={"lead": SecretStr("another-token-of-the-lead")}, clock=clock)
    assert access._by_cookie(value) is None
    known = Access(open=False, tokens=TOKENS, clock=clock)
    until = int(value.split(".")[1])
    assert until > clock().timestamp()
    assert known._by_cookie(value) == "lead"
    clock.set(clock() + timedelta(days=31))
    assert known._by_cookie(value) is None


async def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    """After ten wrong tokens an address waits, even with the right one; another address does not."""
    now = [0.0]
    access = Access(open=False, tokens=TOKENS, seconds=lambda: now[0])

    def try_it(token: str, address: str = "10.0.0.1") -> int:
        request = Request({"type": "http", "method": "POST", "headers": [], "client": (address, 1)})
        try:
            access.log_in(request, token)
        except ApiError as error:
            return error.status
        return 200

    right = TOKENS["owner"].get_secret_value()
    assert [try_it("wrong") for _ in range(FAILURES)] == [401] * FAILURES
    assert (try_it(right), try_it("wrong"), try_it(right, "10.0.0.2")) == (429, 429, 200)
    now[0] += FAILURE_WINDOW
    assert try_it(right) == 200


async def test_a_person_who_left_is_out(tmp_path: Path, clock: FakeClock) -> None:
    """The token may still be in the file; the catalog decides."""
    catalog = make_catalog()
    people = dict(catalog.people)
    people["owner"] = replace(people["owner"], active=False)
    left = replace(catalog, people=people)
    made = make_playground(tmp_path, tokens=TOKENS, clock=clock, catalog=lambda: left)
    async with client(made, **bearer("owner")) as http:
        answer = await http.get("/console/api/messages")
    made.db.close()
    assert answer.status_code == 403


async def test_a_closed_console_says_nothing_about_others(closed: Playground) -> None:
    """Counts of other people's personal messages are for the demo alone."""
    async with client(closed, **bearer("owner")) as http:
        answer = await http.get("/console/api/unread", params={"seen": "lead:0"})
    assert answer.status_code == 403


# --- the stream ------------------------------------------------------------------------------------------------------


class Events:
    """Reads server-sent events of one connection."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self, kind: str = "message") -> dict[str, str]:
        """The next event of that kind."""
        async with asyncio.timeout(10):
            event: dict[str, str] = {}
            async for line in self._lines:
                if not line:
                    if event.get("event") == kind:
                        return event
                    event = {}
                else:
                    name, _, value = line.partition(": ")
                    event[name or "comment"] = value
                    if kind == "comment" and not name:
                        return event
        raise AssertionError("the stream ended")


@asynccontextmanager
async def listening(address: str, **options: Any) -> AsyncIterator[Events]:
    async with httpx.AsyncClient() as http, http.stream("GET", f"{address}/console/api/stream", **options) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Events(answer)


async def test_the_stream_tells_what_is_created_and_edited(database_url: str, tmp_path: Path) -> None:
    """Progress is seen at once, without asking."""
    playground = make_playground(tmp_path, pace=0, url=database_url)
    async with (
        serving(playground) as address,
        listening(address, params={"person": "owner"}) as events,
    ):
        ref = await playground.client.post("#releases", Message("one"), "k1")
        await playground.client.post("@lead", Message("secret of lead"), "k2")
        await playground.client.edit("#releases", ref, Message("one, edited"))
        first = await events.next()
        last = json.loads(first["data"])
        while last["text"] != "one, edited":
            assert "lead" not in last["text"]
            last = json.loads((await events.next())["data"])
        assert last["id"] == ref
        assert int(first["id"]) >= 1


async def test_the_stream_goes_on_where_the_reader_was(tmp_path: Path) -> None:
    """A reader who was cut off gets everything missed, once."""
    playground = make_playground(tmp_path, pace=0)
    async with serving(playground) as address:
        for number in range(3):
            await playground.client.post("#releases", Message(f"line {number}"), f"k{number}")
        async with listening(address, params={"person": "owner"}, headers={"Last-Event-ID": "1"}) as events:
            seen = [json.loads((await events.next())["data"])["text"] for _ in range(2)]
        async with listening(address, params={"person": "owner", "after": "m1"}) as events:
            again = [json.loads((await events.next())["data"])["text"] for _ in range(2)]
        async with listening(address, params={"person": "owner", "after": "500"}) as events:
            assert (await events.next("reset"))["data"]
    assert seen == again == ["line 1", "line 2"]


async def test_the_stream_shows_that_it_lives_and_ends_when_told(tmp_path: Path) -> None:
    """Proxies cut silent connections; a server that stops must not wait for open pages."""
    playground = make_playground(tmp_path, heartbeat=0.05)
    async with serving(playground) as address, listening(address, params={"person": "owner"}) as events:
        assert (await events.next("comment"))["comment"] == "alive"
        playground.store.close()
        with pytest.raises(AssertionError, match="ended"):
            await events.next()


async def test_the_stream_needs_the_token_of_its_person(tmp_path: Path) -> None:
    """It carries the same messages as the rest."""
    playground = make_playground(tmp_path, tokens=TOKENS)
    async with serving(playground) as address, httpx.AsyncClient(base_url=address) as http:
        assert (await http.get("/console/api/stream?person=owner")).status_code == 401
        answer = await http.get("/console/api/stream?person=lead", headers=bearer("owner"))
        assert answer.status_code == 403


# --- the store and the client ----------------------------------------------------------------------------------------


async def test_a_post_is_idempotent_and_a_same_edit_is_no_change(playground: Playground) -> None:
    """The outbox may send again after a crash; nobody sees a second message or a false `edited`."""
    refs = {await playground.client.post("#releases", Message("one"), "k1") for _ in range(3)}
    (ref,) = refs
    await playground.client.edit("#releases", ref, Message("one"))
    (message,) = await playground.store.newest("owner")
    assert (message.edited_at, message.seq) == (None, 1)


@pytest.mark.parametrize("place", ["", "#", "@", "releases"])
async def test_an_impossible_place_is_rejected(local: Playground, place: str) -> None:
    """So that the outbox gives up instead of trying for ever."""
    with pytest.raises(ChatRejected):
        await local.client.post(place, Message("x"), "k1")


async def test_only_our_own_messages_are_edited(playground: Playground) -> None:
    """What a person said stays as it was said."""
    async with client(playground) as http:
        ref = await say(http, "mine")
    for wrong in (ref, "m99", "", "x"):
        with pytest.raises(ChatRejected):
            await playground.client.edit("#releases", wrong, Message("changed"))


async def test_odd_text_is_stored_and_long_excerpts_keep_their_end(playground: Playground) -> None:
    """Logs hold anything; the end is where things went wrong."""
    card = Card("nul \x00", "failed", fields={"half \ud800": "x\x00"}, excerpt="a" * 50_000 + "the end")
    await playground.client.post("#releases", Message("odd \x00 \ud800", card), "k1")
    (message,) = await playground.store.newest("owner")
    assert message.card is not None
    assert message.card["excerpt"].endswith("the end")
    assert len(message.card["excerpt"]) <= EXCERPT_LIMIT + 2
    assert "\x00" not in message.text


async def test_history_survives_a_restart(database_url: str, tmp_path: Path, clock: FakeClock) -> None:
    """The console has no other memory than the database."""
    before = make_playground(tmp_path, url=database_url, clock=clock)
    await before.client.post("#releases", Message("kept"), "k1")
    before.db.close()
    after = make_playground(tmp_path, url=database_url, clock=clock)
    assert [one.text for one in await after.store.newest("owner")] == ["kept"]
    after.db.close()


async def test_a_reader_never_misses_a_lower_number(postgres_url: str, tmp_path: Path, clock: FakeClock) -> None:
    """On PostgreSQL two replicas write at once: a number is given only when all lower ones are visible."""
    made = make_playground(tmp_path, url=postgres_url, clock=clock)
    others = [Database(postgres_url) for _ in range(3)]
    writers = [ConsoleStore(db, clock) for db in others]
    seen: list[int] = []
    done = threading.Event()

    async def write(store: ConsoleStore, name: str) -> None:
        for number in range(30):
            await store.add(NewConsoleMessage("#releases", "owner", f"{name} {number}"))

    async def follow() -> None:
        while True:
            finished = done.is_set()
            changed = await made.store.changes("owner", "", seen[-1] if seen else 0)
            seen.extend(one.seq for one in changed)
            if finished and not changed:
                return

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(store, str(index)) for index, store in enumerate(writers)))
    done.set()
    await following
    for db in (made.db, *others):
        db.close()
    assert seen == list(range(1, 91))


async def test_a_writer_that_is_held_up_holds_nobody_up(postgres_url: str, tmp_path: Path, clock: FakeClock) -> None:
    """A replica may be stopped right after its message was stored; the numbers' lock must not stay with it."""
    made = make_playground(tmp_path, url=postgres_url, clock=clock)
    other = Database(postgres_url)

    def held_up(tx: Tx) -> int:
        first = add_all(tx, [(NewConsoleMessage("#releases", "owner", "first", dedupe_key="1"), clock())])
        later = [(NewConsoleMessage("#releases", "lead", "second", dedupe_key="2"), clock())]
        return other.run_sync(lambda elsewhere: add_all(elsewhere, later))[0].seq - first[0].seq

    assert await made.db.at_once(held_up) == 1
    for db in (made.db, other):
        db.close()


async def test_a_burst_is_stored_once_each_and_in_order(playground: Playground, clock: FakeClock) -> None:
    """Many at once are one statement; a repeat among them gives the message it repeats."""
    store, keys = playground.store, [*range(50), 7, 7]
    messages = [NewConsoleMessage("#releases", "owner", f"{key}", dedupe_key=f"k{key}") for key in keys]
    card = {"title": "a card", "buttons": []}
    given = [store.add(replace(one, card=card if one.text == "3" else None, reply_to=9)) for one in messages]
    stored = await asyncio.gather(*given)
    assert [one.text for one in stored] == [f"{key}" for key in keys]
    assert {one.id for one in stored[50:]} == {stored[7].id}
    shown = await store.changes("owner", "#releases", 0)
    assert [one.text for one in shown] == [f"{number}" for number in range(50)]
    assert (shown[3].card, shown[4].card, shown[4].reply_to, shown[4].edited_at) == (card, None, 9, None)
    assert shown[4].created_at == clock()


async def test_streams_of_another_replica_wake_up(postgres_url: str, tmp_path: Path, clock: FakeClock) -> None:
    """A message written by one replica reaches a page that is connected to another."""
    made = make_playground(tmp_path, url=postgres_url)
    other = Database(postgres_url)
    async with serving(made) as address, listening(address, params={"person": "owner"}) as events:
        await ConsoleClient(ConsoleStore(other, clock)).post("#releases", Message("from afar"), "k1")
        assert json.loads((await events.next())["data"])["text"] == "from afar"
    other.close()
