"""Argo CD: sync exactly the written commit, follow it, and call it done only when that commit runs stably.

One environment may span several applications, on several Argo CDs: they are synced in waves, the next one when the
one before is healthy, and all must be. What Slipway did is found again by the intent in the operation's `infos`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from pydantic import Field

from bot import logs
from bot.catalog.model import Service, Target
from bot.clock import Clock, utc_now
from bot.delivery.argocd_api import AppRef, ArgoApi, Busy, Follower
from bot.delivery.argocd_evidence import evidence, merged, running_pods
from bot.delivery.argocd_model import INTENT, Application, Resource, View, Wanted, judge, with_children
from bot.delivery.argocd_refresh import GRACE, Refreshes
from bot.delivery.base import DeliveryFailure, GrayStage, Running, SyncProgress, SyncRequest, SyncState
from bot.delivery.places import summed
from bot.delivery.rollouts import is_inconclusive, pause_of
from bot.errors import OutcomeUnknown, ProviderError, ProviderRejected, ProviderUnavailable
from bot.options import Duration, Options, read_options

log = structlog.get_logger(__name__)

Contains = Callable[[Target, str, str], Awaitable[bool]]
"""Whether the configuration repository's commit (third) has the wanted one (second) in its history."""

_NO_GRAY = "has no gray stage at the moment."


class ApplicationOptions(Options):
    """One application of several. server: the Argo CD's name in the settings; wave: lower ones first."""

    application: str
    server: str = ""
    project: str = ""
    namespace: str = ""
    wave: int = 0


