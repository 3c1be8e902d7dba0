"""`slipway doctor` finds what would fail later: credentials, the way in, people, groups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bot.catalog.load import load_catalog
from bot.doctor import Finding, examine
from tests.fakes.feishu import ENCRYPT_KEY, FakeFeishu
from tests.support.feishu import GROUP, USERS, company, feishu_settings
from tests.support.world import make_world


@pytest.fixture
async def feishu() -> AsyncIterator[FakeFeishu]:
    async with FakeFeishu() as fake:
        company(fake)
        yield fake


async def findings(
    directory: Path, feishu: FakeFeishu, sections: Mapping[str, Any] | None = None, **more: Any
) -> tuple[int, list[Finding]]:
    world = make_world(directory / "world", channels={"feishu": GROUP}, **(sections or {}))
    found: list[Finding] = []
    wrong = await examine(feishu_settings(world, feishu, **more), load_catalog(world.directory), found.append)
    return wrong, found


async def test_all_is_well(tmp_path: Path, feishu: FakeFeishu) -> None:
    """Nothing to fix, and every part was looked at."""
    wrong, found = await findings(tmp_path, feishu, feishu_long_connection=True)
    assert wrong == 0
    said = " ".join(one.text for one in found)
    parts = ("answers at", "every scope", "every event", "encrypted", "long connection", "5 of 5 people")
    for part in (*parts, f"the bot is in {GROUP}"):
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
    """By name, and what does not work for it; scopes act only after a new version is published."""
    feishu.granted -= {"contact:user.id:readonly", "contact:user.employee:readonly"}
    wrong, found = await findings(tmp_path, feishu)
    assert wrong == 2
    said = [f"{one.text} {one.fix}" for one in found if not one.good]
    assert "contact:user.id:readonly, contact:user.employee:readonly" in said[0]
    assert all("publish a version" in one for one in said)


async def test_missing_subscriptions_are_told(tmp_path: Path, feishu: FakeFeishu) -> None:
    """Without the callback every button shows an error, and nothing else does."""
    feishu.subscribed.remove("im.message.receive_v1")
    feishu.callbacks.clear()
    wrong, found = await findings(tmp_path, feishu)
    assert wrong == 1
    (told,) = [one.text for one in found if not one.good]
    assert "im.message.receive_v1" in told
    assert "card.action.trigger" in told


async def test_subscriptions_need_not_be_readable(tmp_path: Path, feishu: FakeFeishu) -> None:
    """The scope for it is a wide one, so it is optional; that nothing was looked at is said."""
    feishu.granted.remove("application:application:self_manage")
    feishu.subscribed.clear()
    wrong, found = await findings(tmp_path, feishu)
    assert wrong == 0
    assert any("not looked at" in one.text for one in found)


async def test_other_keys_are_told_and_never_shown(tmp_path: Path, feishu: FakeFeishu) -> None:
    """Where Feishu tells them; a wrong one refuses every event."""
    feishu.encryption = {"encryption_key": ENCRYPT_KEY, "verification_token": "hush-token"}
    wrong, found = await findings(tmp_path, feishu)
    assert wrong == 1
    (told,) = [one.text for one in found if not one.good]
    assert "FEISHU_VERIFICATION_TOKEN" in told
    assert "hush" not in " ".join(f"{one.text}{one.fix}" for one in found)


async def test_groups_of_owners_are_looked_at(tmp_path: Path, feishu: FakeFeishu) -> None:
    """A wrong id, a group without anybody we know, and one that is well."""
    feishu.departments = {"od-shop": "0", "od-empty": "0"}
    feishu.users[USERS["lead"]]["departments"] = ["od-shop"]
    ids = {"good": "od-shop", "lost": "g404", "empty": "od-empty"}
    groups = {name: {"chats": {"feishu": one}} for name, one in ids.items()}
    wrong, found = await findings(tmp_path, feishu, sections={"groups": groups})
    assert wrong == 3
    said = " ".join(one.text for one in found)
    assert "the group good has 1 person" in said
    assert "the members of g404 (group lost) cannot be read" in said
    assert "the group empty has nobody" in said
