"""The console: the browser chat's page, its JSON API and its stream.

The API is public and stable, because scripts use it too. Message ids look like `m17`. A cursor is the number of a
change: `after=<cursor>` gives what was created or edited since then.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from bot import grammar
from bot.catalog.model import Catalog
from bot.chat.console import PERSONAL, ConsoleAdapter
from bot.commanding import Command
from bot.completion import Completer
from bot.errors import SlipwayError
from bot.store.console import PAGE, ConsoleMessage, ConsoleStore
from bot.store.database import Database
from bot.web.answers import ApiError, checked, read_object, text_of
from bot.web.console_access import Access
from bot.web.console_people import Directory

__all__ = ["Access", "Greeting", "console_routes"]

STATIC = Path(__file__).parent / "static"
TEXT_LIMIT = 4_000
"""Characters of one message."""

HEARTBEAT = 15.0
"""Seconds of silence after which a stream says that it lives."""

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Greeting = Mapping[str, Any]
"""What the console says first: `title`, `text` and `things` to try, each with `text`, `command` and `as` (whom)."""

PLAIN_GREETING: Greeting = {
    "title": "Slipway is listening",
    "text": "Type / to see what you can do here, or ask for help.",
    "things": [],
}

Handler = Callable[[Request], Awaitable[Response]]


def console_routes(
    *,
    store: ConsoleStore,
    adapter: ConsoleAdapter,
    catalog: Callable[[], Catalog],
    access: Access,
    commands: Sequence[Command],
    greeting: Greeting | None,
    db: Database,
    heartbeat: float = HEARTBEAT,
) -> list[Route]:
    """Routes of the page and its API. commands: in help order; heartbeat: seconds."""
    directory = Directory(catalog)
    api = _Api(store, adapter, directory, access)
    talk = _Talk(api)
    stream = _Stream(api, heartbeat)
    about = _About(api, catalog, Completer(commands, db), greeting or PLAIN_GREETING)
    paths: dict[str, dict[str, Handler]] = {
        "/": {"GET": _to_the_page},
        "/console": {"GET": _static_file("console.html")},
        "/console/": {"GET": _to_the_page},
        "/console/api/session": {"GET": about.session},
        "/console/api/people": {"GET": about.people},
        "/console/api/places": {"GET": about.places},
        "/console/api/commands": {"GET": about.commands},
        "/console/api/complete": {"GET": about.complete},
        "/console/api/greeting": {"GET": about.greeting},
        "/console/api/messages": {"GET": talk.read, "POST": talk.say},
        "/console/api/actions": {"POST": talk.press},
        "/console/api/unread": {"GET": talk.unread},
        "/console/api/stream": {"GET": stream.open},
        "/console/api/login": {"POST": about.log_in},
        "/console/api/logout": {"POST": about.log_out},
    }
    for file in sorted(STATIC.iterdir()):
        if file.suffix in TYPES and file.name != "console.html":
            paths[f"/console/static/{file.name}"] = {"GET": _static_file(file.name)}
    routes = [Route(path, _Endpoint(access, by_method), methods=None) for path, by_method in paths.items()]
    return [*routes, Route("/console/{rest:path}", _Endpoint(access, {}), methods=None)]


class _Endpoint:
    """One address: the way in for every request, and the only place that turns errors into answers.

    An ASGI application, so that Starlette hands over every method and a wrong one is told in JSON as well.
    """

    def __init__(self, access: Access, handlers: Mapping[str, Handler]) -> None:
        self._access = access
        self._handlers = handlers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ApiError as error:
            response = error.response(inside="x-console-page" in request.headers)
        except SlipwayError as error:
            response = JSONResponse({"error": error.sentence()}, 503, {"Retry-After": "1"})
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        self._access.check_request(request)
        method = "GET" if request.method == "HEAD" else request.method
        handler = self._handlers.get(method)
        if handler is None and not self._handlers:
            raise ApiError(404, "There is nothing at this address; the console is at /console.")
        if handler is None:
            allowed = ", ".join(self._handlers)
            raise ApiError(405, f"This address takes {allowed} only.", {"Allow": allowed})
        return await handler(request)


class _Api:
    """What the parts of the API share: who asks, and what there is."""

    def __init__(self, store: ConsoleStore, adapter: ConsoleAdapter, directory: Directory, access: Access) -> None:
        self.store = store
        self.adapter = adapter
        self.directory = directory
        self.access = access

    def person(self, request: Request, claimed: str) -> str:
        """Who acts. Raises ApiError: 401, 403 not you, 404 unknown."""
        known = self.access.person(request)
        if known is not None and claimed not in ("", known):
            raise ApiError(403, f"You are logged in as {known}; leave the other person out, or log in as them.")
        person = known or claimed
        if not person:
            raise ApiError(400, '"person" is missing; say who acts.')
        if person not in self.directory.people:
            people = ", ".join(list(self.directory.people)[:20])
            hint = f"choose one of {people}" if self.access.open else "ask whoever keeps the catalog"
            raise ApiError(404 if self.access.open else 403, f"There is no active person '{person[:80]}'; {hint}.")
        return person

    def asking(self, request: Request) -> str:
        """Who acts, by the query."""
        return self.person(request, _parameter(request, "person"))

    async def places(self) -> list[str]:
        """The personal chat, the catalog's channels, then others that have messages."""
        known = self.directory.channels
        return [*known, *(one for one in await self.store.channels() if one not in known), PERSONAL]

    async def place(self, name: str) -> str:
        """The place if there is one. Raises ApiError 404."""
        if name == PERSONAL or name in self.directory.channels:
            return name
        places = await self.places()
        if name not in places:
            raise ApiError(404, f"There is no place '{name[:80]}'; choose one of {', '.join(places[-21:])}.")
        return name


