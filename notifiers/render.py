"""From a deployment to what a person should see of it: pure, so that every copy of a card says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.catalog.model import Catalog, Kind
from bot.deployments import gating
from bot.deployments.asking import asked_now
from bot.deployments.engine import STEP_OF_STATE
from bot.deployments.model import Deployment, Results, State, counted
from bot.pipelines.base import StageState
from bot.policy.model import Ballot
from bot.store.deployments import Vote
from bot.times import say_when
from notifiers.card import Button, ButtonStyle, Card, Input, Message, Step

REASON = Input("reason", "Reason")
MOST_NAMES = 5
"""How many people of a group are named; more would hide the point."""
ASK = Button("emergency", "Ask for emergency approval", ButtonStyle.PRIMARY, inputs=(REASON,))

STEPS: tuple[tuple[str, str], ...] = (
    ("build", "Build"),
    ("gate", "Check"),
    ("tag", "Tag"),
    ("write", "Write to Git"),
    ("deploy", "Deploy"),
    ("gray", "Gray"),
    ("verify", "Verify"),
)
START = {"build": 5, "gate": 50, "tag": 53, "write": 55, "deploy": 60, "gray": 75, "verify": 85}
SPAN = {"build": 45, "gate": 3, "tag": 2, "write": 5, "deploy": 25, "gray": 10, "verify": 14}
ORDER = [name for name, _ in STEPS]

TITLES = {
    State.REFUSED: "{what} to {where} is not allowed now",
    State.AWAITING_APPROVAL: "{what} to {where} waits for emergency approval",
    State.EXPIRED: "{what} to {where}: nobody approved it in time",
    State.REJECTED: "{what} to {where} was rejected",
    State.QUEUED: "{what} to {where} is queued",
    State.GRAY: "{what} is at gray in {where}",
    State.SUCCEEDED: "{what} runs in {where}",
    State.CANCELLING: "{what} to {where} is being cancelled",
    State.CANCELLED: "{what} to {where} was cancelled",
    State.SUPERSEDED: "{what} to {where} was replaced by a newer one",
    State.ROLLING_BACK: "{what} to {where} failed; going back",
    State.ROLLED_BACK: "{what} to {where} failed and was rolled back",
    State.FAILED: "{what} to {where} failed",
}


BUILD_TITLES = {
    State.QUEUED: "{what} waits to be built from {where}",
    State.BUILDING: "Building {what} from {where}",
    State.SUCCEEDED: "{what} is built from {where}",
    State.CANCELLING: "The build of {what} from {where} is being cancelled",
    State.CANCELLED: "The build of {what} from {where} was cancelled",
    State.FAILED: "The build of {what} from {where} failed",
}
"""Of builds that nobody deploys."""

CHECK_TITLES = {
    State.QUEUED: "The check of {what} from {where} waits to begin",
    State.BUILDING: "Checking {what} from {where}",
    State.SUCCEEDED: "The check of {what} from {where} passed",
    State.CANCELLING: "The check of {what} from {where} is being cancelled",
    State.CANCELLED: "The check of {what} from {where} was cancelled",
    State.SUPERSEDED: "The check of {what} from {where} was given up",
    State.FAILED: "The check of {what} from {where} failed",
}
"""Of builds by the check pipeline."""


@dataclass(frozen=True, slots=True)
class View:
    """All that a card needs, read in one transaction."""

    deployment: Deployment
    votes: Sequence[Vote]
    catalog: Catalog
    can_roll_back: bool = False
    at: datetime | None = None


def deployment_message(view: View) -> Message:
    """The card of the deployment, and the sentence for notifications."""
    seen = view.deployment
    title = _title(seen)
    card = Card(
        title=title,
        state=seen.state.value,
        deployment=seen.ref,
        progress=progress(seen),
        text=_text(view),
        steps=steps(seen),
        fields=_fields(view),
        excerpt="\n".join(seen.data.failure.lines) if seen.data.failure else "",
        buttons=buttons(view),
        about=_about(seen),
    )
    return Message(f"{title} ({seen.ref})", card)


def _about(seen: Deployment) -> dict[str, str]:
    """For programs: what was deployed where, and what ran there before."""
    facts = {
        "service": seen.service,
        "environment": seen.environment,
        "kind": seen.kind.value,
        "version": seen.release_version,
        "commit": seen.commit,
        "digest": seen.digest,
        "before": seen.data.before.version if seen.data.before else "",
        "requested_by": seen.requested_by,
        "pipeline": seen.data.run_url,
        "url": seen.data.url,
    }
    return {name: value for name, value in facts.items() if value}


def approval_message(view: View) -> Message:
    """What an eligible person is asked, personally; after the decision it says how it ended."""
    seen = view.deployment
    full = deployment_message(view).card
    assert full is not None
    who = name_of(view.catalog, seen.requested_by)
    what = f"{seen.service} {seen.release_version}"
    title = (
        f"{who} asks you to let {what} into {seen.environment}"
        if seen.state is State.AWAITING_APPROVAL
        else f"{_title(seen)}; you were asked about it"
    )
    shown = tuple(button for button in full.buttons if button.id in ("approve", "reject"))
    card = Card(
        title=title, state=full.state, deployment=full.deployment, text=full.text, fields=full.fields, buttons=shown
    )
    return Message(title, card)


def failure_message(view: View) -> Message:
    """What the requester is told personally when it ended badly: the step, the lines that matter, what to do next."""
    seen = view.deployment
    failure = seen.data.failure
    full = deployment_message(view).card
    assert full is not None
    where = f" at the step '{failure.step}'" if failure is not None else ""
    title = f"{_title(seen)}{where if seen.state is State.FAILED else ''}"
    fields = {
        key: value
        for key, value in full.fields.items()
        if key in ("failed step", "failed tests", "log", "commit", "pipeline", "merge request")
    }
    text = _text(view)
    hint = _next(view)
    card = Card(
        title=title,
        state=full.state,
        deployment=full.deployment,
        text=f"{text} {hint}".strip(),
        fields=fields,
        excerpt=full.excerpt,
        buttons=tuple(button for button in full.buttons if button.id in ("emergency", "retry")),
    )
    return Message(f"{title} ({seen.ref}). {text} {hint}".strip(), card)


def name_of(catalog: Catalog, person: str) -> str:
    """How people call them."""
    known = catalog.people.get(person)
    return known.name if known is not None else person


def progress(seen: Deployment) -> int | None:
    """0-100; a failed one stays where it stopped; None while nothing was started."""
    if seen.state in (State.REFUSED, State.AWAITING_APPROVAL, State.EXPIRED, State.REJECTED):
        return None
    if seen.state is State.SUCCEEDED:
        return 100
    if seen.state is State.QUEUED:
        return 0
    step = current_step(seen)
    if seen.kind is Kind.BUILD:
        return min(99, max(START["build"], seen.data.percent))
    if step not in START:
        return 0
    return START[step] + _part(seen, step)


def _part(seen: Deployment, step: str) -> int:
    if step == "build":
        return SPAN["build"] * min(100, seen.data.percent) // 100
    if step == "deploy":
        return SPAN["deploy"] * min(100, seen.data.sync_percent) // 100
    return SPAN["verify"] // 2 if step == "verify" and seen.data.healthy_since_at else 0


def current_step(seen: Deployment) -> str:
    """The step it is in, or in which it ended; empty before the first."""
    if seen.data.failure is not None and seen.state in (State.FAILED, State.ROLLING_BACK, State.ROLLED_BACK):
        return "write" if seen.data.failure.step == "policy" else seen.data.failure.step
    if seen.state in (State.CANCELLING, State.CANCELLED, State.ROLLING_BACK, State.ROLLED_BACK):
        came_from = seen.data.cancelled_from
        return STEP_OF_STATE.get(State(came_from), "") if came_from else ""
    return STEP_OF_STATE.get(seen.state, "")


def steps(seen: Deployment) -> tuple[Step, ...]:
    """The steps with the pipeline's own stages under the build."""
    if progress(seen) is None:
        return ()
    shown = []
    for name, label in STEPS:
        if (name == "gray" and seen.data.gray is None) or (name == "tag" and not _is_tagged(seen)):
            continue
        if name != "build" and seen.kind is Kind.BUILD:
            continue
        state = _step_state(seen, name)
        shown.append(Step(label, state.value, _step_detail(seen, name)))
        if name == "build":
            shown += [Step(f"Build: {stage.name}", _stage_state(seen, stage.state)) for stage in seen.data.stages]
        if name == "deploy":
            shown += [
                Step(f"Deploy: {one.name}", _stage_state(seen, one.state), one.detail) for one in seen.data.places
            ]
    if seen.state in (State.ROLLING_BACK, State.ROLLED_BACK) or seen.data.undo:
        shown.append(Step("Roll back", _undo_state(seen).value))
    return tuple(shown)


