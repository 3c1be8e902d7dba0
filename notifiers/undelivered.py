"""What is said, and to whom, when a message cannot arrive where it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from bot.catalog.model import Catalog
from bot.deployments import audience
from bot.deployments.model import Deployment
from bot.store import deployments as rows
from bot.store import inbox
from bot.store.database import Tx
from bot.store.outbox import NewNotice, Notice, OutboxRow
from notifiers.card import Message
from notifiers.codec import message_from_json, message_to_json


def instead(
    tx: Tx, row: OutboxRow, why: str, catalog: Catalog, platforms: Sequence[str], at: datetime
) -> NewNotice | None:
    """The message that goes in its place, or None if there is nobody to tell.

    An answer to a command goes personally to whoever asked. Of a card its requester hears, of a personal message the
    deployment's channel; each once a day and place.
    """
    if row.key.startswith(("instead:", "undelivered:")):
        return None
    if row.key.startswith("reply:"):
        return _answer(tx, row, why)
    deployment = rows.get(tx, row.deployment_id) if row.deployment_id else None
    if deployment is None:
        return None
    place = _other_place(catalog, deployment, row, platforms)
    if place is None:
        return None
    about = f" It was about {deployment.ref}, {deployment.service} to {deployment.environment}."
    key = f"undelivered:{row.platform}:{row.place}:{place[1]}:{at.date()}"
    return NewNotice(key[:255], *place, Notice.MESSAGE, content=_words(why + about), priority=2)


def _answer(tx: Tx, row: OutboxRow, why: str) -> NewNotice | None:
    intent = inbox.get(tx, int(row.key.removeprefix("reply:")))
    if intent is None or row.place.startswith("@") or row.content is None:
        return None
    answer = message_from_json(row.content)
    said = replace(answer, text=f"{answer.text}\n({why})".strip()) if answer.card is None else answer
    place = f"@{intent.payload['user_id']}"
    content = message_to_json(said)
    return NewNotice(f"instead:{row.id}", row.platform, place, Notice.MESSAGE, content=content, priority=2)


def _other_place(
    catalog: Catalog, deployment: Deployment, row: OutboxRow, platforms: Sequence[str]
) -> tuple[str, str] | None:
    if not row.place.startswith("@"):
        personal = audience.personal_places(catalog, deployment.requested_by, platforms)
        return next((place for place in personal if place[0] == row.platform), next(iter(personal), None))
    channel = audience.channel_of(catalog, deployment.service, deployment.environment, row.platform)
    return (row.platform, channel) if channel else None


def _words(text: str) -> dict[str, object]:
    return message_to_json(Message(text))
