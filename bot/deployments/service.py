"""What people do to deployments: ask for one, vote, cancel. Each is one transaction; the engine does the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bot.catalog.model import Catalog, Kind, Person, Service, Target
from bot.clock import Clock
from bot.deployments import builds, gating, plan, questions
from bot.deployments.derivations import ASKED, derive
from bot.deployments.engine import Engine
from bot.deployments.facts import pass_of, permission_for, request_of, standing_and_passes, standing_facts
from bot.deployments.holds import Holds
from bot.deployments.model import (
    WAITING,
    Data,
    Deployment,
    Derivation,
    Emergency,
    NewDeployment,
    Origin,
    Proposal,
    State,
    release_subject,
)
from bot.deployments.moves import Moves
from bot.deployments.questions import Question
from bot.deployments.reviews import Reviews
from bot.errors import BadInput, Conflict, Refused
from bot.policy.approvals import lane
from bot.policy.decide import decide, first_opening
from bot.policy.model import Ballot, Facts, Outcome, Permission, PolicyRequest, ReasonCode, Verdict
from bot.policy.reasons import BREAK_GLASS
from bot.store import audit, emergencies
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.batches import Batches
from bot.store.database import Database, Tx
from bot.store.emergencies import ServerPass
from bot.store.releases import Releases
from bot.store.shared import SharedReading


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for. key: unique per message or click, so that a repeat does nothing.

    author: id of the person who wrote the newest commit, empty if nobody of the catalog. size: commits that would ship,
    None: not known. at: not before then; next_window: when the rules open next, which may be now. supersede: end what
    the same person asked for before and still waits. only_if_allowed: nothing is offered instead; what the rules let
    pass only in an emergency is refused.
    """

    person: Person
    service: Service
    target: Target
    kind: Kind
    commit: str
    version: str
    branch: str
    reason: str
    origin: Origin
    key: str
    author: str = ""
    size: int | None = None
    at: datetime | None = None
    next_window: bool = False
    supersede: bool = False
    only_if_allowed: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """What came of a wish. joined: the same release was on its way already, nothing new was started."""

    deployment: Deployment
    verdict: Verdict
    joined: bool = False


@dataclass(frozen=True, slots=True)
class _Start:
    """A wish that the rules let pass. given: the pass from the server that it uses up."""

    wish: Wish
    new: NewDeployment
    at: datetime
    code: str
    given: ServerPass | None

    @property
    def target(self) -> str:
        """`service/environment`."""
        return f"{self.new.service}/{self.new.environment}"