def _is_tagged(seen: Deployment) -> bool:
    """Whether the release gets names here; most do not."""
    return bool(seen.data.tagged) or current_step(seen) == "tag"


def _stage_state(seen: Deployment, state: str) -> str:
    """A stage that was running when its deployment was ended is not running any more."""
    if seen.state is State.CANCELLED and state in ("running", "pending"):
        return StageState.CANCELLED.value
    return state


def _undo_state(seen: Deployment) -> StageState:
    ends = {State.ROLLED_BACK: StageState.SUCCEEDED, State.FAILED: StageState.FAILED}
    return ends.get(seen.state, StageState.RUNNING)


def _step_state(seen: Deployment, name: str) -> StageState:
    if seen.state is State.SUCCEEDED:
        return StageState.SUCCEEDED
    now = current_step(seen)
    if now not in ORDER:
        return StageState.PENDING
    if ORDER.index(name) < ORDER.index(now):
        return StageState.SUCCEEDED
    if name != now:
        return StageState.SKIPPED if seen.state.is_final else StageState.PENDING
    if seen.data.failure is not None:
        return StageState.FAILED
    if seen.data.cancelled_from and seen.state is not State.CANCELLING:
        return StageState.CANCELLED
    return StageState.RUNNING


def _step_detail(seen: Deployment, name: str) -> str:
    data = seen.data
    if name == "build" and data.reused:
        return "the build of this commit exists already"
    if name == "gate" and data.gates:
        return gating.said(data.gates)
    if name == "tag":
        return ", ".join(data.tagged)
    if name == "write" and data.revision:
        return f"commit {data.revision[:12]}" if data.git_changed else "Git says so already"
    if name == "deploy" and seen.state is State.SYNCING:
        progress = counted(data.sync_applied, data.sync_healthy, data.sync_total) if data.sync_total else ""
        return f"{progress} {data.sync_message if not data.places else ''}".strip()
    if name == "gray" and data.gray is not None:
        share = f"{data.gray.weight} %" if data.gray.weight is not None else f"pause {data.gray.number}"
        return f"{share}, metrics {data.gray.health}: {data.gray.said}" if data.gray.said else share
    if name == "verify" and seen.state is State.VERIFYING:
        return data.running_message or "healthy, settling"
    return ""


