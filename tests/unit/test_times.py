"""Instants as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.errors import BadInput
from bot.times import parse_when, say_for, say_when

NOW = datetime(2026, 11, 21, 9, 18, tzinfo=UTC)  # a Saturday; 17:18 in Shanghai


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", "2026-11-21T09:18+00:00"),
        ("+2h", "2026-11-21T11:18+00:00"),
        ("+30m", "2026-11-21T09:48+00:00"),
        ("+1d", "2026-11-22T09:18+00:00"),
        ("18:30", "2026-11-21T10:30+00:00"),
        ("tomorrow 10:00", "2026-11-22T02:00+00:00"),
        ("tue 10:00", "2026-11-24T02:00+00:00"),
        ("Tuesday 10:00", "2026-11-24T02:00+00:00"),
        ("sat 20:00", "2026-11-21T12:00+00:00"),
        ("2026-11-24T10:00", "2026-11-24T02:00+00:00"),
        ("2026-11-24T10:00+09:00", "2026-11-24T01:00+00:00"),
        ("2026-11-24T10:00Z", "2026-11-24T10:00+00:00"),
        ("2026-11-24 10:00", "2026-11-24T02:00+00:00"),
    ],
)
def test_times_are_read_in_the_readers_zone(text: str, wanted: str) -> None:
    """Without an offset a time means the wall clock of whoever typed it."""
    assert parse_when(text, NOW, "Asia/Shanghai") == datetime.fromisoformat(wanted)


@pytest.mark.parametrize("text", ["someday", "25:00", "10:75", "tue 10", "2026-13-01", "+2x", "yesterday 10:00"])
def test_other_words_are_refused(text: str) -> None:
    """A time that is guessed wrong explains the wrong verdict."""
    with pytest.raises(BadInput, match="no time I understand"):
        parse_when(text, NOW)


def test_times_are_said_in_a_zone() -> None:
    """The zone is always named, so that nobody has to guess."""
    assert say_when(NOW, "Asia/Shanghai") == "Sat 21 Nov 2026 17:18 (Asia/Shanghai)"
    assert say_when(NOW) == "Sat 21 Nov 2026 09:18 (UTC)"


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_lengths_are_short(seconds: int, wanted: str) -> None:
    """Two units are enough."""
    assert say_for(timedelta(seconds=seconds)) == wanted
