"""What `slipway doctor` looks at in Feishu: app, way in, people, and the groups the bot must be in."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bot.catalog.model import Catalog
from bot.chat.feishu_people import FeishuPeople
from bot.chat.feishu_wire import PLATFORM
from bot.clock import utc_now
from bot.doctor import Finding
from bot.errors import ProviderError
from bot.settings import Settings
from notifiers.feishu_api import FeishuApi

RANGE = "Write their Feishu e-mail into people.yaml, or widen the app's availability and contact range."
NAMED = 10


async def check(settings: Settings, catalog: Catalog) -> AsyncIterator[Finding]:
    """Every finding about Feishu; asks only, changes nothing."""
    assert settings.feishu_app_secret is not None
    api = FeishuApi(settings.feishu_app_id, settings.feishu_app_secret, settings.feishu_domain)
    try:
        try:
            await api.open()
        except ProviderError as error:
            yield Finding(PLATFORM, error.message, _credentials(api))
            return
        yield Finding(PLATFORM, f"the app {api.app_id} answers at {api.domain}, as {api.bot}.")
        for one in (_way_in(api, settings), _people(api, catalog), _groups(api, catalog)):
            async for finding in one:
                yield finding
    finally:
        await api.close()


def _credentials(api: FeishuApi) -> str:
    if api.refused:
        return (
            "Copy both from the developer console's page 'Credentials & Basic Info', and publish a version with a bot."
        )
    return "Check FEISHU_DOMAIN and the way from this machine to it."


async def _way_in(api: FeishuApi, settings: Settings) -> AsyncIterator[Finding]:
    if settings.feishu_encrypt_key is not None:
        yield Finding(PLATFORM, "events are expected, encrypted and signed, at /feishu/events of your public address.")
    if not settings.feishu_long_connection:
        return
    try:
        await api.connection()
    except ProviderError as error:
        yield Finding(PLATFORM, error.message, "Choose the long connection on the page 'Events & Callbacks'.")
    else:
        yield Finding(PLATFORM, "a long connection can be opened.")


async def _people(api: FeishuApi, catalog: Catalog) -> AsyncIterator[Finding]:
    people = FeishuPeople(api, utc_now)
    try:
        await people.refresh(catalog)
    except ProviderError as error:
        yield Finding(
            PLATFORM, error.message, "Add the contact scopes that docs/feishu.md lists, and publish a version."
        )
        return
    completed = people.complete(catalog)
    active = [one for one in completed.people.values() if catalog.people[one.id].active]
    lost = sorted(one.id for one in active if not one.chats.get(PLATFORM))
    left = sorted(one.id for one in active if not one.active)
    yield Finding(PLATFORM, f"{len(active) - len(lost) - len(left)} of {len(active)} people have an account.")
    if lost:
        yield Finding(PLATFORM, f"no account is found for {_listed(lost)}.", RANGE)
    if left:
        yield Finding(PLATFORM, f"{_listed(left)} left or were frozen.", "Take them out of people.yaml.")


async def _groups(api: FeishuApi, catalog: Catalog) -> AsyncIterator[Finding]:
    for group in sorted(groups_of(catalog)):
        try:
            answer = await api.call("GET", f"/open-apis/im/v1/chats/{group}/members/is_in_chat")
        except ProviderError as error:
            yield Finding(PLATFORM, f"{group}: {error.message}", "Check its id in the group's settings.")
            continue
        if (answer.get("data") or {}).get("is_in_chat"):
            yield Finding(PLATFORM, f"the bot is in {group}.")
        else:
            yield Finding(PLATFORM, f"the bot is not in {group}.", "Add it in the group's settings, page 'Bots'.")


def groups_of(catalog: Catalog) -> frozenset[str]:
    """Every Feishu group the catalog names."""
    rooms = [catalog.channels]
    for some in (catalog.teams, catalog.environments, catalog.services):
        rooms += [one.channels for one in some.values()]
    return frozenset(room[PLATFORM] for room in rooms if room.get(PLATFORM))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
