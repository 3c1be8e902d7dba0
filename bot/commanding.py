"""What a command is. Grammar, near-miss answers, completion and help all come from this one definition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:  # Commands are described without what they work with, which is loaded when it is first used.
    from bot.catalog.model import Catalog, Person
    from bot.clock import Clock
    from bot.deployments.model import Origin
    from bot.deployments.providers import Providers
    from bot.deployments.run_log import RunLogs
    from bot.deployments.service import Deployments
    from bot.policy.model import Permission
    from bot.sources.elsewhere import Elsewhere
    from bot.sources.git import Source
    from bot.sources.members import Memberships
    from bot.sources.owners import RepositoryOwners
    from bot.store.database import Database
    from notifiers.card import Card


class ArgKind(StrEnum):
    """What a word stands for; decides its hint and its completions."""

    SERVICE = "service"
    ENVIRONMENT = "environment"
    VERSION = "version"
    DEPLOYMENT = "deployment"
    PERSON = "person"
    WHEN = "when"
    TEXT = "text"
    COMMAND = "command"
    NUMBER = "number"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Arg:
    """How a field of the arguments' model is typed. option: written `--name`; label: shown in help, default the name.

    lead: a word that may be said before it, as in `promote pay to prod`.

    A TEXT option takes every word up to the next option, quotes or not.
    """

    kind: ArgKind
    option: bool = False
    label: str = ""
    lead: str = ""


class Args(BaseModel):
    """Base of what a command is given: frozen, and made ready when the command is first typed, not at every start."""

    model_config = ConfigDict(frozen=True, defer_build=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a command: a text, a card, or nothing because the deployment's own card is the answer."""

    text: str = ""
    card: Card | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What commands work with; built once in `app.py`."""

    db: Database
    deployments: Deployments
    catalog: Callable[[], Catalog]
    sources: Source
    providers: Providers
    directory: Path
    clock: Clock
    owners: RepositoryOwners
    memberships: Memberships
    elsewhere: Elsewhere
    commands: Sequence[Command] = ()
    run_logs: RunLogs | None = None


@dataclass(frozen=True, slots=True)
class CommandContext:
    """One call. catalog: the one in force when it came; key: unique per message, for everything that is created."""

    tools: Tools
    caller: Person
    catalog: Catalog
    origin: Origin
    key: str
    roles: frozenset[str] = frozenset()


Run = Callable[[CommandContext, Any], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it is registered. aliases: other names, also in other languages."""

    name: str
    summary: str
    example: str
    permission: Permission
    args: type[Args]
    run: Run
    aliases: tuple[str, ...] = ()
    notes: str = ""


@dataclass(frozen=True, slots=True)
class ClickContext:
    """One pressed button. deployment_id: of the card it was on, 0 if it is a train's; train_id: the other way round.

    inputs: what was typed into its form.
    """

    tools: Tools
    caller: Person
    catalog: Catalog
    origin: Origin
    key: str
    deployment_id: int
    inputs: Mapping[str, str] = field(default_factory=dict)
    train_id: int = 0


Action = Callable[[ClickContext], Awaitable[None]]
