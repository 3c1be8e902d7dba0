"""A start on the same files need not read them anew, and never takes what was kept for something it is not."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from bot.catalog import kept as module
from bot.catalog.files import list_files
from bot.catalog.kept import KeptCatalog
from bot.catalog.load import load_catalog
from bot.catalog.model import Catalog
from bot.catalog.problems import CatalogProblems
from bot.catalog.watch import CatalogHolder
from tests.unit.catalog.directories import good, write
from tests.unit.catalog.test_docs import rules_of_the_manual

RICH = """\
pay:
  team: shop
  labels: {tier: gold, size: 1.10}
  pipeline: {provider: jenkins, options: {count: 3, deep: [1.5, true, {a: no}]}}
  gitops: {merge_request: {host: gitlab, merge: slipway, labels: [a]}}
  gray: {pauses: [5m], metrics: [{name: errors, query: "rate({service})", max: 0.01}]}
  gates: {coverage: {min: 80}}
batch-1: {team: shop}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return good(tmp_path / "catalog")


@pytest.fixture
def kept(tmp_path: Path) -> KeptCatalog:
    return KeptCatalog(tmp_path / "catalog.kept")


def started(directory: Path, kept: KeptCatalog) -> CatalogHolder:
    """As a process that has worked for a moment."""
    holder = CatalogHolder(directory, kept=kept)
    holder.keep()
    return holder


def has_read(holder: CatalogHolder) -> bool:
    """Whether the files were read and checked, for which the loader is made."""
    return "_loader" in vars(holder)


def test_the_same_files_are_not_read_again(tmp_path: Path, kept: KeptCatalog) -> None:
    """What is kept is the catalog itself, with every kind of rule and option."""
    directory = write(tmp_path / "catalog", rules_of_the_manual() | {"services/all.yaml": RICH})
    assert has_read(started(directory, kept))
    again = CatalogHolder(directory, kept=kept)
    assert not has_read(again)
    assert again.current == load_catalog(directory)
    assert not again.reload()


def test_a_change_after_such_a_start_counts(directory: Path, kept: KeptCatalog) -> None:
    """And the next start has it, too."""
    started(directory, kept)
    holder = CatalogHolder(directory, kept=kept)
    write(directory, {"services/web.yaml": "web: {team: shop}\n"})
    assert holder.reload()
    assert "web" in holder.current.services
    holder.keep()
    assert "web" in CatalogHolder(directory, kept=kept).current.services


def test_other_files_are_read(directory: Path, kept: KeptCatalog) -> None:
    """A mistake made meanwhile is told as ever."""
    started(directory, kept)
    write(directory, {"services/pay.yaml": "pay: {team: nobody}\n"})
    with pytest.raises(CatalogProblems):
        CatalogHolder(directory, kept=kept)


def test_another_slipway_reads_for_itself(directory: Path, kept: KeptCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a mistake, or a default, may be another thing there."""
    started(directory, kept)
    monkeypatch.setattr("bot.__version__", "999.0")
    assert has_read(CatalogHolder(directory, kept=kept))


def test_a_changed_program_reads_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its version says."""
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr("bot.__file__", str(tmp_path / "__init__.py"))
    before = module._build()
    (tmp_path / "rules.py").write_text("")
    assert module._build() != before


@pytest.mark.parametrize("cut", [slice(0), slice(40), slice(-1), slice(1, None)])
def test_a_torn_file_is_no_catalog(directory: Path, tmp_path: Path, kept: KeptCatalog, cut: slice) -> None:
    """The power may fail while it is written."""
    started(directory, kept)
    path = tmp_path / "catalog.kept"
    path.write_bytes(path.read_bytes()[cut])
    assert has_read(CatalogHolder(directory, kept=kept))


class Bomb:
    """What a stranger would put there."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return os.mkdir, (self.place,)


def test_the_file_can_run_nothing(directory: Path, tmp_path: Path, kept: KeptCatalog) -> None:
    """Even one with the right marks: only the catalog's own types can be named in it."""
    digest = load_catalog(directory).digest
    rest = module._mark(digest) + pickle.dumps(Bomb(tmp_path / "made"))
    (tmp_path / "catalog.kept").write_bytes(module._seal(rest) + b"\n" + rest)
    assert kept.read(directory, list_files(directory)) is None
    assert not (tmp_path / "made").exists()


def test_it_need_not_be_writable(directory: Path, tmp_path: Path) -> None:
    """Then the next start takes a little longer."""
    holder = started(directory, KeptCatalog(tmp_path / "nowhere" / "catalog.kept"))
    assert isinstance(holder.current, Catalog)
