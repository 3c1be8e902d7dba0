"""JSON in, JSON out: every bad request is a 4xx with one clear sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

BODY_LIMIT = 64 * 1024
"""Bytes."""


class ApiError(Exception):
    """Becomes `{"error": sentence}` with that status."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        """sentence: for a person; says what to do next and never holds a secret."""
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})

    def response(self, inside: bool = False) -> JSONResponse:
        """As it is sent. inside: as 200 with the status in the body, for a page whose browser reports every 4xx."""
        if inside:
            return JSONResponse({"error": self.sentence, "status": self.status}, 200, self.headers)
        return JSONResponse({"error": self.sentence}, self.status, self.headers)


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        ApiError: 415 not JSON, 413 over `BODY_LIMIT`, 400 malformed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "Send JSON, with the header Content-Type: application/json.")
    try:
        value = json.loads(await _read_body(request))
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not valid JSON; send one JSON object.") from None
    if not isinstance(value, dict):
        raise ApiError(400, "The body is JSON but no object; send one JSON object.")
    return value


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise ApiError(413, f"The body is over {BODY_LIMIT // 1024} KB; send less.")
    except ClientDisconnect:
        raise ApiError(400, "The body did not arrive whole; send it again.") from None
    return bytes(body)


def text_of(body: Mapping[str, Any], name: str, *, limit: int = 200, required: bool = True) -> str:
    """One text of the body. Raises ApiError: missing, no text, over-long, or not storable."""
    value = body.get(name, "" if not required else None)
    if value is None:
        raise ApiError(400, f'"{name}" is missing; send it as text.')
    return checked(value, name, limit)


def checked(value: object, name: str, limit: int) -> str:
    """The value if it is a text every database can store and not over-long. Raises ApiError."""
    if not isinstance(value, str):
        raise ApiError(400, f'"{name}" is not a text; send it as text.')
    if len(value) > limit:
        raise ApiError(400, f'"{name}" is over {limit:,} characters; send a shorter one.')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ApiError(400, f'"{name}" holds half a character; send whole Unicode characters.') from None
    if "\x00" in value:
        raise ApiError(400, f'"{name}" holds a NUL character; leave it out.')
    return value