class Deployments:
    """The application's verbs on deployments."""

    def __init__(
        self, db: Database, catalog: Callable[[], Catalog], moves: Moves, clock: Clock, engine: Engine
    ) -> None:
        """Take what it works with; nothing is read yet."""
        self._db = db
        self._catalog = catalog
        self._moves = moves
        self._clock = clock
        self._engine = engine
        self._standing = SharedReading(self._read_standing)
        self._starting = Batches(self._start_all)
        self.releases = Releases(db)
        self.holds = Holds(db, catalog, clock, moves.platforms, self._holds_changed)
        self.reviews = Reviews(db, catalog, clock, moves.platforms, self._holds_changed)

    def _holds_changed(self) -> None:
        """A lock or a freeze came or went: whoever waits looks again, and its messages go out."""
        self._engine.poke_all()
        self._moves.announce_changed(0)

    async def standing(self) -> Facts:
        """What people hold deployments up with at present."""
        return (await self._standing())[0]

    async def _read_standing(self) -> tuple[Facts, list[ServerPass]]:
        at = self._clock()
        return await self._db.peek(lambda tx: standing_and_passes(tx, at))

    async def judge(self, wish: Wish) -> Verdict:
        """What the rules say, without doing anything."""
        digest, standing, _ = await self._known(wish)
        wish = self._timed(wish, release_subject(digest, wish.commit), standing)
        return self._decide(wish, release_subject(digest, wish.commit), standing)

    async def _known(self, wish: Wish) -> tuple[str, Facts, ServerPass | None]:
        """The digest of the release, empty before it is built; what stands in its way; and a pass from the server."""
        known = await self.releases.by_commit(wish.service.name, wish.commit)
        digest = known.digest if known is not None else ""
        names = {"", wish.version, wish.commit, wish.commit[:12], digest}
        standing, passes = await self._standing()
        target = (wish.person.id, wish.service.name, wish.target.environment)
        fitting = (one for one in passes if (one.person, one.service, one.environment) == target)
        given = next((one for one in fitting if one.version in names), None)
        if given is None:
            return digest, standing, None
        passed = pass_of(given, release_subject(digest, wish.commit))
        return digest, replace(standing, passes=(passed,)), given

    async def start(self, asked: Wish) -> Started:
        """Ask the rules, then queue it; or offer the emergency lane; or join the one on its way.

        Raises:
            Refused: the rules say no and no lane is open to this person. Nothing was changed.
        """
        digest, standing, given = await self._known(asked)
        wish = self._timed(asked, release_subject(digest, asked.commit), standing)
        verdict = self._decide(wish, release_subject(digest, wish.commit), standing)
        if not is_open(verdict, wish):
            raise refusal(verdict)
        at = self._clock()
        if given is None or not any(reason.code is ReasonCode.EMERGENCY_PASS for reason in verdict.reasons):
            given = None
        derivation = self._derivation(wish, release_subject(digest, wish.commit), standing, verdict)
        new = _new(wish, digest, verdict, at, given, derivation)

        deployment, joined, ended = await self._starting.add(_Start(wish, new, at, _code(verdict), given))
        for one in ended:
            self._changed(one.id, one)
        self._changed(deployment.id)
        return Started(deployment, verdict, joined)

    async def _start_all(self, wanted: Sequence[_Start]) -> list[tuple[Deployment, bool, list[Deployment]]]:
        """In one transaction; one that is joined by another of the same moment is seen by it."""

        def work(tx: Tx) -> list[tuple[Deployment, bool, list[Deployment]]]:
            known = rows.known_keys(tx, [one.wish.key for one in wanted])
            on_their_way = rows.open_on(tx, {one.target for one in wanted})
            made = self._make_first(tx, wanted, known, on_their_way)
            started = []
            for one in wanted:
                others = on_their_way.setdefault(one.target, [])
                deployment, joined, ended = made.get(id(one)) or self._start_one(
                    tx, one, None if one.wish.key in known else others
                )
                started.append((deployment, joined, ended))
                if not joined and not deployment.state.is_final:
                    others.append(deployment)
                over = {other.id for other in ended}
                on_their_way[one.target] = [other for other in others if other.id not in over]
            return started

        return await self._db.together(work)

    def _make_first(
        self,
        tx: Tx,
        wanted: Sequence[_Start],
        known: Collection[str],
        on_their_way: Mapping[str, Sequence[Deployment]],
    ) -> dict[int, tuple[Deployment, bool, list[Deployment]]]:
        """By `id`: those with nothing to join, to end or to use up, made at once; as a rule that is all of them."""
        first: dict[str, _Start] = {}
        for one in wanted:
            if not (one.given or one.wish.key in known or on_their_way.get(one.target)):
                first.setdefault(one.target, one)
        plain = list({one.wish.key: one for one in reversed(first.values())}.values())
        made = self._moves.create_all(tx, [(one.new, one.at, one.code) for one in plain])
        return {id(one): (deployment, False, []) for one, (deployment, _) in zip(plain, made, strict=True)}

    def _start_one(
        self, tx: Tx, one: _Start, others: list[Deployment] | None
    ) -> tuple[Deployment, bool, list[Deployment]]:
        """others: what is on its way to the target; None: this very wish was begun before, by a process that ended."""
        same = _same_on_its_way(others, one.wish, one.at) if others is not None else None
        if same is not None:
            return same, True, []
        deployment, is_new = self._moves.create(tx, one.new, one.at, one.code)
        if is_new and one.given is not None and not emergencies.use_pass(tx, one.given.id, deployment.id):
            raise Conflict("That pass was used up a moment ago.", hint="Ask on the server for another one.")
        return deployment, False, self._supersede(tx, deployment, one.wish, one.at)

    async def build(self, wish: Wish, *, check: bool = False, proposal: Proposal | None = None) -> Started:
        """Queue a run of the service's pipeline alone, or join the one of the same commit. Raises Refused.

        proposal: the merge request that is told how it goes.
        """
        builds.refuse_stranger(self._catalog(), wish.person.id, wish.service)
        at, new = self._clock(), builds.new_build(wish, check=check, proposal=proposal)

        def work(tx: Tx) -> tuple[Deployment, bool]:
            if rows.find_by_key(tx, wish.key) is None:
                same = builds.same_on_its_way(tx, new)
                if same is not None:
                    return same, True
            return self._moves.create(tx, new, at)[0], False

        deployment, joined = await self._db.run(work)
        self._changed(deployment.id)
        return Started(deployment, Verdict(Outcome.ALLOWED, ()), joined)

    def _timed(self, wish: Wish, subject: str, standing: Facts) -> Wish:
        """The wish with the instant at which it may go, if that is not now. Raises Refused: it never opens."""
        if not wish.next_window:
            return wish
        now = self._clock()
        opens = first_opening(self._catalog(), _request(wish, subject), replace(standing, locks=()), now)
        if opens is None:
            raise refusal(decide(self._catalog(), _request(wish, subject), standing, now))
        return replace(wish, at=opens if opens > now else None)

    def _supersede(self, tx: Tx, newer: Deployment, wish: Wish, at: datetime) -> list[Deployment]:
        """End what the same person asked for before and still waits, if that is wished."""
        if not (wish.supersede or wish.target.supersede) or newer.state is State.REFUSED:
            return []
        ended = []
        for other in rows.open_for(tx, newer.service, newer.environment):
            seen = rows.lock(tx, other.id) if _is_older_wish(other, newer) else None
            if seen is not None and _is_older_wish(seen, newer):
                note = f"replaced by {newer.ref} ({newer.release_version})"
                ended.append(self._moves.move(tx, seen, State.SUPERSEDED, at=at, actor=wish.person.id, note=note))
        return ended

    async def ask_emergency(self, deployment_id: int, person: Person, reason: str) -> Deployment:
        """Turn a refused request into a question to the people of the emergency rule.

        Raises:
            Refused: not the requester, or the rules changed; nothing was asked.
            Conflict: it was asked or decided already.
        """
        at = self._clock()

        def work(tx: Tx) -> Deployment:
            seen = _locked(tx, deployment_id)
            of_gates = seen.state is State.FAILED and seen.data.can_ask
            if seen.state is not State.REFUSED and not of_gates:
                raise Conflict(f"{seen.ref} was asked for already; it is {words(seen.state)} now.")
            if seen.requested_by != person.id:
                raise Refused(
                    f"Only {self._name(seen.requested_by)} can ask for this one.",
                    hint=f"Type /deploy {seen.service} {seen.environment} to ask yourself.",
                    code=ReasonCode.NOT_PERMITTED,
                )
            verdict = self._judge_again(seen, standing_facts(tx, at))
            if verdict.outcome is Outcome.REFUSED:
                raise refusal(verdict)
            if of_gates:
                return self._ask_of_gates(tx, seen, person, reason, at)
            if verdict.outcome is Outcome.ALLOWED:
                return self._moves.move(tx, seen, State.QUEUED, at=at, actor=person.id, note="the rules allow it now")
            data = seen.data.model_copy(
                update={"emergency": questions.ask(verdict, seen.subject, reason or seen.reason, at), "can_ask": False}
            )
            return self._moves.move(
                tx,
                seen,
                State.AWAITING_APPROVAL,
                at=at,
                actor=person.id,
                note=reason,
                data=data,
                code="emergency_asked",
            )

        return self._done(await self._db.run(work))

    def _ask_of_gates(self, tx: Tx, seen: Deployment, person: Person, reason: str, at: datetime) -> Deployment:
        """The question whether a release may go on although gates said no; a yes is good for exactly these gates."""
        rule = lane(self._catalog(), self._service(seen), seen.environment, seen.kind, person.id)
        if rule is None:
            raise Refused(f"There is no emergency rule for {seen.environment}.", code=ReasonCode.EMERGENCY_IMPOSSIBLE)
        gates = tuple(note.gate for note in gating.closed(seen.data.gates))
        asked = questions.ask_under(rule, gating.subject_of(seen, gates, at), reason or seen.reason, at)
        data = seen.data.model_copy(
            update={"emergency": asked.model_copy(update={"gates": gates}), "can_ask": False, "failure": None}
        )
        note = f"asked to override {', '.join(gates)}: {reason}"
        to, code = State.AWAITING_APPROVAL, "emergency_asked"
        return self._moves.move(tx, seen, to, at=at, actor=person.id, note=note, data=data, code=code)

    async def vote(self, deployment_id: int, person: Person, approve: bool, reason: str, platform: str) -> Deployment:
        """Count one person's yes or no; the right is checked now, not when the question was posted.

        Raises:
            Refused: not eligible, the requester, too late, or the release is another one now.
            Conflict: voted already, or it was decided a moment ago.
        """
        at = self._clock()

        def work(tx: Tx) -> Deployment:
            seen = _locked(tx, deployment_id)
            emergency = seen.data.emergency
            if seen.state is not State.AWAITING_APPROVAL or emergency is None:
                raise _nothing_to_decide(seen)
            question = questions.question_of(self._catalog(), seen, self._service(seen), at)
            denied = question.check(person.id)
            if denied is not None:
                raise Refused(denied.text, reasons=(denied,))
            _in_time(seen, emergency, at)
            decision = "approve" if approve else "reject"
            vote = rows.Vote(person.id, emergency.subject, decision, reason, at)
            if not rows.add_vote(tx, seen.id, vote, platform):
                raise Conflict(f"You have voted on {seen.ref} already; one person counts once.")
            audit_entry = AuditEntry(at, person.id, f"deployment:{decision}", seen.ref, "accepted", "", reason)
            after = self._decided(tx, seen, emergency, question, vote)
            audit.append(tx, audit_entry)
            return after

        return self._done(await self._db.run(work))

    def _decided(
        self, tx: Tx, seen: Deployment, emergency: Emergency, question: Question, vote: rows.Vote
    ) -> Deployment:
        if vote.decision == "reject":
            note = f"{self._name(vote.person)} said no" + (f": {vote.reason}" if vote.reason else "")
            data = seen.data.model_copy(update={"ended_by": vote.person})
            return self._moves.move(tx, seen, State.REJECTED, at=vote.at, actor=vote.person, note=note, data=data)
        votes = rows.votes_of(tx, seen.id)
        ballots = [Ballot(given.person, given.decision == "approve", given.subject) for given in votes]
        approvers, approved = question.count(ballots, vote.at)
        if not approved:
            rows.touch_cards(tx, seen.id, vote.at)
            return seen
        given = emergency.model_copy(
            update={
                "approvers": approvers,
                "pass_until_at": vote.at + timedelta(minutes=emergency.pass_minutes),
            }
        )
        data = seen.data.model_copy(update={"emergency": given})
        names = ", ".join(self._name(one) for one in approvers)
        return self._moves.move(
            tx, seen, State.QUEUED, at=vote.at, actor=vote.person, note=f"approved by {names}", data=data
        )

    async def cancel(self, deployment_id: int, person: Person) -> Deployment:
        """End it: at once while it waits, by a state of its own while it works.

        Raises:
            Refused: no right to cancel it, or it has ended.
        """
        at = self._clock()

        def work(tx: Tx) -> Deployment:
            seen = _locked(tx, deployment_id)
            if seen.state.is_final:
                raise Refused(f"{seen.ref} has ended already: it is {words(seen.state)}.", code=ReasonCode.STALE)
            self._may_cancel(seen, person)
            if seen.state in (State.CANCELLING, State.ROLLING_BACK):
                raise Conflict(f"{seen.ref} is {words(seen.state)} already.")
            data = seen.data.model_copy(update={"cancelled_by": person.id, "cancelled_from": seen.state.value})
            to = State.CANCELLED if seen.state in WAITING else State.CANCELLING
            note = f"cancelled by {self._name(person.id)}"
            return self._moves.move(tx, seen, to, at=at, actor=person.id, note=note, data=data)

        return self._done(await self._db.run(work))

    async def decide(self, deployment_id: int, person: Person, wish: str) -> Deployment:
        """Answer what it waits with: its pipeline's question, or a pause at gray. Raises as `decide_gray`."""
        seen = await self._db.read(lambda tx: rows.get(tx, deployment_id))
        if seen is not None and seen.state is State.BUILDING and seen.data.asks is not None:
            return await self._decide_run(deployment_id, person, wish)
        return await self.decide_gray(deployment_id, person, wish)

    async def _decide_run(self, deployment_id: int, person: Person, wish: str) -> Deployment:
        at = self._clock()

        def work(tx: Tx) -> Deployment:
            seen = _locked(tx, deployment_id)
            asks = seen.data.asks
            if seen.state is not State.BUILDING or asks is None:
                raise Conflict(f"The pipeline of {seen.ref} asks for nothing any more.")
            if not asks.is_open:
                raise Conflict(f"Somebody was first: {seen.ref} was told to {asks.wish} already.")
            self._may_decide(seen, person, wish)
            if asks.approval and wish != "abort" and person.id == seen.requested_by:
                raise Refused(
                    f"You asked for {seen.ref}, so somebody else must let its pipeline go on.",
                    code=ReasonCode.SELF_APPROVAL,
                )
            said = "abort" if wish == "abort" else "continue"
            data = seen.data.model_copy(update={"asks": asks.model_copy(update={"wish": said, "by": person.id})})
            note = f"{said} in the pipeline by {self._name(person.id)}: {asks.text}"
            return self._moves.move(tx, seen, State.BUILDING, at=at, actor=person.id, note=note, data=data)

        return self._done(await self._db.run(work))

    async def decide_gray(self, deployment_id: int, person: Person, wish: str) -> Deployment:
        """Have it go on from its pause (`continue`), past all of them (`full`), or give it up (`abort`).

        Raises:
            Refused: no right to deploy (or, to abort, to cancel) it.
            Conflict: it stands at no pause, or somebody was first.
        """
        at = self._clock()

        def work(tx: Tx) -> Deployment:
            seen = _locked(tx, deployment_id)
            self._may_decide(seen, person, wish)
            gray = seen.data.gray
            if seen.state is not State.GRAY or gray is None:
                raise Conflict(f"{seen.ref} stands at no gray pause: it is {words(seen.state)}.")
            if gray.wish and (wish != "abort" or gray.wish == "abort"):  # What waits to go on can still be given up.
                raise Conflict(f"Somebody was first: {seen.ref} was told to {gray.wish} already.")
            decided = gray.model_copy(update={"wish": wish, "wish_stage": gray.stage, "by": person.id})
            data = seen.data.model_copy(update={"gray": decided})
            note = f"{wish} at gray by {self._name(person.id)}"
            return self._moves.move(tx, seen, State.GRAY, at=at, actor=person.id, note=note, data=data)

        return self._done(await self._db.run(work))

    # ----------------------------------------------------------------------------------------------------------------

    def _may_decide(self, seen: Deployment, person: Person, wish: str) -> None:
        if wish == "abort":
            self._may_cancel(seen, person)
            return
        request = PolicyRequest(person.id, permission_for(seen.kind), seen.service, seen.environment, seen.kind)
        verdict = decide(self._catalog(), request, Facts(), self._clock())
        blocking = [reason for reason in verdict.blocking if reason.code in NOT_YOURS]
        if blocking:
            raise Refused(blocking[0].text, reasons=tuple(blocking))

    def _may_cancel(self, seen: Deployment, person: Person) -> None:
        if person.id == seen.requested_by:
            return
        if seen.kind is Kind.BUILD:
            builds.refuse_stranger(self._catalog(), person.id, self._service(seen))
            return
        request = PolicyRequest(person.id, Permission.RELEASE_CANCEL, seen.service, seen.environment, Kind.ROLLBACK)
        verdict = decide(self._catalog(), request, Facts(), self._clock())
        blocking = [reason for reason in verdict.blocking if reason.code in NOT_YOURS]
        if blocking:
            raise Refused(blocking[0].text, reasons=tuple(blocking))

    def _decide(self, wish: Wish, subject: str, standing: Facts) -> Verdict:
        """At the instant that is wished; a lock of today says nothing about another day, it is waited for then."""
        if wish.at is not None:
            return decide(self._catalog(), _request(wish, subject), replace(standing, locks=()), wish.at)
        return decide(self._catalog(), _request(wish, subject), standing, self._clock())

    def _derivation(self, wish: Wish, subject: str, standing: Facts, verdict: Verdict) -> Derivation:
        catalog, asked = self._catalog(), _request(wish, subject)
        if wish.at is not None:
            return derive(catalog, asked, replace(standing, locks=()), wish.at, verdict, ASKED)
        return derive(catalog, asked, standing, self._clock(), verdict, ASKED)

    def _judge_again(self, seen: Deployment, standing: Facts) -> Verdict:
        return decide(self._catalog(), request_of(seen), standing, self._clock())

    def _service(self, seen: Deployment) -> Service:
        known = self._catalog().services.get(seen.service)
        return known if known is not None else plan.thaw(seen.data.plan)[0]

    def _name(self, person: str) -> str:
        known = self._catalog().people.get(person)
        return known.name if known is not None else person

    def _done(self, deployment: Deployment) -> Deployment:
        self._changed(deployment.id, deployment)
        return deployment

    def _changed(self, deployment_id: int, after: Deployment | None = None) -> None:
        self._engine.poke(deployment_id)
        self._moves.announce_changed(deployment_id, after)


