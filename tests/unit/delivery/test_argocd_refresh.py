"""Argo CD compares by itself; it is asked to only where it does not, and never by everybody at once."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

from bot.delivery.argocd_api import AppRef
from bot.delivery.argocd_refresh import AT_ONCE, Refreshes
from bot.errors import ProviderUnavailable
from tests.support.virtual_time import VirtualLoop, run_virtually

REFS = [AppRef("default", "shop", f"app-{number}") for number in range(100)]


class Argo:
    """Takes a second to compare, and counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        self.now = 0
        self.most = 0
        self.away = False

    async def compare(self, ref: AppRef) -> None:
        self.asked.append((ref.name, asyncio.get_running_loop().time()))
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(1)
        self.now -= 1
        if self.away:
            raise ProviderUnavailable("away", hint="wait")


def test_what_argo_cd_does_by_itself_is_not_asked_for() -> None:
    """A thousand syncs that end together are compared by its controller in the meantime."""
    argo = Argo()

    async def run(_loop: VirtualLoop) -> None:
        refreshes = Refreshes(argo.compare, timedelta(seconds=2))
        for ref in REFS:
            refreshes.want(ref)
        await asyncio.sleep(1)
        for ref in REFS[1:]:
            refreshes.drop(ref)
        await asyncio.sleep(60)
        await refreshes.close()

    run_virtually(run)
    assert argo.asked == [("app-0", 2.0)]


def test_few_are_asked_for_at_a_time_and_again_later_and_later() -> None:
    """Each question is held until it was compared; one that stays too old is asked for again, also after an error."""
    argo = Argo()
    argo.away = True

    async def run(_loop: VirtualLoop) -> None:
        refreshes = Refreshes(argo.compare, timedelta(seconds=2))
        for _ in range(120):
            for ref in REFS[:8]:
                refreshes.want(ref)
            await asyncio.sleep(1)
        await refreshes.close()

    run_virtually(run)
    mine = [at for name, at in argo.asked if name == "app-0"]
    gaps = [later - at for at, later in itertools.pairwise(mine)]
    assert argo.most == AT_ONCE
    assert len(mine) in (5, 6, 7)
    assert gaps == sorted(gaps)
