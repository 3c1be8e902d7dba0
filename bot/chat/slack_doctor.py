"""What `slipway doctor` looks at in Slack: token, scopes, socket, people, and the channels the bot must be in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from bot.catalog.groups import chat_groups
from bot.catalog.model import Catalog
from bot.chat.slack_groups import SlackGroups
from bot.chat.slack_manifest import SCOPES
from bot.chat.slack_parts import channels_of
from bot.chat.slack_wire import PLATFORM
from bot.clock import utc_now
from bot.doctor import Finding
from bot.errors import OutcomeUnknown, ProviderError
from bot.settings import Settings
from notifiers.base import ChatRejected
from notifiers.slack_api import SlackApi

REINSTALL = "Paste the output of `slipway manifest slack` into the app's page 'App Manifest', save, and reinstall it."


async def check(settings: Settings, catalog: Catalog) -> AsyncIterator[Finding]:
    """Every finding about Slack; asks only, changes nothing."""
    api = SlackApi(settings.slack_tokens, settings.slack_api_base_url.rstrip("/") + "/")
    try:
        try:
            await api.open()
        except (ProviderError, OutcomeUnknown) as error:
            yield _token(api, error)
            return
        looks = (
            _workspaces(api),
            _socket(api, settings),
            _people(api, catalog),
            _groups(api, catalog),
            _channels(api, catalog),
        )
        for one in looks:
            async for finding in one:
                yield finding
    finally:
        await api.close()


def _token(api: SlackApi, error: ProviderError) -> Finding:
    for setting, why in api.refusals.items():
        fix = f"Copy the bot token (xoxb-) from the app's page 'OAuth & Permissions' into {setting}."
        return Finding(PLATFORM, f"Slack refuses the bot token ({why}).", fix)
    return Finding(PLATFORM, error.message, "Check SLACK_API_BASE_URL and the way from this machine to Slack.")


async def _workspaces(api: SlackApi) -> AsyncIterator[Finding]:
    for one in api.workspaces.values():
        yield Finding(PLATFORM, f"the token is for {one.name or one.team_id} ({one.team_id}), as {one.user_id}.")
        missing = sorted(set(SCOPES) - one.scopes) if one.scopes else []
        if missing:
            why = "; ".join(f"{scope} ({SCOPES[scope]})" for scope in missing)
            yield Finding(PLATFORM, f"scopes are missing in {one.team_id}: {why}.", REINSTALL)
        extra = sorted(one.scopes - set(SCOPES))
        if extra:
            yield Finding(PLATFORM, f"scopes are granted that are not used: {', '.join(extra)}.")


async def _socket(api: SlackApi, settings: Settings) -> AsyncIterator[Finding]:
    if settings.slack_app_token is None:
        yield Finding(PLATFORM, "requests are expected at /slack/events of your public address.")
        return
    try:
        await api.socket_address(settings.slack_app_token)
    except ProviderError as error:
        fix = (
            "Make an app-level token with the scope connections:write on the app's page 'Basic Information' and put it "
            "into SLACK_APP_TOKEN."
        )
        yield Finding(PLATFORM, f"no socket can be opened: {error.message}", fix)
    else:
        yield Finding(PLATFORM, "a socket can be opened.")


async def _people(api: SlackApi, catalog: Catalog) -> AsyncIterator[Finding]:
    seen: set[str] = set()
    for team in api.workspaces:
        async for page in api.pages("users.list", team):
            for user in page.get("members") or ():
                if not user.get("deleted"):
                    email = str((user.get("profile") or {}).get("email") or "").casefold()
                    seen |= {_written(api, team, str(user["id"])), email}
    lost = [
        person.name
        for person in catalog.people.values()
        if person.active and not seen & {*person.chats.get(PLATFORM, ()), person.email.casefold() or "-"}
    ]
    yield Finding(PLATFORM, f"{len(catalog.people) - len(lost)} of {len(catalog.people)} people are known in Slack.")
    if lost:
        names = ", ".join(lost[:10]) + (f" and {len(lost) - 10} more" if len(lost) > 10 else "")
        yield Finding(
            PLATFORM, f"not found in Slack: {names}.", "Correct their e-mail, or write `chats: {slack: [U…]}`."
        )


async def _groups(api: SlackApi, catalog: Catalog) -> AsyncIterator[Finding]:
    named = chat_groups(catalog, PLATFORM)
    ids = [one for some in named.values() for one in some]
    groups = SlackGroups(api, utc_now)
    try:
        await groups.refresh(ids)
    except ProviderError as error:
        yield Finding(PLATFORM, f"user groups cannot be read: {error.message}", REINSTALL)
        return
    for name, some in named.items():
        for lost in groups.missing(some):
            fix = "Correct its id or @handle in the catalog, or switch the group on in Slack."
            yield Finding(PLATFORM, f"the group {name} names the user group {lost}, and there is none.", fix)


async def _channels(api: SlackApi, catalog: Catalog) -> AsyncIterator[Finding]:
    wanted = channels_of(catalog)
    if not wanted:
        fix = 'Write `channels: {slack: "#releases"}` into slipway.yaml.'
        yield Finding(PLATFORM, "the catalog names no channel, so cards appear only where they were asked for.", fix)
        return
    known: dict[str, Any] = {}
    try:
        for team in api.workspaces:
            async for page in api.pages("conversations.list", team, types="public_channel,private_channel"):
                for one in page.get("channels") or ():
                    known |= {_written(api, team, name): one for name in (str(one["id"]), f"#{one['name']}")}
    except ChatRejected as error:
        yield Finding(PLATFORM, error.message, REINSTALL)
        return
    for place in sorted(wanted):
        yield _channel(place, known.get(place))


def _written(api: SlackApi, team: str, name: str) -> str:
    """An id or `#name` as the catalog writes it."""
    return name if team == api.primary else f"{team}:{name}"


def _channel(place: str, seen: dict[str, Any] | None) -> Finding:
    if seen is None:
        fix = "If it is private, type /invite @slipway there; else correct its name in the catalog."
        return Finding(PLATFORM, f"the channel {place} is not there, or hidden from the bot.", fix)
    name = f"#{seen['name']}"
    if seen.get("is_archived"):
        return Finding(PLATFORM, f"{name} is archived.", "Unarchive it, or name another channel in the catalog.")
    if not seen.get("is_member"):
        return Finding(PLATFORM, f"the bot is not in {name}.", "Type /invite @slipway there.")
    return Finding(PLATFORM, f"the bot is in {name}.")
