"""Slack's parts put together from the settings; imported only when Slack is switched on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bot.catalog.model import Catalog
from bot.chat.base import Inbound
from bot.chat.slack import SlackAdapter
from bot.chat.slack_home import Home
from bot.chat.slack_people import SlackPeople
from bot.chat.slack_wire import PLATFORM
from bot.clock import Clock
from bot.store.database import Database
from notifiers.slack import Say, SlackClient, as_it_is
from notifiers.slack_api import SlackApi
from notifiers.slack_files import LogOf
from notifiers.whole_logs import OpenLogs

if TYPE_CHECKING:
    from bot.settings import Settings


class SlackParts:
    """What the application needs of Slack: who is who, how to send, how to receive."""

    def __init__(
        self,
        settings: Settings,
        catalog: Callable[[], Catalog],
        clock: Clock,
        say: Say = as_it_is,
        log_of: LogOf | None = None,
        open_log: OpenLogs | None = None,
    ) -> None:
        """catalog: as it was read, without what Slack adds to it. say: see SlackClient.

        log_of: goes with a failure. open_log: goes with `/logs`.
        """
        base_url = settings.slack_api_base_url.rstrip("/") + "/"
        self.api = SlackApi(settings.slack_tokens, base_url)
        self.people = SlackPeople(self.api, clock, catalog)
        self._names = _ChannelNames(catalog)
        self.client = SlackClient(self.api, self._names.in_use, say=say, log_of=log_of, open_log=open_log)
        self._clock = clock
        self._say = say
        self._settings = settings

    def adapter(self, inbound: Inbound, db: Database, catalog: Callable[[], Catalog]) -> SlackAdapter:
        """The inbound side, handing over to `inbound`. db and catalog: what the App Home tab shows."""
        return SlackAdapter(
            inbound,
            self.api,
            self.client,
            self.people,
            signing_secret=self._settings.slack_signing_secret,
            app_token=self._settings.slack_app_token,
            home=Home(self.api, db, catalog, self.people, self._clock, self._say),
        )


class _ChannelNames:
    """The `#name` channels the catalog uses, found once per catalog."""

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog
        self._seen: tuple[Catalog, frozenset[str]] | None = None

    def in_use(self) -> frozenset[str]:
        """Every place written with a `#`."""
        catalog = self._catalog()
        if self._seen is None or self._seen[0] is not catalog:
            self._seen = (catalog, channel_names(catalog))
        return self._seen[1]


def channel_names(catalog: Catalog) -> frozenset[str]:
    """The channels the catalog writes by name: `#releases`, `T0123ABCD:#releases`."""
    return frozenset(place for place in channels_of(catalog) if "#" in place)


def channels_of(catalog: Catalog) -> frozenset[str]:
    """Every Slack channel the catalog names, by id or `#name`."""
    rooms = [catalog.channels]
    for group in (catalog.teams, catalog.environments, catalog.services):
        rooms += [one.channels for one in group.values()]
    return frozenset(room[PLATFORM] for room in rooms if room.get(PLATFORM))