NOT_YOURS = frozenset({ReasonCode.NOT_PERMITTED, ReasonCode.UNKNOWN_CALLER})


def is_open(verdict: Verdict, wish: Wish) -> bool:
    """Whether a wish leads to anything at all."""
    if wish.only_if_allowed or wish.at is not None:
        return verdict.outcome is Outcome.ALLOWED or bool(verdict.approvals)
    return verdict.outcome is not Outcome.REFUSED


def words(state: State) -> str:
    """A state as people say it."""
    return state.value.replace("_", " ")


def refusal(verdict: Verdict) -> Refused:
    """The verdict's no, with every reason and when it changes."""
    blocking = verdict.blocking
    text = " ".join(reason.text for reason in blocking) or "This is not allowed."
    return Refused(text, reasons=blocking, next_change_at=verdict.next_change_at)


def _question(wish: Wish, subject: str, verdict: Verdict, at: datetime, given: ServerPass | None) -> Emergency | None:
    """What people are asked about it; or the pass that was given on the server; or nothing."""
    if given is not None:
        return Emergency(
            rule=BREAK_GLASS,
            needed=0,
            subject=subject,
            asked_at=given.from_at,
            expires_at=given.until_at,
            pass_minutes=(given.until_at - given.from_at).total_seconds() / 60,
            pass_until_at=given.until_at,
            reason=given.reason,
            given_by=given.given_by,
        )
    return questions.ask(verdict, subject, wish.reason, at, wish.at) if verdict.approvals else None


