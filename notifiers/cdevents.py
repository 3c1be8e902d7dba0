"""How a deployment ended, as a CDEvent inside a CloudEvent: for tools that know that vocabulary. Pure.

Source: cdevents.dev specification 0.5.1, "Continuous Deployment Events", "Core Events", "CloudEvents binding".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from notifiers.card import Card

VERSION = "0.5.1"
DEPLOYED = "dev.cdevents.service.deployed.0.3.0"
UPGRADED = "dev.cdevents.service.upgraded.0.3.0"
ROLLED_BACK = "dev.cdevents.service.rolledback.0.3.0"
FINISHED = "dev.cdevents.pipelinerun.finished.0.3.0"

OUTCOMES: Mapping[str, str] = {
    "failed": "failure",
    "refused": "failure",
    "rejected": "failure",
    "expired": "failure",
    "cancelled": "cancel",
    "superseded": "cancel",
}
"""Ends without anything new running: there is no word for them but that the run is over."""


def cd_event(card: Card, number: str, source: str, at: str) -> dict[str, Any] | None:
    """The event's CloudEvent in structured mode, or None for a state the vocabulary has no word for."""
    if not card.about.get("service"):
        return None
    kind, subject = _subject(card)
    if not kind:
        return None
    context = {"specversion": VERSION, "id": number, "source": source, "type": kind, "timestamp": at}
    more = {"deployment": card.deployment, "state": card.state, **card.about}
    data = {"context": context, "subject": subject, "customData": more, "customDataContentType": "application/json"}
    return {
        "specversion": "1.0",
        "id": number,
        "source": source,
        "type": kind,
        "subject": subject["id"],
        "time": at,
        "datacontenttype": "application/json",
        "data": data,
    }


def _subject(card: Card) -> tuple[str, dict[str, Any]]:
    about = card.about
    if card.state in ("succeeded", "rolled_back"):
        content = {"environment": {"id": about["environment"]}, "artifactId": artifact(about)}
        return _what_runs(card), {"id": about["service"], "content": content}
    outcome = OUTCOMES.get(card.state, "")
    name = f"deploy {about['service']} to {about['environment']}"
    run = {"pipelineName": name, "outcome": outcome, "errors": card.text}
    address = {"uri": about["pipeline"]} if about.get("pipeline") else {}
    return (FINISHED, {"id": card.deployment, "content": run | address}) if outcome else ("", {})


def _what_runs(card: Card) -> str:
    if card.state == "rolled_back" or card.about.get("kind") == "rollback":
        return ROLLED_BACK
    return UPGRADED if card.about.get("before") else DEPLOYED


def artifact(about: Mapping[str, str]) -> str:
    """The release as a package URL, with its content digest if it is known."""
    digest = about.get("digest", "")
    version = f"@{quote(about['version'], safe='')}" if about.get("version") else ""
    checksum = f"?checksum={quote(digest, safe=':')}" if digest else ""
    return f"pkg:generic/{quote(about['service'], safe='')}{version}{checksum}"
