"""`slipway`: where everything begins. A plain `serve` is begun at once; all else is typed to `bot.terminal`.

What reads command lines in general takes a twentieth of the server's start and 3 MB that it would keep for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bot.errors import SlipwayError

VALUES: Mapping[str, Callable[[str], Any]] = {"--config": Path, "--data": Path, "--host": str, "--port": int}
FLAGS = {"--console": True, "--no-console": False}
"""The options of `serve`; a test compares them with those of `bot.terminal`."""


def main() -> None:
    """Run the command line; a known error is one sentence on standard error and exit code 1."""
    try:
        options = plain_serve(sys.argv[1:])
        if options is not None:
            from bot.serving import serve

            serve(**options)
        else:
            from bot.terminal import app

            app()
    except SlipwayError as error:
        print(f"slipway: {error.sentence()}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def plain_serve(words: Sequence[str]) -> dict[str, Any] | None:
    """The options of a `serve` that needs no second look; None: it is something else, asks for help, or is wrong."""
    if not words or words[0] != "serve":
        return None
    options: dict[str, Any] = {}
    rest = iter(words[1:])
    for word in rest:
        if word in FLAGS:
            options["console"] = FLAGS[word]
        elif word in VALUES:
            try:
                options[word.removeprefix("--")] = VALUES[word](next(rest))
            except (StopIteration, ValueError):
                return None
        else:
            return None
    return options


if __name__ == "__main__":
    main()
