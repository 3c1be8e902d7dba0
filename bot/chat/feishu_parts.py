"""Feishu's parts put together from the settings; imported only when Feishu is switched on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bot.catalog.model import Catalog
from bot.chat.base import ClickHandler, Inbound
from bot.chat.feishu import FeishuAdapter
from bot.chat.feishu_people import FeishuPeople
from bot.chat.feishu_wire import Keys
from bot.clock import Clock
from bot.commanding import Command
from notifiers.feishu import FeishuClient
from notifiers.feishu_api import FeishuApi
from notifiers.whole_logs import OpenLogs

if TYPE_CHECKING:
    from bot.settings import Settings


class FeishuParts:
    """What the application needs of Feishu: who is who, how to send, how to receive."""

    def __init__(
        self, settings: Settings, catalog: Callable[[], Catalog], clock: Clock, open_log: OpenLogs | None = None
    ) -> None:
        """catalog: as it was read, without what the chats add to it. open_log: goes with `/logs`."""
        assert settings.feishu_app_secret is not None
        self.api = FeishuApi(settings.feishu_app_id, settings.feishu_app_secret, settings.feishu_domain)
        self.people = FeishuPeople(self.api, clock)
        self.client = FeishuClient(self.api, open_log=open_log)
        self._settings = settings
        self._catalog = catalog
        self._clock = clock

    def adapter(self, inbound: Inbound, clicks: ClickHandler, commands: Sequence[Command]) -> FeishuAdapter:
        """The inbound side, handing over to `inbound` and `clicks`."""
        return FeishuAdapter(
            inbound,
            clicks,
            self.api,
            self.client,
            self.people,
            self._catalog,
            keys=self._keys(),
            long_connection=self._settings.feishu_long_connection,
            commands=[(one.name, one.summary) for one in commands],
            now=lambda: self._clock().timestamp(),
        )

    def _keys(self) -> Keys | None:
        key, token = self._settings.feishu_encrypt_key, self._settings.feishu_verification_token
        return Keys(key.get_secret_value(), token.get_secret_value()) if key is not None and token is not None else None