def _title(seen: Deployment) -> str:
    what, where = f"{seen.service} {seen.release_version}", seen.environment
    if seen.kind is Kind.BUILD:
        titles = CHECK_TITLES if seen.data.check else BUILD_TITLES
        template = titles.get(seen.state, titles[State.BUILDING])
        return template.format(what=what, where=seen.branch or seen.commit[:12])
    if seen.state is State.ROLLED_BACK and seen.data.failure is None:
        return f"{what} to {where} was cancelled and rolled back"
    if seen.state is State.ROLLING_BACK and seen.data.failure is None:
        return f"{what} to {where} was cancelled; going back"
    if seen.state is State.AWAITING_APPROVAL and seen.data.emergency is not None and seen.data.emergency.approvals:
        return f"{what} to {where} waits for approval"
    verb = "Rolling back to" if seen.kind.value == "rollback" else "Deploying"
    template = TITLES.get(
        seen.state, verb + " {what} to {where}" if verb == "Deploying" else "Rolling {where} back to {what}"
    )
    return template.format(what=what, where=where)


def _text(view: View) -> str:
    seen = view.deployment
    data = seen.data
    if data.waiting_for:
        return f"Waiting: {data.waiting_for}"
    if seen.state is State.REFUSED:
        blocking = " ".join(reason.text for reason in data.reasons if reason.blocking)
        return f"{blocking} Nothing was started. If it cannot wait, press the button to ask for emergency approval."
    if seen.state is State.AWAITING_APPROVAL and data.emergency is not None:
        why = f" Reason: {data.emergency.reason}." if data.emergency.reason else ""
        bound = [vote for vote in view.votes if vote.subject == data.emergency.subject]
        have = sum(1 for vote in bound if vote.decision == "approve")
        return f"{have} of {data.emergency.needed} approvals.{_still_open(view)}{why}{_overriding(seen)}"
    if seen.state is State.REJECTED:
        vote = next((one for one in view.votes if one.decision == "reject"), None)
        if vote is not None:
            return f"{name_of(view.catalog, vote.person)} said no" + (f": {vote.reason}." if vote.reason else ".")
    if seen.state is State.EXPIRED:
        return f"Nothing was started. Ask again with /deploy {seen.service} {seen.environment}."
    if data.given_up:
        return data.given_up
    if seen.state in (State.CANCELLED, State.ROLLED_BACK) and data.cancelled_by:
        return f"Cancelled by {name_of(view.catalog, data.cancelled_by)}."
    if data.failure is not None:
        return data.failure.message
    return ""