class ArgoOptions(Options):
    """`delivery.options` of the catalog; {service}, {environment} and {team} are filled in.

    application: its name. project: its Argo CD project. server: the Argo CD's name in the settings. namespace: the
    application's, if it is not Argo CD's own. applications: instead of one, several in waves (clusters). image: the
    image's name without tag, to tell the service's pods from their helpers. source: 1-based position of the
    configuration repository in an application with many sources. sync_options: replaces the application's own.
    timeout: from the start of the sync until it is healthy. degraded_for: how long Degraded lasts to be believed.
    """

    application: str = "{service}-{environment}"
    project: str = "default"
    server: str = "default"
    namespace: str = ""
    applications: list[ApplicationOptions] = Field(default_factory=list)
    image: str = ""
    source: int = Field(default=1, ge=1)
    prune: bool = False
    sync_options: list[str] = Field(default_factory=list)
    timeout: Duration = timedelta(minutes=10)
    degraded_for: Duration = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The options of a target, filled in. waves: what is synced together, in order."""

    options: ArgoOptions
    waves: tuple[tuple[AppRef, ...], ...]

    @property
    def apps(self) -> tuple[AppRef, ...]:
        return tuple(app for wave in self.waves for app in wave)


class ArgoCD:
    """Brings written commits to run by Argo CD."""

    name = "argocd"

    def __init__(
        self,
        apis: Mapping[str, ArgoApi],
        contains: Contains,
        *,
        clock: Clock = utc_now,
        window_pause: timedelta = timedelta(seconds=10),
        grace: timedelta = GRACE,
    ) -> None:
        """apis: by the name used in the catalog. window_pause: between two questions about a closed sync window.

        grace: how long Argo CD has to compare by itself before it is asked to.
        """
        self._followers = {name: Follower(api, changed=partial(self._changed, name)) for name, api in apis.items()}
        self._listener: Callable[[str], None] = lambda intent: None
        self._interest: dict[tuple[str, tuple[str, str]], str] = {}
        self._contains = contains
        self._clock = clock
        self._window_pause = window_pause
        self._locks: dict[AppRef, asyncio.Lock] = {}
        self._refreshes = Refreshes(self._compared, grace)
        self._closed: dict[AppRef, tuple[datetime, str]] = {}
        self._known: dict[tuple[str, str], bool] = {}
        self._cancelled: set[str] = set()
        self._silent_since: dict[tuple[str, AppRef], datetime] = {}

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have `listener(intent)` called when the stream told of the intent's application."""
        self._listener = listener

    def _changed(self, server: str, key: tuple[str, str]) -> None:
        intent = self._interest.get((server, key))
        if intent is not None:
            self._listener(intent)

    async def close(self) -> None:
        """End streams and connections."""
        await self._refreshes.close()
        await asyncio.gather(*(follower.close() for follower in self._followers.values()))

    # --- the protocol

    async def sync(self, request: SyncRequest) -> SyncProgress:
        """Start the first wave that is not done; the same intent again starts nothing and tells how far it is.

        Raises:
            ProviderRejected: no such application, no right, or a revision that Argo CD does not allow.
            ProviderUnavailable: not reached; safe to retry.
            OutcomeUnknown: sent, not answered; `look` finds it by the intent.
        """
        plan = self._plan(request.service, request.target)
        return await self._advance(request, plan, start=True)

    async def look(self, request: SyncRequest) -> SyncProgress | None:
        """How far this intent is, or None if it was surely never started. Begins nothing; PENDING: `sync` goes on."""
        plan = self._plan(request.service, request.target)
        first = await asyncio.gather(*(self._peek(ref, request, plan) for ref in plan.waves[0]))
        if all(progress is None for progress in first):
            return None
        return await self._advance(request, plan, start=False)

    async def running(self, service: Service, target: Target) -> Running | None:
        """What the pods run now, None if nothing does; several clusters are one only if all run the same, healthy.

        Raises ProviderUnavailable when it cannot be told.
        """
        plan = self._plan(service, target)
        found = await asyncio.gather(*(self._running(ref, plan.options, target) for ref in plan.apps))
        if len(found) == 1 or not any(found):
            return found[0]
        named = [(_short(ref), running) for ref, running in zip(plan.apps, found, strict=True)]
        empty = [name for name, running in named if running is None]
        if empty:
            return Running("", "", False, message=f"Nothing is running in {', '.join(empty)}.")
        some = [(name, running) for name, running in named if running is not None]
        ill = [(name, one) for name, one in some if not one.healthy]
        if ill:
            message = " ".join(f"{name}: {one.message}" for name, one in ill)
            return replace(ill[0][1], message=message)
        digests = {one.digest for _, one in some}
        if len(digests) > 1:
            versions = ", ".join(f"{name} {one.version or one.digest[:19]}" for name, one in some)
            return Running("", "", False, some[0][1].url, f"The clusters run different versions: {versions}.")
        return some[0][1]

    async def everywhere(self, service: Service, target: Target) -> dict[str, Running | None]:
        """What the pods of each application run, by its name. Raises ProviderUnavailable when it cannot be told."""
        plan = self._plan(service, target)
        found = await asyncio.gather(*(self._running(ref, plan.options, target) for ref in plan.apps))
        return {_short(ref): running for ref, running in zip(plan.apps, found, strict=True)}

    async def hooks(self, service: Service, target: Target) -> list[str]:
        """Hooks that the last syncs ran, as `PreSync Job/migrate`. Raises ProviderUnavailable, ProviderRejected."""
        apps = await asyncio.gather(*(self._app(ref) for ref in self._plan(service, target).apps))
        results = [one for app in apps if app.state is not None for one in app.state.results if one.hook]
        return list(dict.fromkeys(f"{one.hook} {one.key[1]}/{one.key[3]}" for one in results))

    async def failure(self, request: SyncRequest) -> DeliveryFailure:
        """What failed: the operation, its resources, the pods, their events and their last lines."""
        plan = self._plan(request.service, request.target)
        found = await asyncio.gather(*(self._evidence(ref, request, plan) for ref in plan.apps))
        telling = [(ref, one) for ref, one in zip(plan.apps, found, strict=True) if one is not None and one.message]
        if not telling:
            return DeliveryFailure("Argo CD gives no reason.")
        if len(plan.apps) == 1:
            return telling[0][1]
        message = " ".join(f"{_short(ref)}: {one.message}" for ref, one in telling)
        share = max(3, 20 // len(telling))
        return DeliveryFailure(
            message, tuple(f"{_short(ref)}: {line}" for ref, one in telling for line in one.lines[:share])
        )

    async def _evidence(self, ref: AppRef, request: SyncRequest, plan: _Plan) -> DeliveryFailure | None:
        """What one application says; None if it is well. One of several may be silent."""
        try:
            app = await self._follower(ref).fetch(ref)
            if app is None or not (app.health != "Healthy" or app.ours == request.intent or app.error):
                return None
            return await evidence(self._follower(ref).api, ref, app, plan.options.image)
        except ProviderUnavailable as error:
            if len(plan.apps) == 1:
                raise
            return DeliveryFailure(error.message)

    async def cancel(self, request: SyncRequest) -> None:
        """Terminate our own operation; another's is left alone. What was applied already stays."""
        self._cancelled.add(request.intent)
        for ref in self._plan(request.service, request.target).apps:
            app = await self._follower(ref).fetch(ref)
            if app is not None and app.is_busy and app.ours == request.intent:
                await self._follower(ref).api.terminate(ref)
                await self._follower(ref).fetch(ref)

    async def gray_stage(self, request: SyncRequest) -> GrayStage | None:
        """The pause it stands at: of several applications, the first that is paused."""
        for ref in self._plan(request.service, request.target).apps:
            app = await self._app(ref)
            for resource in app.resources:
                if resource.health == "Suspended" and resource.key[1] in ("Rollout", "Deployment"):
                    manifest = await self._follower(ref).api.resource(ref, node_of(resource))
                    return pause_of(ref.name, manifest)
        return None

    async def continue_gray(self, request: SyncRequest, *, full: bool = False) -> None:
        """Go on from a pause, or past all of them. Raises ProviderRejected if there is none."""
        await self._act_on_gray(request, {"Rollout": "promote-full" if full else "resume", "Deployment": "resume"})

    async def abort_gray(self, request: SyncRequest) -> None:
        """Give all traffic back to the stable version. Raises ProviderRejected if there is no gray stage."""
        await self._act_on_gray(request, {"Rollout": "abort"})

    # --- several applications

    async def _advance(self, request: SyncRequest, plan: _Plan, start: bool) -> SyncProgress:
        """Look at wave after wave; begin what is not begun where everything in front is done."""
        seen: list[tuple[str, SyncProgress]] = []
        for wave in plan.waves:
            found = await asyncio.gather(*(self._begun(ref, request, plan, start) for ref in wave))
            seen += zip(map(_short, wave), found, strict=True)
            if any(progress.state is not SyncState.SUCCEEDED for progress in found):
                break
        waiting = [_short(ref) for ref in plan.apps[len(seen) :]]
        return summed(seen, waiting, self._not_begun(request))

    async def _peek(self, ref: AppRef, request: SyncRequest, plan: _Plan) -> SyncProgress | None:
        """As `_view`; one of several that does not answer may have begun."""
        try:
            return await self._view(ref, request, plan.options)
        except (ProviderUnavailable, OutcomeUnknown):
            if len(plan.apps) == 1:
                raise
            return SyncProgress(SyncState.PENDING)

    def _not_begun(self, request: SyncRequest) -> SyncState:
        """What a wave is that was not reached: after a cancel it never will be."""
        return SyncState.INTERRUPTED if request.intent in self._cancelled else SyncState.PENDING

    async def _begun(self, ref: AppRef, request: SyncRequest, plan: _Plan, start: bool) -> SyncProgress:
        """One application; one of several that does not answer must not hide how far the others are."""
        try:
            progress = await self._look_or_start(ref, request, plan, start)
        except (ProviderUnavailable, OutcomeUnknown) as error:
            if len(plan.apps) == 1:
                raise
            return self._silent(ref, request, plan.options, error)
        self._silent_since.pop((request.intent, ref), None)
        return progress

    def _silent(self, ref: AppRef, request: SyncRequest, options: ArgoOptions, error: ProviderError) -> SyncProgress:
        """It is asked again for as long as a sync may take; then the deployment has failed there."""
        since = self._silent_since.setdefault((request.intent, ref), self._clock())
        over = self._clock() - since >= options.timeout
        return SyncProgress(SyncState.FAILED if over else SyncState.PENDING, error.message)

    async def _look_or_start(self, ref: AppRef, request: SyncRequest, plan: _Plan, start: bool) -> SyncProgress:
        async with self._locks.setdefault(ref, asyncio.Lock()):
            progress = await self._view(ref, request, plan.options)
            if progress is None and start:
                begun = await self._start(ref, request, plan.options)
                return replace(begun, told=self._follower(ref).is_live)
            return progress or SyncProgress(self._not_begun(request))

    async def _view(self, ref: AppRef, request: SyncRequest, options: ArgoOptions) -> SyncProgress | None:
        self._interest[ref.server, (ref.namespace, ref.name)] = request.intent
        app = await self._app(ref)
        wanted = await self._wanted(request, options, app)
        view = judge(app, wanted, self._clock())
        if view is None:
            return None
        self._mark(ref, view.stale)
        if view.progress.state is SyncState.SUCCEEDED and app.children:
            view = await self._with_children(ref, request, app, wanted, view)
        return replace(view.progress, told=self._follower(ref).is_live)

    async def _with_children(
        self, ref: AppRef, request: SyncRequest, app: Application, wanted: Wanted, view: View
    ) -> View:
        """An app of apps is done when those below it are; they sync by themselves."""
        below = _below(ref, app)
        for one in below:
            self._interest[one.server, (one.namespace, one.name)] = request.intent
        children = await asyncio.gather(*(self._app(one) for one in below))
        found = with_children(app, children, wanted, self._clock(), view.progress)
        for one in below:
            self._mark(one, found.stale)
        return found

    async def _wanted(self, request: SyncRequest, options: ArgoOptions, app: Application) -> Wanted:
        applied = app.state.revisions if app.state is not None else ()
        place = options.source - 1
        named = {several[min(place, len(several) - 1)] for several in (applied, app.compared) if several}
        good = {request.revision}
        # While an operation runs nothing is judged by what was applied, and each question costs a look into Git.
        for revision in named - {"", request.revision} if not app.is_busy else ():
            if await self._has(request, revision):
                good.add(revision)
        return Wanted(
            intent=request.intent,
            contains=frozenset(good),
            source=place,
            prune=options.prune,
            degraded_for=options.degraded_for,
            timeout=options.timeout,
        )

    async def _has(self, request: SyncRequest, revision: str) -> bool:
        """Whether that revision contains ours; the answer for two commits never changes once it is yes."""
        key = (request.revision, revision)
        if key not in self._known:
            if len(self._known) > 50_000:
                self._known.clear()
            try:
                self._known[key] = await self._contains(request.target, *key)
            except ProviderRejected:  # Of another repository: an application with many sources compares all of them.
                self._known[key] = False
        return self._known[key]

    # --- one application

    async def _start(self, ref: AppRef, request: SyncRequest, options: ArgoOptions) -> SyncProgress:
        app = await self._follower(ref).fetch(ref)  # The lock was waited for: look again, with nothing in between.
        if app is None:
            raise _missing(ref)
        wanted = await self._wanted(request, options, app)
        view = judge(app, wanted, self._clock())
        if view is not None:
            return view.progress
        closed = await self._window(ref)
        if closed:
            return SyncProgress(SyncState.PENDING, closed)
        try:
            self._follower(ref).keep(ref, await self._post(ref, app, request, options))
        except Busy as error:
            return SyncProgress(SyncState.PENDING, error.message)
        return SyncProgress(SyncState.PENDING, "Argo CD has taken the sync and will begin it.")

    async def _post(self, ref: AppRef, app: Application, request: SyncRequest, options: ArgoOptions) -> Application:
        body: dict[str, Any] = {
            "prune": options.prune,
            "strategy": {"hook": {"force": False}},
            "infos": [
                {"name": INTENT, "value": request.intent},
                {"name": "slipway/release", "value": f"{request.service.name} {request.version}"},
            ],
        }
        if options.sync_options:
            body["syncOptions"] = {"items": options.sync_options}
        # With automatic sync on, a named revision is refused even if it is the branch's head: ask for the branch.
        if not app.auto_sync and app.many_sources:
            body |= {"sourcePositions": [options.source], "revisions": [request.revision]}
        elif not app.auto_sync:
            body["revision"] = request.revision
        log.info("argocd_sync_asked", server=ref.server, application=ref.name, revision=request.revision[:12])
        return await self._follower(ref).api.sync(ref, body)

    async def _window(self, ref: AppRef) -> str:
        """Why Argo CD would not sync now; empty if it would. Asked before: its refusal looks like a missing right."""
        now = self._clock()
        known = self._closed.get(ref)
        if known is not None and now < known[0]:
            return known[1]
        answer = await self._follower(ref).api.sync_windows(ref)
        if answer.get("canSync", True):
            self._closed.pop(ref, None)
            return ""
        sentence = _window_sentence(ref, answer)
        self._closed[ref] = (now + self._window_pause, sentence)
        return sentence

    def _mark(self, ref: AppRef, stale: bool) -> None:
        """Whether what is known of it is too old to be believed."""
        if stale:
            self._refreshes.want(ref)
        else:
            self._refreshes.drop(ref)

    async def _compared(self, ref: AppRef) -> None:
        await self._follower(ref).fetch(ref, refresh=True)

    async def _running(self, ref: AppRef, options: ArgoOptions, target: Target) -> Running | None:
        app = await self._app(ref)
        found = [await running_pods(self._follower(ref).api, one, options.image) for one in (ref, *_below(ref, app))]
        pods = merged(found)
        if not pods.digests and not app.images:
            return None
        url = app.url or target.url
        if len(pods.digests) != 1:
            message = pods.trouble or _mixed(pods.digests)
            return Running("", "", False, url, message)
        message = pods.trouble or ("" if app.health == "Healthy" else f"Health: {app.health}.")
        return Running(next(iter(pods.digests)), pods.version, not message, url, message)

    async def _act_on_gray(self, request: SyncRequest, actions: Mapping[str, str]) -> None:
        acted = False
        for ref in self._plan(request.service, request.target).apps:
            app = await self._follower(ref).fetch(ref)
            if app is None:
                continue
            for resource in app.resources:
                action = actions.get(resource.key[1])
                if action is None or resource.health not in ("Suspended", "Progressing"):
                    continue
                if resource.health == "Progressing" and action != "abort":
                    continue
                await self._follower(ref).api.act(ref, node_of(resource), await self._fitting(ref, resource, action))
                acted = True
            await self._follower(ref).fetch(ref)
        if not acted:
            where = f"{request.service.name} in {request.target.environment}"
            raise ProviderRejected(f"{where} {_NO_GRAY}", hint="Look at its card.")

    async def _fitting(self, ref: AppRef, resource: Resource, action: str) -> str:
        """The action that really goes on: `resume` alone would pause again after an analysis without a result."""
        if action != "resume" or resource.key[1] != "Rollout":
            return action
        manifest = await self._follower(ref).api.resource(ref, node_of(resource))
        return "skip-current-step" if is_inconclusive(manifest) else action

    # --- where

    async def _app(self, ref: AppRef) -> Application:
        app = await self._follower(ref).look(ref)
        if app is None:
            raise _missing(ref)
        return app

    def _follower(self, ref: AppRef) -> Follower:
        return self._followers[ref.server]

    def _plan(self, service: Service, target: Target) -> _Plan:
        plan = _plan_of(service, target)
        for ref in plan.apps:
            if ref.server not in self._followers:
                known = ", ".join(sorted(self._followers)) or "none"
                where = f"delivery.options of {service.name} in {target.environment}"
                message = f"{where}: the Argo CD {ref.server!r} is not set up here (known: {known})."
                raise ProviderRejected(message, hint="Set it up, or name another.")
        return plan


def references(service: Service, target: Target) -> tuple[AppRef, ...]:
    """The applications of a target. Raises ProviderRejected: its options are wrong."""
    return _plan_of(service, target).apps


def _plan_of(service: Service, target: Target) -> _Plan:
    where = f"delivery.options of {service.name} in {target.environment}"
    options = read_options(ArgoOptions, dict(target.delivery.options), where)
    values = {"service": service.name, "environment": target.environment, "team": service.team}
    several = options.applications or [ApplicationOptions(application=options.application)]
    waves: dict[int, list[AppRef]] = {}
    for item in several:
        ref = AppRef(
            server=_fill(item.server or options.server, values),
            project=_fill(item.project or options.project, values),
            name=_fill(item.application, values),
            namespace=_fill(item.namespace or options.namespace, values),
        )
        waves.setdefault(item.wave, []).append(ref)
    return _Plan(options, tuple(tuple(waves[number]) for number in sorted(waves)))


def _below(ref: AppRef, app: Application) -> list[AppRef]:
    """The applications it manages; which project they are in is theirs to say."""
    return [AppRef(ref.server, "", name, namespace) for namespace, name in app.children]


def node_of(resource: Resource) -> dict[str, str]:
    """What Argo CD is asked for it by."""
    group, kind, namespace, name = resource.key
    return {"group": group, "kind": kind, "namespace": namespace, "name": name, "version": resource.version}


def _short(ref: AppRef) -> str:
    return ref.name if ref.server == "default" else f"{ref.server}/{ref.name}"


def _missing(ref: AppRef) -> ProviderRejected:
    return ProviderRejected(
        f"Argo CD {ref.server!r} has no application {ref.name} in project {ref.project}.",
        hint="Create it, or correct `delivery.options`.",
    )


def _window_sentence(ref: AppRef, answer: Mapping[str, Any]) -> str:
    active = answer.get("activeWindows") or []
    which = ", ".join(f"{w.get('kind')} {w.get('schedule')} for {w.get('duration')}" for w in active[:3])
    what = f"active: {which}" if which else "no allow window is active"
    return f"Argo CD's sync window is closed for {ref.name} ({logs.clean(what)[:200]}); it goes on when it opens."


def _mixed(digests: Sequence[str] | frozenset[str]) -> str:
    return "Old and new pods run side by side." if digests else "No pod of the service is running."


def _fill(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
