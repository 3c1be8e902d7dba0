"""The one place that builds everything: settings in, wired application out; the only importer of concrete classes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from bot.catalog.kept import KeptCatalog
from bot.catalog.repository import resolve_repo
from bot.catalog.watch import CatalogHolder
from bot.catalog_audit import note_catalog
from bot.chat.base import People
from bot.clock import Clock, utc_now
from bot.commanding import Command, Tools
from bot.deployments import audience
from bot.deployments.engine import Engine, EngineSettings
from bot.deployments.model import State
from bot.deployments.moves import Moves
from bot.deployments.providers import Providers
from bot.deployments.service import Deployments
from bot.deployments.trains import Trains
from bot.dispatch import Answer, Clicks, Dispatcher
from bot.errors import CatalogInvalid, ProviderError
from bot.gates.outside import outside_gates
from bot.git_settings import author_of, git_of, signing_of
from bot.later import is_made, later, load_now, load_rest
from bot.metrics import Metrics as Figures
from bot.pipelines.outside import outside_pipelines
from bot.schedule.housekeeping import Housekeeping, Watchdog
from bot.schedule.jobs import PLATFORM as SCHEDULE
from bot.schedule.jobs import Jobs, SchedulePeople
from bot.schedule.own import own_jobs, works_by_job
from bot.schedule.works import Work
from bot.server_pass import SERVER
from bot.settings import Settings, read_console_tokens
from bot.sources.members import Memberships
from bot.sources.owners import RepositoryOwners
from bot.sources.rosters import make_rosters
from bot.store import audit, outbox
from bot.store import deployments as rows
from bot.store.audit import AuditEntry
from bot.store.database import Database, Tx
from bot.store.inbox import InboxRow
from bot.store.migrate import migrate
from bot.store.outbox import NewNotice, Notice
from bot.store.runs import StoredRuns
from bot.store.signals import Signals, Topic
from bot.web.front import Front
from bot.web.health import health_routes
from bot.web.limits import BodyLimits
from bot.web.metrics import metrics_routes
from bot.web.reports import report_routes
from bot.web.run_logs import log_routes
from commands import (
    approve,
    build,
    cancel,
    deploy,
    diff,
    freezes,
    gray,
    help,
    history,
    jobs,
    locks,
    logs,
    owners,
    promote,
    queue,
    report,
    reviews,
    rollback,
    status,
    train,
    where,
    whoami,
    why,
)
from commands.aliases import with_aliases
from commands.buttons import actions
from notifiers.base import ChatClient
from notifiers.card import Message
from notifiers.codec import message_to_json
from notifiers.language import Speaker
from notifiers.outbox import Outbox

if TYPE_CHECKING:
    from bot.catalog.model import Catalog, Target
    from bot.catalog.references import Known
    from bot.chat.feishu_parts import FeishuParts
    from bot.chat.slack_parts import SlackParts
    from bot.delivery.base import ConfigWriter, Delivery, Images
    from bot.delivery.gitops import GitWriter
    from bot.delivery.merge_requests import CodeHost
    from bot.delivery.registry import Registries
    from bot.deployments.engine import Handler, Outcome
    from bot.deployments.merge_looks import MergeLooks
    from bot.deployments.model import Deployment
    from bot.deployments.run_log import OpenLog, RunLogs
    from bot.deployments.train_model import Train
    from bot.deployments.workflow import Workflow
    from bot.gates.base import Gate, Metrics
    from bot.pipelines.base import Pipeline
    from bot.processes import ProcessRuns
    from bot.pushes import StoredPushes
    from bot.reports.gather import Reporter
    from bot.sources.elsewhere import Elsewhere
    from bot.sources.git import Source
    from bot.store.console import ConsoleStore
    from bot.web.console import Access

T = TypeVar("T")

log = structlog.get_logger(__name__)

COMMANDS: tuple[Command, ...] = with_aliases(
    deploy.command,
    build.command,
    promote.command,
    rollback.command,
    status.command,
    where.command,
    diff.command,
    history.command,
    why.command,
    approve.approve_command,
    approve.reject_command,
    cancel.command,
    gray.continue_command,
    gray.abort_command,
    owners.command,
    queue.command,
    reviews.review_command,
    reviews.reviews_command,
    locks.lock_command,
    locks.unlock_command,
    locks.locks_command,
    freezes.windows_command,
    freezes.freeze_command,
    freezes.unfreeze_command,
    logs.command,
    whoami.command,
    help.command,
)
"""In help order."""

LATER_COMMANDS = tuple(make(cast("Any", None)) for make in (train.make_command, jobs.make_command, report.make_command))
"""Those whose parts are made with the application, as descriptions: for what is printed without one."""

PLATFORMS = (
    *("console", "slack", "feishu", "dingtalk", "wecom", "webhook"),
    *("github", "github_checks", "gitlab_checks"),
)
PACE = {"console": 0.005, "dingtalk": 3.1, "wecom": 3.1}
"""Seconds between two messages to one place: DingTalk and WeCom take 20 a minute; Slack and Feishu pace themselves."""

SWITCHES = {"github": "github_deployments", "github_checks": "github_url", "gitlab_checks": "gitlab_url"}
"""Platforms whose switch is not called as they are."""

LOADED_SOON = (
    *("bot.deployments.workflow", "bot.deployments.asking", "bot.deployments.run_log"),
    *("bot.delivery.gitops", "bot.delivery.merge_requests", "bot.delivery.shell", "bot.delivery.pipeline"),
    *("bot.pipelines.shell", "bot.sources.git", "bot.gates.asking", "aiohttp"),
)
"""What the first deployment needs; loaded a moment after the start, so that it need not wait for it."""
SOON, QUIET = 1.0, 0.5
"""Seconds after the start, and since the last answer."""

Wrap = Callable[[str, Any], Any]
"""Given a part's name and the part, returns what is used in its place; tests cut the power there."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What differs between a server, the demo and a test.

    wrap: lets a test stand between the core and a part. greeting: what the console says first.
    pipelines and deliveries: further providers by name, beside our own.
    """

    clock: Clock = utc_now
    greeting: Mapping[str, Any] | None = None
    wrap: Wrap = lambda _name, part: part
    engine: EngineSettings | None = None
    poll: timedelta = timedelta(milliseconds=300)


class App:
    """A wired Slipway: `start()`, `stop()`, and `asgi` for the web server."""

    def __init__(self, settings: Settings, outside: Outside | None = None) -> None:
        """Open the database, bring it up to date and read the catalog; nothing runs yet.

        Raises:
            CatalogInvalid: the configuration directory is wrong; every problem is named.
            DatabaseInUse: another process has the SQLite file.
            DatabaseUnavailable: not reached.
        """
        self._outside = outside = outside or Outside()
        self._clock = outside.clock
        self.settings = settings
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._noted: Catalog | None = None
        self._answered_at = 0.0
        _make_private(settings.data_directory)
        self.catalogs = CatalogHolder(settings.config, _known, KeptCatalog(settings.data_directory / "catalog.kept"))
        self.db: Database = outside.wrap("db", _database(settings.database))
        self.speaker = Speaker(self.catalog, self._locales())
        self.slack = self._slack_parts()
        self.feishu = self._feishu_parts()
        self._platforms = tuple(name for name in PLATFORMS if getattr(settings, SWITCHES.get(name, name)))
        self.moves = Moves(self.catalog, self._platforms)
        self.http = later(_http_client)
        self._reach_systems(outside)
        self._drive_deployments(outside)
        self._take_commands()
        self._tell_people(outside)
        self._schedule()

    def _reach_systems(self, outside: Outside) -> None:
        """Everything outside that is asked or driven: Git, groups, pipelines, deliveries, gates."""
        settings = self.settings
        self.runs = later(self._make_runs)
        self.sources = later(lambda: source_of(settings))
        rosters = make_rosters(settings, outside.clock)
        self.memberships = Memberships(rosters.by_name, outside.clock)
        self.owners = RepositoryOwners(self.sources, settings.config, outside.clock)
        self.elsewhere = later(self._make_elsewhere)
        self._closing += rosters.closing
        writer = later(self._make_writer)
        pipelines = self._pipelines(outside)
        self.providers = Providers(
            pipelines=pipelines,
            deliveries=self._deliveries(outside, writer, pipelines),
            writer=outside.wrap("writer", self._config_writer(writer)),
            metrics=self._metrics(),
            images=cast("Images", outside.wrap("images", later(self._make_images))),
            tagger=outside.wrap("tagger", self.sources),
            gates=self._gates(outside, pipelines),
        )

    def _drive_deployments(self, outside: Outside) -> None:
        """The states of deployments, and the engine that calls them."""
        settings = self.settings
        self.engine = Engine(
            self.db,
            self.moves,
            {state: self._handler(state) for state in State if not state.is_final},
            outside.clock,
            outside.engine or EngineSettings(patience=timedelta(seconds=settings.patience_seconds)),
            lambda seen: self.workflow.look(seen),
        )
        for delivery in filter(is_made, self.providers.deliveries.values()):
            from bot.delivery.base import Listening

            if isinstance(delivery, Listening):
                delivery.listen(self._delivery_told)
        self.deployments = Deployments(self.db, self.catalog, self.moves, outside.clock, self.engine)

    def _handler(self, state: State) -> Handler:
        """Of deployments in a state; all are loaded with the first deployment that is on its way."""

        async def handle(seen: Deployment) -> Outcome:
            return await self._handlers[state](seen)

        return handle

    @cached_property
    def _handlers(self) -> Mapping[State, Handler]:
        from bot.deployments.asking import Asking

        asking = Asking(self.db, self.catalog, self._platforms, self._clock, lambda: self.outbox.poke())
        return {**self.workflow.handlers(), **asking.handlers()}

    @cached_property
    def workflow(self) -> Workflow:
        """What is done in each state."""
        from bot.deployments.workflow import Workflow

        outside, directory = self._outside, self.settings.config
        return Workflow(
            self.db, self.catalog, self.providers, self._clock, directory, outside.poll, self.owners.freshen
        )

    def _take_commands(self) -> None:
        """What people, jobs and trains may ask for, and who asks it."""
        settings, clock = self.settings, self._clock
        self.run_logs = later(self._make_run_logs)
        self.tools = Tools(
            db=self.db,
            deployments=self.deployments,
            catalog=self.catalog,
            sources=self.sources,
            providers=self.providers,
            directory=settings.config,
            clock=clock,
            owners=self.owners,
            memberships=self.memberships,
            run_logs=self.run_logs,
            elsewhere=self.elsewhere,
        )
        self.reporter = later(self._make_reporter)
        self.jobs = Jobs(
            self.db,
            self.catalog,
            self._platforms,
            clock,
            lambda: self.dispatcher.look(),
            lambda: self.outbox.poke(),
            self._works(self._platforms),
        )
        self.trains = Trains(
            self.db,
            self.catalog,
            self.deployments,
            self._platforms,
            clock,
            self._train_message,
            lambda: self.outbox.poke(),
        )
        making = (train.make_command(self.trains), jobs.make_command(self.jobs), report.make_command(self.reporter))
        self.commands = (*COMMANDS[:-1], *with_aliases(*making), COMMANDS[-1])
        self.actions = {**actions, **train.make_actions(self.trains)}
        self.dispatcher = Dispatcher(self.tools, self.commands, self.actions, self._people())
        self.engine.precedence.also(lambda: self.dispatcher.busy)
        self._do_events_later()

    def _train_message(self, one: Train) -> Mapping[str, Any]:
        from notifiers.trains import train_message

        return message_to_json(train_message(one, self.catalog()))

    def _tell_people(self, outside: Outside) -> None:
        """The outbox behind every chat, what wakes it, and the chats' adapters."""
        self.metrics = self._measured()
        self.console_store = later(self._make_console_store)
        clients = {name: self.metrics.watch(client, name, "chat") for name, client in self._clients(outside).items()}
        lease = self.engine.settings.lease
        self.outbox = Outbox(self.db, self.catalog, clients, outside.clock, PACE, self.speaker, lease=lease)
        for poke in (self.outbox.poke, self.jobs.poke):
            self.dispatcher.listen(poke)
            self.moves.listen(poke)
        self.moves.on_end(self.trains.poke)
        self.dispatcher.send_by(self.outbox.send, ("slack", "feishu") if self.db.is_sqlite else ())
        self.slack_adapter = (
            self.slack.adapter(self.dispatcher, self.db, self.catalog) if self.slack is not None else None
        )
        self.feishu_adapter = (
            self.feishu.adapter(self.dispatcher, Clicks(self.dispatcher), self.commands)
            if self.feishu is not None
            else None
        )
        self.signals = Signals(self.db, self._hear)

    @cached_property
    def asgi(self) -> ASGIApp:
        """The web application, made when first asked for."""
        web = Starlette(routes=self._routes(self._outside), middleware=[Middleware(BodyLimits)])
        chats = (one for one in (self.slack_adapter, self.feishu_adapter) if one is not None)
        return Front(web, (route for chat in chats for route in chat.routes()))

    def catalog(self) -> Catalog:
        """The catalog in force, with what the chats and other systems know of its people."""
        current = self.catalogs.current
        if self.slack is not None:
            current = self.slack.people.complete(current)
        if self.feishu is not None:
            current = self.feishu.people.complete(current)
        return self.owners.complete(self.memberships.complete(current))

    def _slack_parts(self) -> SlackParts | None:
        if not self.settings.slack:
            return None
        from bot.chat.slack_parts import SlackParts

        def say(place: str, text: str) -> str:
            return self.speaker("slack", place, Message(text)).text

        return SlackParts(self.settings, lambda: self.catalogs.current, self._clock, say, self._log_of, self._open_log)

    async def _log_of(self, ref: str, lines: int) -> str:
        """For those who send it along with a failure."""
        from bot.deployments.build_log import BuildLogs

        return await BuildLogs(self.db, self.providers, self.settings.config).text(ref, lines)

    async def _open_log(self, token: str) -> OpenLog | None:
        """For those who send the whole of it along with `/logs`."""
        return await self.run_logs.open(token)

    def _locales(self) -> dict[str, str]:
        """Platform -> locale of its groups, where most readers have another one than the company's default."""
        feishu = self.settings.feishu_locale or ("en" if "larksuite" in self.settings.feishu_domain else "zh-CN")
        return {"feishu": feishu, "dingtalk": "zh-CN", "wecom": "zh-CN"}

    def _feishu_parts(self) -> FeishuParts | None:
        if not self.settings.feishu:
            return None
        from bot.chat.feishu_parts import FeishuParts

        return FeishuParts(self.settings, lambda: self.catalogs.current, self._clock, self._open_log)

    def _people(self) -> dict[str, People]:
        people: dict[str, People] = {SCHEDULE: SchedulePeople(), SERVER: SchedulePeople()}
        if self.slack is not None:
            people["slack"] = self.slack.people
        if self.feishu is not None:
            people["feishu"] = self.feishu.people
        return people

    def _pipelines(self, outside: Outside) -> dict[str, Pipeline]:
        """The local one, and every CI system that is set up."""
        shell = outside.wrap("pipeline", self._own("pipeline", "shell", self._make_shell_pipeline))
        made = outside_pipelines(self.settings, StoredRuns(self.db), outside.clock)
        self._closing.extend(made.closing)
        return {"shell": shell} | {name: outside.wrap(name, one) for name, one in made.pipelines.items()}

    def _config_writer(self, writer: GitWriter) -> ConfigWriter:
        """The Git writer, and the merge requests of the hosts that are set up."""
        hosts: Mapping[str, CodeHost] = {}
        if self.settings.gitlab_url or self.settings.github_url:
            from bot.delivery.code_hosts import code_hosts

            hosts = code_hosts(self.settings, self._closing)

        def make() -> ConfigWriter:
            from bot.delivery.merge_requests import ProposingWriter

            return ProposingWriter(writer, hosts)

        return self._own("writer", "git", make)

    def _deliveries(
        self, outside: Outside, writer: GitWriter, pipelines: Mapping[str, Pipeline]
    ) -> dict[str, Delivery]:
        """Our own, and Argo CD if one is set up; its client is imported only then."""
        settings = self.settings
        shell = self._own("delivery", "deliver-shell", self._make_shell_delivery)
        by_pipeline = self._own("delivery", "pipeline", lambda: self._make_pipeline_delivery(pipelines))
        deliveries: dict[str, Delivery] = {
            "shell": outside.wrap("delivery", shell),
            "pipeline": outside.wrap("pipeline_delivery", by_pipeline),
        }
        if settings.kubeconfig is not None or settings.kubernetes_in_cluster:
            deliveries |= {name: outside.wrap(name, one) for name, one in self._kubernetes(outside).items()}
        if not settings.argocd:
            return deliveries
        from bot.delivery.argocd import ArgoCD
        from bot.delivery.argocd_api import ArgoApi
        from bot.delivery.argocd_settings import argo_servers

        async def contains(target: Target, wanted: str, revision: str) -> bool:
            repo = resolve_repo(settings.config, target.gitops.repo)
            return await writer.contains(target.gitops, repo, wanted, revision)

        apis = {name: ArgoApi(name, server) for name, server in argo_servers(settings).items()}
        argocd = ArgoCD(apis, contains, clock=outside.clock)
        self._closing.append(argocd.close)
        return deliveries | {"argocd": outside.wrap("argocd", argocd)}

    def _kubernetes(self, outside: Outside) -> dict[str, Delivery]:
        """Clusters without Argo CD; the client is heavy, so it is imported only where one is set up."""
        from bot.delivery.canary import CanaryPair
        from bot.delivery.kubernetes import Clusters, Kubernetes
        from bot.delivery.rollouts_api import Rollouts

        clusters = Clusters(self.settings.kubeconfig)
        made = [kind(clusters, clock=outside.clock) for kind in (Kubernetes, CanaryPair, Rollouts)]
        self._closing.extend(one.close for one in made)
        return {one.name: one for one in made}

    def _delivery_told(self, intent: str) -> None:
        deployment_id = self.workflow.deployment_of(intent)
        if deployment_id is not None:
            self.engine.poke(deployment_id)

    # -- parts that no first answer needs ---------------------------------------------------------------------------

    def _own(self, kind: str, name: str, make: Callable[[], T]) -> T:
        """A provider of ours, made when it is first used and counted from then on."""
        return later(lambda: cast("T", self.metrics.watch(make(), name, kind)))

    def _make_runs(self) -> ProcessRuns:
        from bot.processes import ProcessRuns

        return ProcessRuns(self.settings.data_directory / "runs", clock=self._clock)

    def _make_elsewhere(self) -> Elsewhere:
        from bot.sources.elsewhere import Elsewhere

        made = Elsewhere(self.settings, self._clock)
        self._closing.append(made.close)
        return made

    def _make_writer(self) -> GitWriter:
        from bot.delivery.gitops import GitWriter
        from bot.store.turns import Turns

        settings = self.settings
        place, author, signing = settings.data_directory / "git" / "config", author_of(settings), signing_of(settings)
        coming, turns = self.engine.precedence.on_the_way, Turns(self.db)
        return GitWriter(
            place,
            git_of(settings),
            clock=self._clock,
            author=author,
            signing=signing,
            coming=coming,
            turn=turns.turn,
        )

    def _make_shell_pipeline(self) -> Pipeline:
        from bot.pipelines.shell import ShellPipeline

        return ShellPipeline(self.runs, self.sources, self.settings.data_directory / "artifacts")

    def _make_shell_delivery(self) -> Delivery:
        from bot.delivery.shell import ShellDelivery

        return ShellDelivery(self.runs, self.settings.config, self.http)

    def _make_pipeline_delivery(self, pipelines: Mapping[str, Pipeline]) -> Delivery:
        from bot.delivery.pipeline import PipelineDelivery

        return PipelineDelivery(pipelines, self.settings.config, self.http)

    def _make_images(self) -> Registries:
        from bot.delivery.registry import Registries

        settings = self.settings
        registries = Registries(settings.registry_auth_file, settings.registry_insecure.split(","))
        self._closing.append(registries.close)
        return registries

    def _make_console_store(self) -> ConsoleStore:
        from bot.store.console import ConsoleStore

        return ConsoleStore(self.db, self._clock)

    def _make_run_logs(self) -> RunLogs:
        from bot.deployments.run_log import RunLogs

        settings = self.settings
        return RunLogs(self.db, self.catalog, self.providers, settings.config, self._clock, settings.address)

    def _make_reporter(self) -> Reporter:
        from bot.reports.gather import Reporter

        return Reporter(self.db, self.catalog, self.sources, self.settings.config)

    def _metrics(self) -> Metrics | None:
        if not self.settings.prometheus_url:
            return None
        from bot.gates.prometheus import Prometheus

        return Prometheus(self.http, self.settings.prometheus_url, self.settings.prometheus_token)

    def _clients(self, outside: Outside) -> Mapping[str, ChatClient]:
        clients: dict[str, ChatClient] = {}
        if self.settings.console:
            from notifiers.console import ConsoleClient

            clients["console"] = outside.wrap("console", ConsoleClient(self.console_store))
        if self.slack is not None:
            clients["slack"] = outside.wrap("slack", self.slack.client)
        if self.feishu is not None:
            clients["feishu"] = outside.wrap("feishu", self.feishu.client)
        if any(getattr(self.settings, name) for name in audience.RESULTS_ONLY):
            from notifiers.listeners import listening_clients

            made = listening_clients(self.settings, self.http, outside.clock, self._closing)
            clients |= {name: outside.wrap(name, client) for name, client in made.items()}
        if self.settings.github_deployments:
            from bot.pipelines.outside import github_client
            from notifiers.github import GitHubClient

            http = github_client(self.settings, outside.clock)
            self._closing.append(http.aclose)
            clients["github"] = outside.wrap("github_deployments", GitHubClient(http))
        if self.settings.github_url or self.settings.gitlab_url:
            from notifiers.checks import check_clients

            made = check_clients(self.settings, outside.clock, self._closing)
            clients |= {name: outside.wrap(name, client) for name, client in made.items()}
        return clients

    def _routes(self, outside: Outside) -> Sequence[Any]:
        routes = [*health_routes(self.readiness), *metrics_routes(self.scrape, self.settings.metrics_token)]
        routes += report_routes(self.report, self.settings.metrics_token)
        routes += log_routes(self._open_log)
        if self.slack_adapter is not None:
            routes = [*self.slack_adapter.routes(), *routes]
        routes += [*self._hooks(), *self._alert_hooks()]
        if self.feishu_adapter is not None:
            routes = [*self.feishu_adapter.routes(), *routes]
        if self.settings.console:
            from bot.chat.console import ConsoleAdapter
            from bot.web.console import console_routes

            adapter = ConsoleAdapter(self.dispatcher, Clicks(self.dispatcher), self.console_store)
            access = self._access()
            routes += console_routes(
                store=self.console_store,
                adapter=adapter,
                catalog=self.catalog,
                access=access,
                commands=self.commands,
                greeting=outside.greeting,
                db=self.db,
            )
        return routes

    def _gates(self, outside: Outside, pipelines: Mapping[str, Pipeline]) -> Sequence[Gate]:
        made = outside_gates(self.settings, outside.clock, pipelines)
        self._closing.extend(made.closing)
        return made.gates

    def _hooks(self) -> Sequence[Any]:
        """Routes for CI systems and repositories; only senders with a secret have one."""
        settings = self.settings
        senders = ("github", "gitlab", "jenkins", "tekton", "yunxiao", "sonar", "standard")
        secrets = {sender: settings.ci_secret(f"{sender}_hook_secret") for sender in senders}
        if not any(secrets.values()):
            return ()
        from bot.web.webhooks import webhook_routes

        return webhook_routes(secrets, self.events, self._clock)

    @cached_property
    def events(self) -> StoredPushes:
        """What pushes and merge requests do, stored first."""
        from bot.deployments.hooked import Events
        from bot.pushes import StoredPushes

        events = Events(
            self.db,
            self.catalog,
            self.engine,
            self.moves,
            self.deployments,
            StoredRuns(self.db),
            self.sources,
            self.settings.config,
            self._clock,
        )
        return StoredPushes(events, self.dispatcher)

    def _do_events_later(self) -> None:
        """Those a process before us took, too; what does them is loaded with the first."""

        async def push(row: InboxRow) -> Answer:
            return await self.events.do(row)

        async def proposed(row: InboxRow) -> Answer:
            return await self.events.do_proposed(row)

        self.dispatcher.also("push", push)
        self.dispatcher.also("merge_request", proposed)

    async def look_at_merge_requests(self) -> int:
        """Start what a lost webhook would have started. Returns how many heads were not known."""
        return await self._merge_looks.look() if self._merge_looks is not None else 0

    @cached_property
    def _merge_looks(self) -> MergeLooks | None:
        """The slow look at open merge requests, where a host of them is set up."""
        if not (self.settings.gitlab_url or self.settings.github_url):
            return None
        from bot.delivery.open_requests import open_requests
        from bot.deployments.merge_looks import MergeLooks

        hosts = open_requests(self.settings, self._closing)
        return MergeLooks(self.db, self.catalog, hosts, self.events, self.settings.config, self._clock)

    def _alert_hooks(self) -> Sequence[Any]:
        """The route for Alertmanager, if it has a secret."""
        settings = self.settings
        secret = settings.ci_secret("alertmanager_hook_secret")
        if not secret:
            return ()
        from bot.deployments.alarms import Alarms
        from bot.web.alerts import alert_routes

        hours = timedelta(hours=settings.alert_hours)
        service, _, environment = settings.alert_labels.partition(",")
        alarms = Alarms(self.db, self.catalog, self._clock, self.engine.poke_all, hours)
        return alert_routes(secret, (service, environment), alarms)

    def _access(self) -> Access:
        from bot.web.console import Access

        if self.settings.console_open:
            return Access(open=True)
        path = self.settings.console_tokens_file
        return Access(open=False, tokens=read_console_tokens(path) if path is not None else {})

    def _works(self, platforms: Sequence[str]) -> Mapping[str, Work]:
        """What periodic jobs do that are no command."""

        def pipelines() -> Work:
            from bot.schedule.pipelines import PipelineWork

            return PipelineWork(
                lambda: self.providers.pipelines, self.sources, self.catalog, self.settings.config, self._clock
            )

        def calendars() -> Callable[[], Awaitable[object]]:
            from bot.schedule.calendars import CalendarWatch

            return CalendarWatch(self.db, self.catalog, platforms, self._clock, lambda: self.outbox.poke()).look

        def digests() -> Work:
            from bot.reports.drift import DriftFinder
            from bot.schedule.digests import Digests

            drift = DriftFinder(self.db, self.catalog, self.providers, self.settings.config)
            return Digests(self.db, self.catalog, platforms, self.reporter, drift, lambda: self.outbox.poke())

        own = {
            "lock-reminders": self.deployments.holds.nag,
            "review-reminders": self.deployments.reviews.remind,
            "merge-requests": self.look_at_merge_requests,
            "calendars": later(calendars),
            "retention": self.forget_old,
            "archive": self.archive_old,
        }
        return works_by_job(own) | {"pipeline": later(pipelines), "digest": later(digests)}

    def _schedule(self) -> None:
        """Our own housekeeping of this replica."""
        self.housekeeping = Housekeeping()
        quiet = timedelta(minutes=self.settings.watchdog_minutes)
        self.watchdog = Watchdog(
            self.db, self.engine, self.catalog, self._platforms, self._clock, quiet, lambda: self.outbox.poke()
        )
        self.housekeeping.every(timedelta(seconds=60), "watchdog", self.watchdog.look)
        if self.slack_adapter is not None:
            self.housekeeping.every(timedelta(minutes=20), "slack_people", self.slack_adapter.refresh)
        if self.feishu_adapter is not None:
            self.housekeeping.every(timedelta(minutes=5), "feishu_people", self.feishu_adapter.refresh)
        from bot.schedule.announcements import Announcer

        announcer = Announcer(self.db, self.catalog, self._platforms, self._clock, lambda: self.outbox.poke())
        self.housekeeping.every(timedelta(minutes=1), "announcements", announcer.look)
        self.housekeeping.every(timedelta(minutes=5), "members", self.refresh_members)
        self.housekeeping.every(timedelta(minutes=1), "on_call", lambda: self.refresh_members("oncall"))
        if minutes := self.settings.catalog_refresh_minutes:
            from bot.catalog_refresh import CatalogRefresh

            refresh = CatalogRefresh(self.settings.config, git_of(self.settings))
            self.housekeeping.every(timedelta(minutes=minutes), "catalog_refresh", refresh.look)
        self.housekeeping.every(timedelta(hours=6), "old_runs", lambda: self.runs.prune(timedelta(days=30)))

    async def start(self) -> None:
        """Begin to work; what the process before left undone goes on."""
        if self.slack_adapter is not None:
            await self.slack_adapter.start()
        if self.feishu_adapter is not None:
            await self.feishu_adapter.start()
        await self.outbox.start()
        await self.engine.start()
        if await self.db.read(rows.is_any_open):
            load_now(LOADED_SOON)  # what is on its way goes on at once; meanwhile the engine reads it
        self.signals.start()
        await self.dispatcher.start()
        self.jobs.start()
        self.trains.start()
        self.housekeeping.start()
        watch = self.catalogs.watch(self._catalog_changed, self._catalog_broken)
        self._tasks.append(asyncio.create_task(watch))
        noted, at = self.catalogs.current, self._clock()
        await self.db.run(lambda tx: note_catalog(tx, noted, at))
        self._noted = noted
        self._tasks.append(asyncio.create_task(self.refresh_members()))
        self._tasks.append(asyncio.create_task(load_rest(LOADED_SOON, SOON, self._is_quiet)))

    def _is_quiet(self) -> bool:
        return time.monotonic() - self._answered_at > QUIET

    def hang_up(self) -> None:
        """End the open streams, so that the web server need not wait for them."""
        if is_made(self.console_store):
            self.console_store.close()

    async def stop(self) -> None:
        """Take nothing new, finish or hand over what runs, close everything."""
        self.housekeeping.stop()
        await self.jobs.stop()
        await self.trains.stop()
        await self.signals.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.slack_adapter is not None:
            await self.slack_adapter.stop()
        if self.feishu_adapter is not None:
            await self.feishu_adapter.stop()
        await self.dispatcher.stop()
        await self.engine.stop()
        await self.outbox.stop()
        if self.slack is not None:
            await self.slack.client.close()
            await self.slack.api.close()
        if self.feishu is not None:
            await self.feishu.client.close()
            await self.feishu.api.close()
        for close in self._closing:
            await close()
        await asyncio.to_thread(self.catalogs.keep)
        if is_made(self.http):
            await self.http.aclose()
        self.db.close()

    def _hear(self, topic: Topic, number: int) -> None:
        """Another replica changed something."""
        if topic is Topic.OUTBOX:
            self.outbox.poke_soon()
        elif topic is Topic.DEPLOYMENT and number:
            self.engine.poke(number)
        elif topic is Topic.DEPLOYMENT:
            self.engine.poke_all()

    def _measured(self) -> Figures:
        """Count what happens from now on."""
        names = {word: one.name for one in self.commands for word in (one.name, *one.aliases)}
        figures = Figures(names, self.actions)
        # Our own are counted from when they are made.
        for name, pipeline in self.providers.pipelines.items():
            if is_made(pipeline):
                figures.watch(pipeline, name, "pipeline")
        for name, delivery in self.providers.deliveries.items():
            if is_made(delivery):
                figures.watch(delivery, name, "delivery")
        self.moves.on_end(figures.ended)
        self.engine.on_lease_lost = figures.lease_lost

        def answered(row: InboxRow, answer: Answer, seconds: float) -> None:
            said = str(row.payload.get("button" if row.kind == "click" else "text", ""))
            figures.intent(row.kind, said, answer.outcome, answer.code, seconds)
            self._answered_at = time.monotonic()

        self.dispatcher.watch(answered)
        if self.settings.otlp_url:
            self._trace(figures)
        return figures

    async def refresh_members(self, only: str = "") -> None:
        """Ask the other systems who is in the catalog's groups."""
        await self.memberships.refresh(self.catalogs.current, only)
        if not only:
            await self.owners.refresh_some(self.catalogs.current)

    def _trace(self, figures: Figures) -> None:
        """Tell a collector of deployments and intents."""
        from bot.telemetry import DeploymentTraces, Traces, intent_span

        traces = Traces(self.http, self.settings.otlp_url, self.settings.otlp_token)
        made = DeploymentTraces(traces, lambda number: self.db.read(lambda tx: rows.path(tx, number)))
        self.moves.on_end(made.ended)

        def answered(row: InboxRow, answer: Answer, seconds: float) -> None:
            said = str(row.payload.get("button" if row.kind == "click" else "text", ""))
            event = f"{row.platform}:{row.event_id}"
            name = figures.name_of(row.kind, said)
            traces.add(intent_span(row.kind, name, answer.outcome, event, self._clock(), seconds))

        self.dispatcher.watch(answered)
        self._closing += [made.close, traces.close]

    async def forget_old(self) -> int:
        """Delete what is over for longer than it is kept, a little at a time. Returns how many rows."""
        if not self.settings.retention_days:
            return 0
        from bot.store.retention import forget

        before, total = self._clock() - timedelta(days=self.settings.retention_days), 0
        while deleted := await self.db.run(lambda tx: forget(tx, before)):
            total += deleted
            await asyncio.sleep(0.05)
        return total

    async def archive_old(self) -> int:
        """Put away the deployments of long ago. Returns how many; none if the account may not (`slipway archive`)."""
        from bot.reports import LONGEST
        from bot.store.archive import may_archive
        from bot.store.put_away import put_away

        if not self.settings.archive_days or not await self.db.read(may_archive):
            return 0
        days = max(self.settings.archive_days, LONGEST + 1)  # what reports can be asked about stays
        return await put_away(self.db, self._clock() - timedelta(days=days))

    async def scrape(self) -> bytes:
        """What `/metrics` says now."""
        from bot.store.figures import snapshot

        at, catalog = self._clock(), self.catalog()
        try:
            found = await self.db.read(lambda tx: snapshot(tx, at, own_jobs(catalog)))
        except ProviderError:
            found = None
        missing = await self.readiness()
        return self.metrics.render(found, busy=self.engine.busy, services=len(catalog.services), missing=missing)

    async def report(self, team: str, days: str) -> Mapping[str, Any]:
        """The figures as JSON. Raises BadInput."""
        from bot.reports.telling import json_of

        return json_of(await self.reporter.asked(team, days, self._clock()))

    async def readiness(self) -> Mapping[str, str]:
        """What is not ready: part -> why; empty when all is well."""
        try:
            await self.db.read(lambda tx: outbox.lag(tx))
        except Exception as error:
            return {"database": type(error).__name__}
        if self.slack_adapter is not None and (problem := await self.slack_adapter.problem()):
            return {"slack": problem}
        if self.feishu_adapter is not None and (problem := await self.feishu_adapter.problem()):
            return {"feishu": problem}
        return {"catalog": "the last change was refused; `slipway check` says why"} if self.catalogs.problem else {}

    async def _catalog_changed(self, catalog: Catalog) -> None:
        at = self._clock()
        await self.db.run(lambda tx: note_catalog(tx, catalog, at, self._noted))
        self._noted = catalog
        await self.wake_all()
        self.jobs.wake()
        if self.slack_adapter is not None:
            self.slack_adapter.catalog_changed()
        if self.feishu_adapter is not None:
            self.feishu_adapter.refresh_soon()
        log.info("catalog_reloaded", digest=catalog.digest[:12])

    async def wake_all(self) -> None:
        """Have every open deployment look again at what it waits for."""
        at = self._clock()
        await self.db.run(lambda tx: rows.wake_waiting(tx, at))
        self.engine.poke_all()

    async def _catalog_broken(self, error: CatalogInvalid) -> None:
        """The last good one stays; the channels hear what is wrong and where."""
        at = self._clock()
        text = f"The catalog has a mistake and was not reloaded; the last good one stays in force. {error.sentence()}"
        key = f"catalog:{at.isoformat()}"

        def work(tx: Tx) -> None:
            for platform, place in self.catalog().channels.items():
                if platform in self._platforms:
                    content = {"text": text[:3000], "card": None}
                    outbox.put(tx, NewNotice(f"{key}:{platform}", platform, place, Notice.MESSAGE, content=content), at)
            audit.append(tx, AuditEntry(at, "slipway", "catalog:reload", "catalog", "refused", "", text[:1000]))

        await self.db.run(work)
        self.outbox.poke()


async def report_once(settings: Settings, team: str, days: str) -> Mapping[str, Any]:
    """As `App.report`, beside a Slipway that runs. Raises BadInput, CatalogInvalid."""
    from bot.catalog.load import load_catalog
    from bot.reports.gather import Reporter
    from bot.reports.telling import json_of

    catalog = load_catalog(settings.config)
    db = Database(settings.database)
    source = source_of(settings)
    try:
        reporter = Reporter(db, lambda: catalog, source, settings.config)
        return json_of(await reporter.asked(team, days, utc_now()))
    finally:
        db.close()


def _database(url: str) -> Database:
    db = Database(url)
    try:
        db.claim_file()
        migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _known() -> Known:
    from bot.providers import known_here

    return known_here()


def source_of(settings: Settings) -> Source:
    """The repositories of the services, mirrored in the data directory."""
    from bot.sources.git import Source

    return Source(settings.data_directory / "git" / "sources", git_of(settings))


def _http_client() -> Any:
    import httpx

    return httpx.AsyncClient(timeout=5.0, follow_redirects=False, trust_env=False)


def _make_private(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
