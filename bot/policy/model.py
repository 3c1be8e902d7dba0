"""What the policy is asked and what it answers: plain frozen records, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bot.catalog.model import ApprovalRule, EmergencyRule, Freeze, Kind, ReviewBlock, Scope

EVERYTHING = Scope()


class Permission(StrEnum):
    """`resource:action`; which roles hold which is in `permissions.py`."""

    RELEASE_DEPLOY = "release:deploy"
    RELEASE_ROLLBACK = "release:rollback"
    RELEASE_CANCEL = "release:cancel"
    RELEASE_APPROVE = "release:approve"
    RELEASE_READ = "release:read"
    LOG_READ = "log:read"
    BUILD_RUN = "build:run"
    LOCK_WRITE = "lock:write"
    FREEZE_WRITE = "freeze:write"
    CATALOG_WRITE = "catalog:write"
    SELF_READ = "self:read"


class Outcome(StrEnum):
    """The three answers."""

    ALLOWED = "allowed"
    NEEDS_APPROVAL = "needs_approval"
    REFUSED = "refused"


class ReasonCode(StrEnum):
    """The closed list of reasons; one spelling in code, table, log and metric."""

    UNKNOWN_CALLER = "unknown_caller"
    UNKNOWN_SERVICE = "unknown_service"
    UNKNOWN_ENVIRONMENT = "unknown_environment"
    NOT_PERMITTED = "not_permitted"
    PERMITTED = "permitted"
    WINDOW_OPEN = "window_open"
    WINDOW_CLOSED = "window_closed"
    NO_WINDOW = "no_window"
    FREEZE_ACTIVE = "freeze_active"
    FREEZE_EXEMPT = "freeze_exempt"
    KIND_EXEMPT = "kind_exempt"
    CALENDAR_UNPUBLISHED = "calendar_unpublished"
    PREVIEW_EXEMPT = "preview_exempt"
    LOCKED = "locked"
    LOCK_YOURS = "lock_yours"
    LOCK_WARNING = "lock_warning"
    LOCK_EXEMPT = "lock_exempt"
    LOCK_UNREADABLE = "lock_unreadable"
    EMERGENCY_PASS = "emergency_pass"  # noqa: S105
    EMERGENCY_POSSIBLE = "emergency_possible"
    EMERGENCY_IMPOSSIBLE = "emergency_impossible"
    APPROVAL_NEEDED = "approval_needed"
    APPROVAL_GIVEN = "approval_given"
    APPROVAL_IMPOSSIBLE = "approval_impossible"
    REVIEW_OWED = "review_owed"
    SELF_APPROVAL = "self_approval"
    NOT_ELIGIBLE = "not_eligible"
    APPROVAL_EXPIRED = "approval_expired"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason of a verdict.

    rule: the rule's name; where: `file:line` of the rule, empty when built in.
    blocking: True if it alone keeps the verdict from being `allowed`.
    """

    code: ReasonCode
    text: str
    rule: str = ""
    where: str = ""
    blocking: bool = False


@dataclass(frozen=True, slots=True)
class Pass:
    """An emergency yes: bound to service, environment and subject, good for `[from_at, until_at)`.

    given_by: who gave it on the server itself, while chat was down; then no rule and no approver is asked for.
    """

    service: str
    environment: str
    subject: str
    from_at: datetime
    until_at: datetime
    approvers: tuple[str, ...]
    given_by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReviewFact:
    """A review that is owed for an emergency. block: whether it holds up ordinary deployments of its target."""

    ref: str
    service: str
    environment: str
    due_at: datetime
    block: ReviewBlock


@dataclass(frozen=True, slots=True)
class LockFact:
    """A lock as the policy sees it. `readable` False: the row could not be understood, and blocks.

    scope: as people write it, `pay/prod`; what: the same for matching, everything by default. The holder passes
    (`slipway` is nobody). exempt_kinds pass; a warning one is told and lets everybody pass.
    """

    scope: str
    holder: str
    reason: str
    expires_at: datetime | None
    readable: bool = True
    what: Scope = EVERYTHING
    exempt_kinds: tuple[str, ...] = ()
    warning: bool = False


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """Who wants to do what. `subject` is the release's identity: `sha256:…` digest, or `commit:…` before a build.

    author: the person who wrote the newest commit, empty if nobody of the catalog; size: commits that would ship, None:
    not known, which counts as large. asked_at: when its approvals were asked for, None: they were not yet.
    """

    person: str
    permission: Permission
    service: str
    environment: str
    kind: Kind = Kind.NORMAL
    subject: str = ""
    author: str = ""
    size: int | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ballot:
    """One person's vote. subject: the release it is bound to; until_at: when it stops counting, None: never."""

    person: str
    approve: bool
    subject: str = ""
    until_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true outside the catalog at the time of the question. freezes: those set from chats."""

    passes: tuple[Pass, ...] = ()
    locks: tuple[LockFact, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    ballots: tuple[Ballot, ...] = ()
    reviews: tuple[ReviewFact, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer, with every reason.

    next_change_at: the first instant (aware UTC) after `at` when outcome would differ, None: never within a year.
    emergency: the rule of the emergency lane that would apply, None if there is none or none is needed.
    approvals: the approval rules that are not fulfilled yet; with `emergency`, its quorum stands for them too.
    """

    outcome: Outcome
    reasons: tuple[Reason, ...]
    next_change_at: datetime | None = None
    emergency: EmergencyRule | None = None
    approvals: tuple[ApprovalRule, ...] = ()

    @property
    def blocking(self) -> tuple[Reason, ...]:
        """Only the reasons that stand in the way."""
        return tuple(reason for reason in self.reasons if reason.blocking)
