"""The states of a deployment, a handler each: look first, then act with the intent key, then say where to go.

Every handler may run twice, and may have been killed anywhere before: what it did outside is found again by the intent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from bot.catalog.model import Catalog, InFlight, Kind, Service, Target
from bot.catalog.repository import resolve_repo
from bot.clock import Clock
from bot.delivery.base import (
    Change,
    Delivery,
    GrayStage,
    Place,
    Running,
    SyncProgress,
    SyncRequest,
    SyncState,
    Written,
)
from bot.deployments import builds, gating, gray, limits, names, plan
from bot.deployments.derivations import STARTED, WRITTEN, derive, noted
from bot.deployments.engine import Go, Handler, Look, Outcome, Stay
from bot.deployments.facts import alerted, facts_of, request_of, standing_facts
from bot.deployments.model import (
    Ask,
    Before,
    Data,
    Deployment,
    Derivation,
    Failure,
    GateNote,
    Gray,
    PlaceNote,
    Results,
    StageNote,
    State,
    counted,
)
from bot.deployments.moment import Moment
from bot.deployments.providers import Providers
from bot.errors import ProviderRejected, ProviderUnavailable, Refused
from bot.gates.base import Health
from bot.git import display_address
from bot.pipelines.base import Pipeline, PipelineRun, RunRequest, RunState, StageState
from bot.policy.approvals import lane
from bot.policy.decide import decide, first_opening
from bot.policy.model import Outcome as PolicyOutcome
from bot.policy.model import ReasonCode, Verdict
from bot.store import deployments as rows
from bot.store import releases
from bot.store.batches import Batches
from bot.store.database import Database
from bot.store.releases import Release, Releases
from bot.times import say_when

P = TypeVar("P")

POLL = timedelta(milliseconds=300)
FAR = timedelta(hours=1)
GATE_POLL = timedelta(seconds=4)
MOVES_WITHIN = timedelta(seconds=30)
"""How long a system may take to begin to move after it was asked to go on from a pause."""
TOLD = timedelta(seconds=4)
"""Between two looks at what tells of its changes by itself."""
CLOSED = frozenset({ReasonCode.WINDOW_CLOSED, ReasonCode.FREEZE_ACTIVE, ReasonCode.CALENDAR_UNPUBLISHED})
"""What passes by itself."""
HELD = frozenset({ReasonCode.LOCKED, ReasonCode.REVIEW_OWED})
"""What a person ends; meanwhile a deployment waits."""
REVIEWED = 50
"""Polls between two looks at a proposed change, which people let in."""
MOST_UNWRITTEN = 10_000
MAX_RUNS = 3
"""How often a pipeline or a sync that was ended from outside is started again."""


class Workflow:
    """All handlers; `handlers()` is what the engine is given."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        providers: Providers,
        clock: Clock,
        directory: Path,
        poll: timedelta = POLL,
        freshen: Callable[[Service], Awaitable[None]] | None = None,
    ) -> None:
        """directory: the catalog's, against which relative repositories are resolved; poll: between two looks.

        freshen: reads who owns a service, before the rules are asked.
        """
        self._freshen = freshen
        self._db = db
        self._catalog = catalog
        self._providers = providers
        self._clock = clock
        self._directory = directory
        self._poll = poll
        self._moment = Moment(db, clock)
        self._releases = Releases(db)
        self._in_front = Batches(self._all_in_front)
        self._looks: dict[State, Look] = {
            State.QUEUED: self.queued,
            State.BUILDING: self._reuse,
            State.GATING: self._ungated,
            State.WRITING: self._read_before,
        }
        self._unwritten: dict[int, Before] = {}
        """What a deployment's last turn read, here and under the same lease: nothing of it is in Git yet."""
        self._ids: dict[str, int] = {}
        """Intent of a sync that was in work here -> deployment."""

    async def _all_in_front(self, waiting: Sequence[tuple[Deployment, datetime]]) -> list[Deployment | None]:
        at = max(now for _, now in waiting)
        return await self._db.read(lambda tx: rows.in_front(tx, [seen for seen, _ in waiting], at))

    def deployment_of(self, intent: str) -> int | None:
        """Whose sync this intent is, if it is in work here."""
        return self._ids.get(intent)

    def handlers(self) -> dict[State, Handler]:
        """State -> handler."""
        return {
            State.QUEUED: self.queued,
            State.BUILDING: self.building,
            State.GATING: self.gating,
            State.TAGGING: self.tagging,
            State.WRITING: self.writing,
            State.SYNCING: self.syncing,
            State.GRAY: self.gray,
            State.VERIFYING: self.verifying,
            State.CANCELLING: self.cancelling,
            State.ROLLING_BACK: self.rolling_back,
        }

    async def look(self, seen: Deployment) -> Outcome | None:
        """What reading alone leads to, where nothing outside is touched for it; None: the handler has to say."""
        look = self._looks.get(seen.state)
        return await look(seen) if look is not None else None

    # -- before anything outside is touched --------------------------------------------------------------------------

    async def queued(self, seen: Deployment) -> Outcome:
        """Take the target when it is free and everybody in front is gone; the rules are asked again at that moment."""
        now, planned = self._clock(), seen.data.not_before
        if planned is not None and now < planned:
            return Stay(planned, _update(seen, waiting_for=_planned(seen, planned, self._catalog().zone)))
        in_front = await self._in_front.add((seen, now))
        if in_front is not None:
            waiting = f"{in_front.ref} ({in_front.release_version}) is in front in the queue of {seen.target}"
            return Stay(self._clock() + FAR, _update(seen, waiting_for=waiting))
        if seen.kind is Kind.BUILD:
            return self._build_alone(seen)
        verdict, derivation = await self._verdict(seen, STARTED)
        codes = {reason.code for reason in verdict.blocking}
        if codes and codes <= HELD:
            return self._wait_for(seen, verdict)
        judged = replace(seen, data=noted(seen.data, derivation))
        if verdict.outcome is not PolicyOutcome.ALLOWED:
            later = await self._next_window(seen, verdict)
            if later is not None:
                return later
            return Go(State.FAILED, _stopped_by_policy(judged, verdict), note="the rules changed while it waited")
        limited = bool(self._catalog().limits)
        admit = (lambda tx: limits.no_room(tx, self._catalog(), seen)) if limited else None
        return Go(State.BUILDING, judged.data, admit=admit)

    def _build_alone(self, seen: Deployment) -> Go:
        """Windows and freezes are about releases, and this is none; the right to build is asked again."""
        service, _ = plan.thaw(seen.data.plan)
        try:
            builds.refuse_stranger(self._catalog(), seen.requested_by, service)
        except Refused as error:
            data = _update(seen, failure=Failure(step="policy", message=error.sentence()))
            return Go(State.FAILED, data, note="the rules changed while it waited")
        return Go(State.BUILDING, seen.data)

    async def _next_window(self, seen: Deployment, verdict: Verdict) -> Stay | None:
        """For one that was asked for the next window, whenever that is: the one after this."""
        if not seen.data.at_window or not {reason.code for reason in verdict.blocking} <= CLOSED:
            return None
        at = self._clock()
        standing = await self._db.read(lambda tx: standing_facts(tx, at))
        opens = first_opening(self._catalog(), request_of(seen), facts_of(seen, replace(standing, locks=())), at)
        if opens is None:
            return None
        waiting = _planned(seen, opens, self._catalog().zone)
        return Stay(opens, _update(seen, not_before=opens, waiting_for=waiting))

    # -- build -------------------------------------------------------------------------------------------------------

    async def building(self, seen: Deployment) -> Outcome:
        """Reuse the release of this commit, or run the pipeline once and make one."""
        pipeline = self._pipeline(seen)
        if seen.data.check:
            return await self._run(seen, pipeline)
        known = await self._known_release(seen)
        if known is not None:
            if await self._is_there(seen, known):
                return _reused(seen, known)
            await self._db.run(lambda tx: releases.forget(tx, seen.service, seen.commit))
        if seen.kind is Kind.PROMOTION:  # The same image, or none: another build of the same commit is another image.
            raise ProviderRejected("The image that was to be promoted is gone.", hint="Deploy in front, then promote.")
        return await self._run(seen, pipeline)

    async def _reuse(self, seen: Deployment) -> Outcome | None:
        """Whether nothing has to be built."""
        if seen.data.check or seen.data.run_id:
            return None
        known = await self._known_release(seen)
        return _reused(seen, known) if known is not None and await self._is_there(seen, known) else None

    async def _known_release(self, seen: Deployment) -> Release | None:
        """What was built of this commit; of a promotion only the very image that was promoted."""
        known = await self._releases.by_commit(seen.service, seen.commit)
        return known if known is None or seen.kind is not Kind.PROMOTION or known.digest == seen.digest else None

    async def _is_there(self, seen: Deployment, known: Release) -> bool:
        return not known.location or await self._pipeline(seen).holds(known.location)

    async def _run(self, seen: Deployment, pipeline: Pipeline) -> Outcome:
        request = self._run_request(seen)
        run = await pipeline.find(request) or await pipeline.trigger(request)
        return await self._after_run(seen, pipeline, request, run)

    async def _after_run(self, seen: Deployment, pipeline: Pipeline, request: RunRequest, run: PipelineRun) -> Outcome:
        data = _noted(seen, run)
        if not run.state.is_final:
            if data.asks is not None and data.asks.wish and not data.asks.handed:
                return await self._answered(seen, pipeline, request, data)
            return Stay(self._clock() + (run.look_again or self._poll), data)
        if run.state is RunState.SUCCEEDED:
            return await self._released(seen, run, data)
        if run.state is RunState.INTERRUPTED and seen.data.run_attempt < MAX_RUNS:
            again = {"run_attempt": seen.data.run_attempt + 1, "stages": (), "percent": 0}
            return Stay(self._clock(), data.model_copy(update=again))
        found = await pipeline.failure(request)
        failure = Failure(step="build", message=found.message, lines=found.lines[:20], tests=found.tests[:20])
        return Go(State.FAILED, data.model_copy(update={"failure": failure}), note=found.message)

    async def _answered(self, seen: Deployment, pipeline: Pipeline, request: RunRequest, data: Data) -> Outcome:
        """Hand on what a person said to the question of the run; one that waits no more was answered elsewhere."""
        asks = data.asks
        assert asks is not None
        by = self._name_of(asks.by)
        taken = await pipeline.decide(request, asks.id, go_on=asks.wish == "continue", by=by)
        handed = asks.model_copy(update={"handed": True, "taken": taken})
        data = data.model_copy(update={"asks": handed, "waiting_for": ""})
        return Stay(self._clock() + self._poll, data)

    async def _released(self, seen: Deployment, run: PipelineRun, data: Data) -> Outcome:
        if seen.data.check:
            return Go(State.SUCCEEDED, data.model_copy(update={"percent": 100}))
        if run.artifact is None:
            failure = Failure(step="build", message="The pipeline succeeded but left no artifact.")
            return Go(State.FAILED, data.model_copy(update={"failure": failure}))
        made = Release(
            service=seen.service,
            commit=seen.commit,
            version=seen.release_version,
            branch=seen.branch,
            digest=run.artifact.digest,
            location=run.artifact.location,
            run_id=run.id,
            created_at=self._clock(),
        )
        kept = await self._db.run(lambda tx: releases.put(tx, made))
        data = data.model_copy(update={"artifact": kept.location, "percent": 100, **_NOT_ASKED})
        return Go(_after_build(seen), data, digest=kept.digest)

    async def gating(self, seen: Deployment) -> Outcome:
        """Ask every gate; one that does not pass, or cannot tell, stops the release unless the emergency lane says go.

        A rollback is not asked: what it brings back ran here before.
        """
        ungated = await self._ungated(seen)
        if ungated is not None:
            return ungated
        service, target = plan.thaw(seen.data.plan)
        at = self._clock()
        since = seen.data.gating_since_at or at
        request = await self._db.read(lambda tx: gating.request_of(tx, seen, service, target, at))
        notes = await gating.ask_gates(self._providers.gates, request, seen.data.gates)
        notes = gating.overridden(seen, notes, self._catalog(), at)
        data = _update(seen, gates=notes, gating_since_at=since)
        stopping = [note for note in gating.closed(notes) if not note.overridden_by]
        if stopping:
            rule = lane(self._catalog(), service, seen.environment, seen.kind, seen.requested_by)
            failed = {"failure": gating.failure_of(stopping), "can_ask": rule is not None}
            return Go(State.FAILED, data.model_copy(update=failed), note=f"gates: {gating.said(notes)}")
        waiting = [note for note in notes if note.waiting]
        if waiting:
            # Since when is in `gating_since_at`: patience with systems that are not reached counts from elsewhere.
            told = {"waiting_for": " ".join(note.message for note in waiting)}
            return Stay(at + GATE_POLL, data.model_copy(update=told))
        return Go(_after_gates(seen), data, note=self._said_of_gates(notes))

    async def _ungated(self, seen: Deployment) -> Outcome | None:
        _, target = plan.thaw(seen.data.plan)
        return None if target.gates and seen.kind is not Kind.ROLLBACK else Go(_after_gates(seen), seen.data)

    def _said_of_gates(self, notes: Sequence[GateNote]) -> str:
        """For the record: what every gate said, and who let the release on all the same."""
        by = {name: note.overridden_by for note in notes if note.overridden_by for name in (note.gate,)}
        names = ", ".join(dict.fromkeys(self._name_of(one) for people in by.values() for one in people))
        over = f"; {', '.join(by)} overridden by {names}" if by else ""
        return f"gates: {gating.said(notes)}{over}"

    async def tagging(self, seen: Deployment) -> Outcome:
        """A promoted image gets its further names, and its commit the tag; all of it may be done twice."""
        stopped, _ = await self._hold_or_stop(seen)
        if stopped is not None:
            return stopped
        wanted = names.of(seen)
        if wanted.image:
            images = _set_up(self._providers.images, "image registry")
            await images.tag(wanted.image, seen.digest, wanted.tags, wanted.source)
        if wanted.git_tag:
            service, _ = plan.thaw(seen.data.plan)
            repo = resolve_repo(self._directory, service.repo)
            message = f"{seen.service} {seen.release_version} promoted to {seen.environment}\n\n{seen.digest}"
            tagger = _set_up(self._providers.tagger, "source")
            await tagger.tag(repo, seen.commit, wanted.git_tag, message, seen.created_at)
        return Go(State.WRITING, _update(seen, tagged=wanted.said), note=f"named {', '.join(wanted.said)}")

    # -- Git ---------------------------------------------------------------------------------------------------------

    async def writing(self, seen: Deployment) -> Outcome:
        """Ask the rules again, remember what was there, and commit the version once."""
        before = seen.data.before
        if before is None:
            return await self._remember_before(seen)
        change = self._change(seen)
        if self._unwritten.pop(seen.id, None) is not before:
            found = await self._providers.writer.find(change)
            if found is not None:
                return self._written(seen, found)
        stopped, _ = await self._hold_or_stop(seen)
        if stopped is not None:
            await self._hold_proposal(change, stopped)
            return stopped
        return await self._write(seen, change)

    async def _read_before(self, seen: Deployment) -> Outcome | None:
        return await self._remember_before(seen) if seen.data.before is None else None

    async def _remember_before(self, seen: Deployment) -> Outcome:
        """What the configuration repository says before we write: the intent, on record before the deed."""
        stopped, derivation = await self._hold_or_stop(seen)
        if stopped is not None:
            return stopped
        change = self._change(seen)
        old = await self._providers.writer.read(change.gitops, change.repo, seen.service, seen.environment)
        judged = replace(seen, data=noted(seen.data, derivation))
        there = _before(old)
        if len(self._unwritten) < MOST_UNWRITTEN:
            self._unwritten[seen.id] = there
        return Stay(self._clock(), _update(judged, before=there, waiting_for="", waiting_since_at=None))

    async def _hold_proposal(self, change: Change, stopped: Outcome) -> None:
        """Nobody should let in what must wait, nor what is over."""
        if isinstance(stopped, Go):
            await self._providers.writer.withdraw(change)
        else:
            await self._providers.writer.hold(change, stopped.data.waiting_for)

    async def _write(self, seen: Deployment, change: Change) -> Outcome:
        """The rules are asked once more just before the push: it may have waited in the writer's queue."""

        async def still_wanted() -> None:
            now = await self._moment.standing()
            verdict = decide(self._catalog(), request_of(seen), facts_of(seen, now.facts), self._clock())
            if seen.id not in now.writing or not _may_go_on(seen, verdict):
                raise Refused("The rules, or somebody's wish, have changed meanwhile.")

        try:
            return self._written(seen, await self._providers.writer.write(change, still_wanted))
        except Refused:
            return Stay(self._clock(), seen.data)  # The next turn says by which rule.

    def _written(self, seen: Deployment, written: Written) -> Outcome:
        if written.waiting:
            return Stay(self._clock() + self._poll * REVIEWED, _update(seen, waiting_for=written.waiting))
        data = _update(seen, revision=written.revision, git_changed=written.changed)
        return Go(State.SYNCING, data, note=f"configuration commit {written.revision[:12]}")

    async def _hold_or_stop(self, seen: Deployment) -> tuple[Outcome | None, Derivation]:
        """What the rules say now, before the first irreversible step: None to go on; and why."""
        verdict, derivation = await self._verdict(seen, WRITTEN)
        if _may_go_on(seen, verdict):
            return None, derivation
        codes = {reason.code for reason in verdict.blocking}
        passing = _is_ordinary(seen) or codes <= HELD
        if passing and codes <= {ReasonCode.WINDOW_CLOSED, ReasonCode.FREEZE_ACTIVE} | HELD:
            return self._wait_for(seen, verdict), derivation
        judged = replace(seen, data=noted(seen.data, derivation))
        return Go(State.FAILED, _stopped_by_policy(judged, verdict), note="stopped by the rules"), derivation

    def _wait_for(self, seen: Deployment, verdict: Verdict) -> Stay:
        """Stay until the rules may say something else; whoever changes them wakes it at once."""
        text = " ".join(reason.text for reason in verdict.blocking)
        until = min(verdict.next_change_at or self._clock() + FAR, self._clock() + timedelta(minutes=1))
        return Stay(until, _update(seen, waiting_for=text))

    # -- bring it to run ---------------------------------------------------------------------------------------------

    async def syncing(self, seen: Deployment) -> Outcome:
        """Have the delivery bring exactly the written revision to run."""
        delivery, request = self._delivery(seen), self._sync_request(seen)
        progress = await delivery.look(request)
        if progress is None or progress.state is SyncState.PENDING:  # Asking again starts nothing twice.
            progress = await delivery.sync(request)
        if seen.data.sync_intent != request.intent:
            seen = replace(seen, data=_update(seen, sync_intent=request.intent))
        return await self._after_sync(seen, delivery, request, progress)

    async def _after_sync(
        self, seen: Deployment, delivery: Delivery, request: SyncRequest, progress: SyncProgress
    ) -> Outcome:
        data = _synced(seen, progress)
        if progress.state is SyncState.SUCCEEDED:
            return Go(State.VERIFYING, data.model_copy(update={"deadline_at": self._deadline(seen)}))
        if progress.state is SyncState.SUSPENDED:
            return await self._paused(seen, data, delivery, request)
        if progress.state is SyncState.FAILED or self._interrupted_too_often(seen, progress):
            return await self._deploy_failed(seen, "deploy", delivery, request, progress.message)
        if progress.state is SyncState.INTERRUPTED:
            return Stay(self._clock(), data.model_copy(update={"sync_attempt": seen.data.sync_attempt + 1}))
        return Stay(self._clock() + (max(TOLD, self._poll) if progress.told else self._poll), data)

    def _interrupted_too_often(self, seen: Deployment, progress: SyncProgress) -> bool:
        return progress.state is SyncState.INTERRUPTED and seen.data.sync_attempt >= MAX_RUNS

    # -- gray: a part of the traffic ---------------------------------------------------------------------------------

    async def _paused(self, seen: Deployment, data: Data, delivery: Delivery, request: SyncRequest) -> Outcome:
        """It stands at a pause: wait there, unless it is a way back, which nobody should wait for."""
        stage = await delivery.gray_stage(request)
        if stage is None:
            return Stay(self._clock() + self._poll, data)
        if seen.kind is Kind.ROLLBACK:
            await delivery.continue_gray(request, full=True)
            return Stay(self._clock() + self._poll, data)
        before = seen.data.gray or Gray()
        is_same = before.stage == stage.id
        if is_same and before.asked_at is not None and self._clock() - before.asked_at < MOVES_WITHIN:
            return Stay(self._clock() + self._poll, data)  # It was asked to go on and has not begun to.
        return self._arrived(seen, data, stage, before.number + (not is_same))

    def _arrived(self, seen: Deployment, data: Data, stage: GrayStage, number: int) -> Go:
        """At a pause; one that is not the catalog's is told."""
        now = gray.at_pause(stage, number, seen, self._clock())
        said = gray.differing(stage, number, plan.thaw(seen.data.plan)[1].gray.weights)
        warnings = data.warnings if not said or said in data.warnings else (*data.warnings, said)
        return Go(State.GRAY, data.model_copy(update={"gray": now, "warnings": warnings}), note=gray.where(now))

    async def gray(self, seen: Deployment) -> Outcome:
        """Wait at the pause for a person, the timer or the metrics; each of them may also end it."""
        delivery, request = self._delivery(seen), self._sync_request(seen)
        at_pause = seen.data.gray or Gray()
        progress = await delivery.look(request)
        if at_pause.wish == "abort":
            return await self._abort(seen, delivery, request, f"Aborted at gray by {self._name_of(at_pause.by)}.")
        if progress is not None and progress.state is SyncState.FAILED:
            return await self._deploy_failed(seen, "gray", delivery, request, progress.message)
        stage = await delivery.gray_stage(request)
        if progress is None or progress.state is not SyncState.SUSPENDED or stage is None:
            return Go(State.SYNCING, _update(seen, gray=gray.asked(at_pause, self._clock())), note="it goes on")
        if stage.id != at_pause.stage:
            return self._arrived(seen, seen.data, stage, at_pause.number + 1)
        if at_pause.wish and at_pause.wish_stage == stage.id:
            return await self._go_on(seen, delivery, request, at_pause)
        return await self._watch_gray(seen, delivery, request, at_pause)

    async def _go_on(self, seen: Deployment, delivery: Delivery, request: SyncRequest, at_pause: Gray) -> Outcome:
        """More traffic cannot be taken back unseen: the rules are asked again."""
        stopped, _ = await self._hold_or_stop(seen)
        if isinstance(stopped, Go):
            failure = stopped.data.failure
            return await self._abort(seen, delivery, request, failure.message if failure else "Stopped by the rules.")
        if stopped is not None:
            return await self._watch_gray(seen, delivery, request, at_pause, stopped)
        await delivery.continue_gray(request, full=at_pause.wish == "full")
        data = _update(seen, gray=gray.asked(at_pause, self._clock()), waiting_for="", waiting_since_at=None)
        return Go(State.SYNCING, data, actor=at_pause.by or "slipway", note=f"{at_pause.wish} from gray")

    async def _watch_gray(
        self, seen: Deployment, delivery: Delivery, request: SyncRequest, at_pause: Gray, held: Stay | None = None
    ) -> Outcome:
        """Measure, and give up or go on by itself. held: it was told to go on, but the rules say wait."""
        _, target = plan.thaw(seen.data.plan)
        at_pause = await self._measured(seen, at_pause)
        if at_pause.health == Health.BAD:
            why = f"The metrics are bad at gray: {at_pause.said}"
            return await self._abort(_breached(seen), delivery, request, why)
        now = self._clock()
        since = at_pause.since_at or now
        if now - since >= target.gray.timeout:
            return await self._abort(seen, delivery, request, "Nobody decided at gray in time.")
        if held is not None:
            until = min(held.until, now + target.gray.interval, since + target.gray.timeout)
            return Stay(until, held.data.model_copy(update={"gray": at_pause}))
        due = gray.due_at(target.gray, at_pause)
        if due is not None and now >= due and at_pause.health == Health.GOOD:
            wish = at_pause.model_copy(update={"wish": "continue", "wish_stage": at_pause.stage, "by": ""})
            return Stay(now, _update(seen, gray=wish))
        until = min(at for at in (now + target.gray.interval, due, since + target.gray.timeout) if at and at > now)
        return Stay(until, _update(seen, gray=at_pause))

    async def _measured(self, seen: Deployment, known: Gray) -> Gray:
        """What the metrics say, asked at most once an interval; without rules all is well."""
        service, target = plan.thaw(seen.data.plan)
        now = self._clock()
        if not target.gray.metrics:
            return known.model_copy(update={"health": Health.GOOD.value})
        if known.checked_at is not None and now - known.checked_at < target.gray.interval:
            return known
        if self._providers.metrics is None:
            said = "no Prometheus is set up"
            return known.model_copy(update={"health": Health.UNKNOWN.value, "said": said, "checked_at": now})
        before = seen.data.before or Before()
        release = {"version": seen.release_version, "digest": seen.digest}
        release |= {"stable": before.version, "stable_digest": before.digest}
        result = await self._providers.metrics.check(service, target, release, target.gray.metrics)
        return known.model_copy(update={"health": result.health.value, "said": result.message, "checked_at": now})

    async def _abort(self, seen: Deployment, delivery: Delivery, request: SyncRequest, why: str) -> Outcome:
        """Traffic back at once, then Git, so that the truth agrees."""
        with contextlib.suppress(ProviderRejected):  # It stands at no pause any more; Git decides.
            await delivery.abort_gray(request)
        data = _update(seen, failure=Failure(step="gray", message=why), waiting_for="", waiting_since_at=None)
        return self._back_or_failed(seen, data, why)

    async def verifying(self, seen: Deployment) -> Outcome:
        """Done means seen running: the wanted digest, healthy without a break for the settling time."""
        delivery = self._delivery(seen)
        service, target = plan.thaw(seen.data.plan)
        running = await delivery.running(service, target)
        now = self._clock()
        if _is_wanted(running, seen.digest):
            return await self._settling(seen, running, target, now)
        if now >= (seen.data.deadline_at or now):
            what = _what_runs(running, seen.digest)
            return await self._deploy_failed(seen, "verify", delivery, self._sync_request(seen), what)
        data = _update(seen, healthy_since_at=None, running_message=_what_runs(running, seen.digest))
        return Stay(now + target.verify.interval, data)

    async def _settling(self, seen: Deployment, running: Running | None, target: Target, now: datetime) -> Outcome:
        since = seen.data.healthy_since_at or now
        settle = target.verify.settle
        url = running.url if running is not None and running.url else target.url
        data = _update(seen, url=url, running_message="")
        alarm = await self._db.read(lambda tx: alerted(tx, seen, now))
        if alarm and now >= self._end(seen):
            broken = _breached(seen)
            return await self._deploy_failed(broken, "verify", self._delivery(seen), self._sync_request(seen), alarm)
        if alarm:
            held = data.model_copy(update={"running_message": alarm, "healthy_since_at": None})
            return Stay(now + target.verify.interval, held)
        if target.gray.metrics and target.gray.settle:
            settle = max(settle, target.gray.settle)
            measured = await self._measured(seen, seen.data.gray or Gray())
            data = data.model_copy(update={"gray": measured, "running_message": measured.said})
            if measured.health == Health.BAD or (measured.health != Health.GOOD and now >= self._end(seen)):
                what = f"It runs, but the metrics are {measured.health}: {measured.said}"
                broken = _breached(seen)
                return await self._deploy_failed(broken, "verify", self._delivery(seen), self._sync_request(seen), what)
            since = since if measured.health == Health.GOOD else now  # No data is not healthy.
        data = data.model_copy(update={"healthy_since_at": since})
        if now - since >= settle:
            return Go(State.SUCCEEDED, data)
        return Stay(max(now, min(now + target.verify.interval, since + settle)), data)

    def _end(self, seen: Deployment) -> datetime:
        return seen.data.deadline_at or self._clock()

    async def _deploy_failed(
        self, seen: Deployment, step: str, delivery: Delivery, request: SyncRequest, what: str
    ) -> Outcome:
        evidence = await delivery.failure(request)
        message = " ".join(dict.fromkeys(part for part in (what, evidence.message) if part))
        failure = Failure(step=step, message=message, lines=evidence.lines[:20])
        return self._back_or_failed(seen, _update(seen, failure=failure), message)

    def _back_or_failed(self, seen: Deployment, data: Data, note: str) -> Go:
        _, target = plan.thaw(seen.data.plan)
        before = seen.data.before
        if target.rollback_on_failure and before is not None and before.digest not in ("", seen.digest):
            undo = {"undo": "write", "deadline_at": None, "sync_attempt": 1, "healthy_since_at": None}
            return Go(State.ROLLING_BACK, data.model_copy(update=undo), note=note)
        return Go(State.FAILED, data, note=note)

    # -- the way back ------------------------------------------------------------------------------------------------

    async def cancelling(self, seen: Deployment) -> Outcome:
        """End what runs, find out how far it came, and go back if Git was written."""
        came_from = State(seen.data.cancelled_from or State.BUILDING)
        if came_from is State.BUILDING:
            return await self._cancel_run(seen)
        if not seen.data.revision and seen.data.before is not None:
            await self._providers.writer.withdraw(self._change(seen))
        written = seen.data.revision or (
            seen.data.before is not None and await self._providers.writer.find(self._change(seen))
        )
        if not written:
            return Go(State.CANCELLED, seen.data, actor=seen.data.cancelled_by)
        delivery, request = self._delivery(seen), self._sync_request(seen)
        progress = await delivery.look(request)
        if progress is not None and progress.state in (SyncState.PENDING, SyncState.RUNNING):
            await delivery.cancel(request)
            return Stay(self._clock() + self._poll, seen.data)
        if progress is not None and progress.state is SyncState.SUSPENDED:
            with contextlib.suppress(ProviderRejected):
                await delivery.abort_gray(request)
        outcome = self._back_or_failed(seen, seen.data, f"cancelled by {seen.data.cancelled_by}")
        if outcome.to is State.FAILED:  # nothing to go back to: it stays as it is
            return Go(State.CANCELLED, seen.data, actor=seen.data.cancelled_by)
        return outcome

    async def _cancel_run(self, seen: Deployment) -> Outcome:
        pipeline, request = self._pipeline(seen), self._run_request(seen)
        run = await pipeline.find(request)
        if run is not None and not run.state.is_final:
            await pipeline.cancel(request)
            return Stay(self._clock() + self._poll, _noted(seen, run))
        data = _noted(seen, run) if run is not None else seen.data
        ended = State.SUPERSEDED if seen.data.given_up else State.CANCELLED
        return Go(ended, data, note=seen.data.given_up, actor=seen.data.cancelled_by)

    async def rolling_back(self, seen: Deployment) -> Outcome:
        """Write the version from before, bring it to run and see it run; a state like any other."""
        if seen.data.undo == "write":
            change = self._undo_change(seen)
            written = await self._providers.writer.find(change) or await self._providers.writer.write(change)
            if written.waiting:
                return Stay(self._clock() + self._poll * REVIEWED, _update(seen, waiting_for=written.waiting))
            return Stay(self._clock(), _update(seen, undo="sync", undo_revision=written.revision))
        delivery, request = self._delivery(seen), self._undo_request(seen)
        if seen.data.undo == "sync":
            return await self._undo_sync(seen, delivery, request)
        return await self._undo_verify(seen, delivery)

    async def _undo_sync(self, seen: Deployment, delivery: Delivery, request: SyncRequest) -> Outcome:
        known = await self._releases.by_name(seen.service, request.digest)
        if known is not None and not request.artifact:
            request = self._undo_request(seen, known.location, known.commit)
        progress = await delivery.look(request)
        if progress is None or progress.state is SyncState.PENDING:
            progress = await delivery.sync(request)
        if progress.state is SyncState.SUSPENDED:  # Nobody waits at gray on the way back.
            await delivery.continue_gray(request, full=True)
        if progress.state is SyncState.SUCCEEDED:
            return Stay(self._clock(), _update(seen, undo="verify", deadline_at=self._deadline(seen)))
        if progress.state is SyncState.FAILED or self._interrupted_too_often(seen, progress):
            raise ProviderRejected(progress.message or "the earlier version could not be deployed.")
        if progress.state is SyncState.INTERRUPTED:
            return Stay(self._clock(), _update(seen, sync_attempt=seen.data.sync_attempt + 1))
        return Stay(self._clock() + self._poll, seen.data)

    async def _undo_verify(self, seen: Deployment, delivery: Delivery) -> Outcome:
        service, target = plan.thaw(seen.data.plan)
        running = await delivery.running(service, target)
        wanted = seen.data.before.digest if seen.data.before else ""
        now = self._clock()
        if _is_wanted(running, wanted):
            url = running.url if running is not None else ""
            actor = seen.data.cancelled_by or "slipway"
            return Go(State.ROLLED_BACK, _update(seen, url=url), actor=actor)
        if now >= (seen.data.deadline_at or now):
            raise ProviderRejected(_what_runs(running, wanted))
        return Stay(now + target.verify.interval, seen.data)

    # -- what the steps are made of ----------------------------------------------------------------------------------

    async def _verdict(self, seen: Deployment, step: str) -> tuple[Verdict, Derivation]:
        service = self._catalog().services.get(seen.service)
        if self._freshen is not None and service is not None:
            await self._freshen(service)
        standing, at = await self._moment.facts(), self._clock()
        catalog = self._catalog()
        asked, facts = request_of(seen), facts_of(seen, standing)
        verdict = decide(catalog, asked, facts, at)
        lacking = {reason.code for reason in verdict.blocking} - CLOSED - HELD
        if catalog.untold and lacking:
            # Just after a start, or while a chat is away: rights are not gone because nobody can tell.
            names = ", ".join(sorted(catalog.untold))
            raise ProviderUnavailable(f"The chat does not tell now who is in {names}.")
        return verdict, derive(catalog, asked, facts, at, verdict, step)

    def _deadline(self, seen: Deployment) -> datetime:
        _, target = plan.thaw(seen.data.plan)
        return self._clock() + target.verify.timeout + max(target.verify.settle, target.gray.settle)

    def _pipeline(self, seen: Deployment) -> Pipeline:
        _, target = plan.thaw(seen.data.plan)
        return _named(self._providers.pipelines, target.pipeline.provider, "pipeline")

    def _delivery(self, seen: Deployment) -> Delivery:
        _, target = plan.thaw(seen.data.plan)
        return _named(self._providers.deliveries, target.delivery.provider, "delivery")

    def _run_request(self, seen: Deployment) -> RunRequest:
        service, target = plan.thaw(seen.data.plan)
        return RunRequest(
            intent=f"{seen.intent}-r{seen.data.run_attempt}",
            service=service,
            target=target,
            repo=resolve_repo(self._directory, service.repo),
            commit=seen.commit,
            branch=seen.branch,
            version=seen.release_version,
        )

    def _sync_request(self, seen: Deployment) -> SyncRequest:
        service, target = plan.thaw(seen.data.plan)
        self._remember(f"{seen.intent}-s{seen.data.sync_attempt}", seen.id)
        return SyncRequest(
            intent=f"{seen.intent}-s{seen.data.sync_attempt}",
            service=service,
            target=target,
            revision=seen.data.revision,
            version=seen.release_version,
            digest=seen.digest,
            artifact=seen.data.artifact,
            commit=seen.commit,
        )

    def _remember(self, intent: str, deployment_id: int) -> None:
        self._ids.pop(intent, None)
        self._ids[intent] = deployment_id
        if len(self._ids) > 5000:
            del self._ids[next(iter(self._ids))]

    def _undo_request(self, seen: Deployment, artifact: str = "", commit: str = "") -> SyncRequest:
        service, target = plan.thaw(seen.data.plan)
        before = seen.data.before or Before()
        return SyncRequest(
            intent=f"{seen.intent}-u{seen.data.sync_attempt}",
            service=service,
            target=target,
            revision=seen.data.undo_revision,
            version=before.version,
            digest=before.digest,
            artifact=artifact,
            commit=commit or before.commit,
        )

    def _change(self, seen: Deployment) -> Change:
        service, target = plan.thaw(seen.data.plan)
        verb = "Roll back" if seen.kind is Kind.ROLLBACK else "Deploy"
        return Change(
            intent=seen.intent,
            service=seen.service,
            environment=seen.environment,
            gitops=target.gitops,
            repo=resolve_repo(self._directory, target.gitops.repo),
            version=seen.release_version,
            digest=seen.digest,
            commit=seen.commit,
            subject=f"{verb} {seen.service} {seen.release_version} to {seen.environment}",
            trailers=self._trailers(seen, service),
            expected_digest=seen.data.before.digest if seen.data.before else None,
            weights=target.gray.weights,
        )

    def _undo_change(self, seen: Deployment) -> Change:
        _, target = plan.thaw(seen.data.plan)
        before = seen.data.before or Before()
        return Change(
            intent=f"{seen.intent}-undo",
            service=seen.service,
            environment=seen.environment,
            gitops=target.gitops,
            repo=resolve_repo(self._directory, target.gitops.repo),
            version=before.version,
            digest=before.digest,
            commit=before.commit,
            subject=f"Undo {seen.service} {seen.release_version} in {seen.environment}: back to {before.version}",
            trailers=(("Slipway-Deployment", seen.ref), ("Slipway-Undoes", seen.intent)),
            expected_digest=seen.digest,
            weights=target.gray.weights,
        )

    def _trailers(self, seen: Deployment, service: Service) -> tuple[tuple[str, str], ...]:
        approvers = seen.data.emergency.approvers if seen.data.emergency else ()
        trailers = [
            ("Slipway-Deployment", seen.ref),
            ("Requested-by", self._name(seen.requested_by)),
            *(("Approved-by", self._name(person)) for person in approvers),
            ("Release", f"{service.name} {seen.release_version}"),
            ("Source-commit", seen.commit),
        ]
        if seen.data.run_id:
            trailers.append(("Pipeline-run", seen.data.run_id))
        trailers += [("Gate-overridden", note.gate) for note in seen.data.gates if note.overridden_by]
        return (*trailers, *self._reference(seen, service))

    def _reference(self, seen: Deployment, service: Service) -> Iterator[tuple[str, str]]:
        """What Argo CD shows beside a revision: the commit of the service itself, by whom, and where it is."""
        author = self._catalog().people.get(seen.data.author)
        yield "Argocd-reference-commit-sha", seen.commit
        if author is not None and author.email:
            yield "Argocd-reference-commit-author", f"{author.name} <{author.email}>"
        if service.repo.startswith(("https://", "http://", "ssh://")):
            yield "Argocd-reference-commit-repourl", display_address(service.repo)

    def _name_of(self, person: str) -> str:
        known = self._catalog().people.get(person)
        return known.name if known is not None else person

    def _name(self, person: str) -> str:
        known = self._catalog().people.get(person)
        return f"{known.name} <{known.email}>" if known is not None and known.email else person


