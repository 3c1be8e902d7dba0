"""How a server starts: without what libraries load for people at a terminal, and without looking for garbage.

structlog and httpx import rich, and with it pygments, where they find it: 4 MB and a twentieth of the start, for the
colours and the command line client that a server never shows.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FOR_TERMINALS = ("rich", "pygments")
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
    with _without(FOR_TERMINALS), without_collection():

        def settled() -> None:
            gc.freeze()
            gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
            gc.enable()

        yield settled


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
