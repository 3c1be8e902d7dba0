"""A provider's own settings from the catalog, checked by the provider's pydantic model."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from bot.errors import ProviderRejected

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_duration(text: object) -> object:
    """`90s`, `2m`, `1h30m` as a timedelta. Raises ValueError with an example."""
    if isinstance(text, timedelta):
        return text
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if not found or not any(found.groups()):
        raise ValueError("must be a time such as 90s, 2m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    duration = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta(0) < duration <= timedelta(days=1):
        raise ValueError("must be a time between 1s and 24h")
    return duration


def _argument_list(value: object) -> object:
    if isinstance(value, str):
        raise ValueError("must be a list such as [python3, build.py]; a single string would need a shell")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Argv = Annotated[list[str], BeforeValidator(_argument_list)]


class Options(BaseModel):
    """Base of all options: frozen, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


OptionsT = TypeVar("OptionsT", bound=BaseModel)


def read_options(model: type[OptionsT], values: object, where: str) -> OptionsT:
    """Check the values. where: the file or the place in the catalog, at the start of a sentence.

    Raises ProviderRejected with the first wrong field and what is allowed there.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ProviderRejected(
            f"{where}: {_sentence(error.errors()[0], model)}", hint="Correct it and try again."
        ) from None


def _sentence(error: ErrorDetails, model: type[BaseModel]) -> str:
    field = _field(error["loc"])
    match error["type"]:
        case "missing":
            return f"`{field}` is missing."
        case "extra_forbidden":
            known = ", ".join(model.model_fields) if len(error["loc"]) == 1 else ""
            return f"`{field}` is not a known field{f' (known: {known})' if known else ''}."
        case "value_error":
            return f"`{field}` {error['msg'].removeprefix('Value error, ')}." if field else f"{error['msg'][13:]}."
        case _:
            message = error["msg"].removeprefix("Input ")
            return f"`{field}` {message[:1].lower()}{message[1:]}." if field else f"{error['msg']}."


def _field(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
