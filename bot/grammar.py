"""From a typed line to a command and its checked arguments, and back to usage, hints and near misses."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel, ValidationError

from bot.commanding import Arg, ArgKind, Command
from bot.errors import BadInput

QUOTES = {'"': '"', "'": "'", "“": "”", "”": "”", "‘": "’", "「": "」", "«": "»"}
DASHES = ("—", "–", "――", "--")
"""Phones turn `--` into one long dash."""
MAX_LINE = 4000


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field of the arguments' model as it is typed."""

    name: str
    arg: Arg
    required: bool

    @property
    def usage(self) -> str:
        """`<service>`, `[version]`, `[--reason TEXT]`."""
        label = self.arg.label or self.name.replace("_", "-")
        if self.arg.kind is ArgKind.FLAG:
            return f"[--{label}]"
        if self.arg.option:
            return f"[--{label} {self.arg.kind.value.upper()}]"
        lead = f"[{self.arg.lead}] " if self.arg.lead else ""
        return f"{lead}<{label}>" if self.required else f"{lead}[{label}]"

    def is_led_by(self, word: str) -> bool:
        """Whether the word only leads to it."""
        return bool(self.arg.lead) and word.casefold() == self.arg.lead


def parameters(command: Command) -> tuple[Parameter, ...]:
    """The command's parameters in the order they are typed."""
    return _parameters_of(command.args)


@cache
def _parameters_of(model: type[BaseModel]) -> tuple[Parameter, ...]:
    return tuple(_parameters(model))


def _parameters(model: type[BaseModel]) -> Iterator[Parameter]:
    for name, info in model.model_fields.items():
        arg = next((item for item in info.metadata if isinstance(item, Arg)), None)
        if arg is not None:
            yield Parameter(name, arg, info.is_required())


def usage(command: Command) -> str:
    """One line: `/deploy <service> <environment> [version] [--reason TEXT] [--plan]`."""
    return " ".join([f"/{command.name}", *(parameter.usage for parameter in parameters(command))])


def words(line: str) -> list[str]:
    """Split a line at white space (full-width too), keeping quoted parts whole.

    Raises:
        BadInput: a quote is not closed, or the line is far too long.
    """
    if len(line) > MAX_LINE:
        raise BadInput(f"That is longer than {MAX_LINE} characters.", hint="Say it in fewer words.")
    found: list[str] = []
    current, closing, started = "", "", False
    for char in line:
        if closing:
            if char == closing:
                closing = ""
            else:
                current += char
        elif char in QUOTES and not current:
            closing, started = QUOTES[char], True
        elif char.isspace():
            if current or started:
                found.append(current)
            current, started = "", False
        else:
            current += char
    if closing:
        raise BadInput("A quotation mark is not closed.", hint="Close it, or leave both out.")
    return [*found, current] if current or started else found


def find(commands: Sequence[Command], name: str) -> Command:
    """The command of that name or alias.

    Raises:
        BadInput: there is none; the nearest are named.
    """
    wanted = name.casefold()
    for command in commands:
        if wanted == command.name or wanted in command.aliases:
            return command
    known = [command.name for command in commands]
    near = difflib.get_close_matches(wanted, known, n=2, cutoff=0.6) or [one for one in known if one.startswith(wanted)]
    guess = f" Did you mean {' or '.join('/' + one for one in near[:2])}?" if near else ""
    raise BadInput(f"There is no command /{name}.{guess}", hint="/help lists what you can do.")


def parse(command: Command, tokens: Sequence[str]) -> BaseModel:
    """The checked arguments.

    Raises:
        BadInput: one is missing, unknown or too many; the sentence shows the usage.
    """
    values = _collect(command, list(tokens))
    for parameter in parameters(command):
        if parameter.required and parameter.name not in values:
            raise BadInput(f"Which {parameter.arg.label or parameter.name}?", hint=_typed(command))
    try:
        return command.args.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{where}: {first['msg']}.", hint=_typed(command)) from None


def _collect(command: Command, tokens: list[str]) -> dict[str, object]:
    known = parameters(command)
    options = {(one.arg.label or one.name): one for one in known if one.arg.option}
    positions = [one for one in known if not one.arg.option]
    values: dict[str, object] = {}
    while tokens:
        token = tokens.pop(0)
        name = _option_name(token)
        if name is not None:
            _take_option(command, options, name, tokens, values)
            continue
        if not positions:
            raise BadInput(f"'{token}' is one word too many.", hint=_typed(command))
        if tokens and positions[0].is_led_by(token):
            continue
        parameter = positions.pop(0)
        if parameter.arg.kind is ArgKind.TEXT:
            values[parameter.name] = " ".join([token, *_up_to_option(tokens)])
        else:
            values[parameter.name] = token
    return values


def _take_option(
    command: Command, options: dict[str, Parameter], name: str, tokens: list[str], values: dict[str, object]
) -> None:
    name, equals, inline = name.partition("=")
    parameter = options.get(name.casefold())
    if parameter is None:
        near = difflib.get_close_matches(name, list(options), n=1)
        guess = f" Did you mean --{near[0]}?" if near else ""
        raise BadInput(f"There is no option --{name}.{guess}", hint=_typed(command))
    if parameter.arg.kind is ArgKind.FLAG:
        values[parameter.name] = True
        return
    given = [inline] if equals and inline else []
    if parameter.arg.kind is ArgKind.TEXT:
        given += _up_to_option(tokens)
    elif not given and tokens and _option_name(tokens[0]) is None:
        given = [tokens.pop(0)]
    if not given:
        raise BadInput(f"--{name} needs a value after it.", hint=_typed(command))
    values[parameter.name] = " ".join(given)


def _up_to_option(tokens: list[str]) -> list[str]:
    taken = []
    while tokens and _option_name(tokens[0]) is None:
        taken.append(tokens.pop(0))
    return taken


def _option_name(token: str) -> str | None:
    for dash in DASHES:
        if token.startswith(dash) and len(token) > len(dash):
            return token[len(dash) :]
    return None


def _typed(command: Command) -> str:
    return f"Type {usage(command)}, for example {command.example}."