class _Talk:
    """Messages and clicks."""

    def __init__(self, api: _Api) -> None:
        self._api = api

    async def say(self, request: Request) -> Response:
        body = await read_object(request)
        person = self._api.person(request, text_of(body, "person", required=self._api.access.open))
        place = await self._api.place(text_of(body, "place"))
        text = text_of(body, "text", limit=TEXT_LIMIT).strip()
        if not text:
            raise ApiError(400, "The message is empty; type something first.")
        message = await self._api.adapter.say(person, place, text, _key(request))
        return JSONResponse({"id": f"m{message.id}"}, 202)

    async def press(self, request: Request) -> Response:
        body = await read_object(request)
        person = self._api.person(request, text_of(body, "person", required=self._api.access.open))
        message = _message_id(text_of(body, "message"))
        button = text_of(body, "button")
        click, answer = await self._api.adapter.press(person, message, button, _inputs(body), _key(request))
        if answer.accepted:
            return JSONResponse({"id": click}, 202)
        # A refusal is the asker's matter, whatever part of us said no; only 4xx and 5xx can carry one.
        raise ApiError(answer.status if 400 <= answer.status <= 599 else 409, answer.error)

    async def read(self, request: Request) -> Response:
        person = self._api.asking(request)
        place = _parameter(request, "place")
        if place:
            await self._api.place(place)
        after, before = _parameter(request, "after"), _parameter(request, "before")
        if after:
            since = await _since(self._api.store, person, after)
            messages = await self._api.store.changes(person, place, since)
            cursor = messages[-1].seq if messages else since
        else:
            # Taken first: a change between the two is then given twice rather than never.
            cursor = await self._api.store.last_seq()
            messages = await self._api.store.newest(person, place, _message_id(before) if before else None)
        shown = [message_json(message) for message in messages]
        return JSONResponse({"messages": shown, "cursor": str(cursor), "more": len(shown) == PAGE})

    async def unread(self, request: Request) -> Response:
        """How many messages wait in the personal chats of others; the open console alone shows them."""
        if not self._api.access.open:
            raise ApiError(403, "Only the open console of the demo counts messages for others.")
        people = self._api.directory.people
        seen = {}
        for one in request.query_params.getlist("seen")[:100]:
            person, _, last = checked(one, "seen", 200).rpartition(":")
            if person in people:
                seen[person] = _number(last)
        return JSONResponse({"unread": await self._api.store.unread(seen)})


