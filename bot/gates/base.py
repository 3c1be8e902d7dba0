"""A gate: one fact that decides after a build. Unknown never counts as passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from bot.catalog.model import MetricRule, Service, Target


@dataclass(frozen=True, slots=True)
class GateResult:
    """passed: only True lets the release on. lines: evidence, at most 20. waiting: it works on it; ask again."""

    gate: str
    passed: bool
    message: str
    lines: tuple[str, ...] = ()
    waiting: bool = False


class Gate(Protocol):
    """Asked once the release is built, before Git is written."""

    name: str

    async def check(self, service: Service, target: Target, commit: str, digest: str) -> GateResult:
        """Look and decide. Raises ProviderUnavailable: cannot tell yet, ask again."""
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

    async def check(self, service: Service, target: Target, digest: str, rules: Sequence[MetricRule]) -> MetricsResult:
        """Ask for every number and compare; one that is bad decides. An unreachable system is UNKNOWN, no error."""
        ...
