"""Run the benchmarks, all or those named: `python -m tests.benchmarks [NAME...]`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

OURS = Path(__file__).parent


def names() -> list[str]:
    """Every module here that has a `main()`."""
    return sorted(one.name for one in pkgutil.iter_modules([str(OURS)]) if not one.name.startswith("_"))


def main() -> None:
    """Run them one after another."""
    chosen = sys.argv[1:] or names()
    unknown = set(chosen) - set(names())
    if unknown:
        raise SystemExit(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}.")
    for name in chosen:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        if not hasattr(module, "main"):
            continue
        print(f"== {name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        module.main()


if __name__ == "__main__":
    main()
