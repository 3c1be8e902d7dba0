"""From a stored intent to its effect, its audit entry and its answer, for every outcome: refusals and crashes too.

`receive` stores and returns; `process` may run twice for one intent (a crash between effect and record), so every
effect is keyed by the intent and the record is one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import structlog

from bot import grammar
from bot.catalog.model import Catalog, Person
from bot.chat.base import ClickAnswer, IncomingClick, IncomingCommand, People
from bot.clock import until_beat
from bot.commanding import Action, ClickContext, Command, CommandContext, Reply, Tools
from bot.deployments.model import Origin
from bot.deployments.train_model import is_of_train, train_of
from bot.errors import BadInput, Conflict, ProviderError, ProviderRejected, Refused, SlipwayError
from bot.policy.model import ReasonCode
from bot.store import audit, inbox, outbox
from bot.store.audit import AuditEntry
from bot.store.batches import Batches
from bot.store.database import DatabaseUnavailable, Tx
from bot.store.inbox import InboxRow, NewIntent
from bot.store.outbox import NewNotice, Notice, OutboxRow
from bot.times import say_when
from notifiers.card import Card, Message
from notifiers.codec import message_to_json

log = structlog.get_logger(__name__)

HELD = timedelta(seconds=30)
"""How long an answer waits for being sent directly before the outbox sends it as any other."""
MAX_ATTEMPTS = 5
"""How often an intent is begun again after the process that was at it ended, perhaps because of it."""
MIND = 3.5
"""Seconds between two looks at what other replicas left behind; a dead one's intents wait for its lease besides."""
MIND_ALONE = 30.0
"""The same where there is one process."""
CONCURRENT = 64
"""Intents worked on at once where several share a trip to the database; what comes meanwhile is stored and waits."""
CONCURRENT_ALONE = 32
"""The same on SQLite, which has no such trips: who answers a click must not pass by more than these at a time."""
MOST_SURVIVED = 10_000
PATIENCE = timedelta(minutes=30)
"""How long an intent nobody waits for is tried whose outside system does not answer."""
LATER = "taken; it is tried again"


Send = Callable[[NewNotice, Message, datetime, "asyncio.Future[OutboxRow | None]"], None]
"""Sends a message while it is stored, and is told since when it may have been posted, and then its row, if it has."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an intent. status: as HTTP says it; code: a reason code for the audit."""

    outcome: str
    text: str = ""
    card: Card | None = None
    code: str = ""
    status: int = 200


@dataclass(frozen=True, slots=True)
class _Record:
    """An answer on record. is_held: its message is sent from here. received_at: when its intent came.

    That is the date of its message as well: whoever finds it after a crash has to look for it from then on.
    """

    done: inbox.Done
    entry: AuditEntry
    notice: NewNotice | None
    is_held: bool
    received_at: datetime

    def leave(self, tx: Tx) -> OutboxRow | None:
        """The audit entry and the message; the message's row, if it is sent from here."""
        audit.append_at_end(tx, self.entry)
        if self.notice is not None and self.is_held:
            return outbox.put_held(tx, self.notice, self.received_at, self.done.at + HELD)
        if self.notice is not None:
            outbox.put_fresh(tx, self.notice, self.done.at)
        return None


