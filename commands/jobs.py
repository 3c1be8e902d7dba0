"""`/jobs`: what runs by the clock; its history; start, pause and resume it."""

from __future__ import annotations

from typing import Annotated

from bot.commanding import Arg, ArgKind, Args, Command, CommandContext, Reply
from bot.errors import BadInput
from bot.policy.model import Permission
from bot.schedule.jobs import Jobs, JobView
from bot.store.firings import Firing
from bot.times import say_when
from notifiers.card import Card

DEEDS = ("run", "pause", "resume")


class JobsArgs(Args):
    """name: of one job; do: run, pause or resume."""

    name: Annotated[str, Arg(ArgKind.TEXT)] = ""


def make_command(jobs: Jobs) -> Command:
    """The command over these jobs."""

    async def run(ctx: CommandContext, args: JobsArgs) -> Reply:
        words = args.name.split()
        if not words:
            return _list(await jobs.views(), ctx)
        if len(words) == 1 and words[0] not in DEEDS:
            return _history(words[0], await jobs.history(words[0]), ctx)
        deed, name = _deed(words)
        await {"run": jobs.run, "pause": jobs.pause, "resume": jobs.resume}[deed](name, ctx.caller)
        said = {"run": "is started", "pause": "is paused", "resume": "goes on from now"}[deed]
        return Reply(f"{name} {said}. /jobs {name} shows its history.")

    return Command(
        name="jobs",
        summary="List what runs by the clock; show one's history; run, pause or resume it",
        example="/jobs run nightly",
        permission=Permission.RELEASE_READ,
        args=JobsArgs,
        run=run,
        notes="/jobs, /jobs NAME, /jobs run NAME, /jobs pause NAME, /jobs resume NAME",
    )


def _deed(words: list[str]) -> tuple[str, str]:
    """Both orders are understood: `run nightly` and `nightly run`."""
    if len(words) == 2:
        for deed, name in (words, reversed(words)):
            if deed in DEEDS:
                return deed, name
    raise BadInput("That is no job and nothing to do with one.", hint="Type /jobs, or /jobs run NAME.")


def _list(views: list[JobView], ctx: CommandContext) -> Reply:
    fields = {view.job.name: _line(view, ctx) for view in views}
    return Reply(card=Card("Periodic jobs", fields=fields))


def _line(view: JobView, ctx: CommandContext) -> str:
    zone = ctx.caller.zone or ctx.catalog.zone
    when = f"next {say_when(view.next_at, zone)}" if view.next_at is not None else "never again"
    when = f"paused by {view.paused_by}" if view.paused_by else when
    last = f"; last {say_when(view.last.fire_at, zone)}: {view.last.outcome}" if view.last is not None else ""
    return f"{view.job.what} as {view.job.run_as}; {when}{last}"


def _history(name: str, found: list[Firing], ctx: CommandContext) -> Reply:
    if not found:
        return Reply(f"{name} has not run yet. /jobs lists when it will.")
    zone = ctx.caller.zone or ctx.catalog.zone
    lines = [
        " ".join(part for part in (say_when(one.fire_at, zone), one.outcome, one.cause, one.detail) if part)
        for one in found
    ]
    return Reply(card=Card(f"History of {name}", text="\n".join(lines)))
