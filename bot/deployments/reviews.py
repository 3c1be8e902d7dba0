"""After an emergency somebody else looks at it: a review is owed, reminded with growing pauses, and reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from bot.catalog.model import Catalog, EmergencyRule, Person, ReviewRule
from bot.clock import Clock
from bot.deployments.audience import channel_of, personal_places
from bot.deployments.model import Deployment
from bot.errors import BadInput, Conflict, Refused
from bot.policy.approvals import eligible, seat_people
from bot.policy.model import ReasonCode
from bot.store import audit, emergencies, outbox
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.emergencies import Review
from bot.store.outbox import NewNotice, Notice
from bot.times import say_for, say_when

FIRST_PAUSE = timedelta(days=1)
"""From one reminder to the next; doubled each time, and never longer than a week."""
LONGEST_PAUSE = timedelta(days=7)


class Reviews:
    """The application's verbs on reviews."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        clock: Clock,
        platforms: Sequence[str],
        on_change: Callable[[], None],
    ) -> None:
        """on_change: called after a commit, so that whoever waits looks again."""
        self._db = db
        self._catalog = catalog
        self._clock = clock
        self._platforms = platforms
        self._on_change = on_change

    async def owed(self) -> list[Review]:
        """Every review that is owed, the oldest first."""
        return await self._db.read(emergencies.owed)

    async def since(self, start: datetime) -> list[Review]:
        """Every review that was owed since then."""
        return await self._db.read(lambda tx: emergencies.since(tx, start))

    async def review(self, person: Person, deployment_id: int, note: str) -> Review:
        """Note that somebody looked at an emergency, and what was found.

        Raises:
            BadInput: none is owed for it, or nothing was said.
            Refused: the requester, or somebody whose task it is not.
            Conflict: it was done already.
        """
        at = self._clock()
        if not note.strip():
            raise BadInput("What was found?", hint=f"Type /review d-{deployment_id} and a sentence.")

        def work(tx: Tx) -> Review:
            seen = emergencies.get_review(tx, deployment_id)
            if seen is None:
                raise BadInput(f"No review is owed for d-{deployment_id}.", hint="/reviews lists what is owed.")
            self._may_review(seen, person, at)
            if not emergencies.finish_review(tx, seen, at, person.id, note[:2000]):
                raise Conflict(f"{seen.ref} was reviewed already, by {self._name(seen.done_by)}.")
            rows.wake_waiting(tx, at)
            audit.append(tx, AuditEntry(at, person.id, "review:done", seen.ref, "accepted", "", note[:1000]))
            return seen

        seen = await self._db.run(work)
        self._on_change()
        return seen

    async def remind(self) -> None:
        """Remind whoever can review what is owed; once it is overdue the channel hears too. Housekeeping calls it."""
        at = self._clock()

        def work(tx: Tx) -> None:
            for seen in emergencies.owed(tx):
                count = _reminders(seen, at)
                if count > seen.reminders:
                    self._remind(tx, seen, count, at)
                    emergencies.reminded(tx, seen, count)

        await self._db.run(work)
        self._on_change()

    # -----------------------------------------------------------------------------------------------------------------

    def _may_review(self, seen: Review, person: Person, at: datetime) -> None:
        if person.id == seen.requester:
            raise Refused(
                f"You asked for {seen.ref} yourself, so somebody else reviews it.", code=ReasonCode.SELF_APPROVAL
            )
        allowed = reviewers(self._catalog(), seen, at)
        if person.id not in allowed:
            names = ", ".join(self._name(one) for one in allowed) or "nobody at present"
            raise Refused(f"You may not review {seen.ref}; {names} may.", code=ReasonCode.NOT_ELIGIBLE)

    def _remind(self, tx: Tx, seen: Review, count: int, at: datetime) -> None:
        catalog = self._catalog()
        text = review_text(catalog, seen, at)
        places = [
            place
            for person in reviewers(catalog, seen, at)
            for place in personal_places(catalog, person, self._platforms)[:1]
        ]
        if at >= seen.due_at:
            channels = [(one, channel_of(catalog, seen.service, seen.environment, one)) for one in self._platforms]
            places += [(platform, place) for platform, place in channels if place]
        for platform, place in places:
            put(tx, f"review:{seen.deployment_id}:{count}", platform, place, text, at)

    def _name(self, person: str) -> str:
        known = self._catalog().people.get(person)
        return known.name if known is not None else person


