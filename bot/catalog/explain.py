"""A schema's complaint as a sentence that says what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bot.catalog import messages, schema
from bot.catalog.document import Document
from bot.catalog.problems import Path, Problem

M = TypeVar("M", bound=BaseModel)

_KINDS = {
    "string_type": "a text",
    "string_sub_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list such as [one, two]",
    "dict_type": "a mapping such as {name: value}",
    "model_type": "a mapping such as {name: value}",
    "model_attributes_type": "a mapping such as {name: value}",
    "string_too_short": "a text that is not empty",
}


def read(model: type[M], value: Any, document: Document, path: Path) -> tuple[M | None, list[Problem]]:
    """The value as a model, or None and every problem with it."""
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        return None, list(_problems(error, model, document, path))


def mistakes(model: type[BaseModel], value: Any) -> list[tuple[Path, str]]:
    """Where a value is wrong, and what to write instead; empty if it is right."""
    try:
        model.model_validate(value)
    except ValidationError as error:
        found = [
            (tuple(part for part in one["loc"] if part != "[key]"), one) for one in error.errors(include_url=False)
        ]
        return [(place, _sentence(one, model, place)) for place, one in found]
    return []


def _problems(error: ValidationError, model: type[BaseModel], document: Document, path: Path) -> Iterator[Problem]:
    for details in error.errors(include_url=False):
        place = tuple(part for part in details["loc"] if part != "[key]")
        text = _sentence(details, model, place)
        yield document.problem((*path, *place), text)


def _sentence(details: ErrorDetails, model: type[BaseModel], place: Path) -> str:
    """Never repeats the input of an unknown kind of error: it may hold what should not be shown."""
    kind, last = details["type"], str(place[-1]) if place else ""
    if kind == "missing":
        return messages.missing(last)
    if kind == "extra_forbidden":
        return messages.no_such_field(last, schema.fields_at(model, place[:-1]))
    if kind == "enum":
        allowed = [word.strip("' ") for word in str(details["ctx"]["expected"]).replace(" or ", ",").split(",")]
        return messages.not_allowed(str(details["input"]), allowed)
    if kind == "value_error":
        return messages.sentence(_subject(place), str(details["ctx"]["error"]))
    if kind == "password":
        return messages.sentence(_subject(place), details["msg"])
    if kind in _KINDS:
        return messages.must_be(_KINDS[kind])
    return f"{details['msg']}." if kind != "bad_name" else details["msg"]


def _subject(place: Path) -> str:
    names = [part for part in place if isinstance(part, str)]
    return names[-1] if names else ""