class Dispatcher:
    """Takes commands and clicks of every chat platform."""

    def __init__(
        self,
        tools: Tools,
        commands: Sequence[Command],
        actions: Mapping[str, Action],
        people: Mapping[str, People] | None = None,
    ) -> None:
        """commands: in help order; actions: button id -> what it does; people: platform -> who its accounts are."""
        self._people = dict(people or {})
        self._tools = replace(tools, commands=tuple(commands))
        self._commands = tuple(commands)
        self._actions = dict(actions)
        self._running: set[asyncio.Task[Any]] = set()
        self._held: set[int] = set()
        self._survived: set[int] = set()
        """What failed here because something was away: that this process still lives shows that it does not end it."""
        self._minding: asyncio.Task[None] | None = None
        self.owner = uuid4().hex
        self._putting = Batches(self._put_all)
        self._recording = Batches(self._record_all)
        self._room = asyncio.Semaphore(CONCURRENT_ALONE if tools.db.is_sqlite else CONCURRENT)
        self._on_reply: list[Any] = []
        self._others: dict[str, Callable[[InboxRow], Awaitable[Answer]]] = {}
        self._watchers: list[Callable[[InboxRow, Answer, float], None]] = []
        self._send: Send | None = None
        self._direct: frozenset[str] = frozenset()

    def send_by(self, send: Send, platforms: Collection[str]) -> None:
        """Have answers on these platforms handed to `send` while they are stored, without a look at the table."""
        self._send, self._direct = send, frozenset(platforms)

    def also(self, kind: str, work: Callable[[InboxRow], Awaitable[Answer]]) -> None:
        """Have intents of another kind done by `work`, which may run twice; nobody is answered."""
        self._others[kind] = work

    async def hand_in(
        self, platform: str, event_id: str, kind: str, payload: Mapping[str, Any]
    ) -> asyncio.Task[Answer] | None:
        """Store an intent of another kind and start on it. None: a repeat. Raises DatabaseUnavailable: not stored."""
        inbox_id = await self._store(platform, event_id, kind, payload)
        return self._spawn(inbox_id) if inbox_id is not None else None

    @property
    def busy(self) -> int:
        """How many intents are in work here."""
        return len(self._held)

    def listen(self, listener: Any) -> None:
        """Have `listener()` called after an answer was put into the outbox."""
        self._on_reply.append(listener)

    def watch(self, watcher: Callable[[InboxRow, Answer, float], None]) -> None:
        """Have `watcher(intent, answer, seconds since it came)` called after an answer was recorded."""
        self._watchers.append(watcher)

    # -- inbound: stored first, then answered ------------------------------------------------------------------------

    async def command(self, incoming: IncomingCommand) -> bool:
        """Store a command and start on it. False: a repeat."""
        payload = storable(_fields(incoming))
        inbox_id = await self._put(incoming.platform, incoming.event_id, "command", payload)
        if inbox_id is None:
            return False
        self._spawn(inbox_id, inbox.fresh(inbox_id, incoming.platform, incoming.event_id, "command", payload))
        return True

    async def click(self, incoming: IncomingClick) -> bool:
        """Store a click and start on it. False: a repeat."""
        inbox_id = await self._store(incoming.platform, incoming.event_id, "click", asdict(incoming))
        if inbox_id is None:
            return False
        self._spawn(inbox_id)
        return True

    async def handle_click(self, incoming: IncomingClick) -> ClickAnswer:
        """Store a click, do it, and say what came of it; a repeat gets the first one's answer."""
        inbox_id = await self._store(incoming.platform, incoming.event_id, "click", asdict(incoming))
        if inbox_id is not None:
            try:
                answer = await self._held_while(inbox_id)
            except DatabaseUnavailable:
                answer = Answer(
                    "failed",
                    "The database does not answer; your click is stored and done as soon as it is back.",
                    status=503,
                )
        else:
            row = await self._tools.db.read(lambda tx: inbox.by_event(tx, incoming.platform, incoming.event_id))
            answer = _again(row)
        accepted = answer.outcome == "accepted"
        return ClickAnswer(accepted=accepted, status=answer.status, error="" if accepted else answer.text)

    async def start(self) -> None:
        """Begin with whatever was stored and never finished, and mind from then on what other replicas leave behind."""
        if self._tools.db.is_sqlite:
            await self._tools.db.run(inbox.forget_leases)
        await self.recover()
        self._minding = asyncio.create_task(self._mind())

    async def recover(self) -> int:
        """Start on what nobody is at: its replica died, or the database was away. Returns how many."""
        at = self._tools.clock()
        found = await self._tools.db.run(lambda tx: inbox.claim(tx, self.owner, at))
        left = [number for number in found if number not in self._held]
        for number in left:
            self._spawn(number, again=True)
        return len(left)

    def look(self) -> None:
        """An intent was stored by somebody else in this process: start on it now."""
        task = asyncio.create_task(self._look())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _look(self) -> None:
        try:
            await self.recover()
        except ProviderError as error:
            log.warning("intents_not_looked_at", error=error.message)

    async def stop(self) -> None:
        """Finish what runs, for a moment; the rest is let go, for another replica or the next start."""
        if self._minding is not None:
            self._minding.cancel()
            await asyncio.gather(self._minding, return_exceptions=True)
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=2)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        try:
            await self._tools.db.run(lambda tx: inbox.release(tx, self.owner))
        except ProviderError as error:
            log.warning("intents_not_released", error=error.message)

    async def _mind(self) -> None:
        while True:
            await asyncio.sleep(MIND_ALONE if self._tools.db.is_sqlite else until_beat(MIND))
            at = self._tools.clock()
            try:
                if held := list(self._held):
                    await self._tools.db.run(lambda tx: inbox.renew(tx, self.owner, held, at))  # noqa: B023
                if await self._tools.db.glance(lambda tx: inbox.is_free(tx, at)):  # noqa: B023
                    await self.recover()
            except ProviderError as error:
                log.warning("intents_not_looked_at", error=error.message)
            except Exception:
                log.exception("minding_stumbled")

    async def _store(self, platform: str, event_id: str, kind: str, payload: Mapping[str, Any]) -> int | None:
        return await self._put(platform, event_id, kind, storable(payload))

    async def _put(self, platform: str, event_id: str, kind: str, kept: Mapping[str, Any]) -> int | None:
        new = NewIntent(platform, event_id, kind, kept, self._tools.clock())
        if self._tools.db.is_sqlite:  # which gains nothing by one statement for many, and shares the commit anyway
            return (await self._put_all([new]))[0]
        return await self._putting.add(new)

    async def _put_all(self, new: Sequence[NewIntent]) -> list[int | None]:
        db = self._tools.db
        # On PostgreSQL it is a batch and one statement already: whoever waits for its answer waits for nobody's locks.
        return await (db.together if db.is_sqlite else db.at_once)(lambda tx: inbox.put_all(tx, new, self.owner))

    def _spawn(self, inbox_id: int, row: InboxRow | None = None, again: bool = False) -> asyncio.Task[Answer]:
        self._held.add(inbox_id)
        task = asyncio.create_task(self._guarded(inbox_id, row, again))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _guarded(self, inbox_id: int, row: InboxRow | None, again: bool) -> Answer:
        try:
            async with self._room:
                if again and inbox_id not in self._survived:
                    await self._tools.db.together(lambda tx: inbox.begin_again(tx, inbox_id))
                answer = await self._held_while(inbox_id, row)
                self._survived.discard(inbox_id)
                return answer
        except ProviderError as error:  # something is away; tried again when the lease has run out
            if len(self._survived) < MOST_SURVIVED:
                self._survived.add(inbox_id)
            log.warning("intent_not_finished", inbox_id=inbox_id, error=error.message)
        except Exception:
            log.exception("intent_not_finished", inbox_id=inbox_id)
        finally:
            self._held.discard(inbox_id)
        return Answer("errored", LATER, status=503)

    async def _held_while(self, inbox_id: int, row: InboxRow | None = None) -> Answer:
        """As `process`, with the lease renewed meanwhile; one that fails is tried again when the lease runs out."""
        self._held.add(inbox_id)
        try:
            return await self.process(inbox_id, row)
        finally:
            self._held.discard(inbox_id)

    # -- processing --------------------------------------------------------------------------------------------------

    async def process(self, inbox_id: int, row: InboxRow | None = None) -> Answer:
        """Do what was asked, once, and record what came of it. row: as it was stored a moment ago, if that is known."""
        row = row or await self._tools.db.read(lambda tx: inbox.get(tx, inbox_id))
        if row is None or row.done_at is not None:
            return _again(row)
        if row.kind in self._others:
            return await self._other(row)
        catalog = self._tools.catalog()
        subject = _subject(row)
        try:
            caller = await self._caller(row, catalog)
        except SlipwayError as error:
            caller, answer = None, _refused(error, subject, None)
        else:
            answer = await self._attempt(row, catalog, caller, subject)
        await self._record(row, caller, subject, answer)
        return answer

    async def _other(self, row: InboxRow) -> Answer:
        """An intent nobody waits for. What is not reached is tried again, for `PATIENCE`; then it is told as it is."""
        at = self._tools.clock()
        try:
            answer = await self._others[row.kind](row)
        except SlipwayError as error:
            is_away = isinstance(error, ProviderError) and not isinstance(error, ProviderRejected)
            if is_away and at - row.received_at < PATIENCE:
                raise
            answer = Answer("failed", error.sentence(), status=502)
        except Exception:
            if row.attempts < MAX_ATTEMPTS:
                raise
            log.exception("intent_given_up", inbox_id=row.id)
            answer = Answer("errored", "Slipway itself stumbled over this; its log has the details.", status=500)
        subject = row.event_id[:255]
        entry = AuditEntry(at, row.platform, row.kind, subject, answer.outcome, answer.code, answer.text[:1000])

        def work(tx: Tx) -> None:
            if inbox.finish(tx, row.id, answer.outcome, answer.text, at):
                audit.append_at_end(tx, entry)

        await self._tools.db.together(work)
        return answer

    async def _caller(self, row: InboxRow, catalog: Catalog) -> Person | None:
        user_id = str(row.payload["user_id"])
        people = self._people.get(row.platform)
        return await people.person(catalog, user_id) if people else catalog.person_by_chat(row.platform, user_id)

    async def _attempt(self, row: InboxRow, catalog: Catalog, caller: Person | None, subject: str) -> Answer:
        try:
            if row.attempts > MAX_ATTEMPTS:
                text = f"This was tried {MAX_ATTEMPTS} times and Slipway ended every time before it was done."
                return Answer("errored", text, Card("Given up", "error", text=text), "errored", 500)
            if caller is None:
                raise _stranger(row)
            if row.kind == "click":
                return await self._click(row, catalog, caller)
            return await self._command(row, catalog, caller)
        except DatabaseUnavailable:
            raise  # nothing can be recorded now either: it is done when the database is back
        except SlipwayError as error:
            return _refused(error, subject, caller)
        except Exception:
            log.exception("command_errored", inbox_id=row.id)
            text = "Slipway itself stumbled over this; its log has the details. Nothing more will happen by itself."
            return Answer("errored", text, Card("Something broke", "error", text=text), "errored", 500)

    async def _command(self, row: InboxRow, catalog: Catalog, caller: Person) -> Answer:
        incoming = IncomingCommand(**row.payload)
        tokens = grammar.words(command_text(incoming.text))
        if not tokens:
            tokens = ["help"]
        command = grammar.find(self._commands, tokens[0].lstrip("/／"))
        args = grammar.parse(command, tokens[1:])
        context = CommandContext(
            tools=self._tools,
            caller=caller,
            catalog=catalog,
            origin=Origin(
                incoming.platform, _place(row.payload), incoming.personal, incoming.thread, incoming.message_id
            ),
            key=f"{row.platform}:{row.event_id}",
        )
        reply: Reply = await command.run(context, args)
        return Answer("accepted", reply.text or (reply.card.title if reply.card else ""), reply.card)

    async def _click(self, row: InboxRow, catalog: Catalog, caller: Person) -> Answer:
        incoming = IncomingClick(**row.payload)
        message = await self._tools.db.read(lambda tx: outbox.by_ref(tx, incoming.platform, incoming.message_ref))
        action = self._actions.get(incoming.button)
        train = train_of(message.key) if message is not None and is_of_train(incoming.button) else None
        deployment = message.deployment_id if message is not None and not is_of_train(incoming.button) else None
        if action is None or (train is None and deployment is None):
            raise Conflict("That button does nothing any more.", hint="/status shows what is on its way.")
        context = ClickContext(
            tools=self._tools,
            caller=caller,
            catalog=catalog,
            origin=Origin(row.platform, incoming.place, incoming.personal),
            key=f"{row.platform}:{row.event_id}",
            deployment_id=deployment or 0,
            inputs=incoming.inputs,
            train_id=train or 0,
        )
        await action(context)
        return Answer("accepted")

    async def _record(self, row: InboxRow, caller: Person | None, subject: str, answer: Answer) -> None:
        at = self._tools.clock()
        actor = caller.id if caller is not None else f"{row.platform}:{row.payload['user_id']}"
        entry = AuditEntry(
            at, actor[:128], row.kind, subject[:255], answer.outcome, answer.code[:64], answer.text[:1000]
        )

        notice = _reply(row, answer)
        send = self._send if notice is not None and row.platform in self._direct else None

        done = inbox.Done(row.id, answer.outcome, answer.text, at)
        record = _Record(done, entry, notice, send is not None, row.received_at)
        if notice is not None and send is not None:
            await self._record_and_send(record, notice, _said(row, answer), send)
        elif self._tools.db.is_sqlite:
            await self._record_all([record])
        else:
            await self._recording.add(record)
        for watcher in self._watchers:
            watcher(row, answer, (self._tools.clock() - row.received_at).total_seconds())
        for listener in self._on_reply if notice is not None and send is None else ():
            listener()

    async def _record_and_send(self, record: _Record, notice: NewNotice, message: Message, send: Send) -> None:
        """Both at once, for who asked waits for no second commit: should this one fail, it is all done again.

        What was posted by then is found by its key, and shows what came of it then.
        """
        stored: asyncio.Future[OutboxRow | None] = asyncio.get_running_loop().create_future()
        send(notice, message, record.received_at, stored)
        held: OutboxRow | None = None
        try:
            (held,) = await self._record_all([record])
        finally:
            if not stored.done():
                stored.set_result(held)

    async def _record_all(self, records: Sequence[_Record]) -> list[OutboxRow | None]:
        def work(tx: Tx) -> list[OutboxRow | None]:
            first = inbox.finish_all(tx, [one.done for one in records])
            return [one.leave(tx) if one.done.id in first else None for one in records]

        db = self._tools.db
        return await (db.together if db.is_sqlite else db.run)(work)


