"""One YAML file as plain values, with the line of everything in it.

Read by the C parser with rules of our own for scalars: a plain one stays the text it was written as (`Plain`), so that
`branch: 1.10` is not 1.1 and `zone: no` is not false; the schema decides what it becomes. Duplicate keys are mistakes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bot.catalog import messages
from bot.catalog.problems import Path, Problem, field_of

MOST_LEVELS = 100
MOST_VALUES = 500_000
"""Aliases can make a small file endless; a catalog of 5,000 services has 50,000 values."""
LONG_LINE = 1000

_PLAIN, _QUOTED, _STRING = "plain", "quoted", "tag:yaml.org,2002:str"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE, _FALSE = frozenset({"true", "True", "TRUE"}), frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"[-+]?((\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$")


class Plain(str):
    """A scalar written without quotes: it may be meant as a number or a boolean."""

    __slots__ = ()


def typed(value: Any) -> Any:
    """The value with every plain scalar as YAML 1.2 means it; for settings of which we do not know the type."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return _typed(value) if isinstance(value, Plain) else value


def _typed(text: str) -> str | int | float | bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.match(text):
        return int(text) if len(text) < 30 else str(text)
    return float(text) if _FLOAT.match(text) else str(text)


class _Loader(yaml.CSafeLoader):
    """The C parser; it only notes whether a scalar was plain, which is most of the time that loading takes."""

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        return _PLAIN if kind is ScalarNode and implicit[0] else _QUOTED

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Nothing depends on the path."""

    def ascend_resolver(self) -> None:
        """Nothing depends on the path."""


class Document:
    """A file's values and lines.

    values: a mapping, empty if the file is. key_lines: the lines of its keys. problems: what was wrong with it. broken:
    nothing of it could be read.
    """

    def __init__(self, file: str, text: str) -> None:
        """file: relative to the catalog directory."""
        self.file = file
        self.values: dict[str, Any] = {}
        self.key_lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.broken = False
        self._text = text
        self._root: Node | None = None
        self._read()

    def line(self, path: Path) -> int:
        """The line (1-based) of the deepest part of a path that is written; of its key, where it has one."""
        node = self._compose()
        line = node.start_mark.line + 1 if node is not None else 1
        for part in path:
            step = _step(node, part)
            if step is None:
                break
            place, node = step
            line = place.start_mark.line + 1
        return line

    def problem(self, path: Path, message: str) -> Problem:
        """A problem with the value at a path."""
        return Problem(self.file, self.line(path), field_of(path), message)

    def forget(self) -> None:
        """Drop what only `line()` needs; it is made again when asked."""
        self._root = None

    def _read(self) -> None:
        try:
            root = self._compose()
            self.values = _Values(self).of(root) if root is not None else {}
        except yaml.MarkedYAMLError as error:
            self._fail((error.problem_mark.line + 1) if error.problem_mark else 0, _syntax(error, self._text))
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            self._fail(line, messages.not_yaml(f"it contains a control character ({error.reason})"))
        except yaml.YAMLError as error:
            self._fail(0, messages.not_yaml(str(error).splitlines()[0]))
        except _Unusable as error:
            self._fail(error.line, error.message)

    def _fail(self, line: int, message: str) -> None:
        self.values, self.broken = {}, True
        self.problems.append(Problem(self.file, line, "", message))

    def _compose(self) -> Node | None:
        if self._root is None and not self.broken:
            _refuse_depth(self._text)
            self._root = _Loader(self._text).get_single_node()
        return self._root


class _Unusable(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line, self.message = line, message


class _Values:
    """Turns nodes into values, and notes duplicate keys and tags."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0
        self._open: set[int] = set()

    def of(self, root: Node) -> dict[str, Any]:
        value = self._value(root, ())
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _Unusable(1, messages.not_a_mapping("The file"))
        return value

    def _value(self, node: Node, path: Path) -> Any:
        self._count += 1
        if self._count > MOST_VALUES:
            raise _Unusable(0, messages.too_large("values", MOST_VALUES))
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise _Unusable(node.start_mark.line + 1, messages.too_deep(MOST_LEVELS))
        self._open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, MappingNode) else self._sequence(node, path)
        self._open.discard(id(node))
        return value

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        if node.tag == _PLAIN:
            return None if node.value in _NULL else Plain(node.value)
        self._refuse_tag(node, path)
        return node.value

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        self._refuse_tag(node, path)
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                self._note(line, path, messages.not_a_key())
                continue
            name = str(key.value)
            if name in values:
                self._note(line, (*path, name), messages.key_twice(name, lines[name]))
                continue
            lines[name] = line
            values[name] = self._value(value, (*path, name))
        if not path:
            self._document.key_lines = lines
        return values

    def _sequence(self, node: Node, path: Path) -> list[Any]:
        self._refuse_tag(node, path)
        assert isinstance(node, SequenceNode)
        return [self._value(item, (*path, at)) for at, item in enumerate(node.value)]

    def _refuse_tag(self, node: Node, path: Path) -> None:
        if node.tag not in (_QUOTED, _STRING):
            self._note(node.start_mark.line + 1, path, messages.tagged(str(node.tag)))

    def _note(self, line: int, path: Path, message: str) -> None:
        self._document.problems.append(Problem(self._document.file, line, field_of(path), message))


def _step(node: Node | None, part: str | int) -> tuple[Node, Node] | None:
    """The node to point at and the node to go on from."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value == part:
                return key, value
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    line = error.problem_mark.line if error.problem_mark else -1
    lines = text.splitlines()
    if 0 <= line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]:
        return messages.tab()
    about = f"{error.context}, " if error.context else ""
    return messages.not_yaml(f"{about}{error.problem}")


def _refuse_depth(text: str) -> None:
    """The C composer calls itself for each level and would overrun its stack, which ends the process."""
    if not _might_be_deep(text):
        return
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            line = event.start_mark.line + 1 if event.start_mark is not None else 0
            raise _Unusable(line, messages.too_deep(MOST_LEVELS))


def _might_be_deep(text: str) -> bool:
    """A cheap bound: deep nesting needs a long line (by indentation or in a row) or many open brackets."""
    return any(len(line) > LONG_LINE for line in text.split("\n")) or max(_flow_depths(text), default=0) > MOST_LEVELS


def _flow_depths(text: str) -> Iterator[int]:
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
    return itertools.accumulate(steps)
