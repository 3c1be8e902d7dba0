"""How fast Feishu may be spoken to: a place, a message, and all of them together.

Source: open.feishu.cn "发送消息", "更新已发送的消息卡片": 5 a second to one person or group and of one message;
1,000 a minute and 50 a second for each call.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

MARGIN = 1.05
"""What arrives there is spread a little otherwise than it left here."""
POST, EDIT = "post", "edit"
REMEMBERED = 4096


class Window:
    """At most `count` in any `seconds`."""

    def __init__(self, count: int, seconds: float) -> None:
        self._seconds = seconds * MARGIN
        self._times: deque[float] = deque(maxlen=count)

    def hold(self, now: float) -> float:
        """Seconds until one more is allowed."""
        full = len(self._times) == self._times.maxlen
        return max(0.0, self._times[0] + self._seconds - now) if full else 0.0

    def take(self, now: float) -> None:
        """One goes."""
        self._times.append(now)


class Pace:
    """Counts what goes out; a place or message that was not spoken to for long is forgotten."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """now: seconds that only rise."""
        self._now = now
        self._app = {kind: (Window(50, 1.0), Window(1000, 60.0)) for kind in (POST, EDIT)}
        self._places: dict[str, Window] = {}
        self._messages: dict[str, Window] = {}

    def hold_post(self, place: str) -> float:
        """Seconds until a post to a place is taken."""
        return self._longest([*self._app[POST], *_known(self._places, place)])

    def hold_edit(self, message: str = "") -> float:
        """Seconds until an edit is taken, of that message if named."""
        return self._longest([*self._app[EDIT], *_known(self._messages, message)])

    def posted(self, place: str) -> None:
        """A post goes."""
        self._take(POST, self._places, place)

    def edited(self, message: str) -> None:
        """An edit goes."""
        self._take(EDIT, self._messages, message)

    def _longest(self, windows: Iterable[Window]) -> float:
        now = self._now()
        return max(one.hold(now) for one in windows)

    def _take(self, kind: str, windows: dict[str, Window], name: str) -> None:
        now = self._now()
        for window in self._app[kind]:
            window.take(now)
        # Last in, last out: the longest silent is forgotten first.
        window = windows.pop(name) if name in windows else Window(5, 1.0)
        windows[name] = window
        window.take(now)
        if len(windows) > REMEMBERED:
            del windows[next(iter(windows))]


def _known(windows: dict[str, Window], name: str) -> list[Window]:
    return [windows[name]] if name in windows else []