def _planned(seen: Deployment, at: datetime, zone: str) -> str:
    return f"the next window, {say_when(at, zone)}" if seen.data.at_window else f"its hour, {say_when(at, zone)}"


def _after_build(seen: Deployment) -> State:
    """Where a built release goes on; one that was only to be built is done."""
    return State.SUCCEEDED if seen.kind is Kind.BUILD else State.GATING


def _reused(seen: Deployment, known: Release) -> Go:
    data = _update(seen, reused=not seen.data.run_id, artifact=known.location, percent=100, **_NOT_ASKED)
    return Go(_after_build(seen), data, digest=known.digest)


_NOT_ASKED: Mapping[str, Any] = {"gates": (), "gating_since_at": None}
"""Gates speak about one build; what they said of another counts no more."""


def _update(seen: Deployment, **values: object) -> Data:
    return seen.data.model_copy(update=values)


def _breached(seen: Deployment) -> Deployment:
    """Metrics or alerts spoke against what runs: the target is locked afterwards, also where nothing goes back."""
    return replace(seen, data=_update(seen, breached=True))


def _noted(seen: Deployment, run: PipelineRun) -> Data:
    # How long each took is kept when it is over, so that a running clock writes nothing.
    stages = tuple(
        StageNote(name=one.name, state=one.state.value, seconds=one.seconds if run.state.is_final else None)
        for one in run.stages
    )
    asks = _asked(seen, run)
    waiting = run.message if not run.state.is_final else ""
    if waiting and asks is not None and asks.handed and not asks.taken:
        waiting = f"{waiting} It did not take Slipway's answer; answer it there."
    return _update(
        seen,
        stages=stages,
        percent=run.percent,
        run_id=run.id,
        run_url=run.url,
        waiting_for=waiting,
        waiting_since_at=None,
        asks=asks,
        results=Results(**asdict(run.results)) if run.results is not None else None,
    )


