"""What is the same for every CI system elsewhere: one run per intent, logs on disk, states in our words.

A system brings how to send, how to search by intent and how to read; the order in which these are done, which is what
makes a run start once, is here and nowhere else:

1. the note is written, 2. the request is sent, 3. the answer is noted. Whoever finds a note without an answer searches.
What is not found once the system must have shown it was never started, if the system can tell; if it cannot, a person
is asked and nothing is started.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol
from weakref import WeakValueDictionary

from bot import logs
from bot.catalog.model import Service, Target
from bot.clock import Clock
from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from bot.pipelines.base import (
    Artifact,
    BuiltBy,
    PipelineRun,
    RunFailure,
    RunRequest,
    RunResults,
    RunState,
    Stage,
    StageState,
)
from bot.pipelines.memory import RunMemory, RunNote
from bot.pipelines.spool import Spool, find_artifact

FASTEST, SLOWEST = timedelta(seconds=2), timedelta(seconds=30)
LOOKS, LONGEST = 15, timedelta(minutes=1)
"""So many looks a second at one system are enough, however many runs are followed: with more, each is seen to less
often, at least once a minute. A look costs about 5 ms of a core."""
INSISTS = timedelta(seconds=15)
"""A run that was asked to end and did not is asked again after this, by stronger means."""
NOTES = 2_000
"""Notes kept in memory, so that following a run asks the database for nothing."""
TAIL = 4_000_000
"""Bytes at the end of a log in which the artifact is looked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a request became. run_id, or a handle where the run itself is not known yet."""

    run_id: str = ""
    handle: str = ""


class RemoteSystem(Protocol):
    """What is peculiar to one CI system. `said` is its name for people.

    settle: once this long after sending, a run that a search does not show was never started.
    """

    name: str
    said: str
    settle: timedelta

    def definition(self, request: RunRequest) -> str:
        """Which pipeline, in the system's own words; never longer than 500 characters."""
        ...

    def can_tell(self, request: RunRequest) -> bool:
        """Whether a search that finds nothing proves that nothing was started."""
        ...

    async def check(self, request: RunRequest) -> None:
        """Look whether the run can be started and found again. Raises ProviderRejected, ProviderUnavailable."""
        ...

    async def send(self, request: RunRequest) -> Found:
        """Start one run. Raises as `Http.start`."""
        ...

    async def search(self, request: RunRequest, since: datetime | None) -> Found | None:
        """The run that carries the intent. since: it was sent no earlier; None: unknown."""
        ...

    async def resolve(self, request: RunRequest, note: RunNote) -> Found | PipelineRun | None:
        """The run behind a handle: the run, its state while it is none yet, or None if the handle is lost."""
        ...

    async def read(self, request: RunRequest, note: RunNote) -> PipelineRun | None:
        """The run as it is now, without its artifact, or None if it is gone."""
        ...

    def log(
        self, request: RunRequest, note: RunNote, stage: str, tail: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The log, of all or of one stage. tail: these last bytes are enough. Closed early without harm."""
        ...

    def of_stage(self, lines: Iterable[str], stage: str) -> Iterable[str]:
        """The lines of one stage, where `log` cannot choose by itself."""
        ...

    async def failed_tests(self, request: RunRequest, note: RunNote) -> tuple[str, ...]:
        """Names of failed tests, from its own reports; empty if it has none."""
        ...

    async def results(self, request: RunRequest, note: RunNote) -> RunResults | None:
        """What a finished run published of tests and coverage; None if it has no place for that."""
        ...

    async def cancel(self, request: RunRequest, note: RunNote, force: int) -> None:
        """Ask it to end. force: how often it was asked in vain. Raises ProviderUnavailable, ProviderRejected."""
        ...

    async def decide(self, request: RunRequest, note: RunNote, question: str, *, go_on: bool, by: str) -> bool:
        """Answer the question of that id; False if it waits no more. Raises ProviderUnavailable, ProviderRejected."""
        ...


class RemotePipeline:
    """A `Pipeline` made of a system and a memory."""

    def __init__(self, system: RemoteSystem, memory: RunMemory, clock: Clock) -> None:
        """memory: shared by all replicas; it decides what was sent."""
        self.name = system.name
        self.system = system
        self._memory = memory
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._finals: OrderedDict[str, PipelineRun] = OrderedDict()
        self._notes: OrderedDict[str, RunNote] = OrderedDict()
        self._cancels: dict[str, tuple[datetime, int]] = {}
        self._pace = Pace(clock)

    async def find(self, request: RunRequest) -> PipelineRun | None:
        """The run that carries this intent, or None if there is surely none.

        Raises:
            ProviderUnavailable: not reached, or it may still appear; ask again.
            ProviderRejected: nobody but a person can tell whether it runs, or it was deleted.
        """
        note = self._notes.get(request.intent) or await self._memory.recall(request.intent)
        if note is None:
            return None
        self._remember(note)
        if not note.run_id and not note.handle:
            found = await self._searched(request, note)
            if found is None:
                return None
            note = await self._noted(note, found)
        return await self._read(request, note)

    async def trigger(self, request: RunRequest) -> PipelineRun:
        """Start one run for this intent; a second call with the same intent starts nothing.

        Raises:
            ProviderRejected: it said no, or its set-up would lose the run; nothing was started.
            ProviderUnavailable: not reached; safe to retry.
            OutcomeUnknown: sent, not answered; call `find`.
        """
        lock = self._locks.setdefault(request.intent, asyncio.Lock())
        async with lock:
            # Read before it is looked for: whoever sends after this moment makes our own sending void.
            before = await self._memory.recall(request.intent)
            known = await self.find(request)
            if known is not None:
                return known
            await self.system.check(request)
            # No note and a run all the same: the database was restored from before the run was started.
            found = await self.system.search(request, None)
            note = await self._announced(request, before)
            note = await self._noted(note, found or await self._sent(request))
        try:
            return await self._read(request, note)
        except ProviderUnavailable:
            return self._queued(note)

    async def look(self, request: RunRequest) -> PipelineRun:
        """The run as it is now. Raises ProviderUnavailable, or ProviderRejected if it is gone."""
        run = await self.find(request)
        if run is None:
            raise ProviderRejected(f"{self.system.said} never started this run.", hint="Deploy again.")
        return run

    async def failure(self, request: RunRequest) -> RunFailure:
        """The failing stage, the lines that matter and the tests that failed."""
        note = await self._existing(request)
        run = await self._read(request, note)
        stage = next((stage.name for stage in run.stages if stage.state is StageState.FAILED), "")
        lines, named = await self._told(request, note, stage)
        tests = await self.system.failed_tests(request, note) or named
        where = f" in stage {stage}" if stage else ""
        message = run.message or f"{self.system.said} run {run.id} {WORDS.get(run.state, 'ended')}{where}."
        return RunFailure(stage, message, lines, tests)

    async def cancel(self, request: RunRequest) -> None:
        """Ask the run to end; returns once asked. A finished run is left as it is."""
        run = await self.find(request)
        if run is None or run.state.is_final:
            return
        asked_at, force = self._cancels.get(request.intent, (None, -1))
        now = self._clock()
        if asked_at is not None and now - asked_at < INSISTS:
            return
        await self.system.cancel(request, await self._existing(request), force + 1)
        self._cancels[request.intent] = now, force + 1

    async def decide(self, request: RunRequest, question: str, *, go_on: bool, by: str) -> bool:
        """Answer the question of that id, once; False if it waits no more."""
        note = await self._existing(request)
        return bool(note.run_id) and await self.system.decide(request, note, question, go_on=go_on, by=by)

    async def holds(self, location: str) -> bool:
        """Always True: an image lives in a registry, which is not asked here."""
        return True

    async def log_tail(self, request: RunRequest, stage: str = "", lines: int = 200) -> tuple[str, ...]:
        """The last lines of its log, redacted; of one stage if named."""
        await self.find(request)
        note = await self._existing(request)
        with Spool() as spool:
            if not await self._spooled(spool, request, note, stage, None if stage else lines * 2000):
                return ()
            found = await asyncio.to_thread(self._lines, spool, stage, lines)
        return tuple(logs.redact(logs.clean(line))[: logs.LINE_LIMIT] for line in found)

    async def whole_log(self, request: RunRequest, stage: str = "") -> AsyncIterator[bytes]:
        """All of its log as it arrives; of one stage by way of the disk, where the system cannot choose."""
        await self.find(request)
        note = await self._existing(request)
        if not note.run_id:
            return
        readable = logs.Readable()
        if not stage:
            async with self.system.log(request, note, "", None) as chunks:
                async for chunk in chunks:
                    yield await asyncio.to_thread(readable.feed, chunk)
            yield readable.end()
            return
        with Spool() as spool:
            await self._spooled(spool, request, note, stage, None)
            lines = iter(self._chosen(spool, stage))
            while data := await asyncio.to_thread(_some, lines):
                yield await asyncio.to_thread(readable.feed, data)
        yield readable.end()

    async def counted(
        self, service: Service, target: Target, built: BuiltBy
    ) -> tuple[RunResults, tuple[str, ...]] | None:
        """See `Counting`. Numbers of runs are those of a pipeline, so another pipeline's run is never asked for."""
        request = RunRequest("", service, target, service.repo, built.commit, built.branch, "")
        if self.system.definition(request) != built.definition:
            return None
        note = RunNote("", self.name, built.definition, self._clock(), built.run_id)
        results = await self.system.results(request, note)
        if results is None:
            return None
        return results, await self.system.failed_tests(request, note) if results.failed else ()

    # --- inside

    async def _searched(self, request: RunRequest, note: RunNote) -> Found | None:
        found = await self.system.search(request, note.sent_at)
        if found is not None:
            return found
        if self._clock() - note.sent_at < self.system.settle:
            raise ProviderUnavailable(
                f"{self.system.said} was asked to start {note.definition} and does not show it yet."
            )
        if not self.system.can_tell(request):
            raise ProviderRejected(
                f"{self.system.said} was asked to start {note.definition} at {note.sent_at:%H:%M} UTC, did not answer, "
                "and cannot tell whether it runs.",
                hint="Look there: if nothing runs, deploy again; if it does, let it end first.",
            )
        return None

    async def _announced(self, request: RunRequest, before: RunNote | None) -> RunNote:
        """Note that it is sent now. Of several who do this at the same time only the first may send."""
        note = await self._memory.sending(request.intent, self.name, self.system.definition(request), self._clock())
        if note.sends != (before.sends if before is not None else 0) + 1 or note.run_id or note.handle:
            raise ProviderUnavailable(f"{self.system.said} is being asked to start {note.definition} already.")
        return note

    async def _sent(self, request: RunRequest) -> Found:
        try:
            return await self.system.send(request)
        except OutcomeUnknown:
            raise
        except (ProviderRejected, ProviderUnavailable):
            await self._memory.unsent(request.intent)
            raise

    def _remember(self, note: RunNote) -> None:
        """Whose run is known has a note that does not change any more."""
        if note.run_id:
            self._notes[note.intent] = note
            while len(self._notes) > NOTES:
                self._notes.popitem(last=False)

    async def _noted(self, note: RunNote, found: Found) -> RunNote:
        await self._memory.started(note.intent, run_id=found.run_id, handle=found.handle)
        return replace(note, run_id=found.run_id or note.run_id, handle=found.handle or note.handle)

    async def _existing(self, request: RunRequest) -> RunNote:
        note = await self._memory.recall(request.intent)
        if note is None or not (note.run_id or note.handle):
            raise ProviderRejected(f"{self.system.said} never started this run.", hint="Deploy again.")
        return note

    async def _read(self, request: RunRequest, note: RunNote) -> PipelineRun:
        if (kept := self._finals.get(note.intent)) is not None:
            return kept
        run = await self._read_now(request, note)
        return replace(run, look_again=self._pace.of(note.intent, run))

    async def _read_now(self, request: RunRequest, note: RunNote) -> PipelineRun:
        if not note.run_id:
            found = await self.system.resolve(request, note)
            if found is None:
                return self._lost(note)
            if isinstance(found, PipelineRun):
                return found
            note = await self._noted(note, found)
        run = await self.system.read(request, note)
        if run is None:
            raise ProviderRejected(
                f"{self.system.said} no longer has run {note.run_id} of {note.definition}.", hint="Deploy again."
            )
        return await self._kept(request, note, run) if run.state.is_final else run

    async def _kept(self, request: RunRequest, note: RunNote, run: PipelineRun) -> PipelineRun:
        """A final run with its artifact; asked for once."""
        with suppress(ProviderUnavailable, ProviderRejected):  # Good to know; a release does not wait for it.
            run = replace(run, results=await self.system.results(request, note))
        if run.state is RunState.SUCCEEDED and run.artifact is None:
            run = replace(run, artifact=await self._artifact(request, note))
        self._cancels.pop(note.intent, None)
        self._finals[note.intent] = run
        while len(self._finals) > 256:
            self._finals.popitem(last=False)
        return run

    async def _artifact(self, request: RunRequest, note: RunNote) -> Artifact | None:
        with Spool() as spool:
            if not await self._spooled(spool, request, note, "", TAIL):
                return None
            found = await asyncio.to_thread(lambda: find_artifact(spool.lines()))
        return Artifact(*found) if found is not None else None

    async def _told(self, request: RunRequest, note: RunNote, stage: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        with Spool() as spool:
            if not await self._spooled(spool, request, note, stage, None):
                return (), ()
            return await asyncio.to_thread(self._read_spool, spool, stage)

    def _read_spool(self, spool: Spool, stage: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return logs.error_lines(self._chosen(spool, stage)), logs.failed_tests(self._chosen(spool, stage))

    def _chosen(self, spool: Spool, stage: str) -> Iterable[str]:
        return self.system.of_stage(spool.lines(), stage) if stage else spool.lines()

    def _lines(self, spool: Spool, stage: str, count: int) -> list[str]:
        return list(deque(self._chosen(spool, stage), maxlen=count))

    async def _spooled(self, spool: Spool, request: RunRequest, note: RunNote, stage: str, tail: int | None) -> bool:
        if not note.run_id:
            return False
        async with self.system.log(request, note, stage, tail) as chunks:
            await spool.take(chunks)
        return True

    def _queued(self, note: RunNote) -> PipelineRun:
        return PipelineRun(self.name, note.run_id or note.handle, RunState.QUEUED, look_again=FASTEST)

    def _lost(self, note: RunNote) -> PipelineRun:
        message = f"{self.system.said} lost {note.definition} before it began to run."
        return PipelineRun(self.name, note.handle, RunState.INTERRUPTED, message=message)


class Pace:
    """How soon to look at a run again, so that many runs together cost no more than `LOOKS` a second."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is followed yet."""
        self._clock = clock
        self._followed: OrderedDict[str, datetime] = OrderedDict()

    def of(self, intent: str, run: PipelineRun) -> timedelta | None:
        """After a look at it. None: it is over, or the workflow's own pace is meant."""
        now = self._clock()
        self._followed.pop(intent, None)
        while self._followed and now - next(iter(self._followed.values())) > 2 * LONGEST:
            self._followed.popitem(last=False)
        if run.state.is_final:
            return run.look_again
        self._followed[intent] = now
        least = min(LONGEST, timedelta(seconds=len(self._followed) / LOOKS))
        return max(run.look_again, least) if run.look_again is not None else None


class Carried:
    """Which intent a run carries, where asking costs a request for each run: what was told once does not change."""

    def __init__(self, most: int = 2000) -> None:
        """most: so many are remembered."""
        self._known: OrderedDict[str, str] = OrderedDict()
        self._most = most

    async def intent(self, run: str, ask: Callable[[], Awaitable[str | None]]) -> str | None:
        """The intent of a run, asked for if it is not known. None, not told yet, is asked for again."""
        if run not in self._known:
            told = await ask()
            if told is None:
                return None
            self._known[run] = told
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return self._known[run]


def _some(lines: Iterator[str]) -> bytes:
    """The next few hundred lines; empty at the end."""
    return "".join(f"{line}\n" for line in islice(lines, 500)).encode()


WORDS: Mapping[RunState, str] = {
    RunState.FAILED: "failed",
    RunState.CANCELLED: "was cancelled",
    RunState.INTERRUPTED: "was interrupted",
    RunState.SUCCEEDED: "succeeded",
}


def look_again(started_at: datetime | None, now: datetime) -> timedelta:
    """When to look next: often at a young run, seldom at a long one. A webhook makes it sooner."""
    if started_at is None:
        return FASTEST
    return min(SLOWEST, max(FASTEST, (now - started_at) / 20))


def percent_of(stages: Sequence[Stage], total: int = 0) -> int:
    """Finished stages in percent, at most 99."""
    done = sum(1 for stage in stages if stage.state not in (StageState.PENDING, StageState.RUNNING))
    return min(99, 100 * done // max(1, total, len(stages)))


def fill(pattern: str, request: RunRequest) -> str:
    """A parameter's value: `{commit}`, `{branch}`, `{version}`, `{service}`, `{environment}`, `{team}`, `{intent}`.

    Also how it is built by convention: `{language}`, `{build_command}` (one shell line), `{image_file}`, `{artifact}`,
    `{test_reports}` and `{coverage_reports}` (with commas between); and what the request itself brings.
    """
    rule = request.service.build
    words = {
        "language": request.service.language,
        "build_command": " && ".join(shlex.join(step.run) for step in rule.steps),
        "image_file": rule.image_file,
        "artifact": rule.artifact,
        "test_reports": ",".join(rule.tests),
        "coverage_reports": ",".join(rule.coverage),
        **request.parameters,
        "intent": request.intent,
        "service": request.service.name,
        "environment": request.target.environment,
        "team": request.service.team,
        "commit": request.commit,
        "branch": request.branch,
        "version": request.version,
    }
    return _PLACEHOLDER.sub(lambda match: words.get(match[1], match[0]), pattern)


_PLACEHOLDER = re.compile(r"\{(\w+)\}")

PARAMETERS: Mapping[str, str] = {
    "SLIPWAY_SERVICE": "{service}",
    "SLIPWAY_ENVIRONMENT": "{environment}",
    "SLIPWAY_VERSION": "{version}",
    "SLIPWAY_COMMIT": "{commit}",
    "SLIPWAY_BRANCH": "{branch}",
}
"""What every run is told, unless the catalog names other parameters."""