def _request(wish: Wish, subject: str) -> PolicyRequest:
    return PolicyRequest(
        person=wish.person.id,
        permission=permission_for(wish.kind),
        service=wish.service.name,
        environment=wish.target.environment,
        kind=wish.kind,
        subject=subject,
        author=wish.author,
        size=wish.size,
    )


def _is_older_wish(other: Deployment, newer: Deployment) -> bool:
    return (
        other.id < newer.id
        and other.requested_by == newer.requested_by
        and other.state in (State.QUEUED, State.AWAITING_APPROVAL)
        and other.kind is not Kind.ROLLBACK
    )


def _code(verdict: Verdict) -> str:
    blocking = verdict.blocking
    return blocking[0].code.value if blocking else verdict.outcome.value


def _new(
    wish: Wish, digest: str, verdict: Verdict, at: datetime, given: ServerPass | None, derivation: Derivation
) -> NewDeployment:
    """Queued; or refused with the offer to ask in an emergency; or waiting for its ordinary approvals."""
    subject = release_subject(digest, wish.commit)
    state = State.QUEUED if verdict.outcome is Outcome.ALLOWED else State.REFUSED
    if verdict.approvals:
        state = State.AWAITING_APPROVAL
    data = Data(
        plan=plan.freeze(wish.service, wish.target),
        reasons=derivation.reasons,
        derivations=(derivation,),
        next_change_at=verdict.next_change_at,
        can_ask=state is State.REFUSED,
        emergency=_question(wish, subject, verdict, at, given),
        author=wish.author,
        size=wish.size,
        warnings=wish.warnings,
        not_before=wish.at,
        at_window=wish.next_window and wish.at is not None,
    )
    return NewDeployment(
        idempotency_key=wish.key,
        service=wish.service.name,
        environment=wish.target.environment,
        kind=wish.kind,
        state=state,
        requested_by=wish.person.id,
        origin=wish.origin,
        reason=wish.reason,
        release_version=wish.version,
        commit=wish.commit,
        branch=wish.branch,
        digest=digest,
        data=data,
    )