def _still_open(view: View) -> str:
    """The seats nobody fills yet, and who could."""
    seen = view.deployment
    asked = seen.data.emergency
    at = view.at or (asked.asked_at if asked is not None else seen.changed_at)
    question = asked_now(view.catalog, seen, at)
    if question is None:
        return ""
    ballots = [Ballot(one.person, one.decision == "approve", one.subject) for one in view.votes]
    parts: dict[tuple[str, tuple[str, ...]], int] = {}
    for seat in question.open_seats(ballots, at):
        parts[seat] = parts.get(seat, 0) + 1
    said = "; ".join(_seat(view, name, people, count) for (name, people), count in parts.items())
    return f" Still open: {said}." if said else ""


def _seat(view: View, name: str, people: tuple[str, ...], count: int) -> str:
    more = f" +{len(people) - MOST_NAMES}" if len(people) > MOST_NAMES else ""
    who = f"{_names(view, people[:MOST_NAMES])}{more}" if people else "-"
    return f"{count} {name} ({who})" if name else f"{count} ({who})"


def _overriding(seen: Deployment) -> str:
    """What a yes would let through although gates said no: whoever is asked must see it."""
    asked = seen.data.emergency.gates if seen.data.emergency is not None else ()
    told = " ".join(note.message for note in seen.data.gates if note.gate in asked)
    return f" A yes overrides {', '.join(asked)}. {told}" if asked else ""


def _next(view: View) -> str:
    """What the requester can do about it."""
    seen = view.deployment
    failure = seen.data.failure
    if seen.state is State.ROLLED_BACK and seen.data.before is not None:
        return f"{seen.data.before.version} runs in {seen.environment} again."
    if failure is None or seen.state is not State.FAILED:
        return ""
    if seen.data.proposal is not None:
        return f"Push a fix to {seen.branch}, and it is checked again. /logs {seen.ref} shows more."
    if seen.kind is Kind.BUILD:
        return f"Push a fix and type /build {seen.service} {seen.branch}, or see /logs {seen.ref}."
    if failure.step == "build":
        again = f"/deploy {seen.service} {seen.environment}"
        return f"Nothing was deployed. Push a fix and type {again}, or see /logs {seen.ref}."
    if failure.step == "gate":
        lane = " If it cannot wait, press the button to ask for emergency approval." if seen.data.can_ask else ""
        return f"Nothing was deployed. Push a fix and type /deploy {seen.service} {seen.environment}.{lane}"
    if seen.data.breached:
        return (
            f"Nothing ran there before, so nothing goes back, and {seen.target} is locked. "
            f"/unlock {seen.service} {seen.environment} lets a fix through."
        )
    if failure.step in ("deploy", "gray", "verify"):
        return "It was left as it is, because nothing ran there before. Fix it and deploy again."
    return f"Type /why {seen.service} {seen.environment} or deploy again." if failure.step == "policy" else ""


def _fields(view: View) -> dict[str, str]:
    seen, data = view.deployment, view.deployment.data
    reader_zone = view.catalog.zone
    fields = {
        "requested by": name_of(view.catalog, seen.requested_by),
        "version": seen.release_version,
    }
    optional = {
        "merge request": data.proposal.url if data.proposal else "",
        "commit": seen.commit[:12] if seen.commit[:12] != seen.release_version else "",
        "branch": seen.branch,
        "digest": seen.digest,
        "reason": seen.reason or (data.emergency.reason if data.emergency else ""),
        "careful": " ".join(data.warnings),
        "approved by": _names(view, _approvers(view)),
        "url": data.url if seen.state in (State.SUCCEEDED, State.ROLLED_BACK) else "",
        "pipeline": data.run_url if data.run_url.startswith(("https://", "http://")) else "",
        "git commit": data.revision[:12],
        "failed step": data.failure.step if data.failure else "",
        "gates": gating.said(data.gates),
        "overridden": _overridden(view),
        "evidence": next((note.link for note in data.gates if note.link and not gating.is_open(note)), ""),
        "tests": _tests(data.results),
        "coverage": f"{data.results.coverage:.1f} %" if data.results and data.results.coverage is not None else "",
        "failed tests": ", ".join(data.failure.tests) if data.failure else "",
        "rule": ", ".join(_rule_names(seen)) if seen.state is State.REFUSED else "",
        "allowed": _at(data.next_change_at, reader_zone) if seen.state is State.REFUSED else "",
        "pass": f"given on the server by {data.emergency.given_by}"
        if data.emergency and data.emergency.given_by
        else "",
        "kind": "hotfix" if seen.kind is Kind.HOTFIX else "",
        "starts": _at(data.not_before, reader_zone) if seen.state in (State.QUEUED, State.AWAITING_APPROVAL) else "",
        "expires": _at(data.emergency.expires_at, reader_zone)
        if data.emergency and seen.state is State.AWAITING_APPROVAL
        else "",
        "before": data.before.version if data.before and data.before.version != seen.release_version else "",
    }
    return fields | {key: value for key, value in optional.items() if value}


