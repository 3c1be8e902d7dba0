"""What could come next in a line somebody is typing, from the commands' own definitions and the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bot import grammar
from bot.catalog.model import Catalog
from bot.commanding import ArgKind, Command
from bot.errors import BadInput
from bot.grammar import Parameter
from bot.policy.permissions import may_anywhere
from bot.store import deployments as rows
from bot.store.database import Database, Tx

LIMIT = 12
"""Suggestions given at once."""

RECENT = 40
"""Deployments looked at for versions."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """text: the whole line if it is taken; hint: what the last word of it is."""

    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a line one is: the line so far without the word being typed, that word, and what it may stand for.

    said: parameter name -> word, of the words before. kind: what a plain word would stand for, None if it is one too
    many. options: those not given yet that may come here.
    """

    base: str
    prefix: str
    command: Command | None
    said: dict[str, str]
    kind: ArgKind | None
    options: tuple[Parameter, ...]


class Completer:
    """Suggests commands, names, versions and options, only of commands the person may run."""

    def __init__(self, commands: Sequence[Command], db: Database) -> None:
        """commands: in help order."""
        self._commands = tuple(commands)
        self._db = db

    def commands(self, catalog: Catalog, person: str) -> list[Command]:
        """What the person may run, in help order."""
        return [one for one in self._commands if may_anywhere(catalog, person, one.permission)]

    async def complete(self, catalog: Catalog, person: str, line: str) -> list[Suggestion]:
        """The best ways to go on, best first; none if the line makes no sense.

        Raises:
            DatabaseUnavailable: versions and deployments could not be looked up.
        """
        mine = self.commands(catalog, person)
        place = find_place(mine, line)
        if place is None:
            return []
        if place.command is None:
            slash = "" if place.base.strip() else "/"
            return _suggest(place, ((slash + one.name, one.summary, True) for one in mine))
        stored: list[tuple[str, str]] = []
        if place.kind in (ArgKind.VERSION, ArgKind.DEPLOYMENT):
            stored = await self._db.read(lambda tx: _stored(tx, place))
        return _suggest(place, _candidates(place, catalog, mine, stored))


def find_place(commands: Sequence[Command], line: str) -> Place | None:
    """Where one is in a line; None where nothing can be suggested (talk, an unknown command, an open quote)."""
    cut = max((index for index, char in enumerate(line) if char.isspace()), default=-1) + 1
    base, prefix = line[:cut], line[cut:]
    try:
        said = grammar.words(base.removeprefix("@slipway"))
    except BadInput:
        return None
    if not said:
        return Place(base, prefix, None, {}, None, ()) if prefix.startswith("/") or base else None
    try:
        command = grammar.find(commands, said[0].lstrip("/／"))
    except BadInput:
        return None
    return Place(base, prefix, command, *_walk(command, said[1:]))


def _walk(command: Command, said: Sequence[str]) -> tuple[dict[str, str], ArgKind | None, tuple[Parameter, ...]]:
    known = grammar.parameters(command)
    positions = [one for one in known if not one.arg.option]
    options = {_option(one): one for one in known if one.arg.option}
    values: dict[str, str] = {}
    pending: ArgKind | None = None
    for word in said:
        if option := options.pop(word, None):
            pending = None if option.arg.kind is ArgKind.FLAG else option.arg.kind
        elif pending is not None:
            # A text goes on up to the next option; any other value is one word.
            pending = pending if pending is ArgKind.TEXT else None
        elif positions and positions[0].is_led_by(word):
            continue
        elif positions:
            values[positions.pop(0).name] = word
    if pending is not None:
        return values, pending, tuple(options.values()) if pending is ArgKind.TEXT else ()
    return values, positions[0].arg.kind if positions else None, tuple(options.values())


def _option(parameter: Parameter) -> str:
    return f"--{parameter.arg.label or parameter.name}"


def _candidates(
    place: Place, catalog: Catalog, commands: Sequence[Command], stored: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, str, bool]]:
    """(word, hint, more words may follow)."""
    if place.kind is not None:
        for word, hint in _words(place.kind, place, catalog, commands, stored):
            yield word, hint, True
    for option in place.options:
        is_flag = option.arg.kind is ArgKind.FLAG
        yield _option(option), "option" if is_flag else f"option, then a {option.arg.kind.value}", not is_flag


def _words(
    kind: ArgKind, place: Place, catalog: Catalog, commands: Sequence[Command], stored: Sequence[tuple[str, str]]
) -> Iterable[tuple[str, str]]:
    match kind:
        case ArgKind.SERVICE:
            return ((one.name, f"team {one.team}") for one in catalog.services.values())
        case ArgKind.ENVIRONMENT:
            return _environments(catalog, place.said.get("service", ""))
        case ArgKind.PERSON:
            return ((one.id, one.name) for one in catalog.people.values() if one.active)
        case ArgKind.COMMAND:
            return ((one.name, one.summary) for one in commands)
        case ArgKind.VERSION | ArgKind.DEPLOYMENT:
            return _versions(catalog, place, stored) if kind is ArgKind.VERSION else stored
        case _:
            return ()


def _environments(catalog: Catalog, service: str) -> Iterator[tuple[str, str]]:
    known = catalog.services.get(service)
    for name, environment in catalog.environments.items():
        if known is None or name in known.targets:
            yield name, "protected" if environment.protected else f"branch {environment.branch}"


def _versions(catalog: Catalog, place: Place, stored: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    service = catalog.services.get(place.said.get("service", ""))
    target = service.targets.get(place.said.get("environment", "")) if service else None
    yield from stored
    if target is not None and place.command is not None and place.command.name == "deploy":
        yield target.branch, "newest commit of the branch"


def _stored(tx: Tx, place: Place) -> list[tuple[str, str]]:
    if place.kind is ArgKind.DEPLOYMENT:
        return [(one.ref, f"{one.service} to {one.environment}, {one.state}") for one in reversed(rows.open_for(tx))]
    found: dict[str, str] = {}
    for one in rows.history(tx, place.said.get("service", ""), "", RECENT):
        found.setdefault(one.release_version, f"{one.environment}, {one.state}")
    return list(found.items())


def _suggest(place: Place, candidates: Iterable[tuple[str, str, bool]]) -> list[Suggestion]:
    """Those that start with what was typed, then those that contain it."""
    typed = place.prefix.casefold()
    first: list[Suggestion] = []
    second: list[Suggestion] = []
    for word, hint, more in candidates:
        folded = word.casefold()
        if word.startswith("-") and not typed and first:
            continue
        if typed not in folded:
            continue
        fit = first if folded.startswith(typed) else second
        if len(fit) < LIMIT:
            fit.append(Suggestion(f"{place.base}{word}{' ' if more else ''}", hint))
        if len(first) >= LIMIT:
            break
    return (first + second)[:LIMIT]
