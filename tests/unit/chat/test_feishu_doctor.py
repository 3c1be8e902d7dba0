"""`slipway doctor` finds what would fail later: credentials, the way in, people, groups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bot.catalog.load import load_catalog
from bot.doctor import Finding, examine
from tests.fakes.feishu import FakeFeishu
from tests.support.feishu import GROUP, USERS, company, feishu_settings
from tests.support.world import make_world


@pytest.fixture
async def feishu() -> AsyncIterator[FakeFeishu]:
    async with FakeFeishu() as fake:
        company(fake)
        yield fake


async def findings(directory: Path, feishu: FakeFeishu, **more: Any) -> tuple[int, list[Finding]]:
    world = make_world(directory / "world", channels={"feishu": GROUP})
    found: list[Finding] = []
    wrong = await examine(feishu_settings(world, feishu, **more), load_catalog(world.directory), found.append)
    return wrong, found


async def test_all_is_well(tmp_path: Path, feishu: FakeFeishu) -> None:
    """Nothing to fix, and every part was looked at."""
    wrong, found = await findings(tmp_path, feishu, feishu_long_connection=True)
    assert wrong == 0
    said = " ".join(one.text for one in found)
    for part in ("answers at", "encrypted", "long connection", "5 of 5 people", f"the bot is in {GROUP}"):
        assert part in said


async def test_what_is_wrong_is_told_with_what_to_do(tmp_path: Path, feishu: FakeFeishu) -> None:
    """A person nobody finds, one who left, a group without the bot."""
    feishu.groups.clear()
    feishu.users[USERS["lead"]]["email"] = "elsewhere@slipway.example"
    feishu.users[USERS["owner"]]["status"]["is_frozen"] = True
    wrong, found = await findings(tmp_path, feishu)
    assert wrong == 3
    said = [f"{one.text} {one.fix}" for one in found if not one.good]
    assert any("lead" in one and "contact range" in one for one in said)
    assert any("owner" in one and "people.yaml" in one for one in said)
    assert any(GROUP in one and "Bots" in one for one in said)


async def test_a_wrong_secret_is_told_and_never_shown(tmp_path: Path, feishu: FakeFeishu) -> None:
    """The first thing that goes wrong on a first day."""
    wrong, (only,) = await findings(tmp_path, feishu, feishu_app_secret=SecretStr("hush-hush"))
    assert wrong == 1
    assert "FEISHU_APP_SECRET" in only.text
    assert "hush" not in f"{only.text}{only.fix}"


async def test_a_missing_scope_is_told(tmp_path: Path, feishu: FakeFeishu) -> None:
    """Scopes act only after a new version is published."""
    feishu.fail("POST /open-apis/contact/v3/users/batch_get_id", code=99991672)
    wrong, found = await findings(tmp_path, feishu)
    assert wrong == 1
    assert any("publish a version" in one.fix for one in found)
