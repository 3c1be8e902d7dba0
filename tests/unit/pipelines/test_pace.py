"""How often many runs are looked at: together no oftener than one system and one core can bear."""

from __future__ import annotations

from datetime import timedelta

from bot.pipelines.base import PipelineRun, RunState
from bot.pipelines.remote import FASTEST, LONGEST, LOOKS, SLOWEST, Pace, look_again
from tests.support.clock import FakeClock

NONE = timedelta(0)


def run(after: timedelta | None, state: RunState = RunState.RUNNING) -> PipelineRun:
    return PipelineRun("jenkins", "1", state, look_again=after)


def test_a_young_run_is_looked_at_often_and_a_long_one_seldom() -> None:
    """A twentieth of its age, between two seconds and half a minute."""
    now = FakeClock()()
    ages = {timedelta(seconds=1): FASTEST, timedelta(minutes=4): timedelta(seconds=12), timedelta(hours=1): SLOWEST}
    assert {age: look_again(now - age, now) for age in ages} == ages


def test_many_runs_share_the_looks() -> None:
    """A few are not slowed down; five hundred young ones cost what fifteen looks a second cost, whatever their age."""
    clock = FakeClock()
    pace = Pace(clock)
    assert [pace.of(f"d-{number}", run(FASTEST)) for number in range(2 * LOOKS)] == [FASTEST] * 2 * LOOKS
    for number in range(500):
        pace.of(f"d-{number}", run(FASTEST))
    each = pace.of("d-0", run(FASTEST))
    assert each is not None
    assert 500 / each.total_seconds() <= LOOKS + 0.1
    assert pace.of("d-0", run(LONGEST * 2)) == LONGEST * 2
    assert pace.of("d-0", run(None)) is None
    for number in range(10_000):
        pace.of(f"d-{number}", run(FASTEST))
    assert pace.of("d-0", run(FASTEST)) == LONGEST


def test_who_is_over_or_gone_takes_no_looks() -> None:
    """Runs that ended, and those that nobody looks at any more, slow nobody down."""
    clock = FakeClock()
    pace = Pace(clock)
    for number in range(500):
        pace.of(f"d-{number}", run(FASTEST))
    for number in range(499):
        pace.of(f"d-{number}", run(NONE, RunState.SUCCEEDED))
    assert pace.of("d-499", run(FASTEST)) == FASTEST
    for number in range(500):
        pace.of(f"e-{number}", run(FASTEST))
    clock.advance(LONGEST * 2 + timedelta(seconds=1))
    assert pace.of("d-499", run(FASTEST)) == FASTEST
