"""Jenkins: a job is asked to build with a parameter that carries the intent; queue item, then build.

Source: `Queue.java`, `Run.java`, `ParametersDefinitionProperty.java` of jenkinsci/jenkins 2.578; stages by the Pipeline
Stage View plugin's `wfapi`, else by the Pipeline Graph View plugin.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import quote

import httpx
from pydantic import Field

from bot.clock import Clock
from bot.errors import ProviderRejected, ProviderUnavailable
from bot.options import Options, read_options
from bot.pipelines.base import PipelineRun, RunQuestion, RunRequest, RunResults, RunState, Stage, StageState
from bot.pipelines.http import Http, too_many
from bot.pipelines.memory import RunNote
from bot.pipelines.remote import FASTEST, PARAMETERS, Found, fill, look_again, percent_of
from bot.pipelines.spool import cut_stage

BUILD = "number,url,queueId,building,inProgress,result,timestamp,duration,estimatedDuration,description"
RECENT = "allBuilds[number,timestamp,actions[parameters[name,value]]]"
"""Newest first. `builds` would end after a hundred, which a busy job has in no time."""
PAGE, PAGES = 100, 20
WAYS = ("wfapi/describe", "stages/tree", "pipeline-overview/tree")
"""Where stages are: Stage View, Graph View, and Graph View before 2026-02."""
UNDER_WAY = frozenset({"IN_PROGRESS", "PAUSED_PENDING_INPUT"})
REMEMBERED = 2000
STAGELESS = timedelta(minutes=10)
"""How long a job that showed no stages is not asked for them; a plugin may be installed meanwhile."""
SKEW = timedelta(minutes=10)
"""How far the controller's clock and ours may be apart."""
WAITING = "items[id,task[name,url],actions[parameters[name,value]]]"

RESULTS: Mapping[str, RunState] = {
    "SUCCESS": RunState.SUCCEEDED,
    "UNSTABLE": RunState.FAILED,
    "FAILURE": RunState.FAILED,
    "NOT_BUILT": RunState.FAILED,
    "ABORTED": RunState.CANCELLED,
}
STAGES: Mapping[str, StageState] = {
    # Stage View writes upper case, Graph View lower case.
    "NOT_EXECUTED": StageState.SKIPPED,
    "SKIPPED": StageState.SKIPPED,
    "NOT_BUILT": StageState.SKIPPED,
    "QUEUED": StageState.PENDING,
    "IN_PROGRESS": StageState.RUNNING,
    "RUNNING": StageState.RUNNING,
    "PAUSED": StageState.RUNNING,
    "PAUSED_PENDING_INPUT": StageState.RUNNING,
    "SUCCESS": StageState.SUCCEEDED,
    "FINISHED": StageState.SUCCEEDED,
    "UNSTABLE": StageState.FAILED,
    "FAILED": StageState.FAILED,
    "FAILURE": StageState.FAILED,
    "ABORTED": StageState.CANCELLED,
}


class JenkinsOptions(Options):
    """`pipeline.options` of the catalog; the job is `pipeline.name`, folders with slashes.

    multibranch: the job has a job per branch below it. intent_parameter: a string parameter that the job declares; it
    makes runs findable. parameters: name -> pattern; what the job does not declare is not sent. unstable: what a build
    with failed tests counts as.
    """

    multibranch: bool = False
    intent_parameter: str = Field(default="SLIPWAY_INTENT", pattern=r"^\w{1,100}$")
    parameters: dict[str, str] = Field(default_factory=lambda: dict(PARAMETERS))
    unstable: Literal["fail", "pass"] = "fail"


