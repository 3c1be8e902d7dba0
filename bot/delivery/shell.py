"""The built-in delivery: a command that deploys, and a command or an address that tells what is running."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bot import logs
from bot.catalog.model import Service, Target
from bot.command_line import CommandTimedOut, OutputTooLarge, run_command
from bot.delivery.base import DeliveryFailure, GrayStage, Running, SyncProgress, SyncRequest, SyncState
from bot.errors import ProviderError, ProviderRejected, ProviderUnavailable
from bot.options import Argv, Duration, Options, read_options
from bot.pipelines.base import RunState, StageState
from bot.processes import ProcessRun, ProcessRuns, RunOptions, Step

STEP = "deploy"
_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
_LASTING = ("service", "environment", "directory")
_ANSWER_LIMIT = 262_144
_STATES = {
    RunState.QUEUED: SyncState.PENDING,
    RunState.RUNNING: SyncState.RUNNING,
    RunState.SUCCEEDED: SyncState.SUCCEEDED,
    RunState.FAILED: SyncState.FAILED,
    RunState.CANCELLED: SyncState.FAILED,
    RunState.INTERRUPTED: SyncState.INTERRUPTED,
}


class ShellDeliveryOptions(Options):
    """`delivery.options` of the catalog.

    deploy: the command, with placeholders {service} {environment} {version} {digest} {artifact} {revision} {intent}
    {directory}. running: a command that prints what runs, or running_url: an address that answers it; in both only
    {service}, {environment} and {directory} are known. cwd: relative to the catalog's directory.
    """

    deploy: Argv = Field(min_length=1)
    running: Argv | None = Field(default=None, min_length=1)
    running_url: str | None = None
    timeout: Duration = timedelta(minutes=5)
    running_timeout: Duration = timedelta(seconds=5)
    cwd: str = "."

    @field_validator("running")
    @classmethod
    def _known_in_command(cls, running: list[str] | None) -> list[str] | None:
        for word in running or []:
            _check_placeholders(word)
        return running

    @field_validator("running_url")
    @classmethod
    def _web_address(cls, url: str | None) -> str | None:
        if url is not None:
            _check_placeholders(url)
            if not re.match(r"https?://[^\s/?#]+", url):
                raise ValueError("must begin with http:// or https:// and a host")
        return url

    @model_validator(mode="after")
    def _one_way_to_tell(self) -> ShellDeliveryOptions:
        if (self.running is None) == (self.running_url is None):
            raise ValueError("exactly one of `running` and `running_url` must be given")
        return self


def _check_placeholders(text: str) -> None:
    for name in _PLACEHOLDER.findall(text):
        if name in ("version", "digest", "artifact", "revision", "intent"):
            raise ValueError(
                f"must not use {{{name}}}: it is asked at any time, so only {', '.join(_LASTING)} are known"
            )


class Answer(BaseModel):
    """What the command or the address says runs. log: a path, or lines."""

    model_config = ConfigDict(extra="ignore")

    version: str
    digest: str
    healthy: bool = True
    url: str = ""
    message: str = ""
    log: str | list[str] = ""


class ShellDelivery:
    """Deploys by a command on this machine.

    The command runs detached from the bot and once per intent; what it starts in the background goes on after it.
    """

    name = "shell"

    def __init__(
        self,
        runs: ProcessRuns,
        catalog_directory: Path,
        http: httpx.AsyncClient,
        *,
        grace: timedelta = timedelta(seconds=5),
        log_limit: int = 10_000_000,
    ) -> None:
        """Runs live in `runs`; commands start in `catalog_directory`; `http` asks what runs."""
        self._runs = runs
        self._directory = catalog_directory.absolute()
        self._http = http
        self._grace = grace
        self._log_limit = log_limit

    async def sync(self, request: SyncRequest) -> SyncProgress:
        """Start the command; the same intent again starts nothing and tells how far it is.

        Raises:
            ProviderRejected: the options are wrong; nothing runs.
            ProviderUnavailable: the disk is full; safe to retry.
        """
        options = self._options(request.service, request.target)
        values = self._values(request.service, request.target) | {
            "version": request.version,
            "digest": request.digest,
            "artifact": request.artifact,
            "revision": request.revision,
            "intent": request.intent,
        }
        step = Step(
            STEP,
            tuple(_fill(word, values) for word in options.deploy),
            self._directory / options.cwd,
            options.timeout,
            {f"SLIPWAY_{name.upper()}": value for name, value in values.items()},
        )
        how = RunOptions(options.timeout, self._grace, self._log_limit, leave_daemons=True)
        return _progress(await self._runs.start(request.intent, [step], how))

    async def look(self, request: SyncRequest) -> SyncProgress | None:
        """How far this intent is, or None if it was surely never started."""
        run = self._runs.look(request.intent)
        if run is not None and run.state is RunState.QUEUED:
            # The bot died between accepting the run and starting it.
            run = await self._runs.resume(request.intent)
        return None if run is None else _progress(run)

    async def running(self, service: Service, target: Target) -> Running | None:
        """What runs now, None if nothing does. Raises ProviderUnavailable when it cannot be told."""
        answer = await self._ask(service, target)
        if answer is None:
            return None
        message = logs.redact(logs.clean(answer.message))[: logs.LINE_LIMIT]
        return Running(answer.digest, answer.version, answer.healthy, answer.url or target.url, message)

    async def failure(self, request: SyncRequest) -> DeliveryFailure:
        """What the command and the service say about it."""
        run = self._runs.look(request.intent)
        own = await asyncio.to_thread(self._deploy_lines, run) if run is not None else ()
        try:
            answer = await self._ask(request.service, request.target)
        except ProviderError as error:
            return DeliveryFailure(_message(run) or error.message, own)
        message = _message(run)
        if not message and answer is None:
            message = f"Nothing is running as {request.service.name} in {request.target.environment}."
        elif not message and answer is not None:
            message = logs.redact(logs.clean(answer.message)) or "The service is not healthy."
        theirs = await asyncio.to_thread(self._service_lines, answer.log) if answer is not None else ()
        return DeliveryFailure(message, (*own, *theirs)[:20])

    async def cancel(self, request: SyncRequest) -> None:
        """Ask the command to end; a finished one is left as it is."""
        await self._runs.cancel(request.intent)

    async def gray_stage(self, request: SyncRequest) -> GrayStage | None:
        """There is no gray stage here."""
        return None

    async def continue_gray(self, request: SyncRequest, *, full: bool = False) -> None:
        """There is no gray stage here. Raises ProviderRejected."""
        raise _no_gray(request)

    async def abort_gray(self, request: SyncRequest) -> None:
        """There is no gray stage here. Raises ProviderRejected."""
        raise _no_gray(request)

    # --- inside

    def _options(self, service: Service, target: Target) -> ShellDeliveryOptions:
        where = f"delivery.options of {service.name} in {target.environment}"
        return read_options(ShellDeliveryOptions, dict(target.delivery.options), where)

    def _values(self, service: Service, target: Target) -> dict[str, str]:
        return {"service": service.name, "environment": target.environment, "directory": str(self._directory)}

    async def _ask(self, service: Service, target: Target) -> Answer | None:
        options = self._options(service, target)
        values = self._values(service, target)
        seconds = options.running_timeout.total_seconds()
        if options.running is not None:
            argv = [_fill(word, values) for word in options.running]
            return await self._ask_command(argv, self._directory / options.cwd, values, seconds)
        url = _fill(options.running_url or "", {name: quote(value, safe="") for name, value in values.items()})
        return await ask_address(self._http, url, seconds)

    async def _ask_command(
        self, argv: list[str], cwd: Path, values: Mapping[str, str], seconds: float
    ) -> Answer | None:
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._directory), "LANG": "C.UTF-8"}
        env |= {f"SLIPWAY_{name.upper()}": value for name, value in values.items()}
        try:
            finished = await run_command(argv, env=env, cwd=cwd, timeout=seconds, limit=_ANSWER_LIMIT)
        except CommandTimedOut:
            raise _untold(f"the `running` command did not end within {seconds:g} s") from None
        except OutputTooLarge:
            raise _untold("the `running` command prints too much") from None
        except OSError as error:
            raise _untold(f"the `running` command could not be started: {error.strerror}") from error
        if finished.code != 0:
            last = logs.error_lines(finished.err.decode(errors="replace"), limit=1) or ("it printed no reason",)
            raise _untold(f"the `running` command failed with exit code {finished.code}: {last[0]}")
        return _answer(finished.out, "the `running` command")

    def _deploy_lines(self, run: ProcessRun) -> tuple[str, ...]:
        if run.state is RunState.SUCCEEDED:
            return ()
        return logs.error_lines(self._runs.log_lines(run.key, STEP))

    def _service_lines(self, log: str | list[str]) -> tuple[str, ...]:
        lines = iter(log) if isinstance(log, list) else _file_tail(self._directory / log) if log else iter(())
        return logs.error_lines(lines)


async def ask_address(http: httpx.AsyncClient, url: str, seconds: float) -> Answer | None:
    """What an address says runs; None if nobody listens there. Raises ProviderUnavailable: it cannot be told."""
    try:
        async with asyncio.timeout(seconds), http.stream("GET", url, follow_redirects=False) as response:
            body = await _body(response)
    except httpx.ConnectError:
        return None  # Nothing listens, so nothing runs.
    except TimeoutError:
        raise _untold(f"`running_url` did not answer within {seconds:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _untold(f"`running_url` gave no answer: {type(error).__name__}") from error
    if response.status_code == 200:
        return _answer(body, "`running_url`")
    return _unhealthy(body, response.status_code)


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Known names only, in one pass: a value that looks like a placeholder stays what it is."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def _progress(run: ProcessRun) -> SyncProgress:
    done = sum(step.state is StageState.SUCCEEDED for step in run.steps)
    return SyncProgress(_STATES[run.state], run.message, done, 0, len(run.steps), run.percent)


def _message(run: ProcessRun | None) -> str:
    return "" if run is None or run.state is RunState.SUCCEEDED else run.message


def _no_gray(request: SyncRequest) -> ProviderRejected:
    return ProviderRejected(
        f"{request.service.name} in {request.target.environment} is deployed by a command, which has no gray stage.",
        hint="Wait for it, or cancel it.",
    )


def _untold(reason: str) -> ProviderUnavailable:
    message = f"It cannot be told what is running: {reason}."
    return ProviderUnavailable(message, hint="It is asked again by itself; check the service's `delivery.options`.")


async def _body(response: httpx.Response) -> bytes:
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > _ANSWER_LIMIT:
            raise _untold("`running_url` answers too much")
    return bytes(data)


def _answer(text: bytes, who: str) -> Answer | None:
    """Nothing or `null` means that nothing runs."""
    if text.strip() in (b"", b"null"):
        return None
    try:
        return Answer.model_validate(json.loads(text))
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise _untold(f"{who} answers without a right `{field or 'version'}`") from None
    except (ValueError, RecursionError):
        raise _untold(f"{who} does not answer with JSON") from None


def _unhealthy(body: bytes, status: int) -> Answer:
    try:
        known = json.loads(body)
    except ValueError:
        known = None
    values = known if isinstance(known, dict) else {}
    version, digest = values.get("version"), values.get("digest")
    return Answer(
        version=version if isinstance(version, str) else "",
        digest=digest if isinstance(digest, str) else "",
        healthy=False,
        message=f"It answers with HTTP status {status}.",
    )


def _file_tail(path: Path, limit: int = _ANSWER_LIMIT) -> Iterator[str]:
    """The end of a service's log; nothing if it is no regular file (a pipe would never end)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            return
        file.seek(max(0, info.st_size - limit))
        for line in file.read(limit).splitlines():
            yield line.decode(errors="replace")
