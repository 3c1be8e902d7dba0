"""Parts that are made when something of them is first used: what answers no command does not delay the first answer.

`later(make)` stands in for what `make()` gives; whoever holds it sees no difference. `make` imports what it needs, so
that nothing of it is loaded before. What is loaded in `load_rest`, soon after the start and off the event loop, keeps
the first use as quick as the next. Tests make every part of an application, so that a broken import shows there.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

K = TypeVar("K")
T = TypeVar("T")

PAUSE = 0.05
"""Seconds between two modules that are loaded beside the work."""
LOOK = 0.2
"""Seconds between two looks whether it is quiet."""
SHARE = 0.0005
"""Seconds for which loading keeps the interpreter to itself, a tenth of what is usual: answers must not wait."""


def later(make: Callable[[], T]) -> T:
    """What `make` gives, made once, when it is first used. To be used from one thread."""
    return cast("T", _Later(make))


def named(place: str) -> Any:
    """What `module:name` names; its module is loaded if need be."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


class Named(Mapping[K, T]):
    """Things by the places where they are, each loaded when it is asked for."""

    def __init__(self, places: Mapping[K, str]) -> None:
        """places: key -> `module:name`."""
        self._places = dict(places)

    def __getitem__(self, key: K) -> T:
        return cast("T", named(self._places[key]))

    def __iter__(self) -> Iterator[K]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def is_made(part: object) -> bool:
    """Whether a part is there already; one that was never to be made later is."""
    return not isinstance(part, _Later) or object.__getattribute__(part, "_made")


def make_now(part: T) -> T:
    """The part itself, made if it is not yet."""
    return cast("T", _part(part)) if isinstance(part, _Later) else part


def load_now(modules: Iterable[str]) -> None:
    """Load what would be loaded later: there is work for it already."""
    for name in modules:
        importlib.import_module(name)


async def load_rest(modules: Iterable[str], after: float, is_quiet: Callable[[], bool]) -> None:
    """Load what was left for later, from so many seconds on, one after another, each when nobody asks for anything.

    In a thread, which lets others pass; where it is never quiet, each is loaded when it is first used.
    """
    await asyncio.sleep(after)
    for name in modules:
        while not is_quiet():  # noqa: ASYNC110 - quiet is the absence of events
            await asyncio.sleep(LOOK)
        usual = sys.getswitchinterval()
        sys.setswitchinterval(SHARE)
        try:
            await asyncio.to_thread(importlib.import_module, name)
        finally:
            sys.setswitchinterval(usual)
        await asyncio.sleep(PAUSE)


class _Later:
    """Asks the part, which it makes first if need be, for everything."""

    __slots__ = ("_made", "_make", "_part")

    def __init__(self, make: Callable[[], object]) -> None:
        object.__setattr__(self, "_make", make)
        object.__setattr__(self, "_made", False)

    def __getattr__(self, name: str) -> Any:
        return getattr(_part(self), name)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return _part(self)(*given, **named)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_part(self), name, value)


def _part(stand_in: _Later) -> Any:
    if not object.__getattribute__(stand_in, "_made"):
        object.__setattr__(stand_in, "_part", object.__getattribute__(stand_in, "_make")())
        object.__setattr__(stand_in, "_made", True)
    return object.__getattribute__(stand_in, "_part")
