"""The console with a made-up bot behind it: cards that move, approvals, failures, without building anything.

    python -m tests.support.console_playground [--port 8399] [--tokens]

The browser tests use the same, faster.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette

from bot.catalog.model import Catalog, Environment, Person, Service, SourceLine, Team, Window
from bot.catalog.model import Scope as Where
from bot.chat.base import ClickAnswer, IncomingClick, IncomingCommand
from bot.chat.console import ConsoleAdapter
from bot.clock import utc_now
from bot.commanding import Command
from bot.demo.greeting import greeting
from bot.store.console import ConsoleStore
from bot.store.database import Database, sqlite_url
from bot.store.migrate import migrate
from bot.web.console import Access, Greeting, console_routes
from bot.web.server import listen
from commands import approve, cancel, deploy, help, history, logs, rollback, status, whoami, why
from notifiers.card import Button, ButtonStyle, Card, Input, Message, Step
from notifiers.console import ConsoleClient
from tests.fakes.catalogs import make_target

COMMANDS: tuple[Command, ...] = (
    deploy.command,
    rollback.command,
    status.command,
    history.command,
    why.command,
    approve.approve_command,
    approve.reject_command,
    cancel.command,
    logs.command,
    whoami.command,
    help.command,
)

PEOPLE = {
    "owner": "Olive Owner",
    "lead": "Leo Lead",
    "releaser": "Rae Releaser",
    "developer": "Dana Developer",
    "outsider": "Otto Outsider",
}

XSS = '<img src=x onerror="document.title=1">'

LOG = """============================= test session starts ==============================
collected 24 items
tests/test_total.py F
________________________________ test_rounding _________________________________
    def test_rounding() -> None:
>       assert total(["0.10", "0.20"]) == "0.30"
E       AssertionError: assert '0.30000000000000004' == '0.30'
tests/test_total.py:14: AssertionError
=========================== 1 failed, 23 passed in 0.41s ==========================="""


def make_catalog() -> Catalog:
    """Five people, three services, three environments, as in the demo."""
    environments = {
        name: Environment(name, order, name if name != "prod" else "main", protected=name == "prod")
        for order, name in enumerate(("dev", "test", "prod"))
    }
    services = {
        name: Service(
            name,
            team="payments",
            repo="",
            owners=("owner",),
            targets={place: make_target(service=name, environment=place) for place in environments},
        )
        for name in ("hello", "pay", "gate")
    }
    people = {one: Person(one, name, f"{one}@slipway.example") for one, name in PEOPLE.items()}
    team = Team("payments", "Payments", leads=("lead",), members=("developer",), channels={"console": "#payments"})
    window = Window("days", Where(), (0,), time(9), time(17), "UTC", SourceLine("slipway.yaml", 1))
    return Catalog(
        digest="0" * 64,
        environments=environments,
        teams={"payments": team},
        people=people,
        services=services,
        windows=(window,),
        freezes=(),
        emergency=(),
        release_managers=("releaser",),
        channels={"console": "#releases"},
        by_chat_id={("console", one): person for one, person in people.items()},
    )


@dataclass(frozen=True)
class FakeClicks:
    """The bot as the console's clicks see it."""

    bot: FakeBot

    async def click(self, incoming: IncomingClick) -> ClickAnswer:
        """Decide at once."""
        return await self.bot.press(incoming)


STAGES = ("build", "gates", "write to Git", "sync", "verify")
STATES = ("building", "gating", "writing", "syncing", "verifying")


