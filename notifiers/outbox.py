"""Sends what is wanted and not yet sent: durable, in order within a place, coalescing, retried, and never twice.

Deciding (what is wanted) happened in the transaction of the change; here is only sending. A failed message never
changes a deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

import structlog

from bot.catalog.model import Catalog
from bot.clock import Clock, Seconds, elapsed, rest_after, until_beat
from bot.errors import OutcomeUnknown, ProviderError
from bot.store import deployments as rows
from bot.store import outbox
from bot.store.batches import Batches
from bot.store.database import Database, Tx
from bot.store.outbox import NewNotice, Notice, OutboxRow, Sent
from bot.store.senders import Place
from notifiers import undelivered
from notifiers.base import ChatClient, ChatClosed, ChatRejected, ChatUnavailable, FindsPosted, MessageGone, Paced
from notifiers.card import Message
from notifiers.codec import digest_of, message_from_json, message_to_json
from notifiers.places import LEASE, OwnPlaces
from notifiers.render import View, approval_message, deployment_message, failure_message

log = structlog.get_logger(__name__)

_Record = Sent | Callable[[Tx], None]
"""What is to be written down of a message that was dealt with."""

RENDERERS: Mapping[Notice, Callable[[View], Message]] = {
    Notice.DEPLOYMENT: deployment_message,
    Notice.APPROVAL: approval_message,
    Notice.FAILURE: failure_message,
}
WINDOW = 250
"""How many messages of a place are looked through for one that may go."""
AHEAD, AHEAD_SECONDS = 20, 1.0
"""How many messages of a place are read at once, and for how long these go before what is more important since."""
SLOW = 0.5
"""Seconds between two sendings from which on each is read by itself."""
BREATH = 0.01
"""Seconds after a look at the table in which whoever calls is served by one more."""
PATIENCE = 5.0
MAX_SUMMARY = 11_000
POLL = 20.0
"""Seconds after which the table is looked at although nobody called."""
POLL_REPLICAS = 3.5
"""The same where another replica may have died, or its signal been lost."""
OTHERS = 0.1
"""Seconds between two looks at what other replicas leave behind."""
ARRIVALS = 0.05
"""Seconds for which answers that were posted are gathered before it is written down that they arrived."""
THEIRS = 1.0
"""Seconds in which a message is left to the replica that stored it, which as a rule sends it at once."""
MOMENT = 2.0
"""Seconds that an answer waits for its place to take it before it is left to the place's sender."""


@dataclass(frozen=True, slots=True)
class _Settled:
    """What became of the last message that was sent to a place. doubtful: of another one there it is not known."""

    place: Place
    record: _Record
    doubtful: bool


@dataclass(frozen=True, slots=True)
class _Coming:
    """A message that is being stored. since: not posted before; stored: its row; None: it was not stored."""

    notice: NewNotice
    message: Message
    since: datetime
    stored: asyncio.Future[OutboxRow | None]