class Clicks:
    """Clicks of a platform that answers them only when they are done."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Take who does them."""
        self._dispatcher = dispatcher

    async def click(self, incoming: IncomingClick) -> ClickAnswer:
        """Store the click, do it once, and say what came of it."""
        return await self._dispatcher.handle_click(incoming)


def _fields(incoming: IncomingCommand) -> dict[str, Any]:
    """As `asdict`, which copies deeply and slowly."""
    return {name: getattr(incoming, name) for name in IncomingCommand.__slots__}


def storable(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload without what no database takes: a zero byte or half a surrogate must not stick for ever."""
    return {
        key: _storable(value) if isinstance(value, str) else storable(value) if isinstance(value, Mapping) else value
        for key, value in payload.items()
    }


def _storable(text: str) -> str:
    if text.isascii() and "\x00" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def command_text(text: str) -> str:
    """The line without the bot's name in front."""
    line = text.strip().removeprefix("@slipway").strip()
    return line.lstrip("/／") if line[:1] in "/／" else line


def _place(payload: Mapping[str, Any]) -> str:
    """Where a command is answered."""
    return f"@{payload['user_id']}" if payload.get("personal") else str(payload["place"])


def _subject(row: InboxRow) -> str:
    if row.kind == "click":
        return f"{row.payload['button']} on {row.payload['message_ref']}"
    return " ".join(str(row.payload["text"]).split())[:255]


def _stranger(row: InboxRow) -> Refused:
    account = f"{row.platform} account {row.payload['user_id']}"
    return Refused(
        f"I do not know you: the {account} belongs to nobody in the catalog.",
        hint="Ask an administrator to add it to people.yaml.",
        code=ReasonCode.UNKNOWN_CALLER,
    )


def _refused(error: SlipwayError, subject: str, caller: Person | None) -> Answer:
    text = error.sentence()
    if isinstance(error, Refused):
        card = Card(
            title=f"Refused: {subject}" if subject.startswith("/") else "Refused",
            state="refused",
            text=text,
            fields=_why(error, caller),
        )
        return Answer("refused", text, card, error.code, 403)
    if isinstance(error, Conflict):
        return Answer("refused", text, None, "conflict", 409)
    if isinstance(error, BadInput):
        return Answer("refused", text, None, "bad_input", 400)
    if isinstance(error, ProviderError):
        return Answer("failed", text, Card("That did not work", "error", text=text), "provider", 502)
    return Answer("failed", text, Card("That did not work", "error", text=text), "failed", 500)


def _why(error: Refused, caller: Person | None) -> dict[str, str]:
    rules = [f"{one.rule} ({one.where})" if one.where else one.rule for one in error.reasons if one.rule]
    fields = {"reason": error.code}
    if rules:
        fields["rule"] = ", ".join(rules)
    if error.next_change_at is not None:
        fields["changes"] = say_when(error.next_change_at, caller.zone if caller is not None else "")
    elif error.reasons:
        fields["changes"] = "not by waiting"
    return fields


def _reply(row: InboxRow, answer: Answer) -> NewNotice | None:
    """The answer as a message. A click that worked shows on the card; one that did not is told to that person alone."""
    if not (answer.text or answer.card):
        return None
    if row.kind == "click":
        private = str(row.payload.get("private_place") or "")
        content = message_to_json(_said(row, answer))
        refused = private and answer.outcome != "accepted"
        key = f"reply:{row.id}"
        return NewNotice(key, row.platform, private, Notice.MESSAGE, content=content, priority=2) if refused else None
    platform = str(row.payload["platform"])
    content = message_to_json(_said(row, answer))
    if not platform:  # a job of a Slipway without any chat
        return None
    return NewNotice(
        key=f"reply:{row.id}",
        platform=platform,
        place=_place(row.payload),
        kind=Notice.MESSAGE,
        thread=str(row.payload.get("message_id") or row.payload.get("thread") or ""),
        content=content,
        priority=2,
    )


def _said(row: InboxRow, answer: Answer) -> Message:
    return Message(answer.text, answer.card if row.kind == "command" else None)


def _again(row: InboxRow | None) -> Answer:
    if row is None or row.done_at is None:
        return Answer("accepted", status=202)
    outcome, text = row.outcome, row.answer
    return Answer(outcome, text, status=200 if outcome == "accepted" else 409)
