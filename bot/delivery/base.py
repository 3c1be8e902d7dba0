"""What writing a version and bringing it to run must do for us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from bot.catalog.model import GitopsSpec, Service, Target


@dataclass(frozen=True, slots=True)
class Change:
    """One version to be written to the configuration repository.

    intent: our key, written as a trailer, by which an orphan commit is found again. expected: the version and digest
    believed to be there (compare-and-set; None: no expectation). trailers: in order, for the commit message. weights:
    percent of traffic at each gray pause, for formats that hold the steps, too.
    """

    intent: str
    service: str
    environment: str
    gitops: GitopsSpec
    repo: str
    version: str
    digest: str
    commit: str
    subject: str
    trailers: tuple[tuple[str, str], ...] = ()
    expected_digest: str | None = None
    weights: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What is in the configuration repository for a service and environment.

    revision: the commit that carries it. version and digest are empty if nothing is written yet. waiting: it is only
    proposed so far, and this is what for; revision is then empty. commit: of the service, where the format keeps it.
    """

    revision: str
    version: str
    digest: str
    changed: bool = True
    waiting: str = ""
    commit: str = ""


Check = Callable[[], Awaitable[None]]
"""Asked at the last moment before something is pushed; what it raises goes to whoever wanted the change."""


class ConfigWriter(Protocol):
    """The single Git writer."""

    async def read(self, gitops: GitopsSpec, repo: str, service: str, environment: str) -> Written:
        """What the branch's head says now. Raises ProviderUnavailable / ProviderRejected."""
        ...

    async def find(self, change: Change) -> Written | None:
        """The commit that carries this intent on the branch, or None if there is surely none."""
        ...

    async def write(self, change: Change, check: Check | None = None) -> Written:
        """Commit and push the change, once; the same intent again returns the same commit.

        Where changes are proposed instead, the answer is `waiting` until somebody has let it in: ask again.

        Raises:
            ProviderRejected: read-only, missing, refused, or the old value is not the expected one; nothing is written.
            ProviderUnavailable: not reached, disk full; safe to retry.
            OutcomeUnknown: pushed, not answered; call `find`.
            SlipwayError: what `check` raised; nothing was written.
        """
        ...

    async def hold(self, change: Change, why: str) -> None:
        """Have nobody let in what is only proposed, until `write` is called again. Raises ProviderError."""
        ...

    async def withdraw(self, change: Change) -> None:
        """Take back what is only proposed; what is in Git already stays. Raises ProviderError."""
        ...

    async def remove(self, change: Change) -> Written:
        """Commit and push that the service has no version here any more (undo of a first deployment)."""
        ...


class Images(Protocol):
    """Registries of images."""

    async def tag(self, image: str, digest: str, tags: Mapping[str, bool], source: str = "") -> None:
        """Give a digest these names; the same again changes nothing. tags: name -> whether it may be moved.

        source: the repository that has it, if another one. Raises ProviderRejected, ProviderUnavailable.
        """
        ...


class Tagger(Protocol):
    """Source repositories, as far as a release is given a name there."""

    async def tag(self, repo: str, commit: str, name: str, message: str, at: datetime) -> None:
        """Make a tag and push it; the same again changes nothing.

        Raises: ProviderRejected: it is another commit's already, or there is no right; ProviderUnavailable.
        """
        ...


class SyncState(StrEnum):
    """States of bringing a revision to run."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """Bring one written revision to run. artifact: where the pipeline left it, empty if not known; commit: likewise."""

    intent: str
    service: Service
    target: Target
    revision: str
    version: str
    digest: str
    artifact: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """How far one cluster of an environment is. name: as people know it; counts as in `SyncProgress`."""

    name: str
    state: SyncState
    message: str = ""
    applied: int = 0
    healthy: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """As last seen. applied and healthy count resources out of total; percent: 0-100.

    told: the delivery tells of a change by itself (see `Listening`), so that looking can wait longer. places: every
    cluster, if the environment spans several.
    """

    state: SyncState
    message: str = ""
    applied: int = 0
    healthy: int = 0
    total: int = 0
    percent: int = 0
    told: bool = False
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Running:
    """What really runs. healthy: ready to serve; url: where it answers; message: why it is not healthy."""

    digest: str
    version: str
    healthy: bool
    url: str = ""
    message: str = ""
    since_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """Evidence: what the system says, and the lines that matter, redacted, at most 20."""

    message: str
    lines: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class GrayStage:
    """Where a gray release stands. step: 0-based, of `steps`; weight: percent of traffic, None if not known.

    Two stages are the same pause if `id` is the same.
    """

    id: str
    step: int = 0
    steps: int = 0
    weight: int | None = None
    message: str = ""


class Delivery(Protocol):
    """A CD system."""

    name: str

    async def sync(self, request: SyncRequest) -> SyncProgress:
        """Start bringing it to run; the same intent again starts nothing and tells how far it is.

        Raises: ProviderRejected, ProviderUnavailable, OutcomeUnknown as a pipeline's trigger.
        """
        ...

    async def look(self, request: SyncRequest) -> SyncProgress | None:
        """How far this intent is, or None if it was surely never started."""
        ...

    async def running(self, service: Service, target: Target) -> Running | None:
        """What runs now, None if nothing does. Raises ProviderUnavailable when it cannot be told."""
        ...

    async def failure(self, request: SyncRequest) -> DeliveryFailure:
        """Evidence for a person about why it does not run."""
        ...

    async def cancel(self, request: SyncRequest) -> None:
        """Ask the operation to end; returns once asked."""
        ...

    async def gray_stage(self, request: SyncRequest) -> GrayStage | None:
        """The pause it stands at, read afresh, or None if it stands at none."""
        ...

    async def continue_gray(self, request: SyncRequest, *, full: bool = False) -> None:
        """Go on to the next pause, or at once to full. Raises ProviderRejected if there is no gray stage."""
        ...

    async def abort_gray(self, request: SyncRequest) -> None:
        """Take the gray share away. Raises ProviderRejected if there is no gray stage."""
        ...


@runtime_checkable
class Spread(Protocol):
    """A delivery whose environments may span clusters."""

    async def everywhere(self, service: Service, target: Target) -> Mapping[str, Running | None]:
        """What runs now in each cluster, by its name; None: nothing. Raises ProviderUnavailable: it cannot be told."""
        ...


@runtime_checkable
class Hooking(Protocol):
    """A delivery that may run hooks of the service's own beside a sync."""

    async def hooks(self, service: Service, target: Target) -> Sequence[str]:
        """Those that the last sync ran, as `PreSync Job/migrate`. Raises ProviderError."""
        ...


@runtime_checkable
class Listening(Protocol):
    """A delivery that hears of changes by itself."""

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have `listener(intent)` called, in the event loop's thread, when something changed about an intent."""
        ...
