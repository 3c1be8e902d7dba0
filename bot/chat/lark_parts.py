"""The sound part of lark-oapi without the rest: the cipher of the callbacks.

`import lark_oapi` runs the models of 59 services: 2 s and 170 MB. A part is imported below empty parents instead, and
afterwards the parents are forgotten, so that a whole import elsewhere in the process still is a whole one. Only modules
that import nothing later, from inside their functions, may be taken so.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "lark_oapi"
_importing = threading.Lock()


@cache
def cipher_class() -> Any:
    """`AESCipher(key).decrypt_str(text)`: AES-256-CBC, key hashed, padding checked. Raises ValueError: not ours."""
    return _part(f"{PACKAGE}.core.utils.decryptor").AESCipher


def _part(name: str) -> ModuleType:
    with _importing, _empty_parents(name):
        return importlib.import_module(name)


@contextmanager
def _empty_parents(name: str) -> Iterator[None]:
    """Packages without content in place of the real ones, for the time of one import."""
    before = {key: sys.modules.pop(key) for key in list(sys.modules) if _is_lark(key)}
    try:
        spec = find_spec(PACKAGE)
        place, package = Path(next(iter((spec and spec.submodule_search_locations) or ()))), PACKAGE
        sys.modules[package] = _empty(package, place)
        for part in name.split(".")[1:-1]:
            package, place = f"{package}.{part}", place / part
            sys.modules[package] = _empty(package, place)
        yield
    finally:
        for key in [key for key in sys.modules if _is_lark(key)]:
            del sys.modules[key]
        sys.modules.update(before)


def _empty(name: str, place: Path) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = [str(place)]
    return module


def _is_lark(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")
