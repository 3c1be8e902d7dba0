"""A good change counts at once and whole; a bad one changes nothing and is told."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from bot.catalog import load
from bot.catalog.files import read_file
from bot.catalog.model import Catalog
from bot.catalog.problems import CatalogProblems
from bot.catalog.watch import CatalogHolder
from tests.unit.catalog.directories import SERVICES, good, write

OLD_NS = 1_000_000_000


def settle(directory: Path) -> None:
    """As if everything had been written long ago."""
    for path in [*directory.rglob("*"), directory]:
        os.utime(path, ns=(OLD_NS, OLD_NS))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    good(tmp_path)
    settle(tmp_path)
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read."""
    names: list[str] = []

    def counted(directory: Path, name: str) -> object:
        names.append(name)
        return read_file(directory, name)

    monkeypatch.setattr(load, "read_file", counted)
    return names
    return names


def test_nothing_changed(directory: Path) -> None:
    """The usual answer, every two seconds."""
    holder = CatalogHolder(directory)
    before = holder.current
    assert not holder.may_have_changed()
    assert not holder.reload()
    assert holder.current is before


def test_a_good_change_is_swapped_in_whole(directory: Path) -> None:
    """Who holds the old catalog keeps a whole one."""
    holder = CatalogHolder(directory)
    before = holder.current
    write(directory, {"services/more.yaml": "new: {team: shop}\n"})
    assert holder.may_have_changed()
    assert holder.reload()
    assert "new" in holder.current.services
    assert "new" not in before.services
    assert holder.current.digest != before.digest


def test_a_bad_change_keeps_the_last_good_one(directory: Path) -> None:
    """A mistake must neither stop the bot nor open anything."""
    holder = CatalogHolder(directory)
    before = holder.current
    write(directory, {"services/pay.yaml": "pay: {team: shp}\n"})
    assert not holder.reload()
    assert holder.current is before
    assert holder.problem is not None
    assert "shp" in str(holder.problem)
    assert not holder.reload(), "the same mistake is no news"
    write(directory, {"services/pay.yaml": SERVICES})
    holder.reload()
    assert holder.problem is None


def test_a_start_with_a_bad_catalog_fails(directory: Path) -> None:
    """There is no earlier one to keep."""
    write(directory, {"services/pay.yaml": "pay: {team: shp}\n"})
    with pytest.raises(CatalogProblems):
        CatalogHolder(directory)


def test_a_file_that_is_gone_takes_its_services_along(directory: Path) -> None:
    """Removing is a change too."""
    write(directory, {"services/more.yaml": "new: {team: shop}\n"})
    holder = CatalogHolder(directory)
    (directory / "services/more.yaml").unlink()
    assert holder.may_have_changed()
    assert holder.reload()
    assert list(holder.current.services) == ["pay"]


def test_only_changed_files_are_read_again(directory: Path, reads: list[str]) -> None:
    """With 5,000 files a reload is to cost one."""
    write(directory, {f"services/s{n}.yaml": f"s{n}: {{team: shop}}\n" for n in range(20)})
    settle(directory)
    holder = CatalogHolder(directory)
    reads.clear()
    write(directory, {"services/s7.yaml": "s7: {team: shop, owners: [rita]}\n"})
    assert holder.reload()
    assert set(reads) == {"services/s7.yaml"}
    assert holder.current.services["s7"].owners == ("rita",)


def test_a_root_change_reaches_services_of_unchanged_files(directory: Path) -> None:
    """What was built with the old defaults is not kept."""
    holder = CatalogHolder(directory)
    text = (directory / "slipway.yaml").read_text(encoding="utf-8")
    write(directory, {"slipway.yaml": text.replace("repos/{service}.git", "elsewhere/{service}.git")})
    assert holder.reload()
    assert holder.current.services["pay"].repo == "elsewhere/pay.git"


def test_a_touched_file_is_no_change(directory: Path) -> None:
    """The content decides: a checkout touches what it does not change."""
    holder = CatalogHolder(directory)
    os.utime(directory / "slipway.yaml")
    assert holder.may_have_changed()
    assert not holder.reload()


def test_the_same_size_within_one_tick_of_the_clock_is_seen(directory: Path) -> None:
    """File times are coarse: two writes may carry one time."""
    path = directory / "services/pay.yaml"
    write(directory, {"services/pay.yaml": "pay: {team: shop, owners: [rita ]}\n"})
    stamp = path.stat().st_mtime_ns
    holder = CatalogHolder(directory)
    write(directory, {"services/pay.yaml": "pay: {team: shop, owners: [olive]}\n"})
    os.utime(path, ns=(stamp, stamp))
    assert holder.may_have_changed()
    assert holder.reload()
    assert holder.current.services["pay"].owners == ("olive",)


def test_every_file_has_its_turn(directory: Path) -> None:
    """Files written in place under services/ are looked at by slices, and none is left out."""
    write(directory, {f"services/s{n:04}.yaml": f"s{n}: {{team: shop}}\n" for n in range(1000)})
    settle(directory)
    holder = CatalogHolder(directory)
    assert not any(holder.may_have_changed() for _ in range(6))
    for name in ("services/s0000.yaml", "services/s0500.yaml", "services/s0999.yaml"):
        os.utime(directory / name)
        assert any(holder.may_have_changed() for _ in range(6)), name
        os.utime(directory / name, ns=(OLD_NS, OLD_NS))


async def test_the_loop_tells_changes_and_mistakes_once(directory: Path) -> None:
    """The channel hears of a mistake once, not every two seconds."""
    holder = CatalogHolder(directory)
    told: asyncio.Queue[str] = asyncio.Queue()

    async def changed(catalog: Catalog) -> None:
        await told.put(f"changed {len(catalog.services)}")

    async def broken(error: CatalogProblems) -> None:
        await told.put(f"broken {len(error.problems)}")

    loop = asyncio.create_task(holder.watch(changed, broken, timedelta(milliseconds=5)))
    async with asyncio.timeout(30):
        write(directory, {"services/pay.yaml": "pay: {team: shp}\n"})
        assert await told.get() == "broken 1"
        write(directory, {"services/pay.yaml": SERVICES, "services/b.yaml": "b: {team: shop}\n"})
        assert await told.get() == "changed 2"
    assert told.empty()
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
