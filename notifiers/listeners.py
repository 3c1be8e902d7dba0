"""The clients of the places that only listen, made from the settings; imported only when one is set up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import httpx
from pydantic import SecretStr

from bot.clock import Clock
from bot.listeners import named
from notifiers.base import ChatClient
from notifiers.dingtalk import DingTalkApp, DingTalkClient, Robot
from notifiers.guarded import guarded_client, networks_of
from notifiers.webhook import Address, WebhookClient
from notifiers.wecom import WeComApp, WeComClient

if TYPE_CHECKING:
    from bot.settings import Settings


def listening_clients(
    settings: Settings, http: httpx.AsyncClient, clock: Clock, closing: list[Callable[[], Awaitable[None]]]
) -> dict[str, ChatClient]:
    """Platform -> client, of those that are set up. closing: takes what has to be called at the end."""
    clients: dict[str, ChatClient] = {}
    if settings.dingtalk:
        clients["dingtalk"] = _dingtalk(settings, http, clock)
    if settings.wecom:
        clients["wecom"] = _wecom(settings, http)
    if settings.webhook:
        addresses = {name: Address(*words) for name, words in named(settings.webhooks).items()}
        guarded = guarded_client(networks_of(settings.webhook_networks))
        closing.append(guarded.aclose)
        clients["webhook"] = WebhookClient(guarded, addresses, clock)
    return clients


def _dingtalk(settings: Settings, http: httpx.AsyncClient, clock: Clock) -> DingTalkClient:
    secret = settings.dingtalk_app_secret
    return DingTalkClient(
        http,
        {name: Robot(*words) for name, words in named(settings.dingtalk_robots).items()},
        DingTalkApp(settings.dingtalk_app_key, secret) if secret is not None else None,
        oapi=settings.dingtalk_oapi_url,
        api=settings.dingtalk_api_url,
        now=lambda: clock().timestamp(),
    )


def _wecom(settings: Settings, http: httpx.AsyncClient) -> WeComClient:
    secret = settings.wecom_secret
    return WeComClient(
        http,
        {name: SecretStr(words[0]) for name, words in named(settings.wecom_robots).items()},
        WeComApp(settings.wecom_corp_id, settings.wecom_agent_id, secret) if secret is not None else None,
        api=settings.wecom_api_url,
    )
