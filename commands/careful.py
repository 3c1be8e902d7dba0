"""What whoever rolls back should know: Git goes back, a database does not, and hooks run again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from fnmatch import fnmatchcase

import structlog

from bot.catalog.model import Service, Target
from bot.catalog.repository import resolve_repo
from bot.commanding import CommandContext
from bot.deployments.model import Deployment
from bot.errors import SlipwayError

log = structlog.get_logger(__name__)

PATIENCE = 3.0
"""Seconds; a warning is worth that much waiting in an incident, and no more."""
MOST = 3


async def warnings_of(
    ctx: CommandContext, service: Service, target: Target, now: Deployment | None, wanted: Deployment
) -> tuple[str, ...]:
    """Sentences; empty where there is nothing to warn of, or it cannot be told in time."""
    found = await asyncio.gather(
        _in_time(_migrations(ctx, service, now, wanted)), _in_time(_hooks(ctx, service, target, wanted))
    )
    return tuple(one for one in found if one)


async def _in_time(asked: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(PATIENCE):
            return await asked
    except (SlipwayError, TimeoutError) as error:
        log.info("rollback_not_warned", error=str(error))
        return ""


async def _migrations(ctx: CommandContext, service: Service, now: Deployment | None, wanted: Deployment) -> str:
    if now is None or now.commit == wanted.commit:
        return ""
    repo = resolve_repo(ctx.tools.directory, service.repo)
    files = await ctx.tools.sources.changed_files(repo, wanted.commit, now.commit)
    changed = [one for one in files if any(fnmatchcase(one, pattern) for pattern in service.migrations)]
    if not changed:
        return ""
    more = f" and {len(changed) - MOST} more" if len(changed) > MOST else ""
    return (
        f"Migrations changed between {wanted.release_version} and {now.release_version} "
        f"({', '.join(changed[:MOST])}{more}): the database does not go back with it."
    )


async def _hooks(ctx: CommandContext, service: Service, target: Target, wanted: Deployment) -> str:
    delivery = ctx.tools.providers.deliveries.get(target.delivery.provider)
    from bot.delivery.base import Hooking

    if not isinstance(delivery, Hooking):
        return ""
    hooks = await delivery.hooks(service, target)
    if not hooks:
        return ""
    return f"The sync runs hooks ({', '.join(hooks[:MOST])}), now those of {wanted.release_version}."
