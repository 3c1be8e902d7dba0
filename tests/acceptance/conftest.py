"""Worlds for whole-bot tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.slack import FakeSlack
from tests.support.slack import company
from tests.support.world import World, make_world

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def emergency(count: int = 1) -> dict[str, Any]:
    """The emergency lane of prod."""
    return {
        "name": "prod-emergency",
        "environments": ["prod"],
        "approvers": {"count": count, "roles": ["team_lead", "release_manager"]},
        "expires_after": "30m",
        "pass_for": "1h",
    }


def closed_window(now: datetime | None = None) -> dict[str, Any]:
    """A window of prod that is closed now: it opens in three days."""
    day = DAYS[((now or datetime.now(UTC)) + timedelta(days=3)).weekday()]
    return {"name": "release-day", "environments": ["prod"], "days": [day], "hours": "10:00-16:00"}


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """The test company's Slack."""
    async with FakeSlack() as fake:
        company(fake)
        yield fake


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Prod is open."""
    return make_world(tmp_path / "world")


@pytest.fixture
def closed(tmp_path: Path) -> World:
    """Prod is closed, and the emergency lane needs one approval."""
    return make_world(tmp_path / "world", windows=[closed_window()], emergency=[emergency()])
