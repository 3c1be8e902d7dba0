"""Settings that belong together: what is missing is collected from every part, so that it is said at once."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

HEARD = "incomplete"
"""Key of the validation context under which problems are collected."""


def say(problems: Iterable[str], info: ValidationInfo) -> None:
    """Leave the problems with whoever collects them; raise them if nobody does."""
    found = list(problems)
    if not found:
        return
    if info.context is not None and HEARD in info.context:
        info.context[HEARD].extend(found)
        return
    raise PydanticCustomError("incomplete", "{problems}", {"problems": "; ".join(found)})
