"""A catalog that is a Git checkout follows its branch, and nothing of its own is ever lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.catalog_refresh import CatalogRefresh
from bot.errors import ProviderRejected
from bot.git import Git
from tests.fakes.repositories import Repository, git


@pytest.fixture
def origin(tmp_path: Path) -> Repository:
    """Where people merge."""
    one = Repository(tmp_path / "origin")
    one.commit({"slipway.yaml": "first"})
    return one


@pytest.fixture
def checkout(tmp_path: Path, origin: Repository) -> Path:
    """What Slipway reads; the catalog is a folder in it."""
    git(tmp_path, "clone", "--quiet", str(origin.directory), "checkout")
    return tmp_path / "checkout"


async def test_it_follows_its_branch(origin: Repository, checkout: Path) -> None:
    """A merge arrives; without one nothing is touched."""
    refresh = CatalogRefresh(checkout, Git())
    assert await refresh.look() is False
    origin.commit({"slipway.yaml": "second"})
    assert await refresh.look() is True
    assert (checkout / "slipway.yaml").read_text() == "second"
    assert await refresh.look() is False


async def test_what_is_changed_by_hand_stays(origin: Repository, checkout: Path) -> None:
    """Somebody repairs it on the server: told, never overwritten."""
    (checkout / "slipway.yaml").write_text("by hand")
    origin.commit({"slipway.yaml": "second"})
    with pytest.raises(ProviderRejected, match="cannot go forward"):
        await CatalogRefresh(checkout, Git()).look()
    assert (checkout / "slipway.yaml").read_text() == "by hand"


async def test_a_rewritten_branch_is_told(origin: Repository, checkout: Path) -> None:
    """Whoever rewrites history may have lost a rule."""
    origin.git("commit", "--quiet", "--amend", "-m", "rewritten")
    with pytest.raises(ProviderRejected, match="rewritten"):
        await CatalogRefresh(checkout, Git()).look()


async def test_a_plain_directory_is_told(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(ProviderRejected, match="no Git checkout") as refusal:
        await CatalogRefresh(tmp_path, Git()).look()
    assert "SLIPWAY_CATALOG_REFRESH_MINUTES" in refusal.value.sentence()
