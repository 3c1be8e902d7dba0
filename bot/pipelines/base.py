"""What a CI system must do for us, and our own words for its states.

Every provider is find-or-create by intent: `find(intent)` is asked first, and after a lost answer `trigger` may be
called again with the same intent without a second run being started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

from bot.catalog.model import Service, Target

INTENT_MARK = "slipway.dev/intent"
"""Annotation, or label, that says in a cluster whose run it is."""


class RunState(StrEnum):
    """States of a pipeline run. INTERRUPTED: it was ended from outside before it had a result; may be run again."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def is_final(self) -> bool:
        """True if it will not change any more."""
        return self not in (RunState.QUEUED, RunState.RUNNING)


class StageState(StrEnum):
    """States of one stage, also of one step on a card."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run. seconds: elapsed, None before it started."""

    name: str
    state: StageState
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a run produced. digest: `sha256:<hex>` of the content, the release's identity.

    location: where the delivery finds it (a path, or an image reference).
    """

    digest: str
    location: str


@dataclass(frozen=True, slots=True)
class RunQuestion:
    """What a run waits for a person with. id: of this stop alone; text: what a yes does, `start deploy to prod`.

    approval: the system wants a second person's consent: whoever asked for the deployment may not say yes.
    """

    id: str
    text: str
    approval: bool = False


@dataclass(frozen=True, slots=True)
class RunResults:
    """What a run published about itself. tests: how many ran; coverage: percent of lines. None: not told."""

    tests: int | None = None
    failed: int = 0
    skipped: int = 0
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """One execution, as last seen. percent: 0-100. message: in a person's words, if there is anything to say.

    look_again: how long the system wants to be left alone between two looks; None: as often as the workflow likes.
    """

    provider: str
    id: str
    state: RunState
    url: str = ""
    stages: tuple[Stage, ...] = ()
    percent: int = 0
    artifact: Artifact | None = None
    message: str = ""
    look_again: timedelta | None = None
    asks: RunQuestion | None = None
    results: RunResults | None = None


@dataclass(frozen=True, slots=True)
class RunFailure:
    """Why a run failed. lines: at most 20 that matter, secrets redacted. tests: names of failed tests."""

    stage: str
    message: str
    lines: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to build. intent: our key for this effect, unique for ever; commit: full SHA-1 of the source."""

    intent: str
    service: Service
    target: Target
    repo: str
    commit: str
    branch: str
    version: str
    parameters: Mapping[str, str] = field(default_factory=dict)


class Pipeline(Protocol):
    """A CI system."""

    name: str

    async def find(self, request: RunRequest) -> PipelineRun | None:
        """The run that carries this intent, or None if there is surely none.

        Raises:
            ProviderUnavailable: not reached; ask again.
        """
        ...

    async def trigger(self, request: RunRequest) -> PipelineRun:
        """Start one run for this intent; a second call with the same intent starts nothing.

        Raises:
            ProviderRejected: the repository, commit or definition is missing or wrong; nothing runs.
            ProviderUnavailable: not reached; safe to retry.
            OutcomeUnknown: sent, not answered; call `find`.
        """
        ...

    async def look(self, request: RunRequest) -> PipelineRun:
        """The run as it is now. Raises ProviderUnavailable, or ProviderRejected if it is gone."""
        ...

    async def failure(self, request: RunRequest) -> RunFailure:
        """Why the finished run failed."""
        ...

    async def cancel(self, request: RunRequest) -> None:
        """Ask the run to end; returns once asked. A finished run is left as it is."""
        ...

    async def decide(self, request: RunRequest, question: str, *, go_on: bool, by: str) -> bool:
        """Answer the question of that id, once; False if it waits no more. by: the person, for the system's record."""
        ...

    async def holds(self, location: str) -> bool:
        """Whether an artifact it made is still there. True when it cannot be told cheaply."""
        ...

    async def log_tail(self, request: RunRequest, stage: str = "", lines: int = 200) -> tuple[str, ...]:
        """The last lines of its log, redacted; of one stage if named."""
        ...

    def whole_log(self, request: RunRequest, stage: str = "") -> AsyncIterator[bytes]:
        """All of its log, or of one stage, in pieces of whole lines, cleaned and redacted. Memory stays flat.

        Raises, at the first piece or later: ProviderRejected, ProviderUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuiltBy:
    """The run that built a release. definition: the pipeline's name there."""

    run_id: str
    definition: str
    commit: str
    branch: str


@runtime_checkable
class Counting(Protocol):
    """A pipeline whose system counts the tests of its runs, and the lines they covered."""

    async def counted(
        self, service: Service, target: Target, built: BuiltBy
    ) -> tuple[RunResults, tuple[str, ...]] | None:
        """What the run published, and names of failed tests. None: nothing, or another pipeline's run it was.

        Raises ProviderUnavailable, ProviderRejected.
        """
        ...


@runtime_checkable
class Reporting(Protocol):
    """A pipeline that keeps the report files of its runs."""

    async def reports(self, run_id: str) -> list[tuple[str, bytes]] | None:
        """Name and content of each report that a run kept; None if it kept none, or is gone."""
        ...
