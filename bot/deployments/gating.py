"""Asking the gates of a release: which are asked, what their answers come to, and who may let it on all the same."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime

from bot.catalog.model import Catalog, Service, Target
from bot.deployments.model import Deployment, Emergency, Failure, GateNote
from bot.deployments.questions import question_of
from bot.errors import ProviderError, Refused
from bot.gates.base import Gate, GateRequest, GateResult, GateVerdict
from bot.pipelines.base import BuiltBy
from bot.policy.model import Ballot
from bot.store import deployments as rows
from bot.store import releases, runs
from bot.store.database import Tx
from bot.store.releases import Release


async def ask_gates(gates: Sequence[Gate], request: GateRequest, known: Sequence[GateNote]) -> tuple[GateNote, ...]:
    """What every gate that the catalog names for the target says; one whose answer is final is not asked again."""
    settled = {note.gate: note for note in known if not note.waiting}
    there = {gate.name: gate for gate in gates}
    wanted = [name for name in there if name in request.target.gates]
    wanted += sorted(set(request.target.gates) - set(there))
    open_ = [name for name in wanted if name not in settled]
    results = await asyncio.gather(*(_ask(there.get(name), name, request) for name in open_))
    notes = settled | {result.gate: _note(result) for result in results}
    return tuple(notes[name] for name in wanted)


async def _ask(gate: Gate | None, name: str, request: GateRequest) -> GateResult:
    if gate is None:
        text = f"The gate {name} is not set up here; set its address, or correct its name."
        return GateResult(name, GateVerdict.UNKNOWN, text)
    try:
        return await gate.check(request)
    except ProviderError as error:
        return GateResult(name, GateVerdict.UNKNOWN, error.sentence(), waiting=True)


def _note(result: GateResult) -> GateNote:
    return GateNote(
        gate=result.gate,
        verdict=result.verdict.value,
        message=result.message,
        lines=result.lines,
        link=result.link,
        waiting=result.waiting,
    )


def is_open(note: GateNote) -> bool:
    """Whether it lets the release on. A word of a newer Slipway is no yes."""
    return not note.waiting and note.verdict in (GateVerdict.PASS.value, GateVerdict.WARN.value)


def closed(notes: Sequence[GateNote]) -> list[GateNote]:
    """Those whose final answer is no, or that cannot tell."""
    return [note for note in notes if not note.waiting and not is_open(note)]


def overridden(seen: Deployment, notes: Sequence[GateNote], catalog: Catalog, at: datetime) -> tuple[GateNote, ...]:
    """The notes, with the people beside each closed gate who let the release on through the emergency lane.

    Only for the gates that were asked about, of this very release, while the pass lasts and its people still may.
    """
    asked, service = seen.data.emergency, catalog.services.get(seen.service)
    if asked is None or not asked.gates or service is None or not _in_force(seen, asked, at):
        return tuple(notes)
    try:
        question = question_of(catalog, seen, service, at)
    except Refused:
        return tuple(notes)
    approvers, enough = question.count([Ballot(one, True, asked.subject) for one in asked.approvers], at)
    if not enough:
        return tuple(notes)
    stopped = {note.gate for note in closed(notes)} & set(asked.gates)
    return tuple(
        note.model_copy(update={"overridden_by": approvers}) if note.gate in stopped else note for note in notes
    )


def _in_force(seen: Deployment, asked: Emergency, at: datetime) -> bool:
    until = asked.pass_until_at
    return until is not None and at < until and asked.subject == subject_of(seen, asked.gates, asked.asked_at)


def subject_of(seen: Deployment, gates: Sequence[str], asked_at: datetime) -> str:
    """What votes are bound to: the release, and which gates a yes overrides, each time anew."""
    if not gates:
        return seen.subject
    about = f"{' '.join(gates)} {asked_at.timestamp():.3f}"
    return f"{seen.subject}!{hashlib.sha256(about.encode()).hexdigest()[:8]}"


def failure_of(notes: Sequence[GateNote]) -> Failure:
    """What a person is told of the gates that stop a release."""
    message = " ".join(note.message for note in notes)
    lines = tuple(line for note in notes for line in note.lines)
    return Failure(step="gate", message=message, lines=lines[:20])


def said(notes: Sequence[GateNote]) -> str:
    """All gates in a few words: `tests pass, scan warn`."""
    return ", ".join(f"{note.gate} {'waits' if note.waiting else note.verdict}" for note in notes)


def request_of(tx: Tx, seen: Deployment, service: Service, target: Target, at: datetime) -> GateRequest:
    """What the gates are asked about."""
    built = releases.by_commit(tx, seen.service, seen.commit)
    good = rows.last_good(tx, seen.service, seen.environment)
    before = releases.by_commit(tx, seen.service, good.commit) if good is not None else None
    return GateRequest(
        service=service,
        target=target,
        commit=seen.commit,
        digest=seen.digest,
        since_at=seen.data.gating_since_at or at,
        version=seen.release_version,
        branch=seen.branch,
        image=seen.data.artifact,
        run_id=built.run_id if built is not None else "",
        before_run_id=before.run_id if before is not None else "",
        built=_built(tx, target, built),
        built_before=_built(tx, target, before),
    )


def _built(tx: Tx, target: Target, release: Release | None) -> BuiltBy | None:
    """The run elsewhere that built a release."""
    if release is None:
        return None
    found = runs.built_by(tx, target.pipeline.provider, release.run_id, release.service, release.commit)
    return BuiltBy(release.run_id, found[0].definition, release.commit, found[1]) if found is not None else None