def _asked(seen: Deployment, run: PipelineRun) -> Ask | None:
    """The run's question; what was said to it is kept as long as it is the same."""
    if run.asks is None:
        return None
    before = seen.data.asks
    if before is not None and before.id == run.asks.id:
        return before
    return Ask(id=run.asks.id, text=run.asks.text, approval=run.asks.approval)


def _is_ordinary(seen: Deployment) -> bool:
    """Not by the emergency lane."""
    asked = seen.data.emergency
    return asked is None or bool(asked.approvals)


def _may_go_on(seen: Deployment, verdict: Verdict) -> bool:
    """Whether what is in flight may take its next step: a window that closed meanwhile lets it finish, if so set."""
    if verdict.outcome is PolicyOutcome.ALLOWED:
        return True
    if not _is_ordinary(seen) or {reason.code for reason in verdict.blocking} != {ReasonCode.WINDOW_CLOSED}:
        return False
    return plan.thaw(seen.data.plan)[1].in_flight is InFlight.FINISH


def _synced(seen: Deployment, progress: SyncProgress) -> Data:
    """What the card shows of a sync; of several clusters, each."""
    return _update(
        seen,
        sync_message=progress.message,
        sync_percent=progress.percent,
        sync_applied=progress.applied,
        sync_healthy=progress.healthy,
        sync_total=progress.total,
        places=tuple(_place_note(place) for place in progress.places),
    )


