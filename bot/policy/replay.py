"""Past deployments judged by other rules: which would have been stopped, and which let through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from bot.catalog.model import Catalog, Kind
from bot.policy.decide import decide
from bot.policy.model import Facts, Outcome, Permission, PolicyRequest, Verdict

NOTHING = Facts()


@dataclass(frozen=True, slots=True)
class Past:
    """A deployment as it was asked for.

    outcome: what the rules of then said; from_chat: it was a lock, or a freeze set from a chat, that said it. facts:
    what stood then beside the rules, as far as it was kept.
    """

    ref: str
    person: str
    service: str
    environment: str
    kind: Kind
    subject: str
    author: str
    at: datetime
    outcome: Outcome
    from_chat: bool = False
    facts: Facts = NOTHING
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One that the other rules judge otherwise."""

    past: Past
    verdict: Verdict

    def sentence(self) -> str:
        """`d-12 olive pay/prod 2026-01-06 10:00 UTC: was allowed, would be refused: …`."""
        past, reasons = self.past, self.verdict.blocking or self.verdict.reasons
        why = " ".join(reason.text for reason in reasons)
        who = f"{past.ref} {past.person} {past.service}/{past.environment} {past.at:%Y-%m-%d %H:%M} UTC"
        return f"{who}: was {past.outcome.value}, would be {self.verdict.outcome.value}: {why}"


def replay(catalog: Catalog, past: Iterable[Past]) -> Iterator[Difference]:
    """Those whose outcome would differ. What a chat's lock or freeze decided is no rule's doing and is left out."""
    for one in past:
        if one.from_chat:
            continue
        permission = Permission.RELEASE_ROLLBACK if one.kind is Kind.ROLLBACK else Permission.RELEASE_DEPLOY
        request = PolicyRequest(
            one.person,
            permission,
            one.service,
            one.environment,
            one.kind,
            one.subject,
            author=one.author,
            size=one.size,
        )
        verdict = decide(catalog, request, one.facts, one.at)
        if verdict.outcome is not one.outcome:
            yield Difference(one, verdict)
