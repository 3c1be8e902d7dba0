"""A deployment: putting one release into one environment, with a state that survives everything."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from bot.catalog.model import Kind

_STATE_WORD = re.compile(r"[a-z][a-z_]{0,31}")


class State(StrEnum):
    """One spelling in code, table, log and metric. Adding one is safe: an older replica leaves it alone.

    A word of a newer Slipway becomes a state of that word: it is shown, kept, has no handler and is not final.
    """

    REFUSED = "refused"
    AWAITING_APPROVAL = "awaiting_approval"
    EXPIRED = "expired"
    REJECTED = "rejected"
    QUEUED = "queued"
    BUILDING = "building"
    GATING = "gating"
    TAGGING = "tagging"
    WRITING = "writing"
    SYNCING = "syncing"
    GRAY = "gray"
    VERIFYING = "verifying"
    SUCCEEDED = "succeeded"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"

    @classmethod
    def _missing_(cls, value: object) -> State | None:
        if not isinstance(value, str) or not _STATE_WORD.fullmatch(value):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_, unknown._value_ = value.upper(), value
        return unknown

    @property
    def is_final(self) -> bool:
        """True if nothing more will happen by itself."""
        return self in FINAL

    @property
    def is_good(self) -> bool:
        """True if the release asked for runs."""
        return self is State.SUCCEEDED


FINAL = frozenset(
    {
        State.REFUSED,
        State.EXPIRED,
        State.REJECTED,
        State.SUCCEEDED,
        State.CANCELLED,
        State.SUPERSEDED,
        State.ROLLED_BACK,
        State.FAILED,
    }
)
HOLDS_TARGET = frozenset(
    {
        State.BUILDING,
        State.GATING,
        State.TAGGING,
        State.WRITING,
        State.SYNCING,
        State.GRAY,
        State.VERIFYING,
        State.CANCELLING,
        State.ROLLING_BACK,
    }
)
"""In these a deployment is the only one of its service and environment."""

WAITING = frozenset({State.REFUSED, State.AWAITING_APPROVAL, State.QUEUED})
"""In these nothing outside was touched yet."""


class _Record(BaseModel):
    # A newer replica may have written fields we do not know; they are kept, not dropped.
    model_config = ConfigDict(extra="allow", frozen=True)


class StageNote(_Record):
    """One stage of the pipeline as last seen. state: a `StageState` value."""

    name: str
    state: str
    seconds: float | None = None


class PlaceNote(_Record):
    """One cluster of the environment as last seen. state: a `StageState` value."""

    name: str
    state: str
    detail: str = ""


class Before(_Record):
    """What the configuration repository said before we wrote: where a rollback goes. Empty digest: nothing."""

    version: str = ""
    digest: str = ""
    commit: str = ""
    revision: str = ""


class Failure(_Record):
    """Why it ended badly. step: the step's name; lines: at most 20, redacted."""

    step: str
    message: str
    lines: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    next: str = ""


class GateNote(_Record):
    """What a gate said. verdict: a `GateVerdict` value; waiting: it is not final yet.

    overridden_by: people who let the release on all the same, through the emergency lane.
    """

    gate: str
    verdict: str
    message: str
    lines: tuple[str, ...] = ()
    link: str = ""
    waiting: bool = False
    overridden_by: tuple[str, ...] = ()


class Emergency(_Record):
    """The question about one deployment. subject: what the votes are bound to.

    rule: of the emergency lane; or approvals: the ordinary rules asked under, whose names are in `rule` too. reminders:
    how often those who have not answered were reminded; handed: to how many further groups it was handed up. given_by:
    who gave the pass on the server, without a question.
    gates: names of the gates that did not let it on and that a yes overrides.
    """

    rule: str
    needed: int
    subject: str
    asked_at: datetime
    expires_at: datetime
    pass_minutes: float
    approvers: tuple[str, ...] = ()
    pass_until_at: datetime | None = None
    reason: str = ""
    approvals: tuple[str, ...] = ()
    reminders: int = 0
    handed: int = 0
    given_by: str = ""
    gates: tuple[str, ...] = ()


class ReasonNote(_Record):
    """A reason of the verdict, as it was told."""

    code: str
    text: str
    rule: str = ""
    where: str = ""
    blocking: bool = False


class Derivation(_Record):
    """What a verdict was made of; `derivations.py` makes it again. step: when the rules were asked."""

    step: str
    at: datetime
    catalog: str
    commit: str = ""
    request: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    people: dict[str, Any] = {}
    outcome: str = ""
    reasons: tuple[ReasonNote, ...] = ()
    next_change_at: datetime | None = None


class Gray(_Record):
    """A pause with a part of the traffic. stage: its id; wish: continue, full or abort, made at stage `wish_stage`.

    asked_at: when the wish was handed on. good: what the metrics said last.
    """

    stage: str = ""
    step: int = 0
    steps: int = 0
    number: int = 0
    weight: int | None = None
    since_at: datetime | None = None
    wish: str = ""
    wish_stage: str = ""
    by: str = ""
    asked_at: datetime | None = None
    checked_at: datetime | None = None
    health: str = ""
    said: str = ""


