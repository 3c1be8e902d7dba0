"""How a server starts: without what libraries load for people at a terminal, and without looking for garbage.

structlog and httpx import rich, and with it pygments, where they find it: 4 MB and a twentieth of the start, for the
colours and the command line client that a server never shows. uvicorn imports its own command line, and with it click
and multiprocessing. And a dataclass compiles six methods, of which most classes are only ever asked for one.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

FOR_TERMINALS = ("rich", "pygments")
COMMAND_LINES = {"uvicorn.main": ("Server", "main", "run")}
"""Modules of packages that import these names from them, none of which a server asks for there."""
YOUNG = 10_000
"""New objects after which garbage is looked for among them: what a few commands make, and hardly any of it is left."""


@contextmanager
def without_collection() -> Iterator[None]:
    """Look for no garbage meanwhile: starting and loading make many objects that all stay, and looking takes long."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def starting() -> Iterator[Callable[[], None]]:
    """Start without what is for terminals, and without looking for garbage until what is given here is called.

    What was made so far is left out of later searches, too, which halt everybody: nearly all of it stays.
    """
    with _without(FOR_TERMINALS), _without_command_lines(), _methods_compiled_later(), without_collection():

        def settled() -> None:
            gc.freeze()
            gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
            gc.enable()

        yield settled


@contextmanager
def _without_command_lines() -> Iterator[None]:
    """What stands in their place has the names, and nothing behind them."""
    absent = [name for name in COMMAND_LINES if name not in sys.modules]
    for name in absent:
        sys.modules[name] = SimpleNamespace(**dict.fromkeys(COMMAND_LINES[name]))  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


@contextmanager
def _methods_compiled_later() -> Iterator[None]:
    """Of a dataclass made meanwhile, compile every method but `__init__` when it is first called.

    From Python 3.13 on a class compiles all of its methods in one go, and this changes nothing.
    """
    create: Any = getattr(dataclasses, "_create_fn", None)
    if create is None:
        yield
        return

    def create_later(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "__init__":
            return create(name, *arguments, **named)
        made: Any = None

        def method(*given: Any) -> Any:
            nonlocal made
            if made is None:
                made = create(name, *arguments, **named)
            return made(*given)

        method.__name__ = name
        return method

    dataclasses._create_fn = create_later  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dataclasses._create_fn = create  # type: ignore[attr-defined]


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """As if these were not installed, unless they are loaded already."""
    absent = [name for name in names if name not in sys.modules]
    # None in this place is how Python is told that there is no such module.
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
