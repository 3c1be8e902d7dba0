"""Gates on the quality of a release, each set per environment in the catalog: `gates: {tests: {report: ...}}`.

A gate that cannot tell is waited for, and in the end stops the release: unknown never counts as passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import Field

from bot import logs
from bot.catalog.model import Service, Target
from bot.errors import ProviderRejected, ProviderUnavailable
from bot.gates.base import GateResult
from bot.gates.reports import ReportUnreadable, read_coverage, read_junit
from bot.options import Options, read_options
from bot.pipelines.http import Http

OptionsT = TypeVar("OptionsT", bound=Options)


class TestsOptions(Options):
    """report: path below SLIPWAY_REPORTS_URL, filled. at_least: tests that must have run; none is no proof."""

    __test__ = False
    report: str
    at_least: int = Field(default=1, ge=0)


class CoverageOptions(Options):
    """minimum: covered lines in percent. baseline: another report; drop: points that may be lost against it."""

    report: str
    minimum: float = Field(default=0, ge=0, le=100, strict=False)
    baseline: str = ""
    drop: float = Field(default=0, ge=0, le=100, strict=False)


class SonarOptions(Options):
    """project: its key in SonarQube. branch: whose analysis of the release's commit is asked for."""

    project: str = "{service}"
    branch: str = ""


class JobOptions(Options):
    """suite: what the test platform runs. parameters: handed on."""

    suite: str = "{service}"
    parameters: dict[str, str] = Field(default_factory=dict)


class _Gate:
    """What they share: settings from the catalog, and a system to ask."""

    name = ""

    def __init__(self, http: Http) -> None:
        """http: the system that knows."""
        self._http = http

    async def check(self, service: Service, target: Target, commit: str, digest: str) -> GateResult:
        """Pass if the catalog does not ask for this gate here; else look and decide.

        Raises:
            ProviderUnavailable: not reached, or not known yet; ask again.
            ProviderRejected: it is set up wrongly; the field is named.
        """
        settings = target.gates.get(self.name)
        if settings is None:
            return GateResult(self.name, True, "not asked for")
        words = {
            "service": service.name,
            "environment": target.environment,
            "team": service.team,
            "commit": commit,
            "digest": digest,
        }
        return await self._look(settings, words)

    async def _look(self, settings: Mapping[str, object], words: Mapping[str, str]) -> GateResult:
        raise NotImplementedError

    def _options(self, model: type[OptionsT], settings: Mapping[str, object], words: Mapping[str, str]) -> OptionsT:
        where = f"gates.{self.name} of {words['service']} in {words['environment']}"
        return read_options(model, dict(settings), where)

    def _result(self, passed: bool, message: str, lines: tuple[str, ...] = ()) -> GateResult:
        shown = tuple(logs.redact(logs.clean(line))[: logs.LINE_LIMIT] for line in lines[:20])
        return GateResult(self.name, passed, message, shown)

    async def _report(self, pattern: str, words: Mapping[str, str]) -> bytes:
        response = await self._http.get(_fill(pattern, words).lstrip("/"))
        if response is None:
            raise ProviderUnavailable(f"The report of gate {self.name} for {words['commit'][:12]} is not there yet.")
        return response.content


class TestsGate(_Gate):
    """Unit tests, from a JUnit report."""

    __test__ = False
    name = "tests"

    async def _look(self, settings: Mapping[str, object], words: Mapping[str, str]) -> GateResult:
        options = self._options(TestsOptions, settings, words)
        try:
            tests = read_junit(await self._report(options.report, words))
        except ReportUnreadable as error:
            return self._result(False, f"The test report cannot be read: {error}.")
        ran = tests.total - tests.skipped
        if tests.failed:
            return self._result(False, f"{len(tests.failed)} of {tests.total} tests failed.", tests.failed)
        if ran < options.at_least:
            return self._result(False, f"Only {ran} tests ran; at least {options.at_least} must.")
        return self._result(True, f"{ran} tests passed.")


class CoverageGate(_Gate):
    """Line coverage, from JaCoCo, Cobertura or LCOV."""

    name = "coverage"

    async def _look(self, settings: Mapping[str, object], words: Mapping[str, str]) -> GateResult:
        options = self._options(CoverageOptions, settings, words)
        try:
            now = read_coverage(await self._report(options.report, words))
            before = read_coverage(await self._report(options.baseline, words)) if options.baseline else None
        except ReportUnreadable as error:
            return self._result(False, f"The coverage report cannot be read: {error}.")
        if now < options.minimum:
            return self._result(False, f"Coverage is {now:.1f} %; at least {options.minimum:g} % is wanted.")
        if before is not None and before - now > options.drop:
            text = f"Coverage fell from {before:.1f} % to {now:.1f} %; it may fall by {options.drop:g} points."
            return self._result(False, text)
        return self._result(True, f"Coverage is {now:.1f} %.")


