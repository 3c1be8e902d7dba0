"""`/logs <deployment> [stage]`: the last lines of the pipeline's log, and all of it by a link, or as a file in chats.

Secrets are redacted in all of them.
"""

from __future__ import annotations

from typing import Annotated

from bot.catalog.find import find_service
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.deployments.model import Deployment, parse_ref
from bot.errors import BadInput, Refused
from bot.policy.model import Permission, ReasonCode
from bot.store import deployments as rows
from notifiers.card import Card

LINES = 60


class LogsArgs(Args):
    """deployment: `d-12`, or a service's name for its newest one."""

    deployment: Annotated[str, Arg(ArgKind.DEPLOYMENT)]
    stage: Annotated[str, Arg(ArgKind.TEXT, label="stage")] = ""


async def logs(ctx: CommandContext, args: LogsArgs) -> Reply:
    """Show the tail.

    Raises:
        BadInput: no such deployment or stage.
        Refused: logs are for the team and above.
    """
    seen = await _deployment(ctx, args.deployment)
    run_logs = ctx.tools.run_logs
    if run_logs is None or not run_logs.may_read(ctx.caller.id, seen):
        raise Refused(
            f"Only the team of {seen.service} and release managers may read its logs.",
            hint="Ask an owner to look.",
            code=ReasonCode.NOT_PERMITTED,
        )
    if not seen.data.run_id:
        return Reply(
            f"{seen.ref} ran no pipeline" + (": it reused a build that existed." if seen.data.reused else " yet.")
        )
    lines = await run_logs.tail(seen, args.stage, LINES)
    title = f"Log of {seen.ref}: {seen.target} {seen.release_version}"
    link = await run_logs.link(seen, args.stage, ctx.caller.id)
    fields, about = {"whole log": link}, {"log": link.rpartition("/")[2]}
    if seen.data.run_url:
        fields["run"] = seen.data.run_url
    text = f"The last {len(lines)} lines. The link to all of it is good for an hour."
    return Reply(card=Card(title, text=text, fields=fields, excerpt="\n".join(lines) or "(empty)", about=about))


async def _deployment(ctx: CommandContext, name: str) -> Deployment:
    number = parse_ref(name)
    if number is None:
        service = find_service(ctx.catalog, name)
        found = await ctx.tools.db.read(lambda tx: rows.history(tx, service.name, limit=1))
        if not found:
            raise BadInput(f"{service.name} was never deployed.", hint=f"Try /deploy {service.name} <environment>.")
        return found[0]
    seen = await ctx.tools.db.read(lambda tx: rows.get(tx, number))
    if seen is None:
        raise BadInput(f"There is no deployment d-{number}.", hint="/history lists them.")
    return seen


command = Command(
    name="logs",
    summary="Show the end of a pipeline's log, and a link to all of it",
    example="/logs d-12 test",
    permission=Permission.LOG_READ,
    args=LogsArgs,
    run=logs,
)
