"""The lock files: what is installed is what was pinned, wherever it comes from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("deploy/requirements.txt", "tests/requirements.txt")

PIN = re.compile(
    r"^(?P<name>[a-z0-9-]+)(\[.*?\])?==(?P<version>\S+)(?: ; (?P<marker>.*?))? \\\n(?P<hashes>(?: +--hash=.*\n)+)", re.M
)


def pins(file: str) -> dict[tuple[str, str], tuple[str, frozenset[str]]]:
    """Map each package and its marker to its version and hashes."""
    found = {}
    for pin in PIN.finditer((ROOT / file).read_text()):
        hashes = frozenset(re.findall(r"sha256:[0-9a-f]{64}", pin["hashes"]))
        found[pin["name"], pin["marker"] or ""] = (pin["version"], hashes)
    return found


@pytest.mark.parametrize("file", FILES)
def test_every_line_is_a_hashed_pin(file: str) -> None:
    """No option, address or path can stand in a lock file."""
    for line in (ROOT / file).read_text().splitlines():
        assert re.match(r"[a-z0-9-]+(\[.*?\])?==\S+( ; .*)? \\$|    --hash=sha256:[0-9a-f]{64}( \\)?$|    # +", line), (
            line
        )
        assert "://" not in line
    assert all(hashes for _, hashes in pins(file).values())


def test_development_holds_the_runtime() -> None:
    """One virtual environment serves both, so the tests run what is deployed."""
    development = {name: version for (name, _), (version, _) in pins("tests/requirements.txt").items()}
    runtime = {name: version for (name, _), (version, _) in pins("deploy/requirements.txt").items()}
    assert runtime.items() <= development.items()


def test_the_lock_names_every_dependency() -> None:
    """A dependency added to pyproject.toml without `make lock` is found here, not at the next installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = project["project"]["dependencies"] + project["dependency-groups"]["build"]
    development = [line for line in project["dependency-groups"]["dev"] if isinstance(line, str)]
    for wanted, file in ((runtime, FILES[0]), (runtime + development, FILES[1])):
        locked = {name for name, _ in pins(file)}
        assert {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in wanted} <= locked


def test_the_bill_of_materials_is_made_from_what_is_here() -> None:
    """The command in the handbook names files of this repository, and the file whose pins are checked here."""
    command = re.search(
        r"`cyclonedx-py requirements (\S+) --pyproject (\S+) -o \S+`", (ROOT / "docs/operations.md").read_text()
    )
    assert command is not None
    assert command[1] in FILES
    assert (ROOT / command[2]).is_file()
