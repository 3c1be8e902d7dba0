"""Finds the sentences our source says to people, as templates: `f"There is no {what}."` is `There is no {what}.`"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEAKING = frozenset(
    ["Refused", "BadInput", "Conflict", "ProviderRejected", "ProviderUnavailable", "OutcomeUnknown", "Overtaken"]
) | {"Reply", "Answer", "Card", "Message", "Button", "Step", "Input", "Reason", "Failure"}
KEYWORDS = frozenset(["message", "hint", "text", "title", "label", "summary", "notes", "confirm", "waiting_for"])


@dataclass(frozen=True)
class Said:
    """A template and where it stands."""

    template: str
    where: str


def said_in(path: Path) -> Iterator[Said]:
    """Every sentence a module says by raising, replying or showing."""
    name = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for value in _spoken_of(node):
            yield from (Said(text, f"{name}:{value.lineno}") for text in templates(value) if is_speech(text))


def _spoken_of(node: ast.AST) -> list[ast.expr]:
    """What a call says, what is put into a variable `text`, and the first of what a policy's sentence returns."""
    match node:
        case ast.Call(func=func, args=args, keywords=keywords):
            speaking = _name(func) in SPEAKING
            named = [one.value for one in keywords if one.arg in KEYWORDS and (speaking or _name(func) == "Command")]
            return [*(args if speaking else []), *named]
        case ast.Assign(targets=[ast.Name(id="text")], value=value):
            return [value]
        case ast.Return(value=ast.Tuple(elts=[ast.JoinedStr() | ast.Constant(value=str()) as first, _, _])):
            return [first]
    return []


def templates(node: ast.AST) -> Iterator[str]:
    """The texts an expression may be: both sides of a choice, joined literals, f-strings with named holes."""
    match node:
        case ast.Constant(value=str(text)):
            yield text.strip()
        case ast.JoinedStr():
            yield fstring(node).strip()
        case ast.IfExp(body=yes, orelse=no):
            yield from templates(yes)
            yield from templates(no)
        case ast.BoolOp(values=values):
            for value in values:
                yield from templates(value)
        case ast.BinOp(left=left, right=right):
            yield from templates(left)
            yield from templates(right)


def fstring(node: ast.JoinedStr) -> str:
    """With `{name}` for each hole: the last name of its expression, numbered if it comes again."""
    parts: list[str] = []
    seen: dict[str, int] = {}
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts.append(str(value.value))
            continue
        assert isinstance(value, ast.FormattedValue)
        hole = _hole(value.value)
        seen[hole] = seen.get(hole, 0) + 1
        parts.append(f"{{{hole}{seen[hole] if seen[hole] > 1 else ''}}}")
    return "".join(parts)


def _hole(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
        case ast.Call(func=func):
            return _name(func) or "value"
        case ast.Subscript(value=value):
            return _hole(value)
    return "value"


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_speech(text: str) -> bool:
    """Words for people, not a code, a key or a bare hole."""
    bare = text.replace("{", " {").split()
    words = [word for word in bare if not word.startswith("{") and any(c.isalpha() for c in word)]
    return bool(words) and (len(words) > 1 or text[:1].isupper())