def _same_on_its_way(others: list[Deployment], wish: Wish, at: datetime) -> Deployment | None:
    """The same release for the same time; one that waits for a later hour is another."""
    for other in others:
        ending = other.state in (State.CANCELLING, State.ROLLING_BACK)
        planned = other.data.not_before if other.data.not_before is not None and other.data.not_before > at else None
        if other.commit == wish.commit and not ending and planned == wish.at:
            return other
    return None


def _locked(tx: Tx, deployment_id: int) -> Deployment:
    seen = rows.lock(tx, deployment_id)
    if seen is None:
        raise BadInput(f"There is no deployment d-{deployment_id}.", hint="/status lists what is on its way.")
    return seen


def _nothing_to_decide(seen: Deployment) -> Conflict | Refused:
    if seen.state is State.EXPIRED:
        return Refused(
            f"The question for {seen.ref} has expired; nobody can approve it any more.",
            hint=f"Ask again with /deploy {seen.service} {seen.environment}.",
            code=ReasonCode.APPROVAL_EXPIRED,
        )
    return Conflict(f"There is nothing to decide on {seen.ref}: it is {words(seen.state)}.")


def _in_time(seen: Deployment, emergency: Emergency, at: datetime) -> None:
    if at >= emergency.expires_at:
        raise Refused(
            f"The question for {seen.ref} has expired; nobody can approve it any more.",
            hint=f"Ask again with /deploy {seen.service} {seen.environment}.",
            code=ReasonCode.APPROVAL_EXPIRED,
        )
    if gating.subject_of(seen, emergency.gates, emergency.asked_at) != emergency.subject:
        raise Refused(
            f"{seen.ref} is about another build now than the one that was asked about.",
            hint="Ask again.",
            code=ReasonCode.STALE,
        )
