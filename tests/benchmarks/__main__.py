"""Run the benchmarks, all or those named: `python -m tests.benchmarks [NAME...]`, or one with its own options."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

OURS = Path(__file__).parent


def names() -> list[str]:
    """Every module here that has a `main()`."""
    return sorted(one.name for one in pkgutil.iter_modules([str(OURS)]) if not one.name.startswith("_"))


def chosen_of(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The benchmarks to run, and the options of one. Raises SystemExit: there is none of that name."""
    chosen = list(takewhile(lambda word: word.isidentifier(), words))
    options = list(words[len(chosen) :])
    if unknown := set(chosen) - set(names()):
        raise SystemExit(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}.")
    if options and len(chosen) != 1:
        raise SystemExit("Options are those of one benchmark: name it before them.")
    return chosen or names(), options


def main() -> None:
    """Run them one after another."""
    chosen, options = chosen_of(sys.argv[1:])
    sys.argv[1:] = options
    for name in chosen:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        if not hasattr(module, "main"):
            continue
        print(f"== {name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        module.main()


if __name__ == "__main__":
    main()