def _tests(results: Results | None) -> str:
    """`118 of 120 passed, 1 skipped`."""
    if results is None or results.tests is None:
        return ""
    passed = results.tests - results.failed - results.skipped
    said = f"{passed} of {results.tests} passed"
    return f"{said}, {results.skipped} skipped" if results.skipped else said


def _approvers(view: View) -> Sequence[str]:
    """Who said yes: those that counted in the end, or so far."""
    asked = view.deployment.data.emergency
    if asked is None or view.deployment.state is not State.AWAITING_APPROVAL:
        return asked.approvers if asked is not None else ()
    return [vote.person for vote in view.votes if vote.decision == "approve"]


def _overridden(view: View) -> str:
    """Which gates were overridden, and by whom."""
    notes = [note for note in view.deployment.data.gates if note.overridden_by]
    people = tuple(dict.fromkeys(person for note in notes for person in note.overridden_by))
    return f"{', '.join(note.gate for note in notes)} by {_names(view, people)}" if notes else ""


def _at(at: datetime | None, zone: str) -> str:
    return say_when(at, zone) if at is not None else ""


def _rule_names(seen: Deployment) -> list[str]:
    blocking = [reason for reason in seen.data.reasons if reason.blocking and reason.rule]
    return [f"{reason.rule} ({reason.where})" if reason.where else reason.rule for reason in blocking]


def _names(view: View, people: Sequence[str]) -> str:
    return ", ".join(name_of(view.catalog, person) for person in people)


def buttons(view: View) -> tuple[Button, ...]:
    """The actions that make sense in this state. Who may press them is decided at the press."""
    seen = view.deployment
    cancel = Button("cancel", "Cancel", ButtonStyle.DANGER, f"Cancel {seen.ref} ({seen.target})?")
    if seen.state is State.REFUSED:
        return (ASK,) if seen.data.can_ask else ()
    if seen.state is State.AWAITING_APPROVAL:
        asked = seen.data.emergency.gates if seen.data.emergency is not None else ()
        although = f"although {', '.join(asked)} did not pass" if asked else "outside its window"
        question = f"Let {seen.service} {seen.release_version} into {seen.environment} {although}?"
        approve = Button("approve", "Approve", ButtonStyle.PRIMARY, question)
        return approve, Button("reject", "Reject", ButtonStyle.DANGER, inputs=(REASON,)), cancel
    if seen.state is State.BUILDING and seen.data.asks is not None and seen.data.asks.is_open:
        go_on = Button("continue", "Continue", ButtonStyle.PRIMARY, f"{seen.data.asks.text}?")
        return go_on, Button("abort", "Abort", ButtonStyle.DANGER, f"End the pipeline run of {seen.ref}?"), cancel
    if seen.state is State.GRAY:
        question = f"Give {seen.service} {seen.release_version} more traffic in {seen.environment}?"
        back = Button("abort", "Abort", ButtonStyle.DANGER, f"Take all traffic away from {seen.release_version}?")
        return Button("continue", "Continue", ButtonStyle.PRIMARY, question), back
    if seen.state is State.SUCCEEDED and view.can_roll_back and seen.kind is not Kind.BUILD:
        question = f"Roll {seen.environment} back to what ran before {seen.service} {seen.release_version}?"
        return (Button("rollback", "Roll back", ButtonStyle.DANGER, question),)
    if seen.state in (State.FAILED, State.EXPIRED, State.CANCELLED, State.ROLLED_BACK):
        question = f"Deploy {seen.service} {seen.release_version} to {seen.environment} once more?"
        again = Button("retry", "Deploy again", ButtonStyle.NORMAL, question)
        return (ASK, again) if seen.state is State.FAILED and seen.data.can_ask else (again,)
    if not seen.state.is_final and seen.state not in (State.CANCELLING, State.ROLLING_BACK):
        return (cancel,)
    return ()
