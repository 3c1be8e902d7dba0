"""Facts for the policy: read from a deployment's own row, and from what people hold deployments up with."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime

from bot.catalog.model import Freeze, Kind, ReviewBlock, Scope, SourceLine
from bot.deployments.model import Deployment
from bot.policy.model import EVERYTHING, Ballot, Facts, LockFact, Pass, Permission, PolicyRequest, ReviewFact
from bot.store import alerts, emergencies, holds, standing
from bot.store.alerts import Alert
from bot.store.database import Tx

WATCH = "Alertmanager"
"""Who holds what an alert holds; no person."""
SCOPE_FIELDS = frozenset(field.name for field in fields(Scope))


def permission_for(kind: Kind) -> Permission:
    """What its requester must be allowed to do."""
    return Permission.RELEASE_ROLLBACK if kind is Kind.ROLLBACK else Permission.RELEASE_DEPLOY


def request_of(seen: Deployment) -> PolicyRequest:
    """What a deployment asks of the rules, now as when it was asked for."""
    asked = seen.data.emergency
    return PolicyRequest(
        person=seen.requested_by,
        permission=permission_for(seen.kind),
        service=seen.service,
        environment=seen.environment,
        kind=seen.kind,
        subject=asked.subject if asked is not None else seen.subject,
        author=seen.data.author,
        size=seen.data.size,
        asked_at=asked.asked_at if asked is not None else None,
    )


def standing_facts(tx: Tx, at: datetime) -> Facts:
    """Every lock, firing alert and freeze from a chat; what cannot be understood holds everything up."""
    if not standing.is_anything(tx, at):
        return Facts()
    firing = (alert_fact(one) for one in alerts.firing(tx, at))
    return Facts(
        locks=(*(lock_fact(one) for one in holds.all_locks(tx)), *firing),
        freezes=tuple(_freeze(one) for one in holds.standing_freezes(tx, at)),
        reviews=tuple(_review(one) for one in emergencies.owed(tx) if one.block != ReviewBlock.NO.value),
    )


def standing_and_passes(tx: Tx, at: datetime) -> tuple[Facts, list[emergencies.ServerPass]]:
    """As `standing_facts`, and the passes from the server that are good now."""
    if not standing.is_anything(tx, at):
        return Facts(), []
    return standing_facts(tx, at), emergencies.good_passes(tx, at)


def _review(owed: emergencies.Review) -> ReviewFact:
    block = ReviewBlock(owed.block) if owed.block in tuple(ReviewBlock) else ReviewBlock.ALWAYS
    return ReviewFact(owed.ref, owed.service, owed.environment, owed.due_at, block)


def pass_of(given: emergencies.ServerPass, subject: str) -> Pass:
    """A pass from the server, for the release it is used for."""
    return Pass(
        given.service,
        given.environment,
        subject,
        given.from_at,
        given.until_at,
        approvers=(),
        given_by=given.given_by,
        reason=given.reason,
    )


def facts_of(deployment: Deployment, standing: Facts | None = None) -> Facts:
    """What stands, and what this deployment was given: an emergency pass, or its approvals."""
    standing = standing or Facts()
    emergency = deployment.data.emergency
    if emergency is None or emergency.pass_until_at is None:
        return standing
    if emergency.approvals:
        until = emergency.pass_until_at
        ballots = tuple(Ballot(one, True, emergency.subject, until) for one in emergency.approvers)
        return replace(standing, ballots=ballots)
    given = Pass(
        service=deployment.service,
        environment=deployment.environment,
        subject=emergency.subject,
        from_at=emergency.asked_at,
        until_at=emergency.pass_until_at,
        approvers=emergency.approvers,
        given_by=emergency.given_by,
        reason=emergency.reason,
    )
    return replace(standing, passes=(given,))


def lock_fact(lock: holds.Lock) -> LockFact:
    """A stored lock as the policy sees it."""
    what = scope_of_lock(lock.what)
    return LockFact(
        scope=lock.what,
        holder=lock.holder,
        reason=lock.reason,
        expires_at=lock.expires_at,
        readable=what is not None,
        what=what or EVERYTHING,
        exempt_kinds=lock.exempt,
        warning=lock.warning,
    )


def alert_fact(alert: Alert) -> LockFact:
    """A firing alert holds its service as a lock would; what could end the alert passes."""
    summary = f" ({alert.summary})" if alert.summary else ""
    return LockFact(
        scope=alert.what,
        holder=WATCH,
        reason=f"the alert {alert.name} is firing{summary}",
        expires_at=alert.until_at,
        what=scope_of_lock(alert.what) or EVERYTHING,
        exempt_kinds=(Kind.ROLLBACK.value, Kind.HOTFIX.value),
    )


def alerted(tx: Tx, deployment: Deployment, at: datetime) -> str:
    """The alert that keeps a running release from being called done, empty if none does."""
    for one in alerts.firing(tx, at):
        fact = alert_fact(one)
        here = one.service == deployment.service and one.environment in ("", deployment.environment)
        if here and deployment.kind.value not in fact.exempt_kinds:
            return f"It runs, but {fact.reason}."
    return ""


def scope_of_lock(what: str) -> Scope | None:
    """`pay/prod`, `*/prod`, `team:shop/*`: a service (or a team, or all) in an environment (or all). None: neither."""
    who, slash, place = what.partition("/")
    if not slash or not who or not place or "/" in place:
        return None
    environments = () if place == "*" else (place,)
    if who.startswith("team:"):
        return Scope(environments=environments, teams=(who.removeprefix("team:"),))
    return Scope(environments=environments, services=() if who == "*" else (who,))


def _freeze(stored: holds.ChatFreeze) -> Freeze:
    known = {name: tuple(str(one) for one in words) for name, words in stored.scope.items() if name in SCOPE_FIELDS}
    # A limit that only a newer version knows is left out: then the freeze holds for more, not for less.
    return Freeze(
        name=stored.name,
        scope=Scope(**known),
        start_at=stored.start_at,
        end_at=stored.end_at,
        reason=stored.reason,
        exempt_kinds=stored.exempt,
        source=SourceLine(f"freeze f-{stored.id}", 0),
        by=stored.by,
    )