class Results(_Record):
    """What a run published about itself. tests: how many ran; coverage: percent of lines. None: not told."""

    tests: int | None = None
    failed: int = 0
    skipped: int = 0
    coverage: float | None = None


class Ask(_Record):
    """What a pipeline run waits for a person with. approval: whoever asked for the deployment may not say yes.

    wish: `continue` or `abort`, by whom; handed: it was handed on, and is asked no more; taken: by the system.
    """

    id: str
    text: str
    approval: bool = False
    wish: str = ""
    by: str = ""
    handed: bool = False
    taken: bool = False

    @property
    def is_open(self) -> bool:
        """Whether somebody may still answer."""
        return not self.wish


class Proposal(_Record):
    """The merge request that a check is about. repo: `group/name` it is to be merged in."""

    provider: str
    repo: str
    number: int
    url: str = ""


class Data(_Record):
    """What the steps need again and the card shows; everything here is decided once and then only read.

    run_attempt: counts pipeline runs; more than one only after a run was interrupted from outside. size: commits that
    ship, None: not known. not_before: it waits in the queue until then; at_window: for the next window, whenever it is.
    check: of a build, that it is of the check pipeline, which leaves no release. given_up: why it is wanted no more.
    breached: metrics or alerts spoke against it once it ran.
    """

    stages: tuple[StageNote, ...] = ()
    percent: int = 0
    run_id: str = ""
    run_url: str = ""
    run_attempt: int = 1
    check: bool = False
    proposal: Proposal | None = None
    given_up: str = ""
    reused: bool = False
    artifact: str = ""
    gates: tuple[GateNote, ...] = ()
    gating_since_at: datetime | None = None
    tagged: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    before: Before | None = None
    revision: str = ""
    git_changed: bool = True
    sync_attempt: int = 1
    sync_intent: str = ""
    sync_message: str = ""
    sync_percent: int = 0
    sync_applied: int = 0
    sync_healthy: int = 0
    sync_total: int = 0
    places: tuple[PlaceNote, ...] = ()
    healthy_since_at: datetime | None = None
    deadline_at: datetime | None = None
    url: str = ""
    running_message: str = ""
    failure: Failure | None = None
    emergency: Emergency | None = None
    reasons: tuple[ReasonNote, ...] = ()
    derivations: tuple[Derivation, ...] = ()
    next_change_at: datetime | None = None
    can_ask: bool = False
    cancelled_by: str = ""
    cancelled_from: str = ""
    ended_by: str = ""
    waiting_for: str = ""
    waiting_since_at: datetime | None = None
    asks: Ask | None = None
    results: Results | None = None
    gray: Gray | None = None
    breached: bool = False
    undo: str = ""
    undo_revision: str = ""
    rollback_of: str = ""
    authors: tuple[str, ...] = ()
    author: str = ""
    size: int | None = None
    not_before: datetime | None = None
    at_window: bool = False
    subject: str = ""
    plan: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the request was typed: the card lives there. personal: in a chat with one person."""

    platform: str
    place: str
    personal: bool = False
    thread: str = ""
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One row. version: counts every change; signal_seq: counts wake-ups; see `engine.py`."""

    id: int
    intent: str
    service: str
    environment: str
    kind: Kind
    state: State
    version: int
    requested_by: str
    origin: Origin
    reason: str
    release_version: str
    commit: str
    branch: str
    digest: str
    data: Data
    created_at: datetime
    changed_at: datetime
    ended_at: datetime | None = None
    wake_at: datetime | None = None
    attempts: int = 0
    signal_seq: int = 0

    @property
    def ref(self) -> str:
        """The name people type: `d-12`."""
        return f"d-{self.id}"

    @property
    def subject(self) -> str:
        """The release's identity: its digest once built, its commit before. Approvals are bound to it."""
        return release_subject(self.digest, self.commit)

    @property
    def target(self) -> str:
        """`service/environment`."""
        return f"{self.service}/{self.environment}"


def release_subject(digest: str, commit: str) -> str:
    """What an approval is bound to: `sha256:…`, or `commit:…` while nothing is built; both are content hashes."""
    return digest or f"commit:{commit}"


def parse_ref(text: str) -> int | None:
    """The number in `d-12`, `D-12` or `12`, or None."""
    digits = text.strip().casefold().removeprefix("d-")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 16 else None


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """What `create` needs. state: REFUSED (an offer of the emergency lane), AWAITING_APPROVAL or QUEUED."""

    idempotency_key: str
    service: str
    environment: str
    kind: Kind
    state: State
    requested_by: str
    origin: Origin
    reason: str
    release_version: str
    commit: str
    branch: str
    digest: str
    data: Data = field(default_factory=Data)


def counted(applied: int, healthy: int, total: int) -> str:
    """How many of how many resources, as a person reads it."""
    return f"Applied {applied}/{total}, healthy {healthy}/{total}."
