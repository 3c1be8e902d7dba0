"""`/help [command]`: made from the definitions, so it cannot drift; only what the caller may run."""

from __future__ import annotations

from typing import Annotated

from bot import grammar
from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.policy.model import Permission
from bot.policy.permissions import may_anywhere
from notifiers.card import Card


class HelpArgs(Args):
    """command: without the slash or with it."""

    command: Annotated[str, Arg(ArgKind.COMMAND)] = ""


async def help_(ctx: CommandContext, args: HelpArgs) -> Reply:
    """One command in full, or all that the caller may run."""
    if args.command:
        found = grammar.find(ctx.tools.commands, args.command.lstrip("/"))
        text = " ".join(part for part in (f"{found.summary}.", found.notes) if part)
        fields = {"type": grammar.usage(found), "for example": found.example}
        return Reply(card=Card(f"/{found.name}", text=text, fields=fields))
    may = [one for one in ctx.tools.commands if may_anywhere(ctx.catalog, ctx.caller.id, one.permission)]
    fields = {grammar.usage(one): one.summary for one in may}
    return Reply(card=Card("What you can do", fields=fields))


command = Command(
    name="help",
    summary="Show what you can do",
    example="/help deploy",
    permission=Permission.SELF_READ,
    args=HelpArgs,
    run=help_,
)