@dataclass
class FakeBot:
    """Answers commands and clicks with cards that move. `pace`: seconds between two changes of a card."""

    client: ConsoleClient
    pace: float
    people: Mapping[str, str] = field(default_factory=lambda: PEOPLE)
    commands: list[IncomingCommand] = field(default_factory=list)
    clicks: list[IncomingClick] = field(default_factory=list)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _waiting: dict[str, list[tuple[str, str, Card]]] = field(default_factory=dict)

    async def command(self, incoming: IncomingCommand) -> bool:
        """Answer in the background; a repeat is not answered again."""
        if any(one.event_id == incoming.event_id for one in self.commands):
            return False
        self.commands.append(incoming)
        self._spawn(self._answer(incoming))
        return True

    async def click(self, incoming: IncomingClick) -> bool:
        """Of platforms that are answered before a click is decided."""
        return (await self.press(incoming)).accepted

    async def press(self, incoming: IncomingClick) -> ClickAnswer:
        """Approve as the lead; anybody else has no right to."""
        self.clicks.append(incoming)
        if incoming.button in ("approve", "reject") and incoming.user_id not in ("lead", "releaser"):
            return ClickAnswer(False, 403, "Only leads of Payments and release managers may approve; ask Leo Lead.")
        if incoming.button == "emergency":
            self._spawn(self._ask_for_approval(incoming))
        elif incoming.button in ("approve", "reject"):
            self._spawn(self._decide(incoming))
        elif incoming.button == "cancel":
            return ClickAnswer(False, 409, "Too late to cancel: the change is in Git already.")
        return ClickAnswer(True)

    async def stop(self) -> None:
        """End every moving card."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, incoming: IncomingCommand) -> None:
        words = incoming.text.lstrip("/").split()
        match words:
            case ["deploy", "hello", environment, *_] if incoming.user_id != "developer":
                await self._move(incoming, environment, "succeeded")
            case ["deploy", "gate", environment, *_]:
                await self._move(incoming, environment, "failed")
            case ["deploy", "pay", *_]:
                await self._post(incoming, self._closed())
            case ["deploy", *_]:
                await self._post(incoming, self._refused(incoming))
            case ["evil"]:
                await self._post(incoming, self._evil())
            case ["help"]:
                await self._post(incoming, Card("What you can do", fields={f"/{c.name}": c.summary for c in COMMANDS}))
            case _:
                text = f"There is no command /{words[0]}. Did you mean /deploy? /help lists what you can do."
                await self._post(incoming, None, text)

    async def _post(self, incoming: IncomingCommand, card: Card | None, text: str = "") -> str:
        message = Message(text or (card.title if card else ""), card)
        return await self.client.post(incoming.place, message, f"k{next(self._ids)}", incoming.thread)

    async def _move(self, incoming: IncomingCommand, environment: str, end: str) -> None:
        service = incoming.text.lstrip("/").split()[1]
        title = f"{service} 1.4.2 to {environment}"
        number = next(self._ids)
        cancel_button = Button("cancel", "Cancel", ButtonStyle.DANGER, confirm="The deployment ends where it is.")
        fields = {"version": "1.4.2", "commit": "3f9c2d1a", "requested by": PEOPLE[incoming.user_id]}
        card = Card(title, "queued", f"d-{number}", 0, fields=fields, buttons=(cancel_button,))
        ref = await self._post(incoming, card)
        for index, state in enumerate(STATES):
            for part in (30, 70, 100):
                await asyncio.sleep(self.pace / 3)
                percent = (index * 100 + part) // len(STATES)
                card = replace(card, state=state, progress=min(percent, 99), steps=_steps(index))
                await self.client.edit(incoming.place, ref, Message(title, card))
        final = self._ended(card, end, environment)
        await self.client.edit(incoming.place, ref, Message(title, final))
        if end == "failed":
            failure = Card(f"{title} failed", "failed", card.deployment, text="verify: never healthy", excerpt=LOG)
            await self.client.post(f"@{incoming.user_id}", Message(failure.title, failure), f"f{number}")

    def _ended(self, card: Card, end: str, environment: str) -> Card:
        if end == "succeeded":
            fields = {
                **card.fields,
                "digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "url": f"http://127.0.0.1:8401/{environment}",
            }
            return replace(card, state=end, progress=100, steps=_steps(5), fields=fields, buttons=())
        text = "It was built and started, but did not become healthy within 60 seconds."
        steps = (*_steps(4)[:4], Step("verify", "failed", "503 from /healthz, 12 times"))
        again = Button("again", "Deploy again", inputs=(Input("reason", "Reason", required=True),))
        return replace(card, state=end, progress=92, text=text, steps=steps, excerpt=LOG, buttons=(again,))

    def _refused(self, incoming: IncomingCommand) -> Card:
        text = "You are not an owner of this service in prod. Ask Olive Owner, or a release manager (Rae Releaser)."
        return Card(
            f"Refused: {incoming.text}", "refused", text=text, fields={"rule": "owners (services/hello.yaml:3)"}
        )

    def _closed(self) -> Card:
        text = "The window 'release-days' of prod is closed until Tuesday 10:00 (Europe/Berlin)."
        fields = {"rule": "release-days (slipway.yaml:14)", "opens": "Tue 24 Nov, 10:00"}
        reason = Input("reason", "Why can it not wait?", required=True)
        button = Button("emergency", "Ask for emergency approval", ButtonStyle.PRIMARY, inputs=(reason,))
        return Card("pay 2.0.1 to prod", "refused", "d-7", text=text, fields=fields, buttons=(button,))

    def _evil(self) -> Card:
        button = Button("approve", XSS, confirm=XSS)
        return Card(
            XSS,
            "failed",
            text=XSS,
            fields={XSS: XSS, "link": "javascript:alert(1)"},
            excerpt=XSS * 3,
            steps=(Step(XSS, "failed", XSS),),
            buttons=(button,),
        )

    async def _ask_for_approval(self, click: IncomingClick) -> None:
        name = self.people[click.user_id]
        buttons = (
            Button("approve", "Approve", ButtonStyle.PRIMARY),
            Button("reject", "Reject", ButtonStyle.DANGER, confirm="Nobody else is asked then."),
        )
        fields = {"digest": "sha256:5feceb66ffc8", "reason": click.inputs.get("reason", ""), "needed": "1 of 2 people"}
        card = Card(
            f"{name} asks for pay 2.0.1 to prod now", "awaiting_approval", "d-7", fields=fields, buttons=buttons
        )
        copies = []
        for place in (click.place, "@lead", "@releaser"):
            ref = await self.client.post(place, Message(card.title, card), f"a{next(self._ids)}")
            copies.append((place, ref, card))
        for _place, ref, _card in copies:
            self._waiting[ref] = copies

    async def _decide(self, click: IncomingClick) -> None:
        yes = click.button == "approve"
        for place, ref, card in self._waiting.get(click.message_ref, []):
            fields = {**card.fields, "approved by" if yes else "rejected by": self.people[click.user_id]}
            decided = replace(card, state="building" if yes else "rejected", fields=fields, buttons=())
            await self.client.edit(place, ref, Message(card.title, decided))


def _steps(running: int) -> tuple[Step, ...]:
    def state(index: int) -> str:
        return "succeeded" if index < running else "running" if index == running else "pending"

    details = ("24 tests, 0 failed", "coverage 91 %", "one commit", "", "healthy for 10 s")
    return tuple(
        Step(name, state(index), details[index] if index < running else "") for index, name in enumerate(STAGES)
    )


@dataclass
class Playground:
    """A running playground."""

    app: Starlette
    store: ConsoleStore
    client: ConsoleClient
    bot: FakeBot
    db: Database


def make_playground(
    directory: Path,
    *,
    pace: float = 1.0,
    tokens: Mapping[str, SecretStr] | None = None,
    url: str = "",
    clock: Callable[[], datetime] = utc_now,
    heartbeat: float = 15.0,
    catalog: Callable[[], Catalog] | None = None,
    said: Greeting | None = None,
) -> Playground:
    """Build one; the caller closes `db`."""
    db = Database(url or sqlite_url(directory / "playground.db"))
    migrate(db)
    store = ConsoleStore(db, clock)
    client = ConsoleClient(store)
    bot = FakeBot(client, pace)
    routes = console_routes(
        store=store,
        adapter=ConsoleAdapter(bot, FakeClicks(bot), store),
        catalog=catalog or _constant(make_catalog()),
        access=Access(open=tokens is None, tokens=tokens, clock=clock),
        commands=COMMANDS,
        greeting=said if said is not None else greeting(),
        db=db,
        heartbeat=heartbeat,
    )
    return Playground(Starlette(routes=routes), store, client, bot, db)


def _constant(catalog: Catalog) -> Callable[[], Catalog]:
    return lambda: catalog


@asynccontextmanager
async def serving(playground: Playground, port: int = 0) -> AsyncIterator[str]:
    """Serve it on loopback for the length of the context, and give its address."""
    bound = listen("127.0.0.1", port)
    config = uvicorn.Config(playground.app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        playground.store.close()
        await playground.bot.stop()
        server.should_exit = True
        await task
        playground.db.close()


async def _main(port: int, with_tokens: bool) -> None:
    tokens = {one: SecretStr(f"token-of-{one}-for-playing") for one in PEOPLE} if with_tokens else None
    with TemporaryDirectory() as directory:
        async with serving(make_playground(Path(directory), tokens=tokens), port) as address:
            print(f"ready {address}", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8399)
    parser.add_argument("--tokens", action="store_true")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(arguments.port, arguments.tokens))
