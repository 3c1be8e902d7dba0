"""Who waits for whom: only what is pushed and not begun, only for many, and only for a moment."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.catalog.model import Kind
from bot.deployments.model import Data, Deployment, Origin, State
from bot.deployments.precedence import CROWD, GRACE, Precedence
from tests.support import FakeClock


def deployment(state: State, clock: FakeClock, **data: object) -> Deployment:
    at, known = clock(), Data().model_copy(update=data)
    names = ("slw-1", "app", "prod", Kind.NORMAL, state, 0, "owner", Origin("console", "#releases"), "", "v1")
    return Deployment(1, *names, "c" * 40, "main", "", known, at, at)


@pytest.mark.parametrize("state", [one for one in State if one is not State.SYNCING])
def test_only_the_beginning_of_a_sync_waits(state: State, clock: FakeClock) -> None:
    """What is queued, written, followed, gray, cancelled or on its way back goes on whoever else is there."""
    precedence = Precedence()
    precedence.also(lambda: 10 * CROWD)
    pushed = deployment(State.SYNCING, clock)
    assert precedence.lets_by(pushed, clock())
    assert not precedence.lets_by(replace(pushed, state=state), clock())
    assert not precedence.lets_by(deployment(State.SYNCING, clock, sync_intent="slw-1-s1"), clock())


def test_it_waits_for_many_and_for_a_few_seconds(clock: FakeClock) -> None:
    """Nobody waits on a quiet day; on the busiest one nobody waits longer than the grace."""
    behind = 0
    precedence = Precedence()
    precedence.also(lambda: behind)
    pushed = deployment(State.SYNCING, clock)
    behind = CROWD
    assert not precedence.lets_by(pushed, clock())
    behind = 10 * CROWD
    assert precedence.lets_by(pushed, clock() + GRACE - timedelta(milliseconds=1))
    assert not precedence.lets_by(pushed, clock() + GRACE)


def test_who_is_on_the_way_is_counted_for_the_time_of_a_turn(clock: FakeClock) -> None:
    """A build takes its own time: a hundred of them are no crowd. What stumbles is not counted for ever."""
    precedence = Precedence()
    with ExitStack() as turns:
        for state in (State.QUEUED, State.WRITING, State.BUILDING, State.SYNCING):
            turns.enter_context(precedence.turn(deployment(state, clock)))
        assert precedence.on_the_way() == 2
    with pytest.raises(ValueError, match="a defect"), precedence.turn(deployment(State.WRITING, clock)):
        raise ValueError("a defect")
    assert precedence.on_the_way() == 0
