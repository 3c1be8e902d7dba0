"""The file format `values`: a YAML mapping whose keys `version`, `digest` and `commit` are ours.

Edited in place: comments, order and all other keys stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

import yaml

from bot.errors import ProviderRejected

KEYS = ("version", "digest", "commit")
_LIMIT = 262_144
_SMALL = 4096
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""A file is parsed three times for a change, which without libyaml costs as much as the rest of the change."""


def read_values(text: str, where: str) -> dict[str, str]:
    """The values of our keys that are there. where: the file, for a sentence. Raises ProviderRejected."""
    return {key: str(value) for key, value in _load(text, where).items() if key in KEYS and value is not None}


def set_values(text: str, values: Mapping[str, str], where: str) -> str:
    """The text with these values. Raises ProviderRejected if the file cannot be edited without harm."""
    before = _load(text, where)
    edited = text
    # From the last to the first, so that the places of the others stay true.
    places = _places(text)
    for key in sorted((key for key in values if key in places), key=lambda key: -places[key][1].start_mark.index):
        edited = _replace(edited, places[key][1], values[key], where)
    missing = [key for key in values if key not in places]
    if missing:
        edited = edited if not edited or edited.endswith("\n") else edited + "\n"
        edited += "".join(f"{key}: {_quoted(values[key])}\n" for key in missing)
    _check(edited, {**before, **values}, where)
    return edited


def remove_values(text: str, where: str) -> str | None:
    """The text without our keys, None if nothing else is in it. Raises ProviderRejected."""
    before = _load(text, where)
    rest = {key: value for key, value in before.items() if key not in KEYS}
    if not rest:
        return None
    lines = text.splitlines(keepends=True)
    for key, (name, value) in _places(text).items():
        if key in KEYS:
            for number in range(name.start_mark.line, value.end_mark.line + 1):
                lines[number] = ""
    edited = "".join(lines)
    _check(edited, rest, where)
    return edited


def _load(text: str, where: str) -> dict[str, object]:
    if len(text) > _LIMIT:
        raise ProviderRejected(f"{where} is larger than {_LIMIT} characters.", hint="Give Slipway a file of its own.")
    try:
        value = _parsed_before(text) if len(text) <= _SMALL else _parsed(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ProviderRejected(f"{where} is not valid YAML.", hint="Correct it in the repository.") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ProviderRejected(f"{where} is not a mapping of keys to values.", hint="Correct it in the repository.")
    return {str(key): item for key, item in value.items()}


def _parsed(text: str) -> object:
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - the safe one


_parsed_before = lru_cache(maxsize=1024)(_parsed)
"""A change reads the same small file when it looks what is there and when it is made. Nobody alters what it gives."""


def _places(text: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Top-level key -> its node and its value's node. The pure loader counts characters, as we do."""
    root = yaml.compose(text, Loader=_LOADER)
    if not isinstance(root, yaml.MappingNode):
        return {}
    return {name.value: (name, value) for name, value in root.value if isinstance(name, yaml.ScalarNode)}


def _replace(text: str, node: yaml.Node, value: str, where: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
        raise ProviderRejected(
            f"{where} holds more than a plain value under one of our keys.", hint="Make it one word."
        )
    start, end = node.start_mark.index, node.end_mark.index
    gap = "" if start == 0 or text[start - 1] in " \t\n" else " "
    return f"{text[:start]}{gap}{_quoted(value)}{text[end:]}"


def _quoted(value: str) -> str:
    """Always quoted: 1.10 is a version and no number."""
    return json.dumps(value)


def _check(text: str, expected: Mapping[str, object], where: str) -> None:
    """An edit that changed anything else (an anchor, a flow mapping, an end mark) is not made."""
    try:
        right = _load(text, where) == dict(expected)
    except ProviderRejected:
        right = False
    if not right:
        raise ProviderRejected(
            f"{where} is written in a way that cannot be edited safely.",
            hint=f"Write {', '.join(KEYS)} as plain lines at its top level.",
        )