class Outbox:
    """One sender per place, so that messages of a place keep their order and a slow place delays only itself."""

    def __init__(
        self,
        db: Database,
        catalog: Callable[[], Catalog],
        clients: Mapping[str, ChatClient],
        clock: Clock,
        pace: Mapping[str, float] | None = None,
        speak: Callable[[str, str, Message], Message] = lambda _platform, _place, message: message,
        patience: float = PATIENCE,
        elapsed: Seconds = elapsed,
        lease: timedelta = LEASE,
    ) -> None:
        """clients: platform -> client; pace: platform -> seconds between two sendings to one place.

        speak: given platform and place, puts a message into the language that is read there.

        patience: seconds an end may wait for its card to be edited before it is said in a message of its own.

        lease: how long a silent replica keeps a place to itself.
        """
        self._patience = patience
        self._elapsed = elapsed
        self._called = True
        self._lines: dict[tuple[str, str], deque[_Coming]] = {}
        self._early: set[str] = set()
        """Keys of messages whose posting began before they were stored, until it is written down that they arrived."""
        self._direct: set[asyncio.Task[None]] = set()
        self._gathered: list[tuple[OutboxRow, _Record]] = []
        self._unsure: dict[int, tuple[str, str]] = {}
        self._summed: set[tuple[int, int]] = set()
        self._late: dict[tuple[int, int], float] = {}
        self._resting: dict[tuple[str, str], datetime] = {}
        self._nudges: dict[tuple[str, str], asyncio.Event] = {}
        self._started_at = clock()
        self._speak = speak
        self._db = db
        self._catalog = catalog
        self._clients = dict(clients)
        # Asked here once: what a client can is looked up among all its attributes.
        self._paced = {name: one for name, one in clients.items() if isinstance(one, Paced)}
        self._clock = clock
        self._pace = dict(pace or {})
        self._own = OwnPlaces(db, clock, elapsed, lease, self._look_all)
        # Of all places in the same moment one commit each, not one for every place.
        self._settling: Batches[_Settled, list[OutboxRow]] = Batches(self._settle_all)
        self._writing: Batches[_Record, None] = Batches(self._write_all)
        self._wanted = asyncio.Event()
        self._senders: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._soon: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Begin to send; what was left behind by the process before goes first."""
        self._loop = asyncio.get_running_loop()
        if self._db.is_sqlite:
            at = self._clock()
            await self._db.run(lambda tx: outbox.forget_holds(tx, at))
        self._task = asyncio.create_task(self._watching())
        self._renewal = (
            None if self._db.is_sqlite else asyncio.create_task(self._own.keep(self._senders, POLL_REPLICAS))
        )

    async def stop(self) -> None:
        """Send what is due for a moment, then stop; the rest stays in the table."""
        if self._soon is not None:
            self._soon.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if sending := [*self._senders.values(), *self._direct]:
            _, late = await asyncio.wait(sending, timeout=1.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        if self._task is not None:
            with contextlib.suppress(ProviderError):
                await self._db.run(outbox.hand_over)

    def poke(self, _deployment_id: int = 0) -> None:
        """Something may be behind. May be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        self._called = True
        self._wanted.set()

    def poke_soon(self) -> None:
        """As `poke`, for what another replica leaves to us: a burst there is one look here."""
        if self._loop is not None and self._soon is None:
            self._soon = self._loop.call_later(OTHERS, self._look_soon)

    def _look_soon(self) -> None:
        self._soon = None
        self._call()

    def send(
        self, notice: NewNotice, message: Message, since: datetime, stored: asyncio.Future[OutboxRow | None]
    ) -> None:
        """Send a message while it is stored and held, in order with the others of its place that came this way."""
        place, coming = (notice.platform, notice.place), _Coming(notice, message, since, stored)
        if place in self._lines:
            self._lines[place].append(coming)
            return
        self._lines[place] = deque([coming])
        self._keep(asyncio.create_task(self._line(place)))

    async def _line(self, place: tuple[str, str]) -> None:
        """Send what was handed over; what cannot go now is left to the sender of the place."""
        line = self._lines[place]
        try:
            while line and self._db.is_sqlite and place not in self._resting:
                if (hold := self._hold_of(*place)) > 0:
                    # A moment is waited for here: to give it back costs more than all else about it.
                    if hold > MOMENT:
                        break
                    await asyncio.sleep(hold)
                elif await self._send_coming(line[0]):
                    line.popleft()
                else:
                    break
        except ProviderError as error:
            log.warning("answer_left_to_the_outbox", error=error.message)
        finally:
            del self._lines[place]
            left = [row for coming in line if (row := await coming.stored) is not None]
            if left:
                at = self._clock()
                with contextlib.suppress(ProviderError):
                    await self._db.run(lambda tx: outbox.let_go(tx, left, at))
                self._call()

    async def _send_coming(self, coming: _Coming) -> bool:
        """Post it while it is stored. False: not now."""
        notice, posting = coming.notice, None
        if coming.since >= self._started_at and notice.key not in self._early:  # else it is looked for first
            posting = asyncio.create_task(self._post_early(notice, coming.message))
        try:
            row = await coming.stored
            if row is None:  # It is done again, and what was posted is found then.
                if posting is not None:
                    await asyncio.gather(posting, return_exceptions=True)
                return True
            if posting is None and row.next_at <= self._clock():
                return True  # the sender of the place may have it
            record = await self._deliver(row, coming.message, posting)
        finally:
            if posting is not None:
                posting.cancel()
        if record is not None:
            self._gather(row, record)
        return record is not None

    async def _post_early(self, notice: NewNotice, message: Message) -> str:
        said = self._speak(notice.platform, notice.place, message)
        self._early.add(notice.key)
        try:
            return await self._clients[notice.platform].post(notice.place, said, notice.key, notice.thread)
        except (ChatUnavailable, ChatRejected):
            self._early.discard(notice.key)
            raise

    async def _watching(self) -> None:
        while True:
            self._wanted.clear()
            began, is_called = elapsed(), self._called
            pause = await self._round()
            if is_called:  # else nobody was waiting for it
                await rest_after(began, least=BREATH)
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def _round(self) -> float:
        """Start a sender for every place that is behind. Returns seconds until the next look."""
        called, self._called = self._called, False
        try:
            look = self._db.read if called else self._db.glance
            behind = await look(lambda tx: outbox.places_behind(tx, list(self._clients)))
        except ProviderError:
            return 1.0
        except Exception:
            log.exception("outbox_stumbled")
            return 5.0
        self._own.remember_only((platform, name) for platform, name, _ in behind)
        now, pause = self._clock(), POLL if self._db.is_sqlite else until_beat(POLL_REPLICAS)
        due_at = now if called or self._db.is_sqlite else now - timedelta(seconds=THEIRS)
        for platform, name, first_at in behind:
            place = (platform, name)
            next_at = max(first_at, self._resting.get(place, first_at))
            left = self._own.wait(place)
            if place in self._senders:
                self._nudges[place].set()
            elif left is not None and left > 0:
                pause = min(pause, left)
            elif next_at > (due_at if left is None else now):
                pause = min(pause, (next_at - due_at).total_seconds())
            else:
                self._nudges[place] = asyncio.Event()
                self._senders[place] = asyncio.create_task(self._serve(place))
        return max(0.02, pause)

    async def _serve(self, place: tuple[str, str]) -> None:
        try:
            ahead = await self._take(place)
            while ahead:
                ready, wait = await self._choose(place, ahead)
                if ready:
                    ahead = await self._send_all(place, ready)
                elif wait is None:
                    break
                else:
                    await self._nudged(place, min(wait, self._patience) if self._late else wait)
                    ahead = await self._take(place)
        except asyncio.CancelledError:
            # Perhaps cut in a sending: not let go, so that the next one knows of the doubt.
            self._own.forget(place)
            raise
        except ProviderError as error:
            log.warning("sender_paused", error=error.message)
            await asyncio.sleep(1.0)
        except Exception:
            log.exception("sender_stumbled", platform=place[0])
            await asyncio.sleep(1.0)
        finally:
            if place not in self._unsure.values():  # else the lease runs out, and the next one knows of the doubt
                await self._own.leave(place)
            self._own.forget(place)
            self._senders.pop(place, None)
            self._called |= self._nudges[place].is_set()
            self._wanted.set()

    async def _take(self, place: tuple[str, str]) -> list[OutboxRow]:
        """Be the one replica that sends to this place. Returns what is behind there; nothing if another one is."""
        self._nudges[place].clear()
        if self._own.is_ours(place):
            behind = await self._db.read(lambda tx: self._look(tx, place))
        else:
            behind = await self._own.take(place)
        if not behind and self._own.is_ours(place):
            self._own.settled(place)
        return behind

    def _look(self, tx: Tx, place: Place) -> list[OutboxRow]:
        return outbox.due_in(tx, *place, limit=self._ahead(place))

    def _look_all(self, tx: Tx, places: Iterable[Place]) -> Mapping[Place, list[OutboxRow]]:
        return outbox.due_in_all(tx, {place: self._ahead(place) for place in places})

    def _ahead(self, place: Place) -> int:
        return 1 if self._pace.get(place[0], 0.0) >= SLOW else AHEAD

    async def _nudged(self, place: tuple[str, str], wait: float) -> None:
        nudge = self._nudges[place]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await nudge.wait()

    async def _choose(self, place: tuple[str, str], ahead: list[OutboxRow]) -> tuple[Sequence[OutboxRow], float | None]:
        """The first messages of this place that may go now; else none, and seconds until the platform takes more.

        None twice: nothing here can go before the next look.
        """
        now = self._clock()
        ready = list(takewhile(lambda row: row.next_at <= now and self._hold(row) <= 0, ahead))
        if ready:
            return ready, None
        wait, blocked = None, False
        behind = await self._db.read(lambda tx: outbox.due_in(tx, *place, limit=WINDOW))
        held: list[OutboxRow] = []
        for row in behind:
            early = row.next_at > now
            # What is not posted yet keeps its order; edits pass what waits.
            if early or (blocked and not row.ref):
                blocked = blocked or (early and not row.ref)
                continue
            hold = self._hold(row)
            if hold <= 0:
                return [row], None
            wait = hold if wait is None else min(wait, hold)
            held.append(row)
        if wait is not None:
            await self._sum_up(place, held, wait)
        return (), wait

    async def _send_all(self, place: tuple[str, str], ready: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Send these in their order, as far as they go. Returns what is behind then; nothing if the place must rest."""
        began, pace = self._elapsed(), self._pace.get(place[0], 0.0)
        noted: list[asyncio.Task[None]] = []
        for row in ready:
            if noted and (self._hold(row) > 0 or self._elapsed() - began > AHEAD_SECONDS):
                break
            record = await self._deliver(row)
            if record is None:
                break
            if row is ready[-1]:
                await asyncio.gather(*noted)  # before the look, which would find them again
                behind = await self._write_down_and_look(place, row, record)
                await asyncio.sleep(pace)
                return behind
            noted.append(self._write_down_later(row, record))
            await asyncio.sleep(pace)
        await asyncio.gather(*noted)
        return [] if place in self._resting else await self._take(place)

    def _hold(self, row: OutboxRow) -> float:
        """Seconds the platform wants us to wait before this message."""
        return self._hold_of(row.platform, row.place, edit=bool(row.ref))

    def _hold_of(self, platform: str, place: str, edit: bool = False) -> float:
        paced = self._paced.get(platform)
        return paced.hold(place, edit) if paced is not None else 0.0

    async def _sum_up(self, place: tuple[str, str], held: list[OutboxRow], wait: float) -> None:
        """Say in one new message how deployments ended whose cards cannot be edited soon enough."""
        late = [row for row in held if row.ended and row.ref and (row.id, row.wanted) not in self._summed]
        now = self._elapsed()
        since = [self._late.setdefault((row.id, row.wanted), now) for row in late]
        if not late or (wait < self._patience and now - min(since) < self._patience):
            return
        catalog = self._catalog()
        views = await self._db.read(lambda tx: [view_of(tx, row.deployment_id or 0, catalog) for row in late])
        lines = [deployment_message(view).text for view in views if view is not None]
        text = "The cards above follow as fast as the chat allows. Ended:\n" + "\n".join(lines)
        marks = "-".join(f"{row.id}.{row.wanted}" for row in late)
        key = f"ended:{place[0]}:{hashlib.sha256(marks.encode()).hexdigest()[:32]}"
        notice = NewNotice(
            key, *place, Notice.MESSAGE, content=message_to_json(Message(text[:MAX_SUMMARY])), priority=3
        )
        at = self._clock()
        await self._db.run(lambda tx: outbox.put(tx, notice, at))
        self._summed |= {(row.id, row.wanted) for row in late}
        self._late.clear()
        self._nudges[place].set()

    async def _deliver(
        self, row: OutboxRow, direct: Message | None = None, posting: asyncio.Task[str] | None = None
    ) -> _Record | None:
        """Send one message. Returns what is to be written down of it; None: not now.

        direct: its content, if known. posting: it is being posted already.
        """
        message = self._spoken(row, direct) if direct is not None else await self._render(row)
        if message is None:
            return lambda tx: outbox.bury(tx, row, "nothing to show")
        digest = digest_of(message)
        if digest == row.last_hash and row.ref:
            return Sent(row, row.ref, digest)
        if not self._own.is_ours((row.platform, row.place)):
            return None
        try:
            ref = await (posting if posting is not None else self._send(row, message))
        except ChatUnavailable as error:
            await self._later(row, error)
            return None
        except OutcomeUnknown as error:
            self._unsure[row.id] = (row.platform, row.place)
            await self._later(row, ChatUnavailable(error.message))
            return None
        except ChatRejected as error:
            self._unsure.pop(row.id, None)
            log.warning("message_refused", platform=row.platform, kind=row.kind.value, error=error.message)
            said, at = error.message, self._clock()
            await self._db.run(lambda tx: outbox.refused(tx, row, said, at))
            await self._tell_somebody(row, said)
            return lambda tx: None
        except Exception:  # a defect of ours, perhaps behind what was posted
            self._unsure[row.id] = (row.platform, row.place)
            raise
        self._unsure[row.id] = (row.platform, row.place)  # until it is written down that it arrived
        self._resting.pop((row.platform, row.place), None)
        return Sent(row, ref, digest, self._clock())

    async def _write_down_and_look(self, place: tuple[str, str], row: OutboxRow, record: _Record) -> list[OutboxRow]:
        """Write down what became of a message. Returns what is behind there then; if nothing is, the place is left."""
        self._nudges[place].clear()
        doubtful = any(where == place and number != row.id for number, where in self._unsure.items())

        settled = _Settled(place, record, doubtful)
        if self._db.is_sqlite:
            (behind,) = await self._settle_all([settled])
        else:
            behind = await self._settling.add(settled)
        self._arrived(row)
        if not behind and not doubtful:
            self._own.settled(place)
            self._own.forget(place)
        return behind

    async def _settle_all(self, settled: Sequence[_Settled]) -> list[list[OutboxRow]]:
        def work(tx: Tx) -> list[list[OutboxRow]]:
            _record_all(tx, [one.record for one in settled])
            behind = self._look_all(tx, [one.place for one in settled])
            over = [one.place for one in settled if one.place not in behind and not one.doubtful]
            self._own.leave_in(tx, over)
            return [behind.get(one.place, []) for one in settled]

        return await (self._db.together(work) if self._db.is_sqlite else self._db.run(work))

    def _write_down_later(self, row: OutboxRow, record: _Record) -> asyncio.Task[None]:
        return self._keep(asyncio.create_task(self._write_down([(row, record)])))

    def _gather(self, row: OutboxRow, record: _Record) -> None:
        """As `_write_down_later`, in one commit for all of a moment: each by itself is a third of what they write."""
        self._gathered.append((row, record))
        if len(self._gathered) == 1:
            self._keep(asyncio.create_task(self._write_down_gathered()))

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._direct.add(task)
        task.add_done_callback(self._direct.discard)
        return task

    async def _write_down_gathered(self) -> None:
        await asyncio.sleep(ARRIVALS)
        gathered, self._gathered = self._gathered, []
        await self._write_down(gathered)

    async def _write_down(self, done: Sequence[tuple[OutboxRow, _Record]]) -> None:
        records = [record for _, record in done]
        try:
            if self._db.is_sqlite:
                await self._db.together(lambda tx: _record_all(tx, records))
            else:
                await asyncio.gather(*(self._writing.add(record) for record in records))
        except ProviderError as error:
            # They stay in doubt, so they are looked for before they are sent again.
            log.warning("arrivals_not_recorded", error=error.message)
            return
        for row, _ in done:
            self._arrived(row)

    def _arrived(self, row: OutboxRow) -> None:
        """It is written down what became of it."""
        self._unsure.pop(row.id, None)
        self._early.discard(row.key)

    async def _write_all(self, records: Sequence[_Record]) -> list[None]:
        await self._db.run(lambda tx: _record_all(tx, records))
        return [None] * len(records)

    async def _later(self, row: OutboxRow, error: ChatUnavailable) -> None:
        """Try again: when the platform says, or ever later."""
        if self._hold(row) > 0 and error.retry_after:
            return  # the whole lane waits, so nothing is noted on the message
        pause = error.retry_after or min(60.0, 0.5 * 2 ** min(row.attempts, 8))
        next_at, said = self._clock() + timedelta(seconds=pause), error.message
        self._resting[row.platform, row.place] = next_at
        await self._db.run(lambda tx: outbox.postpone(tx, row, next_at, said))
        if isinstance(error, ChatClosed):
            await self._tell_somebody(row, f"{error.message} {error.advice}")

    async def _tell_somebody(self, row: OutboxRow, why: str) -> None:
        """A message did not arrive: an answer goes to whoever asked, and of a card its requester hears, once a day."""
        at, catalog, platforms = self._clock(), self._catalog(), list(self._clients)

        def work(tx: Tx) -> None:
            notice = undelivered.instead(tx, row, why, catalog, platforms, at)
            if notice is not None:
                outbox.put(tx, notice, at)
                if notice.key.startswith("instead:"):
                    outbox.bury(tx, row, why)

        await self._db.run(work)
        self._call()

    async def _send(self, row: OutboxRow, message: Message) -> str:
        client = self._clients[row.platform]
        if row.ref:
            try:
                await client.edit(row.place, row.ref, message, row.key)
                return row.ref
            except MessageGone as error:
                log.info("message_posted_anew", platform=row.platform, error=error.message)
            return await client.post(row.place, message, row.key, row.thread)
        unsure = self._may_be_there(row)
        if unsure and isinstance(client, FindsPosted):
            # Our question, or the process before us, may have been answered with a message we do not know of.
            found = await client.find(row.place, row.key, row.thread, row.created_at)
            if found is not None:
                await client.edit(row.place, found, message, row.key)
                return found
        if unsure and not self._own.is_ours((row.platform, row.place)):
            # Looking took long, or we were paused meanwhile: whoever has the place now may have posted it.
            raise ChatUnavailable("Another replica sends to this place now.")
        ref = await client.post(row.place, message, row.key, row.thread)
        if unsure and not isinstance(client, FindsPosted):
            # Posting once per key may have given us the message of before, which still shows what was true then.
            await client.edit(row.place, ref, message, row.key)
        return ref

    def _may_be_there(self, row: OutboxRow) -> bool:
        """Whether it may have been posted without our knowing: by us, before our start, or by a lost replica."""
        doubted = self._own.doubted((row.platform, row.place))
        before_us = row.created_at < self._started_at or (doubted is not None and row.created_at <= doubted)
        return before_us or row.id in self._unsure or row.key in self._early

    async def _render(self, row: OutboxRow) -> Message | None:
        if row.kind is Notice.MESSAGE:
            message = message_from_json(row.content) if row.content is not None else None
        else:
            catalog = self._catalog()
            view = await self._db.read(lambda tx: view_of(tx, row.deployment_id or 0, catalog, self._clock()))
            message = RENDERERS[row.kind](view) if view is not None else None
        return self._spoken(row, message) if message is not None else None

    def _spoken(self, row: OutboxRow, message: Message) -> Message:
        return self._speak(row.platform, row.place, message)


def _record_all(tx: Tx, records: Sequence[_Record]) -> None:
    for one in records:
        if not isinstance(one, Sent):
            one(tx)
    outbox.sent_all(tx, [one for one in records if isinstance(one, Sent)])


def view_of(tx: Tx, deployment_id: int, catalog: Catalog, at: datetime | None = None) -> View | None:
    """What a card needs to know, or None if the deployment is gone."""
    seen = rows.get(tx, deployment_id)
    if seen is None:
        return None
    can_roll_back = False
    if seen.state.is_good:
        newest = rows.last_good(tx, seen.service, seen.environment)
        older = rows.last_good(tx, seen.service, seen.environment, before=seen.id, not_digest=seen.digest)
        can_roll_back = newest is not None and newest.id == seen.id and older is not None
    return View(seen, rows.votes_of(tx, deployment_id), catalog, can_roll_back, at)
