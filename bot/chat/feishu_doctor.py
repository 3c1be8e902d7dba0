"""What `slipway doctor` looks at in Feishu: app, scopes, events, keys, way in, people, and the groups it must be in.

Source: open.feishu.cn "查询租户授权状态", "获取应用信息", "获取应用版本信息", "判断用户或机器人是否在群里".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from bot.catalog.groups import chat_groups
from bot.catalog.model import Catalog
from bot.chat.feishu_people import FeishuPeople
from bot.chat.feishu_scopes import CALLBACKS, EVENTS, missing
from bot.chat.feishu_wire import PLATFORM, same
from bot.clock import utc_now
from bot.doctor import Finding
from bot.errors import ProviderError
from bot.settings import Settings
from notifiers.feishu_api import FeishuApi

RANGE = "Write their Feishu e-mail into people.yaml, or widen the app's availability and contact range."
PUBLISH = "and publish a version of the app."
EVENTS_PAGE = "on the page 'Events & Callbacks'"
SELF = "application:application:self_manage"
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
        looks = (
            _allowed(api, settings),
            _way_in(api, settings),
            _people(api, catalog),
            _groups(api, catalog),
        )
        for one in looks:
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


# -- what the app may, and what it is told ---------------------------------------------------------------------------


async def _allowed(api: FeishuApi, settings: Settings) -> AsyncIterator[Finding]:
    try:
        granted = await api.scopes()
    except ProviderError as error:
        yield Finding(PLATFORM, f"the scopes cannot be read: {error.message}", "Run slipway doctor again later.")
        return
    lacking = missing(granted)
    if lacking:
        fix = f"Import what `slipway manifest feishu` prints on the page 'Permissions & Scopes' {PUBLISH}"
        yield Finding(PLATFORM, f"these scopes are not granted: {', '.join(lacking)}.", fix)
    else:
        yield Finding(PLATFORM, "every scope that is needed is granted.")
    if SELF not in granted:
        yield Finding(PLATFORM, f"event subscriptions were not looked at: that needs the scope {SELF}.")
        return
    async for finding in _told(api, settings):
        yield finding


async def _told(api: FeishuApi, settings: Settings) -> AsyncIterator[Finding]:
    path = f"/open-apis/application/v6/applications/{api.app_id}"
    try:
        app = _part(await api.call("GET", path, lang="en_us"), "data", "app")
        version = str(app.get("online_version_id") or "")
        if not version:
            yield Finding(PLATFORM, "no version of the app is published.", "Publish one: until then nothing works.")
            return
        answer = await api.call("GET", f"{path}/app_versions/{version}", lang="en_us")
    except ProviderError as error:
        yield Finding(PLATFORM, f"the app cannot be read: {error.message}", "Run slipway doctor again later.")
        return
    infos = _part(answer, "data", "app_version").get("event_infos") or ()
    events = {str(one.get("event_type")) for one in infos}
    for finding in (*_subscribed(events, app), *_encrypted(app, settings)):
        yield finding


def _subscribed(events: set[str], app: Mapping[str, Any]) -> Iterator[Finding]:
    lacking = [f"{event} ({use})" for event, use in EVENTS.items() if event not in events]
    told = app.get("callback_info")
    if isinstance(told, Mapping):
        callbacks = {str(one) for one in told.get("subscribed_callbacks") or ()}
        lacking += [f"{name} ({use})" for name, use in CALLBACKS.items() if name not in callbacks]
    if lacking:
        yield Finding(PLATFORM, f"not subscribed to {', '.join(lacking)}.", f"Add them {EVENTS_PAGE} {PUBLISH}")
    else:
        yield Finding(PLATFORM, "every event that is needed is subscribed to.")


def _encrypted(app: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Where Feishu shows the keys; they are compared and never shown."""
    there = _part(app, "encryption")
    ours = {
        "FEISHU_ENCRYPT_KEY": ("encryption_key", settings.feishu_encrypt_key),
        "FEISHU_VERIFICATION_TOKEN": ("verification_token", settings.feishu_verification_token),
    }
    for name, (field, secret) in ours.items():
        if secret is not None and there.get(field) and not same(str(there[field]), secret.get_secret_value()):
            yield Finding(
                PLATFORM, f"{name} is not the one of the app.", f"Copy it from 'Encryption strategy' {EVENTS_PAGE}."
            )


def _part(value: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = value.get(name)
        value = found if isinstance(found, Mapping) else {}
    return value


async def _way_in(api: FeishuApi, settings: Settings) -> AsyncIterator[Finding]:
    if settings.feishu_encrypt_key is not None:
        yield Finding(PLATFORM, "events are expected, encrypted and signed, at /feishu/events of your public address.")
    if not settings.feishu_long_connection:
        return
    try:
        await api.connection()
    except ProviderError as error:
        yield Finding(PLATFORM, error.message, f"Choose the long connection {EVENTS_PAGE}.")
    else:
        yield Finding(PLATFORM, "a long connection can be opened.")


# -- people and places -----------------------------------------------------------------------------------------------


async def _people(api: FeishuApi, catalog: Catalog) -> AsyncIterator[Finding]:
    people = FeishuPeople(api, utc_now)
    try:
        await people.refresh(catalog)
    except ProviderError as error:
        yield Finding(PLATFORM, error.message, f"Add the contact scopes that docs/feishu.md lists, {PUBLISH}")
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
    for finding in _owners(people, catalog, completed):
        yield finding


def _owners(people: FeishuPeople, catalog: Catalog, completed: Catalog) -> Iterator[Finding]:
    """Groups of owners and approvers that Feishu fills."""
    for name, ids in chat_groups(catalog, PLATFORM).items():
        for one in ids:
            if one in people.groups.problems:
                fix = "Check its id, the scope contact:group:readonly, and the app's contact range."
                yield Finding(PLATFORM, f"the members of {one} (group {name}) cannot be read.", fix)
        known = len(set(completed.groups[name].people))
        if known:
            yield Finding(
                PLATFORM, f"the group {name} has {known} {'person' if known == 1 else 'people'} of people.yaml."
            )
        else:
            yield Finding(PLATFORM, f"the group {name} has nobody of people.yaml.", "Add its members to people.yaml.")


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