class _Stream:
    """Server-sent events: every message as it is created and edited."""

    def __init__(self, api: _Api, heartbeat: float) -> None:
        self._api = api
        self._heartbeat = heartbeat

    async def open(self, request: Request) -> Response:
        person = self._api.asking(request)
        last = request.headers.get("last-event-id") or _parameter(request, "after")
        store = self._api.store
        newest = await store.last_seq()
        after = await _since(store, person, last) if last else newest
        return StreamingResponse(
            self._events(request, person, min(after, newest), is_from_elsewhere=after > newest),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def _events(self, request: Request, person: str, after: int, is_from_elsewhere: bool) -> AsyncIterator[str]:
        yield "retry: 1000\n\n"
        if is_from_elsewhere:
            # A cursor of another database: the page shows what is no more.
            yield f"event: reset\nid: {after}\ndata: {after}\n\n"
        async for changed in self._api.store.ticks(self._heartbeat):
            if not self._still_welcome(request, person):
                return
            if not changed:
                yield ": alive\n\n"
                continue
            async for block, reached in self._since(person, after):
                yield block
                after = reached

    def _still_welcome(self, request: Request, person: str) -> bool:
        try:
            return self._api.person(request, person) == person
        except ApiError:
            return False

    async def _since(self, person: str, after: int) -> AsyncIterator[tuple[str, int]]:
        """Events of the changes after that one, each with where the reader is then."""
        store = self._api.store
        while True:
            end = await store.last_seq()
            if end <= after:
                return
            if self._api.access.open:
                for other in sorted({one for _, one in await store.elsewhere(person, after)}):
                    yield f"event: elsewhere\ndata: {json.dumps({'person': other})}\n\n", after
            messages = await store.changes(person, "", after)
            for message in messages:
                after = max(after, message.seq)
                yield f"event: message\nid: {message.seq}\ndata: {json.dumps(message_json(message))}\n\n", after
            if len(messages) < PAGE:
                # All up to `end` is seen, and nothing lower can appear any more.
                after = max(after, end)
                yield f"event: cursor\nid: {after}\ndata: {after}\n\n", after


class _About:
    """People, places, commands and the greeting."""

    def __init__(self, api: _Api, catalog: Callable[[], Catalog], completer: Completer, greeting: Greeting) -> None:
        self._api = api
        self._catalog = catalog
        self._completer = completer
        self._greeting = greeting

    async def session(self, request: Request) -> Response:
        """Whether one must log in, and who is."""
        try:
            person = self._api.access.person(request)
        except ApiError:
            person = None
        return JSONResponse({"open": self._api.access.open, "person": person})

    async def people(self, request: Request) -> Response:
        me = self._api.access.person(request)
        people = [{"id": one.id, "name": one.name, "role": one.role} for one in self._api.directory.people.values()]
        return JSONResponse({"people": people, "me": me, "open": self._api.access.open})

    async def places(self, request: Request) -> Response:
        self._api.asking(request)
        places = [_place_json(place) for place in await self._api.places()]
        return JSONResponse({"places": places})

    async def commands(self, request: Request) -> Response:
        person = self._api.asking(request)
        known = self._completer.commands(self._catalog(), person)
        return JSONResponse({"commands": [_command_json(command) for command in known]})

    async def complete(self, request: Request) -> Response:
        person = self._api.asking(request)
        text = _parameter(request, "text", TEXT_LIMIT)
        found = await self._completer.complete(self._catalog(), person, text)
        return JSONResponse({"suggestions": [{"text": one.text, "hint": one.hint} for one in found]})

    async def greeting(self, request: Request) -> Response:
        self._api.access.person(request)
        said = self._greeting
        return JSONResponse({"title": said["title"], "text": said["text"], "try": said["things"]})

    async def log_in(self, request: Request) -> Response:
        body = await read_object(request)
        person = self._api.access.log_in(request, text_of(body, "token", limit=1_000))
        response = JSONResponse({"person": person})
        self._api.access.set_cookie(request, response, person)
        return response

    async def log_out(self, request: Request) -> Response:
        await read_object(request)
        response = Response(status_code=204)
        self._api.access.clear_cookie(response)
        return response


def message_json(message: ConsoleMessage) -> dict[str, Any]:
    """A message as the API shows it."""
    return {
        "id": f"m{message.id}",
        "place": message.place,
        "author": message.author,
        "text": message.text,
        "card": message.card,
        "reply_to": f"m{message.reply_to}" if message.reply_to is not None else None,
        "created_at": _instant(message.created_at),
        "edited_at": _instant(message.edited_at),
    }


def _instant(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at is not None else None


def _place_json(place: str) -> dict[str, Any]:
    personal = place == PERSONAL
    return {"id": place, "name": "Slipway" if personal else place.removeprefix("#"), "personal": personal}


def _command_json(command: Command) -> dict[str, Any]:
    arguments = [
        {"name": one.name, "usage": one.usage, "kind": one.arg.kind.value, "option": one.arg.option}
        | {"required": one.required}
        for one in grammar.parameters(command)
    ]
    return {
        "name": command.name,
        "usage": grammar.usage(command),
        "summary": command.summary,
        "example": command.example,
        "notes": command.notes,
        "arguments": arguments,
    }


def _parameter(request: Request, name: str, limit: int = 200) -> str:
    return checked(request.query_params.get(name, ""), name, limit)


def _key(request: Request) -> str:
    return checked(request.headers.get("idempotency-key", ""), "Idempotency-Key", 200)


def _inputs(body: Mapping[str, Any]) -> dict[str, str]:
    given = body.get("inputs") or {}
    if not isinstance(given, dict) or len(given) > 20:
        raise ApiError(400, '"inputs" is no object of texts; send {"name": "text"}.')
    return {checked(name, "inputs", 100): checked(value, name, TEXT_LIMIT) for name, value in given.items()}


def _message_id(ref: str) -> int | None:
    return int(ref[1:]) if ref[:1] == "m" and _is_number(ref[1:]) else None


def _number(text: str) -> int:
    if not _is_number(text):
        raise ApiError(400, f"'{text[:40]}' is no cursor; use one that an earlier answer gave.")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


async def _since(store: ConsoleStore, person: str, after: str) -> int:
    """The change number meant by a cursor or a message id. Raises ApiError: neither of both."""
    if not after.startswith("m"):
        return _number(after)
    number = _message_id(after)
    message = await store.get(number) if number is not None else None
    if message is None or message.person not in (None, person):
        raise ApiError(
            404, f"There is no message '{after[:40]}' here; use an id or a cursor that an earlier answer gave."
        )
    return message.created_seq


async def _to_the_page(_request: Request) -> Response:
    return RedirectResponse("/console", 307)


def _static_file(name: str) -> Handler:
    """A file of the page, read and packed once; browsers keep it and ask whether it changed."""
    content = (STATIC / name).read_bytes()
    packed = gzip.compress(content, mtime=0)
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    media_type = TYPES[Path(name).suffix]

    async def answer(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})
        return Response(content, media_type=media_type, headers=headers)

    return answer
