"""Imports point one way (the rooms of the house): commands and notifiers -> core -> protocols."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bot", "commands", "notifiers", "migrations")
SERVICES_OF_THE_DEMO = ROOT / "bot" / "demo" / "files"

CORE = ("bot.catalog", "bot.policy", "bot.deployments", "bot.store", "bot.pipelines", "bot.delivery", "bot.gates")
EDGES = ("commands", "notifiers", "bot.chat", "bot.web", "bot.app", "bot.cli", "bot.serving", "bot.terminal")
IO = (
    "bot.store",
    "aiohttp",
    "asyncio",
    "httpx",
    "kubernetes",
    "requests",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "subprocess",
    "urllib.request",
)


@dataclass(frozen=True)
class Rule:
    """`names` are imported only by modules `only_in`, or by none of the modules `never_in`."""

    why: str
    names: tuple[str, ...]
    only_in: tuple[str, ...] = ()
    never_in: tuple[str, ...] = ()

    def forbids(self, module: str, imported: str) -> bool:
        if not _below(imported, self.names):
            return False
        return _below(module, self.never_in) if self.never_in else not _below(module, self.only_in)


RULES = {
    "chat SDKs": Rule(
        "chat SDKs stop in bot/chat/ and notifiers/",
        names=("slack_sdk", "slack_bolt", "lark_oapi"),
        only_in=("bot.chat", "notifiers"),
    ),
    "kubernetes": Rule(
        "kubernetes stops in bot/pipelines/ and bot/delivery/",
        names=("kubernetes",),
        only_in=("bot.pipelines", "bot.delivery"),
    ),
    "sqlalchemy": Rule(
        "SQLAlchemy stops in bot/store/ and migrations/",
        names=("sqlalchemy",),
        only_in=("bot.store", "migrations"),
    ),
    "core": Rule("the core knows nothing of its edges", names=EDGES, never_in=CORE),
    "policy": Rule("the policy is pure: facts in, verdict out", names=IO, never_in=("bot.policy",)),
    "app": Rule(
        "bot/app.py builds everything, so only what starts it may import it",
        names=("bot.app",),
        only_in=("bot.app", "bot.serving", "bot.terminal", "bot.demo"),
    ),
}


def _below(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imports(module: str, source: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of each import, at any depth, for types only, and by `import_module("...")`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                origin = _absolute(module, base or "", level, is_package)
                # `from bot import app` may name a module or a thing in it: both are looked at.
                yield from ((node.lineno, name) for name in [origin, *(f"{origin}.{alias.name}" for alias in names)])
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def _absolute(module: str, base: str, level: int, is_package: bool) -> str:
    if level == 0:
        return base
    parts = module.split(".")
    package = parts[: len(parts) - level + is_package]
    return ".".join([*package, base] if base else package)


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """Return the names of the rules this source breaks, with the line."""
    return sorted(
        {
            f"{name}: {module}:{line} ({rule.why})"
            for line, imported in imports(module, source, is_package)
            for name, rule in RULES.items()
            if rule.forbids(module, imported)
        }
    )


def modules() -> Iterator[tuple[str, Path]]:
    """Yield the name and the file of each module of ours."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.is_relative_to(SERVICES_OF_THE_DEMO):
                parts = path.relative_to(ROOT).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_our_imports_point_one_way() -> None:
    """A new import in the wrong direction names itself, its line and the reason."""
    broken = [line for name, path in modules() for line in violations(name, path.read_text(), path.stem == "__init__")]
    assert not broken, "\n".join(broken)


def test_our_modules_are_found() -> None:
    """An empty walk would pass the test above."""
    assert {"bot", "commands", "notifiers", "bot.policy.model"} <= {name for name, _ in modules()}


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        ("chat SDKs", "bot.web.console", "import slack_sdk"),
        ("chat SDKs", "commands.deploy", "from slack_bolt.async_app import AsyncApp"),
        ("chat SDKs", "bot.deployments.engine", "def later():\n    import lark_oapi as lark"),
        ("kubernetes", "bot.chat.slack", "from kubernetes.client import ApiClient"),
        ("kubernetes", "bot.gates.prometheus", "import importlib\nimportlib.import_module('kubernetes.client')"),
        ("sqlalchemy", "bot.app", "import sqlalchemy as sa"),
        ("sqlalchemy", "bot.deployments.engine", "from sqlalchemy.engine import Engine"),
        ("core", "bot.deployments.engine", "from commands.deploy import deploy"),
        ("core", "bot.catalog.load", "import notifiers"),
        ("core", "bot.store.tables", "from bot.chat.base import ChatClient"),
        ("core", "bot.gates.tests", "from bot import web"),
        ("core", "bot.delivery.shell", "from ..cli import main"),
        ("core", "bot.pipelines", "from ..web import routes"),
        ("core", "bot.policy.windows", "if TYPE_CHECKING:\n    from bot.chat import base"),
        ("policy", "bot.policy", "import asyncio"),
        ("policy", "bot.policy.windows", "from bot.store import Tx"),
        ("policy", "bot.policy.windows", "from ..store import Tx"),
        ("policy", "bot.policy.decide", "import httpx"),
        ("policy", "bot.policy.decide", "import urllib.request"),
        ("app", "bot.web.routes", "from bot.app import build"),
        ("app", "commands.deploy", "from bot import app"),
        ("app", "bot.dispatch", "from . import app"),
    ],
)
def test_each_rule_can_fail(rule: str, module: str, source: str) -> None:
    """Wherever the import hides."""
    found = violations(module, source, is_package=module in ("bot.policy", "bot.pipelines"))
    assert rule in {line.partition(":")[0] for line in found}


def test_no_rule_is_untried() -> None:
    """A rule without a failing example may forbid nothing."""
    (marker,) = [mark for mark in test_each_rule_can_fail.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert {case[0] for case in marker.args[1]} == set(RULES)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bot.chat.slack", "from slack_bolt.async_app import AsyncApp"),
        ("notifiers.feishu", "import lark_oapi"),
        ("bot.delivery.rollouts", "import kubernetes"),
        ("bot.store.tables", "import sqlalchemy"),
        ("migrations.versions.first", "import sqlalchemy as sa"),
        ("commands.deploy", "from bot.deployments import engine"),
        ("bot.chat.slack", "from bot.store import inbox"),
        ("bot.chat", "from .base import ChatClient"),
        ("bot.policy.windows", "from bot.catalog.model import Window\nfrom .model import Reason"),
        ("bot.deployments.engine", "import asyncio\nfrom bot.store import Tx"),
        ("bot.deployments.engine", "from bot.application import x\nimport kubernetes_notes"),
        ("bot.serving", "from bot.app import build"),
        ("bot.demo.run", "from bot import app"),
    ],
)
def test_what_is_allowed_stays_allowed(module: str, source: str) -> None:
    """The near misses."""
    assert violations(module, source, is_package=module == "bot.chat") == []
