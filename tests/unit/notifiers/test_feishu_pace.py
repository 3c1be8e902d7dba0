"""Feishu is spoken to as fast as it listens, and no faster: a refusal costs everybody in that place time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from notifiers.feishu_pace import REMEMBERED, Pace
from tests.support.clock import FakeClock


@pytest.fixture
def pace(clock: FakeClock) -> Pace:
    return Pace(lambda: clock().timestamp())


def test_a_place_takes_five_a_second(pace: Pace, clock: FakeClock) -> None:
    """The first five go at once, because most bursts are smaller; the next waits; another place does not."""
    for _ in range(5):
        assert pace.hold_post("oc_1") == 0
        pace.posted("oc_1")
    assert 1.0 < pace.hold_post("oc_1") < 1.1
    assert pace.hold_post("oc_2") == 0
    clock.advance(timedelta(seconds=1.1))
    assert pace.hold_post("oc_1") == 0


def test_a_message_takes_five_edits_a_second(pace: Pace) -> None:
    """Whatever the place; posts are counted apart."""
    for _ in range(5):
        pace.edited("om_1")
    assert pace.hold_edit("om_1") > 1.0
    assert pace.hold_edit("om_2") == pace.hold_edit() == pace.hold_post("oc_1") == 0


def test_the_app_takes_fifty_a_second_and_a_thousand_a_minute(pace: Pace, clock: FakeClock) -> None:
    """Over all places."""
    sent = 0
    for _ in range(20):
        while pace.hold_post("oc_new") == 0:
            pace.posted(f"oc_{sent}")
            sent += 1
        clock.advance(timedelta(seconds=1.1))
    assert sent == 1000
    assert pace.hold_post("oc_new") > 30
    clock.advance(timedelta(seconds=60))
    assert pace.hold_post("oc_new") == 0


def test_it_does_not_remember_for_ever(pace: Pace) -> None:
    """A company has more messages than memory."""
    for number in range(REMEMBERED * 2):
        pace.edited(f"om_{number}")
    assert len(pace._messages) == REMEMBERED
