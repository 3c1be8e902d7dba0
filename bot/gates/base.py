"""A gate: one fact that decides after a build. Unknown never counts as passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from bot.catalog.model import MetricRule, Service, Target

if TYPE_CHECKING:
    from bot.pipelines.base import BuiltBy


class GateVerdict(StrEnum):
    """What a gate says. WARN lets the release on and is shown; UNKNOWN stops it as FAIL does."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"

    @property
    def lets_on(self) -> bool:
        """Whether the release may go on: only a clear yes."""
        return self in (GateVerdict.PASS, GateVerdict.WARN)


@dataclass(frozen=True, slots=True)
class GateRequest:
    """One release on its way into one target.

    image: where the build left it, `registry/name@sha256:...` or a path; run_id: the run that built it; since_at: when
    its gates were asked first, from which each gate's patience counts. before_run_id: the run that built what was
    deployed there before; empty if nothing was. built and built_before: the same, where a CI system elsewhere did it.
    """

    service: Service
    target: Target
    commit: str
    digest: str
    since_at: datetime
    version: str = ""
    branch: str = ""
    image: str = ""
    run_id: str = ""
    before_run_id: str = ""
    built: BuiltBy | None = None
    built_before: BuiltBy | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """lines: evidence, at most 20, redacted; link: where a person sees more. waiting: not known yet; ask again."""

    gate: str
    verdict: GateVerdict
    message: str
    lines: tuple[str, ...] = ()
    link: str = ""
    waiting: bool = False


class Gate(Protocol):
    """Asked once the release is built, before Git is written, if the catalog names it for the target."""

    name: str

    async def check(self, request: GateRequest) -> GateResult:
        """Look and decide. Raises no ProviderError: what cannot be told is UNKNOWN."""
        ...


class Health(StrEnum):
    """What metrics say. UNKNOWN: no data, or nobody to ask; it never counts as good."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MetricsResult:
    """message: each number and its limit, for a person."""

    health: Health
    message: str


class Metrics(Protocol):
    """Numbers that tell whether what runs is well."""

    async def check(
        self, service: Service, target: Target, release: Mapping[str, str], rules: Sequence[MetricRule]
    ) -> MetricsResult:
        """Ask for every number and compare; one that is bad decides. An unreachable system is UNKNOWN, no error.

        release: `version` and `digest`, and `stable` and `stable_digest` of what ran before, empty if nothing did.
        """
        ...
