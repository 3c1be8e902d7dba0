"""Starts and ends the services that the demo deployed, by the workspace's own `tools/host.py`."""

from __future__ import annotations

import os
import sys
from datetime import timedelta

from bot.command_line import CommandTimedOut, Finished, OutputTooLarge, run_command
from bot.demo.workspace import Workspace
from bot.errors import ProviderUnavailable

TIMEOUT = timedelta(seconds=30)


async def start_all(workspace: Workspace) -> None:
    """Start again what was deployed before and does not run.

    Raises ProviderUnavailable with the first service that could not be started; the others run.
    """
    finished = await _run(workspace, "start-all")
    if finished.code != 0:
        raise ProviderUnavailable(
            f"A service could not be started again: {_reason(finished)}", hint="Deploy it again from the chat."
        )


async def stop_all(workspace: Workspace) -> None:
    """End every service process, also one that nobody wrote down.

    Raises ProviderUnavailable if one could not be ended.
    """
    finished = await _run(workspace, "stop-all")
    if finished.code != 0:
        raise ProviderUnavailable(f"A service could not be ended: {_reason(finished)}", hint="End it by hand.")


async def _run(workspace: Workspace, command: str) -> Finished:
    # Nothing of the bot's environment but what programs need to be found: its tokens are no business of services.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    argv = [sys.executable, str(workspace.tool), command]
    try:
        return await run_command(argv, env=environment, timeout=TIMEOUT.total_seconds())
    except (CommandTimedOut, OutputTooLarge):
        raise ProviderUnavailable(
            f"`host.py {command}` did not end within {TIMEOUT.total_seconds():.0f} s and was ended.",
            hint="Try it again.",
        ) from None
    except OSError as error:
        raise ProviderUnavailable(
            f"`host.py {command}` could not be run: {error.strerror}.",
            hint="Start the demo again to restore its files.",
        ) from error


def _reason(finished: Finished) -> str:
    lines = finished.err.decode(errors="replace").strip().splitlines() or ["no reason was given"]
    return lines[-1].removeprefix("error: ").rstrip(".") + "."