def _place_note(place: Place) -> PlaceNote:
    detail = place.message
    if place.total and place.state is not SyncState.SUCCEEDED:
        detail = f"{counted(place.applied, place.healthy, place.total)} {detail}".strip()
    return PlaceNote(name=place.name, state=_STAGES[place.state].value, detail=detail)


_STAGES = {
    SyncState.PENDING: StageState.PENDING,
    SyncState.RUNNING: StageState.RUNNING,
    SyncState.SUSPENDED: StageState.RUNNING,
    SyncState.SUCCEEDED: StageState.SUCCEEDED,
    SyncState.FAILED: StageState.FAILED,
    SyncState.INTERRUPTED: StageState.PENDING,
}


def _before(old: Written) -> Before:
    return Before(version=old.version, digest=old.digest, commit=old.commit, revision=old.revision)


def _is_wanted(running: Running | None, digest: str) -> bool:
    return running is not None and running.healthy and running.digest == digest


def _what_runs(running: Running | None, digest: str) -> str:
    if running is None:
        return "Nothing is running."
    if running.digest != digest:
        return f"Version {running.version or 'unknown'} is running, not the one that was deployed."
    return running.message or "It runs but is not healthy."


def _stopped_by_policy(seen: Deployment, verdict: Verdict) -> Data:
    text = " ".join(reason.text for reason in verdict.blocking) or "The rules no longer allow it."
    return _update(seen, failure=Failure(step="policy", message=text))


def _after_gates(seen: Deployment) -> State:
    """Only a promotion gives names, and only where the catalog wants some."""
    return State.TAGGING if seen.kind is Kind.PROMOTION and names.of(seen) else State.WRITING


def _set_up(provider: P | None, what: str) -> P:
    if provider is None:
        raise ProviderRejected(f"No {what} is set up here.", hint="Ask an administrator.")
    return provider


def _named(providers: Mapping[str, P], name: str, what: str) -> P:
    try:
        return providers[name]
    except KeyError:
        raise ProviderRejected(
            f"The {what} provider '{name}' is not set up here.", hint="Set it up or name another in the catalog."
        ) from None
