"""Changes single values of a YAML text in place: comments, order, quotes and blank lines elsewhere stay as they are.

A value is found by a parser that gives positions, those characters alone are replaced, and the result is parsed again:
an edit that changed anything else (through an anchor, a flow mapping, an end mark) is not made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from bot.errors import ProviderRejected

Path = tuple[str | int, ...]
"""Keys and list positions from the document's root; in a file of several documents the first part is its number."""

_LIMIT = 1_048_576
_NODES = 200_000


class Document:
    """One YAML file while it is changed. where: its name, at the start of a sentence."""

    def __init__(self, text: str, where: str, *, several: bool = False) -> None:
        """Parse it. several: it may hold more than one document. Raises ProviderRejected if it cannot be read."""
        self.text = text
        self._where = where
        self._several = several
        self._wanted: Any = self._apart(self.data, [_NODES])

    @property
    def data(self) -> Any:
        """The present content; a list of documents if there may be several."""
        if len(self.text) > _LIMIT:
            raise self._odd("is too large")
        try:
            if self._several:
                return list(yaml.safe_load_all(self.text))
            return yaml.safe_load(self.text)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise self._odd("is not valid YAML") from None

    def set(self, path: Path, value: str | bool) -> None:
        """Put a text or a truth there; the mapping that holds the last key must exist. Raises ProviderRejected."""
        parent = self._node(path[:-1])
        node = _child(parent, path[-1])
        if node is not None:
            self._replace(node, value)
        elif isinstance(parent, yaml.MappingNode) and isinstance(path[-1], str):
            self._insert(parent, f"{path[-1]}: {quoted(value)}")
        else:
            raise self._odd("has no mapping in the place where the version belongs")
        _put(self._wanted, path, value)

    def set_list(self, path: Path, value: Sequence[Any]) -> None:
        """Put a whole list there, in one line; one that says the same already stays as it is written.

        The mapping that holds the last key must exist. Raises ProviderRejected.
        """
        if _get(self._wanted, path) == value:
            return
        parent = self._node(path[:-1])
        pairs = parent.value if isinstance(parent, yaml.MappingNode) else ()
        place = next((pair for pair in pairs if pair[0].value == path[-1]), None)
        if place is not None:
            key, old = place
            self.text = f"{self.text[: key.end_mark.index]}: {json.dumps(value)}{self.text[_end_of(old) :]}"
        elif isinstance(parent, yaml.MappingNode):
            self._insert(parent, f"{path[-1]}: {json.dumps(value)}")
        else:
            raise self._odd(f"has no mapping that could hold `{path[-1]}`")
        _put(self._wanted, path, list(value))

    def drop(self, path: Path) -> None:
        """Take a key with its one-line value away. Raises ProviderRejected."""
        parent = self._node(path[:-1])
        for key, value in parent.value if isinstance(parent, yaml.MappingNode) else ():
            if key.value == path[-1]:
                lines = self.text.splitlines(keepends=True)
                if key.start_mark.line != value.end_mark.line or not lines[key.start_mark.line].lstrip().startswith(
                    key.value
                ):
                    raise self._odd("is written in a way that cannot be edited safely")
                lines[key.start_mark.line] = ""
                self.text = "".join(lines)
                holder = _get(self._wanted, path[:-1])
                del holder[path[-1]]

    def append_block(self, path: Path, text: str, value: Any) -> None:
        """Write a block at the end of the file, which then stands at that path."""
        self.text = self.text if not self.text or self.text.endswith("\n") else self.text + "\n"
        self.text += text
        if self._wanted is None:
            self._wanted = {}
        _put(self._wanted, path, value)

    def insert_item(self, path: Path, lines: Sequence[str], value: Any) -> None:
        """Put an item in front of a list's first one. Raises ProviderRejected if it is no block list with items."""
        node = self._node(path)
        if not isinstance(node, yaml.SequenceNode) or node.flow_style or not node.value:
            raise self._odd("has a list that cannot be edited safely; write it with a line per item")
        number = node.value[0].start_mark.line
        rows = self.text.splitlines(keepends=True)
        indent = rows[number][: len(rows[number]) - len(rows[number].lstrip())]
        block = [f"{indent}{'- ' if n == 0 else '  '}{line}\n" for n, line in enumerate(lines)]
        self.text = "".join([*rows[:number], *block, *rows[number:]])
        _get(self._wanted, path).insert(0, value)

    def finish(self) -> str:
        """The new text. Raises ProviderRejected if anything else would have changed."""
        if self.data != self._wanted:
            raise self._odd("is written in a way that cannot be edited safely")
        return self.text

    def _node(self, path: Path) -> yaml.Node:
        rest = path
        node: yaml.Node | None
        try:
            if self._several:
                node = list(yaml.compose_all(self.text, Loader=yaml.SafeLoader))[int(path[0])]
                rest = path[1:]
            else:
                node = yaml.compose(self.text, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            raise self._odd("is not valid YAML") from None
        for part in rest:
            node = _child(node, part) if node is not None else None
        if node is None:
            raise self._odd(f"has no `{'.'.join(map(str, path))}`")
        return node

    def _replace(self, node: yaml.Node, value: str | bool) -> None:
        if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
            raise self._odd("holds more than a plain value where the version belongs")
        start, end = node.start_mark.index, node.end_mark.index
        gap = "" if start == 0 or self.text[start - 1] in " \t\n" else " "
        self.text = f"{self.text[:start]}{gap}{quoted(value)}{self.text[end:]}"

    def _insert(self, mapping: yaml.MappingNode, line: str) -> None:
        """A new line behind the first entry that ends on its own line."""
        if mapping.flow_style or not mapping.value:
            raise self._odd("has a mapping in one line where the version belongs; write it with a line per key")
        indent = " " * mapping.value[0][0].start_mark.column
        rows = self.text.splitlines(keepends=True)
        for _, value in mapping.value:
            if isinstance(value, yaml.ScalarNode) and value.style not in ("|", ">"):
                number = value.end_mark.line
                rows[number] = rows[number] if rows[number].endswith("\n") else rows[number] + "\n"
                rows.insert(number + 1, f"{indent}{line}\n")
                break
        else:
            start = mapping.value[0][0].start_mark.index
            self.text = f"{self.text[:start]}{line}\n{indent}{self.text[start:]}"
            return
        self.text = "".join(rows)

    def _apart(self, value: Any, left: list[int]) -> Any:
        """A copy in which no two places are one, as they are behind an alias; bounded, for aliases may multiply."""
        left[0] -= 1
        if left[0] < 0:
            raise self._odd("is too large")
        if isinstance(value, dict):
            return {key: self._apart(item, left) for key, item in value.items()}
        return [self._apart(item, left) for item in value] if isinstance(value, list) else value

    def _odd(self, what: str) -> ProviderRejected:
        return ProviderRejected(f"{self._where} {what}.", hint="Correct it in the repository.")


def _end_of(node: yaml.Node) -> int:
    """Where its text ends; of a block that is the end of its last leaf, not of the comments behind it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end_of(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def quoted(value: str | bool) -> str:
    """A text is always quoted: 1.10 is a version and no number."""
    return json.dumps(value)


def get_text(data: Any, path: Path) -> str:
    """The text at a path, empty if there is none."""
    value = _get(data, path)
    return "" if value is None or isinstance(value, (dict, list)) else str(value)


def _get(data: Any, path: Path) -> Any:
    for part in path:
        if isinstance(part, int):
            data = data[part] if isinstance(data, list) and -1 < part < len(data) else None
        else:
            data = data.get(part) if isinstance(data, Mapping) else None
    return data


def _put(data: Any, path: Path, value: Any) -> None:
    for part in path[:-1]:
        data = data[part]
    data[path[-1]] = value


def _child(node: yaml.Node, part: str | int) -> yaml.Node | None:
    if isinstance(part, int):
        if isinstance(node, yaml.SequenceNode) and part < len(node.value):
            found: yaml.Node = node.value[part]
            return found
        return None
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == part:
                result: yaml.Node = value
                return result
    return None
