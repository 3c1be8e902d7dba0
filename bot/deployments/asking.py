"""A question to people while it is open: who is asked, reminded with growing pauses, and whom it is handed up to.

Level-triggered: each look asks whoever may answer now and was not asked yet, so a change of shift, a leave or a group
it was handed up to needs no event. Messages are keyed, so a look that runs twice says nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.catalog.model import ApprovalRule, Catalog, EmergencyRule
from bot.clock import Clock
from bot.deployments import audience, plan
from bot.deployments.engine import Go, Handler, Outcome, Stay
from bot.deployments.model import Deployment, Emergency, State
from bot.deployments.questions import Question, question_of, rules_of
from bot.errors import Refused
from bot.policy.model import Ballot
from bot.store import audit, outbox
from bot.store import deployments as rows
from bot.store.asked import AskedTogether
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.outbox import NewNotice, Notice
from bot.times import say_for, say_when

LOOK = timedelta(minutes=15)
"""Between two looks at who may answer; votes need none."""


class Asking:
    """The handler of deployments that wait for an answer."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        platforms: Sequence[str],
        clock: Clock,
        on_message: Callable[[], None],
    ) -> None:
        """on_message: called after something was put into the outbox."""
        self._db = db
        self._catalog = catalog
        self._platforms = platforms
        self._clock = clock
        self._on_message = on_message
        self._asked: AskedTogether[int, frozenset[str]] = AskedTogether(db, outbox.keys_about)

    def handlers(self) -> dict[State, Handler]:
        """State -> handler."""
        return {State.AWAITING_APPROVAL: self.awaiting_approval}

    async def awaiting_approval(self, seen: Deployment) -> Outcome:
        """Wait for votes, which move the row themselves; end the question when its time is over."""
        asked, at = seen.data.emergency, self._clock()
        if asked is None or at >= asked.expires_at:
            return Go(State.EXPIRED, seen.data, note="nobody decided in time")
        catalog = self._catalog()
        steps = _Steps.of(rules_of(catalog, seen), asked)
        handed, reminders = steps.handed_at(at), steps.reminders_at(at, asked.reminders)
        new = (reminders > asked.reminders, handed > asked.handed)
        await self._tell_new(catalog, seen, at, reminded=new[0], handed=new[1])
        until = min(asked.expires_at, at + LOOK, *steps.after(at, reminders))
        if (handed, reminders) == (asked.handed, asked.reminders):
            return Stay(until, seen.data)
        noted = asked.model_copy(update={"handed": handed, "reminders": reminders})
        return Stay(until, seen.data.model_copy(update={"emergency": noted}))

    async def _tell_new(
        self, catalog: Catalog, seen: Deployment, at: datetime, *, reminded: bool, handed: bool
    ) -> None:
        """Ask whoever may answer now and was not asked, and remind those who have not answered.

        Nothing is written while there is nothing new: a thousand that only go on waiting cost a reading.
        """
        known = await self._asked.get(seen.id) or frozenset()
        new = [one for one in audience.asked(catalog, seen, self._platforms, at) if one.key not in known]
        if not (new or reminded or handed):
            return
        if await self._db.together(lambda tx: self._tell(tx, seen, new, at, reminded=reminded, handed=handed)):
            self._on_message()

    def _tell(
        self, tx: Tx, seen: Deployment, new: Sequence[NewNotice], at: datetime, *, reminded: bool, handed: bool
    ) -> bool:
        told = False
        for notice in new:
            told |= outbox.put(tx, notice, at)
        if reminded:
            told |= self._remind(tx, seen, at)
        if handed:
            entry = AuditEntry(at, "slipway", "approval:hand_up", seen.ref, "accepted", "", seen.target)
            audit.append_at_end(tx, entry)
        return told

    def _remind(self, tx: Tx, seen: Deployment, at: datetime) -> bool:
        asked, catalog = seen.data.emergency, self._catalog()
        assert asked is not None
        text = reminder_text(catalog, seen, asked, at)
        told = False
        for person in _silent(tx, catalog, seen, at):
            for platform, place in audience.personal_places(catalog, person, self._platforms)[:1]:
                key = f"remind:{seen.id}:{asked.reminders + 1}:{platform}:{place}"
                content = {"text": text, "card": None}
                told |= outbox.put(tx, NewNotice(key, platform, place, Notice.MESSAGE, content=content, priority=1), at)
        return told


@dataclass(frozen=True, slots=True)
class _Steps:
    """What happens to an open question as time goes by. hand_ups: when, in order; pause: before the first reminder."""

    asked_at: datetime
    hand_ups: tuple[datetime, ...]
    pause: timedelta | None

    @classmethod
    def of(cls, rules: Sequence[EmergencyRule | ApprovalRule], asked: Emergency) -> _Steps:
        """Of the rules that it was asked under."""
        hand_ups = [
            asked.asked_at + step.after for one in rules if isinstance(one, ApprovalRule) for step in one.hand_up
        ]
        pauses = [one.remind_after for one in rules if one.remind_after]
        return cls(asked.asked_at, tuple(sorted(hand_ups)), min(pauses, default=None))

    def handed_at(self, at: datetime) -> int:
        """How often it was handed up by then."""
        return sum(1 for one in self.hand_ups if one <= at)

    def reminders_at(self, at: datetime, sent: int) -> int:
        """How many reminders should have been sent by then; those that were slept through are one."""
        while (due := self._reminder(sent)) is not None and due <= at:
            sent += 1
        return sent

    def after(self, at: datetime, reminders: int) -> list[datetime]:
        """What comes after that instant, when so many reminders were sent."""
        return [one for one in (*self.hand_ups, self._reminder(reminders)) if one is not None and one > at]

    def _reminder(self, count: int) -> datetime | None:
        """When the one after so many is due; the pauses double, so that nobody is worn out."""
        return self.asked_at + self.pause * (2 ** min(count + 1, 20) - 1) if self.pause is not None else None


def reminder_text(catalog: Catalog, seen: Deployment, asked: Emergency, at: datetime) -> str:
    """One sentence: who waits for what, since when and until when."""
    person = catalog.people.get(seen.requested_by)
    who = person.name if person is not None else seen.requested_by
    since, until = say_for(at - asked.asked_at), say_when(asked.expires_at, catalog.zone)
    text = (
        f"{who} has waited {since} for your answer about {seen.service} {seen.release_version} to {seen.environment}; "
        f"it expires {until}. Type /approve {seen.ref} or /reject {seen.ref}."
    )
    return text


def _silent(tx: Tx, catalog: Catalog, seen: Deployment, at: datetime) -> list[str]:
    """Who could fill a seat that is still open and has said nothing."""
    ballots = [Ballot(one.person, one.decision == "approve", one.subject) for one in rows.votes_of(tx, seen.id)]
    question = asked_now(catalog, seen, at)
    if question is None:
        return []
    return list(dict.fromkeys(who for _, people in question.open_seats(ballots, at) for who in people))


def asked_now(catalog: Catalog, seen: Deployment, at: datetime) -> Question | None:
    """The question as it stands now, None if its rule is gone."""
    known = catalog.services.get(seen.service)
    service = known if known is not None else plan.thaw(seen.data.plan)[0]
    try:
        return question_of(catalog, seen, service, at)
    except Refused:
        return None