class SonarGate(_Gate):
    """SonarQube's quality gate, computed for the analysis of exactly this commit.

    Source: api/project_analyses/search and api/qualitygates/project_status; by project alone the live gate of whichever
    commit came last would answer.
    """

    name = "sonarqube"

    async def _look(self, settings: Mapping[str, object], words: Mapping[str, str]) -> GateResult:
        options = self._options(SonarOptions, settings, words)
        project = _fill(options.project, words)
        analysis = await self._analysis(project, options.branch, words["commit"])
        answer = await self._http.get_json("api/qualitygates/project_status", {"analysisId": analysis}) or {}
        status = answer.get("projectStatus", {})
        bad = [one for one in status.get("conditions", ()) if one.get("status") == "ERROR"]
        lines = tuple(
            f"{one.get('metricKey')} is {one.get('actualValue')}, wanted {one.get('errorThreshold')}" for one in bad
        )
        if status.get("status") == "OK":
            return self._result(True, f"SonarQube passed {project}.")
        if status.get("status") == "ERROR":
            return self._result(False, f"SonarQube's quality gate of {project} failed.", lines)
        return self._result(False, f"SonarQube has no quality gate for {project}, so nothing is proven.")

    async def _analysis(self, project: str, branch: str, commit: str) -> str:
        params = {"project": project, "ps": 100} | ({"branch": branch} if branch else {})
        answer = await self._http.get_json("api/project_analyses/search", params)
        if answer is None:
            raise ProviderRejected(f"SonarQube has no project {project}.", hint="Correct `gates.sonarqube.project`.")
        found = next((one["key"] for one in answer.get("analyses", ()) if one.get("revision") == commit), None)
        if found is None:
            raise ProviderUnavailable(f"SonarQube has no analysis of {project} at {commit[:12]} yet.")
        return str(found)


class JobGate(_Gate):
    """A test platform behind HTTP: started once per release and environment, followed to its end.

    The same key starts nothing twice there, so asking again is looking; see docs/pipelines.md for the contract.
    """

    name = "test_job"

    async def _look(self, settings: Mapping[str, object], words: Mapping[str, str]) -> GateResult:
        options = self._options(JobOptions, settings, words)
        suite = _fill(options.suite, words)
        key = ":".join((words["service"], words["environment"], suite, words["digest"]))
        target = {"service": words["service"], "environment": words["environment"], "digest": words["digest"]}
        parameters = {name: _fill(value, words) for name, value in options.parameters.items()}
        body = {"suite": suite, "target": target, "parameters": parameters}
        response = await self._http.tell("v1/jobs", json=body, headers={"Idempotency-Key": key})
        if response.status_code >= 400:
            said = f"The test platform refused {suite} ({response.status_code})."
            raise ProviderRejected(said, hint="Correct `gates.test_job` in the catalog.")
        job = self._http.read_json(response)
        if job.get("state") in ("queued", "running"):
            job = await self._http.get_json(f"v1/jobs/{quote(str(job['id']), safe='')}") or job
        return self._judged(suite, job)

    def _judged(self, suite: str, job: Mapping[str, Any]) -> GateResult:
        state, result = job.get("state"), job.get("result") or {}
        if state == "passed":
            return self._result(True, f"{suite}: {result.get('passed', 'all')} tests passed.")
        if state in ("queued", "running"):
            progress = job.get("progress") or {}
            done = f"{progress.get('done', 0)} of {progress.get('total', '?')} done"
            return GateResult(self.name, False, f"The test job {suite} is {state} ({done}).", waiting=True)
        failures = tuple(f"{one.get('name')}: {one.get('message', '')}" for one in result.get("failures", ()))
        if state == "failed":
            return self._result(False, f"{suite}: {result.get('failed', 'some')} tests failed.", failures)
        return self._result(False, f"{suite} ended without a verdict ({str(state)[:40]}), so nothing is proven.")


def _fill(pattern: str, words: Mapping[str, str]) -> str:
    for name, value in words.items():
        pattern = pattern.replace("{" + name + "}", value)
    return pattern