def put(tx: Tx, key: str, platform: str, place: str, text: str, at: datetime) -> None:
    """A message of its own, once for each place."""
    content = {"text": text, "card": None}
    notice = NewNotice(f"{key}:{platform}:{place}"[:255], platform, place, Notice.MESSAGE, content=content, priority=1)
    outbox.put(tx, notice, at)


def review_text(catalog: Catalog, seen: Review, at: datetime) -> str:
    """What is owed, since when and until when."""
    due = say_when(seen.due_at, catalog.zone)
    text = (
        f"The emergency {seen.ref} ({seen.service} in {seen.environment}) is not reviewed yet; it was due {due}. "
        f"Type /review {seen.ref} and what was found."
    )
    if at < seen.due_at:
        text = (
            f"The emergency {seen.ref} ({seen.service} in {seen.environment}) waits to be reviewed until {due}. "
            f"Type /review {seen.ref} and what was found."
        )
    return text


def reviewers(catalog: Catalog, seen: Review, at: datetime) -> tuple[str, ...]:
    """Who may review it: whom the rule names for it, else whoever could have approved it; never the requester."""
    service = catalog.services.get(seen.service)
    rule = next((one for one in catalog.emergency if one.name == seen.rule), None)
    if service is None:
        return tuple(one for one in (*catalog.admins, *catalog.release_managers) if one != seen.requester)
    if rule is not None and rule.review.by is not None:
        found = seat_people(catalog, rule.review.by, service, at)
    elif rule is not None:
        found = eligible(catalog, rule, service)
    else:
        team = catalog.teams.get(service.team)
        found = (*(team.leads if team is not None else ()), *catalog.release_managers, *catalog.admins)
    return tuple(one for one in dict.fromkeys(found) if one != seen.requester and _active(catalog, one))


def review_after(tx: Tx, catalog: Catalog, after: Deployment, platforms: Sequence[str], at: datetime) -> None:
    """An emergency that reached Git owes a review from its end on."""
    asked = after.data.emergency
    if not after.state.is_final or asked is None or asked.approvals or not after.data.revision:
        return
    if asked.pass_until_at is None:
        return
    rule: EmergencyRule | None = next((one for one in catalog.emergency if one.name == asked.rule), None)
    wanted = rule.review if rule is not None else ReviewRule()
    if not wanted.within:
        return
    new = Review(
        after.id,
        after.service,
        after.environment,
        asked.rule[:100],
        after.requested_by,
        at,
        at + wanted.within,
        wanted.block.value,
    )
    if not emergencies.owe(tx, new):
        return
    text = review_text(catalog, new, at)
    for person in (after.requested_by, *reviewers(catalog, new, at)):
        for platform, place in personal_places(catalog, person, platforms)[:1]:
            put(tx, f"review:{after.id}:0", platform, place, text, at)
    audit.append(tx, AuditEntry(at, "slipway", "review:owed", after.ref, "accepted", "", asked.rule))


def report(found: Sequence[Review], at: datetime, zone: str) -> list[str]:
    """How many emergencies there were and what became of their reviews; then each, the oldest first."""
    done = [one for one in found if one.done_at is not None]
    late = [one for one in found if one.done_at is None and one.due_at <= at]
    lines = [f"{len(found)} emergencies, {len(done)} reviewed, {len(found) - len(done)} owed, {len(late)} overdue"]
    for one in found:
        head = f"{one.ref} {one.service}/{one.environment} {say_when(one.owed_at, zone)}, asked by {one.requester}: "
        if one.done_at is not None:
            lines.append(f"{head}reviewed by {one.done_by} after {say_for(one.done_at - one.owed_at)}: {one.note}")
        elif one.due_at <= at:
            lines.append(f"{head}overdue for {say_for(at - one.due_at)}")
        else:
            lines.append(f"{head}owed until {say_when(one.due_at, zone)}")
    return lines


def _reminders(seen: Review, at: datetime) -> int:
    """How many reminders should have been sent by now."""
    count, pause, due = 0, min(FIRST_PAUSE, max((seen.due_at - seen.owed_at) / 3, timedelta(hours=1))), seen.owed_at
    while (due := due + pause) <= at and count < 1000:
        count, pause = count + 1, min(pause * 2, LONGEST_PAUSE)
    return count


def _active(catalog: Catalog, person: str) -> bool:
    known = catalog.people.get(person)
    return known is not None and known.active
