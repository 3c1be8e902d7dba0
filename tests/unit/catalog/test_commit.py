"""Which commit a catalog stands at, and how it was at another one."""

from __future__ import annotations

from pathlib import Path

from bot.catalog.commit import commit_of, restore
from bot.catalog.load import load_catalog
from tests.fakes.repositories import git
from tests.unit.catalog.directories import good, write


def test_the_commit_is_the_catalogs_own(tmp_path: Path) -> None:
    """The newest that touched it, also where it is a part of a repository; with a sign where files differ from it."""
    place = good(tmp_path / "mono" / "catalog")
    assert commit_of(place) == ""
    git(tmp_path / "mono", "init", "--quiet")
    assert commit_of(place) == ""
    git(tmp_path / "mono", "add", "--all")
    git(tmp_path / "mono", "commit", "--quiet", "-m", "catalog")
    first = git(place, "rev-parse", "HEAD")
    (tmp_path / "mono" / "other").write_text("x")
    git(tmp_path / "mono", "add", "--all")
    git(tmp_path / "mono", "commit", "--quiet", "-m", "something else")
    assert commit_of(place) == first
    assert load_catalog(place).commit == first
    write(place, {"more.yaml": "freezes: [{name: f, from: 2026-01-01}]\n"})
    assert commit_of(place) == f"{first}+"


def test_a_catalog_of_before_is_restored(tmp_path: Path) -> None:
    """Without touching the files as they are now."""
    place = good(tmp_path / "mono" / "catalog")
    git(tmp_path / "mono", "init", "--quiet")
    git(tmp_path / "mono", "add", "--all")
    git(tmp_path / "mono", "commit", "--quiet", "-m", "catalog")
    then = load_catalog(place)
    write(place, {"more.yaml": "freezes: [{name: f, from: 2026-01-01}]\n"})
    into = tmp_path / "then"
    into.mkdir()
    assert restore(place, then.commit, into)
    assert load_catalog(into).digest == then.digest
    assert load_catalog(place).digest != then.digest
    assert not restore(place, "0" * 40, into)
