"""`slipway pass`: break the glass on the server itself, for when chat is down; on the same audit chain."""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from bot.catalog.find import find_environment, find_person, find_service
from bot.catalog.model import Catalog
from bot.chat.base import IncomingCommand
from bot.errors import BadInput, Refused
from bot.policy.model import Permission, ReasonCode
from bot.policy.permissions import has_permission, who_may
from bot.store import audit, emergencies, inbox
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.emergencies import ServerPass
from bot.times import say_when

SERVER = "server"
"""Whence the intents of this command come; no chat has this name, so nobody can send one from outside."""
LONGEST = timedelta(hours=24)
PATIENCE = 120
"""Seconds to wait for a running Slipway to take up the deployment."""


@dataclass(frozen=True, slots=True)
class PassWish:
    """What is to be let through, for whom, how long and why. deploy: start it as well."""

    service: str
    environment: str
    version: str
    person: str
    length: timedelta
    reason: str
    deploy: bool = False


def whoever() -> str:
    """The account at the server's prompt: `server:root@host`."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return f"server:{name}@{socket.gethostname()}"[:128]


def checked(catalog: Catalog, wish: PassWish, at: datetime, by: str) -> ServerPass:
    """The pass that is wished.

    Raises:
        BadInput: an unknown name, no reason, or a time too long.
        Refused: the person has no right there; a pass overcomes times and approvals, never that.
    """
    service = find_service(catalog, wish.service)
    place = find_environment(catalog, wish.environment)
    person = find_person(catalog, wish.person)
    if not wish.reason.strip():
        raise BadInput("Why is this needed?", hint="Add --reason with a sentence; it stands in the audit log.")
    if not timedelta(0) < wish.length <= LONGEST:
        raise BadInput("A pass lasts at most 24 hours.", hint="Write --for 60m.")
    if place.name not in service.targets:
        raise BadInput(
            f"{service.name} does not run in {place.name}.", hint=f"It runs in {', '.join(service.targets)}."
        )
    may = has_permission(catalog, person.id, Permission.RELEASE_DEPLOY, service.name, place.name)
    if not person.active or not may:
        allowed = who_may(catalog, Permission.RELEASE_DEPLOY, service, place.name)
        raise Refused(
            f"{person.name} may not deploy {service.name} in {place.name}; {allowed} may.",
            code=ReasonCode.NOT_PERMITTED,
        )
    return ServerPass(
        person.id, service.name, place.name, wish.version, at, at + wish.length, wish.reason.strip()[:500], by
    )


def give(tx: Tx, new: ServerPass, deploy: bool) -> str:
    """Store the pass and its audit entry, and the command of its deployment; returns that one's event, or nothing."""
    number = emergencies.give_pass(tx, new)
    event = ""
    if deploy:
        event = f"pass-{number}-{uuid4().hex[:8]}"
        words = ["/deploy", new.service, new.environment, *([new.version] if new.version else [])]
        text = " ".join([*words, "--reason", new.reason])
        intent = IncomingCommand("", event, new.person, "", text, personal=False)
        inbox.put(tx, SERVER, event, "command", asdict(intent), new.from_at)
    version = f" {new.version}" if new.version else ""
    detail = f"for {new.person} until {new.until_at.isoformat()}: {new.reason}"
    subject = f"p-{number} {new.service}/{new.environment}{version}"
    audit.append(tx, AuditEntry(new.from_at, new.given_by, "pass:give", subject[:255], "accepted", "", detail[:1000]))
    return event


async def break_glass(
    db: Database, catalog: Catalog, wish: PassWish, at: datetime, say: Callable[[str], None], pause: float = 0.5
) -> bool:
    """Give the pass; with `deploy`, follow what a running Slipway makes of it. True unless that ended badly."""
    new = checked(catalog, wish, at, whoever())
    event = await db.run(lambda tx: give(tx, new, wish.deploy))
    what = f"{new.service} {new.version}".strip()
    say(f"{new.person} may deploy {what} to {new.environment} once, until {say_when(new.until_at, catalog.zone)}.")
    if not event:
        return True
    return await _follow(db, event, say, pause)


async def _follow(db: Database, event: str, say: Callable[[str], None], pause: float) -> bool:
    for _ in range(int(PATIENCE / pause)):
        row = await db.read(lambda tx: inbox.by_event(tx, SERVER, event))
        if row is not None and row.done_at is not None:
            break
        await asyncio.sleep(pause)
    else:
        say("No Slipway has taken it up yet; it is stored, and done as soon as one runs.")
        return True
    if row.answer:
        say(row.answer)
    told = ""
    while (seen := await db.read(lambda tx: rows.find_by_key(tx, f"{SERVER}:{event}"))) is not None:
        if seen.state.value != told:
            told = seen.state.value
            say(f"{seen.ref} {seen.target} {seen.release_version}: {told.replace('_', ' ')}")
        if seen.state.is_final:
            if seen.data.failure is not None:
                say(seen.data.failure.message)
            return seen.state.is_good
        await asyncio.sleep(pause)
    return row.outcome == "accepted"
