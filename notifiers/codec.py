"""Messages to and from JSON, for storing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from notifiers.card import Message

_MESSAGE = TypeAdapter(Message)


def message_to_json(message: Message) -> dict[str, Any]:
    """Plain JSON values."""
    return dict(_MESSAGE.dump_python(message, mode="json"))


def digest_of(message: Message) -> str:
    """Equal for equal messages whose parts come in the same order."""
    return hashlib.sha256(_MESSAGE.dump_json(message)).hexdigest()


def message_from_json(content: Mapping[str, Any]) -> Message:
    """The message again."""
    return _MESSAGE.validate_python(dict(content))
