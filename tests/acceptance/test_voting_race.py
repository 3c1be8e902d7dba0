"""Fifty people press at once, on two replicas over one PostgreSQL: each vote counts once, the decision is made once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from bot.deployments.model import State
from bot.errors import SlipwayError
from bot.store import deployments as rows
from tests.support.running import running
from tests.support.world import ROOT, make_world

VOTERS = tuple(f"voter{n}" for n in range(50))


async def test_fifty_votes_on_two_replicas_decide_once(tmp_path: Path, postgres_url: str) -> None:
    """Five are needed of fifty who press twice each, half of them on either replica."""
    people: dict[str, Any] = {**cast(dict[str, Any], ROOT["people"]), **{one: {} for one in VOTERS}}
    rule = {"name": "five", "environments": ["prod"], "seats": [{"people": list(VOTERS), "count": 5, "name": "voters"}]}
    world = make_world(tmp_path / "world", people=people, approvals=[rule])
    async with running(world, postgres_url) as one:
        await one.say("owner", "/deploy app prod")
        await one.reaches(State.AWAITING_APPROVAL)
        other_world = make_world(tmp_path / "other", people=people, approvals=[rule])
        async with running(other_world, postgres_url) as two:
            catalog = one.app.catalog()

            async def press(number: int) -> bool:
                replica = (one, two)[number % 2]
                try:
                    await replica.app.deployments.vote(1, catalog.people[VOTERS[number // 2]], True, "", "console")
                except SlipwayError:
                    return False
                return True

            counted = sum(await asyncio.gather(*(press(number) for number in range(100))))
            votes = await one.app.db.read(lambda tx: rows.votes_of(tx, 1))
            path = await one.app.db.read(lambda tx: rows.path(tx, 1))
            seen = await one.get(1)
    assert counted == len(votes) == len({vote.person for vote in votes}) == 5
    assert [step.to_state for step in path].count(State.QUEUED.value) == 1
    assert seen is not None
    assert seen.data.emergency is not None
    assert set(seen.data.emergency.approvers) == {vote.person for vote in votes}