class Jenkins:
    """One Jenkins controller."""

    name = "jenkins"
    said = "Jenkins"
    settle = timedelta(seconds=30)
    """The request ends after 10 s; a queue item is in the queue or among the builds from the moment it is made."""

    def __init__(self, client: httpx.AsyncClient, clock: Clock, *, password: bool = False) -> None:
        """The client brings address and user. password: it is a real password, so every POST needs a crumb."""
        self._http = Http(self.said, client, clock)
        self._clock = clock
        self._password = password
        self._known_stages: dict[str, tuple[str, ...]] = {}
        self._way = WAYS[0]
        self._plain: dict[str, datetime] = {}
        self._running: OrderedDict[str, tuple[Mapping[str, Any], timedelta]] = OrderedDict()

    def definition(self, request: RunRequest) -> str:
        """The job's full name, with its branch below it if it has one per branch."""
        options = self._options(request)
        name = request.target.pipeline.name.strip("/")
        return f"{name}/{quote(request.branch, safe='')}" if options.multibranch else name

    def can_tell(self, request: RunRequest) -> bool:
        """Always: the parameter is on queue items and on builds from their first moment."""
        return True

    async def check(self, request: RunRequest) -> None:
        """The job can be built and declares the intent's parameter: Jenkins drops undeclared ones in silence."""
        options = self._options(request)
        names, buildable = await self._declared(request)
        name = self.definition(request)
        if not buildable:
            raise ProviderRejected(
                f"The Jenkins job {name} is disabled.", hint="Enable it in Jenkins and deploy again."
            )
        if options.intent_parameter not in names:
            raise ProviderRejected(
                f"The Jenkins job {name} does not declare the parameter {options.intent_parameter}.",
                hint="Add it to the job as a string parameter and run the job once by hand, so that Jenkins knows it.",
            )

    async def send(self, request: RunRequest) -> Found:
        """Ask for one build. The intent makes the parameters unique, so Jenkins merges it with nobody else's."""
        options = self._options(request)
        names, _ = await self._declared(request)
        values = {name: fill(pattern, request) for name, pattern in options.parameters.items() if name in names}
        values[options.intent_parameter] = request.intent
        response = await self._http.start(
            f"{self._job(request)}/buildWithParameters",
            params={"delay": "0sec"},
            data=values,
            headers=await self._crumb(),
        )
        item = _queue_item(response.headers.get("Location", ""))
        if item:
            # 303 is our own earlier request, still waiting: all parameters are equal, the intent too.
            return Found(handle=item)
        found = await self.search(request, None)
        if found is None:
            raise ProviderRejected(
                f"Jenkins did not queue a build of {self.definition(request)}.", hint="Deploy again."
            )
        return found

    async def search(self, request: RunRequest, since: datetime | None) -> Found | None:
        """Queue first, then builds: an item moves that way, so it cannot be missed in between."""
        name = self._options(request).intent_parameter
        queue = await self._http.get_json("queue/api/json", {"tree": WAITING}) or {}
        for item in queue.get("items", ()):
            if _parameter(item, name) == request.intent:
                return Found(handle=str(item["id"]))
        async for build in self._builds(request, since):
            if _parameter(build, name) == request.intent:
                return Found(run_id=str(build["number"]))
        return None

    async def resolve(self, request: RunRequest, note: RunNote) -> Found | PipelineRun | None:
        """The build of a queue item. Items are forgotten after five minutes and at a restart; builds keep their id."""
        item = await self._http.get_json(f"queue/item/{note.handle}/api/json")
        if item is not None:
            number = (item.get("executable") or {}).get("number")
            if number is not None:
                return Found(run_id=str(number))
            return self._waiting(note, item)
        found = await self.search(request, note.sent_at)
        return found if found is None or found.run_id else self._waiting(note, {})

    async def read(self, request: RunRequest, note: RunNote) -> PipelineRun | None:
        """One build. It is final when it is not building and has a result: a result alone may come early."""
        path = f"{self._job(request)}/{note.run_id}"
        view = await self._told_view(path)
        build, now = await self._build(path, view)
        if build is None:
            return None
        stages, waits = _stages_in(view)
        state = self._state(request, build)
        asks, elsewhere = await self._question(path) if waits and not state.is_final else (None, "")
        started = datetime.fromtimestamp(build.get("timestamp", 0) / 1000, UTC)
        return PipelineRun(
            provider=self.name,
            id=note.run_id,
            state=state,
            url=str(build.get("url", "")),
            stages=_ended(stages) if state.is_final else await self._with_coming(request, stages),
            percent=100 if state is RunState.SUCCEEDED else _percent(build, stages, now - started),
            message=elsewhere or _message(build, asks),
            look_again=look_again(started, now),
            asks=asks,
        )

    @asynccontextmanager
    async def log(
        self, request: RunRequest, note: RunNote, stage: str, tail: int | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The console's text. Its end is read by an offset that the first answer's header tells."""
        path = f"{self._job(request)}/{note.run_id}/logText/progressiveText"
        start = 0
        if tail is not None:
            async with self._http.stream(path, {"start": 0}) as head:
                start = max(0, int(head.headers.get("X-Text-Size", "0")) - tail) if head is not None else 0
        async with self._http.stream(path, {"start": start}) as response:
            yield response.aiter_bytes() if response is not None else _nothing()

    def of_stage(self, lines: Iterable[str], stage: str) -> Iterable[str]:
        """What stands between the marks that Pipeline itself prints."""
        return cut_stage(
            lines, lambda line: line == f"[Pipeline] {{ ({stage})", lambda line: line == "[Pipeline] // stage"
        )

    async def failed_tests(self, request: RunRequest, note: RunNote) -> tuple[str, ...]:
        """From the JUnit plugin; a build that published no report answers 404."""
        tree = "suites[cases[className,name,status]]"
        report = await self._http.get_json(f"{self._job(request)}/{note.run_id}/testReport/api/json", {"tree": tree})
        cases = [case for suite in (report or {}).get("suites", ()) for case in suite.get("cases", ())]
        failed = [case for case in cases if case.get("status") in ("FAILED", "REGRESSION")]
        return tuple(f"{case.get('className', '')}.{case.get('name', '')}".strip(".") for case in failed[:50])

    async def results(self, request: RunRequest, note: RunNote) -> RunResults | None:
        """From the JUnit and the Coverage plugin, whose numbers are text (`82.14%`); else the old JaCoCo plugin."""
        path = f"{self._job(request)}/{note.run_id}"
        tests = await self._http.get_json(f"{path}/testReport/api/json", {"tree": "failCount,passCount,skipCount"})
        cover = await self._http.get_json(f"{path}/coverage/api/json", {"tree": "projectStatistics[line]"})
        covered = _percentage(((cover or {}).get("projectStatistics") or {}).get("line"))
        if covered is None:
            old = await self._http.get_json(f"{path}/jacoco/api/json", {"tree": "lineCoverage[percentage]"})
            covered = _percentage(((old or {}).get("lineCoverage") or {}).get("percentage"))
        if tests is None:
            return RunResults(coverage=covered) if covered is not None else None
        failed, skipped = int(tests.get("failCount", 0)), int(tests.get("skipCount", 0))
        return RunResults(int(tests.get("passCount", 0)) + failed + skipped, failed, skipped, covered)

    async def cancel(self, request: RunRequest, note: RunNote, force: int = 0) -> None:
        """Take it out of the queue, or stop it; a Pipeline that does not end takes term, then kill."""
        headers = await self._crumb()
        if not note.run_id:
            await self._http.tell("queue/cancelItem", params={"id": note.handle}, headers=headers)
            return
        word = ("stop", "term", "kill")[min(force, 2)]
        await self._http.tell(f"{self._job(request)}/{note.run_id}/{word}", headers=headers)

    async def decide(self, request: RunRequest, note: RunNote, question: str, *, go_on: bool, by: str) -> bool:
        """Answer an input step; False if somebody else was first. Jenkins records its API user, we who it was."""
        word = "proceedEmpty" if go_on else "abort"
        path = f"{self._job(request)}/{note.run_id}/input/{quote(question, safe='')}/{word}"
        return (await self._http.tell(path, headers=await self._crumb())).status_code < 400

    # --- inside

    def _options(self, request: RunRequest) -> JenkinsOptions:
        where = f"pipeline.options of {request.service.name}"
        return read_options(JenkinsOptions, dict(request.target.pipeline.options), where)

    def _job(self, request: RunRequest) -> str:
        """`team/app` -> `job/team/job/app`. A branch's `%2F` is part of its name and is encoded once more."""
        return "/".join(f"job/{quote(part, safe='')}" for part in self.definition(request).split("/"))

    async def _declared(self, request: RunRequest) -> tuple[frozenset[str], bool]:
        tree = "buildable,property[parameterDefinitions[name]],actions[parameterDefinitions[name]]"
        job = await self._http.get_json(f"{self._job(request)}/api/json", {"tree": tree})
        if job is None:
            raise ProviderRejected(
                f"Jenkins has no job {self.definition(request)}, or Slipway's account may not see it.",
                hint="Name the job in `pipeline.name` of the catalog.",
            )
        parts = [part for key in ("property", "actions") for part in job.get(key, ()) if part]
        names = {one["name"] for part in parts for one in part.get("parameterDefinitions", ())}
        return frozenset(names), bool(job.get("buildable", True))

    async def _crumb(self) -> Mapping[str, str]:
        """Only a password needs one; it belongs to the session whose cookie the client now holds."""
        if not self._password:
            return {}
        crumb = await self._http.get_json("crumbIssuer/api/json")
        return {crumb["crumbRequestField"]: crumb["crumb"]} if crumb else {}

    async def _builds(self, request: RunRequest, since: datetime | None) -> AsyncIterator[Mapping[str, Any]]:
        """Builds back to that instant, or the newest hundred. New ones in the meantime only show some twice."""
        oldest = (since - SKEW).timestamp() * 1000 if since is not None else None
        for page in range(PAGES):
            tree = f"{RECENT}{{{page * PAGE},{(page + 1) * PAGE}}}"
            job = await self._http.get_json(f"{self._job(request)}/api/json", {"tree": tree}) or {}
            builds = job.get("allBuilds", ())
            for build in builds:
                yield build
            if oldest is None or len(builds) < PAGE or builds[-1].get("timestamp", 0) < oldest:
                return
        raise too_many(self.said, PAGE * PAGES)

    def _waiting(self, note: RunNote, item: Mapping[str, Any]) -> PipelineRun:
        state = RunState.CANCELLED if item.get("cancelled") else RunState.QUEUED
        # "Expires in 4.2 sec" would be another text at every look.
        said = str(item.get("why") or "").partition(" Expires in ")[0]
        why = f"Jenkins: {said}" if said and state is RunState.QUEUED else ""
        return PipelineRun(self.name, note.handle, state, message=why, look_again=FASTEST)

    def _state(self, request: RunRequest, build: Mapping[str, Any]) -> RunState:
        result = build.get("result")
        if build.get("building") or build.get("inProgress") or result is None:
            return RunState.RUNNING
        if result == "UNSTABLE" and self._options(request).unstable == "pass":
            return RunState.SUCCEEDED
        return RESULTS.get(result, RunState.FAILED)

    async def _build(self, path: str, view: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, datetime]:
        """The build, and the time by the controller's clock. While its stages say that it runs, what is known stays."""
        if path in self._running and view.get("status") in UNDER_WAY:
            build, ahead = self._running[path]
            return build, self._clock() + ahead
        response = await self._http.get(f"{path}/api/json", {"tree": BUILD})
        if response is None:
            return None, self._clock()
        build, now = self._http.read_json(response), _server_time(response) or self._clock()
        self._running.pop(path, None)
        if build.get("building") and build.get("result") is None:
            self._running[path] = build, now - self._clock()
            while len(self._running) > REMEMBERED:
                self._running.popitem(last=False)
        return build, now

    async def _told_view(self, path: str) -> Mapping[str, Any]:
        """The view of its stages; nothing if neither plugin is there, or answers."""
        try:
            return await self._view(path)
        except (ProviderUnavailable, ProviderRejected):
            return {}

    async def _view(self, path: str) -> Mapping[str, Any]:
        """By the plugin that answered last, so that the others cost nothing; a build that is no Pipeline has none."""
        job, _, number = path.rpartition("/")
        if (until := self._plain.get(job)) is not None and self._clock() < until:
            return {}
        for way in (self._way, *(way for way in WAYS if way != self._way)):
            answer = await self._http.get_json(f"{path}/{way}")
            if answer is not None:
                self._way = way
                return answer if way == WAYS[0] else _graph(answer.get("data") or {})
        if number.isdigit():  # A job without a good build has no stages of one, and that says nothing.
            self._plain[job] = self._clock() + STAGELESS
        return {}

    async def _question(self, path: str) -> tuple[RunQuestion | None, str]:
        """The first input step that waits; or, if only Jenkins' own page can answer it, a sentence that says so."""
        if self._way == WAYS[0]:
            waiting = await self._http.get_json(f"{path}/wfapi/pendingInputActions") or []
        else:
            answer = await self._http.get_json(f"{path}/{self._way.removesuffix('tree')}allSteps") or {}
            steps = (answer.get("data") or {}).get("steps", ())
            waiting = [{**step, "inputs": step.get("parameters")} for one in steps if (step := one.get("inputStep"))]
        if not waiting:
            return None, ""
        first = waiting[0]
        text = " ".join(str(first.get("message", "")).split())[:200] or "go on"
        if first.get("inputs"):
            return None, f"The Jenkins build asks for values ({text}); answer it in Jenkins."
        return RunQuestion(str(first["id"]), text), ""

    async def _with_coming(self, request: RunRequest, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Stages that the job's last good build had and this one has not reached yet: a Jenkinsfile does not say."""
        job = self._job(request)
        if job not in self._known_stages:
            last, _ = _stages_in(await self._told_view(f"{job}/lastSuccessfulBuild"))
            self._known_stages[job] = tuple(stage.name for stage in last)
        seen = {stage.name for stage in stages}
        return (*stages, *(Stage(name, StageState.PENDING) for name in self._known_stages[job] if name not in seen))


def _percentage(said: object) -> float | None:
    try:
        return float(str(said).rstrip("%")) if said is not None else None
    except ValueError:
        return None  # `n/a`, of a build without lines.


def _queue_item(location: str) -> str:
    before, _, after = location.rstrip("/").rpartition("/")
    return after if before.endswith("queue/item") and after.isdigit() else ""


def _parameter(thing: Mapping[str, Any], name: str) -> str | None:
    """A parameter's value of a build or a queue item; `actions` has empty objects in it."""
    for action in thing.get("actions", ()):
        for parameter in (action or {}).get("parameters", ()):
            if parameter.get("name") == name:
                return str(parameter.get("value", ""))
    return None


def _stages_in(view: Mapping[str, Any]) -> tuple[tuple[Stage, ...], bool]:
    """Stages, and whether one waits for a person."""
    raw = view.get("stages", ())
    waits = any(str(one.get("status", "")).upper().startswith("PAUSED") for one in raw)
    return tuple(_stage(one) for one in raw), waits


def _graph(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Graph View's answer as Stage View's."""
    status = "IN_PROGRESS" if data.get("complete") is False else ""
    return {"status": status, "stages": _flat(data.get("stages", ()))}


def _stage(raw: Mapping[str, Any]) -> Stage:
    state = STAGES.get(str(raw.get("status", "")).upper(), StageState.RUNNING)
    millis = raw.get("durationMillis")
    seconds = millis / 1000 if isinstance(millis, int | float) and state is not StageState.PENDING else None
    return Stage(str(raw.get("name", "")), state, seconds)


def _flat(tree: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Graph View's tree as Stage View's list."""
    flat: list[Mapping[str, Any]] = []
    for one in tree:
        flat.append({**one, "status": one.get("state", ""), "durationMillis": one.get("totalDurationMillis")})
        flat += _flat(child for child in one.get("children", ()) if child.get("type") == "STAGE")
    return flat


def _ended(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Of a run that is over, nothing runs."""
    ended = {StageState.RUNNING: StageState.CANCELLED, StageState.PENDING: StageState.SKIPPED}
    return tuple(Stage(stage.name, ended.get(stage.state, stage.state), stage.seconds) for stage in stages)


def _percent(build: Mapping[str, Any], stages: Sequence[Stage], elapsed: timedelta) -> int:
    """As Jenkins shows it: elapsed by estimate, at most 99; by stages where it has no estimate."""
    estimate = build.get("estimatedDuration", -1)
    if not build.get("building") or not isinstance(estimate, int) or estimate <= 0:
        return percent_of(stages)
    return max(0, min(99, round(elapsed.total_seconds() * 100_000 / estimate)))


def _message(build: Mapping[str, Any], asks: RunQuestion | None) -> str:
    if asks is not None:
        return f"The Jenkins build waits for a person: {asks.text}"
    if build.get("result") == "UNSTABLE":
        return "Jenkins calls the build unstable: tests failed."
    return ""


def _server_time(response: httpx.Response) -> datetime | None:
    """The controller's clock, by which its timestamps are measured."""
    try:
        return parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        return None


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
